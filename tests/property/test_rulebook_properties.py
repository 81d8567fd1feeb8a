"""Whatever is said in a rulebook, by whomever: nobody loosens it alone, and every fold agrees."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contracts.test_rulebook_events import CONTENTS
from tests.support.rules import ADA, BOB, EVE, MINUTE, Person, Rules, refolded

from psm.risk.limits import Limits, limits_of_document
from psm.risk.rulebook import Ruled
from psm.risk.tightness import LESS_IS_TIGHTER, LONGER_IS_TIGHTER, MORE_IS_TIGHTER, loosened

COUNTS = ("open_orders_count", "mark_age", "order_rate", "message_rate", "repeated_execution",
          "loss_streak", "duplicate_order", "cooldown")  # fmt: skip
FLAGS = ("stop_required", "self_cross", "daily_loss_sticky")
PEOPLE = (ADA, BOB, EVE, Person("ada", "another key"))
values = st.integers(1, 99).map(lambda n: str(Decimal(n) / 10))
counts = st.integers(1, 99)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Any limits at all."""
    names = draw(st.lists(st.sampled_from([*LESS_IS_TIGHTER, *MORE_IS_TIGHTER]), unique=True))
    found: dict[str, Any] = {name: draw(counts if name in COUNTS else values) for name in names}
    if draw(st.booleans()):
        found["hedge_credit"] = draw(st.sampled_from(["0", "0.5", "1"]))
    for name in LONGER_IS_TIGHTER.values():
        found[name] = draw(counts)
    found |= {name: draw(st.booleans()) for name in FLAGS}
    found["on_limit"] = draw(st.sampled_from(["reject", "reduce"]))
    quantities = st.dictionaries(st.sampled_from("ABC"), values)
    quantity = draw(st.none() | values | quantities)
    return found if quantity is None else {**found, "max_order_quantity": quantity}


def limits(document: dict[str, Any]) -> Limits:
    return limits_of_document(document)


@given(documents())
def test_nothing_is_looser_than_itself_and_everything_tightens_nothing(
    document: dict[str, Any],
) -> None:
    assert loosened(limits(document), limits(document)) == ()
    none = Limits(on_limit="reduce")
    assert loosened(none, limits(document)) == ()


@given(documents(), documents(), documents())
def test_tighter_is_transitive(a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]) -> None:
    one, two, three = limits(a), limits(b), limits(c)
    if not loosened(one, two) and not loosened(two, three):
        assert loosened(one, three) == ()


@given(documents(), st.data())
def test_tightening_one_limit_is_never_looser_and_loosening_it_always(
    document: dict[str, Any], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from([*LESS_IS_TIGHTER, *MORE_IS_TIGHTER]))
    value = document.get(name, 5 if name in COUNTS else "0.5")
    before = limits({**document, name: value})
    number = Decimal(value)
    kind: Any = int if name in COUNTS else str
    # Within the shares or within the money: from one to the other is neither.
    less = (
        number
        if number <= 1 and name in COUNTS
        else (number - Decimal("0.05") if name not in COUNTS else number - 1)
    )
    if name == "daily_loss" and (less <= 1) != (number <= 1):
        less = number
    more = number + (1 if name in COUNTS else Decimal("0.05"))
    tighter, looser = (less, more) if name in LESS_IS_TIGHTER else (more, number - number)
    assert loosened(before, limits({**document, name: kind(tighter)})) == ()
    assert name in loosened(before, limits({**document, name: kind(looser)}))
    without = {one: other for one, other in document.items() if one != name}
    assert name in loosened(before, limits(without)), "none is looser than any"


