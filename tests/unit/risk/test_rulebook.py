"""The rulebook: four eyes, tightening at once, halts, groups, tables; every refusal by its code."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.rules import (
    ADA,
    BOB,
    EVE,
    MINUTE,
    T0,
    Person,
    Rules,
    refolded,
)

from psm.contracts.errors import ContractError, LogDamagedError
from psm.contracts.rulebook_events import RULEBOOK_EVENTS
from psm.risk.messages import Stored
from psm.risk.rulebook import Rulebook, Ruled, slot_of
from psm.workers.ops.keys import made_signature

HASH = "ab" * 32


def code(ruled: Ruled) -> str:
    """Return the outcome, or the reason of a refusal."""
    return ruled.reason or "" if ruled.outcome == "refused" else ruled.outcome


def desk(*members: str) -> dict[str, Any]:
    return {"group": "desk", "members": list(members), "currency": "USDT"}


# --- keys ----------------------------------------------------------------------------------------


def test_first_two_keys_define_themselves_and_no_third_does() -> None:
    rules = Rules(founded=False)
    assert code(rules.key(EVE, BOB)) == "unknown_key", "not by somebody else"
    assert code(rules.key(ADA, ADA, ("propose",))) == "no_right", "nobody could ever approve"
    assert code(rules.key(ADA, ADA)) == "applied"
    assert code(rules.key(Person("ada", "second"), Person("ada", "second"))) == "four_eyes"
    assert code(rules.key(BOB, BOB)) == "applied"
    assert code(rules.key(EVE, EVE)) == "unknown_key"
    assert [held.holder for held in rules.book.keys.held.values()] == ["ada", "bob"]


def test_third_key_needs_two_persons() -> None:
    rules = Rules()
    assert code(rules.key(ADA, EVE)) == "pending"
    assert code(rules.key(ADA, EVE)) == "four_eyes"
    assert code(rules.say(EVE, "HaltSet", scope="firm", id="firm", mode="halted")) == "unknown_key"
    assert code(rules.key(BOB, EVE)) == "applied"
    assert code(rules.say(EVE, "HaltSet", scope="firm", id="firm", mode="halted")) == "applied"


def test_same_person_with_another_key_is_no_second_person() -> None:
    rules = Rules()
    second = Person("ada", "another")
    rules.key(ADA, second)
    assert code(rules.key(BOB, second)) == "applied"
    proposal = rules.propose(ADA, {"leverage": "3"})
    assert code(proposal) == "applied", "where there was no limit, every one tightens"
    proposal = rules.propose(ADA, {"leverage": "4"})
    assert code(rules.approve(second, proposal)) == "four_eyes"
    rules.say(ADA, "GroupDefined", **desk("a"))
    assert code(rules.say(second, "GroupDefined", **desk("a"))) == "four_eyes"


def test_a_key_speaks_only_for_its_holder() -> None:
    rules = Rules()
    impostor = Person("bob", "ada")
    halted = {"scope": "firm", "id": "firm", "mode": "halted"}
    assert code(rules.say(impostor, "HaltSet", **halted)) == "wrong_holder"


def test_key_without_the_right_is_refused() -> None:
    rules = Rules()
    rules.key(ADA, EVE, ("halt",))
    rules.key(BOB, EVE, ("halt",))
    assert code(rules.propose(EVE, {"leverage": "1"})) == "no_right"
    assert code(rules.say(EVE, "StrategyEnabled", strategy_id="s")) == "no_right"
    assert code(rules.say(EVE, "HaltSet", scope="firm", id="firm", mode="halted")) == "applied"


def test_two_who_may_only_propose_agree_on_nothing() -> None:
    rules = Rules()
    zoe = Person("zoe")
    for person in (EVE, zoe):
        rules.key(ADA, person, ("propose",))
        rules.key(BOB, person, ("propose",))
    assert code(rules.say(EVE, "GroupDefined", **desk("a"))) == "pending"
    assert code(rules.say(zoe, "GroupDefined", **desk("a"))) == "no_right"
    assert code(rules.say(ADA, "GroupDefined", **desk("a"))) == "applied"


def test_holder_makes_a_key_void_alone_and_another_one_does_not() -> None:
    rules = Rules()
    rules.key(ADA, EVE)
    rules.key(BOB, EVE)
    proposal = rules.propose(EVE, {"leverage": "3"})
    proposal = rules.propose(EVE, {"leverage": "5"})
    assert code(rules.key(ADA, EVE, ())) == "pending"
    assert code(rules.key(EVE, EVE, ())) == "applied"
    assert code(rules.propose(EVE, {"leverage": "1"})) == "void_key"
    assert code(rules.approve(BOB, proposal)) == "void_key", "what it proposed goes with it"


def test_what_a_key_said_before_it_was_void_is_no_consent() -> None:
    rules = Rules()
    rules.key(ADA, EVE)
    rules.key(BOB, EVE)
    rules.say(EVE, "GroupDefined", **desk("a"))
    rules.key(EVE, EVE, ())
    assert code(rules.say(BOB, "GroupDefined", **desk("a"))) == "pending"
    assert code(rules.say(ADA, "GroupDefined", **desk("a"))) == "applied"


def test_key_has_one_holder_for_ever() -> None:
    rules = Rules()
    rules.say(ADA, "KeyDefined", holder="eve", public_key=BOB.public_key, rights=["halt"])
    taken = rules.say(BOB, "KeyDefined", holder="eve", public_key=BOB.public_key, rights=["halt"])
    assert code(taken) == "wrong_holder"


# --- bytes ---------------------------------------------------------------------------------------


def test_forged_and_altered_events_are_refused_and_counted() -> None:
    rules = Rules()
    body = rules.event(ADA, "HaltSet", scope="group", id="desk", mode="halted").data
    event = json.loads(body)
    payload = event["payload"]
    for forged in (
        {**event, "payload": {**payload, "mode": "reducing"}},
        {**event, "payload": {**payload, "signature": "00" * 64}},
        {**event, "payload": {**payload, "unknown": "field"}},
        {**event, "event_id": "7f0c2a34-3f5e-4f27-9d5e-999999999999"},
    ):
        taken = rules.take(json.dumps(forged).encode(), "rulebook.group.desk")
        assert code(taken) == "bad_signature"
    before = rules.book.hash
    assert code(rules.take(body, "rulebook.group.desk")) == "applied"
    assert rules.book.sequence == len(rules.log)
    assert rules.book.hash != before


def test_same_bytes_again_say_nothing() -> None:
    rules = Rules()
    body = rules.event(ADA, "GroupDefined", **desk("a")).data
    assert code(rules.take(body, "rulebook.group.desk")) == "pending"
    assert code(rules.take(body, "rulebook.group.desk")) == "repeated"
    assert code(rules.say(BOB, "GroupDefined", **desk("a"))) == "applied"
    assert code(rules.take(body, "rulebook.group.desk")) == "repeated"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no event", "invalid_json"),
        (b"{}", "missing_field"),
        (b"\xff", "invalid_json"),
    ],
)
def test_junk_is_refused_and_counted(data: bytes, reason: str) -> None:
    rules = Rules()
    before = rules.book.hash
    assert code(rules.take(data, "rulebook.firm.firm")) == reason
    assert rules.book.hash != before


def test_event_on_another_subject_is_refused() -> None:
    rules = Rules()
    body = rules.event(ADA, "HaltSet", scope="group", id="desk", mode="halted").data
    assert code(rules.take(body, "rulebook.group.other")) == "stream_mismatch"


def test_other_types_and_versions_are_unknown() -> None:
    rules = Rules()
    event = json.loads(rules.event(ADA, "HaltSet", scope="firm", id="firm", mode="halted").data)
    for field, value, reason in (
        ("event_type", "TradeExecuted", "unknown_event_type"),
        ("schema_version", "2.0.0", "unknown_schema_version"),
    ):
        data = json.dumps({**event, field: value}).encode()
        assert code(rules.take(data, "rulebook.firm.firm")) == reason


def test_id_of_the_firm_is_firm() -> None:
    rules = Rules()
    refused = rules.say(ADA, "HaltSet", scope="firm", id="other", mode="halted")
    assert code(refused) == "invalid_payload"
    named = rules.say(ADA, "GroupDefined", group="firm", members=[], currency="USDT")
    assert code(named) == "invalid_payload"


def test_missing_message_is_an_error() -> None:
    book = Rulebook(made_signature)
    with pytest.raises(LogDamagedError, match="message 1 is missing"):
        book.take(Stored(sequence=2, time=T0, subject="rulebook.firm.firm", data=b"{}"))


def test_same_messages_give_the_same_rules() -> None:
    rules = Rules()
    rules.propose(ADA, {"leverage": "3"})
    rules.approve(BOB, rules.propose(ADA, {"leverage": "4"}))
    rules.both("GroupDefined", **desk("a", "b"))
    again = refolded(rules.log)
    assert (again.hash, again.sequence) == (rules.book.hash, rules.book.sequence)
    assert again.limits_of("a", None, "BTC", rules.clock) == rules.book.limits_of(
        "a", None, "BTC", rules.clock
    )


# --- limits --------------------------------------------------------------------------------------


def test_tightening_holds_at_once_and_loosening_waits() -> None:
    rules = Rules()
    assert code(rules.propose(ADA, {"leverage": "3"})) == "applied"
    assert code(rules.propose(ADA, {"leverage": "2", "drawdown": "0.1"})) == "applied"
    assert rules.limits() == {"leverage": "2", "drawdown": "0.1"}
    proposal = rules.propose(ADA, {"leverage": "2"})
    assert (code(proposal), proposal.detail) == (
        "pending", "looser, so another person must approve: drawdown",
    )  # fmt: skip
    assert rules.limits() == {"leverage": "2", "drawdown": "0.1"}
    assert code(rules.approve(ADA, proposal)) == "four_eyes"
    assert code(rules.approve(BOB, proposal)) == "applied"
    assert rules.limits() == {"leverage": "2"}
    assert code(rules.approve(BOB, proposal)) == "stale_proposal"


def test_only_the_newest_proposal_can_be_approved() -> None:
    rules = Rules()
    rules.propose(ADA, {"leverage": "2"})
    first = rules.propose(ADA, {"leverage": "3"})
    second = rules.propose(ADA, {"leverage": "4"})
    assert code(rules.approve(BOB, first)) == "stale_proposal"
    assert code(rules.propose(BOB, {"leverage": "1"})) == "applied"
    assert code(rules.approve(BOB, second)) == "stale_proposal", "overtaken by what tightened"
    assert rules.limits() == {"leverage": "1"}


def test_proposal_of_another_scope_is_not_this_ones() -> None:
    rules = Rules()
    rules.propose(ADA, {"leverage": "2"})
    proposal = rules.propose(ADA, {"leverage": "3"})
    assert code(rules.approve(BOB, proposal, name="other")) == "stale_proposal"


@pytest.mark.parametrize("version", [1, 3, 7])
def test_version_is_the_last_one_plus_one(version: int) -> None:
    rules = Rules()
    rules.propose(ADA, {"leverage": "2"})
    assert code(rules.propose(ADA, {"leverage": "1"}, version=version)) == "wrong_version"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"levarage": "2"}, "unknown_limit"),
        ({"leverage": "-2"}, "invalid_payload"),
        ({"leverage": "much"}, "invalid_payload"),
        ({"leverage": "1e400"}, "invalid_payload"),
        ({"leverage": True}, "invalid_payload"),
        ({"leverage": ["2"]}, "invalid_payload"),
        ({"open_orders_count": "2.5"}, "invalid_payload"),
        ({"open_orders_count": "9" * 19}, "invalid_payload"),
        ({"open_orders_count": -1}, "invalid_payload"),
        ({"order_rate_seconds": 0}, "invalid_payload"),
        ({"stop_required": 1}, "invalid_payload"),
        ({"on_limit": "ignore"}, "invalid_payload"),
        ({"max_order_quantity": {"BTC": "-1"}}, "invalid_payload"),
    ],
)
def test_what_is_no_limit_is_refused(limits: dict[str, Any], reason: str) -> None:
    assert code(Rules().propose(ADA, limits)) == reason


def test_numbers_are_exact_however_they_are_written() -> None:
    rules = Rules()
    quantity = {"max_order_quantity": {"BTC": "1.5"}}
    rules.propose(ADA, {"leverage": 3, "drawdown": "0.10", "order_rate": "7", **quantity})
    assert rules.limits() == {"leverage": "3", "drawdown": "0.10", "order_rate": 7, **quantity}


def test_document_holds_from_when_it_is_valid_until_it_is_not() -> None:
    rules = Rules()
    rules.propose(ADA, {"leverage": "3"})
    later = rules.propose(
        ADA, {"leverage": "5"},
        valid_from="2026-12-01T01:00:00Z", valid_until="2026-12-01T02:00:00Z",
    )  # fmt: skip
    assert code(rules.approve(BOB, later)) == "applied"
    for minutes, leverage in ((59, "3"), (60, "5"), (119, "5"), (120, "3")):
        assert rules.limits(clock=T0 + minutes * MINUTE) == {"leverage": leverage}


def test_tightening_that_would_expire_waits() -> None:
    """It would expire into a looser one: a second person must agree to that."""
    rules = Rules()
    rules.propose(ADA, {"leverage": "3"})
    proposal = rules.propose(ADA, {"leverage": "2"}, valid_until="2026-12-01T02:00:00Z")
    assert (code(proposal), proposal.detail) == (
        "pending", "looser, so another person must approve: valid_until",
    )  # fmt: skip


def test_tightening_is_against_what_is_to_come_too() -> None:
    """A document that is agreed for later, and tighter, may not be undone by one person."""
    rules = Rules()
    rules.propose(ADA, {"leverage": "3"})
    rules.propose(ADA, {"leverage": "1"}, valid_from="2026-12-02T00:00:00Z")
    assert code(rules.propose(ADA, {"leverage": "2"})) == "pending"
    assert code(rules.propose(ADA, {"leverage": "1"})) == "applied"


def test_tightening_is_against_what_holds_again_when_a_document_ends() -> None:
    rules = Rules()
    rules.propose(ADA, {"leverage": "3"})
    rules.approve(BOB, rules.propose(ADA, {"leverage": "5"}, valid_until="2026-12-01T01:00:00Z"))
    assert code(rules.propose(ADA, {"leverage": "4"})) == "pending", "3 holds in an hour"
    assert code(rules.propose(ADA, {"leverage": "3"})) == "applied"


def test_time_of_the_stream_never_goes_back() -> None:
    """Another leader's clock may be behind: what has passed stays past."""
    rules = Rules()
    rules.clock = T0 + 60 * MINUTE
    rules.propose(ADA, {"leverage": "3"})
    rules.clock = T0
    late = rules.propose(ADA, {"leverage": "2"}, valid_until="2026-12-01T00:30:00Z")
    assert code(late) == "expired"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"valid_until": "2026-11-30T00:00:00Z"}, "expired"),
        ({"valid_from": "2026-12-05T00:00:00Z", "valid_until": "2026-12-04T00:00:00Z"},
         "invalid_payload"),
        ({"valid_from": "2026-12-05 00:00:00 CET"}, "invalid_payload"),
        ({"valid_from": "2026-02-30T00:00:00Z"}, "invalid_payload"),
    ],
)  # fmt: skip
def test_document_that_is_never_valid_is_refused(more: dict[str, str], reason: str) -> None:
    assert code(Rules().propose(ADA, {"leverage": "2"}, **more)) == reason


