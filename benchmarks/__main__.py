"""How fast the fold is on one core: no broker, no database, canonical updates and all hashes.

Prints one JSON line per measurement, the best of several runs: what else the machine does only
ever makes a run slower.
"""

from __future__ import annotations

import argparse
import gc
import platform
import sys
import time
import uuid

import msgspec

from psm.contracts import subjects
from psm.domain.books import Books
from psm.domain.fold import fold
from psm.domain.messages import LogMessage
from psm.domain.outcomes import Folded

PARTITIONS = 16
SECOND = 1_000_000_000
START = 1_765_535_400 * SECOND
SYMBOLS = ("BTC-PERP", "ETH-PERP", "SOL-PERP")
_IDS = uuid.UUID("5d1c4a9e-6f1e-5c43-9f4e-2a8f7c1b9d10")


def feed(accounts: int, events: int, marks_every: int) -> list[LogMessage]:
    """Return a log: each account buys, adds, reduces and flips in turn, with marks between."""
    log: list[LogMessage] = []
    numbers: dict[str, int] = {}

    def append(subject: str, stream: str, event_type: str, payload: dict[str, str]) -> None:
        numbers[subject] = numbers.get(subject, 0) + 1
        sequence = len(log) + 1
        envelope = {
            "event_id": str(uuid.uuid5(_IDS, f"{subject}/{numbers[subject]}")),
            "event_type": event_type,
            "stream_id": stream,
            "sequence_number": numbers[subject],
            "timestamp": "2025-12-12T10:30:00Z",
            "schema_version": "1.0.0",
            "payload": payload,
        }
        moment = START + sequence * SECOND // 1000
        data = msgspec.json.encode(envelope)
        log.append(LogMessage(log_sequence=sequence, subject=subject, time=moment, data=data))

    sides = (("buy", "0.5"), ("buy", "0.25"), ("sell", "0.5"), ("sell", "0.75"))
    for index in range(events):
        turn = index // accounts
        stream = f"acc_{index % accounts:05d}"
        symbol = SYMBOLS[turn % len(SYMBOLS)]
        side, quantity = sides[turn // len(SYMBOLS) % len(sides)]
        price = str(1000 + index % 97)
        payload = {"symbol": symbol, "side": side, "quantity": quantity, "price": price}
        append(subjects.stored_trades(stream, PARTITIONS), stream, "TradeExecuted", payload)
        if marks_every and index % marks_every == 0:
            mark = {"symbol": symbol, "price": price}
            append(f"marks.{symbol}", symbol, "MarkPriceUpdated", mark)
    return log


def measure(log: list[LogMessage]) -> tuple[float, int]:
    """Return the seconds that folding `log` takes, and how many updates came out."""
    books = Books(partitions=PARTITIONS)
    updates = 0
    gc.collect()
    began = time.perf_counter()
    for message in log:
        result = fold(books, message)
        assert isinstance(result, Folded)
        updates += len(result.updates)
    return time.perf_counter() - began, updates


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--events", type=int, default=20_000, help="account events per run")
    parser.add_argument("--runs", type=int, default=3, help="runs, the best counts")
    arguments = parser.parse_args()
    for accounts, marks_every in ((1, 0), (1_000, 0), (1_000, 100)):
        log = feed(accounts, arguments.events, marks_every)
        seconds, updates = min(measure(log) for _ in range(arguments.runs))
        result = {
            "benchmark": "fold",
            "accounts": accounts,
            "marks_every": marks_every,
            "messages": len(log),
            "updates": updates,
            "messages_per_s": round(len(log) / seconds),
            "us_per_message": round(seconds / len(log) * 1e6, 1),
            "python": platform.python_version(),
        }
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
