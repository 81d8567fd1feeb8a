"""A proxy that ends mutual TLS and passes on by which certificate a caller came."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

Writes = Callable[[bytes], str]
"""From a certificate (DER) to what stands in `Client-Cert`."""


def by_rfc_9440(certificate: bytes) -> str:
    """Return what RFC 9440 asks for: a byte sequence of structured fields."""
    return f":{base64.b64encode(certificate).decode()}:"


def by_nginx(certificate: bytes) -> str:
    """Return what nginx has in `$ssl_client_escaped_cert`."""
    return quote(ssl.DER_cert_to_PEM_cert(certificate), safe="")


@asynccontextmanager
async def mtls_proxy(
    port: int, house: Path, leaf: str, *, verify: bool = True, writes: Writes = by_rfc_9440
) -> AsyncIterator[int]:
    """Run the proxy in front of a port of this machine; its own is the value.

    Args:
        port: of the service.
        house: folder of `psm certs`, whose CA signs the callers' certificates.
        leaf: what the proxy itself shows.
        verify: whether callers need a certificate that counts; else they may show one.
        writes: how it is passed on.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(house / "ca.crt"))
    context.load_cert_chain(house / leaf / "tls.crt", house / leaf / "tls.key")
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_OPTIONAL

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        with contextlib.suppress(OSError, EOFError):
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head[:-4].split(b"\r\n")
            kept = [line for line in lines if not line.lower().startswith(b"client-cert")]
            sizes = [int(line[15:]) for line in kept if line.lower().startswith(b"content-length:")]
            told = [b"Client-Cert: " + writes(shown).encode()] if shown else []
            told += [b"X-Forwarded-For: 203.0.113.7", b"Connection: close"]
            back, forth = await asyncio.open_connection("127.0.0.1", port)
            body = await reader.readexactly(sum(sizes))
            forth.write(b"\r\n".join([first, *kept, *told, b"", body]))
            writer.write(await back.read())
            forth.close()
        writer.close()

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]