def test_proposal_that_expired_is_not_approved() -> None:
    rules = Rules()
    rules.propose(ADA, {"leverage": "2"})
    proposal = rules.propose(ADA, {"leverage": "5"}, valid_until="2026-12-01T01:00:00Z")
    rules.clock = T0 + 60 * MINUTE
    assert code(rules.approve(BOB, proposal)) == "expired"


def test_limits_are_revoked_by_two_and_a_proposal_withdrawn_by_one() -> None:
    rules = Rules()
    scope = {"scope": "group", "id": "desk"}
    assert code(rules.say(ADA, "LimitsRevoked", **scope)) == "nothing_to_revoke"
    rules.propose(ADA, {"leverage": "2"})
    proposal = rules.propose(ADA, {"leverage": "3"})
    withdrawn = rules.say(BOB, "LimitsRevoked", **scope, proposal_hash=proposal.hash)
    assert code(withdrawn) == "applied"
    assert code(rules.approve(BOB, proposal)) == "stale_proposal"
    assert code(rules.say(ADA, "LimitsRevoked", **scope)) == "pending"
    assert rules.limits() == {"leverage": "2"}
    waiting = rules.propose(ADA, {"leverage": "4"})
    assert code(rules.say(BOB, "LimitsRevoked", **scope)) == "applied"
    assert rules.limits() is None
    assert code(rules.approve(BOB, waiting)) == "stale_proposal"


