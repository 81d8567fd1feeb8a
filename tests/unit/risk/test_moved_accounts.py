"""An account that moves: whoever read the rulebook first, each of its requests has one answer."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.risk_log import ACCOUNT, GROUP, RiskLog, payload_of
from tests.support.rules import ADA, BOB

from psm.contracts.subjects import order_command
from psm.risk.engine import Slot
from psm.risk.messages import RiskOutput, Stored
from psm.risk.rulebook import Rulebook, slot_of
from psm.workers.ops.keys import made_signature

OTHER = "other"
assert slot_of(OTHER) != slot_of(GROUP)


class Processes:
    """Two slots, each in a process of its own that reads the rulebook when it likes.

    Attributes:
        answers: decisions by their place in ORDERS.
    """

    def __init__(self) -> None:
        self.log = RiskLog()
        self.log.both("GroupDefined", group=OTHER, members=["acc_2"], currency="USDT")
        self.old, self.new = self.log.slot, self.log.folder.slots[slot_of(OTHER)]
        self.answers: dict[int, list[dict[str, Any]]] = {}
        self.release: RiskOutput | None = None
        self._orders = 0
        self._before = len(self.log.rules.log)
        self.log.rules.clock = self.log.clock
        for person in (ADA, BOB):
            members = {"group": OTHER, "members": ["acc_2", ACCOUNT], "currency": "USDT"}
            self.log.rules.say(person, "GroupDefined", **members)

    def order(self, *slots: Slot) -> int:
        """Ask for an order; those slots are given it whose processes take it for theirs."""
        self._orders += 1
        fields = {"side": "buy", "quantity": "1", "order_id": f"x{self._orders}"}
        body = self.log.body("order_request", ACCOUNT, **fields)
        self.asked(self._orders, body, *slots)
        return self._orders

    def asked(self, sequence: int, body: bytes, *slots: Slot) -> None:
        command = Stored(
            sequence=sequence, time=self.log.clock, subject=order_command(ACCOUNT), data=body
        )
        for slot in slots:
            for output in slot.decide(command):
                if output.kind == "decision":
                    self.answers.setdefault(sequence, []).append(payload_of(output))

    def rules(self, slot: Slot) -> list[RiskOutput]:
        """Let a slot read the rulebook up to its end."""
        found = Rulebook(made_signature)
        for message in self.log.rules.log:
            found.take(message)
        return slot.take_rulebook(found, self.log.clock)

    def moved(self) -> None:
        (self.release,) = [one for one in self.rules(self.old) if one.kind == "release"]

    def heard(self) -> None:
        """Let the new slot read what the old one released, and the account."""
        assert self.release is not None
        stored = Stored(sequence=1, time=self.log.clock, subject="risk", data=self.release.data)
        self.new.take_release(stored)


def test_what_both_take_for_theirs_the_old_one_answers() -> None:
    """The new one's process read the rulebook first."""
    both = Processes()
    both.order(both.old)
    both.rules(both.new)
    late = both.order(both.old, both.new)  # the old one does not know yet
    both.moved()
    both.heard()
    assert both.new.owed == {ACCOUNT: late}
    assert {at: len(found) for at, found in both.answers.items()} == {1: 1, 2: 1}
    assert both.answers[late][0]["group"] == GROUP
    both.asked(late, both.log.body("order_request", ACCOUNT, side="buy", quantity="1"), both.new)
    assert len(both.answers[late]) == 1, "it was answered"


def test_what_nobody_takes_for_his_the_new_one_answers() -> None:
    """The old one's process read the rulebook first: neither was given the request."""
    both = Processes()
    both.moved()
    lost = both.order()
    both.rules(both.new)
    both.heard()
    assert both.new.holds_back(ACCOUNT)
    assert both.new.owed == {ACCOUNT: 0}
    both.asked(lost, both.log.body("order_request", ACCOUNT, side="buy", quantity="1"), both.new)
    assert both.new.owed == {ACCOUNT: lost}
    both.new.settle(ACCOUNT, lost)
    assert not both.new.holds_back(ACCOUNT)
    following = both.order(both.new)
    assert {at: one["group"] for at, (one,) in both.answers.items()} == {
        lost: OTHER, following: OTHER,
    }  # fmt: skip


@pytest.mark.parametrize("from_checkpoint", [True, False])
def test_a_crash_among_what_is_owed_answers_nothing_twice(from_checkpoint: bool) -> None:
    """How far it was answered stands in the record of each answer."""
    both = Processes()
    both.rules(both.new)
    both.moved()
    bodies = [both.log.body("order_request", ACCOUNT, side="buy", quantity="1") for _ in range(3)]
    both.heard()
    start = both.new.checkpoint()
    command = Stored(
        sequence=5, time=both.log.clock, subject=order_command(ACCOUNT), data=bodies[0]
    )
    outputs = both.new.decide(command)
    checkpoint = both.new.checkpoint()
    restored = Slot.restored(checkpoint if from_checkpoint else start)
    for output in () if from_checkpoint else outputs:
        restored.take_recorded(output)
    both.new = restored
    both.rules(restored)
    assert restored.owed == {ACCOUNT: 5}
    both.asked(5, bodies[0], restored)
    both.asked(6, bodies[1], restored)
    assert [*both.answers] == [6]


def test_who_is_owed_and_moves_on_passes_it_on() -> None:
    """The third group begins where the second one is, not where its other accounts are."""
    both = Processes()
    first = both.order(both.old)
    both.rules(both.new)
    both.moved()
    both.heard()
    both.new.begin(40)  # by requests of others
    both.log.rules.both("GroupDefined", group="third", members=[ACCOUNT], currency="USDT")
    (release,) = [one for one in both.rules(both.new) if one.kind == "release"]
    assert payload_of(release)["orders_sequence"] == first
