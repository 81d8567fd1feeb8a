"""`psm check`, `psm slo`, `psm support-bundle` and the doctor, next to a running `psm up`."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from tests.support.log import deposit
from tests.support.running import Running, psm_up, request

from psm.adapters.jetstream import connect
from psm.workers.cli import main
from psm.workers.doctor.conditions import CONDITIONS
from psm.workers.doctor.look import measured
from psm.workers.doctor.place import here
from psm.workers.doctor.verdict import CheckLine, Level
from psm.workers.local.parts import free_port

LINE = re.compile(
    r"(OK|WARNING|CRITICAL|UNKNOWN) - [^|\n]+"
    r"( \| '\w+'=-?[\d.e+]+[s%]?;[\d:.]*;[\d:.]*)?\n"
)
LEVELS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
AMOUNT = "4711.1337"
TOKEN = "psm_abcdefgh_" + "a2" * 16
WAIT_S = 60.0


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Everything, its logs in files; commands of this user find it."""
    folder = tmp_path_factory.mktemp("house")
    with pytest.MonkeyPatch.context() as patch:
        # Commands find the last one that was started: other tests of this process have theirs.
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        with psm_up(folder, "--partitions", "2", "--no-sync", verbose=False) as running:
            send(running, deposit("acc_1", 1, payload={"amount": AMOUNT}))
            yield running


def send(house: Running, event: dict[str, Any]) -> None:
    status, answer = request(f"{house.http_url}/psm/events", json.dumps(event).encode())
    assert status < 300, answer


def publish(house: Running, event: dict[str, Any]) -> None:
    """Append an event as it is; HTTP would refuse what leaves a gap."""

    async def run() -> None:
        nc = await connect(house.nats_url, name="test")
        data = json.dumps(event).encode()
        await nc.request(f"trades.{event['stream_id']}", data, timeout=30)
        await nc.close()

    asyncio.run(run())


