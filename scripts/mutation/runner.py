"""Runs mutants: each in a process of its own, with the module changed in memory.

A mutant is killed by the first message of a golden log whose fingerprint is not the recorded one,
by an exception, or by using far more time than the fold takes.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from scripts.mutation.mutators import Mutant, mutated

CPU_S = 60
MEMORY_BYTES = 3 * 1024**3
SNAPSHOT_EVERY = 25
PRINT_LENGTH = 8


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """A golden log: its spool, and the recorded fingerprints, `PRINT_LENGTH` digits a message."""

    name: str
    spool: str
    prints: str

    def at(self, number: int) -> str:
        """Return the fingerprint of message `number`, from 0."""
        return self.prints[number * PRINT_LENGTH : (number + 1) * PRINT_LENGTH]


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a mutant.

    Attributes:
        how: `hash`, `exception`, `time`, `survived`, or `unreached`: no golden log gets there.
        log, message: where it was noticed.
    """

    mutant: Mutant
    how: str
    log: str = ""
    message: int = 0

    @property
    def killed(self) -> bool:
        """Whether the golden hashes noticed it."""
        return self.how not in ("survived", "unreached")


def fingerprint(found: Any) -> str:
    """Return the short digest of one message's `Print` or `Failed`."""
    return hashlib.sha256(msgspec.json.encode(found)).hexdigest()[:PRINT_LENGTH]


def replayed(golden_spool: str) -> Iterator[Any]:
    """Yield what each message of a spooled log gives; the domain is imported now, not before."""
    from psm.workers.validation.run import Replay, Run

    run = Run(
        spool=golden_spool,
        partitions=1,
        valuation_interval_ns=1_000_000_000,
        snapshot_every=SNAPSHOT_EVERY,
    )
    yield from Replay(run).prints()


class Runner:
    """Knows the sources, the golden logs, and which of them reaches which line."""

    def __init__(self, folder: Path, logs: Sequence[Golden]) -> None:
        assert not any(name.startswith("psm.domain") for name in sys.modules), "fork before import"
        self._logs = logs
        self.sources = {path.name: path.read_text("utf-8") for path in sorted(folder.glob("*.py"))}
        self._lines: dict[str, list[str]] = {}
        for log in logs:
            for place in _in_child(lambda log=log: _reached(log)):
                self._lines.setdefault(place, []).append(log.name)

    def run(self, mutant: Mutant) -> Fate:
        """Return what becomes of a mutant."""
        first = self._lines.get(f"{mutant.module}:{mutant.line}")
        if not first:
            return Fate(mutant=mutant, how="unreached")
        logs = sorted(self._logs, key=lambda log: log.name not in first)
        source = mutated(self.sources[mutant.module], mutant)
        name = f"psm.domain.{mutant.module.removesuffix('.py')}"
        answer = _in_child(lambda: _noticed(name, source, logs))
        if answer is None:
            return Fate(mutant=mutant, how="time")
        return Fate(mutant=mutant, **answer)


def _noticed(name: str, source: str, logs: Sequence[Golden]) -> Mapping[str, Any]:
    """Fold the golden logs with a changed module; stop at the first difference."""
    sys.meta_path.insert(0, _Changed(name, source))
    for log in logs:
        number = -1
        try:
            for number, found in enumerate(replayed(log.spool)):
                if fingerprint(found) != log.at(number):
                    how = "exception" if type(found).__name__ == "Failed" else "hash"
                    return {"how": how, "log": log.name, "message": number}
        except BaseException:  # noqa: BLE001 - whatever it raises, it was noticed
            return {"how": "exception", "log": log.name, "message": number + 1}
        if (number + 1) * PRINT_LENGTH != len(log.prints):
            return {"how": "hash", "log": log.name, "message": number + 1}
    return {"how": "survived"}


def _reached(log: Golden) -> list[str]:
    """Return `module:line` of every line of the domain that runs for a log, imports included."""
    places: dict[str, None] = {}
    folder = f"{os.sep}psm{os.sep}domain{os.sep}"

    def trace(frame: Any, event: str, _: Any) -> Any:
        file = frame.f_code.co_filename
        if folder not in file:
            return None
        if event in ("line", "call"):
            places[f"{file.rpartition(os.sep)[2]}:{frame.f_lineno}"] = None
        return trace

    sys.settrace(trace)
    for _ in replayed(log.spool):
        pass
    sys.settrace(None)
    return list(places)


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a changed source."""

    def __init__(self, name: str, source: str) -> None:
        self._name = name
        self._source = source

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        return importlib.util.spec_from_loader(fullname, self) if fullname == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._source, self._name, "exec"), module.__dict__)  # noqa: S102


def _in_child(work: Any) -> Any:
    """Return what `work` returns in a forked process, None if that was killed for its time."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 5))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        with contextlib.suppress(BaseException), os.fdopen(write, "w") as pipe:
            json.dump(work(), pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return json.loads(said) if said else None
