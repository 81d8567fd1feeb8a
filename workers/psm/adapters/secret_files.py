"""Files of secrets, keys and certificates, which somebody may replace while we run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from psm.contracts.errors import ConfigError

Look = tuple[tuple[int, int, int] | None, ...]
"""Inode, size and time of change of each file; None of one that cannot be looked at."""


class FileSecret(str):
    """A secret as its file held it when it was read first; `fresh` reads it again."""

    __slots__ = ("path",)
    path: Path

    @classmethod
    def of(cls, text: str, path: Path) -> Self:
        """Return the secret `text` that stands in the file."""
        secret = cls(text)
        secret.path = path
        return secret

    def fresh(self) -> str:
        """Return what the file holds now; what it held first where there is nothing to read."""
        try:
            return self.path.read_text("utf-8").strip() or str(self)
        except (OSError, UnicodeDecodeError):
            return str(self)


class Rotating:
    """A secret for connections that are made one after another, while it is being replaced.

    The file may be ahead of the server or behind it: where they differ, a call gives what the file
    holds and what worked last in turn.

    Attributes:
        good: what worked last; None before anything did.
    """

    def __init__(self, secret: str) -> None:
        self.good: str | None = None
        self._secret = secret
        self._tried: str | None = None

    def newest(self) -> str:
        """Return what the file holds now."""
        return self._secret.fresh() if isinstance(self._secret, FileSecret) else self._secret

    def __call__(self) -> str:
        """Return what to try next."""
        newest = self.newest()
        self._tried = self.good or newest if self._tried == newest else newest
        return self._tried

    def worked(self) -> None:
        """Take in that the server took what was tried last."""
        self.good = self._tried

    @property
    def file(self) -> Path | None:
        """Where it stands; None of one that cannot change."""
        return self._secret.path if isinstance(self._secret, FileSecret) else None


def look_at(files: Iterable[Path | str | None]) -> Look:
    """Return what tells whether one of these files has changed since."""
    return tuple(_seen(file) for file in files)


def secret_in(file: Path | str) -> bytes:
    """Return what a file holds that must hold something.

    Raises:
        ConfigError: it cannot be read, or is empty.
    """
    try:
        held = Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    if not held.strip():
        raise ConfigError(f"{file} is empty")
    return held


def write_whole(file: Path, data: bytes, mode: int) -> None:
    """Write a file that is whole at every moment, and never readable by more than `mode` says."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as opened:
        os.fchmod(descriptor, mode)
        opened.write(data)
        opened.flush()
        os.fsync(descriptor)
    fresh.replace(file)


def _seen(file: Path | str | None) -> tuple[int, int, int] | None:
    try:
        stat = Path(file).stat() if file is not None else None
    except OSError:
        return None
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns) if stat else None
