"""Runs mutants: each in a process of its own, with the module changed in memory.

A mutant is killed by the first message of a golden log whose fingerprint is not the recorded one,
by an exception, or by using far more time than the fold takes.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from scripts.mutation.mutators import Mutant, mutated

CPU_S = 240
MEMORY_BYTES = 3 * 1024**3
SNAPSHOT_EVERY = 25
SNAPSHOT_EVERY_SHORT = 3
PRINT_LENGTH = 8
READ_ONCE = ("equity", "future", "inverse_perp", "linear_perp", "spot")
"""Long logs of one kind of instrument each; `everything` has all kinds, and is read twice."""


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """A golden file: its spools, and the recorded fingerprints, `PRINT_LENGTH` digits a message."""

    name: str
    spools: tuple[str, ...]
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


def replayed(spools: Sequence[str]) -> Iterator[Any]:
    """Yield what the spooled logs of a golden file give; the domain is imported now, not before."""
    from scripts.mutation.narrow import NARROW, narrowed

    name = Path(spools[0]).name.partition(".")[0]
    with narrowed() if name in NARROW else contextlib.nullcontext():
        for spool in spools:
            yield from _read_twice(spool, name, short=len(spools) > 1)


def _read_twice(spool: str, name: str, *, short: bool) -> Iterator[Any]:
    from scripts.mutation.answers import told
    from scripts.mutation.handovers import handed_over

    from psm.domain.market.slots import ValuationSlots
    from psm.workers.proof.validation.run import Replay, ValidationRun

    run = ValidationRun(
        spool=spool,
        partitions=1,
        slots=ValuationSlots(),
        snapshot_every=SNAPSHOT_EVERY_SHORT if short else SNAPSHOT_EVERY,
    )
    yield from Replay(run).prints()
    if short:
        yield from told(spool)
    elif name not in READ_ONCE:
        yield from handed_over(spool)


class Runner:
    """Knows the sources and the golden logs, short ones first."""

    def __init__(self, sources: Mapping[str, str], logs: Sequence[Golden], jobs: int) -> None:
        assert not any(name.startswith("psm.domain") for name in sys.modules), "fork before import"
        importlib.import_module("psm.contracts.registry")  # once: no mutant is in there
        self._logs = sorted(logs, key=lambda log: len(log.prints))
        self._sources = sources
        self._jobs = jobs

    def run(self, mutant: Mutant) -> Fate:
        """Return what becomes of a mutant."""
        source = mutated(self._sources[mutant.module], mutant)
        name = f"psm.domain.{mutant.module.removesuffix('.py').replace('/', '.')}"
        answer = _in_child(lambda: _noticed(name, source, self._logs))
        if answer is None:
            return Fate(mutant=mutant, how="time")
        return Fate(mutant=mutant, **answer)

    def labelled(self, fates: Sequence[Fate]) -> list[Fate]:
        """Return the fates; survivors in lines that no golden log reaches say so."""
        if all(fate.killed for fate in fates):
            return list(fates)
        with ThreadPoolExecutor(self._jobs) as pool:
            lines = pool.map(lambda log: _in_child(lambda: _reached(log)), self._logs)
        reached = {place for places in lines for place in places}

        def label(fate: Fate) -> Fate:
            # Of a statement over several lines the interpreter may name the second one.
            at = [f"{fate.mutant.module}:{fate.mutant.line + more}" for more in (0, 1)]
            if fate.killed or any(place in reached for place in at):
                return fate
            return msgspec.structs.replace(fate, how="unreached")

        return [label(fate) for fate in fates]


def _noticed(name: str, source: str, logs: Sequence[Golden]) -> Mapping[str, Any]:
    """Fold the golden logs with a changed module; stop at the first difference."""
    sys.meta_path.insert(0, _Changed(name, source))
    for log in logs:
        number = -1
        try:
            for number, found in enumerate(replayed(log.spools)):
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
            module = file.rpartition(folder)[2].replace(os.sep, "/")
            places[f"{module}:{frame.f_lineno}"] = None
        return trace

    sys.settrace(trace)
    for _ in replayed(log.spools):
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
