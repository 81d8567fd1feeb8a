"""The ports of the fleet on NATS: member keys in a bucket, news and probes on core subjects.

    _psmfleet.news              each change of a key, told to everybody at once
    _psmfleet.probe.<member>    answered by that member, or by the broker when it is gone

These subjects lie outside of `_psm.>`, which the stream PSM stores. News may get lost: the keys
are read every second anyway.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from psm.adapters.jetstream import (
    ApiConfigError,
    ApiConflictError,
    PermissionRefusedError,
    last_values,
    publish_expected,
)
from psm.adapters.jetstream.streams import FLEET, FLEET_BUCKET
from psm.adapters.logs import get_logger
from psm.contracts.codec import encode
from psm.contracts.errors import ConfigError, ContractError, TransientError
from psm.workers.fleet.members import Member, MemberEntry, dump_member, load_member
from psm.workers.fleet.ports import ProbeAnswer

NEWS = "_psmfleet.news"
PROBE = "_psmfleet.probe"

_KEYS = f"$KV.{FLEET_BUCKET}"
_DELETED = {"KV-Operation": "DEL"}
_TIMEOUT_S = 2.0
_LISTEN_TRIES = 5
_PROBE_TIMEOUT_S = 0.5
_RECOVER_S = 3.0  # after our own reconnection: the others may still be on their way back
_log = get_logger()
_decoder = msgspec.json.Decoder(MemberEntry)


class NatsMembers:
    """`MemberStore` on the bucket `psm-fleet`."""

    def __init__(self, nc: Client, group: str | None = None) -> None:
        """Members of one kind see each other only.

        Args:
            nc: connection.
            group: `risk` for those that share the slots of the risk engine; None for those that
                share the partitions of the log.
        """
        self._nc = nc
        self._keys = _KEYS if group is None else f"{_KEYS}.{group}"
        self._news = NEWS if group is None else f"{NEWS}.{group}"
        self._worked = False

    async def listen(self, hear: Callable[[MemberEntry], None]) -> None:
        """Call `hear` with whatever changes from now on."""

        async def heard(message: Msg) -> None:
            try:
                hear(_decoder.decode(message.data))
            except (msgspec.MsgspecError, ValueError):
                _log.warning("fleet.news_unreadable", bytes=len(message.data))

        await self._nc.subscribe(self._news, cb=heard)

    async def put(self, member: Member) -> int:
        revision = await self._write(member.id, dump_member(member), None, None)
        await self._tell(MemberEntry(id=member.id, revision=revision, member=member))
        return revision

    async def delete(self, member_id: str, revision: int | None) -> int | None:
        try:
            deleted = await self._write(member_id, b"", revision, _DELETED)
        except ApiConflictError:
            return None
        await self._tell(MemberEntry(id=member_id, revision=deleted, member=None))
        return deleted

    async def entries(self) -> list[MemberEntry]:
        try:
            stored = await last_values(self._nc, FLEET, f"{self._keys}.*", timeout_s=_TIMEOUT_S)
        except ApiConfigError as error:
            raise self._later(error) from error
        found = []
        for message in stored:
            name = message.subject.removeprefix(f"{self._keys}.")
            try:
                member = load_member(message.data) if message.data else None
            except ContractError as error:
                _log.warning("fleet.key_unreadable", member=name, detail=error.detail)
                continue
            found.append(MemberEntry(id=name, revision=message.sequence, member=member))
        return found

    async def _write(
        self, key: str, data: bytes, expected: int | None, headers: dict[str, str] | None
    ) -> int:
        try:
            ack = await publish_expected(
                self._nc,
                FLEET,
                f"{self._keys}.{key}",
                data,
                expected=expected,
                headers=headers,
                timeout_s=_TIMEOUT_S,
            )
        except ApiConfigError as error:
            raise self._later(error) from error
        self._worked = True
        return ack.sequence

    def _later(self, error: ApiConfigError) -> Exception:
        """What worked before may be missing for moments while a cluster restarts."""
        return TransientError(str(error)) if self._worked else error

    async def _tell(self, entry: MemberEntry) -> None:
        try:
            await self._nc.publish(self._news, encode(entry))
        except nats.errors.Error as error:
            _log.info("fleet.news_not_sent", detail=str(error))


class NatsProber:
    """`Prober` on private subjects."""

    def __init__(self, nc: Client, clock: Callable[[], float]) -> None:
        self._nc = nc
        self._clock = clock
        self._reconnects = nc.stats["reconnects"]
        self._reconnected_at: float | None = None

    async def listen(self, member_id: str) -> None:
        """Answer the probes of this member, and check that it works.

        Raises:
            ConfigError: nobody can reach it; then every other member would think it gone.
        """

        async def answer(message: Msg) -> None:
            await message.respond(b"")

        subject = f"{PROBE}.{member_id}"
        await self._nc.subscribe(subject, cb=answer)
        await self._nc.flush()
        for left in reversed(range(_LISTEN_TRIES)):
            try:
                await self._nc.request(subject, b"", timeout=_TIMEOUT_S)
            except nats.errors.Error as error:
                # Where everything starts at once an answer may be late; nobody there is for good.
                if left and isinstance(error, nats.errors.TimeoutError):
                    continue
                raise ConfigError(
                    f"no answer on {subject}: the NATS user must be allowed to publish and "
                    "subscribe on _psmfleet.>"
                ) from error
            return

    async def probe(self, member_id: str) -> ProbeAnswer:
        if not self._sure():
            return ProbeAnswer.UNSURE
        try:
            await self._nc.request(f"{PROBE}.{member_id}", b"", timeout=_PROBE_TIMEOUT_S)
        except nats.errors.NoRespondersError:
            return ProbeAnswer.GONE if self._sure() else ProbeAnswer.UNSURE
        except nats.errors.TimeoutError:
            return ProbeAnswer.SILENT if self._sure() else ProbeAnswer.UNSURE
        except (nats.errors.Error, PermissionRefusedError):
            return ProbeAnswer.UNSURE
        return ProbeAnswer.ALIVE

    def _sure(self) -> bool:
        """Return whether our own connection is up, and not only since a moment."""
        if self._nc.stats["reconnects"] != self._reconnects:
            self._reconnects = self._nc.stats["reconnects"]
            self._reconnected_at = self._clock()
        since = self._reconnected_at
        return self._nc.is_connected and (since is None or self._clock() - since > _RECOVER_S)
