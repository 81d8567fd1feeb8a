"""The three questions that are asked of every event of an account.

Does it do what it should, is it refused when it should be, is it quiet when it is repeated and loud
when its number returns with another event?
"""

from __future__ import annotations

from typing import Any

import msgspec
from tests.support.domain import Log, given
from tests.support.events import Sent, changed, deposit, event, event_id, opened

FUNDED = (opened(1), deposit(2))
_ORDER = {
    "order_id": "o",
    "symbol": "BTC-PERP",
    "side": "buy",
    "type": "limit",
    "quantity": "2",
    "price": "90",
}
ORDERED = (*FUNDED, event("OrderSubmitted", _ORDER, 3))
"""An account with an open order `o`."""


class Question(msgspec.Struct, frozen=True):
    """An event, and what was there before it.

    Attributes:
        event_type: of the event.
        payload: that is right.
        wrong: the one field that makes it wrong, and how.
        before: messages; an account with 1000 USDT unless told.
    """

    event_type: str
    payload: dict[str, Any]
    wrong: dict[str, Any]
    before: tuple[Sent, ...] = FUNDED

    @property
    def number(self) -> int:
        """The event's number."""
        return 1 + sum(sent.subject.startswith("trades.") for sent in self.before)

    def booked(self) -> Log:
        """Return the log after the event, which must be applied."""
        log = given(*self.before)
        seen = log.when(self._sent())
        assert (seen.outcome, seen.reason) == ("applied", None)
        assert log.state()["sequence_number"] == self.number
        return log

    def is_refused(self) -> None:
        """Check that the wrong one keeps its place, changes nothing, and names its field."""
        (field,) = self.wrong
        log = given(*self.before)
        before = _figures(log) if self.before else {}
        seen = log.when(event(self.event_type, {**self.payload, **self.wrong}, self.number))
        assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
        assert seen.payload("EventRefused")["field"] == f"payload.{field}"
        assert log.account().delivery.version == self.number
        assert {name: log.state()[name] for name in before} == before

    def is_quiet_and_loud(self) -> None:
        """Check that the same bytes change nothing, and another event with its number neither."""
        log = self.booked()
        before = log.hashes()
        seen = log.when(self._sent())
        assert (seen.outcome, seen.updates) == ("duplicate", [])
        seen = log.when(changed(self._sent(), event_id=event_id("another one")))
        assert (seen.outcome, seen.reason) == ("conflict", "sequence_conflict")
        assert log.hashes() == before

    def _sent(self) -> Sent:
        return event(self.event_type, self.payload, self.number)


def _figures(log: Log) -> dict[str, Any]:
    """Return what the books say of the account, but for its place in the log."""
    state = log.state()
    return {n: v for n, v in state.items() if not n.endswith(("_hash", "_sequence", "_number"))}
