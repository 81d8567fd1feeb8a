"""Names and limits of the sequence rules, which producers and the fold share."""

from __future__ import annotations

from psm.contracts import limits

SEQUENCE_AHEAD_MAX = limits.PLACES_AHEAD
"""How far a number may be ahead of its stream's version."""
VOID_MAX = limits.VOIDED_NUMBERS
"""How many numbers one `SequenceVoided` may take."""
SEQUENCE_VOIDED = "SequenceVoided"
OPERATOR_EVENTS = frozenset({"EventDismissed", SEQUENCE_VOIDED, "StreamRetried"})
"""Types of events that repair a stream; they have no number of their own."""
ACCOUNT_REPORTED = "AccountReported"
"""Type of the one event among an account's own that has no number: it takes no place."""
NO_PLACE = f"{ACCOUNT_REPORTED} takes no place among the events: leave sequence_number out"
"""Detail of the refusal of a report that has a number."""
UNNUMBERED = frozenset((*sorted(OPERATOR_EVENTS), ACCOUNT_REPORTED))
"""Types of events of a stream that have no number."""
