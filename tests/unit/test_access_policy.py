"""Principals, patterns and the one function that decides; tokens as they are kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from psm.projections.names import ALL_NAMES, Names
from psm.workers.access.bearer import FAILURES_MAX, FAILURES_S, CredentialsError, Failures
from psm.workers.access.durations import duration
from psm.workers.access.policy import (
    CLUSTER,
    EVERYTHING,
    ROLES,
    Action,
    PolicyError,
    Principal,
    Resource,
    Role,
    allow,
    checked,
    exceeds,
    names_of,
)
from psm.workers.access.tokens import TokenRecord, hashed, new_token, parts_of

AT = datetime(2026, 1, 1, tzinfo=UTC)


def principal(*roles: Role, patterns: tuple[str, ...] = ()) -> Principal:
    return Principal(id="p", kind="service", roles=roles, patterns=patterns, how="token")


@pytest.mark.parametrize("role", get_args(Role))
@pytest.mark.parametrize("action", get_args(Action))
def test_a_right_is_a_role_and_a_pattern(role: Role, action: Action) -> None:
    """Neither the role without the pattern nor the pattern without the role is enough."""
    has = action in ROLES[role]
    own = principal(role, patterns=("account:desk-1",))
    assert allow(own, action, Resource("account", "desk-1")) is has
    assert not allow(own, action, Resource("account", "desk-2"))
    assert not allow(own, action, Resource("symbol", "desk-1"))
    assert not allow(own, action, CLUSTER)
    assert not allow(principal(role), action, Resource("account", "desk-1"))
    assert allow(principal(role, patterns=(EVERYTHING,)), action, CLUSTER) is has


def test_a_pattern_ends_with_its_star() -> None:
    names = names_of(principal("viewer", patterns=("account:desk-*", "symbol:BTC")), "account")
    assert names.has("desk-1")
    assert names.has("desk-")
    assert not names.has("desk")
    assert not names.has("BTC")
    assert not names.has(None)
    assert names_of(principal("admin", patterns=("*",)), "account") == ALL_NAMES


def test_names_are_texts_and_no_patterns_of_sql() -> None:
    assert Names(("a_b%", "c\\d*", "e")).likes() == ["a\\_b\\%", "c\\\\d%", "e"]
    assert Names(()).likes() == []
    assert ALL_NAMES.likes() is None


@pytest.mark.parametrize(
    ("who", "roles", "patterns", "says"),
    [
        ("", ["viewer"], [], "names no principal"),
        ("a b", ["viewer"], [], "names no principal"),
        ("p", [], [], "no role"),
        ("p", ["root"], [], "'root' is no role"),
        ("p", ["viewer"], ["*"], "is for admin and auditor only"),
        ("p", ["ingest", "risk"], ["*"], "is for admin and auditor only"),
        ("p", ["viewer"], ["account:a*b"], "no pattern"),
        ("p", ["viewer"], ["desk-*"], "no pattern"),
        ("p", ["viewer"], ["cluster:"], "no pattern"),
        ("p", ["viewer"], ["account:a\0"], "no pattern"),
    ],
)
def test_what_there_cannot_be_is_refused(
    who: str, roles: list[str], patterns: list[str], says: str
) -> None:
    with pytest.raises(PolicyError, match=says):
        checked(who, roles, patterns)


def test_what_is_kept_has_one_order() -> None:
    kept = checked("svc/x", ["risk", "viewer", "risk"], ["symbol:b", "account:a", "symbol:b"])
    assert kept == ("svc/x", ("viewer", "risk"), ("account:a", "symbol:b"))


@pytest.mark.parametrize(
    ("patterns", "beyond"),
    [
        (("account:desk-1",), None),
        (("account:desk-*",), None),
        (("account:desk-1*",), None),
        (("account:des*",), "pattern account:des\\*"),
        (("account:*",), "pattern account:\\*"),
        (("symbol:desk-1",), "pattern symbol:desk-1"),
        (("*",), "pattern \\*"),
    ],
)
def test_nobody_gives_more_than_they_have(patterns: tuple[str, ...], beyond: str | None) -> None:
    giver = principal("admin", patterns=("account:desk-*",))
    found = exceeds(giver, ("admin",), patterns)
    assert found == (None if beyond is None else beyond.replace("\\", ""))
    assert exceeds(principal("operator", patterns=("*",)), ("admin",), ()) == "role admin"
    assert exceeds(principal("operator", patterns=("*",)), ("viewer",), ("*",)) is None
    assert exceeds(principal("bootstrap", patterns=("*",)), ("admin",), ("*",)) is None


@pytest.mark.parametrize("giver", ["admin", "bootstrap"])
def test_nobody_gives_what_gives_anything(giver: Role) -> None:
    """Who may give little would make a bootstrap token, and with that one of everything."""
    assert exceeds(principal(giver, patterns=("*",)), ("bootstrap",), ()) == "role bootstrap"


def test_a_token_is_opened_by_its_secret_alone() -> None:
    token_id, token, digest = new_token()
    found = parts_of(token)
    assert found is not None
    assert found[0] == token_id
    assert hashed(found[1]) == digest
    record = TokenRecord(
        id=token_id, secret_sha256=digest, principal="p", kind="service", roles=("viewer",),
        patterns=(), created_by="x", created_at=AT, expires_at=AT + timedelta(days=1),
    )  # fmt: skip
    assert record.is_opened_by(found[1])
    assert not record.is_opened_by(found[1][:-1] + ("a" if found[1][-1] != "a" else "b"))
    assert not record.is_opened_by("")
    assert found[1] not in repr(record)
    assert digest.hex() not in repr(record)


@pytest.mark.parametrize(
    "text", ["", "psm_", "psm_abc_def", "psm_0123456A_" + "a" * 32, "psm_01234567_" + "1" * 32]
)
def test_what_is_no_token_is_none(text: str) -> None:
    assert parts_of(text) is None


def test_a_token_holds_until_it_ends() -> None:
    record = TokenRecord(
        id="a", secret_sha256=b"", principal="p", kind="service", roles=(), patterns=(),
        created_by="x", created_at=AT, expires_at=AT + timedelta(hours=2),
        revoked_at=AT + timedelta(hours=1),
    )  # fmt: skip
    assert record.holds(AT + timedelta(minutes=59))
    assert not record.holds(AT + timedelta(hours=1))


def test_who_fails_too_often_waits() -> None:
    at = 100.0
    failures = Failures(lambda: at)
    for _ in range(FAILURES_MAX):
        failures.check("10.0.0.1")
        failures.add("10.0.0.1")
    with pytest.raises(CredentialsError) as refused:
        failures.check("10.0.0.1")
    assert refused.value.kind == "too-many-failures"
    assert refused.value.retry_s == int(FAILURES_S) + 1
    failures.check("10.0.0.2")
    at += FAILURES_S
    failures.check("10.0.0.1")
    failures.add("10.0.0.1")
    failures.check("10.0.0.1")


def test_times_are_written_with_their_unit() -> None:
    assert duration("90d") == timedelta(days=90)
    assert duration("30m") == timedelta(minutes=30)
    for wrong in ("", "0d", "1", "1w", "-1d", "1.5h"):
        with pytest.raises(PolicyError, match="no time"):
            duration(wrong)
