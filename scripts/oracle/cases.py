"""The cases of the comparison: messages of the log, and what happens to the worker between them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
from scripts.mutation.__main__ import FOLDER, golden_logs, name_of
from scripts.mutation.spooling import logs_of
from tests.support.domain import Log, stored
from tests.support.events import START, Sent, deposit, event, opened
from tests.support.market import Market
from tests.support.simulator import traffic
from tests.support.simulator.operators import Operators
from tests.support.strategies import Story, disturbed

from psm.workers.replay import lines as fold_lines

EMITS = ("updates", "hashes", "nothing")
PARTITIONS = 4
Act = Literal["fold", "look", "evict", "checkpoint", "save", "crash"]


class Step(msgspec.Struct, frozen=True, array_like=True):
    """One thing that happens to the books.

    `fold` takes a message and makes what `emit` says; `look` reads snapshots, checkpoint and
    documents; `evict` lets idle accounts go; `checkpoint` saves everything; `save` saves some
    accounts (those whose place has the parity of `chosen`); `crash` starts again from the last
    checkpoint and the newest snapshots, folding what came since in the mode of a recovery.
    """

    act: Act
    emit: str = "updates"
    chosen: int = 0
    log_sequence: int = 0
    subject: str = ""
    time: int = 0
    data: bytes = b""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A log and what happens while it is folded; `partition` None means all of them.

    `small` gives streams small limits (parked events, remembered identities), so that they are met.
    """

    name: str
    partitions: int = PARTITIONS
    partition: int | None = None
    small: bool = False
    steps: list[Step]


def golden(seed: int) -> Iterator[Case]:
    """Yield every golden log, once undisturbed and once with everything that happens to workers.

    But those that are short ones in a row, or that have bounds of their own.
    """
    for path in golden_logs(FOLDER):
        logs, reader = list(logs_of(path)), fold_lines.LineFolder(partitions=16)
        if len(logs) > 1:
            continue
        messages = [m for m in map(reader.read, logs[0]) if m is not None]
        folds = [_fold(m.log_sequence, m.subject, m.time, m.data) for m in messages]
        yield Case(name=f"golden {name_of(path)}", partitions=16, steps=[*folds, Step("look")])
        dice = random.Random(f"{seed}/{path.name}")
        yield Case(name=f"golden {name_of(path)} lived", partitions=16, steps=_lived(dice, folds))


def random_logs(seed: int, count: int) -> Iterator[Case]:
    """Yield random logs of three kinds: traffic of a world, a trading house, disturbed stories."""
    for number in range(count):
        dice = random.Random(f"oracle/{seed}/{number}")
        kind = dice.choice(["traffic", "market", "story"])
        if kind == "traffic":
            sent = traffic.traffic(dice, dice.getrandbits(32), dice.randint(1, 4))
        elif kind == "market":
            market = Market(seed=dice.getrandbits(32), length=dice.randint(40, 160))
            sent = disturbed(market.author().sent, dice.getrandbits(32))
        else:
            story = Story(seed=dice.getrandbits(32), length=dice.randint(1, 60))
            sent = disturbed(story.messages(), dice.getrandbits(32))
        for at in range(dice.randint(0, 2)):
            _insert(dice, sent, _late_opening(f"late_{at}", dice))
        sent = [m for m in sent if m.data]
        small = dice.random() < 0.5
        folds = _stored(dice, sent, small=small)
        yield Case(name=f"{kind} {seed}/{number}", small=small, steps=_lived(dice, folds))


def _fold(log_sequence: int, subject: str, time: int, data: bytes) -> Step:
    return Step("fold", "updates", 0, log_sequence, subject, time, data)


def _insert(dice: random.Random, sent: list[Sent], own: list[Sent]) -> None:
    places = sorted(dice.randint(0, len(sent)) for _ in own)
    for place, message in reversed([*zip(places, own, strict=True)]):
        sent.insert(place, message)


def _late_opening(stream: str, dice: random.Random) -> list[Sent]:
    """Return an account with a place, and a published margin, before it is opened."""
    return [
        event("CashDeposited", {"amount": "-1"}, 1, stream=stream),
        opened(2, stream=stream, leverage_limit=str(dice.randint(1, 5))),
        deposit(3, stream=stream),
    ]


def _stored(dice: random.Random, sent: Sequence[Sent], *, small: bool) -> list[Step]:
    """Return the messages as the log stores them, operators' repairs among them.

    Operators look at the books, so the log is folded once here; what it says plays no part.
    """
    steps: list[Step] = []
    log, operators = Log(partitions=PARTITIONS), Operators(dice)
    time = START

    def put(one: Sent) -> None:
        nonlocal time
        time = max(time + dice.choice([1, 10**8, 10**9]), one.at or 0)
        at = len(steps) + 1
        steps.append(_fold(at, stored(one.subject, PARTITIONS), time, one.data))
        log.when(one.later(time))

    with traffic.small_limits(lambda choices: choices[0 if small else -1]):
        for one in sent:
            put(one)
            if dice.random() < 0.1:
                repair = operators.attempt([log.books])
                if repair is not None:
                    put(repair)
        for repair in operators.repairs([log.books]):
            put(repair)
    return steps


def _lived(dice: random.Random, folds: Sequence[Step]) -> list[Step]:
    """Return the folds with modes that change, and with what happens to workers in between."""
    steps: list[Step] = [Step("checkpoint")]
    emit = "updates"
    often = dice.choice([0.02, 0.1, 0.3])
    acts: tuple[Act, ...] = ("look", "evict", "checkpoint", "save", "crash")
    for fold in folds:
        if dice.random() < 0.2:
            emit = dice.choice(EMITS)
        steps.append(msgspec.structs.replace(fold, emit=emit))
        if dice.random() < often:
            steps.append(Step(dice.choice(acts), chosen=dice.randrange(2)))
    return [*steps, Step("look")]
