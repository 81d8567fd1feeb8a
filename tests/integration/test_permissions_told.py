"""What the broker's permissions refuse is told at once, with the subject that is missing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.broker import compose_broker, connect_as, password_of, settings_of
from tests.support.events import deposit
from tests.support.guarded import publish_guarded
from tests.support.running import psm

from psm.adapters.jetstream import (
    PermissionRefusedError,
    connect,
    last_values,
    publish_expected,
    stream_info,
)
from psm.adapters.jetstream.messages import Outgoing
from psm.adapters.jetstream.reads import direct_batch
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.errors import ConfigError
from psm.contracts.publisher import Publisher
from psm.workers.process.settings import Settings

AT_ONCE_S = 2.0  # where an answer is waited for, it is for five seconds


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with compose_broker(tmp_path) as address:
        nc = await connect_as("streams", address)
        await apply(nc, Settings(nats_url=address))
        await nc.close()
        yield address


async def test_refused_requests_fail_at_once(url: str) -> None:
    """Requests, batches, direct gets: whoever waits for the answer learns that none comes."""
    nc = await connect_as("publisher", url)
    async with asyncio.timeout(AT_ONCE_S):
        with pytest.raises(PermissionRefusedError, match=r"publish to \$JS.API.STREAM.INFO.TRADES"):
            await stream_info(nc, "TRADES")
        with pytest.raises(PermissionRefusedError, match=r"publish to control\.rules"):
            await publish_expected(nc, "TRADES", "control.rules", b"{}", expected=None)
        batch = [Outgoing("_psm.cursor.0", b"1"), Outgoing("_psm.state.updated.0.A", b"2")]
        with pytest.raises(PermissionRefusedError, match=r"_psm\.state\.updated\.0\.A"):
            await publish_guarded(nc, "PSM", batch, expected=0, batch_id="b")
        with pytest.raises(PermissionRefusedError, match=r"DIRECT\.GET\.PSM"):
            await direct_batch(nc, "PSM", {"seq": 1, "batch": 10})
        with pytest.raises(PermissionRefusedError, match=r"DIRECT\.GET\.KV_psm-fleet"):
            await last_values(nc, "KV_psm-fleet", ">")
    await nc.close()


async def test_an_inbox_that_may_not_be_heard_is_told(url: str) -> None:
    """Without the inbox prefix of its user no answer ever comes, and no other request waits."""
    nc = await connect(url, name="test", user="worker", password=password_of("worker"))
    async with asyncio.timeout(AT_ONCE_S):
        for _ in range(2):
            with pytest.raises(PermissionRefusedError, match=r"subscribe to _INBOX\."):
                await stream_info(nc, "TRADES")
        with pytest.raises(PermissionRefusedError, match=r"subscribe to _INBOX\."):
            await direct_batch(nc, "TRADES", {"seq": 1, "batch": 10})
    await nc.close()


async def test_publisher_does_not_try_again(url: str) -> None:
    """A subject that is not this user's is no outage."""
    nc = await connect_as("market", url)
    async with asyncio.timeout(AT_ONCE_S):
        with pytest.raises(ConfigError, match=r"publish to trades\.acc_001"):
            await Publisher(nc).append(deposit(1).data)
    await nc.close()


async def test_subject_of_no_stream_is_told(nats_url: str) -> None:
    """Nobody will ever answer there, so nobody waits."""
    nc = await connect(nats_url, name="test")
    async with asyncio.timeout(AT_ONCE_S):
        with pytest.raises(ConfigError, match=r"no stream takes trades\.\*"):
            await Publisher(nc).append(deposit(1).data)
        with pytest.raises(ConfigError, match=r"no stream takes nowhere\.at\.all"):
            await Publisher(nc, validate=False).record("nowhere.at.all", b"{}")
    await nc.close()


def test_commands_say_what_is_missing(url: str, tmp_path: Path) -> None:
    """`psm fleet` as a reader, `psm publish` as one who may not: exit 2, and the subject."""
    reader = {"NATS_URL": url, **settings_of("reader")}
    done = psm("fleet", environment=reader, check=False)
    assert done.returncode == 2
    assert "may not publish to $JS.API" in done.stderr
    file = tmp_path / "events.jsonl"
    file.write_bytes(deposit(1).data + b"\n")
    market = {"NATS_URL": url, **settings_of("market")}
    done = psm("publish", str(file), environment=market, check=False)
    assert done.returncode == 2
    assert "may not publish to trades.acc_001" in done.stderr


def test_a_rotation_is_recorded_by_who_may(url: str, tmp_path: Path) -> None:
    """`psm certs renew` leaves a record as operator, goes on as reader; the rest is by a note."""
    house = str(tmp_path / "certs")
    psm("certs", "init", house, "--leaf", "nats-1")
    assert "NATS_URL names no broker" in psm("certs", "renew", house).stderr
    refused = psm("certs", "renew", house, environment={"NATS_URL": url, **settings_of("reader")})
    assert "not recorded in OPS (" in refused.stderr
    assert "`psm ops note`" in refused.stderr
    operator = {"NATS_URL": url, "PSM_ACTOR": "p-test", **settings_of("operator")}
    assert "not recorded" not in psm("certs", "renew", house, environment=operator).stderr
    psm("ops", "note", "NATS password of worker replaced", environment=operator)
    rotation, note = json.loads(psm("ops", "list", "-o", "json", environment=operator).stdout)
    assert rotation["what"] == {"kind": "certificates", "renewed": ["nats-1"]}
    assert (rotation["actor"], rotation["outcome"]) == ("p-test", "completed")
    assert note["reason"] == "NATS password of worker replaced"
    psm("ops", "verify", environment=operator)
