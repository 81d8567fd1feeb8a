"""Who we are at a real NATS server, and how that is replaced while everything runs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.nats_jwt import Operator
from tests.support.running import psm
from tests.support.workbench import until

from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import (
    ConnectionCounters,
    PermissionRefusedError,
    connect,
    publish_expected,
    stream_info,
)
from psm.adapters.jetstream.nats_keys import CONFIG, KeyFolder, public_key
from psm.adapters.jetstream.roles import ROLES
from psm.adapters.jetstream.streams_apply import apply
from psm.adapters.secret_files import FileSecret
from psm.contracts.errors import ConfigError, TransientError
from psm.workers.process.settings import Settings


class Broker(EmbeddedNats):
    """A server whose users stand in a file of their own."""

    def __init__(self, folder: Path, users: str) -> None:
        super().__init__(folder, sync=False)
        self.users = users

    def _config(self) -> str:
        (self._folder / "users.conf").write_text(self.users)
        return 'listen: "127.0.0.1:-1"\nhttp: "127.0.0.1:-1"\ninclude ./users.conf\n'

    def reload(self, users: str) -> None:
        (self._folder / "users.conf").write_text(users)
        os.kill(self.pid, signal.SIGHUP)


@pytest.fixture
def keys(tmp_path: Path) -> KeyFolder:
    folder = tmp_path / "nats" / "keys"
    made = json.loads(psm("nats-keys", "init", str(folder), "-o", "json").stdout)
    assert "worker" in made["made"]
    return KeyFolder(folder)


@pytest.fixture
async def broker(keys: KeyFolder, tmp_path: Path) -> AsyncIterator[Broker]:
    async with Broker(tmp_path / "nats", f"include ./keys/{CONFIG}\n") as server:
        assert isinstance(server, Broker)
        yield server


def passwords(*users: str) -> str:
    """Users and passwords, as `name:password`."""
    pairs = (user.split(":") for user in users)
    listed = ", ".join(f'{{user: {name}, password: "{word}"}}' for name, word in pairs)
    return f"authorization {{ users: [{listed}] }}\n"


def test_keys_are_for_their_part_alone(keys: KeyFolder) -> None:
    """Seeds are private; the configuration has public keys, and the permissions of each role."""
    for file in keys.folder.glob("*.nk"):
        assert file.stat().st_mode & 0o777 == 0o600
    printed = psm("config", "nats-users", "--nkeys", str(keys.folder)).stdout
    assert printed == (keys.folder / CONFIG).read_text() == keys.config()
    assert not re.search(r"\bS[A-Z2-7]{50,}", printed)
    assert "password" not in printed
    assert f"nkey: {public_key(keys.seed('worker'))} # worker" in printed


async def test_key_is_its_role(broker: Broker, keys: KeyFolder, tmp_path: Path) -> None:
    """It may what its role may; a key of nobody, no key and no file are told."""
    reader = await connect(
        broker.url,
        name="t",
        nkeys_seed=str(keys.seed("reader")),
        inbox_prefix="_INBOX.reader",
    )
    with pytest.raises(PermissionRefusedError, match=r"STREAM\.INFO"):
        await stream_info(reader, "TRADES")
    await reader.close()
    stranger = KeyFolder(tmp_path / "strangers")
    stranger.make(["worker"])
    with pytest.raises(ConfigError, match="refuses the credentials"):
        await connect(broker.url, name="t", nkeys_seed=str(stranger.seed("worker")))
    with pytest.raises(ConfigError, match="refuses the credentials"):
        await connect(broker.url, name="t")
    with pytest.raises(ConfigError, match=r"absent\.nk does not exist"):
        await connect(broker.url, name="t", nkeys_seed=str(tmp_path / "absent.nk"))
    (tmp_path / "odd.nk").write_text("no seed")
    with pytest.raises(ConfigError, match=r"credentials file cannot be used.*seed"):
        await connect(broker.url, name="t", nkeys_seed=str(tmp_path / "odd.nk"))


def rotate(broker: Broker, keys: KeyFolder, *, role: str = "worker", **options: Any) -> Any:
    """Run the command; nobody else's key changes."""
    given = {"reload": f"kill -HUP {broker.pid}", **options}
    flags = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    environment = {"NATS_URL": broker.url, "PSM_NATS_MONITORING_URL": broker.monitoring_url}
    command = ("nats-keys", "rotate", role, str(keys.folder), *flags)
    return psm(*command, environment=environment, check=False)