def test_limits_of_every_scope_that_applies_in_order() -> None:
    rules = Rules()
    rules.both("GroupDefined", **desk("a"))
    for scope, name in (
        ("symbol", "BTC"), ("strategy", "s"), ("account", "a"), ("group", "desk"), ("firm", ""),
        ("account", "b"), ("symbol", "ETH"), ("group", "other"),
    ):  # fmt: skip
        assert code(rules.propose(ADA, {"leverage": "2"}, scope, name)) == "applied"
    found = rules.book.limits_of("a", "s", "BTC", rules.clock)
    assert [one.scope for one in found] == [
        "firm", "group:desk", "account:a", "strategy:s", "symbol:BTC",
    ]  # fmt: skip
    assert [one.scope for one in rules.book.limits_of("b", None, "SOL", rules.clock)] == [
        "firm", "account:b",
    ]  # fmt: skip


# --- halts ---------------------------------------------------------------------------------------


def test_halt_is_set_by_one_and_lifted_by_two_naming_it() -> None:
    rules = Rules()
    rules.both("GroupDefined", **desk("a"))
    halted = rules.say(ADA, "HaltSet", scope="group", id="desk", mode="halted", code="panic")
    ruling = rules.book.mode_of("a", "s", "BTC", rules.clock)
    assert (ruling.mode, ruling.scope, ruling.code, ruling.hash) == (
        "halted", "group:desk", "panic", halted.hash,
    )  # fmt: skip
    assert rules.book.mode_of("b", "s", "BTC", rules.clock).mode == "active"
    lift = {"scope": "group", "id": "desk", "halt_hash": halted.hash}
    assert code(rules.say(ADA, "HaltLifted", **lift)) == "pending"
    assert code(rules.say(ADA, "HaltLifted", **lift)) == "four_eyes"
    assert code(rules.say(BOB, "HaltLifted", **{**lift, "halt_hash": HASH})) == "pending"
    assert rules.book.mode_of("a", "s", "BTC", rules.clock).mode == "halted"
    assert code(rules.say(BOB, "HaltLifted", **lift)) == "applied"
    assert rules.book.mode_of("a", "s", "BTC", rules.clock).mode == "active"
    assert code(rules.say(ADA, "HaltLifted", **lift)) == "nothing_to_lift"


