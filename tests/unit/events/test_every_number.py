"""What holds for every event of an account, whatever its type: its number is taken once."""

from __future__ import annotations

import msgspec
from tests.support import make_golden_fields
from tests.support.domain import Log
from tests.support.events import changed, event_id

from psm.contracts import registry


def test_a_number_that_returns_is_quiet_or_loud() -> None:
    """The same bytes are a duplicate; with another event_id a conflict. Both change nothing.

    Asked after every event of the golden log that has all of them.
    """
    log, asked = Log(), dict[str, None]()
    for sent in make_golden_fields.messages():
        seen = log.when(sent)
        if seen.result.sequence_number is None or not sent.subject.startswith("trades."):
            continue
        assert seen.outcome in ("applied", "refused")
        before = log.hashes()
        again = log.when(sent)
        assert (again.outcome, again.updates) == ("duplicate", [])
        other = log.when(changed(sent, event_id=event_id("other", len(log.messages))))
        assert (other.outcome, other.reason) == ("conflict", "sequence_conflict")
        assert log.hashes() == before
        asked[msgspec.json.decode(sent.data)["event_type"]] = None
    assert sorted(asked) == sorted(kind.__name__ for kind in registry.ACCOUNT_EVENTS)
