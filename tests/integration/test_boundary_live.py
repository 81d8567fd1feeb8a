"""Odd subjects, fields and states on a real broker: they concern one stream alone."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import msgspec
import pytest
from tests.support.events import Sent, deposit, trade
from tests.support.log_oracle import Verdict
from tests.support.workbench import Bench, open_bench

from psm.adapters.jetstream.streams import BOUNDS
from psm.contracts import limits, subjects

PARTITIONS = 2


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url, partitions=PARTITIONS) as opened:
        yield opened


@pytest.mark.parametrize("subject", ["trades", "marks", "instruments", "collateral"])
async def test_subject_that_is_too_long(bench: Bench, subject: str) -> None:
    """Its refusal is short, names the token by its hash, and the partition goes on."""
    token = "x" * 3900
    async with bench.worker():
        await bench.publish(Sent(subject=f"{subject}.{token}", data=b"{}"), deposit(1))
        verdict = await bench.judge()
        (refused,) = verdict.payloads("EventRefused")
        assert refused["account_id"] == limits.INVALID_TOKEN
        assert refused["token_hash"] == hashlib.sha256(token.encode()).hexdigest()
        places = [place for found in verdict.updates.values() for place, _ in found]
        own = subjects.partition_of(token, PARTITIONS)
        assert f"psm.event.refused.{own}.{limits.INVALID_TOKEN}" in places
        assert max(map(len, places)) <= limits.SUBJECT_BYTES
        await bench.publish(deposit(2))
        assert _version(await bench.judge(), "acc_001") == 2


async def test_fill_with_odd_fields_is_booked_once(bench: Bench) -> None:
    """NUL and lone surrogates beside it change nothing; the fill again is known again."""
    fill = trade(1, "buy", "1", "100", fill_id="f1")
    odd = fill.data.replace(b"{", rb'{"note":"\u0000","more":"\ud800",', 1)
    others = [trade(n, "buy", "1", "100", fill_id=f"g{n}") for n in range(2, 202)]
    async with bench.worker():
        await bench.publish(msgspec.structs.replace(fill, data=odd), *others)
        repeated = trade(202, "buy", "1", "100", fill_id="f1", salt="again")
        await bench.publish(repeated)
        verdict = await bench.judge()
    (refused,) = verdict.payloads("EventRefused")
    assert refused["reason"] == "duplicate_fill"
    assert verdict.payloads("PositionUpdated")[-1]["size"] == "201"


async def test_nul_where_it_is_read(bench: Bench) -> None:
    """The envelope rejects, the payload refuses, and no update holds one."""
    sent = [
        deposit(1, correlation_id="\0"),
        deposit(1, currency="\0"),
        trade(2, "buy", "1", "100", "\0"),
        trade(3, "buy", "1", "100", fill_id="\0"),
        deposit(4),
    ]
    async with bench.worker():
        await bench.publish(*sent, deposit(1, stream="other"))
        verdict = await bench.judge()
    outcomes = [(r["outcome"], r["field"]) for r in verdict.payloads("EventRefused")]
    assert outcomes == [
        ("rejected", "correlation_id"),
        ("refused", "payload.currency"),
        ("refused", "payload.symbol"),
        ("refused", "payload.fill_id"),
    ]
    texts = [data for found in verdict.updates.values() for _, data in found]
    assert not [data for data in texts if rb"\u0000" in data]
    assert _version(verdict, "acc_001") == 4
    assert _version(verdict, "other") == 1


async def test_many_currencies_block_their_stream_alone(bench: Bench) -> None:
    """Behind the 500th asset the stream waits; updates stay small, and the neighbour is served."""
    count = limits.ASSETS + 20
    sent = [deposit(n, "1", currency=f"CURRENCY-WITH-A-LONG-NAME-{n:05d}") for n in range(1, count)]
    async with bench.worker():
        await bench.publish(*sent, deposit(1, stream="other"))
        verdict = await bench.judge(timeout_s=120)
    (blocked,) = verdict.payloads("StreamBlocked")
    assert (blocked["reason"], blocked["expected_sequence"]) == ("state_too_large", 501)
    assert _version(verdict, "acc_001") == limits.ASSETS
    assert _version(verdict, "other") == 1
    sizes = [len(data) for found in verdict.updates.values() for _, data in found]
    assert max(sizes) < limits.UPDATE_BYTES


async def test_bounds_are_constants_of_the_log(bench: Bench) -> None:
    """The metadata says by which bounds the log is folded."""
    info = await bench.nc.jetstream().stream_info("TRADES")
    assert info.config.metadata is not None
    assert {name: int(info.config.metadata[name]) for name in BOUNDS} == BOUNDS


def _version(verdict: Verdict, stream: str) -> int:
    books = verdict.books[subjects.partition_of(stream, PARTITIONS)]
    return books.accounts[stream].delivery.version
