"""A NATS client that sends what no client library would."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from urllib.parse import urlsplit

_ANSWER_S = 10.0


def pub(subject: bytes, data: bytes = b"{}", headers: bytes | None = None) -> bytes:
    """Return a publish as it goes over the wire, with whatever bytes are given."""
    if headers is None:
        return b"PUB %b %d\r\n%b\r\n" % (subject, len(data), data)
    total = len(headers) + len(data)
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (subject, len(headers), total, headers, data)


async def send_raw(url: str, operations: Iterable[bytes]) -> None:
    """Send operations over a connection of their own; return when the broker has taken all."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        await reader.readline()  # INFO
        writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
        for operation in operations:
            writer.write(operation)
        writer.write(b"PING\r\n")
        async with asyncio.timeout(_ANSWER_S):
            while (line := await reader.readline()) != b"PONG\r\n":
                assert line == b"PING\r\n", line
    finally:
        writer.close()
        await writer.wait_closed()
