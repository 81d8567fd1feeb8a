"""What the archive knows that an audit passes on: missing causes, and its incidents."""

from __future__ import annotations

from psm.adapters import postgres
from psm.workers.archive.reads import ArchiveReads

_SHOWN = 10


async def dangling_notes(pool: postgres.Pool) -> list[str]:
    """Return notes on them; no findings, because sampling and late arrival are no damage."""
    found = await ArchiveReads(pool).dangling(_SHOWN + 1)
    notes = [
        f"archived event #{row['archive_sequence']} ({row['event_type']}) names the cause "
        f"{row['causation_id']}, which is not in the archive"
        for row in found[:_SHOWN]
    ]
    if len(found) > _SHOWN:
        notes.append("and more: `psm archive dangling` lists all")
    return notes


async def incident_notes(pool: postgres.Pool) -> list[str]:
    """Return a note on them; no finding, because they stay on record after all is mended."""
    found = await ArchiveReads(pool).incident_counts()
    if not found:
        return []
    listed = ", ".join(f"{row['incidents']} {row['kind']}" for row in found)
    return [f"incidents of the archive: {listed}; `psm archive incidents` lists them"]
