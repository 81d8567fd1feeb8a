"""Clusters off the log of a real broker: said once a day, and computed again by anybody.

A day is a moment between two messages here: the broker's own times are all there are.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from nats.aio.client import Client
from tests.integration.test_rulebook import Desk
from tests.support.events import Sent, mark, raw
from tests.support.feed import publish
from tests.support.workbench import Bench, open_bench

from psm.adapters.jetstream import get
from psm.contracts.subjects import TRADES
from psm.risk.cluster_event import CLOSES
from psm.workers.ops.keys import load_private
from psm.workers.risk import closes, clusters_job
from psm.workers.risk.closes import bounds_of, last_complete_day, read_closes_of_log
from psm.workers.risk.clusters_job import publish_clusters
from psm.workers.risk.rulebook import read_rulebook

FIRST = date(2026, 1, 1)


@pytest.fixture
async def bench(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setenv("NATS_URL", nats_url)
    async with open_bench(nats_url) as opened:
        yield opened


class Days:
    """Days of the log, each as long as its messages take."""

    def __init__(self, nc: Client, patch: pytest.MonkeyPatch) -> None:
        self.ends: list[int] = []
        self._nc = nc
        patch.setattr(closes, "bounds_of", self.bounds)
        patch.setattr(clusters_job, "last_complete_day", self.last)

    async def add(self, *sent: Sent) -> None:
        """Let a day pass: its messages, and then one that nobody looks at, of the next."""
        await publish(self._nc, sent)
        boundary = await publish(self._nc, [raw(b"next day", stream="nobody")])
        stored = await get(self._nc, TRADES, boundary)
        assert stored is not None
        self.ends.append(stored.time_ns)

    def bounds(self, day: date) -> tuple[int, int]:
        number = (day - FIRST).days
        inside = 0 <= number < len(self.ends)
        ends = [0, *self.ends]
        return (ends[number], ends[number + 1]) if inside else (0, 0)

    async def last(self, _: Client) -> date | None:
        return FIRST + timedelta(days=len(self.ends) - 1)


async def test_closes_are_the_last_marks_that_did_something(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one that is no event, or late, or of another symbol; a day without one has none."""
    days = Days(bench.nc, monkeypatch)
    junk = Sent(subject="marks.A", data=b"junk")
    elsewhere = Sent(subject="marks.A", data=mark(9, "1", "C").data)
    await days.add(mark(1, "1", "A"), mark(2, "2", "A"), mark(1, "7", "B"))
    await days.add(junk)
    await days.add(mark(5, "5", "A"), mark(4, "4", "A"), junk, elsewhere, mark(2, "8", "B"))
    found = await read_closes_of_log(bench.nc, FIRST + timedelta(days=2), 4)
    assert found.days == ("2025-12-31", "2026-01-01", "2026-01-02", "2026-01-03")
    texts = {name: [p and str(p) for p in prices] for name, prices in found.prices.items()}
    assert texts == {"A": [None, "2", None, "5"], "B": [None, "7", None, "8"]}
    one = await read_closes_of_log(bench.nc, FIRST, 1, ["A", "Z"])
    assert {name: [p and str(p) for p in prices] for name, prices in one.prices.items()} == {
        "A": ["2"],
        "Z": [None],
    }


async def test_no_day_has_passed(bench: Bench) -> None:
    """A log that began today has nothing to say; a day is from midnight to midnight, UTC."""
    assert await last_complete_day(bench.nc) is None
    await bench.publish(mark(1, "1"))
    assert await last_complete_day(bench.nc) is None
    start, end = bounds_of(date(2026, 3, 1))
    assert (start, end - start) == (1_772_323_200_000_000_000, 86_400_000_000_000)


async def test_said_once_shown_and_verified(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By as many jobs as run; then anybody can compute it again, and a forged one differs."""
    desk = Desk(bench.nc, tmp_path, capsys)
    await desk.found("ada", "bob")
    await desk.keygen("job")
    for who in ("ada", "bob"):
        path = str(tmp_path / "job.pub")
        options = ("--holder", "job", "--right", "publish")
        await desk.run("keys", "define", path, *options, *desk.by(who))
    days, dice = Days(bench.nc, monkeypatch), random.Random(1)
    level = dict.fromkeys("ABC", 100.0)
    for number in range(1, CLOSES + 1):
        moves = [dice.gauss(0, 0.02), dice.gauss(0, 0.02)]
        for name, move in zip("ABC", (moves[0], moves[0], moves[1]), strict=True):
            level[name] *= 1 + move + dice.gauss(0, 0.001)
        await days.add(*(mark(number, f"{level[name]:.2f}", name) for name in "ABC"))
    assert "there are none yet" in await desk.run("clusters", "show", code=1)
    key = load_private(tmp_path / "job")
    said = await asyncio.gather(
        *(publish_clusters(bench.nc, key, "job", "daily", "B") for _ in range(4))
    )
    applied = [one for one in said if one is not None]
    assert [one.ruled.outcome for one in applied] == ["applied"]
    assert await publish_clusters(bench.nc, key, "job", "daily") is None
    book = (await read_rulebook(bench.nc)).rulebook
    assert book.clusters is not None
    assert dict(book.clusters.clusters) == {"A": ("A", "B"), "C": ("C",)}
    shown = await desk.run("clusters", "show")
    assert (shown["version"], shown["beta"]["B"]) == (1, "1")
    assert (await desk.run("clusters", "verify"))["equal"] is True
    await days.add(mark(CLOSES + 1, "200", "A"))
    again = await publish_clusters(bench.nc, key, "job", "daily")
    assert again is not None
    assert again.ruled.outcome == "applied"
    assert (await desk.run("clusters", "verify", "1"))["equal"] is True
    assert (await desk.run("clusters", "verify", "2"))["equal"] is True