@given(documents(), documents())
def test_what_is_not_looser_holds_at_once_and_the_rest_waits(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    rules = Rules()
    assert rules.propose(ADA, first).outcome == "applied"
    ruled = rules.propose(ADA, second)
    looser = loosened(limits(first), limits(second))
    assert ruled.outcome == ("pending" if looser else "applied")
    assert in_force(rules) == limits(first if looser else second)
    if looser:
        assert rules.approve(ADA, ruled).reason == "four_eyes"
        assert rules.approve(BOB, ruled).outcome == "applied"
        assert in_force(rules) == limits(second)


def in_force(rules: Rules) -> Limits | None:
    found = rules.book.documents.limits_of("group:desk", rules.clock)
    return None if found is None else found.limits


small = st.fixed_dictionaries({}, optional={"leverage": values, "drawdown": values})
said = st.tuples(
    st.sampled_from(PEOPLE),
    st.sampled_from(["propose", "approve", "revoke", "halt", "lift", "group", "again", "junk"]),
    small,
    st.integers(0, 5),
)


@settings(deadline=None)
@given(st.lists(said, max_size=25))
def test_nobody_loosens_anything_alone(
    story: list[tuple[Person, str, dict[str, Any], int]],
) -> None:
    """Two of four keys are one person's, and one is of somebody who was never let in."""
    rules = Rules()
    second = PEOPLE[-1]
    rules.key(ADA, second)
    rules.key(BOB, second)
    spoken: dict[str, dict[str, None]] = {}
    proposals: list[Ruled] = []
    halts: list[Ruled] = []
    for person, what, content, number in story:
        before, mode = in_force(rules), mode_of(rules)
        members = rules.book.groups.get("other")
        ruled, matter = speak(rules, person, what, content, number, proposals, halts)
        if ruled.outcome != "refused":
            spoken.setdefault(matter, {})[person.name] = None
        after = in_force(rules)
        looser = before is not None and (after is None or loosened(before, after))
        woken = RANK[mode_of(rules)] < RANK[mode]
        if looser or woken or rules.book.groups.get("other") != members:
            assert len(spoken[matter]) >= 2, f"{person.name} did {what} alone"
        assert person is not EVE or ruled.outcome == "refused"
    again = refolded(rules.log)
    assert (again.hash, again.sequence) == (rules.book.hash, len(rules.log))
    assert again.mode_of("a", None, "X", rules.clock) == rules.book.mode_of(
        "a", None, "X", rules.clock
    )
    later = refolded(rules.log, lambda one: msgspec.structs.replace(one, time=one.time + MINUTE))
    assert later.hash == rules.book.hash, "the chain is over what was said"


RANK = {"active": 0, "reducing": 1, "halted": 2}


def mode_of(rules: Rules) -> str:
    return rules.book.mode_of("a", None, "X", rules.clock).mode


def speak(
    rules: Rules, person: Person, what: str, content: dict[str, Any], number: int,
    proposals: list[Ruled], halts: list[Ruled],
) -> tuple[Ruled, str]:  # fmt: skip
    """Say one thing; return what became of it, and what it was about."""
    desk = {"scope": "group", "id": "desk"}
    if what == "propose":
        ruled = rules.propose(person, content)
        proposals.append(ruled)
        return ruled, ruled.hash
    if what == "approve" and proposals:
        proposal = proposals[-1 - number % len(proposals)]
        return rules.approve(person, proposal), proposal.hash
    if what == "revoke":
        return rules.say(person, "LimitsRevoked", **desk), "revoke"
    if what == "halt":
        mode = ("reducing", "halted")[number % 2]
        ruled = rules.say(person, "HaltSet", scope="firm", id="firm", mode=mode)
        halts.append(ruled)
        return ruled, ruled.hash
    if what == "lift" and halts:
        halted = halts[-1 - number % len(halts)]
        lift = {"scope": "firm", "id": "firm", "halt_hash": halted.hash}
        return rules.say(person, "HaltLifted", **lift), f"lift {halted.hash}"
    if what == "again":
        stored = rules.log[number % len(rules.log)]
        return rules.take(stored.data, stored.subject), "again"
    if what == "group":
        group = {"group": "other", "members": ["abc"[number % 3]], "currency": "USDT"}
        return rules.say(person, "GroupDefined", **group), f"group {number % 3}"
    return rules.take(b"junk", "rulebook.firm.firm"), "junk"


odd = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=8)
    | st.sampled_from(["firm", "2026-12-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "24:00",
                       "2026-12-01", "0001-01-01T00:00:00Z", "1e18", "ab" * 32, "both"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_nothing_that_is_said_is_an_error(data: st.DataObject) -> None:
    """Whatever a key signs: it has an effect, waits or is refused, and what holds can be asked."""
    rules = Rules()
    rules.book.keys._verify = lambda *_: True
    for name in data.draw(st.lists(st.sampled_from(sorted(CONTENTS)), min_size=1, max_size=6)):
        outgoing = rules.event(data.draw(st.sampled_from([ADA, BOB])), name, **CONTENTS[name])
        event = json.loads(outgoing.data)
        event["payload"] |= data.draw(
            st.dictionaries(st.sampled_from(sorted(CONTENTS[name])), odd, max_size=2)
        )
        rules.take(json.dumps(event).encode(), outgoing.subject)
    rules.take(data.draw(st.binary(max_size=20)), "rulebook.firm.firm")
    book, clock = rules.book, data.draw(st.integers(0, 2**62))
    book.limits_of("a", "s", "X", clock)
    book.mode_of("a", "s", "X", clock)
    book.restriction_of("a", "X")
    book.tags_of("X")
    book.in_session("a", "X", clock)
    assert book.day_of("desk", clock).start <= clock < book.day_of("desk", clock).end
    assert refolded(rules.log).sequence == len(rules.log)
