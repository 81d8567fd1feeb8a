"""Transfers between accounts: both halves cancel in a group's figures, one alone does not."""

from __future__ import annotations

from collections.abc import Sequence

from psm.risk.engine.group import GroupState
from psm.risk.engine.path import Path, TransferHalf
from psm.risk.engine.watch import LossWatch
from psm.risk.messages import RiskOutput

PAIRED_WITHIN = 60 * 1_000_000
"""Time within which the other half should come, us; then somebody is told."""
KEPT_FOR = 3_600 * 1_000_000
"""Time for which a half is remembered, us: one that came late is no second alert."""


class TransferWatch:
    """Halves of transfers whose other half no account of the group has told yet.

    No update says to whom something went, so one to an account outside is told of, too; but not
    where a group has one account alone, whose transfers all are.
    """

    def __init__(self, path: Path, watch: LossWatch) -> None:
        self._path, self._watch = path, watch

    def take(
        self, state: GroupState, account_id: str, found: Sequence[tuple[str, str]], clock: int
    ) -> None:
        """Take halves that an input of an account told."""
        found = found if len(state.members) > 1 else ()
        for transfer_id, direction in found:
            key, other = f"{account_id}/{transfer_id}", _OTHER.get(direction)
            if other is None:  # it came back
                self._path.drop("transfer", key)
                continue
            met = self._other_half(state, transfer_id, other)
            if met is None:
                self._path.put("transfer", key, TransferHalf(direction=direction, since=clock))
            else:
                self._path.drop("transfer", met)

    def _other_half(self, state: GroupState, transfer_id: str, direction: str) -> str | None:
        for account_id in state.members if not self._path.is_empty("transfer") else ():
            key = f"{account_id}/{transfer_id}"
            half = self._path.get(TransferHalf, "transfer", key)
            if half is not None and half.direction == direction:
                return key
        return None

    def overdue(self, clock: int) -> list[RiskOutput]:
        """Tell of halves that are alone for too long, each once."""
        outputs: list[RiskOutput] = []
        if self._path.is_empty("transfer"):
            return outputs
        for key, half in self._path.items(TransferHalf, "transfer"):
            age = int(clock) - int(half.since)
            if age >= KEPT_FOR:
                self._path.drop("transfer", key)
            elif age >= PAIRED_WITHIN and not half.told:
                told = TransferHalf(direction=half.direction, since=half.since, told=True)
                self._path.put("transfer", key, told)
                account_id, _, transfer_id = key.partition("/")
                message = f"{transfer_id} went {half.direction} of {account_id} alone"
                more = {"account_id": account_id}
                found = self._watch.alert("warning", "transfer_unpaired", message, clock, more)
                outputs = [*outputs, *found]
        return outputs


_OTHER = {"in": "out", "out": "in"}
