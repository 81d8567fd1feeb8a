"""PostgreSQL in memory behind asyncpg's interface: the statements of the projector and the guard.

Statements are known by their text, so the real code of checkpoints, heads and views runs on it.
A transaction's writes appear with its commit; a checkpoint that moves is locked until then. Links
break where it hurts: around a statement, and around a commit, whose outcome is then unknown.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import asyncpg
import msgspec
from tests.support.simulator.faults import Swarm
from tests.support.simulator.loop import PROCESS, context_of

from psm.projections.current_state import CURRENT_STATE
from psm.projections.sql import load

DATABASE = "database"
_LATE_S = 3.0
_NOTICED_S = 1.0
_KEPT = 1000
_AT = datetime(2025, 12, 12, tzinfo=UTC)

Row = dict[str, Any]
Rows = dict[tuple[Any, ...], Row]
_VIEWS = {view.table: view.key for view in CURRENT_STATE.views}
_WRITES = {
    statement: (name, view.table)
    for view in CURRENT_STATE.views
    for name, statement in view.statements.items()
}
_CHECKPOINTS = load("psm.projections", "checkpoints")
_HEADS = load("psm.projections.witness", "heads")
# Nothing ever gets there: this database holds every row.
_QUARANTINE = {
    text.format(table=CURRENT_STATE.quarantine.table)
    for text in load("psm.projections", "quarantine").values()
}


class _Session:
    """One connection as the server sees it."""

    def __init__(self) -> None:
        self.staged: list[Callable[[], None]] = []
        self.in_transaction = False
        self.locks: list[tuple[Any, ...]] = []
        self.ended = False


class MemoryDatabase:
    """The server.

    Attributes:
        tables: rows of the views by key.
        checkpoints: by projection and partition.
        log_heads: by partition, ascending.
        away: it takes no connection and answers none.
        commits: how many transactions were committed.
        shown: every (partition, stream sequence) that a checkpoint ever had.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, swarm: Swarm) -> None:
        self.loop = loop
        self.swarm = swarm
        self.context = context_of(DATABASE)
        self.tables: dict[str, Rows] = {table: {} for table in _VIEWS}
        self.checkpoints: Rows = {}
        self.log_heads: dict[int, list[Row]] = {}
        self.away = False
        self.commits = 0
        self.shown: set[tuple[int, int]] = set()
        self._locked: dict[tuple[Any, ...], _Session] = {}
        self._queue: deque[tuple[_Session, str, tuple[Any, ...], Callable[[Any], None]]] = deque()

    # --- what a session may do ------------------------------------------------------------------

    def run(
        self, session: _Session, query: str, args: tuple[Any, ...], told: Callable[[Any], None]
    ) -> None:
        """Run a statement; `told` gets the result, later if another transaction is in the way."""
        if session.ended:
            return
        key = args[:2]
        if query in (_CHECKPOINTS["advance"], _CHECKPOINTS["create"]):
            owner = self._locked.get(key)
            if owner is not None and owner is not session:
                self._queue.append((session, query, args, told))
                return
            self._locked[key] = session
            session.locks.append(key)
        told(self._statement(session, query, args))
        if not session.in_transaction:
            self.commit(session)

    def begin(self, session: _Session) -> None:
        """Begin a transaction."""
        session.in_transaction = True

    def commit(self, session: _Session) -> None:
        """Make everything of the session's transaction visible."""
        self.commits += session.in_transaction
        for write in session.staged:
            write()
        self._release(session)

    def end(self, session: _Session) -> None:
        """Roll back: the session is over."""
        session.ended = True
        self._release(session)

    def _release(self, session: _Session) -> None:
        session.staged, session.in_transaction = [], False
        for key in session.locks:
            self._locked.pop(key, None)
        session.locks = []
        waiting, self._queue = self._queue, deque()
        for one in waiting:
            self.run(*one)

    # --- statements -----------------------------------------------------------------------------

    def _statement(self, session: _Session, query: str, args: tuple[Any, ...]) -> Any:
        if query in _WRITES:
            name, table = _WRITES[query]
            for row in msgspec.json.decode(args[0]):
                session.staged.append(partial(self._write, name, table, row))
            return "INSERT 0"
        if query in (_CHECKPOINTS["create"], _CHECKPOINTS["advance"]):
            return self._move(session, query, args)
        if query == _HEADS["record"]:
            session.staged.append(lambda: self._record(*args))
            return "INSERT 0 1"
        return self._read(query, args)

    def _read(self, query: str, args: tuple[Any, ...]) -> list[Row]:
        if query == _CHECKPOINTS["read_one"]:
            found = self.checkpoints.get(args)
            return [dict(found)] if found else []
        if query == _HEADS["newest"]:
            return self.log_heads.get(args[0], [])[-1:]
        if query == _HEADS["log_heads"]:
            return list(self.log_heads.get(args[0], []))
        if query == _HEADS["of_partition"]:
            heads = self.tables["chain_heads"].values()
            return [head for head in heads if head["partition"] == args[0]]
        if query in _QUARANTINE:
            return []
        raise NotImplementedError(query)

    def _move(self, session: _Session, query: str, args: tuple[Any, ...]) -> str:
        known = self.checkpoints.get(args[:2])
        create = query == _CHECKPOINTS["create"]
        if create is (known is not None):
            return "INSERT 0 0" if create else "UPDATE 0"
        if known is not None and known["stream_sequence"] != args[5]:
            return "UPDATE 0"
        names = ("partition", "stream_sequence", "event_hash", "log_sequence")
        row = {**dict(zip(names, args[1:5], strict=True)), "updated_at": _AT}

        def move() -> None:
            self.checkpoints[args[:2]] = row
            self.shown.add((row["partition"], row["stream_sequence"]))

        session.staged.append(move)
        return "UPDATE 1"

    def _write(self, name: str, table: str, row: Row) -> None:
        rows = self.tables[table]
        key = tuple(row[column] for column in _VIEWS[table])
        if name == "delete":
            rows.pop(key, None)
        elif name == "set_status" and key in rows:
            rows[key] = {**rows[key], "status": row["status"]}
        else:
            rows[key] = row

    def _record(self, partition: int, sequence: int, hashed: str, stream_sequence: int) -> None:
        rows = self.log_heads.setdefault(partition, [])
        if rows and rows[-1]["log_sequence"] // _KEPT == sequence // _KEPT:
            rows.pop()
        names = ("partition", "log_sequence", "event_hash", "stream_sequence", "recorded_at")
        values = (partition, sequence, hashed, stream_sequence, _AT)
        rows.append(dict(zip(names, values, strict=True)))


