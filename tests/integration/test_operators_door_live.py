"""Who repairs whose stream: operators' events on the broker, through their own door and others'."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from tests.support.events import Sent, deposit, dismissed, unknown, voided
from tests.support.log_oracle import Verdict
from tests.support.workbench import Bench, open_bench

from psm.adapters.jetstream.streams import RECORDED
from psm.contracts import subjects
from psm.domain.delivery.delivery import Delivery
from psm.workers.replay.playback import filters_of

PARTITIONS = 4


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url, partitions=PARTITIONS) as opened:
        yield opened


def among_trades(sent: Sent) -> Sent:
    """Return an operator's event as somebody with a producer's rights would publish it."""
    return msgspec.structs.replace(sent, subject=sent.subject.replace("repair", "trades"))


def delivery(verdict: Verdict, stream: str = "acc_001") -> Delivery:
    """Return how a stream stands."""
    books = verdict.books[subjects.partition_of(stream, PARTITIONS)]
    return books.accounts[stream].delivery


async def test_producer_voids_nothing_of_a_foreign_account(bench: Bench) -> None:
    """Its event is rejected, whoever it says it is; the event that was late comes and counts."""
    boss = voided(2, 2, actor="the boss")
    async with bench.worker():
        await bench.publish(deposit(1), deposit(3), among_trades(boss), deposit(2))
        verdict = await bench.judge()
    (refused,) = verdict.payloads("EventRefused")
    assert (refused["outcome"], refused["reason"]) == ("rejected", "operators_only")
    assert delivery(verdict).version == 3


async def test_repairs_and_events_are_folded_in_log_order(bench: Bench) -> None:
    """Both subjects are one stream: live, after a restart and in every account of it alike."""
    sent = [deposit(1), unknown(2), deposit(3), dismissed(2), deposit(6), voided(4, 5), deposit(7)]
    last = await bench.publish(*sent, deposit(1, stream="other"))
    async with bench.worker():
        verdict = await bench.judge()
    assert last == len(sent) + 1
    assert delivery(verdict).version == 7


async def test_repair_in_a_foreign_partition_stops_nobody(bench: Bench) -> None:
    """It is no event of its stream in any partition, and the stream waits on."""
    own = subjects.partition_of("acc_001", PARTITIONS)
    places = (str((own + 1) % PARTITIONS), "99", "x")
    wrong = [
        msgspec.structs.replace(dismissed(2), subject=f"repair.{place}.acc_001") for place in places
    ]
    async with bench.worker():
        await bench.publish(deposit(1), unknown(2), *wrong, deposit(1, stream="other"))
        verdict = await bench.judge()
        assert delivery(verdict).status == "blocked"
        assert verdict.payloads("EventRefused") == []
        await bench.publish(dismissed(2))
        assert delivery(await bench.judge()).version == 2


def test_replays_of_subjects_know_the_door() -> None:
    """`--subjects` takes repairs as it takes trades, by account or as they are stored."""
    assert filters_of(["repair.acc_001"]) == {"TRADES": ["repair.*.acc_001"]}
    assert filters_of(["repair.>"]) == {"TRADES": ["repair.>"]}
    assert filters_of(["risk.decision.a"]) == {"RISK": ["risk.decision.*.a", "risk.decision.a"]}
    assert filters_of(["risk.>"]) == {"RISK": ["risk.>"]}
    assert "repair" not in {name.lower() for name in RECORDED}
