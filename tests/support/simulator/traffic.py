"""What the producers of a world write: every event family, and trouble that only operators end.

A world's traffic is either plain (few event types, repeats, late events, junk) or that of a whole
trading house (every type, every kind of instrument). Both get accounts that are idle at times, so
that they are evicted, and events that nobody knows or that never come.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import msgspec
from tests.support import feed
from tests.support.events import (
    Sent,
    changed,
    collateral,
    control,
    deposit,
    event,
    opened,
    rules,
    trade,
    withdrawal,
)
from tests.support.market import KINDS, Market

from psm.contracts import registry
from psm.domain import windows
from psm.domain.delivery import parked as waiting
from psm.domain.folding import stream as stream_fold
from psm.domain.folding import table_events as table_fold

FLATS = 5
OPENERS = 4
NEW_TYPE = "FeeCharged"
"""Stands for an event type that only rules 2 know."""

_PARKED_MAX = (3, waiting.PARKED_MAX)
_WINDOW = (4, windows.WINDOW)
_TROUBLE = (0.0, 0.0, 0.01, 0.03)
_SYMBOL = feed.SYMBOLS[0]


def flat(number: int) -> str:
    """Return the name of the n-th account that has no position most of the time."""
    return f"flat_{number}"


def traffic(dice: random.Random, seed: int, accounts: int) -> list[Sent]:
    """Return what is written, in order."""
    if dice.random() < 0.5:
        market = Market(
            seed=seed,
            length=dice.randint(60, 160),
            accounts=accounts,
            symbols=KINDS[dice.choice([*KINDS])],
        )
        sent = market.author().sent
    else:
        sent = feed.traffic(
            seed, accounts=accounts, events=dice.randint(20, 120), mark_every=dice.randint(2, 8)
        )
    flats = [_flat_events(random.Random(f"flat/{seed}/{n}"), flat(n)) for n in range(FLATS)]
    length = dice.randint(0, 60)
    for number in range(length):
        place = (number + 1) * len(sent) // (length + 1)
        sent.insert(place, next(flats[number % FLATS]))
    _insert(dice, sent, _terms(dice))
    for number in range(OPENERS):
        _insert(dice, sent, _late_opening(f"late_{number}", str(dice.randint(1, 5))))
    sent = _troubled(dice, sent)
    if dice.random() < 0.5:
        sent.insert(0, rules(2))
    return sent


def _insert(dice: random.Random, sent: list[Sent], own: list[Sent]) -> None:
    """Put an account's events among the others, in their order."""
    places = sorted(dice.randint(0, len(sent)) for _ in own)
    for place, message in reversed([*zip(places, own, strict=True)]):
        sent.insert(place, message)


def _terms(dice: random.Random) -> list[Sent]:
    """Return what is said of the log and of what secures margin, in its order."""
    trimmed = {"through": 1, "certificate": "ab" * 32, "actor": "ann", "approval": "x"}
    promoted = {"epoch": 1, "region": "b", "fork_sequence": 1, "previous_hash": "cd" * 32}
    said: tuple[tuple[str, dict[str, Any]], ...] = (
        ("LogTrimmed", trimmed),
        ("LogRestored", {"through": 1}),
        ("RegionPromoted", promoted),
    )
    made = [control(kind, payload, number) for number, (kind, payload) in enumerate(said, 1)]
    for number in range(1, 4):
        for asset in ("USDT", "BTC", "BNB"):
            haircut = dice.choice(["0", "0.05", "1"])
            made.append(collateral(number, asset, haircut, borrow_maintenance_rate="0.1"))
    return made


def _late_opening(stream: str, limit: str) -> list[Sent]:
    """Return an account that has a place, and a published margin, before it is opened."""
    return [
        event("CashDeposited", {"amount": "-1"}, 1, stream=stream),
        opened(2, stream=stream, leverage_limit=limit),
        deposit(3, stream=stream),
    ]


