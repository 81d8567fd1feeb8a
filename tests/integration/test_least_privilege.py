"""Every part of PSM does its whole job as a user of its own, and no user can do more.

Real NATS with compose's users, a real PostgreSQL whose owner is no superuser, real processes.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import nats
import pytest
from msgspec import Struct
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig
from tests.support.archiving import fetch
from tests.support.broker import compose_broker, connect_as, password_of, settings_of
from tests.support.log import deposit
from tests.support.permissions import ACTS, HEARING, MAY_HEAR, MAY_PUBLISH, TRIED
from tests.support.running import Running, psm, request, started
from tests.support.servers import database_dsn, server_folder
from tests.support.workbench import until

from psm.adapters.embedded import EmbeddedPostgres
from psm.adapters.jetstream import direct_get, get, stream_info
from psm.adapters.jetstream.roles import ROLES
from psm.contracts.publisher import Publisher
from psm.projections.schema.roles import LOGINS
from psm.workers.fleet.report import fleet_report
from psm.workers.local.parts import Part, free_port, is_ready, parts_of

SETTLE_S = 120.0
# Everything is saved at once and evicted at once, so that each kind of read happens.
SETTINGS = {
    "PSM_PARTITIONS": "4",
    "PSM_SNAPSHOT_EVENTS": "1",
    "PSM_SNAPSHOT_INTERVAL_S": "1",
    "PSM_ACCOUNTS_IN_MEMORY": "0",
    "PSM_MARKS_INTERVAL_MS": "100",
    "PSM_LOG_FORMAT": "json",
}
USERS = {
    "worker": ("worker", "worker"),
    "projector": ("projector", "projector"),
    "archive": ("archiver", "archiver"),
    "marks": ("marks", "api"),
    "serve": ("ingest", "api"),
}
"""Command -> its user at NATS, and its login at PostgreSQL (marks uses none)."""
INSTRUMENT = {
    "symbol": "BTC-PERP",
    "kind": "linear_perp",
    "base": "BTC",
    "quote": "USDT",
    "settle": "USDT",
}
TABLES = (
    "balances_view",
    "positions_view",
    "margin_view",
    "orders_view",
    "reconciliation_view",
    "projection_checkpoints",
    "chain_heads",
    "log_heads",
    "current_state_quarantine",
    "risk_decisions",
    "risk_state",
    "risk_quarantine",
    "risk_limits",
    "risk_halts",
    "risk_groups",
    "rulebook_quarantine",
    "pnl_timeseries",
    "trades",
    "lots",
    "trade_statistics",
    "risk_metrics",
    "analytics_accounts",
    "analytics_journal",
    "analytics_progress",
    "analytics_quarantine",
    "orderbook_snapshot",
    "orderbook_latest",
    "orderbook_saved",
    "market_quarantine",
)
ARCHIVE = ("events", "event_chain", "event_refusals", "event_keys", "archive_incidents")


class Servers(Struct, frozen=True):
    """Addresses: of the broker, of the owner's database."""

    nats_url: str
    owner_dsn: str

    def dsn(self, part: str) -> str:
        """The database as the login of a part sees it."""
        return self.owner_dsn.replace("house:house@", f"psm_{part}:secret-{part}@")

    def environment(self, user: str, login: str) -> dict[str, str]:
        dsn = self.owner_dsn if login == "owner" else self.dsn(login)
        given = {"NATS_URL": self.nats_url, "POSTGRES_DSN": dsn}
        return {**SETTINGS, **settings_of(user), **given}


@pytest.fixture
async def database(postgres_server: EmbeddedPostgres) -> str:
    """An empty database; its owner may make roles, and is no superuser."""
    superuser = await asyncpg.connect(postgres_server.dsn)
    await superuser.execute("CREATE ROLE house LOGIN CREATEROLE PASSWORD 'house'")
    await superuser.execute("CREATE DATABASE books OWNER house")
    await superuser.close()
    where = postgres_server.dsn.rpartition("@")[2]
    return database_dsn(f"postgresql://house:house@{where}", "books")