def test_halt_of_another_scope_is_not_lifted_here() -> None:
    rules = Rules()
    halted = rules.say(ADA, "HaltSet", scope="group", id="desk", mode="halted")
    lift = {"scope": "firm", "id": "firm", "halt_hash": halted.hash}
    assert code(rules.say(BOB, "HaltLifted", **lift)) == "nothing_to_lift"


def test_latch_of_the_engine_is_lifted_by_its_hash() -> None:
    """The rulebook does not know it; the engine finds it in `lifted`."""
    rules = Rules()
    lift = {"scope": "account", "id": "a", "halt_hash": HASH, "rebase_peak": True}
    assert code(rules.both("HaltLifted", **lift)) == "applied"
    found = rules.book.lifted[HASH]
    assert (found.sequence, found.rebase_peak) == (rules.book.sequence, True)


def test_lift_with_and_without_a_new_peak_are_two_things() -> None:
    rules = Rules()
    lift = {"scope": "account", "id": "a", "halt_hash": HASH}
    assert code(rules.say(ADA, "HaltLifted", **lift)) == "pending"
    assert code(rules.say(BOB, "HaltLifted", **lift, rebase_peak=True)) == "pending"
    assert code(rules.say(ADA, "HaltLifted", **lift, rebase_peak=True)) == "applied"


