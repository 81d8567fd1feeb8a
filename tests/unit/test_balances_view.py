"""Rows of `balances_view` do not depend on where a batch ended."""

from __future__ import annotations

import json

from psm.contracts.updates_read import ReadUpdate
from psm.projections.current_state.balances import BalancesView
from psm.projections.rows import Row
from psm.workers.replay.lines import LineFolder


def updates_of(*events: dict[str, object]) -> list[ReadUpdate]:
    """Return what the events of one account publish."""
    folder, found = LineFolder(partitions=1), []
    for event in events:
        line = {"stream_id": "a", "schema_version": "1.0.0", **event}
        result = folder.take(json.dumps(line).encode())
        assert result is not None
        for update in result.updates:
            kind = ".".join(update.subject.split(".")[1:3])
            found.append(ReadUpdate(kind=kind, data=bytes(update.data)))
    return found


def applied(batches: list[list[ReadUpdate]]) -> Row:
    """Return the account's row after batches, by the rules of the statements."""
    stored: Row = {}
    for batch in batches:
        rows = BalancesView().reduce(batch)
        for row in rows["upsert"]:
            stored = dict(row)
        for row in rows["set_status"]:
            stored = {**stored, "status": row["status"]} if stored else dict(row)
    return stored


def test_an_account_that_never_had_a_state() -> None:
    """A gap, then an unknown type: in one batch or in two, the same row."""
    waiting = {"event_type": "CashDeposited", "sequence_number": 5, "payload": {"amount": "1"}}
    unknown = {"event_type": "NobodyKnows", "sequence_number": 1, "payload": {}}
    updates = updates_of(waiting, unknown)
    assert [update.kind for update in updates] == ["stream.blocked", "stream.blocked"]
    together, apart = applied([updates]), applied([[update] for update in updates])
    assert together == apart
    assert together["status"] == "blocked"
