"""`psm demo`: a feed that knows nothing of PSM, a table, and a clean end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import nats
from tests.support.running import PSM, READY_S, Running, left_over, psm, psm_up, started
from tests.support.screen import on_terminal

from psm.workers.cli.run.demo import FEED

ROW = re.compile(r"^ ?(acc_\d{3}) .*% +(\d+) ", re.MULTILINE)


async def test_demo_shows_its_accounts_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """A kept folder is continued: every account's numbers have no gap over two runs."""
    folder = tmp_path / "data"
    first = run_demo(tmp_path, "--data-dir", str(folder), "--seconds", "8", "--rate", "50")
    second = run_demo(tmp_path, "--data-dir", str(folder), "--seconds", "2", "--rate", "50")
    assert sorted(first) == [f"acc_{number:03}" for number in range(1, 7)]
    assert all(second[account] > first[account] > 10 for account in first)
    with psm_up(tmp_path) as running:
        await assert_continuous(running, second)
        assert_every_kind_of_account(running)


def test_interrupt_on_a_terminal_ends_everything(tmp_path: Path) -> None:
    """Ctrl-C while the table is drawn: exit code 0, no process and no folder is left."""
    mark = f"LEFT_OVER_{uuid.uuid4().hex}"
    environment = {"TMPDIR": str(tmp_path), mark: "1"}
    with on_terminal([*PSM, "demo", "--accounts", "3"], environment) as screen:
        screen.await_text("state updates")
        time.sleep(1)
        screen.process.send_signal(signal.SIGINT)
        assert screen.await_end() == 0
    assert "Everything is stopped." in screen.text
    assert list(tmp_path.iterdir()) == []
    assert left_over(mark) == []


def test_a_terminal_of_80x24_has_room_for_it(tmp_path: Path) -> None:
    """Header, accounts and the first positions stand on the screen; commands find the demo."""
    environment = {"XDG_STATE_HOME": str(tmp_path), "NO_COLOR": "1"}
    with on_terminal([*PSM, "demo"], environment, size=(24, 80)) as screen:
        screen.await_text("more positions")
        state = psm("state", "acc_001", "-o", "json", environment=environment)
        screen.process.send_signal(signal.SIGINT)
        assert screen.await_end() == 0
    assert "instrument_undefined" not in json.loads(state.stdout)["flags"]
    pictures = screen.text.split(" state updates, ")
    for picture in pictures[1:-1]:
        lines = [line for line in picture.splitlines() if not line.startswith("\x1b")]
        assert len(lines) <= 24
        assert all(len(line) <= 80 for line in lines)
    assert "acc_006" in pictures[-1]


def test_interrupt_while_starting_ends_everything(tmp_path: Path) -> None:
    """Ctrl-C before anything is ready is a clean end, too."""
    with started(tmp_path, "demo", "--data-dir", str(tmp_path / "data")) as running:
        assert running.process.stdout is not None
        assert "Starting" in running.process.stdout.readline()
        time.sleep(0.7)
        assert running.stop(signal.SIGINT) == 0


def test_a_wrong_number_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """Options out of range are a usage error of one line."""
    with started(tmp_path, "demo", "--accounts", "0") as running:
        assert running.process.wait(READY_S) == 2
        assert running.log.read_text() == "psm: --accounts 0: choose 1 to 200\n"


def test_the_feed_imports_nothing_of_ours() -> None:
    """nats-py and the standard library are all that a producer needs."""
    code = (
        "import sys, feed.__main__;"
        "print([name for name in sys.modules if name.split('.')[0] == 'psm'])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": str(FEED.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def run_demo(tmp_path: Path, *arguments: str) -> dict[str, int]:
    """Run a demo to its end; return the last number of each account in its last table."""
    with started(tmp_path, "demo", *arguments) as running:
        output, _ = running.process.communicate(timeout=READY_S)
        assert running.process.returncode == 0, output
        assert running.left_over() == []
        assert running.log.read_text() == ""
    assert "curl http://127.0.0.1:" in output
    assert "postgresql://" not in output  # the password stays in its file
    assert re.search(r"Published: .*MarkPriceUpdated, .*\d+ TradeExecuted", output)
    assert output.endswith("Everything is stopped.\n")
    return {account: int(number) for account, number in ROW.findall(output)}


async def assert_continuous(running: Running, shown: dict[str, int]) -> None:
    """Each account has exactly as many messages as its number says, and waits for none."""
    nc = await nats.connect(running.nats_url)
    try:
        info = await nc.jetstream().stream_info("TRADES", subjects_filter="trades.>")
    finally:
        await nc.close()
    assert info.state.subjects is not None
    counts = {subject.split(".")[2]: n for subject, n in info.state.subjects.items()}
    for account, number in shown.items():
        status, state = running.get(f"/psm/state/{account}")
        assert status == 200
        assert state["flags"] == []
        assert (state["status"], state["sequence_number"]) == ("open", number)
        assert counts[account] == number


def assert_every_kind_of_account(running: Running) -> None:
    """Legs, a wallet, coins that are money and shares that paid a dividend are all there."""
    states = {n: running.get(f"/psm/state/acc_{n:03}")[1] for n in range(1, 7)}
    assert {side for _, _, side in (k.partition("#") for k in states[2]["positions"])} == {
        "long",
        "short",
    }
    assert "isolated" in {p["margin_mode"] for p in states[3]["positions"].values()}
    coins, shares = states[4], states[5]
    assert (coins["positions"], sorted(coins["cash"])) == ({}, ["BNB", "BTC", "USDT"])
    assert all(asset["value"] is not None for asset in coins["assets"].values())
    assert float(coins["fees"]) > 0
    assert [p["class"] for p in shares["positions"].values()] == ["share"]
    assert float(shares["dividends"]) > float(shares["taxes"]) > 0
    assert [state["unrated_cost"] for state in states.values()] == ["0"] * 6
