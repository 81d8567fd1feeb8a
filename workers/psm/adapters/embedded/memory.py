"""How much memory a server of ours may use: a share of the container's, else of the machine's.

A program in Go takes what it gets before it collects; told a limit, it collects in time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

SHARE = 4
"""One of so many parts is the broker's: PSM's own processes and PostgreSQL are beside it."""

_LEAST = 256 * 1024 * 1024


def go_memory_limit(root: Path = Path("/")) -> str | None:
    """Return what `GOMEMLIMIT` should be, in bytes; None where nobody knows (not Linux).

    Args:
        root: of the file system; another one for tests.
    """
    known = [*_of_container(root), *_of_machine(root)]
    return str(max(_LEAST, min(known) // SHARE)) if known else None


def _of_container(root: Path) -> Iterator[int]:
    """Yield the limits of this process's control groups, from its own up to the root."""
    groups = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base, name = (
            (groups / "memory", "memory.limit_in_bytes") if controllers else (groups, "memory.max")
        )
        own = base / path.strip("/")
        for folder in (own, *own.parents):
            for text in _lines(folder / name):
                if text.isdecimal():  # else `max`: no limit
                    yield int(text)
            if folder == base:
                break


def _of_machine(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemTotal:"):
            yield int(line.split()[1]) * 1024


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
