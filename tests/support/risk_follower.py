"""A consumer of the risk feed that keeps what it would have decided on, and the log's word on it.

Run as a program it follows the accounts it is given and writes, whenever something is new, one line
of JSON: what it would decide on, by account.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from nats.aio.client import Client
from tests.support.live import Given, assert_folds
from tests.support.workbench import end, until

from psm.adapters.jetstream import connect
from psm.contracts.documents import AccountDocument
from psm.contracts.live import LiveQuestion
from psm.domain.books import Books
from psm.domain.messages import LogMessage
from psm.workers.fleet import NatsMembers
from psm.workers.fleet.live_reads import Owners
from psm.workers.log.need_history import fold_from_memory
from psm.workers.log.reader import last_log_sequence, read_log
from psm.workers.process.settings import Settings
from psm.workers.risk.feed import (
    Delivered,
    Entered,
    FeedInput,
    Lost,
    Reached,
    Regained,
    RiskFeed,
    Stored,
    Unfolded,
    live_owners,
)

Inputs = dict[str, list[tuple[int, list[bytes]]]]


class Session(msgspec.Struct):
    """An account from one whole document on.

    Attributes:
        entered: that document, and the place it is as of.
        offered: what could be decided on: log sequence -> document then.
    """

    account_id: str
    entered: bytes
    log_sequence: int
    offered: dict[int, bytes]


class Follower:
    """Applies what a feed gives, as an engine would.

    Attributes:
        sessions: of every account, each entry again a new one.
        at: last place told, by account.
        known: accounts that may be decided on.
        counted: how often each kind of delivery came.
        market: sequences of marks and instruments, by subject.
        unfolded: what was told last of an input that PSM has not folded, by account.
        regained: (account, place) of each time that one was.
        gate: while it is not set, nothing is taken.
    """

    def __init__(self, feed: RiskFeed) -> None:
        self.feed = feed
        self.sessions: list[Session] = []
        self.at: dict[str, int] = {}
        self.known: dict[str, None] = {}
        self.counted: dict[str, int] = {}
        self.market: dict[str, list[int]] = {}
        self.unfolded: dict[str, Unfolded] = {}
        self.regained: list[tuple[str, int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._documents: dict[str, AccountDocument] = {}
        self._of: dict[str, Session] = {}

    async def run(self) -> None:
        """Take a little, apply it, and note what could be decided on then."""
        async with self.feed.running():
            while True:
                await self.gate.wait()
                moved: dict[str, None] = {}
                for one in await self.feed.take(0.05, 5):
                    self.apply(one)
                    if isinstance(one, FeedInput | Entered | Regained):
                        moved[one.account_id] = None
                for account_id in moved:
                    if account_id in self.known:
                        self.note(account_id)

    def apply(self, one: Delivered) -> None:
        """Take one delivery; what comes out of order is an error."""
        name = type(one).__name__
        self.counted[name] = self.counted.get(name, 0) + 1
        match one:
            case Entered():
                session = Session(one.account_id, one.document, one.log_sequence, {})
                self.sessions.append(session)
                self._of[one.account_id] = session
                self._documents[one.account_id] = AccountDocument(one.document)
                assert one.log_sequence >= self.at.get(one.account_id, 0)
                self.at[one.account_id] = one.log_sequence
                self.known[one.account_id] = None
            case FeedInput():
                at = self.at[one.account_id]
                assert one.previous is not None
                assert one.previous <= at < one.log_sequence, f"{one.account_id}: a hole"
                self._documents[one.account_id].take(one.updates)
                self.at[one.account_id] = one.log_sequence
            case Lost():
                assert one.account_id in self.known, "it is told once"
                del self.known[one.account_id]
            case Regained():
                assert one.account_id not in self.known
                self.known[one.account_id] = None
                self.regained.append((one.account_id, self.at[one.account_id]))
            case Unfolded():
                self.unfolded[one.account_id] = one
            case Stored():
                assert self.market.get(one.subject, [0])[-1] < one.sequence
                self.market.setdefault(one.subject, []).append(one.sequence)
            case Reached():
                assert one.log_sequence == self.feed.market_position

    def note(self, account_id: str) -> None:
        """Keep what could be decided on now."""
        assert self.feed.is_known(account_id)
        self._of[account_id].offered[self.at[account_id]] = self.document(account_id)

    def document(self, account_id: str) -> bytes:
        """Return an account as it is known."""
        return self._documents[account_id].encoded()

    async def reaches(self, ends: dict[str, int]) -> None:
        """Wait until these accounts are known as of their last inputs."""

        def there() -> bool:
            return all(
                name in self.known and self.at.get(name, 0) >= at for name, at in ends.items()
            )

        await until(there, "every account is known again")


def new_feed(nc: Client, partitions: int, **more: Any) -> RiskFeed:
    """Return a feed that asks the owners of accounts themselves, and compares often."""
    owners = Owners(nc, NatsMembers(nc), partitions)
    return RiskFeed(nc, live=live_owners(owners), **{"compare_s": 0.3, **more})


@asynccontextmanager
async def following(
    url: str, partitions: int, accounts: Iterable[str], **more: Any
) -> AsyncIterator[Follower]:
    """Follow accounts on a connection of its own while the block runs."""
    nc = await connect(url, name="risk")
    try:
        follower = Follower(new_feed(nc, partitions, **more))
        follower.feed.follow(accounts)
        task = asyncio.create_task(follower.run())
        try:
            yield follower
            assert not task.done() or task.result() is None
        finally:
            await end(task)
    finally:
        await nc.close()


# --- the log's word -------------------------------------------------------------------------------


async def inputs_of(nc: Client, settings: Settings) -> Inputs:
    """Fold the whole log; return every account's updates, input by input."""
    books = Books(partitions=settings.partitions, slots=settings.valuation_slots)
    folded: dict[int, LogMessage] = {}
    found: Inputs = {}
    last = await last_log_sequence(nc)
    async for batch in read_log(nc, [">"], 1, last):
        for message in batch:
            result = fold_from_memory(books, message, lambda _: folded)
            folded[message.log_sequence] = message
            of_input: dict[str, list[bytes]] = {}
            for update in result.updates:
                if update.previous is not None:
                    of_input.setdefault(update.stream_id, []).append(update.data)
            for stream_id, updates in of_input.items():
                found.setdefault(stream_id, []).append((message.log_sequence, updates))
    return found


