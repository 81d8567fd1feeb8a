"""The broker's share of memory follows the container's limit, else the machine's."""

from __future__ import annotations

from pathlib import Path

import pytest

from psm.adapters.embedded.memory import go_memory_limit

GIB = 1024**3


def machine(root: Path, **files: str) -> Path:
    """Write files below a root; `__` in a name is a slash, and dots are `_dot_`."""
    for name, text in files.items():
        file = root / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_container_counts(tmp_path: Path) -> None:
    """A group's own limit, and that of the groups around it: the least of all."""
    root = machine(
        tmp_path,
        proc__meminfo=f"MemFree: 1 kB\nMemTotal: {64 * GIB // 1024} kB\n",
        proc__self__cgroup="0::/pod/container\n",
        sys__fs__cgroup__pod__container__memory_dot_max="max\n",
        sys__fs__cgroup__pod__memory_dot_max=f"{8 * GIB}\n",
    )
    assert go_memory_limit(root) == str(2 * GIB)


def test_older_control_groups_count(tmp_path: Path) -> None:
    """Version 1 has a hierarchy for memory alone, and a huge number for no limit."""
    root = machine(
        tmp_path,
        proc__meminfo=f"MemTotal: {16 * GIB // 1024} kB\n",
        proc__self__cgroup="5:cpu,cpuacct:/x\n4:memory:/docker/1\n",
        sys__fs__cgroup__memory__memory_dot_limit_in_bytes=f"{2**63 - 4096}\n",
        sys__fs__cgroup__memory__docker__1__memory_dot_limit_in_bytes=f"{4 * GIB}\n",
    )
    assert go_memory_limit(root) == str(GIB)


@pytest.mark.parametrize(("has_gib", "share"), [(16, 4 * GIB), (0.5, GIB // 4)])
def test_machine_counts_without_a_container(tmp_path: Path, has_gib: float, share: int) -> None:
    """A quarter of it, but never so little that the server could not work."""
    assert go_memory_limit(
        machine(tmp_path, proc__meminfo=f"MemTotal: {int(has_gib * GIB) // 1024} kB\n")
    ) == str(share)


def test_nothing_is_known_elsewhere(tmp_path: Path) -> None:
    """Not Linux: no limit is set."""
    assert go_memory_limit(tmp_path) is None
