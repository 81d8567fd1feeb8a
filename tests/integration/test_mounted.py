"""Files that are replaced under running parts: on real servers, which cut who came with the old."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import msgspec
import pytest
from joserfc import jwk, jwt
from tests.support.archiving import fetch
from tests.support.log import deposit
from tests.support.running import Running, psm, request, started
from tests.support.workbench import until, until_answer

from psm.adapters import telemetry
from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import connect, get
from psm.contracts.publisher import Publisher
from psm.contracts.subjects import published
from psm.workers.access.bearer import Authenticator, CredentialsError
from psm.workers.access.following import FollowedAccess
from psm.workers.access.vouched import HEADER, author_of, keyring_of
from psm.workers.local.parts import free_port
from psm.workers.process.config import Settings
from psm.workers.process.env_file import ENV_FILE
from psm.workers.process.live_settings import LiveSettings
from psm.workers.process.mounted import Mounted

WITHIN_S = 90.0
PARTS = ("worker", "projector", "serve")


class Broker(EmbeddedNats):
    """With JetStream, and users in a file of their own."""

    def give(self, password: str) -> None:
        """Write the password of the parts; a server that runs takes it and cuts who had another."""
        named = {"part": password, "test": "test"}
        users = ", ".join(f'{{user: {name}, password: "{word}"}}' for name, word in named.items())
        (self._folder / "users.conf").write_text(f"authorization {{ users: [{users}] }}\n")
        if self.is_running:
            os.kill(self.pid, signal.SIGHUP)

    def _config(self) -> str:
        store = f'jetstream {{ store_dir: "{self._folder}/store" }}'
        return f'listen: "127.0.0.1:-1"\nhttp: "127.0.0.1:-1"\n{store}\ninclude ./users.conf\n'


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    folder = tmp_path / "nats"
    folder.mkdir()
    server = Broker(folder, sync=False)
    server.give("old")
    async with server:
        yield server


@pytest.fixture
async def address(postgres_dsn: str) -> AsyncIterator[Callable[[str], str]]:
    """Return the database's address for a login of the test's own, by its password."""
    await fetch(postgres_dsn, "CREATE ROLE mounted_part LOGIN SUPERUSER PASSWORD 'old'")
    at = urlsplit(postgres_dsn)
    place = at.netloc.rpartition("@")[2]
    yield lambda word: urlunsplit(at._replace(netloc=f"mounted_part:{word}@{place}"))
    await fetch(postgres_dsn, "DROP ROLE mounted_part")


def events(part: Running) -> list[tuple[str, str]]:
    """What a part logged: event and what it is about."""
    lines = [json.loads(line) for line in part.log.read_text().splitlines() if line[:1] == "{"]
    return [(line["event"], line.get("what", "")) for line in lines]


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


async def answers(url: str) -> bool:
    try:
        return (await asyncio.to_thread(request, url))[0] == 200
    except OSError:
        return False


async def test_running_parts_come_back_with_new_passwords(
    broker: Broker,
    address: Callable[[str], str],
    postgres_dsn: str,
    tmp_path: Path,
) -> None:
    """Worker, projector and API go on through a change of both passwords; all connections are cut.

    No process is started again: each reads the file anew, says so, and comes back.
    """
    nats_file, dsn_file = tmp_path / "nats-password", tmp_path / "dsn"
    nats_file.write_text("old\n")
    dsn_file.write_text(address("old"))
    ports = {part: free_port() for part in PARTS}
    http = free_port()
    environment = {
        "NATS_URL": broker.url,
        "PSM_NATS_USER": "part",
        "PSM_NATS_PASSWORD_FILE": str(nats_file),
        "POSTGRES_DSN_FILE": str(dsn_file),
        "PSM_PARTITIONS": "2",
        "PSM_HTTP_AUTH": "off",
        "PSM_HTTP_PORT": str(http),
    }
    await asyncio.to_thread(psm, "streams", "apply", environment=environment)
    nc = await connect(broker.url, name="test", user="test", password="test")

    async def is_row(account: str) -> bool:
        row = f"SELECT 1 FROM balances_view WHERE account_id = '{account}'"
        return len(await fetch(postgres_dsn, row)) == 1

    with ExitStack() as stack:
        parts = {
            part: stack.enter_context(
                started(tmp_path, part, environment={**environment, "PSM_METRICS_PORT": f"{port}"})
            )
            for part, port in ports.items()
        }
        await Publisher(nc).append(deposit("acc_1"))
        await until_answer(lambda: is_row("acc_1"), bool, "the first event became a row", WITHIN_S)
        asked = f"http://127.0.0.1:{http}/psm/state"
        await until_answer(lambda: answers(f"{asked}/acc_1"), bool, "the API answers", WITHIN_S)
        # The files first: until the servers follow, the parts go on with what worked.
        nats_file.write_text("new\n")
        dsn_file.write_text(address("new"))
        told = {("files.read_again", "nats")}
        await until(lambda: all(told <= set(events(p)) for p in parts.values()), "all told of it")
        await fetch(postgres_dsn, "ALTER ROLE mounted_part PASSWORD 'new'")
        broker.give("new")
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename='mounted_part'"
        assert len(await fetch(postgres_dsn, cut)) >= 2
        await Publisher(nc).append(deposit("acc_2"))
        await until_answer(lambda: is_row("acc_2"), bool, "the second event became a row", WITHIN_S)
        await until_answer(lambda: answers(f"{asked}/acc_2"), bool, "the API reads on", WITHIN_S)
        assert all(part.process.poll() is None for part in parts.values())
        for name in ("projector", "serve"):
            assert ("files.read_again", "postgres") in events(parts[name]), name
            shown = scraped(ports[name])
            assert 'psm_files_read_again_total{what="postgres"}' in shown
            assert re.search(r'psm_files_unusable\{what="postgres"\} 0\.0', shown)
        assert 'psm_files_read_again_total{what="nats"}' in scraped(ports["worker"])
        await nc.close()
        for part in parts.values():
            assert part.stop() == 0


# --- What is kept in memory

KEY, OTHER = (jwk.OKPKey.generate_key("Ed25519", auto_kid=True) for _ in range(2))


def access_toml(folder: Path, roles: str = "viewer") -> str:
    return (
        f"[[issuer]]\niss = 'https://login.example'\naudience = 'psm'\nalgorithms = ['Ed25519']\n"
        f"jwks_file = '{folder}/keys.json'\n"
        f"[issuer.grants.desk]\nroles = ['{roles}']\npatterns = ['account:desk-*']\n"
    )


def write_keys(folder: Path, key: Any) -> None:
    public = jwk.KeySet([jwk.import_key(key.as_dict(private=False))])
    (folder / "keys.json").write_text(json.dumps(public.as_dict()))


def bearer(key: Any) -> str:
    at = int(time.time())
    claims = {"iss": "https://login.example", "aud": "psm", "sub": "u_1", "roles": ["desk"]}
    header = {"alg": "Ed25519", "typ": "at+jwt", "kid": key.kid}
    given = {**claims, "iat": at - 10, "exp": at + 600}
    return f"Bearer {jwt.encode(header, given, key, algorithms=['Ed25519'])}"


async def test_new_access_file_holds_at_once(tmp_path: Path) -> None:
    """Issuers, grants and keys; one that cannot be used changes nothing, and is told."""
    file = tmp_path / "access.toml"
    file.write_text(access_toml(tmp_path))
    write_keys(tmp_path, KEY)
    instruments = telemetry.setup("test")
    mounted = Mounted(instruments.process_metrics)
    recognises = Authenticator(table=_NO_TOKENS)
    followed = FollowedAccess(file, recognises)

    def shown() -> float | None:
        return instruments.registry.get_sample_value("psm_files_unusable", {"what": "access"})

    async with followed.kept():
        mounted.watch("access", followed.files, followed.take)
        principal = recognises.principal(bearer(KEY), "client")
        assert (principal.roles, recognises.still_holds(principal)) == (("viewer",), True)
        file.write_text(access_toml(tmp_path, "auditor"))
        await mounted.look()
        assert recognises.principal(bearer(KEY), "client").roles == ("auditor",)
        assert shown() == 0
        # Keys stand in another file, which the first one names.
        write_keys(tmp_path, OTHER)
        await mounted.look()
        assert recognises.principal(bearer(OTHER), "client").roles == ("auditor",)
        with pytest.raises(CredentialsError):
            recognises.principal(bearer(KEY), "client")
        for unusable in ("[[issuer", access_toml(tmp_path / "elsewhere")):
            file.write_text(unusable)
            await mounted.look()
            assert shown() == 1
            assert recognises.principal(bearer(OTHER), "client").roles == ("auditor",)
        file.write_text("")
        await mounted.look()
        assert shown() == 0
        assert not recognises.still_holds(principal)
        with pytest.raises(CredentialsError):
            recognises.principal(bearer(OTHER), "client")
    instruments.shutdown()


async def test_running_api_takes_what_was_replaced(
    nats_url: str, postgres_dsn: str, tmp_path: Path
) -> None:
    """Keys of an issuer, the key that vouches, a setting: each holds for the next request."""
    http = free_port()
    (tmp_path / "access.toml").write_text(access_toml(tmp_path, "ingest"))
    write_keys(tmp_path, KEY)
    own, public = tmp_path / "principal.pem", tmp_path / "principal.pem.pub"
    for name in ("principal.pem", "next.pem"):
        psm("anchor", "keygen", str(tmp_path / name))
    (tmp_path / "psm.toml").write_text('log_level = "info"\n')
    environment = {
        "NATS_URL": nats_url,
        "POSTGRES_DSN": postgres_dsn,
        "PSM_CONFIG_FILE": str(tmp_path / "psm.toml"),
        "PSM_ACCESS_FILE": str(tmp_path / "access.toml"),
        "PSM_HTTP_PRINCIPAL_KEY_FILE": str(own),
        "PSM_HTTP_PRINCIPAL_KEYS": str(public),
        "PSM_HTTP_PORT": str(http),
        "PSM_INGEST": "true",
        "PSM_PARTITIONS": "2",
    }
    await asyncio.to_thread(psm, "streams", "apply", environment=environment)

    async def whoami(key: Any) -> int:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{http}") as client:
            headers = {"Authorization": bearer(key)}
            return int((await client.get("/whoami", headers=headers)).status_code)

    with started(tmp_path, "serve", environment=environment) as serve:
        await until(lambda: ("http.started", "") in events(serve), "it answers", WITHIN_S)
        assert (await whoami(KEY), await whoami(OTHER)) == (200, 401)
        write_keys(tmp_path, OTHER)
        await until(lambda: ("files.read_again", "access") in events(serve), "told of keys")
        assert (await whoami(KEY), await whoami(OTHER)) == (401, 200)
        # A key that nobody could verify is not taken; with its other half it is.
        own.write_bytes((tmp_path / "next.pem").read_bytes())
        await until(
            lambda: ("files.unusable", "principal") in events(serve), "told that it is none"
        )
        public.write_bytes((tmp_path / "next.pem.pub").read_bytes())
        await until(lambda: ("files.read_again", "principal") in events(serve), "told of the key")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{http}") as client:
            headers = {"Authorization": bearer(OTHER)}
            answer = await client.post("/psm/events", json=deposit("desk-1", 1), headers=headers)
        assert answer.status_code == 201, answer.text
        (tmp_path / "psm.toml").write_text('log_level = "debug"\nbatch_messages = 5\n')
        await until(lambda: ("settings.restart_needed", "") in events(serve), "told of settings")
        assert serve.stop() == 0
    nc = await connect(nats_url, name="test")
    message = await get(nc, "TRADES", answer.json()["log_sequence"])
    await nc.close()
    assert message is not None
    hashed = hashlib.sha256(message.data).digest()
    ring = keyring_of([str(public)])
    author = author_of(message.header(HEADER), published(message.subject), hashed, ring)
    assert author.door == "http"


class _NoTokens:
    """No token holds; signed ones are asked for before these."""

    def find(self, _token: str) -> None:
        return None


_NO_TOKENS: Any = _NoTokens()


async def test_settings_hold_at_once_or_say_that_they_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log's level and the limits of HTTP do; of others it is told, until they are back."""
    file, env_file = tmp_path / "psm.toml", tmp_path / "env"
    file.write_text('log_level = "info"\n')
    env_file.write_text("PSM_BATCH_MESSAGES=100\n")
    monkeypatch.setenv("PSM_CONFIG_FILE", str(file))
    monkeypatch.setenv(ENV_FILE, str(env_file))
    instruments = telemetry.setup("test")
    mounted, live = (make(instruments.process_metrics) for make in (Mounted, LiveSettings))
    assert isinstance(mounted, Mounted)
    assert isinstance(live, LiveSettings)
    mounted.watch("settings", lambda: live.files, live.take)
    taken: list[Settings] = []
    live.on_change(taken.append)

    def waiting() -> float | None:
        return instruments.registry.get_sample_value("psm_settings_waiting")

    file.write_text('log_level = "debug"\nhttp_connections = 7\n')
    await mounted.look()
    assert [(one.log_level, one.http_connections) for one in taken] == [("debug", 7)]
    assert waiting() == 0
    env_file.write_text("PSM_BATCH_MESSAGES=101\n")
    await mounted.look()
    assert (waiting(), len(taken)) == (1, 1)
    file.write_text('log_level = "loud"\n')
    await mounted.look()
    sample = instruments.registry.get_sample_value
    assert sample("psm_files_unusable", {"what": "settings"}) == 1
    assert len(taken) == 1
    env_file.write_text("PSM_BATCH_MESSAGES=100\n")
    file.write_text('log_level = "info"\n')
    await mounted.look()
    assert waiting() == 0
    assert taken[-1] == msgspec.structs.replace(taken[0], log_level="info", http_connections=1000)
    instruments.shutdown()
