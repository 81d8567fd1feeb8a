"""Connecting to NATS, with settings that notice a dead connection soon and never give up.

The first connection must work within a bounded time, because a wrong address or password is
the operator's to fix. Later losses are waited out for ever. What NATS reports on the side
(permission errors look like timeouts to the caller) is logged and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import Client

from psm.adapters.jetstream.client import RobustClient
from psm.adapters.logs import get_logger
from psm.adapters.secret_files import Rotating
from psm.adapters.tls import ClientTls, expiry_of, refusal_by_nats
from psm.contracts.certificates import Refused, nats_error
from psm.contracts.errors import ConfigError, TransientError

# A broker that is frozen, or a line that died without a word, is given up after three of these.
PING_INTERVAL_S = 3
MAX_OUTSTANDING_PINGS = 2
# A restarted broker must not meet all of its clients in the same moment.
RECONNECT_WAIT_S = (0.5, 1.5)
FIRST_CONNECT_S = 5.0
_REFUSALS = (nats.errors.AuthorizationError, nats.errors.SecureConnWantedError)

_log = get_logger()


class ConnectionCounters:
    """Counts of what went wrong on a connection, since it was made."""

    def __init__(self) -> None:
        self.errors = 0
        self.permission_errors = 0
        self.slow_consumers = 0
        self.disconnects = 0
        self.reconnects = 0

    def as_mapping(self) -> Mapping[str, int]:
        """Return the counts by kind, always the current ones."""
        return vars(self)


async def connect(
    servers: str | Sequence[str],
    *,
    name: str,
    user: str | None = None,
    password: str | None = None,
    token: str | None = None,
    user_credentials: str | None = None,
    nkeys_seed: str | None = None,
    tls: ClientTls | None = None,
    inbox_prefix: str = "_INBOX",
    connect_timeout_s: float = FIRST_CONNECT_S,
    counters: ConnectionCounters | None = None,
    on_closed: Callable[[str], object] = lambda _reason: None,
    on_certificate: Callable[[float], object] = lambda _expires: None,
) -> Client:
    """Return a connection that reconnects for ever.

    Files of secrets, keys and certificates are read anew for each connection that it makes.

    Args:
        servers: one or more addresses, as a list or separated by commas.
        name: shown by the broker's monitoring, such as `psm-worker`.
        user: user name; the `password` belongs to it.
        password: never logged and never part of an error text; a `FileSecret` may change.
        token: likewise.
        user_credentials: path of a credentials file (JWT and seed).
        nkeys_seed: path of a file with an nkey seed.
        tls: whom to trust and what to show; without it `tls://` addresses use the system's.
        inbox_prefix: where answers arrive; the broker's permissions name it per service.
        connect_timeout_s: how long the first connection may take.
        counters: counted up by whatever the connection reports.
        on_closed: called with the reason when it is closed for good, also by its owner.
        on_certificate: called with the Unix time at which the server's certificate expires, after
            each connection that it makes.

    Raises:
        ConfigError: the address, the credentials or a certificate is refused.
        TransientError: no server answers within `connect_timeout_s`.
    """
    parts = servers.split(",") if isinstance(servers, str) else servers
    addresses = [part.strip() for part in parts if part.strip()]
    secrets = [Rotating(one) if one is not None else None for one in (password, token)]
    client = RobustClient()
    watch = _Watch(client, name, counters or ConnectionCounters(), on_closed, on_certificate)
    watch.secrets = [one for one in secrets if one is not None]
    files = _present(user_credentials, nkeys_seed)
    changing = (*files, *(str(one.file) for one in watch.secrets if one.file is not None))
    client.identity_files = changing
    # Annotated as int by nats-py, which only sleeps it.
    reconnect_wait_s: Any = random.uniform(*RECONNECT_WAIT_S)  # noqa: S311 - spreads clients
    opening = asyncio.ensure_future(
        client.connect(
            addresses,
            name=name,
            user=user,
            password=secrets[0],
            token=secrets[1],
            user_credentials=user_credentials,
            nkeys_seed=nkeys_seed,
            tls=cast("Any", tls),  # `RobustClient.ssl_context` makes one of it
            inbox_prefix=inbox_prefix,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=reconnect_wait_s,
            connect_timeout=2,
            ping_interval=PING_INTERVAL_S,
            max_outstanding_pings=MAX_OUTSTANDING_PINGS,
            error_cb=watch.error,
            disconnected_cb=watch.disconnected,
            reconnected_cb=watch.reconnected,
            closed_cb=watch.closed,
        )
    )
    refused = asyncio.ensure_future(watch.refused.wait())
    try:
        await asyncio.wait(
            {opening, refused}, timeout=connect_timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        await _check(opening, addresses, watch, connect_timeout_s, tls)
    except BaseException:
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError, nats.errors.Error):
            await opening
        await client.close()
        raise
    finally:
        refused.cancel()
    watch.opened = True
    watch.made()
    return client


def _present(*named: str | None) -> list[str]:
    """Return the files of credentials that are named; each must be there."""
    files = [file for file in named if file is not None]
    for file in files:
        if not Path(file).is_file():
            raise ConfigError(f"the NATS credentials file {file} does not exist")
    return files


class _Watch:
    """The callbacks of one connection."""

    def __init__(
        self,
        client: RobustClient,
        name: str,
        counters: ConnectionCounters,
        on_closed: Callable[[str], object],
        on_certificate: Callable[[float], object],
    ) -> None:
        self._client = client
        self.counters = counters
        self.secrets: list[Rotating] = []
        self._on_closed, self._on_certificate = on_closed, on_certificate
        self.opened = False
        self.refused = asyncio.Event()
        self.last_error: Exception | None = None
        self.certificate: Refused | None = None
        self.asked = ("", 0)
        self._log = _log.bind(connection=name)

    async def error(self, error: Exception) -> None:
        self.last_error = error
        certificate = refusal_by_nats(error)
        if certificate is not None and not self.opened:
            # No try more would change it: whoever set the names or files has to.
            self.certificate, self.asked = certificate, self._client.server_asked
            self.refused.set()
        if isinstance(error, _REFUSALS) or "uthoriz" in str(error):
            self.refused.set()
        if not self.opened:
            return
        self.counters.errors += 1
        text = str(error) or type(error).__name__
        if certificate is not None:
            # Files may still be replaced, there or here: it goes on trying.
            self._log.error("nats.certificate_refused", detail=certificate.why)
        elif isinstance(error, nats.errors.SlowConsumerError):
            self.counters.slow_consumers += 1
            self._log.error("nats.consumer_slowed", subject=error.subject)
        elif "permissions violation" in text.lower():
            self.counters.permission_errors += 1
            self._log.error("nats.permission_refused", detail=text)
        else:
            self._log.warning("nats.error_reported", detail=text)

    async def disconnected(self) -> None:
        if self.opened and not self._client.is_closed:
            self.counters.disconnects += 1
            self._log.warning("nats.connection_lost")

    def made(self) -> None:
        """Take in that a connection stands: whoever we said to be was believed."""
        for secret in self.secrets:
            secret.worked()
        if (expires := expiry_of(self._client.open_transport)) is not None:
            self._on_certificate(expires)

    async def reconnected(self) -> None:
        self.made()
        self.counters.reconnects += 1
        self._log.info("nats.connection_restored")

    async def closed(self) -> None:
        if self.opened:
            self._log.info("nats.connection_closed")
            self._on_closed(str(self._client.last_error or "by its owner"))


async def _check(
    opening: asyncio.Future[None],
    servers: Sequence[str],
    watch: _Watch,
    waited_s: float,
    tls: ClientTls | None,
) -> None:
    """Raise what kept the first connection from being made, without any secret."""
    where = _shown(servers)
    if watch.certificate is not None:
        own = None if tls is None else tls.cert_file
        raise await nats_error(watch.certificate, *watch.asked, own)
    if isinstance(watch.last_error, nats.errors.SecureConnWantedError):
        raise ConfigError(
            f"NATS at {where} speaks no TLS, which tls:// in NATS_URL or PSM_NATS_CA_FILE asks for"
        )
    if watch.refused.is_set():
        raise ConfigError(f"NATS at {where} refuses the credentials: {watch.last_error}")
    if not opening.done():
        reason = f" ({watch.last_error})" if watch.last_error else ""
        raise TransientError(f"NATS at {where} does not answer within {waited_s:g} s{reason}")
    try:
        opening.result()
    except (OSError, ValueError, nats.errors.Error) as error:
        detail = str(error) or type(error).__name__
        raise ConfigError(f"cannot connect to NATS at {where}: {detail}") from None


def _shown(servers: Sequence[str]) -> str:
    """Addresses without user and password."""
    parts = [urlsplit(server if "://" in server else f"nats://{server}") for server in servers]
    return ", ".join(f"{part.scheme}://{part.netloc.rpartition('@')[2]}" for part in parts)
