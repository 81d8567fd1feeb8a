"""Compare the streams with what PSM needs; create, strengthen, or refuse to start.

Nothing here ever shrinks or weakens a stream: a longer age, more replicas or a wider limit than
required stays. What cannot change within the life of a log is refused with the way out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream.api import call
from psm.adapters.jetstream.errors import ApiTransientError, StoreFullError, StreamNotFoundError
from psm.adapters.jetstream.reads import StreamInfo, stream_info
from psm.adapters.jetstream.streams import FLEET, LogSettings, desired
from psm.adapters.tasks import BackOff
from psm.contracts.errors import ConfigError
from psm.contracts.subjects import HEALTH, ORDERS, PSM, RISK, RULEBOOK, SNAPSHOTS, TRADES

REQUIRED = (TRADES, PSM, SNAPSHOTS, FLEET, HEALTH)
REQUIRED_FOR_RISK = (TRADES, PSM, SNAPSHOTS, ORDERS, RISK, RULEBOOK, FLEET, HEALTH)

# In these fields a larger value is stronger, and 0 or less means no limit at all.
_AT_LEAST = frozenset(
    {
        "num_replicas",
        "max_age",
        "max_msgs",
        "max_bytes",
        "max_msgs_per_subject",
        "max_msg_size",
        "duplicate_window",
    }
)
_FLAGS = frozenset({"allow_direct", "allow_atomic", "deny_delete", "deny_purge"})
_FIXED = frozenset({"storage", "retention"})
_HARMLESS = frozenset({"compression"})
# The bucket's age is the life of a member key and its one value per key is the membership:
# more is not stronger there. A wider snapshot history only costs disk.
_EXACT_HERE = frozenset({(FLEET, "max_age"), (FLEET, "max_msgs_per_subject")})
_OUTGROWN = {RISK: frozenset({"risk.>"})}
"""Subjects that a stream once had and gives up: whoever may record may not write what is fenced."""

CURRENT_S = 30.0
"""How long a replica may take to become current: after a restart it is two to seven seconds."""

_ASK_AGAIN_S = 0.5
_CREATE_S = 10.0
_NEW_GENERATION = (
    "it is fixed for the life of a log; a different value needs a new generation "
    "(a new log that continues the numbering)"
)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One difference between a stream and what PSM needs.

    Attributes:
        stream: name of the JetStream stream.
        field: of its configuration; empty when the stream is missing.
        actual: what is there.
        desired: what `apply` sets.
        action: `create` or `update` what `apply` does; `refuse` what it will not do.
        weaker: whether a worker refuses to start on it.
        detail: why it is refused, or empty.
    """

    stream: str
    field: str
    actual: Any
    desired: Any
    action: Literal["create", "update", "refuse"]
    weaker: bool = True
    detail: str = ""

    def __str__(self) -> str:
        if self.action == "create":
            return f"{self.stream}: the stream does not exist"
        text = (
            f"{self.stream}: {self.field} is {_shown(self.actual)}, needed {_shown(self.desired)}"
        )
        return f"{text}: {self.detail}" if self.detail else text


def diff(wanted: Mapping[str, Any], info: StreamInfo | None) -> list[Change]:
    """Return how a stream differs from what is wanted, field by field; empty if good enough."""
    name = wanted["name"]
    if info is None:
        return [Change(stream=name, field="", actual=None, desired=dict(wanted), action="create")]
    changes: list[Change] = []
    for field, value in wanted.items():
        if field == "metadata":
            changes += _metadata(name, value, info)
        elif field == "subjects":
            changes += _subjects(name, value, info.config.get("subjects") or [])
        elif field != "name":
            changes += _field(name, field, value, info)
    changes += [
        Change(
            stream=name,
            field=field,
            actual=info.config[field],
            desired=None,
            action="refuse",
            detail=detail,
        )
        for field, detail in _MUST_BE_OFF.items()
        if info.config.get(field) and not wanted.get(field)
    ]
    return changes


async def compare(nc: Client, settings: LogSettings) -> dict[str, list[Change]]:
    """Return the differences of every stream, by its name."""
    wanted = desired(settings)
    return {config["name"]: diff(config, await _info(nc, config["name"])) for config in wanted}


async def apply(nc: Client, settings: LogSettings, *, dry_run: bool = False) -> list[Change]:
    """Create and strengthen the streams until they are as PSM needs them; idempotent.

    Args:
        nc: connection of a user that may create and update streams.
        settings: partitions, replicas and valuation interval.
        dry_run: only return what would be done.

    Returns:
        What was (or would be) done; empty when nothing was to do.

    Raises:
        ConfigError: something must not be changed on a stream that exists; nothing was changed.
    """
    wanted = {config["name"]: config for config in desired(settings)}
    infos = {name: await _info(nc, name) for name in wanted}
    changes = {name: diff(config, infos[name]) for name, config in wanted.items()}
    every = [change for found in changes.values() for change in found]
    refused = [change for change in every if change.action == "refuse"]
    if refused and not dry_run:
        raise ConfigError(_listed("the streams cannot be changed to what is asked for", refused))
    if not dry_run:
        for name, found in changes.items():
            await _apply_one(nc, wanted[name], infos[name], found)
    return every


async def check(nc: Client, settings: LogSettings, names: Iterable[str] = REQUIRED) -> None:
    """Make sure that the streams are at least as strong as PSM needs them.

    Raises:
        ConfigError: listing every way in which they are weaker.
    """
    found = await compare(nc, settings)
    weaker = [change for name in names for change in found[name] if change.weaker]
    if weaker:
        raise ConfigError(
            _listed("the JetStream streams are weaker than required", weaker)
            + "\nTry: psm streams apply --dry-run"
        )


