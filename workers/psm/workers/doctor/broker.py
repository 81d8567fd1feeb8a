"""What of the broker must be so: version, JetStream, streams, replicas, sync, clock, room, user."""

from __future__ import annotations

import shlex
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from psm.adapters.broker_monitor import BrokerSight, look_at
from psm.adapters.jetstream import StreamNotFoundError
from psm.adapters.jetstream.api import call
from psm.adapters.jetstream.errors import PermissionRefusedError
from psm.adapters.jetstream.facts import UserFacts, server_facts, server_time, user_facts
from psm.adapters.jetstream.roles import EMBEDDED, Role
from psm.adapters.jetstream.streams_apply import (
    REQUIRED,
    Change,
    compare,
    replicas_not_current,
)
from psm.contracts.subjects import TRADES
from psm.workers.doctor.finding import Diagnosis, fault, fine, soon, unseen
from psm.workers.doctor.place import Installation
from psm.workers.process.running import find_running
from psm.workers.process.settings import about

OLDEST = (2, 12)
"""Of NATS: before it there are no atomic batches."""
CLOCK_S = 1.0
"""So far may a server's clock be from ours."""
FULL, FILLING = 0.95, 0.8
"""Share of a store."""
CERTIFICATE_DAYS = (14, 30)
"""Days left of a certificate, below which it is a fault, or to be renewed soon."""
_AUTHORITY = "authority"
_APPLY = "psm streams apply"
_USERS = "psm config nats-users > deploy/nats-users.conf"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_REFUSED = "refuses the credentials"
_OF_METADATA = "metadata."


async def broker(place: Installation) -> list[Diagnosis]:
    """Whether it answers, and is new enough."""
    if "broker" in place.reasons:
        return [fault("broker", place.reasons["broker"], _command_without_broker(place))]
    facts = server_facts(place.connection)
    version = tuple(int(part) for part in facts.version.split("-")[0].split(".")[:2])
    if version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return [
            fault(
                "broker",
                f"NATS {facts.version} is older than {oldest}, which has atomic batches",
                "docker compose pull nats  # or start nats-server 2.15 on the same store",
            )
        ]
    return [fine("broker", f"NATS {facts.version} at {facts.url}")]


def _command_without_broker(place: Installation) -> str:
    settings = place.given.settings
    if settings is None:
        return "psm config check"
    if find_running(place.given.env) is not None and place.given.is_given("NATS_URL"):
        if _REFUSED in place.reasons["broker"]:
            return 'eval "$(psm env --operator)"'  # who we are, and where, in one
        return place.given.unsetting("NATS_URL")
    return "psm up" if settings.env == "development" else "psm config show"


async def jetstream(place: Installation) -> list[Diagnosis]:
    """Whether it keeps streams at all."""
    if server_facts(place.nc).jetstream:
        return [fine("jetstream", "it is on")]
    return [
        fault(
            "jetstream",
            "the server has no JetStream: it is not configured, or gave up a store that failed",
            "echo 'jetstream { store_dir: \"/data\", sync_interval: always }' >> nats.conf",
        )
    ]


async def log(place: Installation) -> list[Diagnosis]:
    """Whether the settings say what this log was made with."""
    found = await compare(place.nc, place.settings)
    return [_constant(place, change) for change in found[TRADES] if _is_constant(change)] or [
        fine("log", f"the settings are those of the log: {place.settings.partitions} partitions")
    ]


def _is_constant(change: Change) -> bool:
    return change.field.startswith(_OF_METADATA) and change.action == "refuse"


def _constant(place: Installation, change: Change) -> Diagnosis:
    name = change.field.removeprefix(_OF_METADATA).removeprefix("psm.")
    variables = {field.name: field.env for field in about()}
    why = f"the log was made with {name} {change.actual}; here it is {change.desired}"
    if name in variables:
        return fault("log", why, place.given.setting(variables[name], str(change.actual)))
    return fault("log", f"{why}: this version cannot run it", "psm version")


async def streams(place: Installation) -> list[Diagnosis]:
    """Whether each stream is there and as strong as `psm streams apply` makes it."""
    found = await compare(place.nc, place.settings)
    changes = [change for every in found.values() for change in every if not _is_constant(change)]
    weaker = [_stream(change) for change in changes if change.weaker]
    return weaker or [fine("streams", f"{len(found)} streams as PSM needs them")]


def _stream(change: Change) -> Diagnosis:
    return fault(
        "streams",
        str(change),
        f"{_APPLY} --dry-run" if change.action == "refuse" else _APPLY,
    )


async def replicas(place: Installation) -> list[Diagnosis]:
    """Whether each copy holds everything, and production keeps more than one."""
    try:
        behind = await replicas_not_current(place.nc, REQUIRED, patience_s=0)
    except StreamNotFoundError as error:
        return [unseen("replicas", str(error), _APPLY)]
    if behind:
        # One that has just been started is behind for some seconds.
        behind = await replicas_not_current(place.nc, REQUIRED, patience_s=5)
    if behind:
        return [fault("replicas", one, "nats server report jetstream") for one in behind]
    copies = place.settings.replicas
    if copies == 1 and place.settings.env == "production":
        return [
            soon(
                "replicas",
                "each stream has one copy: with that server the log is gone",
                place.given.setting("PSM_REPLICAS", "3"),
            )
        ]
    return [fine("replicas", f"{copies} of each stream, all current")]


async def sync(place: Installation) -> list[Diagnosis]:
    """Whether the servers write to disk before they acknowledge."""
    sights = await _sights(place)
    if not sights:
        return [_unmonitored(place, "sync_interval")]
    lazy = [sight for sight in sights if not sight.syncs_always]
    return [
        fault(
            "sync_interval",
            f"{sight.server} acknowledges before it has written: a power cut loses events",
            "sed -i 's/sync_interval:.*/sync_interval: always/' nats.conf",
        )
        for sight in lazy
    ] or [fine("sync_interval", f"always, on {len(sights)} servers")]


