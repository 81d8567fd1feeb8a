"""The events of the rulebook: limits, halts, groups and tables, each signed by who says so.

They stand on `rulebook.<scope>.<id>` in the stream `RULEBOOK`, which never ages. `actor` is the
holder of the key `key_id`; `signature` is made over `signed_bytes`. What needs a second person
takes effect when another one, with another key, says the same: limits by `LimitsApproved`, every
other event by an equal one (`content`). One struct per event type, current version.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from psm.contracts import codec, limits
from psm.contracts.control_events import Digest
from psm.contracts.fields import (
    Currency,
    Day,
    Identifier,
    Key,
    NotNegative,
    Number,
    Payload,
    Signed,
    Symbol,
)
from psm.contracts.personal import PII, Explanation

Scope = Literal["firm", "group", "account", "strategy", "symbol"]
Table = Literal["clusters", "lists", "tags", "sessions", "calendars", "keys"]
Right = Literal["propose", "approve", "halt", "publish"]
RestrictedSide = Literal["buy", "sell", "both"]
HaltMode = Literal["reducing", "halted"]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

SCOPES: tuple[Scope, ...] = ("firm", "group", "account", "strategy", "symbol")
"""In the order in which limits and checks are reported."""
FIRM = "firm"
"""The one id of the scope `firm`."""

Person = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=limits.KEY_BYTES,
        description="who acted for the house, by pseudonym: holder of the key, never sealed",
        examples=["p-6f1d0c93a2b47e58"],
        extra_json_schema={PII: "actor"},
    ),
]
KeyId = Annotated[
    str,
    Meta(
        min_length=16,
        max_length=16,
        description="first 16 hex digits of SHA-256 of the raw public key",
        examples=["9f86d081884c7d65"],
    ),
]
PublicKey = Annotated[
    str, Meta(min_length=64, max_length=64, description="raw Ed25519 public key, hex")
]
Signature = Annotated[
    str,
    Meta(min_length=128, max_length=128, description="Ed25519 over the signed bytes, hex"),
]
Moment = Annotated[
    str,
    Meta(
        min_length=20,
        max_length=27,
        description="RFC 3339, UTC; compared with the clock of the log",
        examples=["2026-12-01T00:00:00Z"],
        extra_json_schema={"format": "date-time"},
    ),
]
Minute = Annotated[
    str,
    Meta(
        min_length=5,
        max_length=5,
        description="time of day, UTC; 24:00 is the day's end",
        examples=["08:30"],
        extra_json_schema={"pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$"},
    ),
]
LimitValues = Annotated[
    dict[str, Any],
    Meta(
        description="limits by the name of their check; the whole document, nothing is inherited",
        examples=[{"exposure_symbol": "2", "daily_loss": "0.05"}],
    ),
]


class RulebookEvent(Payload, frozen=True, kw_only=True):
    """What every event of the rulebook carries.

    Attributes:
        actor: who says so.
        reason: why.
        key_id: of the key that signed.
        signature: over `signed_bytes`.
    """

    actor: Person
    reason: Explanation
    key_id: KeyId
    signature: Signature

    def place(self) -> tuple[str, str]:
        """Return scope and id, of which its subject is made."""
        raise NotImplementedError

    def content(self) -> bytes:
        """Return what it says, whoever says so: two persons' equal events have equal contents."""
        said = {
            name: value
            for name, value in msgspec.to_builtins(self).items()
            if name not in RulebookEvent.__struct_fields__
        }
        return codec.canonical_bytes({type(self).__name__: said})


class ScopedEvent(RulebookEvent, frozen=True, kw_only=True):
    """An event about one scope; the id of `firm` is `firm`."""

    scope: Scope
    id: Key

    def place(self) -> tuple[str, str]:
        """Return scope and id."""
        return self.scope, self.id


class LimitsProposed(ScopedEvent, frozen=True, kw_only=True):
    """A whole document of limits; at once where it only tightens, else once approved.

    `version` is the last one of the scope plus 1.
    """

    version: Number
    limits: LimitValues
    valid_from: Moment | None = None
    valid_until: Moment | None = None


class LimitsApproved(ScopedEvent, frozen=True, kw_only=True):
    """A second person agrees to the newest proposal of a scope, by SHA-256 of its bytes."""

    proposal_hash: Digest


class LimitsRevoked(ScopedEvent, frozen=True, kw_only=True):
    """No limits of this scope any more, said by two; with `proposal_hash`: a proposal goes, by one.

    A proposal is withdrawn while it waits.
    """

    proposal_hash: Digest | None = None


class OverrideGranted(RulebookEvent, frozen=True, kw_only=True):
    """One order may fail one check until `expires`, at most 15 minutes ahead; said by two."""

    account_id: Key
    order_hash: Digest
    check: Key
    expires: Moment

    def place(self) -> tuple[str, str]:
        """Return the account's."""
        return "account", self.account_id


class HaltSet(ScopedEvent, frozen=True, kw_only=True):
    """A scope only reduces, or stands still, until lifted or `until`; said by one."""

    mode: HaltMode
    code: Key = "kill_switch"
    until: Moment | None = None


