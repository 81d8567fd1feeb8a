"""What of the health of the service is said to whom."""

from __future__ import annotations

from datetime import UTC, datetime

from psm.projections.quarantine import StaleKey
from psm.workers.access.policy import ANYBODY, Principal
from psm.workers.api.health import HealthReport, ViewHealth, told_to


def stale(account_id: str) -> StaleKey:
    return StaleKey(
        partition=0,
        view="positions_view",
        key=[account_id, "contract", "BTC-PERP", "net"],
        stream_id=account_id,
        first_sequence_number=2,
        sequence_number=2,
        log_sequence=2,
        column_name="size",
        sqlstate="22003",
        found_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_a_stale_key_is_told_to_whom_the_account_may_be_known() -> None:
    """All else of the report holds for everybody."""
    keys = [stale("desk-1"), stale("other-1")]
    report = HealthReport(
        status="ready",
        doors={"reads": "ready"},
        postgres="ok",
        nats="ok",
        log=None,
        views={"current_state": ViewHealth(lag_events=3, lag_s=1.5, stale=keys)},
        late=["current_state/0"],
        replicas={},
    )
    desk = Principal(
        id="svc/desk", kind="service", roles=("viewer",), patterns=("account:desk-*",), how="token"
    )
    seen = ViewHealth(lag_events=3, lag_s=1.5, stale=keys[:1])
    assert told_to(ANYBODY, report) == report
    told = told_to(desk, report)
    assert told.views == {"current_state": seen}
    assert (told.late, told.doors) == (report.late, report.doors)
