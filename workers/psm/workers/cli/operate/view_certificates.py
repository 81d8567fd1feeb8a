"""`psm views certificates`: which rebuilds left one, and which did not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from psm.workers.cli.shared.connections import broker
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.ops.journal import StoredRecord, read_records
from psm.workers.ops.keys import Keyring, load_public
from psm.workers.process.config import Settings, load_settings
from psm.workers.projector.certificate import Certificate, certificates, without_certificate

_COLUMNS = (
    "sequence", "at", "actor", "projection", "rows_differ", "accepted_by", "swapped", "key_id",
    "signed", "missing",
)  # fmt: skip


def show_certificates(
    *,
    public_key: Annotated[
        tuple[Path, ...],
        Parameter(help="Public key to check with; repeat after a key was changed.", negative=""),
    ] = (),
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Show the certificates of rebuilt views; exit 1 if one is missing, or not signed by a key.

    Missing is that of a rebuild that began and never said how it ended, until the view is rebuilt
    again. The chain of the records is verified on the way.
    """
    ring = Keyring(load_public(path) for path in public_key)
    rows, unsigned = [], 0
    records = asyncio.run(_ops_records(load_settings()))
    for stored, certificate in certificates(records):
        signed = certificate.is_signed_by(ring) if public_key else None
        unsigned += signed is False
        told = msgspec.to_builtins(certificate)
        record = {"sequence": stored.sequence, "at": stored.record.at, "actor": stored.record.actor}
        rows.append({**record, **told, "signed": signed, "missing": False})
    missing = without_certificate(records)
    output.rows([*rows, *map(_missing, missing)], _COLUMNS)
    if not rows and not missing:
        output.note("no rebuild is recorded")
    for stored in missing:
        view = stored.record.what["projection"]
        output.note(
            f"the rebuild of {view} that began at {stored.record.at} left no certificate: it is at "
            f"work, or was killed before or after its swap; `psm views rebuild {view}` again makes "
            "one"
        )
    return int(unsigned > 0 or bool(missing))


def _missing(stored: StoredRecord) -> dict[str, Any]:
    """Return the row of a rebuild without a certificate: nobody knows what became of the view."""
    record = stored.record
    unknown = dict.fromkeys((*Certificate.__struct_fields__, "signed"))
    return {
        **unknown,
        "sequence": stored.sequence,
        "at": record.at,
        "actor": record.actor,
        "run_id": record.run_id,
        "projection": record.what["projection"],
        "projection_version": record.what["projection_version"],
        "missing": True,
    }


async def _ops_records(settings: Settings) -> list[StoredRecord]:
    async with broker(settings, "psm-views") as nc:
        return await read_records(nc)