@pytest.fixture
async def servers(database: str) -> AsyncIterator[Servers]:
    """Broker and database, both made ready by the commands and users meant for that."""
    with server_folder("nats") as folder:
        async with compose_broker(folder) as url:
            there = Servers(url, database)
            logins = {f"POSTGRES_{part.upper()}_DSN": there.dsn(part) for part in LOGINS}
            (folder / "api.dsn").write_text(logins.pop("POSTGRES_API_DSN") + "\n")
            logins["POSTGRES_API_DSN_FILE"] = str(folder / "api.dsn")
            environment = {**SETTINGS, **settings_of("streams"), "NATS_URL": url}
            psm("streams", "apply", environment=environment)
            psm("migrate", "up", "--roles", environment={"POSTGRES_DSN": database, **logins})
            yield there


@contextmanager
def running(servers: Servers, part: Part, folder: Path) -> Iterator[Running]:
    """One part as its users; nothing it asked for may have been refused."""
    environment = servers.environment(*USERS[part.command[0]])
    with started(folder, *part.command, environment=environment | dict(part.environment)) as one:
        yield one
        if one.process.poll() is None:
            one.process.terminate()
        assert one.process.wait(SETTLE_S) in {0, -9}, one.log.read_text()
    log = one.log.read_text()
    assert "permission" not in log.lower(), log


