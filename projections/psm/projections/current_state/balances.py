"""`balances_view`: one row per account, everything of its last `StateUpdated`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psm.contracts.updates import StateUpdated, StreamBlocked, StreamResumed, own_fields
from psm.contracts.updates_read import ReadUpdate, decode, decoder
from psm.projections.rows import PLACE, Row, row
from psm.projections.sql import load
from psm.projections.statements import columns_of, upsert

_STATE = decoder(StateUpdated)
_BLOCKED = decoder(StreamBlocked)
_RESUMED = decoder(StreamResumed)
_GAP = "sequence_gap"
_BLOCK_FIELDS = (*own_fields(StreamBlocked), *own_fields(StreamResumed))


class BalancesView:
    """Balances, totals, hashes and status of every account."""

    def __init__(self) -> None:
        self.table = "balances_view"
        self.kinds = frozenset({"state.updated", "stream.blocked", "stream.resumed"})
        self.key: tuple[str, ...] = ("account_id",)
        self.adds_up = False
        self.place = PLACE
        self.statements = {
            "upsert": upsert(self.table, columns_of(StateUpdated, self.key), self.key),
            "set_status": load(__package__, "balances")["set_status"],
        }

    def reduce(self, updates: Sequence[ReadUpdate]) -> Mapping[str, list[Row]]:
        """Return whole rows, and status changes of accounts that have no whole row here."""
        states: dict[str, Row] = {}
        statuses: dict[str, Row] = {}
        for update in updates:
            if update.kind == "state.updated":
                new = row(update, decode(_STATE, update))
                states[new["account_id"]] = new
                statuses.pop(new["account_id"], None)
            elif update.kind in self.kinds:
                new = _status_row(update)
                known = states.get(new["account_id"]) or statuses.get(new["account_id"])
                if known is not None:
                    # As over two batches, where the row that is there keeps all but its status.
                    known["status"] = new["status"]
                else:
                    statuses[new["account_id"]] = new
        return {"upsert": list(states.values()), "set_status": list(statuses.values())}


def _status_row(update: ReadUpdate) -> Row:
    if update.kind == "stream.blocked":
        blocked = decode(_BLOCKED, update)
        new = row(update, blocked)
        new["status"] = "gap" if blocked.payload.reason == _GAP else "blocked"
    else:
        new = row(update, decode(_RESUMED, update))
        new["status"] = "open"
    for name in _BLOCK_FIELDS:
        new.pop(name, None)
    return new
