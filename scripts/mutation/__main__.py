"""`python -m scripts.mutation`: change the domain, see whether the golden hashes notice.

`--record` writes the golden fingerprints of logs that have none. `--sample N --seed S` runs N of
the mutants; `--report FILE` writes the page.
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
from scripts.mutation.report import page
from scripts.mutation.runner import Fate, Golden, Runner

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "tests" / "replay" / "golden"
PRINTS = FOLDER / "prints.json"
DOMAIN = ROOT / "workers" / "psm" / "domain"


def golden_logs(folder: Path) -> list[Path]:
    """Return the golden logs: JSON lines, gzipped or not, without the expected records."""
    found = [*folder.rglob("*.jsonl.gz"), *folder.glob("*.jsonl")]
    return sorted(path for path in found if ".expected." not in path.name)


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
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="psm-mutation-") as folder:
        if arguments.record:
            return record(Path(folder))
        started = time.monotonic()
        run = Runner(DOMAIN, list(recorded(Path(folder))))
        chosen = [
            mutant
            for module, source in run.sources.items()
            if arguments.module in module
            for mutant in mutators.mutants(module, source)
        ]
        total = len(chosen)
        if arguments.sample:
            chosen = sorted(random.Random(arguments.seed).sample(chosen, arguments.sample))  # noqa: S311
        if arguments.again:
            fates = again(run, chosen, arguments.again, arguments.jobs)
        else:
            fates = list(progress(run, chosen, arguments.jobs))
    if arguments.fates:
        arguments.fates.write_bytes(b"".join(msgspec.json.encode(f) + b"\n" for f in fates))
    text, share = page(fates, total, arguments.seed if arguments.sample else None)
    if arguments.report:
        arguments.report.write_text(text, "utf-8")
    print(text)
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    return int(share < arguments.target)


def again(run: Runner, chosen: list[mutators.Mutant], before: Path, jobs: int) -> list[Fate]:
    """Run what lived before; what was killed then is killed now, as logs are only added."""
    fates = [msgspec.json.decode(line, type=Fate) for line in before.read_bytes().splitlines()]
    known = {mutant.name: mutant for mutant in chosen}
    lived = [known[f.mutant.name] for f in fates if not f.killed and f.mutant.name in known]
    return [*(fate for fate in fates if fate.killed), *progress(run, lived, jobs)]


def progress(run: Runner, chosen: list[mutators.Mutant], jobs: int) -> Iterator[Fate]:
    """Run the mutants, some at once, in order; say on stderr how far it is."""
    killed = 0
    with ThreadPoolExecutor(jobs) as pool:
        for number, fate in enumerate(pool.map(run.run, chosen), 1):
            killed += fate.killed
            if number % 20 == 0 or number == len(chosen):
                print(f"{number} of {len(chosen)}, {killed} killed", file=sys.stderr, flush=True)
            yield fate


def recorded(folder: Path) -> Iterator[Golden]:
    """Yield the golden logs, spooled into a folder, with the fingerprints in git."""
    prints = json.loads(PRINTS.read_text("utf-8"))
    for path in golden_logs(FOLDER):
        name = name_of(path)
        if name not in prints:
            raise SystemExit(f"{name} has no fingerprints; run python -m scripts.mutation --record")
        yield Golden(name=name, spool=spool(path, folder), prints=prints[name])


def spool(path: Path, folder: Path) -> str:
    """Spool a log in a process of its own: nothing of the domain may be imported here."""
    target = folder / f"{name_of(path)}.spool"
    code = (
        "import sys; from pathlib import Path;"
        "from psm.workers.validation.source import spool_file;"
        "spool_file(Path(sys.argv[1]), open(sys.argv[2], 'wb'), partitions=16)"
    )
    subprocess.run([sys.executable, "-c", code, str(path), str(target)], check=True)  # noqa: S603
    return str(target)


def record(folder: Path) -> int:
    """Write the fingerprints of logs that have none; recorded ones never change."""
    known = json.loads(PRINTS.read_text("utf-8")) if PRINTS.exists() else {}
    for path in golden_logs(FOLDER):
        name = name_of(path)
        if name not in known:
            found = list(runner.replayed(spool(path, folder)))
            known[name] = "".join(map(runner.fingerprint, found))
            print(f"{name}: {len(found)} messages")
    PRINTS.write_text(json.dumps(dict(sorted(known.items())), indent=0) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
