"""A venue's statement on its way: HTTP and NATS, update, view, read, command, metric."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.exposition import generate_latest
from tests.integration.test_http import Api, serving
from tests.support.events import changed, deposit, event, instrument, opened, report, trade
from tests.support.fuzzing.corpus import odd_reports
from tests.support.log import LogSize, empty_log
from tests.support.running import Running, psm, started
from tests.support.workbench import WAIT_S, end, until

from psm.adapters import telemetry
from psm.contracts import EventFactory, Publisher
from psm.workers.fleet.worker import Worker
from psm.workers.partition.settings import PartitionSettings

ACCOUNT = "acc_venue"
HELD = {"symbol": "BTC-PERP", "size": "2", "entry_price": "30", "currency": "USDT"}


class World:
    """Worker, projector and read service on real servers."""

    def __init__(self, api: Api, worker: Running, environment: dict[str, str]) -> None:
        self.api = api
        self.worker = worker
        self.environment = environment

    async def post(self, sent: Any) -> Any:
        """Append an event over HTTP, without its number."""
        body = {**msgspec.json.decode(sent.data)}
        body.pop("sequence_number", None)
        return await self.api.client.post("/psm/events", json=body)

    async def answer(self, sent: Any) -> dict[str, Any]:
        """Post a report; return the document that its Link leads to."""
        response = await self.post(sent)
        assert response.status_code in (200, 201), response.text
        assert response.json()["sequence_number"] is None
        found = await self.api.client.get(f"{response.links['related']['url']}&timeout_s=30")
        assert found.status_code == 200, found.text
        document: dict[str, Any] = found.json()
        return document

    async def psm(self, *arguments: str, code: int = 0, stdin: str = "") -> str:
        """Run a command; return what it printed."""
        done = await asyncio.to_thread(
            psm, *arguments, environment=self.environment, check=False, stdin=stdin
        )
        assert done.returncode == code, done.stderr + done.stdout
        return str(done.stdout)

    async def reconciled(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Return what `psm reconcile -o json` found."""
        found: dict[str, Any] = json.loads(
            await self.psm("reconcile", ACCOUNT, *arguments, "-o", "json", code=code)
        )
        return found


@pytest.fixture
async def world(nats_url: str, postgres_dsn: str, tmp_path: Path) -> AsyncIterator[World]:
    """An account with cash and a position."""
    environment = {
        "NATS_URL": nats_url,
        "POSTGRES_DSN": postgres_dsn,
        "PSM_PARTITIONS": "4",
        "PSM_ACTOR": "ann",
    }
    async with (
        empty_log(nats_url, LogSize(partitions=4)),
        serving(nats_url, postgres_dsn, ingest=True) as api,
    ):
        with (
            started(tmp_path, "worker", environment=environment) as worker,
            started(tmp_path, "projector", environment=environment) as projector,
        ):
            world = World(api, worker, environment)
            for sent in (
                instrument(1),
                opened(1, stream=ACCOUNT),
                deposit(2, "100", stream=ACCOUNT, reference="d2"),
                trade(3, "buy", "2", "30", stream=ACCOUNT, fill_id="f3"),
            ):
                assert (await world.post(sent)).status_code == 201
            state = await api.client.get(f"/psm/state/{ACCOUNT}?min_sequence=3&timeout_s=30")
            assert state.status_code == 200
            yield world
            assert worker.stop() == 0
            assert projector.stop() == 0


def told(assets: dict[str, Any], *positions: dict[str, Any], **more: Any) -> Any:
    """Return a report about the account."""
    return report(assets, *positions, stream=ACCOUNT, **more)


async def test_report_from_wire_to_repair(world: World, tmp_path: Path) -> None:
    """Right, wrong, examined, repaired; the view, both reads and the command say the same."""
    right = told({"USDT": "100"}, HELD, through="f3", cost_method="average")
    first = await world.answer(right)
    assert (first["matches"], first["sequence_number"], first["not_compared"]) == (True, 3, [])
    again = await world.post(right)
    assert (again.status_code, again.json()["duplicate"]) == (200, True)

    await world.post(event("FeeCharged", {"amount": "2.5"}, 4, stream=ACCOUNT))
    wrong = told({"USDT": "100"}, {**HELD, "entry_price": "31"}, cost_method="average")
    second = await world.answer(wrong)
    assert [d["what"] for d in second["differences"]] == [
        "assets.USDT",
        "positions.BTC-PERP.entry_price",
    ]
    message = await world.api.nc.request("psm.get.reconciliation", ACCOUNT.encode(), timeout=5)
    assert json.loads(message.data) == second

    found = await world.reconciled(code=1)
    assert found["differences"] == second["differences"]
    assert found["event_id"] == second["event_id"]
    assert found["last_match"] == first["log_sequence"]
    assert [(c["kind"], c["sequence_number"]) for c in found["causes"]] == [("not_reported", 4)]
    assert found["repaired"] is True
    assert all(line["payload"]["actor"] == "ann" for line in found["repair"])
    text = await world.psm("reconcile", ACCOUNT, code=1)
    assert "FeeCharged at number 4: the report does not contain it" in text

    lines = await world.psm("reconcile", ACCOUNT, "--repair", code=1)
    assert [json.loads(line) for line in lines.splitlines()] == found["repair"]
    assert (await world.reconciled(code=1))["repair"] == found["repair"], "nothing was booked"
    await world.psm("publish", "-", stdin=lines)
    await world.psm("publish", "-", stdin=lines)
    file = tmp_path / "report.json"
    file.write_bytes(msgspec.json.encode(msgspec.json.decode(wrong.data)["payload"]))
    assert (await world.reconciled(str(file)))["matches"] is True
    third = await world.answer(told({"USDT": "100"}, HELD | {"entry_price": "31"}, salt="3"))
    assert (third["matches"], third["sequence_number"]) == (True, 7)


