"""What is looked at, `psm demo` with feed, risk and analytics, and the servers that look at it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from psm.workers.local.parts import free_port

PSM = [sys.executable, "-m", "psm.workers.cli"]
READY_S = 240.0
SCRAPE_S = 1
_PARTS = {
    "worker": "worker",
    "projector --without analytics": "projector",
    "projector --only analytics": "analytics",
    "archive": "archive",
    "risk worker": "risk",
    "serve --ingest": "serve",
}
"""Command -> the part of the chart that runs it."""


class Stack:
    """A running demo.

    Attributes:
        folder: of all state.
        http: address of the API.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._port = free_port()
        self.http = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until its API is ready."""
        command = ["demo", "--data-dir", str(self.folder / "data"), "--http-port", str(self._port)]
        log = (self.folder / "demo.log").open("wb")
        environment = {
            **os.environ,
            "XDG_STATE_HOME": str(self.folder),
            "PSM_LOG_LEVEL": "info",
        }
        self._process = subprocess.Popen([*PSM, *command], stdout=log, stderr=log, env=environment)
        await_true(lambda: get(f"{self.http}/health/ready")[0] == 200, "the demo is ready", READY_S)

    @property
    def announced(self) -> dict[str, str]:
        """Where its servers are, as it told the commands of this user."""
        found: dict[str, str] = json.loads((self.folder / "psm-up.json").read_text("utf-8"))
        return found

    def stop(self) -> None:
        """Stop it; what was frozen goes on first."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(90)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def processes(self) -> dict[int, list[str]]:
        """Return the words of the command of each process that it began, by process id."""
        children: dict[int, list[int]] = {}
        words: dict[int, list[str]] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                # Behind the name, in which anything may stand: state, parent.
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
                pid = int(folder.name)
                words[pid] = (folder / "cmdline").read_bytes().decode().split("\0")
                children.setdefault(int(parent), []).append(pid)
        found: list[int] = [] if self._process is None else [self._process.pid]
        for pid in found:
            found += children.get(pid, [])
        return {pid: words[pid] for pid in found if pid in words}

    def parts(self) -> dict[str, tuple[int, int]]:
        """Return process id and port of the metrics of each part, by its name in the chart."""
        found = {}
        for pid, words in self.processes().items():
            command = " ".join(words).strip().rpartition("psm.workers.cli ")[2]
            if (name := _PARTS.get(command)) is not None:
                found[name] = pid, _metrics_port(pid) or self._port
        return found

    def server(self, name: str) -> int:
        """Return the process id of `nats-server` or `postgres`."""
        own = {pid: words for pid, words in self.processes().items() if words}
        found = [pid for pid, words in own.items() if Path(words[0]).name == name]
        return min(found)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of PSM that finds this demo."""
        environment = {**os.environ, "XDG_STATE_HOME": str(self.folder)}
        return subprocess.run(
            [*PSM, *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


def _metrics_port(pid: int) -> int:
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next(int(v.partition(b"=")[2]) for v in variables if v.startswith(b"PSM_METRICS_PORT="))


class Watchers:
    """Prometheus and Alertmanager, real ones; `told` has what was sent to whoever is on call."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self._manager_port = free_port(), free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.url = f"http://127.0.0.1:{self._port}"
        self.told: set[str] = set()

    def start(self, targets: dict[str, int], groups: list[dict[str, Any]]) -> None:
        """Scrape the ports as pods of a release in the namespace `default`."""
        receiver = self._receiver()
        _write(self._folder / "rules.yaml", {"groups": groups})
        _write(self._folder / "alertmanager.yaml", _manager_file(receiver))
        _write(self._folder / "prometheus.yaml", _prometheus_file(targets, self._manager_port))
        folder, listen = self._folder, "--web.listen-address=127.0.0.1"
        self._run(
            "prometheus-alertmanager",
            f"--config.file={folder}/alertmanager.yaml",
            f"--storage.path={folder}/alertmanager",
            f"{listen}:{self._manager_port}",
            "--cluster.listen-address=",
        )
        self._run(
            "prometheus",
            f"--config.file={folder}/prometheus.yaml",
            f"--storage.tsdb.path={folder}/tsdb",
            f"{listen}:{self._port}",
        )
        await_true(lambda: get(f"{self.url}/-/ready")[0] == 200, "Prometheus is ready", 60)

    def _run(self, *command: str) -> None:
        log = (self._folder / f"{command[0]}.log").open("wb")
        self._processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def _receiver(self) -> int:
        told = self.told

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                firing = [a for a in body["alerts"] if a["status"] == "firing"]
                told.update(a["labels"]["alertname"] for a in firing)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_port

    def stop(self) -> None:
        """Stop both."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(30)

    def query(self, expr: str) -> list[float]:
        """Return the values of an instant query."""
        text = urllib.parse.urlencode({"query": expr})
        status, body = get(f"{self.url}/api/v1/query?{text}")
        assert status == 200, f"{expr}: {body}"
        return [float(one["value"][1]) for one in body["data"]["result"]]

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        _, body = get(f"{self.url}/api/v1/alerts")
        return {a["labels"]["alertname"] for a in body["data"]["alerts"] if a["state"] == "firing"}


def _manager_file(receiver: int) -> dict[str, Any]:
    url = f"http://127.0.0.1:{receiver}/"
    return {
        "route": {"receiver": "on-call", "group_wait": "0s", "group_interval": "1s"},
        "receivers": [{"name": "on-call", "webhook_configs": [{"url": url}]}],
    }


def _prometheus_file(targets: dict[str, int], manager: int) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
        "rule_files": ["rules.yaml"],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{manager}"]}]}]
        },
        "scrape_configs": [
            {
                "job_name": "psm",
                "static_configs": [
                    {
                        "targets": [f"127.0.0.1:{port}"],
                        "labels": {"namespace": "default", "pod": f"psm-{name}-0"},
                    }
                    for name, port in targets.items()
                ],
            }
        ],
    }


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(document, width=10_000), "utf-8")


def get(url: str) -> tuple[int, Any]:
    """Return status and document of a GET; status 0 where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, _document(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _document(error.read())
    except OSError as error:
        return 0, str(error)


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def await_true(holds: Callable[[], bool], what: str, most_s: float) -> float:
    """Wait until something holds; return how long that took, seconds.

    Raises:
        TimeoutError: it does not hold after `most_s`.
    """
    started = time.monotonic()
    while not holds():
        if time.monotonic() - started > most_s:
            raise TimeoutError(f"not within {most_s:g} s: {what}")
        time.sleep(0.5)
    return time.monotonic() - started


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Freeze a process for the time of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
