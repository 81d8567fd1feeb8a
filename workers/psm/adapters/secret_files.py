"""Secrets that stand in files, which somebody may replace while we run."""

from __future__ import annotations

from pathlib import Path
from typing import Self


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
    def is_file(self) -> bool:
        """Whether it may change at all."""
        return isinstance(self._secret, FileSecret)