async def test_report_in_a_file_is_examined_against_the_past(world: World, tmp_path: Path) -> None:
    """At a number, at `through`, now; what is wrong with the file is said before anything runs."""
    await world.post(deposit(4, "7", stream=ACCOUNT, reference="d4"))
    file = tmp_path / "report.json"

    def write(sent: Any) -> str:
        file.write_bytes(sent.data)
        return str(file)

    old = write(told({"USDT": "100"}, HELD))
    assert (await world.reconciled(old, code=1))["causes"][0]["kind"] == "older_report"
    assert (await world.reconciled(old, "--at-sequence", "3"))["matches"] is True
    through = write(told({"USDT": "100"}, HELD, through="f3"))
    found = await world.reconciled(through)
    assert (found["matches"], found["sequence_number"]) == (True, 3)
    found = await world.reconciled(write(told({"USDT": "1"}, through="f9")), code=1)
    assert (found["matches"], found["reason"], found["repair"]) == (None, "through_not_last", [])
    for body in (b"{", b"[]", b"{}", msgspec.json.encode({"payload": {}}), b'{"source":"\0"}'):
        file.write_bytes(body)
        await world.psm("reconcile", ACCOUNT, str(file), code=2)
    other = changed(told({}), stream_id="other")
    await world.psm("reconcile", ACCOUNT, write(other), code=2)
    await world.psm("reconcile", ACCOUNT, str(tmp_path / "none.json"), code=2)
    await world.psm("reconcile", "nobody_at_all", code=1)


async def test_reads_without_a_report_say_so(world: World) -> None:
    """A 404 of its own, over NATS too; a wait for one ends."""
    problem = await world.api.problem(f"/psm/reconciliation/{ACCOUNT}", 404)
    assert problem["type"] == "urn:psm:problem:no-report"
    late = f"/psm/reconciliation/{ACCOUNT}?min_log_sequence=999&timeout_s=0.1"
    assert "999" in (await world.api.problem(late, 404))["detail"]
    await world.api.problem("/psm/reconciliation/a.b", 400)
    await world.api.problem(f"/psm/reconciliation/{ACCOUNT}?min_sequence=1", 400)
    message = await world.api.nc.request("psm.get.reconciliation", ACCOUNT.encode(), timeout=5)
    assert message.headers is not None
    assert message.headers["Nats-Service-Error-Code"] == "404"


async def test_poison_harms_nobody(world: World) -> None:
    """Every odd report is refused or answered; the account next to them goes on."""
    js = world.api.nc.jetstream()
    for odd in odd_reports():
        await js.publish(odd.subject.decode(), odd.body)
    response = await world.post(told({"USDT": "x" * 70_000}))
    assert response.status_code == 413
    response = await world.post(told({"USDT": "NaN"}))
    assert (response.status_code, response.json()["field"]) == (422, "payload.assets.USDT")
    assert (await world.answer(told({"USDT": "100"}, HELD)))["matches"] is True


async def test_factory_makes_reports(world: World) -> None:
    """A service reports with what it makes its other events with; it takes no number."""
    async with Publisher(world.environment["NATS_URL"]) as publisher:
        factory = EventFactory("custody", "1.0.0", publisher=publisher)
        for number, assets in enumerate(({"USDT": "100"}, {"USDT": "1"})):
            payload = {"source": "v", "as_of": f"{number}", "assets": assets, "positions": [HELD]}
            made = factory.create_event("AccountReported", ACCOUNT, payload)
            assert made.subject == f"trades.{ACCOUNT}"
            appended = await factory.publish(made)
            assert not isinstance(appended, int)
            assert appended.sequence_number is None
        cash = factory.create_event("CashDeposited", ACCOUNT, {"amount": "1"})
        placed = await factory.publish(cash)
        assert not isinstance(placed, int)
        assert placed.sequence_number == 4


async def test_metric_counts_results(nats_url: str) -> None:
    """One of each: it matches, it differs, it was not compared."""
    instruments = telemetry.setup("psm-worker", level="error")
    async with empty_log(nats_url) as nc:
        worker = Worker(nc, range(4), PartitionSettings(partitions=4), instruments.metrics)
        task = asyncio.create_task(worker.run())
        try:
            for sent in (told({}), told({"USDT": "1"}), told({}, through="never")):
                await nc.jetstream().publish(sent.subject, sent.data)

            def counted() -> bool:
                text = generate_latest(instruments.registry).decode()
                return all(
                    f'psm_reports_compared_total{{result="{result}"}} 1.0' in text
                    for result in ("matches", "differs", "not_compared")
                )

            await until(counted, "all are counted")
            worker.stop()
            await asyncio.wait_for(task, WAIT_S)
        finally:
            await end(task)
            instruments.shutdown()