async def test_new_key_without_an_outage(broker: Broker, keys: KeyFolder) -> None:
    """The part comes with the new key by itself, others notice nothing, the old one is refused."""
    seen = {role: ConnectionCounters() for role in ("worker", "marks")}
    parts = [
        await connect(broker.url, name=role, nkeys_seed=str(keys.seed(role)), counters=seen[role])
        for role in seen
    ]
    kept = keys.folder / "kept"
    shutil.copyfile(keys.seed("worker"), kept)
    done = await asyncio.to_thread(rotate, broker, keys)
    assert done.returncode == 0, done.stderr
    assert "not recorded in OPS" in done.stderr, "nobody's key is given for it"
    assert (seen["worker"].reconnects, seen["marks"].reconnects) == (1, 0)
    assert keys.public_keys()["worker"] == [public_key(keys.seed("worker"))]
    await until(lambda: parts[0].is_connected, "it works")
    with pytest.raises(ConfigError, match="refuses the credentials"):
        await connect(broker.url, name="t", nkeys_seed=str(kept))
    for part in parts:
        await part.close()


async def test_producer_has_a_key_of_its_own(broker: Broker, keys: KeyFolder) -> None:
    """The folder keeps whose accounts it may publish, also while its key is replaced."""
    named = "--producer", "desk=acc_001,acc_002"
    refused = psm("config", "nats-users", "--nkeys", str(keys.folder), *named, check=False)
    told = f"run `psm nats-keys init {keys.folder} {' '.join(named)}`"
    assert (refused.returncode, told in refused.stderr) == (2, True), refused.stderr
    for accounts in ("acc_001", "acc_001,acc_002"):  # more accounts leave it its key
        psm("nats-keys", "init", str(keys.folder), "--producer", f"desk={accounts}")
    os.kill(broker.pid, signal.SIGHUP)
    before = dict(keys.public_keys())
    assert (await asyncio.to_thread(rotate, broker, keys, role="desk")).returncode == 0
    assert keys.public_keys() != before
    assert dict(keys.public_keys()) | {"desk": before["desk"]} == before
    desk = await connect(broker.url, name="t", nkeys_seed=str(keys.seed("desk")),
        inbox_prefix="_INBOX.desk")  # fmt: skip
    with pytest.raises(PermissionRefusedError, match=r"publish to trades\.acc_003"):
        await publish_expected(desk, "TRADES", "trades.acc_003", b"{}", expected=None)
    with pytest.raises(TransientError):  # it may; no stream is there
        await publish_expected(desk, "TRADES", "trades.acc_002", b"{}", expected=None)
    await desk.close()


async def test_rotation_goes_on_where_it_ended(broker: Broker, keys: KeyFolder) -> None:
    """Who has a copy of the old key is named, and both hold until it has gone."""
    kept = keys.folder / "kept"
    shutil.copyfile(keys.seed("worker"), kept)
    late = await connect(broker.url, name="late-worker", nkeys_seed=str(kept))
    failed = await asyncio.to_thread(rotate, broker, keys, wait=0)
    assert failed.returncode == 2
    assert "still used by late-worker" in failed.stderr
    assert len(keys.public_keys()["worker"]) == 2
    await late.flush()
    await late.close()
    assert (await asyncio.to_thread(rotate, broker, keys)).returncode == 0
    assert len(keys.public_keys()["worker"]) == 1


async def test_broker_that_does_not_reload_is_told(broker: Broker, keys: KeyFolder) -> None:
    """Nothing is given to anybody before the broker takes it."""
    before = public_key(keys.seed("worker"))
    failed = await asyncio.to_thread(rotate, broker, keys, reload="false")
    assert failed.returncode == 2
    assert "exit 1" in failed.stderr
    assert public_key(keys.seed("worker")) == before


