"""Rows of the views against those that the log gives."""

from __future__ import annotations

from psm.contracts.errors import LogDamagedError
from psm.projections.current_state import CURRENT_STATE
from psm.projections.quarantine import StaleKey
from psm.workers.projector.rebuild import Rebuild
from psm.workers.proof.audit.findings import AuditReport, Finding, Findings


async def compare_views(rebuild: Rebuild, findings: Findings, report: AuditReport) -> None:
    """Fold into shadow tables and compare row by row, as `psm views rebuild --dry-run`."""
    try:
        found = await rebuild.run(dry_run=True)
    except LogDamagedError as error:
        findings.add(Finding(code="view_not_compared", stream=CURRENT_STATE.name, found=str(error)))
        return
    report.rows_differ = found.rows_differ if found.compared else None
    for difference in found.differences:
        findings.add(
            Finding(
                code="view_differs",
                stream=difference.table,
                stream_id="/".join(difference.key.values()),
                expected=f"{difference.column or 'row'} {difference.rebuilt}",
                found=f"{difference.column or 'row'} {difference.live}",
            )
        )
    for entry in found.stale:
        findings.add(_stale(entry))
    for text in found.diverged:
        findings.add(Finding(code="view_diverged", stream=CURRENT_STATE.name, found=text))
    if not found.compared and not found.diverged:
        report.notes.append("the views are behind the retention of PSM: rebuild them")


def _stale(entry: StaleKey) -> Finding:
    return Finding(
        code="view_stale",
        stream=entry.view,
        sequence=entry.log_sequence,
        partition=entry.partition,
        stream_id="/".join(entry.key),
        sequence_number=entry.sequence_number,
        expected=f"a value that column {entry.column_name} can hold",
        found=f"SQLSTATE {entry.sqlstate}; stale from {entry.first_sequence_number} on",
    )
