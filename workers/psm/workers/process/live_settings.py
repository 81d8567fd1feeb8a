"""Settings that hold at once when their file changes, and those for which a new start is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from psm.adapters.logs import get_logger
from psm.adapters.process_metrics import ProcessMetrics
from psm.adapters.secret_files import FileSecret
from psm.workers.process.config import Settings, about, load_settings, settings_files

LIVE = frozenset({"log_level", "http_connections", "http_connections_per_address"})
"""Fields of `Settings` that hold at once."""

_log = get_logger()


class LiveSettings:
    """What the settings' files say, beside what the process began with.

    A secret that stands in a file of its own is not compared: who uses it reads it anew.
    """

    def __init__(self, metrics: ProcessMetrics) -> None:
        """Note what they say now.

        Raises:
            ConfigError: what they say cannot be.
        """
        self.files: tuple[Path, ...] = settings_files()
        self._metrics = metrics
        self._began = self._now = load_settings() if self.files else Settings()
        self._takers: list[Callable[[Settings], object]] = []

    def on_change(self, take: Callable[[Settings], object]) -> None:
        """Call `take` with the settings whenever one of `LIVE` has changed."""
        self._takers.append(take)

    async def take(self) -> None:
        """Read the files again; what does not hold at once is told.

        Raises:
            ConfigError: what they say cannot be; what held before goes on.
        """
        now = load_settings()
        changed = LIVE & set(_differences(self._now, now))
        self._now = now
        if changed:
            for take in self._takers:
                take(now)
        waiting = sorted(set(_differences(self._began, now)) - LIVE)
        self._metrics.settings_waiting(len(waiting))
        if waiting:
            _log.warning("settings.restart_needed", names=waiting)


def _differences(one: Settings, other: Settings) -> Iterable[str]:
    for field in about():
        was, now = getattr(one, field.name), getattr(other, field.name)
        in_file = isinstance(was, FileSecret) and isinstance(now, FileSecret)
        if was != now and not (in_file and was.path == now.path):
            yield field.name