def until(found: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not found():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def execute(house: Running, *statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(house.postgres_dsn)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


async def every_condition() -> list[CheckLine]:
    async with here(os.environ) as place:
        return [await measured(place, condition) for condition in CONDITIONS]


class Asked:
    """`psm check`, in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, name: str, *arguments: str) -> tuple[int, str]:
        """Return exit code and line; the line is always one that is read."""
        self._capsys.readouterr()
        code = main(["check", name, *arguments])
        line = self._capsys.readouterr().out
        assert LINE.fullmatch(line), line
        assert line.startswith(LEVELS[code])
        return code, line

    def document(self, *arguments: str) -> tuple[int, Any]:
        """Return exit code and JSON of any command."""
        self._capsys.readouterr()
        code = main([*arguments, "-o", "json", "-q"])
        return code, json.loads(self._capsys.readouterr().out)


@pytest.fixture
def asked(capsys: pytest.CaptureFixture[str]) -> Asked:
    return Asked(capsys)


def test_all_conditions_of_what_runs_well(house: Running, asked: Asked) -> None:
    """Nothing is wrong but that nobody ever audited."""
    until(lambda: asked("view_lag")[0] == 0 and asked("archive")[0] == 0, "everything was read")

    def not_ok() -> dict[str, Level]:
        lines = asyncio.run(every_condition())
        return {line.check: line.level for line in lines if line.level is not Level.OK}

    until(lambda: not_ok() == {"audit_age": Level.UNKNOWN}, "all else is well")
    code, document = asked.document("check", "disk")
    assert (code, document["level"], document["unit"]) == (0, "OK", "%")
    code, findings = asked.document("doctor")
    wrong = [one["check"] for one in findings if one["ok"] is not True]
    assert (code, wrong) == (1, ["sync_interval"])  # --no-sync
    assert house.addresses["metrics"].keys() >= {"worker-0", "projector", "archive", "serve"}


def test_conditions_that_are_not_well(house: Running, asked: Asked) -> None:
    """Each planted trouble is seen by its condition; limits can be others."""
    publish(house, deposit("acc_2", 3))  # numbers 1 and 2 never come
    execute(
        house,
        "INSERT INTO reconciliation_view SELECT 'acc_9', 1, 1, 1, 'x', NULL, 'c', '{}', 'open', "
        "NULL, 'l', 's', 'e', '2026-01-01T00:00:00Z', NULL, false, NULL, '[]', 1, '{}', now()",
        "CREATE TABLE IF NOT EXISTS job_runs (job text PRIMARY KEY, ended_at timestamptz, "
        "succeeded_at timestamptz, findings integer)",
        "INSERT INTO job_runs VALUES ('audit', now(), now() - interval '3 days', 2)",
    )
    until(lambda: asked("blocked")[0] == 1, "the gap is published")
    assert "acc_2 (sequence_gap)" in asked("blocked")[1]
    assert asked("blocked", "--critical", "1")[0] == 2
    assert asked("reconciliation") == (1, "WARNING - 1 acc_9 differ | 'reconciliation'=1;1;10\n")
    assert asked("audit_age")[0] == 1
    assert asked("audit_age", "--critical", "24")[0] == 2
    assert asked("disk", "--warning", "0", "--critical", "99")[0] == 1


def test_what_cannot_be_asked_is_unknown(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 3 and a line, whatever is away; of a wrong name too: 2 would be critical."""
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:1")
    monkeypatch.setenv("POSTGRES_DSN", "postgresql://a:b@127.0.0.1:1/c")
    assert asked("lag")[0] == asked("risk_latched")[0] == 3
    assert asked("PsmLate", "--prometheus", "http://127.0.0.1:1")[0] == 3
    assert main(["check", "nonsense"]) == 3


def test_objectives_of_what_runs(house: Running, asked: Asked) -> None:
    """Measured are the events and requests that were made; what was not is not judged."""
    for _ in range(3):
        assert house.get("/psm/state/acc_1")[0] == 200
    code, rows = asked.document("slo")
    of = {row["objective"]: row for row in rows}
    assert {"update", "view", "decision", "risk_check", "read", "http", "log"} == set(of)
    assert of["update"]["count"] >= 1
    assert of["read"]["count"] >= 3
    assert of["decision"]["met"] is None
    assert (of["http"]["reached"], of["http"]["met"], of["log"]["met"]) == (1, True, True)
    assert code == int(any(row["met"] is False for row in rows))
    metrics = [f"--metrics={url}" for url in house.addresses["metrics"].values()]
    _, rows = asked.document("slo", "--over", "1s", *metrics)
    assert {row["objective"]: row["count"] for row in rows}["read"] == 0
    assert main(["slo", "--since", "1h"]) == 2  # processes know no past


def test_a_bundle_without_secrets_and_figures(
    house: Running, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that helps is in it; what was planted is not, anywhere."""
    password = "Tr0ub4dor&3"
    monkeypatch.setenv("PSM_TOKEN", TOKEN)
    monkeypatch.setenv("PSM_NATS_PASWORD", password)
    log = Path(house.addresses["data_dir"]) / "logs" / "worker-0.log"
    line = {"timestamp": "2026-01-01T00:00:00Z", "level": "error", "event": "planted"}
    more = {"partition": 1, "detail": f"{password} {TOKEN} {AMOUNT}", "stream_id": "acc_1"}
    with log.open("a") as file:
        file.write(json.dumps(line | more) + "\n")
        file.write(f"no JSON: {house.postgres_dsn} {AMOUNT}\n")
    database_password = house.postgres_dsn.split(":")[2].split("@")[0]

    files = bundled(asked, tmp_path / "short.tar.gz")
    assert {"doctor.json", "settings.json", "streams.json", "consumers.json", "slo.json"} <= set(
        files
    )
    assert {"fleet.json", "versions.json", "metrics/worker-0.txt", "logs/worker-0.log"} <= set(
        files
    )
    told = "\n".join(files.values())
    assert not [text for text in (password, TOKEN, database_password, AMOUNT) if text in told]
    assert "psm_updates_published_total" in files["metrics/worker-0.txt"]
    assert {row["config"]["name"] for row in json.loads(files["streams.json"])} >= {"TRADES", "PSM"}
    planted = [row for row in files["logs/worker-0.log"].splitlines() if "planted" in row]
    assert json.loads(planted[0])["left_out"] == ["detail", "stream_id"]
    assert "PSM_NATS_PASWORD is not a setting" in files["settings.json"]

    whole = bundled(asked, tmp_path / "whole.tar.gz", "--details")
    told = "\n".join(whole.values())
    assert AMOUNT in told
    assert not [text for text in (password, TOKEN, database_password) if text in told]
    assert main(["support-bundle", str(tmp_path / "whole.tar.gz")]) == 2  # it is there already


def bundled(asked: Asked, path: Path, *arguments: str) -> dict[str, str]:
    """Make a bundle; return its files, none of which is for others to read."""
    code, said = asked.document("support-bundle", str(path), *arguments)
    assert (code, path.stat().st_mode & 0o777) == (0, 0o600)
    with tarfile.open(path) as tar:
        files = {
            name.removeprefix("psm-support/"): tar.extractfile(name).read().decode()  # type: ignore[union-attr]
            for name in tar.getnames()
        }
    assert sorted(files) == said["holds"]
    return files


RULES = """
groups:
  - name: test
    rules:
      - alert: Fires
        expr: vector(1)
        labels: {severity: critical}
        annotations: {summary: it burns}
      - {alert: Quiet, expr: 'vector(1) > 2'}
"""


@pytest.mark.prometheus
def test_a_prometheus_knows_the_past_and_every_alert(
    house: Running, asked: Asked, tmp_path: Path
) -> None:
    """A real one that scrapes what runs: objectives of its last minutes, alerts by their names."""
    program = shutil.which("prometheus")
    assert program
    targets = [urlsplit(url).netloc for url in house.addresses["metrics"].values()]
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": ["rules.yml"],
                "scrape_configs": [
                    {"job_name": "psm", "static_configs": [{"targets": targets}]},
                ],
            }
        )
    )
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    command = [program, *options, f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    with subprocess.Popen(command) as running:
        try:
            until(lambda: asked("Fires", "--prometheus", url)[0] == 2, "the alert fires")
            assert asked("Fires", "--prometheus", url)[1] == "CRITICAL - it burns | 'Fires'=1;;\n"
            assert asked("Quiet", "--prometheus", url)[0] == 0
            assert asked("Nobody", "--prometheus", url)[0] == 3

            def reads() -> bool:
                assert house.get("/psm/state/acc_1")[0] == 200
                _, rows = asked.document("slo", "--prometheus", url, "--since", "1m")
                of = {row["objective"]: row for row in rows}
                return bool(of["read"]["count"] >= 1 and of["log"]["reached"] == 1)

            until(reads, "the reads were scraped twice")
        finally:
            running.terminate()
