"""Named crash points: where a test may kill the process, exactly and repeatably.

`PSM_CRASH_POINT=worker.after_commit:3` kills the process with SIGKILL when it passes that point
the third time, so that every gap between two effects is tested and not only hoped for. Without
the variable a point costs one comparison; production refuses the variable.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Literal, get_args

from psm.contracts.errors import ConfigError
from psm.workers.process.config import load_settings

CrashPoint = Literal[
    "worker.after_fetch",
    "worker.after_fold",
    "worker.before_commit",
    "worker.before_batch",
    "worker.after_batch",
    "worker.after_commit",
    "worker.before_snapshot",
    "worker.after_snapshot",
    "worker.before_checkpoint",
    "worker.after_checkpoint",
    "projector.after_fetch",
    "projector.before_commit",
    "projector.after_commit",
    "rebuild.after_swap",
    "archiver.after_fetch",
    "archiver.before_commit",
    "archiver.after_commit",
    "importer.after_append",
    "risk.after_owner_record",
    "risk.after_recovery",
    "risk.after_decide",
    "risk.before_write",
    "risk.after_write",
    "risk.before_renewal",
    "risk.after_renewal",
]
CRASH_POINTS: tuple[CrashPoint, ...] = get_args(CrashPoint)


class _Armed:
    """One point, and how many passes are left."""

    def __init__(self, name: str, passes: int) -> None:
        self.name = name
        self.passes = passes

    def passed(self, name: str) -> None:
        if name != self.name:
            return
        self.passes -= 1
        if self.passes == 0:
            # A raw write: nothing buffered may be flushed by what imitates a power cut.
            os.write(2, f'{{"event":"crash_point.reached","point":"{name}"}}\n'.encode())
            os.kill(os.getpid(), signal.SIGKILL)


def crash_point(name: CrashPoint) -> None:
    """Die here if `PSM_CRASH_POINT` says so."""
    if _armed is not None:
        _armed.passed(name)


def armed(env: Mapping[str, str]) -> _Armed | None:
    """Return what `PSM_CRASH_POINT` asks for, or None.

    Raises:
        ConfigError: there is no such point, or this is production.
    """
    text = env.get("PSM_CRASH_POINT")
    if not text:
        return None
    name, _, nth = text.partition(":")
    if name not in CRASH_POINTS or not (nth or "1").isdecimal() or int(nth or 1) < 1:
        raise ConfigError(
            f"PSM_CRASH_POINT: expected a point, and optionally `:` and a number from 1; "
            f"points are {', '.join(CRASH_POINTS)}"
        )
    if load_settings(env).env == "production":
        raise ConfigError("PSM_CRASH_POINT is for tests; PSM_ENV=production refuses it")
    return _Armed(name, int(nth or 1))


_armed = armed(os.environ)
