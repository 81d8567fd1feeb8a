"""What a certificate says of its server, and what is wrong when one is refused.

A handshake that fails tells why, but not of which certificate. `presented_by` asks the server once
more, trusting nothing and sending nothing of ours, so that whoever reads the error knows which
certificate that was: its subject, its names and its expiry.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

from psm.contracts.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

Server = Literal["nats", "postgres"]

_TIMEOUT_S = 3.0
# PostgreSQL: a request for TLS, which is answered by one byte, S for yes (protocol 3.0).
_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


class ServerCertificate(Struct, frozen=True, kw_only=True):
    """One certificate.

    Attributes:
        subject: as RFC 4514 writes it, such as `CN=nats`.
        issuer: likewise.
        names: host names, addresses and URIs that it is good for.
        not_before: UTC.
        expires: UTC.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    expires: datetime

    def __str__(self) -> str:
        names = ", ".join(self.names) or "no name"
        return f"{self.subject}, for {names}, expires {self.expires:%Y-%m-%d %H:%M} UTC"


def read_certificate(data: bytes) -> ServerCertificate:
    """Return what the first certificate says; as `read_certificates`."""
    return read_certificates(data)[0]


def read_certificates(data: bytes) -> list[ServerCertificate]:
    """Return what the certificates in PEM, or the one in DER, say.

    Raises:
        ValueError: there is none in `data`.
    """
    from cryptography import x509  # takes a moment, and few processes ask

    if b"-----BEGIN" in data:
        return [_said_by(found) for found in x509.load_pem_x509_certificates(data)]
    return [_said_by(x509.load_der_x509_certificate(data))]


def _said_by(found: Certificate) -> ServerCertificate:
    from cryptography import x509

    names: list[str] = []
    with contextlib.suppress(x509.ExtensionNotFound):
        said = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names += said.get_values_for_type(x509.DNSName)
        names += map(str, said.get_values_for_type(x509.IPAddress))
        names += said.get_values_for_type(x509.UniformResourceIdentifier)
    return ServerCertificate(
        subject=found.subject.rfc4514_string(),
        issuer=found.issuer.rfc4514_string(),
        names=tuple(names),
        not_before=found.not_valid_before_utc,
        expires=found.not_valid_after_utc,
    )


async def presented_by(host: str, port: int, server: Server) -> ServerCertificate | None:
    """Return the certificate that a server shows; None where it shows none in `_TIMEOUT_S`.

    Nothing is trusted, and nothing but the request for TLS is sent.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            if server == "postgres":
                writer.write(_SSL_REQUEST)
                if await reader.readexactly(1) != b"S":
                    return None
            else:
                await reader.readline()  # INFO
            await writer.start_tls(context)
            data = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return read_certificate(data) if data else None
    except (OSError, EOFError, TimeoutError, ValueError):
        return None
    finally:
        if writer is not None:
            writer.transport.abort()


class Refused(Struct, frozen=True, kw_only=True):
    """Why a handshake failed.

    Attributes:
        why: what OpenSSL says, and what to do.
        of_peer: whether the peer's certificate is refused; else it refused ours, or speaks
            another TLS.
    """

    why: str
    of_peer: bool


def refused(error: BaseException | None, *, ca: str, address: str) -> Refused | None:
    """Return what is wrong with a handshake; None of an error that is of another kind.

    Args:
        error: what a connection failed with, or what that was caused by.
        ca: how the user says whom to trust, such as `PSM_NATS_CA_FILE`.
        address: how the user names the server.
    """
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    if error is None:
        return None
    if isinstance(error, ssl.SSLCertVerificationError):
        cure = _CURES.get(error.verify_code, "").format(ca=ca, address=address)
        return Refused(
            why=f"the server's certificate is refused: {error.verify_message}{cure}", of_peer=True
        )
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "alert" in reason and any(word in reason for word in ("certificate", "unknown ca")):
        return Refused(why=f"the server refuses the client's certificate: {reason}", of_peer=False)
    return Refused(why=f"TLS fails ({reason}); does the server speak TLS 1.3?", of_peer=False)


_CURES = {
    9: "; is the clock right?",  # not yet valid
    10: "; renew it",  # has expired
    18: "; {ca} must hold the CA that signed it",  # self-signed
    19: "; {ca} must hold the CA that signed it",
    20: "; {ca} must hold the CA that signed it",
    62: "; {address} must name the server as its certificate does",
    64: "; {address} must name the server as its certificate does",
    92: "; its CA must have the extension keyUsage, which Python 3.13 and later ask for",
}
"""What to do, by the code of OpenSSL."""


async def nats_error(refusal: Refused, host: str, port: int, own: str | None) -> ConfigError:
    """Return the configuration error that a refused certificate is: no try more would change it.

    Args:
        refusal: why.
        host: of the server, which is asked for the certificate in question.
        port: likewise.
        own: file of the client's own certificate.
    """
    return ConfigError(f"NATS at {host}:{port}: {await _told(refusal, host, port, 'nats', own)}")


async def postgres_error(error: BaseException, dsn: str) -> ConfigError | None:
    """Return what is wrong with the TLS of an address of PostgreSQL; None of any other error.

    Args:
        error: what a connection failed with.
        dsn: of the server; the text has neither user nor password of it.
    """
    address = urlsplit(dsn)
    given = {name: values[-1] for name, values in parse_qs(address.query).items()}
    for name in ("sslrootcert", "sslcert", "sslkey"):
        if name in given and (problem := _unreadable(given[name])):
            return ConfigError(f"POSTGRES_DSN: {name} ({given[name]}) cannot be used: {problem}")
    if problem := _mode_problem(str(error), given):
        return ConfigError(f"POSTGRES_DSN: {problem}")
    host, _, rest = address.netloc.rpartition("@")[2].partition(",")[0].rpartition(":")
    host, port = (host, int(rest)) if host and rest.isdigit() else (host or rest, 5432)
    where = f"PostgreSQL at {host}:{port}"
    if "rejected SSL upgrade" in str(error):
        mode = given.get("sslmode", "require")
        return ConfigError(f"{where} speaks no TLS, which POSTGRES_DSN asks for (sslmode={mode})")
    refusal = refused(error, ca="sslrootcert of POSTGRES_DSN", address="POSTGRES_DSN")
    if refusal is None:
        return None
    told = await _told(refusal, host, port, "postgres", given.get("sslcert"))
    return ConfigError(f"{where}: {told}")


def _mode_problem(said: str, given: Mapping[str, str]) -> str | None:
    """Return what the address lacks, or has wrong, before any server is asked."""
    if "`sslmode`" in said:
        return said  # it names the ones there are
    if said.startswith("root certificate file") and "sslrootcert" not in given:
        mode = given.get("sslmode")
        return f"sslmode={mode} needs sslrootcert=FILE, the CA that signed the server's certificate"
    return None


async def _told(refusal: Refused, host: str, port: int, server: Server, own: str | None) -> str:
    """Return why, and of which certificate: its subject, names and expiry."""
    if refusal.of_peer and (shown := await presented_by(host, port, server)) is not None:
        return f"{refusal.why} (it is {shown})"
    if not refusal.of_peer and own is not None:
        return f"{refusal.why} (ours is {_described(own)})"
    return refusal.why


def _described(file: str) -> str:
    try:
        return str(read_certificate(Path(file).read_bytes()))
    except (OSError, ValueError):
        return file


def _unreadable(file: str) -> str | None:
    try:
        text = Path(file).read_bytes()
    except OSError as error:
        return error.strerror or type(error).__name__
    return None if b"-----BEGIN" in text else "nothing in it is PEM"