async def room(place: Installation) -> list[Diagnosis]:
    """Whether the servers have room to write."""
    sights = await _sights(place)
    if not sights:
        return [_unmonitored(place, "disk_broker")]
    return [_room(sight) for sight in sights]


def _room(sight: BrokerSight) -> Diagnosis:
    used = f"{sight.server} uses {sight.store_used:.1%} of its store"
    if not sight.takes_writes or sight.store_used >= FULL:
        why = f"{sight.server}: {sight.problem}" if sight.problem else used
        return fault("disk_broker", why, "df -h  # make room, and start that server again")
    if sight.store_used >= FILLING:
        return soon("disk_broker", used, "nats stream report  # give it a larger disk in time")
    return fine("disk_broker", used)


async def _sights(place: Installation) -> list[BrokerSight]:
    urls = place.settings.nats_monitoring_url
    return await look_at(urls) if urls else []


def _unmonitored(place: Installation, check: str) -> Diagnosis:
    urls = place.settings.nats_monitoring_url
    if urls:
        return unseen(check, f"nothing answers at {urls}", "psm config show")
    host = urlsplit(place.settings.nats_url.split(",")[0].strip()).hostname
    return unseen(
        check,
        "the servers' monitoring port is not known",
        place.given.setting("PSM_NATS_MONITORING_URL", f"http://{host}:8222"),
    )


async def clock(place: Installation) -> list[Diagnosis]:
    """Whether the broker's clock, which stamps every event, is ours."""
    before = time.time()
    said = (await call(place.nc, f"STREAM.INFO.{TRADES}")).get("ts")
    if said is None:
        return [unseen("clock_broker", "the broker does not say its time")]
    middle = datetime.fromtimestamp((before + time.time()) / 2, UTC)
    return [clock_finding("clock_broker", "the broker", server_time(str(said)) - middle)]


def clock_finding(check: str, whose: str, off: timedelta) -> Diagnosis:
    """Return what a difference of clocks means."""
    seconds = off.total_seconds()
    way = "ahead of" if seconds > 0 else "behind"
    why = f"the clock of {whose} is {abs(seconds):.3f} s {way} this machine's"
    if abs(seconds) > CLOCK_S:
        return fault(check, why, "chronyc makestep")
    return fine(check, why)


async def permissions(place: Installation) -> list[Diagnosis]:
    """Whether the user of the settings may do what its role does."""
    try:
        facts = await user_facts(place.nc)
    except PermissionRefusedError:
        return [unseen("permissions", "this user may not ask what it may: be `operator`")]
    role = _role(facts.user)
    if role is None or facts.publish is None:
        return [fine("permissions", f"{facts.user or 'everybody'} may do everything")]
    if lacks := lacking(role, facts):
        return [fault("permissions", f"{role.name} may not use {', '.join(lacks)}", _USERS)]
    return [fine("permissions", f"{role.name} may do what its part needs")]


def lacking(role: Role, facts: UserFacts) -> list[str]:
    """Return the subjects that a role needs and its user may not use; none without limits."""
    wanted = ((role.may_publish(), facts.publish), (role.may_subscribe(), facts.subscribe))
    return [
        subject
        for needed, allowed in wanted
        if allowed is not None
        for subject in sorted(set(needed) - set(allowed))
    ]


async def inbox(place: Installation) -> list[Diagnosis]:
    """Whether answers arrive: each user hears below its own prefix alone."""
    asked, hears = place.settings.nats_inbox_prefix, place.hears
    if hears is None:
        return [fine("inbox", f"answers come to {asked}")]
    return [
        fault(
            "inbox",
            f"{place.settings.nats_user} hears answers below {hears} only, and asks for them at "
            f"{asked}: every request seems to time out",
            place.given.setting("PSM_NATS_INBOX_PREFIX", hears),
        )
    ]


def _role(name: str) -> Role | None:
    return {one.name: one for one in EMBEDDED}.get(name)


async def line(place: Installation) -> list[Diagnosis]:
    """Whether the line to the broker is private, and how long its certificate holds."""
    facts = server_facts(place.nc)
    if facts.certificate_ends is None:
        far = urlsplit(facts.url).hostname not in _LOOPBACK
        if far and place.settings.env == "production":
            return [
                fault(
                    "tls_broker",
                    f"the line to {facts.url} is plain: passwords and events can be read",
                    "psm certs init certs --leaf nats",
                )
            ]
        return [fine("tls_broker", "plain, " + ("beyond this machine" if far else "on loopback"))]
    mends = renewing(place.settings.nats_ca_file)
    return [certificate("tls_broker", "the server's", facts.certificate_ends, place.now, mends)]


def renewing(file: str | None) -> str:
    """Return the command that renews the certificates of the folder that a file is of."""
    path = Path(file or "certs/ca.crt")
    folders = [folder for folder in path.parents if (folder / _AUTHORITY).exists()]
    return f"psm certs renew {shlex.quote(str(folders[0] if folders else path.parent))}"


def certificate(check: str, whose: str, ends: datetime, now: datetime, mends: str) -> Diagnosis:
    """Return what the end of a certificate means; `mends` renews it."""
    days = (ends - now).days
    why = f"{whose} certificate holds for {days} days, until {ends:%Y-%m-%d}"
    if days < CERTIFICATE_DAYS[0]:
        return fault(check, why if days >= 0 else f"{whose} certificate ended on {ends:%F}", mends)
    return soon(check, why, mends) if days < CERTIFICATE_DAYS[1] else fine(check, why)
