"""The records of RISK proved by the logs of a broker."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from functools import partial

import msgspec
from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import StoredMessage, get, last_for, read_range, stream_info
from psm.contracts import subjects
from psm.contracts.errors import ConfigError, LogDamagedError
from psm.contracts.subjects import ORDERS, RISK, RULEBOOK, TRADES
from psm.domain.messages import LogMessage
from psm.risk.engine.checkpoint import read_checkpoint
from psm.risk.engine.proof import Judge
from psm.risk.engine.proof_records import Deviation, read_record
from psm.risk.market import HEADS
from psm.risk.messages import Stored
from psm.risk.rulebook import Rulebook, slot_of
from psm.workers.log.need_history import fold_with_history
from psm.workers.log.reader import last_log_sequence, read_history, read_log
from psm.workers.log.refold import Progress
from psm.workers.log.shape import LogShape
from psm.workers.ops.keys import made_signature
from psm.workers.proof.risk.accounts import PastAccounts
from psm.workers.proof.risk.evidence import Sources
from psm.workers.proof.risk.prover import Prover
from psm.workers.proof.risk.streams import RecordedStreams
from psm.workers.risk.orders_log import ENDS
from psm.workers.risk.owner import OwnerRecord, load_owner
from psm.workers.risk.ports import stored_of
from psm.workers.risk.rulebook import slots_of
from psm.workers.risk.store import Owned, ReadRecord

_KINDS = ("decision", "alert", "halt", "release")
_ACCOUNTS_MAX = 30


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Which records are proved.

    Attributes:
        group: whose slot; None for all slots.
        first, last: numbers `n` of the slot's records; None for its newest.
    """

    group: str | None = None
    first: int = 1
    last: int | None = None


class _Plan(msgspec.Struct, kw_only=True):
    """What a first look at RISK found.

    Attributes:
        last: sequence of RISK up to which it is read.
        newest: by slot its newest record, as the leader has it: sequence, n.
        starts: by slot the owner record to begin with.
        accounts: that vectors name.
    """

    last: int
    newest: dict[int, tuple[int, int]] = {}
    starts: dict[int, Owned] = {}
    accounts: dict[str, None] = {}


async def prove_risk(
    nc: Client,
    shape: LogShape,
    chosen: Range,
    *,
    archive: postgres.Pool | None = None,
    judge: Judge | None = None,
    progress: Progress | None = None,
) -> Prover:
    """Make the decisions of RISK again; nothing is written.

    Args:
        nc: connection; may read RISK, RULEBOOK, ORDERS and TRADES.
        shape: of the log.
        chosen: which of them.
        archive: has what RISK and ORDERS hold no more; None: the proof begins at the first
            checkpoint that RISK holds.
        judge: looks at each.
        progress: told (sequence of RISK reached, last).

    Raises:
        ConfigError: no such group; the archive is behind.
        LogDamagedError: a checkpoint, or a message of RULEBOOK, is gone.
        TransientError: it cannot be read now.
    """
    recorded = RecordedStreams(nc, archive)
    rules = await _rules(nc)
    slots = _slots(rules, chosen.group)
    plan = await _plan(nc, recorded, slots, chosen)
    sources = await _sources(nc, shape, recorded, rules, plan)
    prover = Prover(sources, judge=judge, first_n=chosen.first, last_n=chosen.last)
    await _expect(recorded, plan, slots, prover)
    for slot, owned in sorted(plan.starts.items()):
        prover.checkpoint(slot, await recorded.checkpoint(owned), owned.sequence)
    first = min((one.sequence for one in plan.starts.values()), default=1)
    async for messages in recorded.read(RISK, _patterns(slots), first, plan.last):
        for message in messages:
            await _take(recorded, plan, prover, message)
        if progress is not None:
            progress(messages[-1].sequence, plan.last)
    _ends(plan, prover, chosen)
    return prover


async def _sources(
    nc: Client, shape: LogShape, recorded: RecordedStreams, rules: list[Stored], plan: _Plan
) -> Sources:
    """Return the logs that the slots are proved by."""
    last_log = await last_log_sequence(nc)
    return Sources(
        rules,
        made_signature,
        market=lambda first: _market(nc, first, last_log),
        command=partial(_stored, partial(recorded.get, ORDERS)),
        results=lambda: _results(nc, recorded, plan),
        message=partial(_stored, partial(get, nc, TRADES)),
        accounts=_accounts(nc, shape, plan, last_log),
    )


async def _stored(read: ReadRecord, sequence: int) -> Stored | None:
    message = await read(sequence)
    return None if message is None else stored_of(message)


def _slots(rules: list[Stored], group: str | None) -> list[int]:
    rulebook = Rulebook(made_signature)
    for stored in rules:
        rulebook.take(stored)
    if group is not None and group not in rulebook.groups:
        known = ", ".join(sorted(rulebook.groups)) or "none"
        raise ConfigError(f"no group {group}; there are: {known}")
    return slots_of(rulebook) if group is None else [slot_of(group)]


def _patterns(slots: list[int]) -> list[str]:
    return [subjects.risk_slot(slot) for slot in slots]


async def _rules(nc: Client) -> list[Stored]:
    """Return all of RULEBOOK, and refuse a hole in it: every message counts in its hash."""
    last = (await stream_info(nc, RULEBOOK)).last_sequence
    found: list[Stored] = []
    async for messages in read_range(nc, RULEBOOK, ["rulebook.*.*"], 1, last):
        found += map(stored_of, messages)
    whole: list[Stored] = []
    shown = {one.sequence: one for one in found}
    for sequence in range(1, last + 1):
        one = shown.get(sequence)
        if one is None:
            message = await get(nc, RULEBOOK, sequence)
            if message is None:
                raise LogDamagedError(f"RULEBOOK: message {sequence} is gone; restore it")
            one = stored_of(message)
        whole.append(one)
    return whole