class HaltLifted(ScopedEvent, frozen=True, kw_only=True):
    """What was halted goes on; said by two, naming the hash of what they lift.

    `halt_hash`: SHA-256 of the bytes of a `HaltSet`, or of a latch of the engine in `RISK`.
    `rebase_peak`: the drawdown counts from here on.
    """

    halt_hash: Digest
    rebase_peak: bool = False


class StrategyEnabled(RulebookEvent, frozen=True, kw_only=True):
    """A named person lets a strategy trade on that repeated executions had stopped."""

    strategy_id: Key

    def place(self) -> tuple[str, str]:
        """Return the strategy's."""
        return "strategy", self.strategy_id


class ReservationReleased(RulebookEvent, frozen=True, kw_only=True):
    """An approved order that PSM never showed counts no more."""

    account_id: Key
    order_id: Identifier

    def place(self) -> tuple[str, str]:
        """Return the account's."""
        return "account", self.account_id


class GroupDefined(RulebookEvent, frozen=True, kw_only=True):
    """Which accounts one risk loop decides for, in which currency; said by two.

    An account is in one group: naming it here takes it out of the one it was in. `parent` is a
    group without members, whose limits in money its children share.
    """

    group: Key
    members: tuple[Key, ...]
    currency: Currency
    parent: Key | None = None

    def place(self) -> tuple[str, str]:
        """Return the group's."""
        return "group", self.group


class ListDefined(RulebookEvent, frozen=True, kw_only=True):
    """Symbols that must not be traded, or the only ones that may; said by two if it loosens.

    `side` of a restricted list that is forbidden. `accounts` for which it holds, None for all.
    """

    name: Key
    kind: Literal["restricted", "allowed"]
    symbols: tuple[Symbol, ...]
    side: RestrictedSide = "both"
    accounts: tuple[Key, ...] | None = None

    def place(self) -> tuple[str, str]:
        """Return the list's."""
        return "lists", self.name


class SymbolTags(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a symbol is counted under."""

    sector: Key | None = None
    issuer: Key | None = None
    currency: Currency | None = None


class TagsDefined(RulebookEvent, frozen=True, kw_only=True):
    """Sector, issuer and base currency of symbols, by name of the table; said by two."""

    name: Key
    tags: Annotated[dict[Symbol, SymbolTags], Meta(max_length=2000)]

    def place(self) -> tuple[str, str]:
        """Return the table's."""
        return "tags", self.name


class ClustersDefined(RulebookEvent, frozen=True, kw_only=True):
    """Which symbols move together, as one job computed it; said by a key that may publish.

    `clusters` is members by cluster; the hashes are of what it was computed from, and with.
    """

    version: Number
    as_of_day: Day
    window: Number
    symbols: tuple[Symbol, ...]
    clusters: Annotated[dict[Symbol, tuple[Symbol, ...]], Meta(max_length=2000)]
    beta: Annotated[dict[Symbol, Signed | None], Meta(max_length=2000)]
    sigma: Annotated[dict[Symbol, NotNegative], Meta(max_length=2000)]
    matrix_hash: Digest
    returns_hash: Digest
    code: Key
    shrinkage: NotNegative | None = None

    def place(self) -> tuple[str, str]:
        """Return that of the clusters."""
        return "clusters", "clusters"


class TradingWindow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """From `opens` to `closes` of a weekday, UTC."""

    day: Weekday
    opens: Minute
    closes: Minute


class SessionsDefined(RulebookEvent, frozen=True, kw_only=True):
    """When symbols may be traded; said by two if it loosens.

    `symbols` and `accounts` for which it holds, None for all. `closed`: days without a session.
    """

    name: Key
    windows: tuple[TradingWindow, ...]
    symbols: tuple[Symbol, ...] | None = None
    accounts: tuple[Key, ...] | None = None
    closed: tuple[Day, ...] = ()

    def place(self) -> tuple[str, str]:
        """Return the session's."""
        return "sessions", self.name


class DayCalendarDefined(RulebookEvent, frozen=True, kw_only=True):
    """When the days of a group begin, `firm` for all others; said by two.

    `boundaries` ascend; the first begins `first_day`, each the day after. Before the first and
    after the last one days have 24 hours: a single one is a fixed offset.
    """

    group: Key
    first_day: Day
    boundaries: tuple[Moment, ...]

    def place(self) -> tuple[str, str]:
        """Return the calendar's."""
        return "calendars", self.group


class KeyDefined(RulebookEvent, frozen=True, kw_only=True):
    """Whose key may do what; said by two. No right: the key is void, by its holder or by two.

    The first two keys of a rulebook say so themselves.
    """

    holder: Person
    public_key: PublicKey
    rights: tuple[Right, ...]

    def place(self) -> tuple[str, str]:
        """Return the holder's."""
        return "keys", self.holder


RULEBOOK_EVENTS: dict[str, type[RulebookEvent]] = {
    kind.__name__: kind
    for kind in (
        *(LimitsProposed, LimitsApproved, LimitsRevoked, OverrideGranted, HaltSet, HaltLifted),
        *(StrategyEnabled, ReservationReleased, GroupDefined, ListDefined, TagsDefined),
        *(ClustersDefined, SessionsDefined, DayCalendarDefined, KeyDefined),
    )
}
"""Struct of the current version, by event type."""
