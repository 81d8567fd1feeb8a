"""An account that moves again before it was read what it brought: nothing of that is lost.

Each slot reads the rulebook as it likes, a move at a time or several at once, and hears of releases
late. In the end the memory is where the account is, and nowhere else; until then nobody answers.
"""

from __future__ import annotations

import copy
import random

import pytest
from tests.support.risk_log import ACCOUNT, GROUP, RiskLog
from tests.support.rules import ADA, BOB

from psm.risk.engine import Slot
from psm.risk.messages import RiskOutput, Stored
from psm.risk.rulebook import Rulebook, slot_of
from psm.workers.ops.keys import made_signature

FAR, THIRD = "other", "third"
NEAR = next(f"near_{n}" for n in range(1000) if slot_of(f"near_{n}") == slot_of(GROUP))
assert len({slot_of(GROUP), slot_of(FAR), slot_of(THIRD)}) == 3
RESERVED = f"reservation/{ACCOUNT}/first"
JOURNEYS = (
    (FAR, THIRD),
    (FAR, GROUP),
    (FAR, GROUP, THIRD),
    (NEAR, FAR),
    (FAR, NEAR),
    (NEAR, GROUP),
    (FAR, NEAR, GROUP, THIRD, FAR),
    ("", FAR),
    (FAR, "", THIRD),
)
"""Groups that the account goes to, one after the other; "" is none."""


class Journey:
    """Slots that read the rulebook and hear of releases when they are told to.

    Attributes:
        slots: by number.
        home: of the account, in the end.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        log = self.log = RiskLog()
        assert log.order("buy", "1", order_id="first")["decision"] == "approved"
        self._before = len(log.rules.log)
        log.rules.clock = log.clock
        at, self.home = GROUP, stops[-1]
        for stop in stops:
            for person in (ADA, BOB):
                members = {"group": stop or at, "members": [ACCOUNT] if stop else []}
                log.rules.say(person, "GroupDefined", **members, currency="USDT")
            at = stop
        numbers = dict.fromkeys(slot_of(name) for name in (GROUP, *stops) if name)
        self.slots = {number: Slot(number) for number in numbers}
        self.slots[slot_of(GROUP)] = log.slot
        self.read = dict.fromkeys(numbers, self._before)
        self.release: RiskOutput | None = None
        self._books = [Rulebook(made_signature)]
        for message in log.rules.log:
            following = copy.deepcopy(self._books[-1])
            following.take(message)
            self._books.append(following)

    @property
    def length(self) -> int:
        return len(self.log.rules.log)

    def rules(self, number: int, until: int) -> None:
        """Let a slot read the rulebook up to a place, at once."""
        self.read[number] = until
        self._said(self.slots[number].take_rulebook(self._books[until], self.log.clock))

    def hear(self, number: int) -> None:
        """Let a slot read the newest release, as its process gives it."""
        slot = self.slots[number]
        if self.release is not None and slot.awaits(ACCOUNT):
            data = self.release.data
            stored = Stored(sequence=1, time=self.log.clock, subject="risk", data=data)
            self._said(slot.take_release(stored))

    def restart(self, number: int) -> None:
        """Go on from the checkpoint of a slot."""
        self.slots[number] = Slot.restored(self.slots[number].checkpoint())
        self.rules(number, self.read[number])

    def holders(self) -> list[int]:
        """Return the slots that remember what was approved."""
        return [number for number, slot in self.slots.items() if slot._path.told_as(RESERVED)]

    def _said(self, outputs: list[RiskOutput]) -> None:
        for one in outputs:
            if one.kind == "release":
                self.release = one


@pytest.mark.parametrize("stops", JOURNEYS, ids="-".join)
def test_what_is_remembered_arrives_whoever_reads_what_first(stops: tuple[str, ...]) -> None:
    for seed in range(8):
        dice = random.Random(seed)
        way = Journey(stops)
        for _ in range(60):
            number = dice.choice([*way.slots])
            match dice.choice(("rules", "hear", "hear", "restart")):
                case "rules":
                    way.rules(number, dice.randint(way.read[number], way.length))
                case "hear":
                    way.hear(number)
                case "restart":
                    way.restart(number)
            assert len(way.holders()) <= 1
            for other, slot in way.slots.items():
                answers = ACCOUNT in slot.members() and not slot.holds_back(ACCOUNT)
                assert not answers or way.holders() == [other], "it answers, and does not know"
        for _ in range(2 * len(stops)):
            for number in way.slots:
                if way.read[number] < way.length:
                    way.rules(number, way.length)
                way.hear(number)
        home = slot_of(way.home)
        assert way.holders() == [home]
        assert [n for n, slot in way.slots.items() if ACCOUNT in slot.members()] == [home]
        assert not any(slot.awaits(ACCOUNT) for slot in way.slots.values())
