"""What holds of any import: twice is once, and neither files nor their order matter."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.support.importing import owner_of

from psm.contracts.codec import canonical_decimal
from psm.workers.imports.facts import Link, VenueFact
from psm.workers.imports.known import Known
from psm.workers.imports.plan import ordered, plan
from psm.workers.imports.rows import FilePlace

OWNER = owner_of("somewhere", "USD")
AMOUNTS = st.integers(1, 5).map(Decimal)


@st.composite
def fills(draw: st.DrawFn) -> list[VenueFact]:
    """Fills of one contract, each of which begins where the one before it ended."""
    found, size, time = [], Decimal(0), 0
    for number in range(draw(st.integers(0, 12))):
        time += draw(st.integers(0, 1))
        buys, quantity = draw(st.booleans()), draw(AMOUNTS)
        after = size + quantity if buys else size - quantity
        name = draw(st.integers(0, 99))
        side = "buy" if buys else "sell"
        payload = {
            "symbol": "X",
            "side": side,
            "quantity": canonical_decimal(quantity),
            "price": "1",
            "fill_id": f"{name}-{number}",
        }
        found.append(
            fact(time, "TradeExecuted", payload, f"fill:{name}-{number}", number, size, after)
        )
        size = after
    return found


@st.composite
def flows(draw: st.DrawFn) -> list[VenueFact]:
    """Money in and out; some rows have no name, and may be equal."""
    found = []
    for number in range(draw(st.integers(0, 12))):
        named = draw(st.booleans())
        event_type = draw(st.sampled_from(["CashDeposited", "CashWithdrawn", "InterestAccrued"]))
        payload: dict[str, Any] = {"amount": canonical_decimal(draw(AMOUNTS)), "currency": "USD"}
        if named:
            payload["reference"] = str(number)
        record = f"flow:{number}" if named else None
        found.append(fact(draw(st.integers(0, 3)), event_type, payload, record, number))
    return found


def fact(
    time: int,
    event_type: str,
    payload: dict[str, Any],
    record: str | None,
    line: int,
    before: Decimal | None = None,
    after: Decimal | None = None,
) -> VenueFact:
    link = None if before is None or after is None else Link("X", before, after)
    return VenueFact(
        time_us=time * 1_000_000,
        event_type=event_type,
        payload=payload,
        record=record,
        place=FilePlace("file", line + 1),
        link=link,
    )


def told(facts: list[VenueFact], known: Known | None = None) -> list[Any]:
    """Return the events that a plan would append."""
    steps = plan(facts, OWNER, known or Known("USD"), {}, str)
    return [one.event for one in steps.new]


@given(fills(), flows(), st.randoms(use_true_random=False))
def test_order_of_files_and_rows_is_irrelevant(
    some: list[VenueFact], others: list[VenueFact], random: Any
) -> None:
    """However rows are shuffled, the same events come in the same order."""
    facts = [*some, *others]
    before = told(facts)
    random.shuffle(facts)
    assert told(facts) == before


@given(fills(), flows())
def test_twice_is_once(some: list[VenueFact], others: list[VenueFact]) -> None:
    """What was appended is known; of rows without a name as many as there are."""
    facts = [*some, *others]
    steps = plan(facts, OWNER, Known("USD"), {}, str)
    assert len(steps.new) == len(facts)
    known = Known("USD")
    for one in steps.new:
        known.add(one.event["event_id"], one.key)
    again = plan(facts, OWNER, known, {}, str)
    assert again.new == []
    assert sum(again.known.values()) == len(facts)


@given(fills(), flows(), st.integers(0, 24))
def test_interrupted_and_repeated_is_once(
    some: list[VenueFact], others: list[VenueFact], stopped: int
) -> None:
    """Whatever part went in, the repeated import appends the rest, in the same order."""
    facts = [*some, *others]
    steps = plan(facts, OWNER, Known("USD"), {}, str)
    known = Known("USD")
    for one in steps.new[:stopped]:
        known.add(one.event["event_id"], one.key)
    assert told(facts, known) == [one.event for one in steps.new[stopped:]]


@given(fills(), flows(), st.integers(0, 12), st.integers(0, 12))
def test_files_that_overlap_are_their_union(
    some: list[VenueFact], others: list[VenueFact], first: int, second: int
) -> None:
    """A record that stands in two files is one; named and unnamed ones alike."""
    whole = [*some, *others]
    split = sorted([min(first, len(whole)), min(second, len(whole))])
    one = [renamed(f, "one") for f in whole if f.record is not None or f in whole[: split[1]]]
    facts = [*(renamed(f, "all") for f in whole), *one]
    assert told(facts) == told(whole)


@given(fills())
def test_fills_follow_the_position(some: list[VenueFact]) -> None:
    """Each fill begins where the one before it ended, whatever they are called."""
    links = [f.link for f in ordered(some, OWNER).values()]
    for before, after in pairwise(links):
        assert before is not None
        assert after is not None
        assert before.after == after.before


def renamed(one: VenueFact, file: str) -> VenueFact:

    return replace(one, place=FilePlace(file, one.place.line))