def test_tightest_mode_wins_and_a_halt_ends_by_itself() -> None:
    rules = Rules()
    rules.both("GroupDefined", group="firmwide", members=[], currency="USDT")
    rules.both("GroupDefined", **desk("a"), parent="firmwide")
    rules.say(ADA, "HaltSet", scope="account", id="a", mode="halted", until="2026-12-01T01:00:00Z")
    rules.say(ADA, "HaltSet", scope="group", id="firmwide", mode="reducing")
    rules.say(ADA, "HaltSet", scope="strategy", id="s", mode="reducing")
    book = rules.book
    assert book.mode_of("a", None, "BTC", T0 + 59 * MINUTE).scope == "account:a"
    assert book.mode_of("a", "s", "BTC", T0 + 60 * MINUTE).scope == "group:firmwide"
    assert book.mode_of("b", "s", "BTC", T0 + 60 * MINUTE).scope == "strategy:s"
    past = rules.say(
        ADA, "HaltSet", scope="firm", id="firm", mode="halted", until="2026-11-30T00:00:00Z"
    )
    assert code(past) == "expired"


# --- groups --------------------------------------------------------------------------------------


def test_account_is_in_exactly_one_group() -> None:
    rules = Rules()
    rules.both("GroupDefined", **desk("a", "b"))
    moved = rules.both("GroupDefined", group="other", members=["b", "c"], currency="EUR")
    assert [effect.scope for effect in moved.effects] == ["group:other", "group:desk"]
    assert {name: group.members for name, group in rules.book.groups.items()} == {
        "desk": ("a",), "other": ("b", "c"),
    }  # fmt: skip
    assert {group.sequence for group in rules.book.groups.values()} == {rules.book.sequence}
    rules.both("GroupDefined", group="other", members=["c"], currency="EUR")
    assert rules.book.group_of("b") is None
    group = rules.book.group_of("c")
    assert group is not None
    assert (group.name, group.currency) == ("other", "EUR")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"members": ["a", "a"]}, "invalid_payload"),
        ({"members": ["a"], "parent": "nobody"}, "invalid_parent"),
        ({"members": [], "parent": "desk"}, "invalid_parent"),
        ({"members": ["x"], "parent": "other"}, "invalid_parent"),
    ],
)
def test_group_that_cannot_be_is_refused(content: dict[str, Any], reason: str) -> None:
    rules = Rules()
    rules.both("GroupDefined", group="other", members=["b"], currency="USDT")
    refused = rules.say(ADA, "GroupDefined", group="desk", currency="USDT", **content)
    assert code(refused) == reason


