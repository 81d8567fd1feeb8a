"""A signed-off loss of PSM: which partition may refold and publish again, from where, up to what.

It is a record in OPS, in its hash chain, and no setting: it holds for one partition, one stream
PSM, one cursor in it and one head in PostgreSQL. Once the projector has read beyond that head the
record fits nothing any more, so the next loss is refused as the first one was.
"""

from __future__ import annotations

import hashlib

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import get
from psm.adapters.jetstream.api import call
from psm.adapters.logs import get_logger
from psm.contracts.errors import ConfigError, LogDamagedError
from psm.contracts.subjects import PSM
from psm.projections.witness.heads import LogHead
from psm.workers.ops.journal import read_records

KIND = "recover partition"
_log = get_logger()


class SignOff(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody signed off.

    Attributes:
        partition: that may go on.
        psm_created: when the stream PSM was created, as the broker says: another stream, another
            decision.
        cursor_sequence: of its last cursor in PSM; 0 where there was none.
        cursor_hash: SHA-256 of that message, hex.
        committed: log sequence of that cursor.
        head_log_sequence: up to which PostgreSQL was written; 0 if it knew nothing.
        head_hash: of that message of the log.
        kind: tells it from the other records.
    """

    partition: int
    psm_created: str
    cursor_sequence: int
    cursor_hash: str | None
    committed: int
    head_log_sequence: int
    head_hash: str | None
    kind: str = KIND


async def created(nc: Client) -> str:
    """Return when the stream PSM was created, as the broker writes it."""
    return str((await call(nc, f"STREAM.INFO.{PSM}"))["created"])


async def signed_off(nc: Client, partition: int, newest: LogHead | None) -> str | None:
    """Return the run that signed the loss off which a start finds; None if nobody did.

    Args:
        nc: connection.
        partition: that starts.
        newest: what PostgreSQL knows now; None where it is away or knows nothing.
    """
    try:
        records = [stored.record for stored in await read_records(nc)]
    except (ConfigError, LogDamagedError) as error:
        _log.warning("recovery.not_looked_up", partition=partition, reason=str(error))
        return None
    wanted = {"kind": KIND, "partition": partition}
    for record in reversed(records):
        if record.kind != "ended" or record.outcome != "completed":
            continue
        if wanted.items() <= record.what.items():
            signed = msgspec.convert(record.what, SignOff)
            return record.run_id if await _fits(nc, signed, newest) else None
    return None


async def _fits(nc: Client, signed: SignOff, newest: LogHead | None) -> bool:
    if newest is not None and (newest.log_sequence, newest.event_hash) != (
        signed.head_log_sequence,
        signed.head_hash,
    ):
        return False
    if signed.psm_created != await created(nc):
        return False
    if not signed.cursor_sequence:
        return True
    cursor = await get(nc, PSM, signed.cursor_sequence)
    return cursor is not None and hashlib.sha256(cursor.data).hexdigest() == signed.cursor_hash
