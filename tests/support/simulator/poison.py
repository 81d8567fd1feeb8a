"""Messages that are meant to do harm, among those of a world: each costs its stream alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from tests.support.events import Sent, deposit, envelope, mark, trade
from tests.support.fuzzing.corpus import NUL, NUMBERS, VALUES, encoded
from tests.support.simulator.faults import POISON, PoisonFault, Swarm

Make = Callable[[random.Random, str, int], Sent]
_TOKENS_MAX = (65, 300, 600, 4000)
_BAD_TOKENS = ("a%", "%zz", "%FF", "%00", "é", "🙂", "\x01\x7f", "a\0b", "BRK%2eB")
_STREAMS = 4
MISPLACED = "trades"
"""First token of the subjects on which operators' events do not belong."""


def poisoned(swarm: Swarm, sent: list[Sent]) -> list[Sent]:
    """Return what is written, with poison of the kinds that this seed has."""
    made: list[Sent] = []
    numbers: dict[str, int] = {}
    for message in sent:
        made.append(message)
        for kind in POISON:
            if swarm.happens(kind):
                stream = f"poison_{swarm.dice.randrange(_STREAMS)}"
                numbers[stream] = numbers.get(stream, 0) + 1
                made.append(_MAKERS[kind](swarm.dice, stream, numbers[stream]))
    return made


def _nul(dice: random.Random, stream: str, number: int) -> Sent:
    match dice.choice(["envelope", "payload", "unknown", "metadata"]):
        case "envelope":
            return deposit(number, stream=stream, correlation_id=NUL)
        case "payload":
            return trade(number, "buy", "1", "100", NUL, stream=stream)
        case "unknown":
            return trade(number, "buy", "1", "100", stream=stream, note=NUL)
        case _:
            return deposit(number, stream=stream, metadata={"note": NUL})


def _overlong(dice: random.Random, stream: str, number: int) -> Sent:
    token = (stream + "x" * 4000)[: dice.choice(_TOKENS_MAX)]
    if dice.random() < 0.3:
        return Sent(subject=f"marks.{token}", data=mark(number, "1", token).data)
    return deposit(number, stream=token)


def _unsafe(dice: random.Random, stream: str, number: int) -> Sent:
    del stream
    token = dice.choice(_BAD_TOKENS)
    kind = dice.choice(["trades", "marks", "instruments", "control"])
    return Sent(subject=f"{kind}.{token}", data=deposit(number, stream=token).data)


def _wrong_types(dice: random.Random, stream: str, number: int) -> Sent:
    body: dict[str, Any] = msgspec.json.decode(trade(number, "buy", "1", "1", stream=stream).data)
    owner = body if dice.random() < 0.5 else body["payload"]
    owner[dice.choice([*owner])] = dice.choice(VALUES)
    return Sent(subject=f"trades.{stream}", data=encoded(body))


def _absurd_digits(dice: random.Random, stream: str, number: int) -> Sent:
    amount = dice.choice(NUMBERS)
    if dice.random() < 0.5:
        return deposit(number, amount, stream=stream)
    return trade(number, "buy", amount, dice.choice(NUMBERS), stream=stream)


def _misplaced(dice: random.Random, stream: str, number: int) -> Sent:
    event_type, payload = dice.choice(
        [
            ("SequenceVoided", {"from": number, "to": number + 3}),
            ("EventDismissed", {"log_sequence": number}),
            ("StreamRetried", {}),
        ]
    )
    own = {**payload, "actor": "the boss", "reason": "because"}
    body = envelope(event_type, own, None, stream=stream, salt=f"poison/{number}")
    return Sent(subject=f"{MISPLACED}.{stream}", data=encoded(body))


_MAKERS: Mapping[PoisonFault, Make] = {
    "nul_published": _nul,
    "token_overlong": _overlong,
    "token_unsafe": _unsafe,
    "types_wrong": _wrong_types,
    "digits_absurd": _absurd_digits,
    "operator_misplaced": _misplaced,
}
