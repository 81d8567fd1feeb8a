"""The views about risk on real servers: each record once, a rebuild bit-equal, whatever happens."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client
from tests.support.archiving import archiving, at_least
from tests.support.risk_log import GROUP
from tests.support.risk_views import rows_of, stored, traded, updates
from tests.support.running import READY_S, started
from tests.support.workbench import until_answer

from psm.adapters import postgres, telemetry
from psm.adapters.jetstream import connect, stream_info
from psm.adapters.jetstream.api import call
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts import subjects
from psm.contracts.errors import ConfigError
from psm.domain.market.slots import ValuationSlots
from psm.projections.projection import Projection
from psm.projections.risk import RISK, RULEBOOK
from psm.risk.messages import RiskOutput, Stored
from psm.risk.rulebook import slot_of
from psm.workers.process.crash_points import CRASH_POINTS
from psm.workers.process.settings import Settings
from psm.workers.projector.follower import Projector
from psm.workers.projector.lag import view_lag
from psm.workers.projector.rebuild import Rebuild, RebuildReport

BOTH = (RISK, RULEBOOK)
TABLES = ("risk_decisions", "risk_state", "risk_limits", "risk_halts", "risk_groups")
POINTS = [point for point in CRASH_POINTS if point.startswith("projector.")]


class World:
    """A broker with records and rules, a database."""

    def __init__(self, nc: Client, pool: postgres.Pool, dsn: str) -> None:
        self.nc, self.pool, self.dsn = nc, pool, dsn

    async def record(self, outputs: Sequence[RiskOutput]) -> None:
        """Store records as their owner does, one by one."""
        for one in outputs:
            subject = subjects.risk_record(one.kind, slot_of(GROUP), one.key)
            await self.nc.jetstream().publish(subjects.entrance(subject), one.data, stream="RISK")

    async def own(self) -> None:
        """Store an owner record, as every takeover and renewal does."""
        subject = subjects.entrance(subjects.risk_owner(slot_of(GROUP)))
        await self.nc.jetstream().publish(subject, b"{}", stream="RISK")

    async def say(self, log: Sequence[Stored]) -> None:
        """Store what was said in the rulebook."""
        for one in log:
            await self.nc.jetstream().publish(one.subject, one.data)

    @asynccontextmanager
    async def projecting(self, count: int = 1) -> AsyncIterator[list[Projector]]:
        metrics = telemetry.quiet().metrics
        projectors = [Projector(self.nc, self.pool, BOTH, [0], metrics) for _ in range(count)]
        tasks = [asyncio.create_task(projector.run()) for projector in projectors]
        try:
            yield projectors
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def caught_up(self, *projections: Projection) -> None:
        """Wait until the views have read everything."""

        async def lags() -> list[int]:
            found = [await view_lag(self.nc, self.pool, one) for one in projections or BOTH]
            return [lag.lag_events for of_one in found for lag in of_one]

        await until_answer(lags, lambda found: not any(found), "the views have read everything")

    async def rebuild(self, projection: Projection = RISK, **options: bool) -> RebuildReport:
        rebuild = Rebuild(self.nc, self.pool, projection, partitions=1, slots=ValuationSlots())
        return await rebuild.run(**options)

    async def rows(self) -> dict[str, list[dict[str, Any]]]:
        async with postgres.acquired(self.pool) as connection:
            return {
                table: [dict(row) for row in await connection.fetch(f"TABLE {table} ORDER BY 1, 2")]
                for table in TABLES
            }

    async def execute(self, query: str) -> None:
        async with postgres.acquired(self.pool) as connection:
            await connection.execute(query)

    async def expire(self, stream: str, first: int) -> None:
        """Let everything in a stream before a sequence expire."""
        info = await call(self.nc, f"STREAM.INFO.{stream}", None)
        config = info["config"] | {"max_msgs": info["state"]["last_seq"] - first + 1}
        await call(self.nc, f"STREAM.UPDATE.{stream}", config)
        await call(self.nc, f"STREAM.UPDATE.{stream}", info["config"])


@pytest.fixture
async def world(nats_url: str, postgres_dsn: str) -> AsyncIterator[World]:
    nc = await connect(nats_url, name="test")
    await apply(nc, Settings(partitions=1))
    pool = await postgres.open_pool(postgres_dsn, name="test")
    yield World(nc, pool, postgres_dsn)
    pool.terminate()
    await nc.close()


def shown(outputs: Sequence[RiskOutput]) -> tuple[set[str], set[str]]:
    """Return hashes of decisions, and entries of the state, that records must leave."""
    rows = rows_of(updates(list(outputs)))
    decisions = {row["decision_hash"] for row in rows["risk_decisions"]}
    return decisions, {row["entry"] for row in rows["risk_state"]}


def pieces(outputs: Sequence[RiskOutput], size: int) -> list[Sequence[RiskOutput]]:
    """Return records in pieces of a size."""
    return [outputs[start : start + size] for start in range(0, len(outputs), size)]


async def assert_right(world: World, outputs: Sequence[RiskOutput]) -> None:
    """The views have each decision once, byte for byte, and the state that the records leave."""
    rows = await world.rows()
    decisions = rows["risk_decisions"]
    assert [row["n"] for row in sorted(decisions, key=lambda row: row["risk_sequence"])] == [
        msgspec.json.decode(one.data)["payload"]["n"] for one in outputs if one.kind == "decision"
    ]
    stored_bytes = {one.data for one in outputs}
    assert all(row["record"].encode() in stored_bytes for row in decisions)
    found = {row["decision_hash"] for row in decisions}, {r["entry"] for r in rows["risk_state"]}
    assert found == shown(outputs)


# --- following ------------------------------------------------------------------------------------


async def test_views_say_what_the_streams_say(world: World) -> None:
    """Decisions, state, limits and halts; owner records and foreign words move the checkpoint."""
    log = traded()
    outputs = stored(log.outputs)
    await world.own()
    await world.nc.jetstream().publish("risk.decision.acc_9", b"not ours")
    await world.record(outputs)
    await world.own()
    await world.say(log.rules.log)
    async with world.projecting() as (projector,):
        await world.caught_up()
        assert [status.state for status in projector.statuses()] == ["running", "running"]
    await assert_right(world, outputs)
    rows = await world.rows()
    assert [row["status"] for row in rows["risk_limits"]] == ["agreed"] * 2
    assert {(row["scope"], row["lifted_by"]) for row in rows["risk_halts"]} == {
        ("firm", "bob"),
        ("account:acc_1", None),
    }
    assert rows["risk_groups"], "the group of the rulebook is one of the view"


async def test_restart_goes_on_with_the_rulebook_as_it_was(world: World) -> None:
    """The fold begins again from the start of the stream, the rows go on at the checkpoint."""
    log = traded()
    half = len(log.rules.log) // 2
    await world.say(log.rules.log[:half])
    async with world.projecting():
        await world.caught_up()
    await world.execute("UPDATE risk_limits SET proposed_because = 'written once'")
    await world.say(log.rules.log[half:])
    async with world.projecting():
        await world.caught_up()
    rows = await world.rows()
    assert len(rows["risk_limits"]) == 2
    assert rows["risk_limits"][0]["proposed_because"] == "written once"
    assert [row["lifted_by"] for row in rows["risk_halts"] if row["scope"] == "firm"] == ["bob"]


async def test_two_projectors_write_each_record_once(world: World) -> None:
    """The checkpoint lets one of them through."""
    log = traded(3)
    outputs = stored(log.outputs)
    async with world.projecting(2):
        for part in pieces(outputs, 7):
            await world.record(part)
        await world.say(log.rules.log)
        await world.caught_up()
    await assert_right(world, outputs)
    report = await world.rebuild()
    assert (report.compared, report.rows_differ, report.swapped) == (True, 0, True)


async def test_killed_at_every_crash_point(
    world: World, nats_url: str, postgres_dsn: str, tmp_path: Path
) -> None:
    """Between two effects there is no moment at which a death would show in the views."""
    outputs = stored(traded(6).outputs)
    environment = {"NATS_URL": nats_url, "POSTGRES_DSN": postgres_dsn, "PSM_PARTITIONS": "1"}
    share = len(outputs) // (len(POINTS) * 2) + 1
    parts = pieces(outputs, share)
    for (point, passes), part in zip(itertools.product(POINTS, (1, 2)), parts, strict=False):
        armed = {**environment, "PSM_CRASH_POINT": f"{point}:{passes}"}
        with started(tmp_path, "projector", environment=armed) as projector:
            for one in part:
                await world.record([one])
            waiting = asyncio.create_task(asyncio.to_thread(projector.process.wait, READY_S))
            while not waiting.done():  # what makes it pass the point a second time
                await world.own()
                await asyncio.sleep(0.02)
            assert waiting.result() == -signal.SIGKILL, projector.log.read_text()
    async with world.projecting():
        await world.caught_up()
    told = (await world.rows())["risk_decisions"]
    assert [row["n"] for row in sorted(told, key=lambda row: row["risk_sequence"])] == [
        msgspec.json.decode(one.data)["payload"]["n"]
        for one in outputs[: share * len(POINTS) * 2]
        if one.kind == "decision"
    ]
    report = await world.rebuild()
    assert (report.compared, report.rows_differ, report.swapped) == (True, 0, True)


# --- rebuilding -----------------------------------------------------------------------------------


async def test_rebuild_is_bit_equal_whatever_the_batches_were(world: World) -> None:
    """Followed in random pieces over restarts; the rebuild reads everything at once."""
    log = traded(4)
    outputs, said = stored(log.outputs), list(log.rules.log)
    dice = random.Random(4)
    while outputs or said:
        count = dice.randint(1, 40)
        await world.record(outputs[:count])
        await world.say(said[:count])
        outputs, said = outputs[count:], said[count:]
        async with world.projecting():
            await world.caught_up()
    before = await world.rows()
    for projection in BOTH:
        report = await world.rebuild(projection)
        assert (report.compared, report.rows_differ, report.swapped) == (True, 0, True), report
    assert await world.rows() == before


async def test_rebuild_beside_a_projector_that_goes_on(world: World) -> None:
    """Whichever side is behind reads on to where the other one is; afterwards it goes on."""
    log = traded(2)
    outputs = stored(log.outputs)
    half = len(outputs) // 2
    await world.record(outputs[:half])
    async with world.projecting():
        await world.caught_up(RISK)
    await world.record(outputs[half:-5])
    await world.say(log.rules.log)
    for projection in BOTH:  # live is behind
        report = await world.rebuild(projection)
        assert (report.compared, report.rows_differ, report.swapped) == (True, 0, True)
    async with world.projecting():
        await world.record(outputs[-5:])
        await world.caught_up()
    await assert_right(world, outputs)


async def test_tampered_row_is_told_and_not_swapped_away_in_silence(world: World) -> None:
    """With its key and column; only `accept_differences` puts the truth in its place."""
    outputs = stored(traded().outputs)
    await world.record(outputs)
    async with world.projecting():
        await world.caught_up(RISK)
    right = await world.rows()
    await world.execute(
        "UPDATE risk_decisions SET decision = 'approved' WHERE decision <> 'approved'"
    )
    report = await world.rebuild()
    assert not report.swapped
    assert report.rows_differ > 0
    assert {one.column for one in report.differences} == {"decision"}
    report = await world.rebuild(accept_differences=True)
    assert report.swapped
    assert await world.rows() == right


async def test_rebuild_reads_what_expired_from_the_archive(world: World) -> None:
    """A view is older than its stream keeps; without the archive the rebuild says what is gone."""
    outputs = stored(traded(2).outputs)
    await world.record(outputs)
    async with world.projecting():
        await world.caught_up(RISK)
    right = await world.rows()
    async with archiving(world.nc, world.dsn):
        query = "SELECT coalesce(max(js_sequence), 0) FROM archive_checkpoints"
        await at_least(world.dsn, f"{query} WHERE js_stream = 'RISK'", len(outputs))
    await world.expire("RISK", len(outputs) // 2)
    report = await world.rebuild()
    assert (report.compared, report.rows_differ, report.swapped) == (True, 0, True)
    assert await world.rows() == right


async def test_rebuild_without_stream_and_archive_is_refused(world: World) -> None:
    """It would take decisions out of the view."""
    outputs = stored(traded().outputs)
    await world.record(outputs)
    async with world.projecting():
        await world.caught_up(RISK)
    await world.expire("RISK", 5)
    with pytest.raises(ConfigError, match="RISK holds its message 1 no more"):
        await world.rebuild()
    await assert_right(world, outputs)


# --- what expires ---------------------------------------------------------------------------------


async def test_view_that_read_everything_is_not_behind_a_stream_that_expired(
    world: World,
) -> None:
    """A month without orders empties RISK; that loses nothing."""
    outputs = stored(traded().outputs)
    await world.record(outputs[:-1])
    async with world.projecting():
        await world.caught_up(RISK)
    last = (await stream_info(world.nc, "RISK")).last_sequence
    await world.record(outputs[-1:])
    await world.expire("RISK", last + 1)
    async with world.projecting():
        await world.caught_up(RISK)
    await assert_right(world, outputs)


async def test_view_behind_what_expired_says_so(world: World) -> None:
    """And what to do about it."""
    outputs = stored(traded().outputs)
    await world.record(outputs[:3])
    async with world.projecting():
        await world.caught_up(RISK)
    await world.record(outputs[3:])
    await world.expire("RISK", 6)

    async with world.projecting() as (projector,):

        async def states() -> list[str]:
            return [status.state for status in projector.statuses()]

        found = await until_answer(
            states, lambda found: "behind_retention" in found, "the loss is noticed"
        )
        assert found == ["behind_retention", "running"]
        (detail,) = [status.detail for status in projector.statuses() if status.detail]
        assert "psm views rebuild" in detail


# --- quarantine -----------------------------------------------------------------------------------


async def test_row_that_cannot_be_held_keeps_out_no_other(world: World) -> None:
    """Its key is in quarantine, with the place of its record; a rebuild finds the same."""
    outputs = stored(traded().outputs)
    place = next(i for i, one in enumerate(outputs, 1) if one.kind == "decision")
    poisoned = outputs[place - 1].data.replace(b'"symbol":"BTC-PERP"', b'"symbol":"\\u0000"')
    outputs[place - 1] = msgspec.structs.replace(outputs[place - 1], data=poisoned)
    await world.record(outputs)
    async with world.projecting() as (projector,):
        await world.caught_up(RISK)
        (entry,) = projector.statuses()[0].stale
    assert (entry.view, entry.column_name) == ("risk_decisions", "symbol")
    assert (entry.stream_id, entry.log_sequence) == ("acc_1", place)
    decisions = (await world.rows())["risk_decisions"]
    assert len(decisions) == len([one for one in outputs if one.kind == "decision"]) - 1
    report = await world.rebuild()
    assert (report.rows_differ, report.swapped, len(report.stale)) == (0, True, 1)


async def test_empty_log_has_no_lag(world: World) -> None:
    """Nothing was decided and nothing said."""
    assert [await view_lag(world.nc, world.pool, one) for one in BOTH] == [[], []]
