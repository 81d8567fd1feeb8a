"""How fast the fold is on one core, beside what merely reading the same messages costs."""

from __future__ import annotations

import cProfile
import hashlib
import pstats
import statistics
import time
from typing import Any, get_args

from benchmarks.figures import Figure, Size, beside
from benchmarks.least import least_us
from benchmarks.logs import PARTITIONS, MixedLog
from psm.contracts import registry
from psm.contracts.codec import decode_envelope
from psm.domain.books import Books
from psm.domain.fold import fold
from psm.domain.messages import Emit, LogMessage
from psm.domain.snapshot import dump_account

TARGET_EVENTS_PER_S = 60_000
RATIO_MAX = 20


def measure(
    *, events: int, accounts: int, positions: int, emit: Emit, shared: bool = True
) -> dict[str, Any]:
    """Return fold and baseline in events per second; state after the log as a fingerprint.

    Args:
        events: measured.
        accounts: that the log has.
        positions: open, per account.
        emit: `updates` writes every update out as live; `hashes` computes all four hashes
            after every event; `nothing` only keeps the books, as recovery does.
        shared: whether all accounts hold the same symbols, so that each mark values all of them.
    """
    log = MixedLog(events=events, accounts=accounts, positions=positions, shared=shared)
    books = _warm(log, emit)
    started = time.process_time()
    for message in log.measured:
        fold(books, message, emit=emit)
    folded_s = time.process_time() - started
    hashes = sorted(account.ledger_hash() for account in books.accounts.values())
    return {
        "accounts": accounts,
        "positions_per_account": positions,
        "accounts_per_mark": accounts if shared else 1,
        "emit": emit,
        "events": events,
        "events_per_s": round(events / folded_s),
        "microseconds_per_event": round(folded_s / events * 1e6, 2),
        "baseline_events_per_s": round(events / _baseline_s(log.measured)),
        "ledger_hashes": hashlib.sha256(b"".join(hashes)).hexdigest(),
    }


async def figures(size: Size) -> list[Figure]:
    """Return the fold's rates beside merely decoding, its cost with many positions, snapshots."""
    events = size.of(10_000)
    found = []
    cost: dict[Emit, float] = {}
    for emit in get_args(Emit):
        rows = [
            measure(events=events, accounts=20, positions=10, emit=emit)
            for _ in range(min(3, size.rounds))
        ]
        cost[emit] = statistics.median(row["microseconds_per_event"] for row in rows)
        found.append(
            beside(
                f"fold with {emit}" if emit != "nothing" else "fold only",
                "events/s",
                [row["events_per_s"] for row in rows],
                [row["baseline_events_per_s"] for row in rows],
            )
        )
    log = MixedLog(events=events, accounts=20, positions=10, shared=False)
    alone = [
        measure(events=events, accounts=20, positions=10, emit="hashes", shared=False)
        for _ in range(min(3, size.rounds))
    ]
    least = [1e6 / least_us(log, _warm(log, "hashes")) for _ in alone]
    many = measure(events=events, accounts=2, positions=size.of(1_000), emit="hashes")
    sizes = snapshot_bytes(events=size.of(8_000))
    return [
        *found,
        beside(
            "fold with hashes, a mark values one account",
            "events/s",
            [row["events_per_s"] for row in alone],
            least,
        ),
        Figure(name="its decimals, texts and hashes alone", unit="events/s", value=max(least)),
        Figure(
            name="fold with hashes, alone",
            unit="events/s",
            value=1e6 / cost["hashes"],
            target=TARGET_EVENTS_PER_S,
        ),
        beside(
            f"fold, {many['positions_per_account']:,} positions",
            "us/event",
            [many["microseconds_per_event"]],
            [cost["hashes"]],
            target=RATIO_MAX,
            better="at most",
        ),
        *(
            Figure(name=f"snapshot, {row['windows']}", unit="bytes", value=row["bytes_per_account"])
            for row in sizes
        ),
    ]


def profile_text(*, events: int) -> str:
    """Return the same as lines to read."""
    rows = profile(events=events, accounts=20, positions=10)
    lines = [f"{row['share']:>7.1%} {row['calls']:>9} {row['function']}" for row in rows]
    return "\n".join(lines) + "\n"


def profile(*, events: int, accounts: int, positions: int, top: int = 10) -> list[dict[str, Any]]:
    """Return where the time goes: the functions with the most time of their own."""
    log = MixedLog(events=events, accounts=accounts, positions=positions)
    books = _warm(log, "hashes")
    profiler = cProfile.Profile()
    profiler.enable()
    for message in log.measured:
        fold(books, message, emit="hashes")
    profiler.disable()
    table: dict[Any, Any] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    rows = sorted(table.items(), key=lambda row: -row[1][2])[:top]
    total = sum(row[2] for row in table.values())
    return [
        {
            "function": f"{place[0].rpartition('/')[2]}:{place[1]}({place[2]})",
            "calls": row[1],
            "share": round(row[2] / total, 3),
        }
        for place, row in rows
    ]


def snapshot_bytes(*, events: int = 8_000) -> list[dict[str, Any]]:
    """Return bytes per account of a snapshot, with empty and with full windows."""
    found = []
    for name, length in (("empty windows", 0), ("full windows", events)):
        log = MixedLog(events=length, accounts=10, positions=10)
        books = _warm(log, "nothing")
        for message in log.measured:
            fold(books, message, emit="nothing")
        sizes = [len(dump_account(a, 1, b"\0" * 32)) for a in books.accounts.values()]
        found.append({"windows": name, "bytes_per_account": sum(sizes) // len(sizes)})
    return found


def _warm(log: MixedLog, emit: Emit) -> Books:
    books = Books(partitions=PARTITIONS)
    for message in log.warm:
        fold(books, message, emit=emit)
    return books


def _baseline_s(messages: list[LogMessage]) -> float:
    """Decode envelope and payload and take one SHA-256 of each message."""
    started = time.process_time()
    for message in messages:
        envelope = decode_envelope(message.data)
        registry.codec_for(envelope).decode(envelope.payload)
        hashlib.sha256(message.data).digest()
    return time.process_time() - started