class MemoryConnection:
    """A connection; asyncpg's methods as far as they are used."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self._session = _Session()
        self._context = context_of(PROCESS.get())

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement; return its tag."""
        return str(await self._ask(query, args))

    async def fetch(self, query: str, *args: Any) -> list[Row]:
        """Return all rows."""
        rows: list[Row] = await self._ask(query, args)
        return rows

    async def fetchrow(self, query: str, *args: Any) -> Row | None:
        """Return the first row."""
        return next(iter(await self.fetch(query, *args)), None)

    def transaction(self) -> MemoryTransaction:
        """Return a transaction that has not begun."""
        return MemoryTransaction(self)

    def begin(self) -> None:
        """Begin a transaction."""
        self._database.begin(self._session)

    def abandon(self) -> None:
        """Close from this side; the server notices a little later."""
        later = self._database.swarm.dice.uniform(0, _NOTICED_S)
        self._later(later, self._database.end, self._session)

    async def _ask(self, query: str, args: tuple[Any, ...]) -> Any:
        database, swarm = self._database, self._database.swarm
        if swarm.happens("serialization_failure"):
            self.abandon()
            raise asyncpg.SerializationError
        if query in _WRITES and r"\u0000" in args[0]:
            self.abandon()
            raise asyncpg.UntranslatableCharacterError(r"\u0000 cannot be converted to text")
        answer = database.loop.create_future()
        heard = not swarm.happens("answer_lost")

        def told(result: Any) -> None:
            if heard:
                self._answer(answer, result)

        if swarm.happens("statement_lost"):
            self._lose(answer)
        else:
            self._later(swarm.latency(), database.run, self._session, query, args, told)
            if not heard:
                self._lose(answer)
        return await answer

    async def commit(self) -> None:
        """Commit what the session wrote; the answer may be lost."""
        database, swarm = self._database, self._database.swarm
        done = database.loop.create_future()

        def commit(heard: bool) -> None:
            if not self._session.ended:
                database.commit(self._session)
                if heard:
                    self._answer(done, None)

        if swarm.happens("commit_lost"):
            self._lose(done)
        elif swarm.happens("commit_answer_lost"):
            self._later(swarm.latency(), commit, False)
            self._lose(done, ends=False)
        elif swarm.happens("commit_late"):
            self._later(swarm.dice.uniform(0, _LATE_S), commit, False)
            self._lose(done, ends=False)
        else:
            self._later(swarm.latency(), commit, True)
        await done

    def _answer(self, future: asyncio.Future[Any], result: Any) -> None:
        def arrive() -> None:
            if self._database.away:
                self._fail(future)
            elif not future.done():
                future.set_result(result)

        self._database.loop.call_later(
            self._database.swarm.latency(), arrive, context=self._context
        )

    def _lose(self, future: asyncio.Future[Any], *, ends: bool = True) -> None:
        """Break the connection: this side learns of it soon, the server a little later."""
        delay = 2 * self._database.swarm.latency()
        self._database.loop.call_later(delay, self._fail, future, context=self._context)
        if ends:
            self.abandon()

    def _fail(self, future: asyncio.Future[Any]) -> None:
        if not future.done():
            future.set_exception(asyncpg.ConnectionDoesNotExistError())

    def _later(self, delay: float, act: Callable[..., None], *args: Any) -> None:
        database = self._database
        database.loop.call_later(delay, act, *args, context=database.context)


class MemoryTransaction:
    """A transaction of a connection; asyncpg's methods as far as they are used."""

    def __init__(self, connection: MemoryConnection) -> None:
        self._connection = connection

    async def start(self) -> None:
        """Begin."""
        self._connection.begin()

    async def rollback(self) -> None:
        """Undo; this twin ends the connection with it."""
        self._connection.abandon()

    async def commit(self) -> None:
        """Make it last."""
        await self._connection.commit()


class MemoryPool:
    """A process's pool: a new connection each time."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self._open: list[MemoryConnection] = []

    @asynccontextmanager
    async def acquire(self, *, timeout: float) -> AsyncIterator[MemoryConnection]:
        """Lend a connection."""
        swarm = self._database.swarm
        await asyncio.sleep(swarm.latency())
        if self._database.away or swarm.happens("connection_refused"):
            raise ConnectionRefusedError
        connection = MemoryConnection(self._database)
        self._open.append(connection)
        try:
            yield connection
        finally:
            self._open.remove(connection)
            connection.abandon()

    def close(self) -> None:
        """The process is gone, and its connections with it."""
        for connection in self._open:
            connection.abandon()
