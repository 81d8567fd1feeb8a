"""Dockerfile and compose.yaml, unchanged, in real containers: `make containers` runs this.

The tests are one story, in their order, under a load that never stops.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import tarfile
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path

import asyncpg
import pytest
from tests.containers.engine import Engine, engine, tags
from tests.containers.load import ACCOUNTS, Load
from tests.containers.stack import LASTING, NODES, PARTS, Stack, until
from tests.k8s.tools import ROOT
from tests.support import servers
from tests.support.servers import run

# nats-py and asyncpg leave open what a kill cut off while they connect, or while TLS begins.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed (transport|<socket):ResourceWarning")

BEFORE = "6bbd886734e1"
"""The other end of upgrade and rollback: a migration older, and compose.yaml fits its image."""
NOW_IMAGE, BEFORE_IMAGE = "portfolio-state-manager:local", "portfolio-state-manager:before"
PORTS = (4222, 4223, 4224, 5432)
FROZEN_EVENTS = 40  # Five of each account, while something stands still.

_RIGHTS = """
import os
status = dict(line.split(":", 1) for line in open("/proc/1/status"))
print(status["Uid"].split()[0], status["CapEff"].strip(), status["CapBnd"].strip(),
      status["NoNewPrivs"].strip(), status["Seccomp"].strip())
for folder in ("/", "/opt/psm/lib", "/certs", "/etc"):
    try:
        open(os.path.join(folder, "x"), "w")
    except OSError as error:
        print(folder, error.strerror)
open("/tmp/x", "w")
try:
    open("/certs/nats-1/tls.key")
except OSError as error:
    print("key", error.strerror)
"""


@pytest.fixture(scope="module")
def host(seen: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine with the images of before and of now."""
    with engine(made("PSM_TEST_ENGINE"), made("PSM_TEST_IMAGES")) as running:
        seen.append(f"image built in {running.build(NOW_IMAGE, ROOT):.0f} s")
        old = tmp_path_factory.mktemp("before")
        check_out(BEFORE, old)
        # Its own could not be built: nkeys is published as source only.
        shutil.copy(ROOT / "Dockerfile", old)
        shutil.copy(ROOT / "requirements" / "build.txt", old / "requirements")
        running.build(BEFORE_IMAGE, old)
        yield running


@pytest.fixture(scope="module")
def stack(
    host: Engine, tmp_path_factory: pytest.TempPathFactory, seen: list[str]
) -> Iterator[Stack]:
    """compose.yaml, brought up with the image of before."""
    running = Stack(host, made("PSM_TEST_COMPOSE"), tmp_path_factory.mktemp("stack"))
    running.set(IMAGE_PSM=BEFORE_IMAGE)
    try:
        seen.append(f"first start, image of before: {running.up():.0f} s until all is healthy")
        running.enter()
        yield running
    finally:
        running.compose("--profile", "tools", "down", "--volumes", "--timeout", "20")


@pytest.fixture(scope="module")
def load(stack: Stack) -> Iterator[Load]:
    """Trades, from the first test to the last."""
    with Load(stack.ca) as running:
        yield running


def test_forward_and_back_on_the_same_data(stack: Stack, load: Load, seen: list[str]) -> None:
    """The image of before, the one of now, back again, and for good."""
    settled(stack, load)
    for image in (NOW_IMAGE, BEFORE_IMAGE, NOW_IMAGE):
        stack.set(IMAGE_PSM=image)
        load.rest()
        seconds = stack.up()
        settled(stack, load)
        seen.append(f"to {image}: {seconds:.0f} s, slowest event {load.slowest:.1f} s")
    checked = stack.compose("run", "--rm", "-T", "--no-deps", "migrate", "migrate", "status")
    assert "pending" not in checked


@pytest.mark.parametrize("part", PARTS)
def test_a_part_may_do_nothing_but_its_work(stack: Stack, part: str) -> None:
    """No root, no capability, no new privileges, seccomp, nothing to write to but /tmp."""
    read_only = "Read-only file system"
    assert stack.inside(part, "python", "-c", _RIGHTS).splitlines() == [
        f"10001 {0:016x} {0:016x} 1 2",
        *(f"{folder} {read_only}" for folder in ("/", "/opt/psm/lib", "/certs", "/etc")),
        "key Permission denied",
    ]


def test_an_event_over_http_is_read_back(stack: Stack, load: Load) -> None:
    """Appended by one request, seen in the state and in the archive by others."""
    event = {
        "event_id": "7b0e0c0e-8a57-4d8c-9c56-0b7f3f0f2a01",
        "event_type": "TradeExecuted",
        "stream_id": "acc_http",
        "sequence_number": 1,
        "timestamp": "2025-12-12T10:30:00Z",
        "schema_version": "1.0",
        "payload": {"symbol": "BTC-PERP", "side": "buy", "quantity": "0.5", "price": "42000"},
    }
    until(lambda: stack.ask("/psm/events", event), "the event is taken")
    until(lambda: stack.ask("/psm/state/acc_http?min_sequence=1"), "the state is there")
    state = stack.ask("/psm/state/acc_http?min_sequence=1")
    assert state["positions"]["BTC-PERP"]["size"] == "0.5"
    until(lambda: stack.ask(f"/events/{event['event_id']}"), "the event is archived")


