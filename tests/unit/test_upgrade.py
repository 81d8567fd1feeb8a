"""`psm upgrade check`: what it says of schema and fleet."""

from __future__ import annotations

from psm.projections.schema.migrate import MigrationStatus
from psm.workers.cli.operate.upgrade import of_fleet, of_schema


def statuses(**states: str) -> list[MigrationStatus]:
    """Return migrations in these states."""
    return [MigrationStatus(name=f"{name}.sql", state=state) for name, state in states.items()]


def test_what_is_pending_is_named() -> None:
    """It only adds, so what runs goes on."""
    schema, rollback, _ = of_schema(statuses(a="applied", b="pending", c="pending"))
    assert schema.ok
    assert "will apply b.sql, c.sql" in schema.why
    assert "needs no change of the schema" in rollback.why


def test_what_a_newer_release_applied_does_no_harm() -> None:
    """That is what a rollback finds."""
    schema, rollback, _ = of_schema(statuses(a="applied", b="unknown"))
    assert schema.ok
    assert rollback.ok
    assert "a newer release applied b.sql" in rollback.why


def test_a_changed_file_cannot_be_run_on() -> None:
    """The schema is not the one that this release was written for."""
    schema, *_ = of_schema(statuses(a="changed", b="applied"))
    assert not schema.ok
    assert "a.sql" in schema.why


def test_several_releases_at_once_are_said() -> None:
    """An upgrade that is not through yet, or that stopped half way."""
    assert of_fleet([], "2").why == "no worker runs"
    assert of_fleet(["1", "1"], "2").why == "2 workers run 1; this is 2"
    assert "more than one release" in of_fleet(["1", "2"], "2").why
    assert "more than one release" in of_fleet(["0", "1"], "2").why
