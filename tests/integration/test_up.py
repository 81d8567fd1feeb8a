"""`psm up`: one command from nothing to answers, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import nats
import pytest
from tests.support.events import rules
from tests.support.running import psm
from tests.support.screen import on_terminal
from tests.support.tcp_proxy import Direction, TcpProxy, proxied
from tests.support.workbench import until, until_answer

from psm.contracts.errors import ConfigError
from psm.workers.local.parts import Part, require_free
from psm.workers.local.supervisor import Addresses, LocalPlan, Supervisor
from psm.workers.process.running import Announcement, announced, find_running

READY_S = 120
PSM = [sys.executable, "-m", "psm.workers.cli"]


class Up:
    """A running `psm up`."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log
        self.addresses: dict[str, Any] = {}

    def await_ready(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self._log.read_text()
        self.addresses = json.loads(line)

    def lines(self, event: str) -> list[dict[str, Any]]:
        written = self._log.read_text().splitlines(keepends=True)
        # The last line may be in the middle of being written.
        found = [json.loads(line) for line in written if line[:1] == "{" and line[-1] == "\n"]
        return [line for line in found if line["event"] == event]

    def pids(self) -> dict[str, int]:
        """The process started last, per part."""
        return {line["child"]: line["pid"] for line in self.lines("child.started")}

    def state(self, account: str, at_least: int) -> dict[str, Any]:
        url = f"{self.addresses['http_url']}/psm/state/{account}"
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            try:
                answer = httpx.get(url, params={"min_sequence": at_least}, timeout=30)
            except httpx.TransportError:
                time.sleep(0.1)
                continue
            if answer.status_code == 200 and answer.json()["sequence_number"] >= at_least:
                return dict(answer.json())
            time.sleep(0.1)
        pytest.fail(f"{account} did not reach {at_least}:\n{self._log.read_text()[-5000:]}")


@contextmanager
def up(tmp_path: Path, *arguments: str) -> Iterator[Up]:
    """Start `psm up`; whatever happens, nothing of it is left behind."""
    log = tmp_path / f"up-{time.monotonic_ns()}.log"
    options = ["--data-dir", str(tmp_path / "data"), "--partitions", "4", "--port", "0"]
    command = [*PSM, "up", *options, "--verbose", *arguments]
    environment = {**os.environ, "PSM_LOG_FORMAT": "json"}
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment
        ) as process,
    ):
        try:
            yield Up(process, log)
        finally:
            process.kill()


def refusal(tmp_path: Path, *arguments: str, **environment: str) -> str:
    """Return what a `psm up` says that cannot start; nothing may be on its stdout."""
    command = [*PSM, "up", "--data-dir", str(tmp_path / "data"), "--port", "0", *arguments]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=READY_S, env={**os.environ, **environment}
    )
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    return result.stderr.splitlines()[-1]


async def deposit(url: str, number: int) -> None:
    """Publish one deposit as a foreign service does."""
    event = {
        "event_id": f"7b0e0c0e-8a57-4d8c-9c56-{number:012x}",
        "event_type": "CashDeposited",
        "stream_id": "acc_001",
        "sequence_number": number,
        "timestamp": "2025-12-12T10:30:00Z",
        "schema_version": "1.0.0",
        "payload": {"amount": "100"},
    }
    client = await nats.connect(url)
    try:
        await client.jetstream().publish("trades.acc_001", json.dumps(event).encode())
    finally:
        await client.close()


