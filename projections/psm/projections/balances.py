"""`balances_view`: one row per account, everything of its last `StateUpdated`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psm.contracts.updates import StateUpdated, StreamBlocked, StreamResumed
from psm.projections.projection import ReadUpdate, Row, decode, decoder, row, write
from psm.projections.sql import Connection, load

_STATE = decoder(StateUpdated)
_BLOCKED = decoder(StreamBlocked)
_RESUMED = decoder(StreamResumed)
_GAP = "sequence_gap"
_BLOCK_FIELDS = ("reason", "expected_sequence", "detail", "from_sequence", "to_sequence")


class BalancesView:
    """Balances, totals, hashes and status of every account."""

    table = "balances_view"
    kinds = frozenset({"state.updated", "stream.blocked", "stream.resumed"})
    key: tuple[str, ...] = ("account_id",)

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
                known = states.get(new["account_id"])
                if known is not None:
                    known["status"] = new["status"]
                else:
                    statuses[new["account_id"]] = new
        return {"upsert": list(states.values()), "set_status": list(statuses.values())}

    async def apply(self, connection: Connection, rows: Mapping[str, list[Row]]) -> None:
        """Write both kinds of rows; no account is in both."""
        queries = load("balances")
        await write(connection, queries["upsert"], rows["upsert"])
        await write(connection, queries["set_status"], rows["set_status"])


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
