"""`psm recover partition`: what PSM lost is folded from the log and published again.

The log itself must be whole: it is read by sequence and folded, and must agree with every chain
head and log head that PostgreSQL has and with what is left of PSM. Then the loss is signed off; the
worker that starts next accepts it, and publishes the same updates with the same ids and bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

import msgspec
from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import get, last_for, stream_info
from psm.contracts import subjects
from psm.contracts.errors import ConfigError, ConflictError, LogDamagedError
from psm.contracts.subjects import PSM, update_place
from psm.projections.archive import writer as archive
from psm.projections.witness import heads
from psm.workers.log.cursor import load_cursor
from psm.workers.ops.signoff import SignOff, created
from psm.workers.partition.jetstream import JetStreamLog
from psm.workers.process.settings import Settings
from psm.workers.proof.audit.run import Audit, AuditRange
from psm.workers.proof.audit.scan import Progress
from psm.workers.repair.holders import require_unheld

_ANEW = (
    "PSM cannot be gone on with: save it, remove the stream (`nats stream rm PSM`), run "
    "`psm recover updates`, then this again"
)
_EXPLAINED = {"updates_lost"}
"""What an audit may find: everything else needs another remedy first."""


class PartitionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One partition.

    Attributes:
        loss: `none`, `cursor_lost` or `rolled_back`.
        committed: log sequence of the commit cursor; 0 without one.
        known: log sequence up to which PostgreSQL knows updates; 0 for none.
        then: what happens.
        sign_off: what would be signed; None where nothing was lost.
    """

    partition: int
    loss: str
    committed: int
    known: int
    then: str
    sign_off: SignOff | None


async def plan(
    nc: Client,
    pool: postgres.Pool,
    settings: Settings,
    partitions: Sequence[int],
    progress: Progress | None = None,
) -> list[PartitionPlan]:
    """Look at every partition, and at the log as a whole if one of them lost something.

    Raises:
        ConfigError: a worker runs there, or PSM must be made anew first.
        LogDamagedError: more is wrong than lost updates.
        TransientError: a server is away.
    """
    plans = [await _look(nc, pool, partition) for partition in partitions]
    lost = tuple(one.partition for one in plans if one.sign_off is not None)
    if lost:
        await require_unheld(nc, lost)
        await _require_continuable(nc, pool, lost)
        await _require_whole(nc, pool, settings, lost, progress)
    return plans


async def require_unchanged(nc: Client, pool: postgres.Pool, signed: SignOff) -> None:
    """Make sure that nobody committed between looking and signing.

    Raises:
        ConflictError: somebody did.
        ConfigError: a worker runs there now.
    """
    await require_unheld(nc, [signed.partition])
    if (await _look(nc, pool, signed.partition)).sign_off != signed:
        raise ConflictError(
            f"partition {signed.partition}: the commit cursor, PSM or PostgreSQL changed "
            "meanwhile; a worker outside of the fleet may be running. Nothing was signed off"
        )


async def _look(nc: Client, pool: postgres.Pool, partition: int) -> PartitionPlan:
    # Heads first: what is committed after they were read is no loss.
    async with postgres.acquired(pool) as connection:
        head = await heads.newest_log_head(connection, partition)
    stored = await last_for(nc, PSM, subjects.cursor(partition))
    committed = load_cursor(stored.data).log_sequence if stored else 0
    known = head.log_sequence if head else 0
    loss = "none"
    if committed < known:
        loss = "rolled_back" if stored else "cursor_lost"
    elif stored is None and await JetStreamLog(nc, partition).ever_committed():
        loss = "cursor_lost"
    then = {
        "none": "nothing to do: what PostgreSQL knows is committed",
        "rolled_back": f"updates behind log sequence {committed} are published again",
        "cursor_lost": "all updates are published again, from the beginning of the log",
    }
    signed = SignOff(
        partition=partition,
        psm_created=await created(nc),
        cursor_sequence=stored.sequence if stored else 0,
        cursor_hash=hashlib.sha256(stored.data).hexdigest() if stored else None,
        committed=committed,
        head_log_sequence=known,
        head_hash=head.event_hash if head else None,
    )
    return PartitionPlan(
        partition=partition,
        loss=loss,
        committed=committed,
        known=known,
        then=then[loss],
        sign_off=None if loss == "none" else signed,
    )


async def _require_continuable(nc: Client, pool: postgres.Pool, lost: Collection[int]) -> None:
    """PSM ends with whole commits, and the archive has read nothing that it no longer has."""
    for partition in lost:
        stored = await last_for(nc, PSM, subjects.cursor(partition))
        if stored is None:
            update = await last_for(nc, PSM, f"psm.*.*.{partition}.*")
            if update is not None:
                raise ConfigError(
                    f"partition {partition}: PSM has updates and no commit cursor. {_ANEW}"
                )
            continue
        updates = load_cursor(stored.data).updates
        end = stored.sequence + updates
        last = await get(nc, PSM, end)
        if last is None or (updates and not _is_update(last.subject, partition)):
            raise ConfigError(
                f"partition {partition}: the last commit in PSM is not whole, message {end} of it "
                f"is missing. {_ANEW}"
            )
    async with postgres.acquired(pool) as connection:
        at = (await archive.read_checkpoints(connection)).get(PSM)
    if at is None or at.js_sequence < (await stream_info(nc, PSM)).first_sequence:
        return
    message = await get(nc, PSM, at.js_sequence)
    if message is None or hashlib.sha256(message.data).hexdigest() != at.event_hash:
        raise ConfigError(
            f"the archive has read PSM up to message {at.js_sequence}, which PSM no longer has: "
            f"other updates would take the places of those that are archived. {_ANEW}"
        )


def _is_update(subject: str, partition: int) -> bool:
    return not subject.startswith("psm.cursor.") and update_place(subject)[1] == partition


async def _require_whole(
    nc: Client,
    pool: postgres.Pool,
    settings: Settings,
    lost: tuple[int, ...],
    progress: Progress | None,
) -> None:
    """Audit the log, and fold the partitions that lost something against all heads."""
    work = Audit(
        nc,
        partitions=settings.partitions,
        slots=settings.valuation_slots,
        asked=AuditRange(),
        chosen=lost,
        progress=progress,
    )
    report = await work.everything(pool, views=False)
    others = [finding for finding in report.findings if finding.code not in _EXPLAINED]
    if others:
        first = others[0]
        counts = ", ".join(f"{count} x {code}" for code, count in report.counts.items())
        raise LogDamagedError(
            f"more is wrong than lost updates ({counts}). The first: {first.code} at "
            f"{first.stream} {first.sequence}, expected {first.expected}, found {first.found}: "
            f"{first.next}. Nothing was signed off"
        )