async def test_new_password_by_a_file(tmp_path: Path) -> None:
    """File first, broker then: the client goes on, although neither is in time for the other."""
    file = tmp_path / "password"
    file.write_text("old\n")
    counters = ConnectionCounters()
    async with Broker(tmp_path / "nats", passwords("worker:old")) as server:
        assert isinstance(server, Broker)
        nc = await connect(
            server.url,
            name="t",
            user="worker",
            password=FileSecret.of("old", file),
            counters=counters,
        )
        file.write_text("new\n")  # it reconnects, is refused, and goes on with what worked
        await until(lambda: counters.reconnects == 1 and nc.is_connected, "it is back")
        server.reload(passwords("worker:new"))
        await until(lambda: counters.reconnects == 2 and nc.is_connected, "it is back")
        await nc.flush()
        await nc.close()


async def test_wrong_identities_are_told(tmp_path: Path) -> None:
    """Password, token: at once, and without the secret."""
    async with Broker(tmp_path / "nats", 'authorization { token: "right" }\n') as server:
        nc = await connect(server.url, name="t", token="right")
        await nc.close()
        began = time.monotonic()
        with pytest.raises(ConfigError, match="refuses the credentials") as caught:
            await connect(server.url, name="t", token="secret-wrong")
        assert time.monotonic() - began < 4.5
        assert "secret-wrong" not in str(caught.value)


async def test_user_whose_credentials_expire(tmp_path: Path) -> None:
    """The broker ends the connection; with new credentials in the file it goes on."""
    operator, file = Operator(), tmp_path / "user.creds"
    operator.write_creds(file, 3600)
    counters = ConnectionCounters()
    closed: list[str] = []
    async with Broker(tmp_path / "nats", operator.config()) as server:
        nc = await connect(server.url, name="t", user_credentials=str(file))
        await nc.close()
        operator.write_creds(file, 2)
        nc = await connect(
            server.url,
            name="t",
            user_credentials=str(file),
            counters=counters,
            on_closed=closed.append,
        )
        await until(lambda: counters.disconnects >= 1, "its credentials expired")
        operator.write_creds(file, 3600)
        await until(lambda: nc.is_connected and counters.reconnects >= 1, "it is back")
        await nc.flush()
        assert closed == []
        await nc.close()
        Operator().write_creds(file, 3600)
        with pytest.raises(ConfigError, match="refuses the credentials"):
            await connect(server.url, name="t", user_credentials=str(file))


async def test_user_without_a_file_is_closed_for_good(tmp_path: Path) -> None:
    """Nothing could change who it is: its process ends, and is started again by its supervisor."""
    closed: list[str] = []
    async with Broker(tmp_path / "nats", passwords("worker:old")) as server:
        assert isinstance(server, Broker)
        await connect(server.url, name="t", user="worker", password="old", on_closed=closed.append)
        server.reload(passwords("worker:new"))
        await until(lambda: bool(closed), "it is closed")


async def test_a_producer_publishes_for_its_accounts_alone(tmp_path: Path) -> None:
    """`psm config nats-users --producer` prints one more user, whom the broker holds to them."""
    made = psm("config", "nats-users", "--producer", "desk=acc_001,acc_002").stdout
    assert made.count("user: ") == len(ROLES) + 1
    for wrong, told in (("desk", "account id"), ("worker=a", "no role"), ("x=a,b.c", "'b.c'")):
        refused = psm("config", "nats-users", "--producer", wrong, check=False)
        assert (refused.returncode, told in refused.stderr) == (2, True), refused.stderr
    users = re.sub(r"\$NATS_(\w+)_PASSWORD", r"word-\1", made)
    store = f'jetstream {{ store_dir: "{tmp_path / "streams"}" }}\n'
    async with Broker(tmp_path / "nats", store + users) as server:
        owner = await connect(server.url, name="t", user="streams", password="word-STREAMS",
            inbox_prefix="_INBOX.streams")  # fmt: skip
        await apply(owner, Settings(nats_url=server.url))
        await owner.close()
        desk = await connect(server.url, name="t", user="desk", password="word-DESK",
            inbox_prefix="_INBOX.desk")  # fmt: skip
        await publish_expected(desk, "TRADES", "trades.acc_002", b"{}", expected=None)
        with pytest.raises(PermissionRefusedError, match=r"publish to trades\.acc_003"):
            await publish_expected(desk, "TRADES", "trades.acc_003", b"{}", expected=None)
        await desk.close()
