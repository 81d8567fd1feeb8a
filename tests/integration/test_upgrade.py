"""The release before runs on the streams and the schema of this one, as in an upgrade half way."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.support import archiving as arch
from tests.support.log import deposit, empty_log
from tests.support.running import Running, started

ROOT = Path(__file__).parents[2]
MIGRATIONS = "projections/psm/projections/schema/migrations"
CODE = ("contracts/psm", "projections/psm", "workers/psm")


@pytest.mark.history
async def test_code_from_before_the_last_migration_runs_on_it(
    nats_url: str, postgres_dsn: str, tmp_path: Path
) -> None:
    """Worker and projector of then book and show, and those of now go on with it."""
    settings = {"NATS_URL": nats_url, "POSTGRES_DSN": postgres_dsn, "PSM_PARTITIONS": "4"}
    before = {**settings, "PYTHONPATH": os.pathsep.join(code_of_before(tmp_path))}
    async with empty_log(nats_url) as nc:
        for number, environment in enumerate((before, settings), 1):
            with ExitStack() as stack:
                running = [
                    stack.enter_context(started(tmp_path, command, environment=environment))
                    for command in ("worker", "projector")
                ]
                event = json.dumps(deposit("acc_a", number)).encode()
                await arch.publish(nc, "trades.acc_a", event)
                await arch.at_least(
                    postgres_dsn,
                    "SELECT coalesce(max(sequence_number), 0) FROM balances_view",
                    number,
                )
                for process in running:
                    assert process.stop() == 0, process.log.read_text()
                    assert errors(process) == []


def code_of_before(folder: Path) -> list[str]:
    """Unpack the code of the commit before the one that added the newest migration."""
    added = git("log", "--diff-filter=A", "--format=%H", "-1", "--", MIGRATIONS).decode().strip()
    code = folder / "before"
    with tarfile.open(fileobj=io.BytesIO(git("archive", f"{added}^", *CODE))) as tar:
        tar.extractall(code, filter="data")
    return [str(code / path.partition("/")[0]) for path in CODE]


def git(*arguments: str) -> bytes:
    """Return what git says of this repository."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout


def errors(process: Running) -> list[str]:
    """Return the lines of a process's log that are errors."""
    lines = process.log.read_text().splitlines()
    return [line for line in lines if '"level":"error"' in line.replace(" ", "")]
