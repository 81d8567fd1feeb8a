"""What a connected server says of itself and of us: version, time, certificate, permissions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream.api import ask, decoded
from psm.adapters.jetstream.messages import time_ns
from psm.adapters.tls import expiry_of

_USER_INFO = "$SYS.REQ.USER.INFO"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The server at the other end of a connection.

    Attributes:
        name: of the server.
        version: such as `2.15.1`.
        jetstream: whether it has JetStream.
        url: address as it was connected to, without user and password.
        certificate_ends: until when its certificate holds; None where the line is plain.
    """

    name: str
    version: str
    jetstream: bool
    url: str
    certificate_ends: datetime | None


class UserFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Who we are to the broker.

    Attributes:
        user: its name; empty for a connection that has none.
        publish, subscribe: subjects that are allowed; None where everything is.
    """

    user: str
    publish: tuple[str, ...] | None
    subscribe: tuple[str, ...] | None


def server_facts(nc: Client) -> ServerFacts:
    """Return what the greeting and the line say."""
    said: dict[str, Any] = nc._server_info  # noqa: SLF001 - nats-py shows only the version
    url = nc.connected_url
    return ServerFacts(
        name=str(said.get("server_name", "")),
        version=str(said.get("version", "0")),
        jetstream=bool(said.get("jetstream")),
        url="" if url is None else f"{url.scheme}://{url.hostname}:{url.port}",
        certificate_ends=_certificate_ends(nc),
    )


async def user_facts(nc: Client) -> UserFacts:
    """Return who we are and what we may.

    Raises:
        PermissionRefusedError: this user may not ask.
        TransientError: no answer.
    """
    data = decoded((await ask(nc, _USER_INFO)).data, _USER_INFO).get("data") or {}
    allowed = data.get("permissions") or {}
    return UserFacts(
        user=str(data.get("user", "")),
        publish=_subjects(allowed.get("publish")),
        subscribe=_subjects(allowed.get("subscribe")),
    )


def server_time(text: str) -> datetime:
    """Return a time of the broker, which writes nanoseconds."""
    return _EPOCH + timedelta(microseconds=time_ns(text) // 1000)


def _subjects(permission: dict[str, Any] | None) -> tuple[str, ...] | None:
    return None if permission is None else tuple(permission.get("allow") or ())


def _certificate_ends(nc: Client) -> datetime | None:
    expires = expiry_of(getattr(nc, "open_transport", None))
    return None if expires is None else datetime.fromtimestamp(expires, UTC)
