"""`python -m scripts.oracle COMMIT`: fold the same logs with this tree and with another commit.

For a change that must change nothing. Both folds run in processes of their own, each with its own
sources; after every step outcome, updates, hashes, snapshots, checkpoints and indexes are compared.
Exit 1 at the first difference, which is shown.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from scripts.oracle.cases import Case, Step, golden, random_logs

ROOT = Path(__file__).parent.parent.parent
SOURCES = ("contracts", "workers", "projections")


class Side:
    """One of the two folds."""

    def __init__(self, tree: Path) -> None:
        path = os.pathsep.join([str(tree), *(str(tree / name) for name in SOURCES)])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "scripts.oracle.face"],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, case: Case, *, whole: bool = False) -> None:
        """Send a case; `whole` asks for everything instead of digests."""
        assert self._process.stdin is not None
        data = msgspec.msgpack.encode({"case": case, "whole": whole})
        self._process.stdin.write(struct.pack(">I", len(data)) + data)
        self._process.stdin.flush()

    def answer(self) -> list[bytes]:
        """Return what each step showed."""
        assert self._process.stdout is not None
        (size,) = struct.unpack(">I", self._process.stdout.read(4))
        found: list[bytes] = msgspec.msgpack.decode(self._process.stdout.read(size))
        return found

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


def main() -> int:
    """Compare; 1 at the first difference."""
    parser = argparse.ArgumentParser(prog="python -m scripts.oracle", description=__doc__)
    parser.add_argument("commit", help="whose fold is right")
    parser.add_argument("--logs", type=int, default=500, help="how many random logs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-golden", action="store_true", help="leave out the golden logs")
    arguments = parser.parse_args()
    cases = [] if arguments.no_golden else golden(arguments.seed)
    steps = raised = 0
    with checked_out(arguments.commit) as other:
        right, ours = Side(other), Side(ROOT)
        for number, case in enumerate(_all(cases, random_logs(arguments.seed, arguments.logs)), 1):
            right.ask(case)
            ours.ask(case)
            expected, found = right.answer(), ours.answer()
            steps += len(found)
            raised += sum(seen.startswith(b"raised") for seen in expected)
            if expected != found:
                show(case, right, ours)
                return 1
            if number % 100 == 0:
                print(f"{number} logs, {steps} steps: no difference", file=sys.stderr, flush=True)
        right.close()
        ours.close()
    print(f"{number} logs, {steps} steps, of them {raised} that raise: no difference")
    return 0


def _all(*sources: Any) -> Iterator[Case]:
    for source in sources:
        yield from source


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """Give a work tree of a commit, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="psm-oracle-") as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def show(case: Case, right: Side, ours: Side) -> None:
    """Say at which step of a case the two differ, and in what."""
    right.ask(case, whole=True)
    ours.ask(case, whole=True)
    for number, (one, two) in enumerate(zip(right.answer(), ours.answer(), strict=False)):
        if one != two:
            step: Step = case.steps[min(number, len(case.steps) - 1)]
            print(f"{case.name}, step {number + 1} of {len(case.steps)}: {step}")
            _differ(_read(one), _read(two), "")
            return
    print(f"{case.name}: the number of steps differs")


def _read(data: bytes) -> Any:
    try:
        return msgspec.msgpack.decode(data)
    except msgspec.DecodeError:
        return data


def _differ(expected: Any, found: Any, path: str) -> None:
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for place, (one, two) in enumerate(zip(expected, found, strict=True)):
            if one != two:
                _differ(one, two, f"{path}[{place}]")
        return
    print(f"  at {path or 'the top'}:\n    right: {expected!r:.2000}\n    found: {found!r:.2000}")


if __name__ == "__main__":
    sys.exit(main())