def test_a_certificate_is_renewed_under_load(stack: Stack, load: Load, seen: list[str]) -> None:
    """Servers show the new ones to who comes; nobody who is there is sent away."""
    before = {port: serial(stack, port) for port in PORTS}
    load.rest()
    stack.compose("run", "--rm", "-T", "certs", "certs", "renew", "/certs")
    for node in NODES:
        stack.compose("exec", "-T", node, "kill", "-HUP", "1")
    stack.compose("exec", "-T", "postgres", "sh", "/etc/psm/postgres.sh", "reload")
    until(lambda: all(serial(stack, port) != old for port, old in before.items()), "new ones")
    settled(stack, load)
    seen.append(f"certificates renewed: slowest event {load.slowest:.1f} s")


def test_passwords_are_replaced_under_load(stack: Stack, load: Load, seen: list[str]) -> None:
    """At NATS server by server, then at PostgreSQL; the old one is refused."""
    load.rest()
    stack.set(NATS_PROJECTOR_PASSWORD="another", POSTGRES_PROJECTOR_PASSWORD="another")
    for node in NODES:
        stack.up("--no-deps", node)
    stack.up()
    settled(stack, load)
    with pytest.raises(asyncpg.InvalidPasswordError):
        log_in(stack, "psm-dev")
    log_in(stack, "another")
    seen.append(f"passwords replaced: slowest event {load.slowest:.1f} s")


@pytest.mark.parametrize("service", LASTING)
def test_what_is_killed_comes_back(stack: Stack, load: Load, service: str, seen: list[str]) -> None:
    """kill -9 from outside: started again, healthy, and everything is where it was."""
    load.rest()
    seconds = stack.kill(service)
    settled(stack, load)
    seen.append(f"{service} killed: healthy in {seconds:.1f} s, slowest event {load.slowest:.1f} s")


@pytest.mark.parametrize("service", LASTING)
def test_what_is_frozen_goes_on(stack: Stack, load: Load, service: str, seen: list[str]) -> None:
    """Events are taken meanwhile, and folded by the others where one of several stands still."""
    load.rest()
    stack.freeze(service)
    try:
        already = sum(load.sent.values())
        until(lambda: sum(load.sent.values()) >= already + FROZEN_EVENTS, "events are taken")
        if service.startswith(("nats", "worker")):
            settled(stack, load)
    finally:
        stack.thaw(service)
    settled(stack, load)
    until(lambda: stack.is_healthy(service), f"{service} is healthy")
    seen.append(f"{service} frozen: slowest event {load.slowest:.1f} s")


def test_what_watches_sees_every_part(stack: Stack, load: Load, seen: list[str]) -> None:
    """Prometheus reaches all, has the rules and knows Alertmanager; spans reach the collector."""
    stack.set(PSM_OTLP_ENDPOINT="http://collector:4318")
    seconds = stack.up(profile="observability")
    every = ["1"] * (len(PARTS) + 1)
    until(lambda: asked("query?query=up", "result", "value") == every, "all targets answer")
    assert set(asked("rules", "groups", "rules")) == {"ok"}
    until(lambda: asked("alertmanagers", "activeAlertmanagers", "url"), "Alertmanager is known")
    settled(stack, load)
    logs = ("logs", "--no-color", "collector")
    until(lambda: '"traces"' in stack.compose(*logs), "spans arrive")
    seen.append(
        f"profile observability: {seconds:.0f} s, every part scraped, spans at the collector"
    )


def test_nothing_was_lost_or_doubled(stack: Stack, load: Load, seen: list[str]) -> None:
    """The log folds to what the workers published, and the archive has each event once."""
    for line in stack.engine.docker(
        "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}"
    ).splitlines():
        seen.append(line.removeprefix("psm-").replace("-1 ", " ", 1))
    load.stop()
    settled(stack, load)
    archived = (
        f"SELECT count(*), count(DISTINCT event_id) FROM events WHERE stream_id IN {ACCOUNTS}"
    )
    count = sum(load.sent.values())
    query = ("psql", "--username=psm", "--tuples-only", "--no-align", f"--command={archived}")
    until(lambda: stack.inside("postgres", *query).strip() == f"{count}|{count}", "all archived")
    stack.compose("--profile", "tools", "run", "--rm", "-T", "operator", "audit", "--no-views")
    seen.append(f"{count} events of {len(ACCOUNTS)} accounts; audit: everything agrees")


