"""The least a fold can cost: its primitives alone, with nothing between them.

How often an event sums decimals, writes exact texts and takes SHA-256 is counted in a real fold.
That often the same is then done in bare loops, on the amounts that the fold left behind. Branches,
calls, attributes, dictionaries and the bytes around the texts cost nothing here, so no fold in this
interpreter with these decimals and this canonical form can be faster.
"""

from __future__ import annotations

import cProfile
import hashlib
import pstats
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

from benchmarks.logs import MixedLog
from psm.contracts import registry
from psm.contracts.codec import decode_envelope
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.fold import fold
from psm.domain.ledger.canonical import position_part
from psm.domain.ledger.digests import ACCOUNT
from psm.domain.ledger.ledger_hash import part_of
from psm.domain.messages import LogMessage
from psm.domain.money import add, exact_text

Counts = dict[str, int]


def least_us(log: MixedLog, books: Books) -> float:
    """Return the microseconds that the primitives of an event of the log take.

    Args:
        log: whose measured part is folded here.
        books: after the warm part; all four hashes are asked for.
    """
    counts = _count(log.measured, books)
    account = next(iter(books.accounts.values()))
    amounts = [
        amount
        for position in account.ledger.positions.values()
        for amount in (position.size, position.cost, position.realized_pnl, position.fees)
    ]
    parts = [_account_part(account), *map(position_part, account.ledger.positions.values())]
    seconds = (
        _timed(lambda: _decode(log.measured))
        + _timed(lambda: _sum(amounts, counts["sums"]))
        + _timed(lambda: _write(amounts, counts["texts"]))
        + _timed(lambda: _hash(parts, counts["hashes"]))
    )
    return seconds / len(log.measured) * 1e6


def _count(messages: Sequence[LogMessage], books: Books) -> Counts:
    profiler = cProfile.Profile()
    profiler.enable()
    for message in messages:
        fold(books, message, emit="hashes")
    profiler.disable()
    counts = {"sums": 0, "texts": 0, "hashes": 0}
    table: dict[Any, Any] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    for (_, _, name), row in table.items():
        if "decimal.Context" in name:
            counts["sums"] += row[1]
        elif name == exact_text.__name__:
            counts["texts"] += row[1]
        elif "sha256" in name:
            counts["hashes"] += row[1]
    return counts


def _account_part(account: Account) -> bytes:
    """Return the account's own part, every amount of it written anew."""
    account.ledger.digests.drop_texts()
    part = part_of(account.ledger, ACCOUNT, account.delivery.version, account.delivery.status)
    assert part is not None, "an account always has it"
    return part


def _timed(work: Callable[[], None]) -> float:
    """Return the shortest of three runs, in seconds of processor time."""
    found = []
    for _ in range(3):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


def _decode(messages: Sequence[LogMessage]) -> None:
    for message in messages:
        envelope = decode_envelope(message.data)
        registry.codec_for(envelope).decode(envelope.payload)


def _sum(amounts: Sequence[Decimal], count: int) -> None:
    pairs = list(pairwise(amounts))
    for _ in range(count // len(pairs)):
        for one, other in pairs:
            add(one, other)


def _write(amounts: Sequence[Decimal], count: int) -> None:
    for _ in range(count // len(amounts)):
        for amount in amounts:
            exact_text(amount)


def _hash(parts: Sequence[bytes], count: int) -> None:
    for _ in range(count // len(parts)):
        for part in parts:
            hashlib.sha256(part).digest()
