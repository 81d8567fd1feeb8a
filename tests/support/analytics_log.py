"""A log with times of its own, its fold, and what the timelines of its accounts must say."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from nats.aio.client import Client
from tests.support.guarded import publish_guarded
from tests.support.psm_stream import Account, OneWorker, mark

from psm.adapters import postgres
from psm.adapters.jetstream import Outgoing, last_for
from psm.analytics import feed
from psm.analytics.rows import JournalRow
from psm.analytics.timeline import AccountTimeline
from psm.contracts import subjects
from psm.contracts.updates_read import ReadUpdate
from psm.domain.fold import fold
from psm.domain.messages import Folded, LogMessage, Update
from psm.domain.publication.log_times import log_time
from psm.projections.analytics.tables import TOLD
from psm.workers.log.cursor import Cursor, dump_cursor

START_NS = 1_765_535_430_000_000_000
MIDNIGHT_NS = 1_765_584_000_000_000_000
"""Of a day after that."""

SECOND_NS = 1_000_000_000
SYMBOLS = ("BTC-PERP", "ETH-PERP")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Rows = dict[str, dict[tuple[Any, ...], dict[str, Any]]]
"""Rows by table and key; times in nanoseconds."""


class Input(msgspec.Struct, frozen=True):
    """One message of the log as its worker commits it."""

    log_sequence: int
    event_hash: str
    closed_through: int | None
    updates: list[Update]

    def read(self) -> list[ReadUpdate]:
        """Return its updates as a projection reads them."""
        return [ReadUpdate(kind=one.kind, data=one.data) for one in self.updates]


class TimedLog(OneWorker):
    """Folds messages at the times that it is told."""

    def __init__(self, start: int = START_NS) -> None:
        super().__init__()
        self.now = start
        self.inputs: list[Input] = []
        self._marks = 0

    def say(self, message: tuple[str, bytes], seconds: float = 0.5) -> None:
        """Fold the next message, some seconds later."""
        subject, data = message
        self.now += int(seconds * SECOND_NS)
        self.log_sequence += 1
        kind, _, token = subject.partition(".")
        stored = subjects.stored(kind, token, 1) if kind in subjects.OF_STREAMS else subject
        entry = LogMessage(log_sequence=self.log_sequence, subject=stored, time=self.now, data=data)
        self._history[self.log_sequence] = entry
        result = fold(self.books, entry)
        if not isinstance(result, Folded):
            result = fold(self.books, entry, self._read_back(result))
        assert isinstance(result, Folded)
        hashed = hashlib.sha256(data).hexdigest()
        closed = self.books.market.closed_through
        self.inputs.append(Input(self.log_sequence, hashed, closed, result.updates))

    def messages(self) -> list[LogMessage]:
        """Return what was folded."""
        return list(self._history.values())

    def mark(self, symbol: str, price: str, seconds: float = 5) -> None:
        """Fold a mark."""
        self._marks += 1
        self.say(mark(symbol, price, self._marks), seconds)

    def quiet(self, seconds: float) -> None:
        """Let marks alone go on, so that what has ended is told."""
        for turn in range(int(seconds // 5)):
            self.mark(SYMBOLS[turn % 2], str(100 + turn % 3))


def traded(seed: int, *, accounts: int = 5, events: int = 200, start: int = START_NS) -> TimedLog:
    """Return a log of random trading over many minutes, with busts and amendments."""
    dice, log = random.Random(seed), TimedLog(start)
    traders = [Account(f"acc_{number}") for number in range(accounts)]
    for trader in traders:
        log.say(trader.deposit("100000"))
    fills: dict[str, list[str]] = {}
    for number in range(events):
        trader = dice.choice(traders)
        known = fills.setdefault(trader.stream_id, [])
        what = dice.random()
        if known and what < 0.05:
            log.say(trader.event("TradeBusted", fill_id=known.pop(), reason="venue error"))
        elif known and what < 0.08:
            fill = dice.choice(known)
            log.say(trader.event("TradeAmended", fill_id=fill, price="99", reason="venue error"))
        elif what < 0.12:
            log.say(trader.deposit("50"))
        else:
            known.append(f"fill-{trader.stream_id}-{number}")
            log.say(_trade(dice, trader, known[-1]), dice.choice((0.1, 1.0, 20.0)))
        if dice.random() < 0.5:
            price = str(95 + dice.randrange(10))
            log.mark(dice.choice(SYMBOLS), price, dice.choice((1, 5, 9)))
    return log


def _trade(dice: random.Random, trader: Account, fill: str) -> tuple[str, bytes]:
    strategy = dice.choice(("alpha", "beta", None))
    more = {} if strategy is None else {"strategy_id": strategy}
    return trader.event(
        "TradeExecuted",
        symbol=dice.choice(SYMBOLS),
        side=dice.choice(("buy", "sell")),
        quantity=str(dice.randint(1, 4)),
        price=str(95 + dice.randrange(10)),
        commission="0.1",
        fill_id=fill,
        **more,
    )


def told(inputs: Iterable[Input]) -> Rows:
    """Return what timelines say of a log, folded one update at a time and in memory alone."""
    timelines: dict[str, AccountTimeline] = {}
    journals: dict[str, list[JournalRow]] = {}
    rows: Rows = {table.table: {} for table in TOLD}
    for one in inputs:
        for update in one.read():
            if update.kind not in feed.KINDS:
                continue
            said = feed.told(update)
            account = said.payload.account_id
            timeline = timelines.setdefault(account, AccountTimeline(account))
            if AccountTimeline.needs_journal(said):
                timeline.recall(list(journals.get(account, [])))
            timeline.take(said)
            _tell(timeline, rows, journals)
        for timeline in timelines.values():
            if one.closed_through is not None:
                timeline.pass_to(one.closed_through)
                _tell(timeline, rows, journals)
    return rows


def _tell(timeline: AccountTimeline, rows: Rows, journals: dict[str, list[JournalRow]]) -> None:
    changes = timeline.changes()
    journals.setdefault(timeline.account_id, []).extend(changes.journal)
    told: list[Sequence[msgspec.Struct]] = [
        changes.pnl,
        changes.trades,
        changes.lots,
        changes.journal,
    ]
    for table, found in zip(TOLD, told, strict=True):
        for one in found:
            row = msgspec.structs.asdict(one)
            rows[table.table][tuple(row[name] for name in table.key)] = row


async def written(pool: postgres.Pool) -> Rows:
    """Return what the tables have, as `told` has it."""
    found: Rows = {}
    async with postgres.acquired(pool) as connection:
        for table in TOLD:
            found[table.table] = {}
            for record in await connection.fetch(f"TABLE {table.table}"):
                row = {name: _plain(value) for name, value in record.items()}
                found[table.table][tuple(row[name] for name in table.key)] = row
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value - _EPOCH) // timedelta(microseconds=1) * 1000
    return value


def assert_same(found: Rows, wanted: Rows) -> None:
    """Both have the same rows, number by number."""
    for table, rows in wanted.items():
        assert sorted(found[table]) == sorted(rows), table
        for key, row in rows.items():
            differing = {
                n: (found[table][key][n], row[n])
                for n in row
                if not _same(found, table, key, row, n)
            }
            assert not differing, f"{table} {key}, table and fold: {differing}"


def _same(found: Rows, table: str, key: tuple[Any, ...], row: dict[str, Any], name: str) -> bool:
    there = found[table][key][name]
    if isinstance(row[name], Decimal):
        return isinstance(there, Decimal) and there == row[name]
    return bool(there == row[name])


def pieces(inputs: Sequence[Input], dice: random.Random) -> Iterator[Sequence[Input]]:
    """Return inputs in the pieces of random commits."""
    start = 0
    while start < len(inputs):
        size = dice.choice((1, 2, 5, 20, 60))
        yield inputs[start : start + size]
        start += size


async def commit(nc: Client, inputs: Sequence[Input]) -> None:
    """Commit the updates of inputs as their worker does: one batch, its cursor first."""
    last = inputs[-1]
    updates = [update for one in inputs for update in one.updates]
    cursor = Cursor(
        log_sequence=last.log_sequence,
        event_hash=last.event_hash,
        updates=len(updates),
        closed_through=None if last.closed_through is None else log_time(last.closed_through),
    )
    before = await last_for(nc, "PSM", subjects.cursor(0))
    await publish_guarded(
        nc,
        "PSM",
        [
            Outgoing(subjects.entrance(subjects.cursor(0)), dump_cursor(cursor)),
            *(Outgoing(subjects.entrance(one.subject), one.data, None) for one in updates),
        ],
        expected=before.sequence if before else 0,
        batch_id=uuid.uuid4().hex,
    )