def asked(what: str, part: str, field: str) -> list[str]:
    """Return a field of each entry of what Prometheus answers; nothing while it does not."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:9090/api/v1/{what}", timeout=5) as answer:
            entries = json.load(answer)["data"][part]
    except OSError:
        return []
    if field == "rules":
        return [rule["health"] for group in entries for rule in group["rules"]]
    return [entry[field][1] if field == "value" else entry[field] for entry in entries]


def test_one_broker_is_enough(stack: Stack, load: Load, seen: list[str]) -> None:
    """compose.single.yaml comes up in place of the other, with volumes of its own."""
    stack.compose("--profile", "tools", "down", "--volumes", "--timeout", "20")
    single = Stack(
        stack.engine,
        made("PSM_TEST_COMPOSE"),
        stack.ca.parent,
        str(ROOT / "compose.yaml"),
        str(ROOT / "compose.single.yaml"),
    )
    single.set(IMAGE_PSM=NOW_IMAGE)
    seen.append(f"one broker: {single.up():.0f} s until all is healthy")
    assert "nats-2" not in single.compose("ps", "--services")


def test_keys_open_a_broker_from_inside_the_image(host: Engine, tmp_path: Path) -> None:
    """The image makes keys of its users, and comes in by them alone."""
    (tmp_path / "nats.conf").write_text(
        "jetstream {store_dir: /tmp}\ninclude ./of/nats-users.conf\n"
    )
    there = ("--network=psm-keys", f"--volume={tmp_path}:/keys", "--user=0")
    run = partial(host.docker, "run", "--rm", *there)
    address = ("--env=NATS_URL=nats://keys:4222", "--env=PSM_NATS_INBOX_PREFIX=_INBOX.streams")
    host.docker("network", "create", "psm-keys")
    try:
        run(NOW_IMAGE, "nats-keys", "init", "/keys/of")
        run("--detach", "--name=keys", tags()["nats"], "--config=/keys/nats.conf")
        seed = "--env=PSM_NATS_NKEY_SEED_FILE=/keys/of/streams.nk"
        assert "TRADES" in run(*address, seed, NOW_IMAGE, "streams", "apply")
        with pytest.raises(AssertionError, match="refuse"):
            run(*address, NOW_IMAGE, "streams", "apply")
    finally:
        host.docker("rm", "--force", "keys")
        host.docker("network", "rm", "psm-keys")


def test_testcontainers_need_no_other_image(
    host: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where an engine answers, the suite's servers are containers."""
    monkeypatch.setenv("DOCKER_HOST", host.env["DOCKER_HOST"])
    servers.docker_answers.cache_clear()
    try:
        with servers.nats_server(tmp_path / "n") as url, servers.postgres_server(tmp_path) as dsn:
            started = host.docker("ps", "--format={{.Image}}").split()
            assert {servers.NATS_IMAGE, servers.POSTGRES_IMAGE} <= set(started)
            run(servers.delete_streams(url))
            assert run(_answer(dsn)) == 1
    finally:
        servers.docker_answers.cache_clear()


def made(variable: str) -> Path:
    """Return what a script made, as `make containers` says by an environment variable."""
    path = os.environ.get(variable)
    assert path, f"{variable} is not set: run `make containers`"
    return Path(path)


def settled(stack: Stack, load: Load) -> None:
    """Wait until all that was acknowledged is in the views, each trade once."""
    for account, count in dict(load.sent).items():
        until(partial(_is_booked, stack, account, count), f"{account} at {count}")


def _is_booked(stack: Stack, account: str, count: int) -> bool:
    state = stack.ask(f"/psm/state/{account}?min_sequence={count or 1}")
    if state is None:
        return False
    assert Decimal(state["positions"]["BTC-PERP"]["size"]) == state["sequence_number"] >= count
    return True


def check_out(commit: str, folder: Path) -> None:
    """Write the files of a commit into a folder."""
    git = ["git", "archive", f"--output={folder}.tar", commit]
    subprocess.run(git, cwd=ROOT, check=True)
    with tarfile.open(f"{folder}.tar") as archive:
        archive.extractall(folder, filter="data")


def serial(stack: Stack, port: int) -> object:
    """Return the serial number of the certificate that a server shows."""
    tls = ssl.create_default_context(cafile=str(stack.ca))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        if port == 5432:  # It is asked for TLS, and says S; NATS says a line about itself first.
            plain.sendall(struct.pack("!ii", 8, 80877103))
            assert plain.recv(1) == b"S"
        else:
            while plain.recv(1) != b"\n":
                pass
        with tls.wrap_socket(plain, server_hostname="127.0.0.1") as private:
            return (private.getpeercert() or {})["serialNumber"]


def log_in(stack: Stack, password: str) -> None:
    """Connect as the projector, with a checked certificate."""
    dsn = f"postgresql://psm_projector:{password}@127.0.0.1:5432/psm"
    run(_answer(dsn, ssl.create_default_context(cafile=str(stack.ca))))


async def _answer(dsn: str, tls: ssl.SSLContext | None = None) -> object:
    connection = await asyncpg.connect(dsn, ssl=tls or "prefer")
    try:
        return await connection.fetchval("SELECT 1")
    finally:
        await connection.close()
