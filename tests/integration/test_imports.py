"""Importers on a real log, a real archive and a real database of pseudonyms."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import asyncpg
import pytest
from nats.aio.client import Client
from tests.support.log import LogSize, empty_log
from tests.support.running import READY_S, psm, started

from psm.adapters import postgres
from psm.adapters.jetstream import StoredMessage, read_range
from psm.contracts.codec import decode_envelope
from psm.contracts.publisher import Publisher
from psm.domain.market.slots import ValuationSlots
from psm.workers.imports.reading import read_files
from psm.workers.imports.run import Asked, Importer
from psm.workers.log.shape import LogShape

FOREIGN = "0x5afe5afe5afe5afe5afe5afe5afe5afe5afe5afe"


@pytest.fixture
async def nc(nats_url: str) -> AsyncIterator[Client]:
    async with empty_log(nats_url, LogSize()) as connection:
        yield connection


@pytest.fixture
def environment(nats_url: str, postgres_dsn: str) -> dict[str, str]:
    return {"NATS_URL": nats_url, "POSTGRES_DSN": postgres_dsn, "PSM_PARTITIONS": "4"}


async def stored(nc: Client, subject: str = "trades.*.acc") -> list[StoredMessage]:
    return [m async for batch in read_range(nc, "TRADES", [subject], 1, 2**62) for m in batch]


def fills(count: int) -> list[dict[str, Any]]:
    """Fills of one contract, each of which begins where the one before it ended."""
    return [
        {
            "coin": "BTC",
            "px": "50000.5",
            "sz": "0.001",
            "side": "B",
            "time": 1_700_000_000_000 + number // 3,
            "startPosition": f"{number}e-3",
            "dir": "Open Long",
            "closedPnl": "0",
            "hash": "0x00",
            "oid": 77,
            "crossed": True,
            "fee": "0.01",
            "tid": (number * 7919) % 1_000_003,
            "feeToken": "USDC",
        }
        for number in range(count)
    ]


def written(folder: Path, name: str, document: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps(document))
    return path


async def imported(environment: dict[str, str], *arguments: object, code: int = 0) -> Any:
    """Import into `acc`; return the document that was printed."""
    given = ["import", *map(str, arguments), "--account", "acc", "-o", "json"]
    done = await asyncio.to_thread(psm, *given, environment=environment, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


OPENED = ("--open", "USDC", "--define-instruments")


async def test_twice_is_once(nc: Client, environment: dict[str, str], tmp_path: Path) -> None:
    """What was imported is found again: by its id, and under another id by its business key."""
    file = written(tmp_path, "fills.json", fills(20))
    first = await imported(environment, "hyperliquid", file, *OPENED)
    assert (first["new"], first["appended"], first["matches"]) == (20, 21, True)
    before = [message.data for message in await stored(nc)]
    again = await imported(environment, "hyperliquid", file)
    assert (again["new"], again["appended"]) == (0, 0)
    assert again["known"] == {"event_id": 20}
    assert [message.data for message in await stored(nc)] == before
    numbers = [decode_envelope(data).sequence_number for data in before]
    assert numbers == list(range(1, 22))


async def test_facts_of_another_producer_are_known(
    nc: Client, environment: dict[str, str], tmp_path: Path
) -> None:
    """A fill that came live, under an id of its own and without its order, is not booked again."""
    live = fills(2)[0]
    port = Publisher(nc, assume_new=True)
    opened = {"currency": "USDC"}
    fill = {"symbol": "BTC-PERP", "side": "buy", "quantity": "0.001", "price": "50000.5"}
    for event_type, payload in (
        ("AccountOpened", opened),
        ("TradeExecuted", {**fill, "fill_id": str(live["tid"]), "commission": "0.01"}),
    ):
        await port.append(
            {
                "event_id": str(uuid5(NAMESPACE_OID, event_type)),
                "event_type": event_type,
                "stream_id": "acc",
                "timestamp": "2023-11-14T22:13:20Z",
                "schema_version": "1.0.0",
                "payload": payload,
            }
        )
    file = written(tmp_path, "fills.json", fills(2))
    done = await imported(environment, "hyperliquid", file, "--define-instruments")
    assert done["known"] == {"business_key": 1}
    assert (done["appended"], done["matches"]) == (1, True)


async def test_killed_between_appends(
    nc: Client, environment: dict[str, str], tmp_path: Path
) -> None:
    """SIGKILL after any append, and the same import again: the log is as if nothing happened."""
    file = written(tmp_path, "fills.json", fills(12))
    arguments = ("import", "hyperliquid", str(file), "--account", "acc", *OPENED)
    for passes in (1, 4):
        armed = {**environment, "PSM_CRASH_POINT": f"importer.after_append:{passes}"}
        with started(tmp_path, *arguments, environment=armed) as killed:
            code = await asyncio.to_thread(killed.process.wait, READY_S)
            assert code == -signal.SIGKILL, killed.log.read_text()
    assert len(await stored(nc)) == 5
    done = await imported(environment, "hyperliquid", file, *OPENED)
    assert (done["appended"], done["matches"]) == (8, True)
    events = [json.loads(message.data) for message in await stored(nc)]
    assert [event["sequence_number"] for event in events] == list(range(1, 14))
    ids = [event["payload"].get("fill_id") for event in events[1:]]
    assert ids == [str(fill["tid"]) for fill in fills(12)]


async def test_a_faster_producer(
    nc: Client, environment: dict[str, str], tmp_path: Path, postgres_dsn: str
) -> None:
    """What somebody else appends meanwhile is read first, and is not booked once more."""
    found = read_files("hyperliquid", [written(tmp_path, "fills.json", fills(6))], None)
    live = fills(6)[4]

    def faster(what: str, done: int, _: int) -> None:
        if (what, done) == ("append", 3):
            thread = Thread(target=lambda: asyncio.run(published(environment["NATS_URL"], live)))
            thread.start()
            thread.join()

    asked = Asked(account="acc", venue="hyperliquid", currency="USDC", define=True)
    shape = LogShape(partitions=4, slots=ValuationSlots())
    pool = await postgres.open_pool(postgres_dsn, name="test", size_max=1)
    try:
        done = await Importer(nc, pool, shape, asked, faster).run(found)
    finally:
        await pool.close()
    assert (done.appended, done.comparison.matches) == (6, True)
    events = [json.loads(message.data) for message in await stored(nc)]
    assert [event["sequence_number"] for event in events] == list(range(1, 8))
    ids = [event["payload"].get("fill_id") for event in events[1:]]
    assert sorted(ids) == sorted(str(one["tid"]) for one in fills(6))


async def published(url: str, fill: dict[str, Any]) -> None:
    """Append a fill as a live producer would, under an id of its own."""
    payload = {"symbol": "BTC-PERP", "side": "buy", "quantity": "0.001", "price": "50000.5"}
    async with Publisher(url) as port:
        await port.append(
            {
                "event_id": str(uuid5(NAMESPACE_OID, "live")),
                "event_type": "TradeExecuted",
                "stream_id": "acc",
                "timestamp": "2023-11-14T22:13:20Z",
                "schema_version": "1.0.0",
                "payload": {**payload, "fill_id": str(fill["tid"]), "commission": "0.01"},
            }
        )


async def test_a_bad_row_stops_all(nc: Client, environment: dict[str, str], tmp_path: Path) -> None:
    """Every bad row is named with file, line, column and field, and nothing is appended."""
    rows = fills(3)
    rows[1]["px"] = "fifty"
    rows[2]["side"] = "C"
    file = tmp_path / "fills.json"
    file.write_text("[\n" + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n]")
    given = ("import", "hyperliquid", str(file), "--account", "acc", *OPENED)
    done = await asyncio.to_thread(psm, *given, environment=environment, check=False)
    assert done.returncode == 1
    assert f"{file}:3:3: px: 'fifty' is no number" in done.stderr
    assert f"{file}:4:3: side: is neither B nor A" in done.stderr
    assert await stored(nc, ">") == []


async def test_older_than_the_account(
    nc: Client, environment: dict[str, str], tmp_path: Path
) -> None:
    """Records from before the account's last event are refused, and booked behind it if asked."""
    rows = fills(9)
    await imported(
        environment, "hyperliquid", written(tmp_path, "b.json", rows[6:]), *OPENED, code=1
    )
    older = written(tmp_path, "a.json", rows[:6])
    refused = await imported(environment, "hyperliquid", older, code=1)
    assert "--late" in refused
    assert len(await stored(nc)) == 4
    done = await imported(environment, "hyperliquid", older, tmp_path / "b.json", "--late")
    assert (done["appended"], done["matches"]) == (6, True)