async def _plan(nc: Client, recorded: RecordedStreams, slots: list[int], chosen: Range) -> _Plan:
    """Ask the leader for the newest record of each slot; then find where to begin."""
    plan = _Plan(last=0)
    for slot in slots:
        for kind in _KINDS:
            message = await last_for(nc, RISK, f"risk.{kind}.{slot}.*")
            if message is not None:
                n = read_record(message.sequence, message.data).payload["n"]
                plan.newest[slot] = max(plan.newest.get(slot, (0, 0)), (message.sequence, n))
    plan.last = (await stream_info(nc, RISK)).last_sequence
    owners = [subjects.risk_owner(slot) for slot in slots]
    async for messages in recorded.read(RISK, owners, 1, plan.last):
        for message in messages:
            record = load_owner(message.data)
            started = plan.starts.get(record.slot)
            if _carries(record) and (started is None or record.n < chosen.first):
                plan.starts[record.slot] = Owned(sequence=message.sequence, record=record)
    return plan


def _carries(record: OwnerRecord) -> bool:
    return record.checkpoint_at == 0


async def _expect(recorded: RecordedStreams, plan: _Plan, slots: list[int], prover: Prover) -> None:
    """Tell which accounts will be asked for, and where."""
    for owned in plan.starts.values():
        state = read_checkpoint(await recorded.checkpoint(owned))
        prover.expect_checkpoint(state)
        for told in state["vector"].values():
            plan.accounts.update(dict.fromkeys(told))
    records = [f"risk.{kind}.{slot}.*" for slot in slots for kind in ("decision", "alert")]
    first = min((one.sequence for one in plan.starts.values()), default=1)
    async for messages in recorded.read(RISK, records, first, plan.last):
        for message in messages:
            record = read_record(message.sequence, message.data)
            prover.expect(record)
            plan.accounts.update(dict.fromkeys(record.payload.get("vector") or {}))


async def _take(
    recorded: RecordedStreams, plan: _Plan, prover: Prover, message: StoredMessage
) -> None:
    kind = subjects.risk_kind(message.subject)
    if kind == "owner":
        if message.subject.endswith(".record"):
            owner = load_owner(message.data)
            start = plan.starts.get(owner.slot)
            if _carries(owner) and (start is None or message.sequence > start.sequence):
                owned = Owned(sequence=message.sequence, record=owner)
                prover.checkpoint(owner.slot, await recorded.checkpoint(owned), message.sequence)
        return
    record = read_record(message.sequence, message.data)
    start = plan.starts.get(record.payload["slot"])
    if start is None or message.sequence > start.sequence:
        await prover.take(record)


def _ends(plan: _Plan, prover: Prover, chosen: Range) -> None:
    """Compare where each slot ended with what the leader has: a replica may hide its last one."""
    for slot, (sequence, n) in sorted(plan.newest.items()):
        wanted = n if chosen.last is None else min(n, chosen.last)
        proven = prover.slots.get(slot)
        start = plan.starts.get(slot)
        begun = start.record.n if start is not None else 0
        reached = max(begun, proven.last_n) if proven is not None else begun
        if reached < wanted:
            prover.add(
                Deviation(
                    slot=slot, n=wanted, sequence=sequence, field="n",
                    recorded=wanted, recomputed=reached,
                )
            )  # fmt: skip


# --- the log --------------------------------------------------------------------------------------


def _accounts(nc: Client, shape: LogShape, plan: _Plan, last: int) -> PastAccounts:
    """Return the accounts of the log; which of them is read is known when the first is asked."""
    books = shape.books()
    read = partial(read_history, nc, books.partitions)

    async def messages() -> AsyncIterator[LogMessage]:
        filters = _filters(shape, [*plan.accounts])
        async for batch in read_log(nc, filters, 1, last):
            for message in batch:
                yield message

    async def fold(message: LogMessage) -> object:
        return await fold_with_history(books, message, read, "nothing")

    return PastAccounts(books, messages(), fold)


def _filters(shape: LogShape, accounts: list[str]) -> list[str]:
    """Return the subjects that decide some accounts; of many accounts those of all."""
    if len(accounts) > _ACCOUNTS_MAX:
        return [">"]
    found = [
        name
        for account_id in accounts or [""]
        for name in subjects.stream_filters(account_id or "none", shape.partitions)
    ]
    return [*dict.fromkeys(found)]


async def _market(nc: Client, first: int, last: int) -> AsyncIterator[Stored]:
    filters = [f"{head}.*" for head in HEADS]
    async for messages in read_range(nc, TRADES, filters, first, last):
        for message in messages:
            yield stored_of(message)


async def _results(nc: Client, recorded: RecordedStreams, plan: _Plan) -> AsyncIterator[Stored]:
    """Yield what the venue said of orders since the first proof begins."""
    first = min((one.record.orders for one in plan.starts.values()), default=0) + 1
    last = (await stream_info(nc, ORDERS)).last_sequence
    async for messages in recorded.read(ORDERS, [ENDS], first, last):
        for message in messages:
            yield stored_of(message)


def verdict_hash(prover: Prover) -> str:
    """Return SHA-256 over what was proved, hex."""
    proven = [one for _, one in sorted(prover.slots.items())]
    return hashlib.sha256(msgspec.json.encode([proven, prover.deviations])).hexdigest()
