"""The determinism gate: it passes on the golden logs, and finds every fold that is not pure."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from tests.support.golden import FOLDER
from tests.support.running import psm

from psm.workers.cli import main
from psm.workers.proof.validation.published import PublishedHashes
from psm.workers.proof.validation.run import Advance, Print

LINEAR = FOLDER / "linear.jsonl"
LOGS = [*sorted(FOLDER.glob("*.jsonl.gz")), LINEAR]

PLANT = """
import functools, os, time
from decimal import Decimal
from psm.domain.folding.account import ApplyToAccount

def impure():
    {impure}

def planted(apply):
    @functools.wraps(apply)
    def wrapped(self, account, entry, *more):
        if entry.number == 9 and account.stream_id == "acc_001":
            cash = account.ledger.cash
            cash["USDT"] = cash.get("USDT", Decimal(0)) + Decimal(impure())
        return apply(self, account, entry, *more)
    return wrapped

ApplyToAccount.apply = planted(ApplyToAccount.apply)
"""

IMPURE = {
    "set order": "return int(''.join({str(n) for n in '12345678'}))",
    "time zone": "return time.localtime(0).tm_hour * 60 + time.localtime(0).tm_min",
    "thread's decimal context": "return Decimal(1) / Decimal(3)",
    "clock": "return time.monotonic_ns()",
}


def validated(
    *arguments: str, environment: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """Return exit code and document of `psm validate`."""
    done = psm("validate", *arguments, "-o", "json", environment=environment, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def planted_in(folder: Path) -> dict[str, str]:
    """Return an environment in which Python runs a folder's `sitecustomize.py` first."""
    return {"PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


@pytest.mark.parametrize("log", LOGS, ids=lambda path: path.name.partition(".")[0])
def test_golden_log_replays_alike_in_unlike_surroundings(log: Path) -> None:
    """Nothing around a replay changes a hash, a figure, an outcome or an update."""
    code, document = validated("--file", str(log))
    assert (code, document["ok"], document["divergence"]) == (0, True, None)
    assert document["compared"] == document["messages"] >= 300
    one, other = document["runs"]
    assert [name for name in one if one[name] == other[name]] == ["python"]


@pytest.mark.parametrize("impure", IMPURE.values(), ids=IMPURE)
def test_gate_finds_a_fold_that_is_not_pure(impure: str, tmp_path: Path) -> None:
    """The first event that comes out differently is named, and the field of the state."""
    (tmp_path / "sitecustomize.py").write_text(PLANT.format(impure=impure))
    code, document = validated(
        "--file",
        str(LINEAR),
        environment=planted_in(tmp_path),
    )
    found = document["divergence"]
    assert (code, document["ok"]) == (1, False)
    assert found["between"] == "runs"
    assert (found["log_sequence"], found["subject"]) == (_ninth(), "trades.acc_001")
    assert found["field"].startswith("ledger_hash: ")
    assert found["field"].endswith("acc_001.assets.USDT.cost")
    assert found["expected"] != found["found"]


def _ninth() -> int:
    """Return the log sequence of the message by which acc_001 gets its ninth event."""
    for line in (FOLDER / "linear.expected.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["accounts"].get("acc_001", {}).get("sequence_number", 0) >= 9:
            return int(record["log_sequence"])
    raise AssertionError("acc_001 does not get that far")


def _in_expected(log_sequence: int, account: str) -> bool:
    """Return whether the golden log says something of an account at a place."""
    for line in (FOLDER / "linear.expected.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["log_sequence"] == log_sequence:
            return account in record["accounts"]
    return False


def test_gate_finds_what_a_snapshot_forgets(tmp_path: Path) -> None:
    """Accounts pass through their snapshots in one of the replays."""
    (tmp_path / "sitecustomize.py").write_text(
        "import psm.domain.snapshot as s\n"
        "from psm.domain.valuation.performance import NOTHING_YET\n"
        "load = s.load_account\n"
        "def forgetful(data):\n"
        "    account, saved = load(data)\n"
        "    account.valuation.performance = NOTHING_YET\n"
        "    return account, saved\n"
        "s.load_account = forgetful\n"
    )
    code, document = validated(
        "--file",
        str(LINEAR),
        environment=planted_in(tmp_path),
    )
    assert code == 1
    found = document["divergence"]
    assert re.fullmatch(r"accounts: acc_\d+\.drawdown", found["field"])
    account = found["field"].removeprefix("accounts: ").removesuffix(".drawdown")
    assert _in_expected(found["log_sequence"], account)


def test_gate_names_the_event_at_which_the_fold_raises(tmp_path: Path) -> None:
    """A defect that raises is a finding with a place, not a stack trace."""
    (tmp_path / "sitecustomize.py").write_text(PLANT.format(impure="raise LookupError('oops')"))
    code, document = validated(
        "--file",
        str(LINEAR),
        environment=planted_in(tmp_path),
    )
    found = document["divergence"]
    assert code == 1
    assert (found["field"], found["log_sequence"]) == ("error", _ninth())
    assert found["expected"] == "LookupError: oops"


def test_range_and_account_select_what_is_compared() -> None:
    """Everything is folded; log sequences select, with an account its own numbers."""
    _, ranged = validated("--file", str(LINEAR), "--sequence", "10", "20")
    assert 0 < ranged["compared"] <= 11
    assert ranged["messages"] >= 300
    _, numbered = validated("acc_001", "--file", str(LINEAR), "--sequence", "1", "3")
    assert 3 <= numbered["compared"] < 20


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--file", "nowhere.jsonl"], "cannot read nowhere.jsonl"),
        (["--file", str(LINEAR), "--python", "/nowhere/python"], "cannot run /nowhere/python"),
        (["a.b"], "no account id"),
        (["--sequence", "5", "4"], "ascending"),
        (["--file", str(LINEAR), "--partitions", "0"], "1 or more"),
    ],
)
def test_wrong_usage_says_what_to_do(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, one line."""
    assert main(["validate", *arguments]) == 2
    assert text in capsys.readouterr().err


def test_interpreter_without_psm_is_no_divergence(tmp_path: Path) -> None:
    """Exit 2: the surroundings are wrong, not the log."""
    lonely = tmp_path / "python"
    lonely.write_text("#!/bin/sh\necho 'No module named psm' >&2\nexit 1\n")
    lonely.chmod(0o755)
    done = psm("validate", "--file", str(LINEAR), "--python", str(lonely), check=False)
    assert done.returncode == 2
    assert "No module named psm" in done.stderr


# --- what was published -----------------------------------------------------------------------


def printed(*advances: Advance, **fields: Any) -> Print:
    """Return the fingerprint of a message that advanced these streams."""
    return Print(
        log_sequence=advances[0].log_sequence if advances else 1,
        subject="trades.a",
        event_hash="",
        stream_id="a",
        sequence_number=None,
        outcome="applied",
        reason=None,
        chain_hash=None,
        ledger_hash=None,
        state_hash=None,
        touched=1,
        accounts="",
        updates=1,
        published="",
        advances=list(advances),
        blocked=fields.get("blocked", []),
        resumed=fields.get("resumed", []),
    )


def advance(number: int, chain: str = "c", ledger: str = "l", state: str = "s") -> Advance:
    return Advance(number, "a", number, chain, ledger, state, number)


def test_updates_of_one_number_are_told_apart_by_their_cause() -> None:
    """An operator's event has no number: it publishes that of the event before it again."""
    retry = Advance(7, "a", 1, "d", "l", "s", 7)
    held = Advance(7, "a", 1, "e", "l", "s", 5)
    published = PublishedHashes([advance(1), retry, held])
    assert published.compare(printed(advance(1))) is None
    assert published.compare(printed(retry, held)) is None
    assert (published.matched, published.unexplained()) == (3, None)


@pytest.mark.parametrize("field", ["chain_hash", "ledger_hash", "state_hash"])
def test_published_hash_that_differs_is_named(field: str) -> None:
    """Each of the three is compared."""
    published = PublishedHashes([advance(1), advance(2, **{field.removesuffix("_hash"): "x"})])
    assert published.compare(printed(advance(1))) is None
    wrong = published.compare(printed(advance(2)))
    assert wrong is not None
    assert (wrong.field, wrong.published) == (field, "x")


def test_state_hash_is_not_compared_while_a_stream_is_blocked() -> None:
    """From the message that blocks it up to the one that resumes it; the ledger always is."""
    published = PublishedHashes([advance(n, state="x") for n in (1, 2, 3)])
    assert published.compare(printed(advance(1), blocked=["a"])) is None
    assert published.compare(printed(advance(2), resumed=["a"])) is None
    wrong = published.compare(printed(advance(3)))
    assert wrong is not None
    assert wrong.field == "state_hash"
    assert published.matched == 2


def test_missing_and_surplus_updates_are_found() -> None:
    """A hole between published events, and one that the log does not explain."""
    published = PublishedHashes([advance(2), advance(4), advance(5)])
    assert published.compare(printed(advance(1))) is None, "older than what is retained"
    assert published.compare(printed(advance(2))) is None
    wrong = published.compare(printed(advance(3)))
    assert wrong is not None
    assert (wrong.field, wrong.replayed) == ("sequence_number", "3")
    assert published.compare(printed(advance(4))) is None
    assert published.compare(printed(advance(6))) is None, "not yet committed"
    assert (published.matched, published.absent) == (2, 2)
    extra = published.unexplained()
    assert extra is not None
    assert extra.sequence_number == 5