def _flat_events(dice: random.Random, stream: str) -> Iterator[Sent]:
    """Yield an account's events: what leaves it idle, and corrections of what is long over."""
    number = count(1)
    yield deposit(next(number), "1000", stream=stream)
    fills: list[str] = []

    def say(event_type: str, payload: dict[str, Any]) -> Sent:
        return event(event_type, payload, next(number), stream=stream)

    while True:
        amount, turn = str(dice.randint(1, 500)), next(number)
        what = ["deposit", "coin", "withdrawal", "transfer", "order", "trade", "loan", "correction"]
        match dice.choice(what):
            case "deposit":
                yield deposit(turn, amount, stream=stream)
            case "coin":
                stated = {"BTC": dice.choice(["40000", "41500.5", None])}
                payload = {"amount": "0.5", "currency": "BTC", "rates": stated}
                yield event("CashDeposited", payload, turn, stream=stream)
                yield say("CashWithdrawn", payload)
            case "withdrawal":
                yield withdrawal(turn, amount, stream=stream)
            case "transfer":
                payload = {"amount": amount, "transfer_id": f"t{turn}"}
                yield event("TransferredOut", payload, turn, stream=stream)
                yield say("TransferredIn", {**payload, "transfer_id": f"t{turn}-back"})
            case "order":
                order = {"order_id": f"o{turn}"}
                payload = {**order, "symbol": _SYMBOL, "side": "buy", "type": "limit"}
                payload |= {"quantity": amount, "price": "100"}
                yield event("OrderSubmitted", payload, turn, stream=stream)
                yield say(dice.choice(["OrderCancelled", "OrderExpired", "OrderRejected"]), order)
            case "loan":
                yield event(
                    "BorrowChanged", {"asset": "USDT", "amount": amount}, turn, stream=stream
                )
                yield say("BorrowChanged", {"asset": "USDT", "amount": f"-{amount}"})
            case "trade":
                fills += [f"{stream}-{turn}", f"{stream}-{turn + 1}"]
                yield trade(turn, "buy", amount, "100", _SYMBOL, stream=stream, fill_id=fills[-2])
                sale = next(number)
                yield trade(sale, "sell", amount, "101", _SYMBOL, stream=stream, fill_id=fills[-1])
            case _:
                fill = {"fill_id": dice.choice([*fills[-4:], "nothing"]), "reason": "erroneous"}
                if dice.random() < 0.5:
                    yield event("TradeBusted", fill, turn, stream=stream)
                else:
                    yield event("TradeAmended", {**fill, "price": "99"}, turn, stream=stream)


def _troubled(dice: random.Random, sent: list[Sent]) -> list[Sent]:
    """Lose some account events, and make some unknown."""
    lost, unknown = dice.choice(_TROUBLE), dice.choice(_TROUBLE)
    made: list[Sent] = []
    for message in sent:
        if message.subject.startswith("trades.") and message.data.startswith(b"{"):
            if dice.random() < lost:
                continue
            if dice.random() < unknown:
                message = _unknown(dice, message)
        made.append(message)
    return made


def _unknown(dice: random.Random, sent: Sent) -> Sent:
    if dice.random() < 0.5:
        return changed(sent, event_type="MoonPhaseChanged")
    return changed(sent, schema_version="9.0.0")


@contextmanager
def small_limits(choose: Callable[[tuple[int, ...]], int]) -> Iterator[None]:
    """Let rules 2 know one type more than rules 1, and a log have small limits, or usual ones."""
    patches: list[tuple[Any, str, Any]] = [
        (registry, "_account_codecs", {}),  # what it found before
        (registry, "_FROM_RULES", {**registry._FROM_RULES, (NEW_TYPE, 1): 2}),
        (table_fold, "RULES_VERSION", 2),
        (stream_fold, "PARKED_MAX", choose(_PARKED_MAX)),
        (windows, "WINDOW", choose(_WINDOW)),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    try:
        for owner, name, value in patches:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


class Typed(msgspec.Struct, frozen=True):
    """The type of an event."""

    event_type: str


def type_of(data: bytes) -> str:
    """Return the type of an event; empty for what is none."""
    try:
        return msgspec.json.decode(data, type=Typed).event_type
    except msgspec.DecodeError:
        return ""
