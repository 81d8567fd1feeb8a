"""Who may do what on the broker: one NATS user per part of PSM and per kind of client.

This table is the only one. `roles_text` renders it for a NATS server, as
deploy/nats-users.conf, and for docs/security.md; the chart and compose.yaml name its users.

Every user has an inbox prefix of its own, so that none reads another one's answers. Whoever may
make consumers could let the broker deliver stored messages to any core subscriber: permissions do
not see a push consumer's subject. So clients that are not PSM's have none of that; they read single
messages, and consumers that an operator made.
"""

from __future__ import annotations

import re

from msgspec import Struct
from msgspec.structs import replace

from psm.adapters.jetstream.streams import FLEET, RECORDED
from psm.contracts.subjects import (
    HEALTH,
    HEALTH_LOG,
    MARKETDATA,
    OPS,
    ORDERS,
    PSM,
    RISK,
    RISK_CHECK,
    RULEBOOK,
    SNAPSHOTS,
    STREAM_ID_RULE,
    TRADES,
    is_stream_id,
    trades,
)

_API = "$JS.API"
_EVERY_STREAM = (TRADES, PSM, SNAPSHOTS, *RECORDED, RULEBOOK, OPS, FLEET, HEALTH)
_UPDATES = ("psm.>",)
_CHAIN = ("marketdata.>", "signals.>", "risk.>", "orders.>", "fills.>", "marks.*", *_UPDATES)
_READ_REQUESTS = ("psm.get.>", RISK_CHECK)
_HEAD = "psm.get.head"
_LIVE = "_psmfleet.live.*"
_PRODUCER = re.compile(r"[a-z][a-z0-9_]{0,31}")


class Role(Struct, frozen=True, kw_only=True):
    """One NATS user.

    Attributes:
        name: of the user; its inbox prefix is `_INBOX.<name>`, and the configuration takes its
            password from the variable `NATS_<NAME>_PASSWORD`.
        about: what it is for.
        publish: subjects besides the JetStream API.
        subscribe: subjects besides its inbox.
        unheard: subjects that `subscribe` would match, and must not.
        scans: streams it reads with consumers that it makes, and by single messages.
        gets: streams it reads by single messages only.
        follows: streams of which it reads consumers that other users made.
        makes: streams it may create and strengthen.
        api: more operations of the JetStream API, below `$JS.API`.
        answers: whether it may answer requests.
        inbox: prefix of its inboxes, where that is not its own.
    """

    name: str
    about: str
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    unheard: tuple[str, ...] = ()
    scans: tuple[str, ...] = ()
    gets: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    api: tuple[str, ...] = ()
    answers: bool = False
    inbox: str = ""

    @property
    def inbox_prefix(self) -> str:
        """Prefix of the subjects at which it gets answers."""
        return self.inbox or f"_INBOX.{self.name}"

    @property
    def password_variable(self) -> str:
        """Environment variable of the broker that holds its password."""
        return f"NATS_{self.name.upper()}_PASSWORD"

    def may_publish(self) -> list[str]:
        """Return every subject it may publish to, the JetStream API's included."""
        operations = [
            *(f"STREAM.INFO.{stream}" for stream in self.scans),
            *(f"STREAM.MSG.GET.{stream}" for stream in (*self.scans, *self.gets)),
            # A leader's answer is JSON, in which a subject that is no text is not exact.
            *(f"DIRECT.GET.{stream}" for stream in self.scans),
            *(f"DIRECT.GET.{stream}{more}" for stream in self.gets for more in ("", ".>")),
            *(
                f"CONSUMER.{operation}.{stream}.*"
                for stream in self.scans
                for operation in ("CREATE", "MSG.NEXT", "DELETE")
            ),
            *(
                f"CONSUMER.{operation}.{stream}.*"
                for stream in self.follows
                for operation in ("INFO", "MSG.NEXT")
            ),
            *(f"STREAM.{verb}.{name}" for name in self.makes for verb in ("CREATE", "UPDATE")),
            *self.api,
        ]
        acknowledgements = [f"$JS.ACK.{stream}.>" for stream in self.follows]
        return [*self.publish, *(f"{_API}.{name}" for name in operations), *acknowledgements]

    def may_subscribe(self) -> list[str]:
        """Return every subject it may subscribe to, its inbox included."""
        return [f"{self.inbox_prefix}.>", *self.subscribe]


_SERVE = Role(
    name="api",
    about="`psm serve`: reads over HTTP and NATS, the past",
    publish=(_LIVE, RISK_CHECK, "ops.access"),
    subscribe=("psm.get.*", "$SRV.>"),
    scans=(TRADES, PSM, RISK, RULEBOOK, MARKETDATA),
    api=(f"DIRECT.GET.{FLEET}", f"STREAM.MSG.GET.{OPS}"),
    answers=True,
)

