"""What somebody who helps from afar needs to see, in one file, without secrets and figures."""

from __future__ import annotations

import asyncio
import io
import os
import platform
import re
import tarfile
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import msgspec

from psm.adapters.jetstream.api import call
from psm.contracts.errors import ConfigError, PSMError
from psm.workers.doctor.conditions import CONDITIONS
from psm.workers.doctor.examine import examine
from psm.workers.doctor.look import measured
from psm.workers.doctor.objectives import report
from psm.workers.doctor.place import Installation, here
from psm.workers.doctor.recorded import Scrape, text_of
from psm.workers.doctor.redaction import Scrubber, shortened
from psm.workers.fleet.report import fleet_report
from psm.workers.process.running import Announcement, find_running
from psm.workers.process.settings import about

LOG_LINES = 500
_TAIL_BYTES = 512 * 1024
_PIECE_S = 90.0
_OF_SERVERS = ("LOG:", "FATAL:", "PANIC:", "[INF]", "[WRN]", "[ERR]", "[FTL]")

# Also of other programs, and misspelt ones of ours.
_SECRET_NAME = re.compile(r"PASS|PASW|TOKEN|SECRET|SEED|_KEY|DSN", re.IGNORECASE)

Piece = Callable[[], Awaitable[Any]]


class Bundle:
    """Collects the pieces; one that cannot be had says why in its place."""

    def __init__(self, env: Mapping[str, str], *, details: bool, lines: int) -> None:
        """Describe what is collected.

        Args:
            env: variables of the process.
            details: whole log lines, which may name accounts and amounts; never secrets.
            lines: of each log, the last ones.
        """
        self._env = env
        self._details = details
        self._lines = lines
        self._up = find_running(env)
        self.files: dict[str, str] = {}

    async def collect(self) -> None:
        """Look at everything; nothing is changed and nothing raised."""
        async with here(self._env) as place:
            self._scrub = Scrubber(self._secrets(place))
            pieces: dict[str, Piece] = {
                "versions.json": self._versions,
                "settings.json": lambda: self._settings(place),
                "doctor.json": lambda: examine(self._env),
                "streams.json": lambda: _streams(place),
                "consumers.json": lambda: _consumers(place),
                "fleet.json": lambda: fleet_report(place.nc),
                "conditions.json": lambda: _conditions(place),
                "slo.json": self._slo,
            }
            for name, piece in pieces.items():
                await self._take(name, piece)
        if self._up is not None:
            await self._take_metrics(self._up)
            self._take_logs(Path(self._up.data_dir))

    def write(self, path: Path) -> None:
        """Write what was collected as `.tar.gz`, for its owner alone.

        Raises:
            ConfigError: it cannot be written, or is there already.
        """
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
            for name, text in sorted(self.files.items()):
                data = text.encode()
                entry = tarfile.TarInfo(f"psm-support/{name}")
                entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
                tar.addfile(entry, io.BytesIO(data))

    async def _take(self, name: str, piece: Piece) -> None:
        try:
            async with asyncio.timeout(_PIECE_S):
                found = await piece()
        except (PSMError, TimeoutError) as error:
            found = {"not_collected": str(error) or f"not within {_PIECE_S:g} s"}
        text = msgspec.json.format(msgspec.json.encode(found, enc_hook=str), indent=2).decode()
        self.files[name] = self._scrub(text)

    def _secrets(self, place: Installation) -> list[str]:
        settings = place.given.settings
        secret = [field.name for field in about() if field.secret]
        found = [] if settings is None else [getattr(settings, name) for name in secret]
        found += [
            text
            for name, text in place.given.variables.items()
            if _SECRET_NAME.search(name) and not name.endswith("_FILE")
        ]
        if self._up is not None:
            found += [self._up.postgres_dsn, self._up.admin_token]
        return [text for text in found if text]

    async def _versions(self) -> dict[str, Any]:
        return {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "processors": os.cpu_count(),
            "packages": {one.name: one.version for one in sorted(distributions(), key=_name)},
        }

    async def _settings(self, place: Installation) -> dict[str, Any]:
        settings = place.given.settings
        return {
            "problems": place.given.problems,
            "values": None if settings is None else settings.public(),
        }

    async def _slo(self) -> Any:
        if self._up is None:
            return {"not_collected": "no `psm up` runs here; `psm slo --prometheus` elsewhere"}
        found = await Scrape.of(tuple(self._up.metrics.values()), self._up.admin_token)
        return await report(found)

    async def _take_metrics(self, up: Announcement) -> None:
        for part, address in up.metrics.items():
            try:
                text = await asyncio.to_thread(text_of, address, up.admin_token)
            except PSMError as error:
                text = f"# not collected: {error}\n"
            self.files[f"metrics/{part}.txt"] = self._scrub(text)

    def _take_logs(self, data_dir: Path) -> None:
        servers = [data_dir / "nats" / "nats.log", *data_dir.glob("postgres*/*.log")]
        for path in [*sorted((data_dir / "logs").glob("*.log")), *servers]:
            told = [text for line in _tail(path, self._lines) if (text := self._line(line))]
            self.files[f"logs/{path.name}"] = self._scrub("\n".join(told) + "\n")

    def _line(self, line: str) -> str | None:
        """Return what may be told of a line of a log."""
        if self._details:
            return line
        if (short := shortened(line)) is not None:
            return short
        # A server's statements and rows stand in lines of their own, of other kinds.
        return line if any(kind in line for kind in _OF_SERVERS) else None


async def _conditions(place: Installation) -> list[dict[str, Any]]:
    # Their texts name accounts.
    lines = [await measured(place, condition) for condition in CONDITIONS]
    return [{"check": one.check, "level": one.level.name, "value": one.value} for one in lines]


async def _streams(place: Installation) -> list[dict[str, Any]]:
    found: dict[str, Any] = await call(place.nc, "STREAM.LIST")
    return [
        {key: stream.get(key) for key in ("config", "created", "state", "cluster")}
        for stream in found.get("streams") or []
    ]


async def _consumers(place: Installation) -> dict[str, Any]:
    names = (await call(place.nc, "STREAM.NAMES")).get("streams") or []
    return {
        name: (await call(place.nc, f"CONSUMER.LIST.{name}")).get("consumers") for name in names
    }


def _name(one: Any) -> str:
    return str(one.name).lower()


def _tail(path: Path, lines: int) -> list[str]:
    """Return the last lines of a file; nothing of one that cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