def is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def await_gone(pids: list[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while left := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_state_survives_a_stop(tmp_path: Path, number: signal.Signals) -> None:
    """A clean stop exits 0 and leaves no process; the next start knows everything."""
    for visit in (1, 2):
        with up(tmp_path, "--workers", "2") as running:
            running.await_ready()
            names = {"nats_url", "postgres_dsn", "http_url", "data_dir", "admin_token", "operator"}
            names |= {"nats_monitoring_url", "metrics"}
            assert set(running.addresses) == names
            assert running.addresses["admin_token"] is None  # nobody is asked for one
            assert running.addresses["data_dir"] == str(tmp_path / "data")
            asyncio.run(deposit(running.addresses["nats_url"], visit))
            assert running.state("acc_001", visit)["cash"] == {"USDT": str(100 * visit)}
            pids = running.pids()
            parts = {"worker-0", "worker-1", "projector", "analytics", "archive", "serve"}
            assert set(pids) == {"nats", "postgres", *parts}
            assert all(map(is_alive, pids.values()))
            running.process.send_signal(number)
            assert running.process.wait(60) == 0
            assert running.process.stdout is not None
            assert running.process.stdout.read() == ""
            await_gone(list(pids.values()), 30)


def test_with_auth_callers_need_a_token(tmp_path: Path) -> None:
    """The administrator's is printed, and kept for the next start; with it others are made."""
    for _ in range(2):
        with up(tmp_path, "--auth") as running:
            running.await_ready()
            token = running.addresses["admin_token"]
            kept = tmp_path / "data" / "admin.token"
            assert kept.read_text().strip() == token
            assert kept.stat().st_mode & 0o777 == 0o600
            url = running.addresses["http_url"]
            assert httpx.get(f"{url}/psm/accounts").status_code == 401
            given = {"Authorization": f"Bearer {token}"}
            assert httpx.get(f"{url}/whoami", headers=given).json()["roles"] == ["admin"]
            admin = {"PSM_URL": url, "PSM_TOKEN_FILE": str(kept)}
            wanted = ("--principal", "svc/desk", "--role", "viewer", "--account", "desk-*")
            made = psm("token", "create", *wanted, "-o", "json", environment=admin)
            desk = json.loads(made.stdout)
            listed = psm("token", "list", "-o", "json", environment=admin).stdout
            assert (desk["id"] in listed, desk["token"] in listed) == (True, False)
            own = {"PSM_URL": url, "PSM_TOKEN": desk["token"]}
            refused = psm("token", "list", environment=own, check=False)
            assert (refused.returncode, "token.create" in refused.stderr) == (1, True)
            ended = psm("token", "revoke", desk["id"], "-o", "json", environment=admin)
            assert json.loads(ended.stdout)["revoked_at"]


def test_whatever_dies_comes_back(tmp_path: Path) -> None:
    """Parts and servers that are killed are started again, and the events go on."""
    with up(tmp_path) as running:
        running.await_ready()
        url = running.addresses["nats_url"]
        asyncio.run(deposit(url, 1))
        running.state("acc_001", 1)
        before = running.pids()
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        asyncio.run(deposit(url, 2))
        assert running.state("acc_001", 2)["cash"] == {"USDT": "200"}
        deadline = time.monotonic() + READY_S  # not all of them were needed for that
        while same := {name for name, pid in running.pids().items() if before[name] == pid}:
            assert time.monotonic() < deadline, f"not started again: {same}"
            time.sleep(0.1)
        exited = {line["child"] for line in running.lines("child.exited")}
        parts = {"worker-0", "projector", "analytics", "archive", "serve"}
        assert exited == set(before) == {"nats", "postgres", *parts}


def test_nothing_survives_a_killed_supervisor(tmp_path: Path) -> None:
    """SIGKILL of `psm up` ends every part and both servers; its folder can be used again."""
    with up(tmp_path) as running:
        running.await_ready()
        pids = list(running.pids().values())
        running.process.kill()
        running.process.wait()
        await_gone(pids, 60)
    with up(tmp_path) as running:
        running.await_ready()


def test_second_up_on_a_folder_is_refused(tmp_path: Path) -> None:
    """The second one names the process that has the folder."""
    with up(tmp_path) as running:
        running.await_ready()
        assert f"in use by another psm (process {running.process.pid})" in refusal(tmp_path)


def test_signal_while_starting_is_a_clean_stop(tmp_path: Path) -> None:
    """Told to stop before it is ready, it leaves nothing behind and exits 0."""
    with up(tmp_path) as running:
        deadline = time.monotonic() + READY_S
        while not set(running.pids()) - {"nats", "postgres"} and time.monotonic() < deadline:
            time.sleep(0.02)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0
        await_gone(list(running.pids().values()), 30)


def test_taken_http_port_is_named(tmp_path: Path) -> None:
    """The port and the flag are in the one line that is said."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal(tmp_path, "--http-port", str(port))
    assert f"port {port}" in said
    assert "--http-port" in said


@pytest.mark.parametrize("freed_at", [2, None], ids=["for a moment", "for good"])
async def test_part_that_finds_its_port_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, freed_at: int | None
) -> None:
    """What passes by the next start is no reason to give up; what does not is named."""
    launches: list[str] = []
    launch = Supervisor._launch
    with socket.socket() as taken:

        def watched(self: Supervisor, part: Part) -> None:
            if part.name == "projector":
                if not launches:
                    taken.bind(("127.0.0.1", part.health_port))
                    taken.listen()
                launches.append(part.name)
                if len(launches) == freed_at:
                    taken.close()
            launch(self, part)

        monkeypatch.setattr(Supervisor, "_launch", watched)
        supervisor = Supervisor(LocalPlan(data_dir=tmp_path, sync=False))
        try:
            if freed_at is None:
                with pytest.raises(ConfigError, match=r"psm projector .*cannot start"):
                    await supervisor.start()
            else:
                await supervisor.start()
        finally:
            await supervisor.stop()
    assert len(launches) == (freed_at or 3)


class BehindProxy(Supervisor):
    """A supervisor whose parts reach NATS by way of a proxy."""

    proxy: TcpProxy

    @property
    def addresses(self) -> Addresses:
        found = super().addresses
        self.proxy.aim(found.nats_url)
        url = f"nats://127.0.0.1:{self.proxy.port}"
        return msgspec.structs.replace(found, nats_url=url)


async def test_parts_whose_connections_are_closed_for_good_are_started_again(
    tmp_path: Path,
) -> None:
    """They end by themselves, and that is enough for the supervisor."""
    closing = False

    def refuse(direction: Direction, frame: bytes) -> list[bytes]:
        if closing and direction == "down" and not frame.startswith(b"INFO"):
            return [b"-ERR 'Maximum Control Line Exceeded'\r\n"]
        return [frame]

    async with proxied("nats://127.0.0.1:1", frames=True) as proxy:
        proxy.change = refuse
        supervisor = BehindProxy(LocalPlan(data_dir=tmp_path, partitions=2, sync=False))
        supervisor.proxy = proxy
        async with supervisor:
            before = dict(supervisor.pids)
            parts = before.keys() - {"nats", "postgres"}
            closing = True
            await until(lambda: not any(is_alive(before[part]) for part in parts), "all have ended")
            closing = False
            url = f"{supervisor.addresses.http_url}/health/ready"
            async with httpx.AsyncClient(timeout=30) as client:

                async def ready() -> int:
                    try:
                        return (await client.get(url)).status_code
                    except httpx.TransportError:
                        return 0

                await until_answer(ready, lambda status: status == 200, "it is ready again")
            await until(
                lambda: not {p for p in parts if supervisor.pids[p] == before[p]}, "all are new"
            )
            assert supervisor.pids["nats"] == before["nats"]


def test_too_many_workers_are_refused(tmp_path: Path) -> None:
    """A worker without a partition would have nothing to do."""
    assert "--workers 5" in refusal(tmp_path, "--workers", "5", "--partitions", "4")


def test_production_is_refused(tmp_path: Path) -> None:
    """Embedded servers are no place for production."""
    assert "PSM_ENV is 'production'" in refusal(tmp_path, PSM_ENV="production")


def test_port_in_use_is_refused() -> None:
    """A port that is in use is refused before anything is started."""
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigError, match="is taken"),
    ):
        require_free(taken.getsockname()[1], "--http-port")


def test_only_psm_writes_what_is_psms(tmp_path: Path) -> None:
    """With the address alone one produces and reads; updates, rules and repairs are refused.

    The user who runs it is found to be its owner, with nothing set or with what `psm env` prints.
    """
    with up(tmp_path, "--no-sync") as running:
        running.await_ready()
        url = running.addresses["nats_url"]
        asyncio.run(deposit(url, 1))
        running.state("acc_001", 1)
        asyncio.run(no_user_writes_these(url))
        another = {"XDG_STATE_HOME": str(tmp_path / "another")}
        environment = {"NATS_URL": url, "PSM_PARTITIONS": "4", **another}
        file = tmp_path / "rules.jsonl"
        file.write_bytes(rules(99).data + b"\n")
        refused = psm("publish", str(file), environment=environment, check=False)
        assert refused.returncode == 2
        assert "may not publish to control.rules" in refused.stderr
        # The same with a password that only the owner of the folder can read.
        operator = {**environment, **running.addresses["operator"]}
        password = Path(operator["PSM_NATS_PASSWORD_FILE"])
        assert password.stat().st_mode & 0o777 == 0o600
        file.write_bytes(rules(1).data + b"\n")
        assert psm("publish", str(file), environment=operator).returncode == 0
        printed = psm("env", "--operator").stdout
        assert all(f"export {n}={v}" in printed for n, v in running.addresses["operator"].items())
        assert "PSM_NATS_" not in psm("env").stdout
        for given in (operator, {}, {"NATS_URL": url}):
            assert psm("fleet", environment=given).returncode == 0
            assert psm("dlq", "list", environment=given).returncode == 0
            assert psm("streams", "apply", environment=given).returncode == 0
        assert psm("replay", "acc_001", environment=environment).returncode == 0


async def no_user_writes_these(url: str) -> None:
    refused: list[str] = []

    async def note(error: Exception) -> None:
        refused.append(str(error))

    nc = await nats.connect(url, error_cb=note)
    subjects = (
        "_psm.state.updated.3.x",
        "_psm.cursor.3",
        "psm.position.updated",
        "control.rules",
        "snapshots.3",
        "$KV.psm-fleet.worker",
        "_psmfleet.all",
        "ops.repairs",
        "repair.3.acc_001",
        "health.log",
        "$JS.API.STREAM.DELETE.TRADES",
        "$JS.API.STREAM.UPDATE.PSM",
        "_INBOX.worker.x",
    )
    for subject in subjects:
        await nc.publish(subject, b"{}")
    for subject in ("_psm.>", "_INBOX.worker.>", "psm.get.state"):
        await nc.subscribe(subject)
    await nc.flush()
    allowed = ("trades.acc_002", "marks.X", "instruments.X", "marketdata.ticker.X", "signals.a.b")
    for subject in allowed:
        await nc.jetstream().publish(subject, b"{}")
    await nc.close()
    said = "\n".join(refused)
    for subject in (*subjects, "_psm.>", "_inbox.worker.>", "psm.get.state"):
        assert f'"{subject.lower()}"' in said, said
    assert not any(f'"{subject.lower()}"' in said for subject in allowed)


# --- found without being told -----------------------------------------------------------------


def command(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command with nothing set but the folder in which programs keep state."""
    clean = {k: v for k, v in os.environ.items() if k not in {"NATS_URL", "POSTGRES_DSN"}}
    return subprocess.run(
        [*PSM, *arguments],
        capture_output=True,
        text=True,
        timeout=READY_S,
        env={**clean, "XDG_STATE_HOME": str(folder), **environment},
    )


def test_commands_find_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable is needed; the file is its user's alone; NATS_URL alone is enough; gone is gone.

    The data folder has letters that no configuration file of a server takes for granted.
    """
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / 'Überblick "日本"'
    folder.mkdir()
    with up(folder, "--no-sync") as running:
        running.await_ready()
        file = tmp_path / "state" / "psm-up.json"
        assert file.stat().st_mode & 0o777 == 0o600
        asyncio.run(deposit(running.addresses["nats_url"], 1))
        running.state("acc_001", 1)
        found = command(tmp_path / "state", "state", "acc_001", "-o", "json")
        assert json.loads(found.stdout)["cash"] == {"USDT": "100"}, found.stderr
        # --partitions 4 is known, too: the past is folded from the log
        past = command(tmp_path / "state", "state", "acc_001", "--at-sequence", "1", "-o", "json")
        assert json.loads(past.stdout)["sequence_number"] == 1, past.stderr
        url = running.addresses["nats_url"]
        alone = command(tmp_path, "state", "acc_001", "-o", "json", NATS_URL=url)
        assert json.loads(alone.stdout)["cash"] == {"USDT": "100"}, alone.stderr
        unknown = command(tmp_path, "state", "nobody", "-o", "json", NATS_URL=url)
        assert unknown.returncode == 1
        shell = f"{' '.join(PSM)} env"
        printed = subprocess.run(
            ["bash", "-c", f'eval "$({shell})"; echo "$NATS_URL $HTTP_URL $PSM_PARTITIONS"'],
            capture_output=True,
            text=True,
            check=True,
        )
        assert printed.stdout.split() == [url, running.addresses["http_url"], "4"]
        elsewhere = command(tmp_path / "state", "fleet", NATS_URL="nats://127.0.0.1:1")
        assert elsewhere.returncode == 2
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0
    assert "no `psm up`" in command(tmp_path / "state", "env").stderr


def test_first_of_two_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one beside it takes nothing away, and a killed one is found no more."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    said = Announcement(
        nats_url="nats://127.0.0.1:1",
        postgres_dsn="",
        http_url="",
        data_dir="",
        partitions=2,
        pid=1,
    )
    with announced(said) as first, announced(msgspec.structs.replace(said, pid=2)) as second:
        assert (first, second) == (True, False)
        assert find_running(os.environ) == said
        (tmp_path / "psm-up.json").chmod(0o644)
        assert find_running(os.environ) is None
    (tmp_path / "psm-up.json").write_bytes(msgspec.json.encode(said))
    assert find_running(os.environ) is None


def test_taken_port_names_who_has_it(tmp_path: Path) -> None:
    """Each of the three, with the process that has it and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for flag in ("--nats-port", "--http-port", "--postgres-port"):
            said = refusal(tmp_path, flag, port)
            assert f"port {port}" in said
            assert f"process {os.getpid()}" in said
            assert flag in said
            assert "--port 0" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--partitions", "0"), "--partitions"),
        (("--partitions", "1025"), "--partitions"),
        (("--nats-port", "99999"), "--nats-port"),
        (("--port", "65534"), "--port 65534"),
    ],
)
def test_numbers_out_of_range_are_usage_errors(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    """Zero is no way to say "the default"."""
    done = command(tmp_path, "up", "--data-dir", str(tmp_path / "data"), *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_only_the_ready_line_is_printed(tmp_path: Path) -> None:
    """Logs are in the data folder, each part's in a file; a person is told what comes next."""
    command = [*PSM, "up", "--data-dir", str(tmp_path / "data"), "--port", "0", "--no-sync"]
    with on_terminal(command, {"XDG_STATE_HOME": str(tmp_path)}, size=(24, 80)) as screen:
        screen.await_text("Ctrl-C stops")
        screen.process.send_signal(signal.SIGINT)
        assert screen.await_end() == 0
    lines = screen.text.splitlines()
    assert [line[:1] for line in lines if line].count("{") == 1
    assert len(lines) < 8, screen.text
    logs = {file.name for file in (tmp_path / "data" / "logs").iterdir()}
    assert {"worker-0.log", "projector.log", "archive.log", "serve.log"} <= logs


def test_env_file_production_is_refused(tmp_path: Path) -> None:
    """What `.env` says counts as what the environment says."""
    (tmp_path / ".env").write_text("PSM_ENV=production\n")
    said = refusal(tmp_path, PSM_ENV_FILE=str(tmp_path / ".env"))
    assert "PSM_ENV is 'production'" in said


def test_env_file_of_another_system_does_not_reach_the_parts(tmp_path: Path) -> None:
    """Who NATS knows us as, and how many copies it keeps, is said of another one than this."""
    (tmp_path / ".env").write_text(
        "PSM_REPLICAS=3\nPSM_NATS_TOKEN=t\nNATS_URL=nats://127.0.0.1:1\nPSM_BATCH_MESSAGES=7\n"
    )
    environment = {**os.environ, "PSM_ENV_FILE": str(tmp_path / ".env")}
    command = [*PSM, "up", "--data-dir", str(tmp_path / "data"), "--port", "0", "--no-sync"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert "nats_url" in process.stdout.readline()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        told = [Path(f"/proc/{child}/environ").read_bytes() for child in children]
        process.terminate()
        assert process.wait(60) == 0
    parts = [text for text in told if b"PSM_BATCH_MESSAGES=7" in text]
    assert len(parts) >= 4
    assert not any(b"PSM_NATS_TOKEN=" in text or b"PSM_REPLICAS=" in text for text in parts)