async def becomes(found: Callable[[], Awaitable[Any]], wanted: Callable[[Any], object]) -> Any:
    """Ask again until the answer is as wanted; return it."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        answer = await found()
        if wanted(answer):
            return answer
        assert time.monotonic() < deadline, answer
        await asyncio.sleep(0.1)


async def test_every_part_does_its_job_with_its_own_users(servers: Servers, tmp_path: Path) -> None:
    """Fold, commit, snapshots, recovery, views, archive, marks, reads, appends, commands."""
    parts = {part.name: part for part in parts_of(1, free_port(), marks=True)}
    url = f"http://127.0.0.1:{parts['serve'].health_port}"
    with ExitStack() as stack:
        workers = [stack.enter_context(running(servers, parts["worker-0"], tmp_path))]
        for name in ("projector", "analytics", "archive", "marks", "serve"):
            stack.enter_context(running(servers, parts[name], tmp_path))
        await ready(parts, tmp_path)
        await clients_do_their_work(servers, url)
        lines = await asyncio.to_thread(metrics_of, parts["worker-0"])
        assert any(
            re.match(r'psm_live_reads_answered_total{.*"answered".*} [1-9]', n) for n in lines
        )
        assert any(re.match(r"psm_live_reads_time_seconds_total[ {]", n) for n in lines)

        # The next worker recovers from what this one saved, and compares it with the heads.
        workers[0].process.kill()
        workers[0].process.wait()
        workers.append(stack.enter_context(running(servers, parts["worker-0"], tmp_path)))
        await becomes(lambda: unowned(servers), lambda none: none == [])
        await ready(parts, tmp_path)
        # The one that was killed counts as an owner for a moment: then nothing is compared yet.
        await becomes(
            lambda: asyncio.to_thread(metrics_of, parts["worker-0"]),
            lambda lines: any('result="agreed"' in n for n in lines if "heads_checked" in n),
        )
        code, _ = await asyncio.to_thread(append, url, fill("acc_1", "sell", "1"))
        assert code == 201
        await becomes(lambda: size_of(servers, "acc_1"), lambda size: size == "1")
        await people_do_their_work(servers, tmp_path)
    assert "partition.recovered" in workers[1].log.read_text()


async def ready(parts: dict[str, Part], folder: Path) -> None:
    """Wait until every part says that it is ready."""
    for name, part in parts.items():
        try:
            await becomes(partial(is_ready, part.health_port), bool)
        except AssertionError as error:
            said = [log.read_text() for log in sorted(folder.glob(f"{name}-*.log"))]
            raise AssertionError(f"{name} is not ready", *said) from error


async def clients_do_their_work(servers: Servers, url: str) -> None:
    """What services publish arrives, readers hear updates and can read back."""
    market, publisher, service, reader, operator = [
        await connect_as(user, servers.nats_url)
        for user in ("market", "publisher", "service", "reader", "operator")
    ]
    heard: list[str] = []

    async def hear(message: Msg) -> None:
        heard.append(message.subject)

    await reader.subscribe("psm.>", cb=hear)
    await reader.subscribe("marks.*", cb=hear)
    await service.subscribe("marketdata.>", cb=hear)
    await asyncio.gather(reader.flush(), service.flush())
    await Publisher(market).append(event("InstrumentDefined", "BTC-PERP", INSTRUMENT))
    tick = json.dumps({"symbol": "BTC-PERP", "price": "42500"}).encode()
    await market.jetstream().publish("marketdata.ticker.BTC-PERP", tick)
    await service.jetstream().publish("signals.strategy.s.BTC-PERP", b'{"event_type":"signal"}')
    await Publisher(publisher).append(deposit("acc_1"))
    await Publisher(publisher).append(fill("acc_1", "buy", "2"))
    assert (await asyncio.to_thread(append, url, deposit("acc_2")))[0] == 201

    # What a correction leaves of trades the projector reads from the log.
    split = {"symbol": "BTC-PERP", "numerator": "2", "denominator": "1"}
    for story in (
        deposit("acc_3"),
        fill("acc_3", "buy", "2"),
        fill("acc_3", "sell", "2", fill_id="f1"),
        event("SplitApplied", "acc_3", split),
        fill("acc_3", "sell", "4"),
        event("TradeBusted", "acc_3", {"fill_id": "f1", "reason": "venue"}),
    ):
        await Publisher(publisher).append(story)
    await becomes(lambda: gained(servers, "acc_3"), lambda found: found == "84000")

    # Marked by `psm marks`, projected, read over NATS by the reader.
    async def position() -> dict[str, Any]:
        answer = await reader.request("psm.get.positions", b"acc_1", timeout=SETTLE_S)
        return dict(json.loads(answer.data or b"{}").get("positions", {}).get("BTC-PERP", {}))

    await becomes(position, lambda found: found.get("mark_price") == "42500")
    code, _ = await asyncio.to_thread(request, f"{url}/psm/state/acc_1?at_sequence=1")
    assert code == 200
    # Live: the API asks the owner, over HTTP and for a reader over NATS.
    code, found = await asyncio.to_thread(request, f"{url}/psm/state/acc_1?live=1")
    assert (code, found["positions"]["BTC-PERP"]["size"]) == (200, "2")
    answer = await reader.request("psm.get.live", b"acc_1", timeout=SETTLE_S)
    assert json.loads(answer.data)["as_of"]["log_sequence"] >= found["as_of"]["log_sequence"]
    wanted = {"psm.position.updated", "marketdata.ticker.BTC-PERP", "marks.BTC-PERP"}
    await until(lambda: wanted <= set(heard), "the readers heard of it")
    assert not [subject for subject in heard if subject.startswith("psm.get.")]

    # Back from the log: single messages, and a consumer that an operator made.
    assert await get(reader, "PSM", 1) == await direct_get(reader, "PSM", 1)
    config = ConsumerConfig(durable_name="risk", filter_subject="psm.position.updated.*.*")
    await operator.jetstream().add_consumer("PSM", config)
    following = await reader.jetstream().pull_subscribe_bind("risk", "PSM")
    (update,) = await following.fetch(1, timeout=SETTLE_S)
    await update.ack_sync()
    for client in (market, publisher, service, reader, operator):
        await client.close()


def importing(folder: Path) -> tuple[str, ...]:
    """Arguments that import one fill into an account of its own."""
    row = {"coin": "ETH", "px": "2000", "sz": "1", "side": "B", "time": 1, "startPosition": "0"}
    row |= {"oid": 1, "tid": 2, "fee": "0", "feeToken": "USDC", "crossed": True}
    file = folder / "fills.json"
    file.write_text(json.dumps([row]))
    options = ("--account", "acc_9", "--open", "USDC", "--define-instruments", "-o", "json")
    return ("import", "hyperliquid", str(file), *options)


async def people_do_their_work(servers: Servers, folder: Path) -> None:
    """The commands of an operator and of who replays, each to its usual end."""

    async def run(user: str, login: str, *arguments: str) -> str:
        environment = servers.environment(user, login)
        done = await asyncio.to_thread(psm, *arguments, environment=environment)
        assert "permission" not in done.stderr.lower(), f"{arguments}: {done.stderr}"
        return done.stdout

    await becomes(
        lambda: fetch(servers.dsn("operator"), "SELECT 1 FROM events WHERE js_stream = 'SIGNALS'"),
        lambda rows: len(rows) == 1,
    )
    looks = (
        ("fleet",),
        ("streams", "status"),
        ("dlq", "list"),
        ("views", "status"),
        ("archive", "status"),
        ("explain", "acc_1", "cash.USDT"),
        ("ops", "list"),
        ("audit", "--no-views"),
        ("recover", "partition", "0", "--dry-run", "--reason", "test"),
    )
    await asyncio.gather(*(run("operator", "operator", *look) for look in looks))
    imported = await run("importer", "importer", *importing(folder))
    assert json.loads(imported)["appended"] == 2
    await run("operator", "owner", "audit")  # it makes views anew, to compare
    report = json.loads(await run("operator", "owner", "views", "rebuild", "-o", "json"))
    assert report["swapped"] is True
    # The new tables have the grants of the old ones.
    lines, environment = json.dumps(deposit("acc_3")), servers.environment("operator", "operator")
    await asyncio.to_thread(psm, "publish", "-", stdin=lines, environment=environment)
    await becomes(
        lambda: fetch(servers.dsn("api"), "SELECT 1 FROM balances_view WHERE account_id = 'acc_3'"),
        lambda rows: len(rows) == 1,
    )
    await run("replay", "operator", "replay", "--all", "--reason", "test")
    # Proofs: nothing but their own record is written, and nothing of them is refused.
    await run("auditor", "operator", "validate", "--reason", "test")
    await run("auditor", "operator", "validate", "--risk", "--reason", "test")
    await run("auditor", "operator", "anchor", "keygen", str(folder / "anchor.pem"))
    anchors = ("--anchors", str(folder / "anchors"))
    await run(
        "auditor", "operator", "anchor", "create", *anchors, "--key", str(folder / "anchor.pem")
    )
    public = str(folder / "anchor.pem.pub")
    await run("auditor", "operator", "anchor", "verify", *anchors, "--public-key", public)


async def test_only_an_admin_makes_a_stream_anew(servers: Servers) -> None:
    """`psm recover updates` replaces an empty PSM for the admin, and fails for an operator."""
    command = ("recover", "updates", "--reason", "test")
    operator = servers.environment("operator", "operator")
    done = await asyncio.to_thread(psm, *command, environment=operator, check=False)
    assert done.returncode != 0
    assert "nats.permission_refused" in done.stderr
    done = await asyncio.to_thread(
        psm, *command, environment=servers.environment("admin", "operator")
    )
    assert "nats.permission_refused" not in done.stderr


def event(event_type: str, stream_id: str, payload: dict[str, Any]) -> dict[str, Any]:
    return deposit(stream_id, event_type=event_type, payload=payload)


def fill(account: str, side: str, quantity: str, **more: str) -> dict[str, Any]:
    payload = {"symbol": "BTC-PERP", "side": side, "quantity": quantity, "price": "42000"}
    return event("TradeExecuted", account, {**payload, **more})


async def gained(servers: Servers, account: str) -> str | None:
    query = (
        "SELECT gross::text FROM trades WHERE account_id = $1 AND NOT gone "
        "ORDER BY through_log_sequence DESC LIMIT 1"
    )
    rows = await fetch(servers.dsn("api"), query, account)
    return rows[0][0] if rows else None


def append(url: str, content: dict[str, Any]) -> tuple[int, Any]:
    return request(f"{url}/psm/events", json.dumps(content).encode())


def metrics_of(part: Part) -> list[str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{part.health_port}/metrics") as answer:
        return list(answer.read().decode().splitlines())


async def size_of(servers: Servers, account: str) -> str | None:
    query = "SELECT size::text FROM positions_view WHERE account_id = $1"
    rows = await fetch(servers.dsn("api"), query, account)
    return rows[0][0] if rows else None


async def unowned(servers: Servers) -> list[int]:
    """The partitions that nobody runs."""
    nc = await connect_as("operator", servers.nats_url)
    try:
        return (await fleet_report(nc)).unowned
    finally:
        await nc.close()


# --- what is refused ------------------------------------------------------------------------------


async def test_every_other_act_is_refused(tmp_path: Path) -> None:
    """Each user tries each act; exactly what it may do is not refused by the broker."""
    assert set(MAY_PUBLISH) == {one.name for one in ROLES}
    assert set().union(*MAY_PUBLISH.values()) <= set(TRIED)
    async with compose_broker(tmp_path) as url:
        for user, expected in MAY_PUBLISH.items():
            refused = await refusals(url, user)
            assert set(TRIED) - refused["publish"] == expected, user
            assert set(HEARING) - refused["subscription"] == MAY_HEAR.get(user, set()), user


async def refusals(url: str, user: str) -> dict[str, set[str]]:
    """Return what the broker refuses a user, of all that is tried here."""
    refused: dict[str, set[str]] = {"publish": set(), "subscription": set()}
    ended = asyncio.Event()

    async def on_error(error: Exception) -> None:
        found = re.search(
            r"permissions violation for (publish|subscription) to \"([^\"]+)\"", str(error)
        )
        assert found, error
        refused[found[1]].add(found[2])
        if found[2] == "the.end":
            ended.set()

    nc = await nats.connect(
        url, user=user, password=password_of(user), error_cb=on_error, allow_reconnect=False
    )
    # The client tells of errors in small letters.
    names = {subject.lower(): subject for subject in (*TRIED, *HEARING)}
    try:
        for subject in HEARING:
            await nc.subscribe(subject)
        for subject in (*TRIED, "the.end"):
            await nc.publish(subject, b"{}")
        async with asyncio.timeout(SETTLE_S):
            await ended.wait()
    finally:
        await nc.close()
    return {kind: {names.get(one, one) for one in found} for kind, found in refused.items()}


async def test_nobody_but_admin_purges_the_log(tmp_path: Path) -> None:
    """The stream would allow it, so that a log can be trimmed one day; permissions do not."""
    body = json.dumps({"seq": 2}).encode()
    async with compose_broker(tmp_path) as url:
        environment = {**SETTINGS, **settings_of("streams"), "NATS_URL": url}
        await asyncio.to_thread(psm, "streams", "apply", environment=environment)
        admin = await connect_as("admin", url)
        for number in range(3):
            await admin.jetstream().publish("trades.acc_1", str(number).encode())
        for one in ROLES:
            if one.name != "admin":
                refused = await refusals(url, one.name)
                assert "$JS.API.STREAM.PURGE.TRADES" in refused["publish"], one.name
        assert (await stream_info(admin, "TRADES")).first_sequence == 1
        answer = await admin.request("$JS.API.STREAM.PURGE.TRADES", body)
        assert json.loads(answer.data)["purged"] == 1
        assert (await stream_info(admin, "TRADES")).first_sequence == 2
        await admin.close()


async def test_answers_go_to_their_asker_only(tmp_path: Path) -> None:
    """Who may answer can answer a request once, and publish to no inbox otherwise."""
    async with compose_broker(tmp_path) as url:
        reader, api = [await connect_as(user, url) for user in ("reader", "api")]
        stolen = []

        async def answer(message: Msg) -> None:
            await message.respond(b"first")
            await message.respond(b"second")
            await api.publish(f"{message.reply}.more", b"third")

        async def steal(message: Msg) -> None:
            stolen.append(message)

        await api.subscribe("psm.get.state", cb=answer)
        await reader.subscribe("psm.>", cb=steal)
        await asyncio.gather(api.flush(), reader.flush())
        inbox = reader.new_inbox()
        answers = await reader.subscribe(f"{inbox}.>")
        exact = await reader.subscribe(inbox)
        await reader.publish("psm.get.state", b"acc_1", reply=inbox)
        assert (await exact.next_msg(timeout=SETTLE_S)).data == b"first"
        await api.flush()
        await reader.flush()
        assert (exact.pending_msgs, answers.pending_msgs) == (0, 0)
        assert stolen == []  # a reader hears updates, not what others ask
        await asyncio.gather(reader.close(), api.close())


async def test_database_refuses_what_is_not_a_parts_business(servers: Servers) -> None:
    """Nobody but the owner alters anything; readers write nothing, writers only their own."""
    written = {
        "projector": set(TABLES),
        "archiver": {*ARCHIVE, "archive_checkpoints"},
        "importer": {"people"},
        "operator": {"job_runs"},
    }
    for part in LOGINS:
        connection = await asyncpg.connect(servers.dsn(part))
        rows = await connection.fetch(
            "SELECT c.relname, has_table_privilege(c.oid, 'INSERT') AS adds,"
            " has_table_privilege(c.oid, 'SELECT') AS reads,"
            " has_table_privilege(c.oid, 'TRUNCATE, TRIGGER, REFERENCES, MAINTAIN') AS alters"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'v', 'm', 'p')"
        )
        assert {row["relname"] for row in rows} >= {*TABLES, *ARCHIVE, "schema_migrations"}
        assert {row["relname"] for row in rows if row["adds"]} == written.get(part, set())
        assert not [row for row in rows if row["alters"]]
        unread = {row["relname"] for row in rows if not row["reads"]}
        if part == "operator":  # a table that a migration adds needs its grants, too
            wanted = {"schema_migrations", "people"}
            assert unread == wanted, "grant these in projections/roles.sql"
        assert ("people" in unread) == (part != "importer")
        if part != "projector":
            for table in TABLES:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(f"DELETE FROM {table}")
        await connection.close()


async def test_every_other_statement_is_refused(servers: Servers) -> None:
    """Each login tries each act; exactly what it may do is not refused by the database."""
    for part in LOGINS:
        connection = await asyncpg.connect(servers.dsn(part))
        may = {act for act in ACTS if await is_allowed(connection, act)}
        assert may == {act for act, parts in ACTS.items() if part in parts}, part
        await connection.close()


async def is_allowed(connection: asyncpg.Connection[asyncpg.Record], act: str) -> bool:
    """Whether a statement fails by nothing but what it does; undone in any case."""
    undone = connection.transaction()
    await undone.start()
    try:
        await connection.execute(act)
    except asyncpg.InsufficientPrivilegeError:
        return False
    except asyncpg.PostgresError:
        return True
    else:
        return True
    finally:
        await undone.rollback()


async def test_logins_follow_their_addresses(servers: Servers) -> None:
    """A new password holds after the next run and is recorded; an owner is no login of a part."""
    changed = servers.dsn("api").replace("secret-api", "other'secret$")
    quoted = changed.replace("other'secret$", "other%27secret%24")
    environment = {
        **servers.environment("operator", "owner"),
        "POSTGRES_WORKER_DSN": servers.dsn("worker"),
        "POSTGRES_API_DSN": quoted,
        "PSM_ACTOR": "p-house",
    }
    for _ in range(2):  # the second replaces nothing
        done = psm("migrate", "up", "--roles", environment=environment)
        assert "other" not in done.stdout + done.stderr
    wanted = ("--principal", "adm", "--role", "admin", "--account", "*", "-o", "json")
    made = json.loads(psm("token", "create", "--as-owner", *wanted, environment=environment).stdout)
    records = psm("ops", "list", "-o", "json", environment=environment).stdout
    assert not any(secret in records for secret in ("other", made["token"]))
    record, token = json.loads(records)
    told = {name: made[name] for name in ("id", "principal", "roles", "patterns")}
    assert token["what"] == {"kind": "token", **told}
    assert token["reason"] == "made with the owner's own address"
    assert record["what"] == {"kind": "passwords", "logins": ["psm_api"]}
    assert (record["actor"], record["reason"]) == ("p-house", "rotation")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(servers.dsn("api"))
    await (await asyncpg.connect(quoted)).close()

    environment = {"POSTGRES_DSN": servers.owner_dsn, "POSTGRES_API_DSN": servers.dsn("api")}
    done = psm("migrate", "up", "--roles", environment=environment)
    assert "not recorded in OPS (NATS_URL names no broker)" in done.stderr

    environment["POSTGRES_API_DSN"] = servers.owner_dsn
    done = psm("migrate", "up", "--roles", environment=environment, check=False)
    assert done.returncode == 2
    assert "owner's own" in done.stderr
    environment = {"POSTGRES_DSN": servers.dsn("projector")}
    done = psm("migrate", "up", "--roles", environment=environment, check=False)
    assert done.returncode == 2
    assert "owner of the schema" in done.stderr
