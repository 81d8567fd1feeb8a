"""Names and limits of the sequence rules, which producers and the fold share."""

from __future__ import annotations

SEQUENCE_AHEAD_MAX = 100_000
"""How far a number may be ahead of its stream's version."""
VOID_MAX = 10_000
"""How many numbers one `SequenceVoided` may take."""
SEQUENCE_VOIDED = "SequenceVoided"
OPERATOR_EVENTS = frozenset({"EventDismissed", SEQUENCE_VOIDED, "StreamRetried"})
"""Types of events that have no number of their own."""
