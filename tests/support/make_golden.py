"""Write the golden logs anew: `python -m tests.support.make_golden`.

Only for a change of the canonical form before it is frozen, or for a new log. A log that is in git
must otherwise fold to what is recorded, for ever.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import msgspec
from tests.support.events import (
    SAMPLES,
    Sent,
    deposit,
    dismissed,
    event,
    instrument,
    mark,
    raw,
    retried,
    rules,
    trade,
    unknown,
    voided,
)
from tests.support.golden import FOLDER, records
from tests.support.strategies import Story, disturbed

from psm.domain.publication.log_times import log_time
from psm.workers.replay.lines import LineResult, fold_lines


def linear() -> Iterator[Sent]:
    """Yield about 300 messages: everything that concerns linear instruments, and much noise."""
    yield rules(1)
    yield from map(raw, SAMPLES[:2])
    messages = disturbed(Story(seed=20251212, length=210, accounts=3).messages(), 7)
    for place, sent in enumerate(messages):
        yield sent
        if place % 40 == 17 and sent.subject.startswith("trades."):
            yield msgspec.structs.replace(sent, data=sent.data.replace(b'"1.0.0"', b'"1.0"'))
        if place % 50 == 11:
            yield Sent(subject="trades.acc_000", data=b"junk")
    yield instrument(1, kind="spot")
    yield instrument(2, base="X", multiplier="7")
    yield mark(9_999, "41000.5", "ETH-PERP")
    yield deposit(200_000, stream="acc_000")
    stream = "acc_late"
    yield trade(3, "sell", "2", "42000", stream=stream)
    yield deposit(2, "10", stream=stream, currency="EUR")
    yield unknown(4, stream=stream)
    yield trade(1, "buy", "1", "42000", stream=stream, commission="1", commission_currency="BNB")
    yield deposit(5, stream=stream)
    yield deposit(1, stream="acc_blocked")
    yield unknown(2, stream="acc_blocked")
    yield mark(10_000, "40000")


def repairs() -> Iterator[Sent]:
    """Yield about 60 messages: every way an operator's event repairs a stream, or does not."""
    yield instrument()
    for stream in ("acc_a", "acc_b", "acc_c"):
        yield deposit(1, "5000", stream=stream)
        yield trade(2, "buy", "2", "100", stream=stream, fill_id="first", commission="0.5")
    yield unknown(3, stream="acc_a")
    yield mark(1, "101.5")
    yield trade(4, "sell", "0.7", "103", stream="acc_a", fill_id="second")
    yield deposit(6, "6", stream="acc_a")
    yield voided(3, 3, stream="acc_a")
    yield retried(stream="acc_a")
    yield retried(stream="acc_a")
    yield dismissed(1, stream="acc_a")
    yield mark(2, "97")
    yield deposit(5, "-5", stream="acc_a")
    yield deposit(2, stream="acc_a")
    yield deposit(5, stream="acc_b")
    yield deposit(8, stream="acc_b")
    yield voided(4, 4, stream="acc_b")
    yield voided(3, 5, stream="acc_b")
    yield voided(3, 4, stream="acc_b")
    yield voided(3, 4, stream="acc_b")
    yield deposit(3, stream="acc_b")
    yield unknown(6, stream="acc_b")
    yield voided(6, 7, stream="acc_b")
    yield deposit(7, stream="acc_b")
    yield deposit(301, stream="acc_new")
    yield voided(1, 300, stream="acc_new")
    yield deposit(44, stream="acc_new")
    yield deposit(46, stream="acc_new")
    yield dismissed(7, stream="acc_none", actor="")
    busted = {"fill_id": "first", "reason": "venue"}
    yield event("TradeBusted", busted, 4, stream="acc_c")
    yield trade(5, "sell", "1", "99", stream="acc_c")
    yield voided(3, 3, stream="acc_c")
    yield retried(stream="acc_c", salt="late")
    yield mark(3, "99.5")


def blockers(lines: list[bytes], streams: Sequence[str]) -> Iterator[bytes]:
    """Yield the lines, then dismissals of what still blocks: now its log sequence is known."""
    yield from lines
    results = [result for result in fold_lines(lines) if isinstance(result, LineResult)]
    sequence = results[-1].log_sequence
    for stream in streams:
        at = next(
            result.log_sequence
            for result in results
            if result.stream_id == stream and result.outcome == "blocked" and result.sequence_number
        )
        sequence += 3
        sent = dismissed(at, stream=stream, salt="golden")
        head = {"log_sequence": sequence, "subject": sent.subject, "time": "2025-12-13T00:00:00Z"}
        yield msgspec.json.encode(head)[:-1] + b',"data":' + sent.data + b"}\n"


def written(messages: Iterator[Sent], seed: int) -> Iterator[bytes]:
    """Yield the lines of a log; bodies that are no JSON object go as text."""
    rng = random.Random(seed)
    time, sequence = 1_765_535_400_000_000_000, 0
    for sent in messages:
        time += rng.choice([1, 1_000, 150_000_000, 900_000_000, 2_500_000_000])
        sequence += rng.choice([1, 1, 1, 5])
        data = sent.data if sent.data.startswith(b"{") else msgspec.json.encode(sent.data.decode())
        stamp = log_time(time)[:-1] + f"{time % 1000:03d}Z"
        head = {"log_sequence": sequence, "subject": sent.subject, "time": stamp}
        yield msgspec.json.encode(head)[:-1] + b',"data":' + data + b"}\n"


def main() -> None:
    """Write every golden log and its records."""
    logs = {
        "linear": list(written(linear(), 1)),
        "repairs": list(blockers(list(written(repairs(), 2)), ("acc_a", "acc_b"))),
    }
    for name, lines in logs.items():
        (FOLDER / f"{name}.jsonl").write_bytes(b"".join(lines))
        recorded = [msgspec.json.encode(record) + b"\n" for record in records(lines)]
        (FOLDER / f"{name}.expected.jsonl").write_bytes(b"".join(recorded))


if __name__ == "__main__":
    main()