def test_parents_make_no_circle_and_have_no_members() -> None:
    rules = Rules()
    for name, parent in (("top", None), ("middle", "top"), ("desk", "middle")):
        defined = rules.both("GroupDefined", group=name, members=[], currency="USDT", parent=parent)
        assert code(defined) == "applied"
    circle = rules.say(ADA, "GroupDefined", group="top", members=[], currency="USDT", parent="desk")
    assert code(circle) == "invalid_parent"
    filled = rules.say(ADA, "GroupDefined", group="middle", members=["a"], currency="USDT")
    assert code(filled) == "invalid_payload"


def test_children_share_their_parents_limits_in_money() -> None:
    rules = Rules()
    rules.both("GroupDefined", group="house", members=[], currency="USDT")
    rules.propose(ADA, {"daily_loss": "1000", "leverage": "2"}, name="house")
    rules.propose(ADA, {"daily_loss": "600"}, name="desk")
    without = rules.both("GroupDefined", **desk("a"), parent="house")
    assert code(without) == "applied"
    other = {"group": "other", "members": ["b"], "currency": "USDT", "parent": "house"}
    assert code(rules.both("GroupDefined", **other)) == "budget_exceeded", "it has no limit at all"
    rules.propose(ADA, {"daily_loss": "400"}, name="other")
    assert code(rules.both("GroupDefined", **other)) == "applied"
    more = rules.propose(ADA, {"daily_loss": "401"}, name="other")
    exceeded = rules.approve(BOB, more, name="other")
    assert (code(exceeded), exceeded.detail) == (
        "budget_exceeded", "daily_loss of house's groups is 1001, more than 1000",
    )  # fmt: skip
    share = rules.propose(ADA, {"daily_loss": "0.5"}, name="other")
    assert code(share) == "pending", "a share of the equity is another kind of limit"
    assert code(rules.approve(BOB, share, name="other")) == "budget_exceeded"


def test_slot_of_a_group_is_fixed() -> None:
    """FNV-1a of the name modulo 64, as other programs compute it."""
    assert [slot_of(name) for name in ("desk", "other", "a")] == [
        _fnv(name) % 64 for name in ("desk", "other", "a")
    ]


def test_slots_of_a_scope_are_those_of_its_groups() -> None:
    rules = Rules()
    rules.both("GroupDefined", group="house", members=[], currency="USDT")
    rules.both("GroupDefined", **desk("a"), parent="house")
    rules.both("GroupDefined", group="other", members=["b"], currency="USDT")
    slots = {name: slot_of(name) for name in ("house", "desk", "other")}
    every = tuple(sorted(slots.values()))
    of = rules.book.slots_of
    assert of("firm") == of("symbol:X") == of("strategy:s") == every
    assert of("group:house") == tuple(sorted((slots["house"], slots["desk"])))
    assert (of("group:desk"), of("account:b")) == ((slots["desk"],), (slots["other"],))
    assert of("account:nobody") == of("group:none") == ()


def _fnv(text: str) -> int:
    value = 2166136261
    for byte in text.encode():
        value = (value ^ byte) * 16777619 % 2**32
    return value


# --- overrides, strategies, reservations ---------------------------------------------------------


def test_override_is_granted_by_two_for_fifteen_minutes_at_most() -> None:
    rules = Rules()
    asked = {
        "account_id": "a", "order_hash": HASH, "check": "leverage",
        "expires": "2026-12-01T00:10:00Z",
    }  # fmt: skip
    late = {**asked, "expires": "2026-12-01T00:20:00Z"}
    assert code(rules.say(ADA, "OverrideGranted", **late)) == "expired"
    assert code(rules.say(ADA, "OverrideGranted", **asked)) == "pending"
    assert rules.book.override_for(HASH, "leverage", rules.clock) is None
    other = {**asked, "check": "drawdown"}
    assert code(rules.say(BOB, "OverrideGranted", **other)) == "pending", "another check"
    granted = rules.say(BOB, "OverrideGranted", **asked)
    assert code(granted) == "applied"
    found = rules.book.override_for(HASH, "leverage", rules.clock)
    assert found is not None
    assert (found.account_id, found.hash) == ("a", granted.hash)
    assert rules.book.override_for(HASH, "leverage", T0 + 10 * MINUTE) is None
    assert rules.book.override_for(HASH, "drawdown", rules.clock) is None