async def test_dry_run_appends_nothing(
    nc: Client, environment: dict[str, str], tmp_path: Path, postgres_dsn: str
) -> None:
    """It prints every event and the comparison as it would be, and leaves no trace."""
    file = written(tmp_path, "fills.json", fills(5))
    done = await imported(environment, "hyperliquid", file, *OPENED, "--dry-run")
    assert (done["new"], done["appended"], done["matches"]) == (5, 0, True)
    assert [event["payload"]["quantity"] for event in done["events"]] == ["0.001"] * 5
    assert done["instruments"] == ["BTC-PERP"]
    assert await stored(nc, ">") == []
    assert await rows_of(postgres_dsn) == []


async def test_nothing_foreign_is_written(
    nc: Client, environment: dict[str, str], tmp_path: Path, postgres_dsn: str
) -> None:
    """The address of an account stands in the table of pseudonyms and nowhere else."""
    document = {"isSnapshot": True, "user": FOREIGN, "fills": fills(3)}
    file = written(tmp_path, "fills.json", document)
    done = await imported(environment, "hyperliquid", file, *OPENED)
    assert done["matches"]
    assert FOREIGN not in json.dumps(done)
    everything = b"".join(message.data for message in await stored(nc, ">"))
    assert FOREIGN.encode() not in everything
    ((pseudonym, identity, account),) = await rows_of(postgres_dsn)
    assert (identity, account) == (FOREIGN, "acc")
    assert str(pseudonym).encode() not in everything
    other = written(tmp_path, "other.json", {**document, "user": FOREIGN[:-1] + "0"})
    refused = await imported(environment, "hyperliquid", other, code=1)
    assert "another account" in refused
    assert FOREIGN[:-1] not in refused