async def replicas_not_current(
    nc: Client, names: Iterable[str] = REQUIRED, *, patience_s: float = CURRENT_S
) -> list[str]:
    """Return which replicas do not become current within `patience_s`, as sentences with the cure.

    It asks again only while there are some.
    """
    deadline = asyncio.get_running_loop().time() + patience_s
    streams = list(names)
    while True:
        infos = [await stream_info(nc, name) for name in streams]
        behind = [(info.name, one) for info in infos for one in info.replicas if not one.current]
        if not behind or asyncio.get_running_loop().time() >= deadline:
            break
        streams = sorted({name for name, _ in behind})
        await asyncio.sleep(_ASK_AGAIN_S)
    return [
        f"{stream}: the replica on {one.server} is {'away' if one.offline else 'not current'} "
        f"and {one.lag} operations behind for {patience_s:g} s. Restart that server; if it stays "
        f"so, `nats stream cluster peer-remove {stream} {one.server}` has another copy made"
        for stream, one in behind
    ]


_MUST_BE_OFF = {
    "allow_msg_ttl": "message TTLs delete messages in spite of deny_delete; cannot be turned off",
    "allow_rollup_hdrs": "whoever may publish could delete what is on the subject",
    "sealed": "a sealed stream takes no messages and cannot be opened again",
    "mirror": "a mirror takes no messages: promote it first",
    "sources": "sourced messages arrive outside of the producers' rules",
}


async def _info(nc: Client, name: str) -> StreamInfo | None:
    try:
        return await stream_info(nc, name)
    except StreamNotFoundError:
        return None


async def _apply_one(
    nc: Client, wanted: Mapping[str, Any], info: StreamInfo | None, changes: Sequence[Change]
) -> None:
    name = wanted["name"]
    if not changes:
        return
    if info is None:
        await _create(nc, wanted)
        return
    config = dict(info.config)
    for change in changes:
        if change.field.startswith("metadata."):
            key = change.field.removeprefix("metadata.")
            config["metadata"] = {**(config.get("metadata") or {}), key: change.desired}
        else:
            config[change.field] = change.desired
    await call(nc, f"STREAM.UPDATE.{name}", config)


async def _create(nc: Client, wanted: Mapping[str, Any]) -> None:
    """Create a stream; to create it again with the same fields is no error.

    The broker still removes the files of a deleted stream of that name after it has answered.
    """
    back_off = BackOff(0.1, 1.0)
    deadline = asyncio.get_running_loop().time() + _CREATE_S
    while True:
        try:
            await call(nc, f"STREAM.CREATE.{wanted['name']}", wanted)
        except ApiTransientError as error:
            full = isinstance(error, StoreFullError)
            if full or asyncio.get_running_loop().time() >= deadline:
                raise
            await asyncio.sleep(back_off.next_s())
        else:
            return


def _field(name: str, field: str, value: Any, info: StreamInfo) -> list[Change]:
    actual = info.config.get(field)
    harmless = field in _HARMLESS
    if field == "compression" and (info.config.get("num_replicas") or 1) > 1:
        # It may have more replicas than asked for. A killed one may never become current again.
        value, harmless = "none", False
    if _satisfies(name, field, actual, value):
        return []
    detail = ""
    if field in _FIXED:
        detail = "the broker cannot change it on a stream that exists"
    elif field == "subject_transform" and (
        actual or (info.last_sequence > 0 and name not in _OUTGROWN)
    ):
        # Old messages keep the subject they were stored under: accounts would change places.
        detail = _NEW_GENERATION
    return [
        Change(
            stream=name,
            field=field,
            actual=actual,
            desired=value,
            action="refuse" if detail else "update",
            weaker=not harmless,
            detail=detail,
        )
    ]


def _satisfies(name: str, field: str, actual: Any, wanted: Any) -> bool:
    if field in _AT_LEAST and (name, field) not in _EXACT_HERE:
        if actual is None or actual <= 0:
            return field != "num_replicas"
        return bool(0 < wanted <= actual)
    if field in _FLAGS:
        return bool(actual) or not wanted
    return bool(actual == wanted)


def _subjects(name: str, wanted: Sequence[str], actual: Sequence[str]) -> list[Change]:
    missing = [subject for subject in wanted if subject not in actual]
    extra = [subject for subject in actual if subject not in wanted]
    outgrown = _OUTGROWN.get(name, frozenset())
    if set(extra) - outgrown:
        return [
            Change(
                stream=name,
                field="subjects",
                actual=list(actual),
                desired=list(wanted),
                action="refuse",
                detail=f"{', '.join(extra)} must not be stored here; remove it from the stream",
            )
        ]
    if not missing and not extra:
        return []
    return [
        Change(
            stream=name,
            field="subjects",
            actual=list(actual),
            desired=list(wanted),
            action="update",
        )
    ]


def _metadata(name: str, wanted: Mapping[str, str], info: StreamInfo) -> list[Change]:
    actual = info.config.get("metadata") or {}
    return [
        Change(
            stream=name,
            field=f"metadata.{key}",
            actual=actual.get(key),
            desired=value,
            action="refuse" if key in actual else "update",
            detail=_NEW_GENERATION if key in actual else "",
        )
        for key, value in wanted.items()
        if actual.get(key) != value
    ]


def _listed(head: str, changes: Iterable[Change]) -> str:
    return "\n".join([f"{head}:", *(f"  - {change}" for change in changes)])


def _shown(value: Any) -> str:
    return "not set" if value is None else msgspec.json.encode(value).decode()
