"""Whose word about a client counts."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from psm.workers.api.door import Door, Proxies
from psm.workers.api.server import HttpServer, listen

TRUSTED = Proxies(("10.0.0.0/8", "fd00::1"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", ["8.8.8.8"], "203.0.113.9"),
        ("127.0.0.1", ["8.8.8.8"], "127.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["8.8.8.8, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["8.8.8.8, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["8.8.8.8", "198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["8.8.8.8, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["8.8.8.8, junk, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [" , ,"], "10.0.0.1"),
        ("fd00::1", ["2001:db8::5"], "2001:db8::5"),
        ("", ["8.8.8.8"], ""),
    ],
)
def test_client_is_the_right_most_hop_that_is_no_proxy(
    peer: str, forwarded: list[str], client: str
) -> None:
    """What a client itself wrote into the header stands further left, and is never reached."""
    raw = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    raw += [(b"forwarded", b"for=8.8.8.8"), (b"via", b"1.1 evil")]
    assert TRUSTED.client_of(peer, Headers(raw=raw)) == client


def test_nobody_is_trusted_unless_named() -> None:
    assert not Proxies().trusts("127.0.0.1")
    assert not TRUSTED.trusts("unix:")


@pytest.mark.parametrize(
    ("trusted", "told"), [((), "127.0.0.1"), (("127.0.0.0/8",), "8.8.8.8")], ids=["nobody", "proxy"]
)
async def test_server_believes_nobody_by_itself(trusted: tuple[str, ...], told: str) -> None:
    """Being on loopback is no reason to be believed."""

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(scope["client"][0])(scope, receive, send)

    server = HttpServer(Door(echo, proxies=Proxies(trusted)), proxies=Proxies(trusted))
    listener = listen("127.0.0.1", 0)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    url = "http://127.0.0.1:{1}".format(*listener.getsockname())
    async with httpx.AsyncClient() as client:
        answer = await client.get(url, headers={"X-Forwarded-For": "8.8.8.8"})
    server.stop()
    await serving
    assert answer.text == told


async def test_no_answer_waits_for_its_client_to_acknowledge() -> None:
    """What is accepted sends at once: head and body are two writes, and a client waits with its
    acknowledgement of the first for 40 ms.
    """
    listener = listen("127.0.0.1", 0)
    with socket.create_connection(listener.getsockname()):
        accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
        with accepted, listener:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
