"""The parser that hands messages straight to their reader, beside nats-py's own."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from psm.adapters.jetstream.direct import DirectParser, parse_lines

INBOX = "_INBOX.reader"
LOG, OTHER = 5, 9

Taken = tuple[str, str, dict[str, str] | None, bytes]


class Connection:
    """What a parser needs of a client; notes what it is told."""

    def __init__(self) -> None:
        self.stats = {"in_msgs": 0, "in_bytes": 0}
        self.taken: dict[int, list[Taken]] = {LOG: [], OTHER: []}
        self.pings = 0
        self.direct: list[Taken] = []

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        read = await Client()._process_headers(headers)
        self.taken[sid].append((subject.decode(), reply.decode(), read, data))

    async def _process_ping(self) -> None:
        self.pings += 1

    def receive(
        self, subject: str, reply: str, headers: dict[str, str] | None, data: bytes
    ) -> None:
        self.direct.append((subject, reply, headers, data))


class Subscribed:
    """A subscription as far as the parser knows it."""

    def __init__(self, sid: int) -> None:
        self._id = sid
        self.subject = INBOX


def message(sid: int, subject: str, reply: str, headers: bytes, data: bytes) -> bytes:
    """Return a message as the broker sends it."""
    to = f"{subject} {sid} {reply} ".replace("  ", " ")
    if headers:
        head = f"HMSG {to}{len(headers)} {len(headers) + len(data)}\r\n"
    else:
        head = f"MSG {to}{len(data)}\r\n"
    return head.encode() + headers + data + b"\r\n"


bodies = st.one_of(
    st.binary(max_size=40), st.sampled_from([b"\r\n", b"MSG a 5 3\r\nabc\r\n", b"x" * 70_000])
)
blocks = st.sampled_from(
    [
        b"",
        b"",
        b"NATS/1.0\r\n\r\n",
        b"NATS/1.0\r\ntraceparent: 00-1\r\nA:  b \r\n\r\n",
        b"NATS/1.0\r\nBad Name: x\r\nno colon\r\nUmlaut: \xff\r\n\r\n",
    ]
)
replies = st.sampled_from(["", "$JS.ACK.TRADES.c.1.7.7.1700000000000000000.0"])
operations = st.one_of(
    st.builds(message, st.just(LOG), st.just("trades.0.acc"), replies, blocks, bodies),
    st.builds(message, st.just(OTHER), st.just("other"), replies, blocks, bodies),
    st.just(message(LOG, INBOX, "", b"NATS/1.0 100 Idle Heartbeat\r\nX: 3\r\n\r\n", b"")),
    st.sampled_from([b"PING\r\n", b"+OK\r\n"]),
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def attached(connection: Connection) -> DirectParser:
    parser = DirectParser(_as_client(connection))
    parser.attach(_as_subscription(LOG), connection)
    return parser


def _as_client(connection: Connection) -> Any:
    return connection


def _as_subscription(sid: int) -> Any:
    return Subscribed(sid)


@given(st.lists(operations, max_size=12), st.lists(st.integers(0, 10**6), max_size=12))
def test_nothing_is_read_otherwise_than_by_nats_py(sent: list[bytes], cuts: list[int]) -> None:
    """Cut anywhere, the same messages come with the same headers, in the same order."""

    async def run() -> None:
        plain, quick = Connection(), Connection()
        first, second = Parser(plain), attached(quick)
        for piece in pieces(b"".join(sent), cuts):
            await first.parse(piece)
            await second.parse(piece)
        assert quick.direct == [one for one in plain.taken[LOG] if one[0] != INBOX]
        assert quick.taken[LOG] == [one for one in plain.taken[LOG] if one[0] == INBOX]
        assert quick.taken[OTHER] == plain.taken[OTHER]
        assert quick.pings == plain.pings
        assert not second.buf

    asyncio.run(run())


@given(st.lists(operations, max_size=6), st.integers(0, 10**6))
def test_a_reader_may_come_and_go_in_the_middle_of_a_message(sent: list[bytes], cut: int) -> None:
    """What is half received when the first reader is attached, or the last left, is not lost."""

    async def run() -> None:
        plain, quick = Connection(), Connection()
        first, second = Parser(plain), DirectParser(_as_client(quick))
        for place, piece in enumerate(pieces(b"".join(sent) * 2, [cut, 2 * cut, 3 * cut])):
            await first.parse(piece)
            await second.parse(piece)
            if place % 2 == 0:
                second.attach(_as_subscription(LOG), quick)
            else:
                second.detach(_as_subscription(LOG))
        came = sorted(quick.direct + quick.taken[LOG], key=repr)
        assert came == sorted(plain.taken[LOG], key=repr)
        assert quick.taken[OTHER] == plain.taken[OTHER]

    asyncio.run(run())


async def test_half_a_message_of_a_lost_connection_is_forgotten() -> None:
    """After a reconnect nothing of the old connection's bytes is taken for the new one's."""
    connection = Connection()
    parser = attached(connection)
    whole = message(LOG, "trades.0.acc", "r", b"", b"body")
    await parser.parse(whole[:-4])
    parser.reset()
    await parser.parse(whole)
    assert [data for *_, data in connection.direct] == [b"body"]
    assert connection.stats == {"in_msgs": 1, "in_bytes": 4}


async def test_nonsense_ends_the_connection() -> None:
    """What is no message is refused as nats-py refuses it: the client then reconnects."""
    parser = attached(Connection())
    with pytest.raises(ProtocolError):
        await parser.parse(b"MSG trades.0.acc 5 r many\r\n")
    with pytest.raises(ProtocolError):
        await attached(Connection()).parse(b"NONSENSE\r\n")


@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                [b"Nats-Batch-Id: 1", b"A:", b":b", b"a b: c", b" a : b ", b"\xff: x", b""]
            ),
            st.binary(max_size=12),
        ),
        max_size=6,
    )
)
def test_header_lines_are_read_as_nats_py_does(lines: list[bytes]) -> None:
    """Names remembered from other messages change nothing in what a block says."""
    block = b"\r\n".join(lines)
    assert parse_lines(block) == Client._parse_header_lines(block)
