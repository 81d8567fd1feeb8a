"""When jobs were last done, such as `psm audit`: whoever watches asks PostgreSQL for it."""

from __future__ import annotations

from typing import Literal

from psm.projections.sql import Connection, load

Job = Literal["audit", "replica_audit"]

_QUERIES = load(__package__, "jobs")


async def record(connection: Connection, job: Job, findings: int) -> None:
    """Note that a job came to its end now, and how much it found that must not be."""
    await connection.execute(_QUERIES["record"], job, findings)
