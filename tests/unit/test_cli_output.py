"""What commands print: nothing that commands a terminal, nothing cut off on a narrow one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from tests.support.running import PSM
from tests.support.screen import on_terminal

from psm.adapters.terminal import printable, printable_json
from psm.workers.cli import main
from psm.workers.cli.shared.output import Output
from psm.workers.cli.shared.tables import pairs, table

ESCAPE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
HOSTILE = "a\x1b]0;owned\x07\x1b[2J\x9b31mb\u202ec\rd"
COLUMNS = ("symbol", "side", "size", "entry_price", "mark_price", "unrealized_pnl", "realized_pnl")
ROW = ("BTC-PERP", "long", "0.5", "42000.123456789012345678", "42500", "-250.10", None)


@given(st.text(st.characters(codec=None)))
def test_no_text_commands_a_terminal(text: str) -> None:
    """Whatever is in it, what is printed holds letters only, and can be encoded."""
    assert not ESCAPE.search(printable(text))
    printable(text).encode()


@given(st.text())
def test_json_means_the_same(text: str) -> None:
    """JSON commands no terminal either, and is read as what it was."""
    document = json.dumps(text, ensure_ascii=False)
    assert json.loads(printable_json(document)) == text
    assert not ESCAPE.search(printable_json(document))


@given(st.integers(20, 200), st.lists(st.tuples(*[st.text() | st.none()] * 4), max_size=5))
def test_no_width_is_exceeded_and_nothing_cut(width: int, rows: list[tuple[str | None]]) -> None:
    """On any width each line fits, and each value is somewhere."""
    lines = list(table(("one", "two", "three", "four"), rows, width))
    assert all(cell_len(line) <= width for line in lines)
    assert all(cell_len(line) <= width for line in pairs([("name", HOSTILE * 9)], width))
    joined = re.sub(r"\s", "", "".join(lines))
    for value in (value for row in rows for value in row if value):
        shown = re.sub(r"\s", "", printable(value).replace("\n", "\\n").replace("\t", "\\t"))
        assert shown in joined


@pytest.mark.parametrize("width", [80, 60, 40, 30])
def test_important_columns_stay(width: int) -> None:
    """Symbol and side are columns on any terminal; the rest is folded under its row, with names."""
    head, _, first, *below = table(COLUMNS, [ROW], width)
    assert head.split()[:2] == ["symbol", "side"]
    assert first.split()[:2] == ["BTC-PERP", "long"]
    text = " ".join([first, *(line.strip() for line in below)])
    assert "42000.123456789012345678" in text
    assert "-250.10" in text
    assert "…" not in text


def test_a_pipe_gets_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is folded where `grep` reads."""
    Output().rows([dict(zip(COLUMNS, ROW, strict=True))], COLUMNS)
    head, _, row = capsys.readouterr().out.splitlines()
    assert head.split() == list(COLUMNS)
    assert row.split() == [value or "-" for value in ROW]


def test_all_human_output_is_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Tables, documents, lines, notes and failures: one way out, and no escape on it."""
    for output in (Output(), Output(format="json"), Output(format="jsonl")):
        output.rows([{"symbol": HOSTILE}], ("symbol",))
        output.document({HOSTILE: HOSTILE})
        output.lines(HOSTILE)
        output.note(HOSTILE)
        output.failure(HOSTILE)
    assert main(["explain", HOSTILE, "equity"]) == 2
    assert main(["fold", HOSTILE]) == 2
    captured = capsys.readouterr()
    assert "owned" in captured.out
    assert not ESCAPE.search(captured.out + captured.err)


def test_a_traceback_is_written_out() -> None:
    """An error that nobody expected holds payloads, too."""
    code = (
        "from psm.workers import cli\n"
        "def broken(**_): raise RuntimeError('\\x1b[31m')\n"
        "cli.build = broken\n"
        "cli.main(['version'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "RuntimeError: \\x1b[31m" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("command", [["version"], ["--help"], ["state", "--help"], ["nothing"]])
def test_no_color_means_no_escape_at_all(command: list[str]) -> None:
    """Not even bold, on a real terminal; the flag for commands, the variable for help, too."""
    ways: list[tuple[list[str], dict[str, str]]] = [([], {"NO_COLOR": "1"})]
    if "--help" not in command:
        ways.append((["--no-color"], {}))
    for arguments, environment in ways:
        with on_terminal([*PSM, *command, *arguments], environment) as screen:
            screen.await_end()
        assert screen.text
        assert "\x1b" not in screen.text


def test_errors_are_documents_with_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With -o json a program reads what went wrong, for usage and for lines of a file."""
    assert main(["state", "acc 1", "-o", "json"]) == 2
    assert json.loads(capsys.readouterr().err)["exit_code"] == 2
    assert main(["state", "--nothing", "--output=jsonl"]) == 2
    assert "--nothing" in json.loads(capsys.readouterr().err)["error"]
    file = tmp_path / "events.jsonl"
    file.write_text('{"event_type":"CashDeposited"}\n')
    assert main(["publish", str(file), "--dry-run", "-o", "json"]) == 1
    told = json.loads(capsys.readouterr().err)
    assert (told["line"], told["reason"]) == (1, "missing_field")
    assert main(["fold", str(file), "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().err)["line"] == 1


def test_a_terminal_of_80_columns(tmp_path: Path) -> None:
    """The real thing: 80x24, a table that does not fit."""
    code = (
        "from psm.workers.cli.shared.output import Output\n"
        f"Output().rows([dict(zip({COLUMNS}, {ROW}))], {COLUMNS})"
    )
    with on_terminal([sys.executable, "-c", code], size=(24, 80)) as screen:
        assert screen.await_end() == 0
    lines = screen.text.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "unrealized_pnl -250.10" in screen.text or "unrealized_pnl" in lines[0]


def test_one_long_value_does_not_take_the_room_of_a_column() -> None:
    """It stands below its row, with its name; the column stays for the others."""
    rows = [("cash.USDT", "1", "2"), ("state_hash", "a" * 64, "b" * 64)]
    lines = list(table(("field", "before", "after"), rows, 80))
    assert lines[0].split() == ["field", "before", "after"]
    assert lines[2].split() == ["cash.USDT", "1", "2"]
    assert lines[4].strip() == f"before {'a' * 64}"
    assert lines[5].strip() == f"after {'b' * 64}"
