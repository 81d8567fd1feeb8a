"""What the rulebook answers: what became of an event, and what holds at a moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from psm.risk.limits import Limits
from psm.risk.state import Mode

Verify = Callable[[bytes, bytes, bytes], bool]
"""Raw public key, signature, signed bytes -> whether the key made it; a pure function."""

EffectKind = Literal[
    "limits", "mode", "override", "strategy", "reservation", "group", "list", "tags", "clusters",
    "session", "calendar", "key",
]  # fmt: skip


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What an event changed.

    Attributes:
        kind: what the loops of the scope must look at.
        scope: "firm", "group:x", "account:x", "strategy:x", "symbol:x".
        tightens: approvals decided before must not stand behind it: fence them.
    """

    kind: EffectKind
    scope: str
    tightens: bool = False


class Ruled(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an event; every one counts in sequence and hash.

    Attributes:
        outcome: `pending` waits for a second person.
        hash: SHA-256 of the event's bytes, hex.
        reason: code of a refusal, or of what is waited for.
        detail: one sentence for people.
        effects: in order; none of what waits or was refused.
    """

    outcome: Literal["applied", "pending", "refused"]
    hash: str
    reason: str | None = None
    detail: str | None = None
    effects: tuple[Effect, ...] = ()


class RefusedError(Exception):
    """An event of the rulebook has no effect.

    Attributes:
        reason: stable code.
        detail: one sentence for people.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Accounts that one loop decides for; `sequence` of the rulebook since when."""

    name: str
    members: tuple[str, ...]
    currency: str
    parent: str | None
    sequence: int


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """An account left a group, at this place of the rulebook."""

    group: str
    sequence: int


class ScopedLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits in force of one scope; version and hash of the proposal that made them."""

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
    """A day of a group: its number, days since 1970, when it began, and when the next one does."""

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


def scope_text(scope: str, name: str) -> str:
    """Return a scope as checks report it: `firm`, `group:desk`."""
    return scope if scope == "firm" else f"{scope}:{name}"
