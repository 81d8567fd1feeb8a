"""`python -m scripts.mutation`: change the domain, see whether the golden hashes notice.

`--record` writes the golden fingerprints of logs that have none. `--sample N --seed S` runs N of
the mutants and `--fates FILE` keeps what became of them; `--report FILE` writes the page, with
`--of FATES ...` of runs before.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from scripts.mutation import mutators, runner
from scripts.mutation.equivalent import stale
from scripts.mutation.report import page
from scripts.mutation.runner import Fate, Golden, Runner
from scripts.purity import DOMAIN, ROOT, modules_of_the_domain

FOLDER = ROOT / "tests" / "replay" / "golden"
PRINTS = FOLDER / "prints.json"


def golden_logs(folder: Path) -> list[Path]:
    """Return the golden logs: JSON lines, gzipped or not, without the expected records."""
    found = [*folder.rglob("*.jsonl.gz"), *folder.glob("*.jsonl")]
    return sorted(path for path in found if ".expected." not in path.name)


def sources_of_the_domain() -> dict[str, str]:
    """Return the source of every module by its path in the domain, as `folding/stream.py`."""
    return {
        path.relative_to(DOMAIN).as_posix(): path.read_text("utf-8")
        for path in modules_of_the_domain()
    }


def name_of(path: Path) -> str:
    """Return a golden log's name."""
    return path.name.partition(".")[0]


def main() -> int:
    """Run; exit 1 if fewer than `--target` percent are killed."""
    parser = argparse.ArgumentParser(prog="python -m scripts.mutation", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write missing fingerprints")
    parser.add_argument("--sample", type=int, default=0, help="how many mutants; 0 for all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--module", default="", help="only modules with this in their name")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--target", type=float, default=0.0, help="percent")
    parser.add_argument("--report", type=Path, help="write the page here")
    parser.add_argument("--fates", type=Path, help="write every mutant's fate here, as JSON lines")
    parser.add_argument("--again", type=Path, help="fates of before: run only what lived there")
    parser.add_argument("--note", default="", help="what to say about the runs on the page")
    parser.add_argument("--of", type=Path, nargs="+", help="fates of before: run nothing")
    arguments = parser.parse_args()
    sources = sources_of_the_domain()
    everything = [
        mutant
        for module, source in sources.items()
        if arguments.module in module
        for mutant in mutators.mutants(module, source)
    ]
    if arguments.of:
        runs = [(path.stem, read_fates(path, everything)) for path in arguments.of]
        return told(runs, everything, arguments)
    chosen, seed = everything, arguments.seed if arguments.sample else None
    if arguments.sample:
        chosen = random.Random(seed).sample(chosen, arguments.sample)  # noqa: S311
    with tempfile.TemporaryDirectory(prefix="psm-mutation-") as folder:
        if arguments.record:
            return record(Path(folder))
        started = time.monotonic()
        run = Runner(sources, list(recorded(Path(folder))), arguments.jobs)
        if arguments.again:
            before = read_fates(arguments.again, everything)
            lived = [fate.mutant for fate in before if not fate.killed]
            killed = [fate for fate in before if fate.killed]  # logs are only added
            fates = sorted([*killed, *progress(run, lived, arguments.jobs, None)], key=_by_mutant)
        else:
            fates = list(progress(run, chosen, arguments.jobs, arguments.fates))
        fates = run.labelled(fates)
    if arguments.fates:
        arguments.fates.write_bytes(b"".join(msgspec.json.encode(f) + b"\n" for f in fates))
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    name = "all" if seed is None else f"seed {seed}"
    return told([(name, fates)], everything, arguments)


def told(
    runs: list[tuple[str, list[Fate]]],
    everything: list[mutators.Mutant],
    arguments: argparse.Namespace,
) -> int:
    """Print the page, write it where it is wanted; return 1 where the target is missed."""
    commit = subprocess.run(  # noqa: S603
        ["git", "log", "-1", "--format=%h", "--", str(DOMAIN)],  # noqa: S607
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout.strip()  # fmt: skip
    for name in stale(everything):
        print(f"judged equivalent, but no longer there: {name}", file=sys.stderr)
    text, share = page(runs, len(everything), commit, arguments.note)
    if arguments.report:
        arguments.report.write_text(text, "utf-8")
    print(text)
    return int(share < arguments.target)


def read_fates(path: Path, everything: list[mutators.Mutant]) -> list[Fate]:
    """Return the fates of a run before, of mutants that are still there."""
    known = {(m.module, m.place, m.variant, m.text): m for m in everything}
    found = []
    for line in path.read_bytes().splitlines():
        fate = msgspec.json.decode(line, type=Fate)
        was = fate.mutant
        mutant = known.get((was.module, was.place, was.variant, was.text))
        if mutant is None:
            raise SystemExit(f"the domain changed since {path}: no longer there: {was.name}")
        found.append(msgspec.structs.replace(fate, mutant=mutant))
    return found


def _by_mutant(fate: Fate) -> mutators.Mutant:
    return fate.mutant


def progress(
    run: Runner, chosen: list[mutators.Mutant], jobs: int, keep: Path | None
) -> Iterator[Fate]:
    """Run the mutants, some at once, in order; say on stderr how far it is, and keep each fate."""
    killed = 0
    with ThreadPoolExecutor(jobs) as pool:
        for number, fate in enumerate(pool.map(run.run, chosen), 1):
            killed += fate.killed
            if not fate.killed:
                print(f"{fate.how}: {fate.mutant.name}", file=sys.stderr)
            if number % 20 == 0 or number == len(chosen):
                print(f"{number} of {len(chosen)}, {killed} killed", file=sys.stderr, flush=True)
            if keep is not None:
                with keep.open("ab") as file:
                    file.write(msgspec.json.encode(fate) + b"\n")
            yield fate


def recorded(folder: Path) -> Iterator[Golden]:
    """Yield the golden logs, spooled into a folder, with the fingerprints in git."""
    prints = json.loads(PRINTS.read_text("utf-8"))
    for path in golden_logs(FOLDER):
        name = name_of(path)
        if name not in prints:
            raise SystemExit(f"{name} has no fingerprints; run python -m scripts.mutation --record")
        yield Golden(name=name, spools=spool(path, folder), prints=prints[name])


def spool(path: Path, folder: Path) -> tuple[str, ...]:
    """Spool the logs of a file in a process of its own: nothing of the domain is imported here."""
    command = [sys.executable, "-m", "scripts.mutation.spooling", str(path), str(folder)]
    said = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return tuple(said.stdout.split())


def record(folder: Path) -> int:
    """Write the fingerprints of logs that have none; recorded ones never change."""
    known = json.loads(PRINTS.read_text("utf-8")) if PRINTS.exists() else {}
    for path in golden_logs(FOLDER):
        name = name_of(path)
        before = known.get(name, "")
        found = list(runner.replayed(spool(path, folder)))
        known[name] = "".join(map(runner.fingerprint, found))
        print(f"{name}: {len(found)} fingerprints, of them {len(before) // 8} before")
        if not known[name].startswith(before):
            raise SystemExit(f"{name} changed")
    PRINTS.write_text(json.dumps(dict(sorted(known.items())), indent=0) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
