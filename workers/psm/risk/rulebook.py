"""The rulebook: who may do what, folded from the stream `RULEBOOK` alone, from its start.

A pure fold: the same messages give the same rules, refusals included, on every machine. It is told
how to verify a signature, knows no clock but the times that the stream gave its messages, and what
it answers about a moment it answers for the clock that it is asked with. Times are microseconds
since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Literal

import msgspec

from psm.contracts.rulebook_events import ClustersDefined, RestrictedSide
from psm.risk.limits import Limits
from psm.risk.messages import Stored
from psm.risk.state import Mode

Verify = Callable[[bytes, bytes, bytes], bool]
"""Raw public key, signature, signed bytes -> whether the key made it; a pure function."""

SLOTS = 64


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What an event changed.

    Attributes:
        kind: `limits`, `mode`, `group`, ...: what the loops of the scope must look at.
        scope: "firm", "group:x", "account:x", "strategy:x", "symbol:x".
        tightens: approvals decided before must not stand behind it: fence them.
    """

    kind: str
    scope: str
    tightens: bool = False


class Ruled(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an event; every one counts in sequence and hash.

    Attributes:
        outcome: `pending` waits for a second person.
        reason: code of a refusal.
        detail: one sentence for people.
        hash: SHA-256 of the event's bytes.
        effects: in order; none of what waits or was refused.
    """

    outcome: Literal["applied", "pending", "refused"]
    hash: str
    reason: str | None = None
    detail: str | None = None
    effects: tuple[Effect, ...] = ()


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Accounts that one loop decides for; `sequence` of the rulebook since when."""

    name: str
    members: tuple[str, ...]
    currency: str
    parent: str | None
    sequence: int


class ScopedLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits in force of one scope, and the hash of the proposal that made them."""

    scope: str
    limits: Limits
    version: int
    hash: str


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """What may be done: tightest of the halts that apply, whose, and why.

    `hash` is that of the `HaltSet`; empty with `active`.
    """

    mode: Mode
    scope: str
    code: str
    hash: str


class Tags(msgspec.Struct, frozen=True, kw_only=True):
    """What a symbol is counted under; None where nobody said."""

    sector: str | None = None
    issuer: str | None = None
    currency: str | None = None


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """A day of a group: its number, that never falls, when it began and when it ends."""

    number: int
    start: int
    end: int


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """One order may fail one check; `hash` of the second person's event."""

    account_id: str
    expires: int
    hash: str


class Lift(msgspec.Struct, frozen=True, kw_only=True):
    """A halt or latch was lifted by two persons, at this place of the rulebook."""

    sequence: int
    rebase_peak: bool


class Rulebook:
    """Mutable fold of the rulebook.

    Attributes:
        sequence: of the last message taken; 0 before the first.
        hash: chain hash up to there, hex.
        groups: by name, ascending.
        clusters: newest, None before the first.
        lifted: lifts by the hash of what was lifted, latches of the engine among them.
    """

    sequence: int
    hash: str
    groups: Mapping[str, Group]
    clusters: ClustersDefined | None
    lifted: Mapping[str, Lift]

    def __init__(self, verify: Verify) -> None:
        raise NotImplementedError

    def take(self, stored: Stored) -> Ruled:
        """Fold the next message; none is left out, and none is ever an error."""
        raise NotImplementedError

    def group_of(self, account_id: str) -> Group | None:
        """Return the group of an account."""
        raise NotImplementedError

    def limits_of(
        self, account_id: str, strategy_id: str | None, symbol: str, clock: int
    ) -> tuple[ScopedLimits, ...]:
        """Return the limits that apply: firm, group, account, strategy, symbol; tightest wins."""
        raise NotImplementedError

    def mode_of(
        self, account_id: str, strategy_id: str | None, symbol: str, clock: int
    ) -> Ruling:
        """Return the tightest mode of the scopes, the parents of the group among them."""
        raise NotImplementedError

    def restriction_of(self, account_id: str, symbol: str) -> RestrictedSide | None:
        """Return the side that may not be traded; None for neither."""
        raise NotImplementedError

    def tags_of(self, symbol: str) -> Tags:
        """Return what a symbol is counted under."""
        raise NotImplementedError

    def cluster_of(self) -> Mapping[str, str]:
        """Return the cluster of each symbol, as a decision takes it."""
        raise NotImplementedError

    def beta_of(self, symbol: str) -> Decimal | None:
        """Return the beta of a symbol, for display."""
        raise NotImplementedError

    def in_session(self, account_id: str, symbol: str, clock: int) -> bool:
        """Return whether a symbol may be traded now; always, where no session speaks of it."""
        raise NotImplementedError

    def day_of(self, group: str, clock: int) -> Day:
        """Return the day of a group."""
        raise NotImplementedError

    def override_for(self, order_hash: str, check: str, clock: int) -> Override | None:
        """Return what lets an order fail a check; one decision may use it."""
        raise NotImplementedError

    def enabled_at(self, strategy_id: str) -> int:
        """Return the rulebook sequence at which a strategy was enabled last; 0 for never."""
        raise NotImplementedError

    def released(self, order_id: str, account_id: str) -> bool:
        """Return whether a person released the reservation of an order."""
        raise NotImplementedError


def slot_of(group: str) -> int:
    """Return the slot whose loop decides for a group, fixed for ever."""
    raise NotImplementedError