def last_inputs(inputs: Inputs) -> dict[str, int]:
    """Return the last input of every account."""
    return {name: own[-1][0] for name, own in inputs.items()}


async def assert_offered(
    nc: Client, settings: Settings, sessions: Iterable[Session], inputs: Inputs
) -> int:
    """Compare all that could be decided on with the log, byte for byte; return how much it was."""
    sessions = list(sessions)
    entries = [
        Given(LiveQuestion(account_id=session.account_id), session.entered) for session in sessions
    ]
    await assert_folds(nc, settings.partitions, settings.valuation_slots, entries)
    compared = 0
    for session in sessions:
        document = AccountDocument(session.entered)
        wanted = {session.log_sequence: document.encoded()}
        for at, updates in inputs.get(session.account_id, []):
            if at > session.log_sequence:
                document.take(updates)
                wanted[at] = document.encoded()
        for at, offered in session.offered.items():
            assert at in wanted, f"{session.account_id} was offered as of {at}, where nothing was"
            assert offered == wanted[at], f"{session.account_id} at {at}"
            compared += 1
    return compared


# --- a process of its own -------------------------------------------------------------------------


class Line(msgspec.Struct):
    """What a process says: its sessions so far, and how often what came."""

    sessions: list[tuple[str, str, int, dict[int, str]]]
    known: dict[str, int]
    counted: dict[str, int]
    reconnects: int


def read_line(path: Path) -> tuple[list[Session], Line] | None:
    """Return what a process said last; None before it said anything."""
    lines = path.read_bytes().splitlines(keepends=True)
    whole = [line for line in lines if line.startswith(b"{") and line.endswith(b"\n")]
    if not whole:
        return None
    line = msgspec.json.decode(whole[-1], type=Line)
    return [
        Session(
            account_id,
            base64.b64decode(entered),
            at,
            {place: base64.b64decode(document) for place, document in offered.items()},
        )
        for account_id, entered, at, offered in line.sessions
    ], line


async def main(url: str, partitions: int, accounts: list[str]) -> None:
    """Follow and write until killed."""
    nc = await connect(url, name="risk")
    follower = Follower(new_feed(nc, partitions))
    follower.feed.follow(accounts)
    task = asyncio.create_task(follower.run())
    said = b""
    while not task.done():
        line = Line(
            sessions=[
                (
                    session.account_id,
                    base64.b64encode(session.entered).decode(),
                    session.log_sequence,
                    {at: base64.b64encode(d).decode() for at, d in session.offered.items()},
                )
                for session in follower.sessions
            ],
            known={name: follower.at[name] for name in follower.known},
            counted=follower.counted,
            reconnects=nc.stats["reconnects"],
        )
        if (now := msgspec.json.encode(line)) != said:
            sys.stdout.buffer.write(now + b"\n")
            sys.stdout.flush()
            said = now
        await asyncio.sleep(0.2)
    task.result()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
