"""A repaired stream is the one that never had the trouble, at every place of its ledger.

The twin of a dismissed or voided number is one whose event was refused: the number is taken and
nothing else happened. The twin of a stream that new rules released knew those rules from the start.
Chains differ by the operator's event; so the ledger hash is compared, which has no chain in it.
"""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.test_ledger_properties import restored
from tests.support.domain import Log
from tests.support.events import (
    Sent,
    changed,
    deposit,
    dismissed,
    retried,
    rules,
    trade,
    unknown,
    voided,
)
from tests.support.market import Market

from psm.contracts import registry
from psm.contracts.codec import decode_untyped
from psm.domain.folding import table_events as table_fold
from psm.domain.messages import Outcome

STREAM = "acc_000"
SUBJECT = f"trades.{STREAM}"
SLOW = settings(max_examples=15)
seeds = st.integers(0, 2**32)


def calm(seed: int, *leave_out: str) -> list[Sent]:
    """Return traffic whose market stands still: all marks and definitions come first.

    An event is booked at the rates of when it is folded, so one that waited may have other costs
    than its twin; here the rates are the same whenever that is.
    """
    sent = Market(seed=seed, length=100, leave_out=leave_out).author().sent
    tables = [one for one in sent if not one.subject.startswith("trades.")]
    return [*tables, *(one for one in sent if one.subject.startswith("trades."))]


def refused(sent: Sent) -> Sent:
    """Return the event with a payload that is refused."""
    return changed(sent, event_type="CashDeposited", payload={})


def own_places(sent: list[Sent]) -> list[int]:
    """Return where the first stream's events come first, without its opening."""
    places: dict[bytes, int] = {}
    for place, one in enumerate(sent):
        if one.subject == SUBJECT and b'"sequence_number"' in one.data:
            places.setdefault(one.data, place)
    return list(places.values())[2:]


def ledgers(log: Log) -> dict[tuple[str, int], str]:
    """Return the ledger hash at each place of each stream, when the place was taken."""
    found: dict[tuple[str, int], str] = {}
    for update in log.updates:
        if update.kind == "state.updated":
            payload = decode_untyped(update.data)["payload"]
            if payload["cause"] == "event":
                key = payload["account_id"], payload["sequence_number"]
                found.setdefault(key, payload["ledger_hash"])  # a retry in vain comes later
    return found


def folded(sent: list[Sent]) -> Log:
    """Return a log of these messages, each at its own time."""
    log = Log()
    log.when(*sent)
    return log


@SLOW
@given(seeds, st.integers(0, 10**6))
def test_a_dismissed_event_is_a_refused_one(seed: int, dice: int) -> None:
    """Wherever an unknown event blocks, and whenever it is dismissed, also through a snapshot."""
    rng = random.Random(dice)
    sent = calm(seed)
    poison = rng.choice(own_places(sent))
    twin = folded([*sent[:poison], refused(sent[poison]), *sent[poison + 1 :]])
    moon = changed(sent[poison], event_type="MoonPhaseChanged")
    log = folded([*sent[:poison], moon, *sent[poison + 1 :]])
    blocked = log.account(STREAM).delivery.blocked
    assert blocked is not None
    again = Log(books=restored(log.books))
    again.messages, again._time = dict(log.messages), log._time
    operate = dismissed(blocked.log_sequence, stream=STREAM)
    seen = log.when(retried(stream=STREAM), operate)
    assert seen.outcome is Outcome.APPLIED
    assert log.hashes() == twin.hashes()
    assert ledgers(log) == ledgers(twin)
    assert again.when(retried(stream=STREAM), operate).updates == seen.updates


@SLOW
@given(seeds, st.integers(0, 10**6))
def test_voided_numbers_are_refused_ones(seed: int, dice: int) -> None:
    """Wherever numbers are lost, and whenever they are given up behind the gap."""
    rng = random.Random(dice)
    sent = calm(seed, "refused", "gapped")
    places = own_places(sent)
    start = rng.randrange(len(places) - 5)
    lost = places[start : start + rng.randint(1, 5)]
    behind = places[start + len(lost)]
    numbers = [decode_untyped(sent[place].data)["sequence_number"] for place in lost]
    end = rng.randint(behind + 1, len(sent))
    operate = voided(numbers[0], numbers[-1], stream=STREAM)
    kept = [one for place, one in enumerate(sent) if place not in lost]
    cut = end - len(lost)
    log = folded(kept[:cut])
    assert log.when(operate.later(log._time)).outcome is Outcome.APPLIED
    for one in kept[cut:]:
        log.when(one)
    twin = folded([refused(one) if place in lost else one for place, one in enumerate(sent)])
    assert log.hashes() == twin.hashes()
    passed = {(STREAM, number) for number in numbers[:-1]}
    assert ledgers(log) == {k: v for k, v in ledgers(twin).items() if k not in passed}


@SLOW
@given(seeds, st.integers(0, 10**6), st.sampled_from(["LeverageChanged", "TradeExecuted"]))
def test_new_rules_make_up_for_what_they_did_not_know(seed: int, dice: int, kind: str) -> None:
    """Whenever rules 2 come, the ledgers are those of a log that had them from the start."""
    rng = random.Random(dice)
    sent = calm(seed)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(registry, "_account_codecs", {})  # what it found before
        patched.setitem(registry._FROM_RULES, (kind, 1), 2)
        patched.setattr(table_fold, "RULES_VERSION", 2)
        place = rng.randint(1, len(sent))
        twin = folded([rules(2), *sent])
        log = folded([*sent[:place], rules(2).later(sent[place - 1].at or 0), *sent[place:]])
    assert all(account.delivery.status == "open" for account in log.books.accounts.values())
    assert log.hashes() == twin.hashes()
    assert ledgers(log) == ledgers(twin)


def test_poison_in_one_of_a_thousand_streams_leaves_the_others_alone() -> None:
    """The updates of 999 streams are the same bytes; the one is blocked, then like its twin."""
    streams = [f"s{n:04d}" for n in range(1000)]
    poisoned = streams[617]

    def messages(poison: Sent) -> list[Sent]:
        first = [deposit(1, stream=s) for s in streams]
        second = [
            poison if s == poisoned else trade(2, "buy", "1", "10", stream=s) for s in streams
        ]
        return [*first, *second, *[deposit(3, "5", stream=s) for s in streams]]

    sick = folded(messages(unknown(2, stream=poisoned)))
    well = folded(messages(deposit(2, "-1", stream=poisoned)))
    others = [
        [msgspec.structs.astuple(u) for u in log.updates if u.stream_id != poisoned]
        for log in (sick, well)
    ]
    assert others[0] == others[1]
    assert [s for s, a in sick.books.accounts.items() if a.delivery.status != "open"] == [poisoned]
    sick.when(dismissed(1618, stream=poisoned))
    assert sick.hashes() == well.hashes()
