"""Deliberate bugs of the risk engine and its loop: some seed must notice each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from psm.domain.money import ZERO
from psm.risk.engine import Slot
from psm.risk.engine.ids import AnsweredRequests
from psm.risk.engine.path import Path
from psm.risk.exposure import ExposureLine
from psm.risk.messages import RiskOutput
from psm.risk.rulebook import Rulebook
from psm.workers.risk import store

Patch = tuple[Any, str, Any]


def approved_again_after_a_crash() -> list[Patch]:
    """What was decided behind the checkpoint is not remembered, and is decided again."""
    real = Slot.take_recorded

    def take_recorded(self: Slot, record: Any) -> None:
        before = dict(self._positions)
        real(self, record)
        self._positions.update(before)
        self._remembered = AnsweredRequests()

    return [(Slot, "take_recorded", take_recorded)]


def _forgotten(kind: str) -> list[Patch]:
    real = Path.apply

    def apply(self: Path, changes: Mapping[str, Any]) -> None:
        real(self, {n: v for n, v in changes.items() if not n.startswith(f"{kind}/")})

    return [(Path, "apply", apply)]


def reservations_lost() -> list[Patch]:
    """A new owner does not know what was approved and not seen yet."""
    return _forgotten("reservation")


def latch_lost_on_restart() -> list[Patch]:
    """A new owner does not know that the day's loss was reached."""
    return _forgotten("latch")


def stale_state_accepted() -> list[Patch]:
    """A lost account is decided on as it was last seen."""

    def lose(self: Slot, account_id: str) -> list[RiskOutput]:
        return []

    return [(Slot, "lose", lose)]


def limit_before_its_sequence() -> list[Patch]:
    """A proposal holds before anybody approved it."""
    real = Rulebook.limits_of

    def limits_of(self: Rulebook, *place: Any) -> Any:
        proposed = self.documents.proposed
        return tuple(
            msgspec.structs.replace(one, limits=proposed[one.scope].limits)
            if one.scope in proposed
            else one
            for one in real(self, *place)
        )

    return [(Rulebook, "limits_of", limits_of)]


def closing_refused() -> list[Patch]:
    """What only closes is judged as if it opened something."""
    return [(ExposureLine, "room", lambda _self, _side: ZERO)]


def records_without_ids() -> list[Patch]:
    """The broker cannot know a record again that a link carries twice."""
    return [(store, "MESSAGE_ID", "Psm-Nothing")]


def told_orders_not_read() -> list[Patch]:
    """What ended while nobody followed its account is reserved for ever."""
    return [(Slot, "take_told", lambda _self, _account_id, _updates: [])]


def ends_not_read_again() -> list[Patch]:
    """A new owner begins behind what the last one had heard of the venue, and not behind what it
    had stored."""
    real = Slot.take_end
    heard: dict[Any, None] = {}

    def take_end(self: Slot, end: Any) -> list[RiskOutput]:
        known = (end.order_id, end.sequence, end.time)
        if known in heard:
            return []
        heard[known] = None
        return real(self, end)

    return [(Slot, "take_end", take_end)]


RISK_BUGS: Mapping[str, Callable[[], list[Patch]]] = {
    bug.__name__: bug
    for bug in (
        approved_again_after_a_crash,
        reservations_lost,
        latch_lost_on_restart,
        stale_state_accepted,
        limit_before_its_sequence,
        closing_refused,
        records_without_ids,
        told_orders_not_read,
        ends_not_read_again,
    )
}