def test_second_person_of_an_override_must_be_in_time() -> None:
    rules = Rules()
    asked = {
        "account_id": "a", "order_hash": HASH, "check": "leverage",
        "expires": "2026-12-01T00:10:00Z",
    }  # fmt: skip
    rules.say(ADA, "OverrideGranted", **asked)
    rules.clock = T0 + 10 * MINUTE
    assert code(rules.say(BOB, "OverrideGranted", **asked)) == "expired"


def test_strategy_is_enabled_and_reservation_released_by_a_named_person() -> None:
    rules = Rules()
    assert rules.book.enabled_at("s") == 0
    rules.say(ADA, "StrategyEnabled", strategy_id="s")
    assert rules.book.enabled_at("s") == rules.book.sequence
    rules.say(ADA, "ReservationReleased", account_id="a", order_id="o1")
    assert rules.book.released("o1", "a")
    assert not rules.book.released("o1", "b")


# --- tables --------------------------------------------------------------------------------------


def test_lists_forbid_at_once_and_allow_by_two() -> None:
    rules = Rules()
    listed = {"name": "sanctions", "kind": "restricted", "symbols": ["X"], "side": "buy"}
    assert code(rules.say(ADA, "ListDefined", **listed)) == "applied"
    assert rules.book.restriction_of("a", "X") == "buy"
    assert rules.book.restriction_of("a", "Y") is None
    wider = {**listed, "symbols": ["X", "Y"], "side": "both"}
    assert code(rules.say(ADA, "ListDefined", **wider)) == "applied"
    assert rules.book.restriction_of("a", "Y") == "both"
    assert code(rules.say(ADA, "ListDefined", **{**wider, "side": "buy"})) == "pending"
    assert code(rules.say(ADA, "ListDefined", **listed)) == "pending"
    assert code(rules.say(ADA, "ListDefined", **{**wider, "accounts": ["a"]})) == "pending"
    assert rules.book.restriction_of("b", "Y") == "both"
    assert code(rules.say(BOB, "ListDefined", **{**wider, "accounts": ["a"]})) == "applied"
    assert rules.book.restriction_of("b", "Y") is None


def test_allow_list_forbids_all_else_and_lists_add_up() -> None:
    rules = Rules()
    rules.say(ADA, "ListDefined", name="a1", kind="allowed", symbols=["X", "Y"], accounts=["a"])
    rules.say(ADA, "ListDefined", name="b1", kind="restricted", symbols=["X"], side="buy")
    rules.say(ADA, "ListDefined", name="c1", kind="restricted", symbols=["X"], side="sell")
    rules.say(ADA, "ListDefined", name="d1", kind="restricted", symbols=["Y"], side="sell")
    book = rules.book
    assert [book.restriction_of("a", s) for s in "XYZ"] == ["both", "sell", "both"]
    assert [book.restriction_of("b", s) for s in "XYZ"] == ["both", "sell", None]
    fewer = {"name": "a1", "kind": "allowed", "symbols": ["X"], "accounts": ["a"]}
    assert code(rules.say(ADA, "ListDefined", **fewer)) == "applied"
    assert code(rules.say(ADA, "ListDefined", **{**fewer, "symbols": ["X", "Y"]})) == "pending"


def test_tags_are_what_the_first_table_says() -> None:
    rules = Rules()
    rules.both("TagsDefined", name="b", tags={"X": {"sector": "tech", "issuer": "ix"}})
    rules.both("TagsDefined", name="a", tags={"X": {"sector": "media", "currency": "USD"}})
    found = rules.book.tags_of("X")
    assert (found.sector, found.issuer, found.currency) == ("media", "ix", "USD")
    assert rules.book.tags_of("Y").sector is None


def test_symbol_is_traded_within_every_session_that_speaks_of_it() -> None:
    rules = Rules()
    hours = {
        "name": "xetra",
        "symbols": ["SAP"],
        "windows": [
            {"day": "tue", "opens": "08:00", "closes": "12:00"},
            {"day": "tue", "opens": "13:00", "closes": "24:00"},
        ],
        "closed": ["2026-12-08"],
    }
    assert code(rules.say(ADA, "SessionsDefined", **hours)) == "applied"
    book, hour = rules.book, 60 * MINUTE
    for at, opened in (
        (7 * hour, False), (8 * hour, True), (12 * hour, False), (13 * hour, True),
        (24 * hour - 1, True), (24 * hour, False), (7 * 24 * hour + 8 * hour, False),
        (14 * 24 * hour + 8 * hour, True),
    ):  # fmt: skip
        assert book.in_session("a", "SAP", T0 + at) is opened, at
    assert book.in_session("a", "BTC", T0)
    rules.say(ADA, "SessionsDefined", name="pause", accounts=["a"], windows=[])
    assert not book.in_session("a", "SAP", T0 + 8 * hour)
    assert book.in_session("b", "SAP", T0 + 8 * hour)
    assert code(rules.say(ADA, "SessionsDefined", **{**hours, "closed": []})) == "pending"


