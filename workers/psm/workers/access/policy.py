"""Principals, what they may be allowed, and the one function that decides.

A principal has roles, which say what it may do, and patterns, which say to what. A pattern is a
kind and a name, `account:desk-1`, with at most one `*`, at its end: `account:desk-*`. `*` alone is
everything, the cluster too, and only for those who look after all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

import msgspec

from psm.projections.names import ALL_NAMES, Names

Action = Literal[
    "read",
    "read.past",
    "explain",
    "events.read",
    "append",
    "append.market",
    "append.record",
    "replay",
    "export",
    "admin",
    "token.create",
]
"""What can be done; operator events are appended by none of them, they have a door of their own."""

Role = Literal["viewer", "risk", "auditor", "ingest", "operator", "approver", "admin", "bootstrap"]
ResourceKind = Literal["account", "group", "symbol", "stream", "cluster"]

_READING: tuple[Action, ...] = ("read", "read.past", "explain")
ROLES: Mapping[Role, frozenset[Action]] = {
    "viewer": frozenset(_READING),
    "risk": frozenset((*_READING, "events.read", "append.record")),
    "auditor": frozenset((*_READING, "events.read", "replay", "export")),
    "ingest": frozenset(("append", "append.market", "append.record")),
    "operator": frozenset((*_READING, "events.read", "replay", "export", "admin")),
    "approver": frozenset(("read", "explain")),
    "admin": frozenset(get_args(Action)),
    "bootstrap": frozenset(("token.create",)),
}
"""Role -> what it may do. `bootstrap` is that of the token that makes the first administrator's."""

SEES_ALL: frozenset[Role] = frozenset(("admin", "auditor", "bootstrap"))
"""Roles that may have the pattern `*`."""

EVERYTHING = "*"
_PATTERN = re.compile(r"(account|group|symbol|stream):[^*\0]{0,128}\*?")
_PRINCIPAL = re.compile(r"[A-Za-z0-9._@:/-]{1,128}")


class PolicyError(ValueError):
    """A principal, a role or a pattern that there cannot be."""


class Resource(msgspec.Struct, frozen=True):
    """What something is done to; of the cluster there is one, without a name."""

    kind: ResourceKind
    name: str = ""


CLUSTER = Resource("cluster")


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks.

    Attributes:
        id: such as `svc/risk-desk` or `u_4f2a`.
        kind: a service, or a person.
        roles: what it may do.
        patterns: to what.
        how: by what it was recognised.
        key: id of the token, or of the key that signed its assertion; empty without one.
        expires: seconds since 1970; None: never.
        person: id in `access.toml`, a pseudonym; None where it names no such person.
    """

    id: str
    kind: Literal["service", "person"]
    roles: tuple[Role, ...]
    patterns: tuple[str, ...]
    how: Literal["token", "jwt", "proxy", "off"]
    key: str = ""
    expires: int | None = None
    person: str | None = None


ANYBODY = Principal(
    id="anybody", kind="service", roles=("admin",), patterns=(EVERYTHING,), how="off"
)
"""Who asks where access is not controlled."""


def may(principal: Principal, action: Action) -> bool:
    """Return whether any of its roles may do this, to whatever it may be."""
    return any(action in ROLES[role] for role in principal.roles)


def covers(principal: Principal, resource: Resource) -> bool:
    """Return whether a principal may know of a resource."""
    return names_of(principal, resource.kind).has(resource.name)


def patterns_cover(patterns: Sequence[str], resource: Resource) -> bool:
    """Return whether patterns cover a resource."""
    return _names(patterns, resource.kind).has(resource.name)


def allow(principal: Principal, action: Action, resource: Resource) -> bool:
    """Return whether a principal may do this to that."""
    return may(principal, action) and covers(principal, resource)


def actions_of(roles: Iterable[Role]) -> tuple[Action, ...]:
    """Return what roles may do, in the order of `Action`."""
    known = tuple(roles)
    return tuple(
        action for action in get_args(Action) if any(action in ROLES[role] for role in known)
    )


def names_of(principal: Principal, kind: ResourceKind) -> Names:
    """Return the names of resources of a kind that a principal may know of."""
    return _names(principal.patterns, kind)


def _names(patterns: Sequence[str], kind: ResourceKind) -> Names:
    if EVERYTHING in patterns:
        return ALL_NAMES
    split = (pattern.partition(":") for pattern in patterns)
    return Names(tuple(name for of, _, name in split if of == kind))


def checked(
    principal_id: str, roles: Iterable[str], patterns: Iterable[str]
) -> tuple[str, tuple[Role, ...], tuple[str, ...]]:
    """Return the three as they may be kept, in a fixed order.

    Raises:
        PolicyError: one of them cannot be; the text says which and what would be.
    """
    if _PRINCIPAL.fullmatch(principal_id) is None:
        raise PolicyError(
            f"{principal_id[:64]!r} names no principal: 1 to 128 of letters, digits and . _ @ : / -"
        )
    given = set(roles)
    unknown = sorted(given.difference(ROLES))
    if unknown or not given:
        names = ", ".join(ROLES)
        raise PolicyError(f"{unknown[0] if unknown else ''!r} is no role; there are {names}")
    kept: tuple[Role, ...] = tuple(role for role in ROLES if role in given)
    wanted = tuple(sorted(set(patterns)))
    for pattern in wanted:
        if pattern == EVERYTHING:
            if not SEES_ALL.intersection(kept):
                raise PolicyError(
                    "the pattern * is for admin and auditor only: say which, such as account:desk-*"
                )
        elif _PATTERN.fullmatch(pattern) is None:
            raise PolicyError(
                f"{pattern[:64]!r} is no pattern: kind:name with a kind of account, group, symbol, "
                "stream, and a * at its end only"
            )
    return principal_id, kept, wanted


def exceeds(giver: Principal, roles: Sequence[Role], patterns: Iterable[str]) -> str | None:
    """Return what of these rights the giver does not have itself; None where it has them all.

    The bootstrap token, which may do nothing but this, gives anything; so nobody gives its role, or
    whoever may give little could make one that gives all.
    """
    if "bootstrap" in roles:
        return "role bootstrap"
    if "bootstrap" in giver.roles:
        return None
    own: set[Action] = set()
    for role in giver.roles:
        own |= ROLES[role]
    for role in roles:
        if ROLES[role].difference(own):
            return f"role {role}"
    for pattern in patterns:
        if EVERYTHING in giver.patterns:
            break
        kind, _, name = pattern.partition(":")
        if not any(_contains(mine, kind, name) for mine in giver.patterns):
            return f"pattern {pattern}"
    return None


def _contains(mine: str, kind: str, name: str) -> bool:
    of, _, own = mine.partition(":")
    if of != kind:
        return False
    if own.endswith("*"):
        return name.removesuffix("*").startswith(own[:-1])
    return own == name