async def test_instruments_and_accounts_are_asked_for(
    nc: Client, environment: dict[str, str], tmp_path: Path
) -> None:
    """What the log lacks is named, with what to do, before anything is appended."""
    file = written(tmp_path, "fills.json", fills(1))
    assert "--open" in await imported(environment, "hyperliquid", file, code=2)
    told = await imported(environment, "hyperliquid", file, "--open", "USDC", code=2)
    assert "BTC-PERP" in told
    assert "--define-instruments" in told
    assert await stored(nc, ">") == []


async def test_a_whole_report_is_told_once(
    nc: Client, environment: dict[str, str], tmp_path: Path
) -> None:
    """Files with all balances and positions tell the log what the venue reports, once."""
    transfer: dict[str, Any] = {
        "symbol": "",
        "incomeType": "TRANSFER",
        "income": "100",
        "asset": "USDT",
    }
    transfer |= {"info": "", "time": 1_700_000_000_000, "tranId": 1, "tradeId": ""}
    fill = {"symbol": "BTCUSDT", "id": 7, "orderId": 8, "side": "BUY", "price": "40000"}
    fill |= {"qty": "0.01", "realizedPnl": "0", "commission": "0.2", "commissionAsset": "USDT"}
    fill |= {"time": 1_700_000_000_001, "positionSide": "BOTH", "buyer": True, "maker": False}
    assets = [{"asset": "USDT", "walletBalance": "99.8", "updateTime": 1_700_000_000_002}]
    position = {"symbol": "BTCUSDT", "positionSide": "BOTH", "positionAmt": "0.010"}
    position |= {"entryPrice": "40000.0"}
    files = [
        written(tmp_path, "income.json", [transfer]),
        written(tmp_path, "trades.json", [fill]),
        written(tmp_path, "account.json", {"assets": assets, "positions": [position]}),
    ]
    options = ("--open", "USDT", "--define-instruments")
    for appended in (3, 0):
        done = await imported(environment, "binance", *files, *options)
        assert (done["appended"], done["matches"], done["reported"]) == (appended, True, True)
    events = [json.loads(message.data) for message in await stored(nc)]
    (report,) = [event for event in events if event["event_type"] == "AccountReported"]
    assert "sequence_number" not in report
    assert (report["payload"]["through"], report["payload"]["source"]) == ("7", "binance")
    told = await asyncio.to_thread(
        psm, "reconcile", "acc", "-o", "json", environment=environment, check=False
    )
    assert json.loads(told.stdout)["matches"] is True


async def test_ten_thousand_rows(nc: Client, environment: dict[str, str], tmp_path: Path) -> None:
    """Ten thousand rows in two files that overlap, twice: each is one event."""
    rows = fills(10_000)
    one = written(tmp_path, "one.json", rows[:6000])
    two = written(tmp_path, "two.json", rows[4000:])
    first = await imported(environment, "hyperliquid", two, one, *OPENED)
    assert (first["new"], first["repeated"], first["matches"]) == (10_000, 2000, True)
    again = await imported(environment, "hyperliquid", one, two)
    assert (again["appended"], again["known"]) == (0, {"event_id": 10_000})
    assert len(await stored(nc)) == 10_001


async def rows_of(dsn: str) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch("SELECT pseudonym, identity, account FROM people")
    finally:
        await connection.close()
