"""Write the golden logs anew: `python -m tests.support.make_golden`.

Only for a change of the canonical form before it is frozen, or for a new log. A log that is in git
must otherwise fold to what is recorded, for ever.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec
from tests.support.events import (
    SAMPLES,
    Sent,
    deposit,
    instrument,
    mark,
    raw,
    rules,
    trade,
    unknown,
)
from tests.support.golden import FOLDER, records
from tests.support.strategies import Story, disturbed

from psm.domain.publish import log_time


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
    lines = list(written(linear(), 1))
    (FOLDER / "linear.jsonl").write_bytes(b"".join(lines))
    recorded = [msgspec.json.encode(record) + b"\n" for record in records(lines)]
    (FOLDER / "linear.expected.jsonl").write_bytes(b"".join(recorded))


if __name__ == "__main__":
    main()