@pytest.mark.parametrize(
    "window", [("08:00", "08:00"), ("09:00", "08:00"), ("8:000", "09:00"), ("08:00", "24:01")]
)
def test_window_that_is_none_is_refused(window: tuple[str, str]) -> None:
    windows = [{"day": "mon", "opens": window[0], "closes": window[1]}]
    assert code(Rules().say(ADA, "SessionsDefined", name="s", windows=windows)) == (
        "invalid_payload"
    )


def test_days_are_those_of_utc_unless_somebody_says_else() -> None:
    day, book = 24 * 60 * MINUTE, Rules().book
    today = book.day_of("desk", T0 + 5)
    assert (today.number, today.start, today.end) == (T0 // day, T0, T0 + day)
    assert book.day_of("desk", T0 - 1).number == today.number - 1


def test_days_of_a_zone_are_listed_and_go_on_beyond_the_list() -> None:
    """Berlin's clocks change: one day has 25 hours, and the numbers stay without a hole."""
    rules, hour = Rules(), 60 * MINUTE
    boundaries = ["2026-10-23T22:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"]
    content = {"first_day": "2026-10-24", "boundaries": boundaries}
    assert code(rules.both("DayCalendarDefined", group="desk", **content)) == "applied"
    first = 1_792_792_800_000_000  # 2026-10-23T22:00:00Z
    numbers = []
    for at, start, length in (
        (-1, -24, 24), (0, 0, 24), (24, 24, 25), (48, 24, 25), (49, 49, 24), (73, 73, 24),
    ):  # fmt: skip
        found = rules.book.day_of("desk", first + at * hour)
        assert (found.start, found.end) == (
            first + start * hour, first + (start + length) * hour,
        )  # fmt: skip
        numbers.append(found.number)
    assert [number - numbers[1] for number in numbers] == [-1, 0, 1, 1, 2, 3]
    assert rules.book.day_of("other", first).start % (24 * hour) == 0
    assert code(rules.both("DayCalendarDefined", group="firm", **content)) == "applied"
    assert rules.book.day_of("other", first).start == first


@pytest.mark.parametrize("boundaries", [[], ["2026-12-02T00:00:00Z", "2026-12-01T00:00:00Z"]])
def test_boundaries_ascend(boundaries: list[str]) -> None:
    content = {"group": "desk", "first_day": "2026-12-01", "boundaries": boundaries}
    assert code(Rules().say(ADA, "DayCalendarDefined", **content)) == "invalid_payload"


def test_clusters_come_from_a_key_that_may_publish_in_order() -> None:
    rules = Rules()
    content: dict[str, Any] = {
        "version": 1, "as_of_day": "2026-11-30", "window": 90, "symbols": ["A", "B", "C"],
        "clusters": {"A": ["A", "B"], "C": ["C"]}, "beta": {"A": "1", "B": "-0.5", "C": None},
        "sigma": {"A": "0.01", "B": "0.02", "C": "0.03"}, "shrinkage": "0.1",
        "matrix_hash": HASH, "returns_hash": HASH, "code": "1.0.0",
    }  # fmt: skip
    assert code(rules.say(ADA, "ClustersDefined", **{**content, "version": 2})) == "wrong_version"
    assert code(rules.say(ADA, "ClustersDefined", **content)) == "applied"
    assert rules.book.cluster_of() == {"A": "A", "B": "A", "C": "C"}
    assert rules.book.clusters is not None
    assert rules.book.clusters.version == 1
    rules.key(ADA, EVE, ("halt",))
    rules.key(BOB, EVE, ("halt",))
    assert code(rules.say(EVE, "ClustersDefined", **{**content, "version": 2})) == "no_right"


def test_slips_in_a_field_are_refused_before_they_are_signed() -> None:
    with pytest.raises(ContractError, match="HaltSet has no field modus; it has"):
        Rules().say(ADA, "HaltSet", scope="firm", id="firm", mode="halted", modus="x")


def test_every_kind_of_event_has_a_rule() -> None:
    assert set(Rules().book._rules) == set(RULEBOOK_EVENTS.values())
