"""The metrics of PostgreSQL, and of what is only written there; see `metrics` for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from opentelemetry.metrics import Meter

WAITING = ("blocked", "gap")
"""Why an account's stream may wait."""


class DatabaseMetrics:
    """What the process says that counts in PostgreSQL; one of a fleet does."""

    def __init__(self, meter: Meter) -> None:
        self._size = meter.create_gauge(
            "psm.database.size", unit="By", description="Bytes of the database, indexes included."
        )
        self._waiting = meter.create_gauge(
            "psm.accounts.waiting",
            description="Accounts whose stream waits, as the views have it: blocked, or in a gap.",
        )
        self._succeeded = meter.create_gauge(
            "psm.job.last_success_timestamp",
            unit="s",
            description="When a job last found nothing, in Unix time; 0 while it never did.",
        )
        self._findings = meter.create_gauge(
            "psm.job.findings", description="What the last run of a job found that must not be."
        )

    def size(self, size: int) -> None:
        """Set the size of the database, bytes."""
        self._size.set(size)

    def accounts(self, statuses: Mapping[str, int]) -> None:
        """Set how many accounts wait, from how many there are by status."""
        for status in WAITING:
            self._waiting.set(statuses.get(status, 0), {"status": status})

    def job(self, task: str, succeeded_at: datetime | None, findings: int) -> None:
        """Set when a job last found nothing, and what its last run found.

        Its label is `task`: `job` is the scraper's own.
        """
        self._succeeded.set(succeeded_at.timestamp() if succeeded_at else 0.0, {"task": task})
        self._findings.set(findings, {"task": task})