ROLES: tuple[Role, ...] = (
    Role(
        name="worker",
        about="`psm worker`: folds the log, commits updates, saves snapshots",
        publish=("_psm.>", "snapshots.>", "$KV.psm-fleet.*", "_psmfleet.>", HEALTH_LOG),
        subscribe=("_psmfleet.>", _HEAD),
        scans=(TRADES, PSM, SNAPSHOTS, OPS),
        gets=(HEALTH,),
        api=("STREAM.INFO.*", f"DIRECT.GET.{FLEET}"),
        answers=True,
    ),
    Role(
        name="projector",
        about="`psm projector`: updates, decisions, rules, books and corrected logs into views",
        scans=(TRADES, PSM, RISK, RULEBOOK, MARKETDATA),
    ),
    Role(
        name="archiver",
        about="`psm archive`: reads the log, rules and recorded streams into the archive",
        scans=(TRADES, RULEBOOK, *RECORDED, PSM),
    ),
    Role(
        name="risk",
        about="`psm risk worker`: decides on orders, answers `psm.risk.check`",
        publish=(
            *("_risk.>", "snapshots.risk.*", "orders.command.*", "psm.get.live"),
            *("$KV.psm-fleet.risk.*", "_psmfleet.>", HEALTH_LOG),
        ),
        subscribe=("_psmfleet.>", "psm.*.*", "$SRV.>"),
        unheard=("psm.get.>",),
        scans=(TRADES, PSM, ORDERS, RISK, RULEBOOK),
        gets=(HEALTH, SNAPSHOTS),
        api=("STREAM.INFO.*", f"DIRECT.GET.{FLEET}"),
        answers=True,
    ),
    Role(
        name="marks",
        about="`psm marks`: samples ticks into marks",
        publish=("marks.*", _HEAD),
        scans=(MARKETDATA, TRADES),
        api=("STREAM.INFO.*",),
    ),
    Role(
        name="importer",
        about="`psm import`: files of venues into accounts",
        publish=("trades.*", "instruments.*", _HEAD),
        scans=(TRADES,),
        api=("STREAM.INFO.*",),
    ),
    _SERVE,
    Role(
        name="ingest",
        about="`psm serve --ingest`: the same, and `POST /psm/events`",
        publish=(
            *("trades.*", "marks.*", "instruments.*", "collateral.*", _HEAD, HEALTH_LOG),
            *_SERVE.publish,
        ),
        subscribe=_SERVE.subscribe,
        scans=_SERVE.scans,
        gets=(HEALTH,),
        api=_SERVE.api,
        answers=True,
    ),
    Role(
        name="streams",
        about="`psm streams apply`: creates and strengthens the streams",
        makes=_EVERY_STREAM,
        api=("STREAM.INFO.*",),
    ),
    Role(
        name="operator",
        about="people: `fleet`, `dlq`, `audit`, `replay`, `views`, `recover partition` and the "
        "other commands, the `nats` command line; consumers for readers",
        publish=(
            "trades.*",
            "repair.*.*",
            "control.*",
            "ops.*",
            "replay.>",
            "psm.get.*",
            "$SRV.>",
            "$SYS.REQ.USER.INFO",
        ),
        subscribe=_UPDATES,
        unheard=_READ_REQUESTS,
        api=(
            "INFO",
            "STREAM.NAMES",
            "STREAM.LIST",
            "STREAM.INFO.*",
            "STREAM.MSG.GET.*",
            "DIRECT.GET.>",
            "CONSUMER.>",
            f"STREAM.LEADER.STEPDOWN.{TRADES}",
            f"STREAM.LEADER.STEPDOWN.{PSM}",
        ),
    ),
    Role(
        name="officer",
        about="risk officers: `psm risk limits`, `halt`, `resume`, `groups`; his key says what "
        "each may say",
        publish=("rulebook.*.*", "_risk.owner.*.record"),
        scans=(RULEBOOK,),
        gets=(RISK,),
    ),
    Role(
        name="clusters",
        about="`psm risk clusters publish`: computes clusters from the marks of the log",
        publish=("rulebook.clusters.*",),
        scans=(RULEBOOK, TRADES),
    ),
    Role(
        name="auditor",
        about="proofs: `psm validate`, also `--risk`, `psm risk explain`, `shadow`, `psm anchor`; "
        "writes nothing but the record of a replay that has a reason",
        publish=("ops.replay",),
        scans=(TRADES, PSM, ORDERS, RISK, RULEBOOK, OPS),
        api=("STREAM.INFO.*",),
    ),
    Role(
        name="admin",
        about="people, in an emergency: `recover updates`, `recover log`, `nats stream rm`",
        publish=(
            "trades.*",
            "repair.*.*",
            "marks.*",
            "instruments.*",
            "collateral.*",
            "control.*",
            "ops.*",
            "psm.get.*",
        ),
        api=(">",),
    ),
    Role(
        name="replay",
        about="replays and explanations: reads every stream, publishes into none but the record "
        "of replays and where shadow strategies listen",
        publish=("psm.get.*", "ops.replay", "replay.>"),
        api=(
            "INFO",
            "STREAM.NAMES",
            "STREAM.LIST",
            "STREAM.INFO.*",
            "STREAM.MSG.GET.*",
            "DIRECT.GET.>",
            "CONSUMER.CREATE.>",
            "CONSUMER.INFO.>",
            "CONSUMER.MSG.NEXT.>",
            "CONSUMER.DELETE.>",
        ),
    ),
    Role(
        name="publisher",
        about="trading services: events of accounts",
        publish=("trades.*", _HEAD),
        gets=(TRADES,),
    ),
    Role(
        name="market",
        about="the market data service: ticks, marks, instruments, collateral",
        publish=("marketdata.>", "marks.*", "instruments.*", "collateral.*", _HEAD),
        gets=(TRADES,),
    ),
    Role(
        name="service",
        about="strategies, risk: record what they see and decide, ask for orders, and hear each "
        "other",
        publish=("signals.>", "risk.*.*", "orders.command.*", "psm.get.*", RISK_CHECK),
        subscribe=_CHAIN,
        unheard=_READ_REQUESTS,
        gets=(PSM,),
    ),
    Role(
        name="execution",
        about="what sends orders to venues: says what became of them, which ends what risk has "
        "reserved, and what was filled",
        publish=("orders.status.*", "fills.>", "psm.get.*"),
        subscribe=_CHAIN,
        unheard=_READ_REQUESTS,
        gets=(PSM,),
    ),
    Role(
        name="reader",
        about="risk engines and dashboards: hear updates and marks, read back what they missed",
        publish=("psm.get.*",),
        subscribe=(*_UPDATES, "marks.*"),
        unheard=_READ_REQUESTS,
        gets=(PSM,),
        follows=(PSM,),
    ),
)


