"""`psm migrate`, `projector`, `serve` and `views` as processes of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest
from nats.aio.client import Client
from tests.support.psm_stream import Account, OneWorker, commit
from tests.support.views import rows_written
from tests.support.workbench import until_answer

from psm.adapters.jetstream import connect
from psm.adapters.jetstream.streams_apply import apply
from psm.workers.process.settings import Settings

WAIT_S = 60.0


@pytest.fixture
async def nc(nats_url: str) -> AsyncIterator[Client]:
    nc = await connect(nats_url, name="test")
    await apply(nc, Settings(partitions=1))
    yield nc
    await nc.close()


def environment(nats_url: str, dsn: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PSM_")}
    return kept | {
        "NATS_URL": nats_url,
        "POSTGRES_DSN": dsn,
        "PSM_PARTITIONS": "1",
        "PSM_LOG_FORMAT": "json",
    }


async def start(env: Mapping[str, str], *arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "psm.workers.cli", *arguments, env=env, stdout=PIPE, stderr=PIPE
    )


async def psm(env: Mapping[str, str], *arguments: str) -> tuple[int, str, str]:
    async with asyncio.timeout(WAIT_S):
        process = await start(env, *arguments)
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def running(env: Mapping[str, str], ready: str, *arguments: str) -> AsyncIterator[str]:
    """Run a service and yield its ready line; it must end with 0 on SIGTERM."""
    process = await start(env, *arguments)
    assert process.stderr is not None
    lines = []
    try:
        async with asyncio.timeout(WAIT_S):
            while line := (await process.stderr.readline()).decode():
                lines.append(line)
                if f'"{ready}"' in line:
                    break
        assert lines, "it ended without a word"
        assert f'"{ready}"' in lines[-1], "".join(lines)
        yield lines[-1]
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WAIT_S):
            await process.communicate()
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_from_nothing_to_an_answer(
    nc: Client, nats_url: str, empty_postgres_dsn: str
) -> None:
    """Migrate, project, serve: the answer is there, the lag is gone, both stop cleanly."""
    env = environment(nats_url, empty_postgres_dsn)
    code, out, _ = await psm(env, "migrate", "up", "--dry-run", "-o", "json")
    assert (code, msgspec.json.decode(out)[0]["state"]) == (0, "pending")
    assert (await psm(env, "migrate", "status"))[0] == 1
    assert (await psm(env, "migrate", "up"))[0] == 0
    assert (await psm(env, "migrate", "status"))[0] == 0

    worker, account = OneWorker(), Account("acc_001")
    await commit(nc, 0, worker.fold(*account.deposit("5")), log_sequence=1)
    code, out, _ = await psm(env, "views", "status", "-o", "json")
    lag, analytics = msgspec.json.decode(out)
    assert (code, lag["checkpoint"], analytics["checkpoint"]) == (0, 0, 0)
    assert (lag["projection"], analytics["projection"]) == ("current_state", "analytics")
    assert lag["lag_events"] >= 2
    assert lag["lag_s"] > 0

    wanted = ("--principal", "svc/test", "--role", "viewer", "--account", "acc_*")
    code, out, err = await psm(env, "token", "create", "--as-owner", *wanted, "-o", "json")
    assert code == 0, err
    token = msgspec.json.decode(out)["token"]
    given = {"Authorization": f"Bearer {token}"}
    serving = running(env, "http.started", "serve", "--port", "0")
    async with serving as line, running(env, "projector.started", "projector"):
        url = msgspec.json.decode(line)["url"]
        async with httpx.AsyncClient(base_url=url, headers=given, timeout=WAIT_S) as client:
            stranger = await client.get("/psm/state/acc_001", headers={"Authorization": ""})
            assert stranger.status_code == 401
            answer = await until_answer(
                lambda: client.get("/psm/state/acc_001"), lambda a: a.status_code == 200, "a row"
            )
            assert answer.json()["deposits"] == "5"
            await until_answer(
                lambda: client.get("/health/ready"), lambda a: a.status_code == 200, "it is ready"
            )
    code, out, _ = await psm(env, "views", "status", "-o", "json")
    assert msgspec.json.decode(out)[0]["lag_events"] == 0


async def test_errors_are_one_line_with_exit_2(
    nc: Client, nats_url: str, postgres_dsn: str
) -> None:
    """A taken port, a missing address and a wrong name say what to do."""
    env = environment(nats_url, postgres_dsn)
    async with running(env, "http.started", "serve", "--port", "0") as line:
        port = msgspec.json.decode(line)["url"].rpartition(":")[2]
        code, _, err = await psm(env, "serve", "--port", port)
        assert code == 2
        assert "--port" in err
        assert "Traceback" not in err
    code, _, err = await psm(env, "views", "rebuild", "nothing")
    assert (code, "current_state" in err) == (2, True)
    code, _, err = await psm(env, "projector", "--partitions", "7")
    assert (code, "partition 7 does not exist" in err) == (2, True)
    del env["POSTGRES_DSN"]
    for command in (["migrate", "up"], ["projector"], ["serve", "--port", "0"]):
        code, _, err = await psm(env, *command)
        assert (code, "POSTGRES_DSN is not set" in err) == (2, True)


@pytest.mark.parametrize("point", ["projector.before_commit", "projector.after_commit"])
async def test_killed_projector_neither_loses_nor_repeats(
    nc: Client, nats_url: str, postgres_dsn: str, point: str
) -> None:
    """SIGKILL around the commit; the next projector leaves the rows that the fold says."""
    env = environment(nats_url, postgres_dsn)
    worker, account = OneWorker(), Account("acc_001")
    killed = await start(env | {"PSM_CRASH_POINT": f"{point}:2"}, "projector")
    ended = asyncio.create_task(killed.communicate())
    for number in range(1, 11):
        before = await rows_written(postgres_dsn)
        await commit(nc, 0, worker.fold(*account.deposit("1")), log_sequence=number)
        # One after the other: what is there at once is one transaction, and one pass.
        async with asyncio.timeout(WAIT_S):
            while not ended.done() and await rows_written(postgres_dsn) == before:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    async with asyncio.timeout(WAIT_S):
        _, err = await ended
    assert killed.returncode == -signal.SIGKILL
    assert b"crash_point.reached" in err

    # It listens on loopback only, so nobody has to be asked who they are.
    env["PSM_HTTP_AUTH"] = "off"
    serving = running(env, "http.started", "serve", "--port", "0")
    async with serving as line, running(env, "projector.started", "projector"):
        url = msgspec.json.decode(line)["url"]
        async with httpx.AsyncClient(base_url=url) as client:
            answer = await client.get(
                "/psm/state/acc_001", params={"min_sequence": 10, "timeout_s": 30}, timeout=WAIT_S
            )
    body = answer.json()
    assert body["deposits"] == "10"
    assert body["ledger_hash"] == worker.document("acc_001")["ledger_hash"]
