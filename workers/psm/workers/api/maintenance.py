"""What a replica leaves during maintenance, as a file says: writing, or everything that is new.

A file needs no door that somebody else could find, and one that all replicas mount changes them all
without a restart: nothing is cut off, and nobody is fenced.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from psm.adapters.logs import get_logger
from psm.workers.api.health import HealthReport

Mode = Literal["open", "read-only", "drain"]

_MODES: dict[str, Mode] = {"": "open", "open": "open", "read-only": "read-only", "drain": "drain"}
_WORD_MAX = 64
_log = get_logger()


class Maintenance:
    """Reads the mode from a file, whenever it matters.

    Args:
        file: holds one word; None, or where it is missing: `open`. What cannot be read or is no
            such word counts as `read-only`: somebody wanted something to stop.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._last: Mode = "open"

    @property
    def mode(self) -> Mode:
        """What holds now; a change is told to the log.

        `read-only`: nothing is appended. `drain`: the same, and the replica says that it is not
        ready, so that no proxy sends it more; what it is asked, it answers.
        """
        mode = self._said()
        if mode != self._last:
            self._last = mode
            _log.warning("http.mode_changed", to=mode)
        return mode

    def applied(self, report: HealthReport) -> HealthReport:
        """Return what the replica says of its doors in this mode."""
        mode = self.mode
        if mode == "open":
            return report
        closed = ("ingest",) if mode == "read-only" else tuple(report.doors)
        doors = {name: mode if name in closed else text for name, text in report.doors.items()}
        return msgspec.structs.replace(report, status="not ready", doors=doors)

    def _said(self) -> Mode:
        if self._file is None:
            return "open"
        try:
            with self._file.open(encoding="utf-8") as opened:
                word = opened.read(_WORD_MAX).strip()
        except FileNotFoundError:
            return "open"
        except (OSError, UnicodeDecodeError):
            return "read-only"
        return _MODES.get(word, "read-only")