def role(name: str) -> Role:
    """Return the role of this name; raises `KeyError` if there is none."""
    return {one.name: one for one in ROLES}[name]


def producer(text: str) -> Role:
    """Return a `publisher` for some accounts alone; it reads what that one reads.

    Args:
        text: `NAME=ACCOUNT,ACCOUNT`.

    Raises:
        ValueError: the name is none of a user, or taken, or there is no such account.
    """
    name, _, listed = text.partition("=")
    accounts = listed.split(",")
    if not _PRODUCER.fullmatch(name) or any(one.name == name for one in ROLES):
        raise ValueError(f"{name!r} cannot be a producer: small letters, digits and _, and no role")
    if wrong := [account for account in accounts if not is_stream_id(account)]:
        raise ValueError(f"producer {name}: {wrong[0]!r} is no account id: {STREAM_ID_RULE}")
    subjects = tuple(trades(account) for account in accounts)
    return replace(role("publisher"), name=name, publish=(*subjects, _HEAD))


def _without_credentials() -> Role:
    """Return what whoever comes without a name to an embedded broker may do.

    Everything that producers, readers and replays may; nothing that is PSM's or an operator's.
    """
    names = ("publisher", "market", "service", "execution", "reader", "replay")
    ordinary = [role(name) for name in names]
    subscribe = {subject: None for one in ordinary for subject in one.subscribe}
    return Role(
        name="local",
        about="clients of an embedded broker that give no user",
        publish=(
            *{subject: None for one in ordinary for subject in one.publish},
            "$SRV.>",
            "$JS.ACK.>",
            "$JS.FC.>",
        ),
        subscribe=tuple(subscribe),
        unheard=(*_READ_REQUESTS, *(f"{one.inbox_prefix}.>" for one in (*ROLES, OWNER))),
        gets=(TRADES, PSM),
        api=(
            *role("replay").api,
            "CONSUMER.DURABLE.CREATE.>",
            "CONSUMER.NAMES.>",
            "CONSUMER.LIST.>",
        ),
        inbox="_INBOX",
    )


def _owner() -> Role:
    """Return what the owner of an embedded broker's folder may do: all that people may anywhere.

    Still not what the parts of PSM write: updates, snapshots and the fleet's table.
    """
    names = ("operator", "officer", "admin", "market", "service", "execution", "replay")
    people = [role(name) for name in names]
    return Role(
        name="owner",
        about="commands of the user who runs an embedded broker",
        publish=(
            *{subject: None for one in people for subject in one.publish},
            "$JS.ACK.>",
            "$JS.FC.>",
        ),
        subscribe=tuple({subject: None for one in people for subject in one.subscribe}),
        unheard=_READ_REQUESTS,
        api=(">",),
    )


OWNER = _owner()
LOCAL = _without_credentials()
EMBEDDED = (*ROLES, OWNER, LOCAL)
"""Users of an embedded broker."""
