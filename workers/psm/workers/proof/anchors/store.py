"""Where anchors are kept: append-only, outside NATS and PostgreSQL.

`AnchorStore` is what an object store must offer. `FileAnchors` is a folder (or a mounted bucket)
with `anchors.jsonl`, one signed anchor a line, and `leaves.bin`, the 32-byte leaf hashes.
The leaves are not signed: the roots are, and they follow from the leaves. They make an anchor cost
only what is new, and let `verify` name a changed message instead of the anchor it was before.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from psm.contracts.errors import ConfigError
from psm.contracts.merkle import HASH_BYTES


class AnchorStore(Protocol):
    """Append-only storage of anchors and leaves."""

    def lines(self) -> list[bytes]:
        """Return the anchors, oldest first, without line ends."""

    def leaves(self, size: int) -> bytes:
        """Return the first `size` leaf hashes, fewer if there are not as many."""

    def append(self, size: int, leaves: bytes, line: bytes) -> None:
        """Put `leaves` behind the first `size` and then the anchor; durable when it returns."""


class FileAnchors:
    """A folder of anchors. One writer at a time, which `writing` sees to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._anchors = folder / "anchors.jsonl"
        self._leaves = folder / "leaves.bin"

    def lines(self) -> list[bytes]:
        """Return the anchors. A last line without its end was never acknowledged, and is none."""
        if not self._folder.is_dir():
            raise ConfigError(f"{self._folder} is no folder of anchors; see psm anchor create")
        if not self._anchors.exists():
            return []
        return self._anchors.read_bytes().split(b"\n")[:-1]

    def leaves(self, size: int) -> bytes:
        """Return the first `size` leaf hashes, fewer if there are not as many."""
        if not self._leaves.exists():
            return b""
        with self._leaves.open("rb") as file:
            return file.read(size * HASH_BYTES)

    def append(self, size: int, leaves: bytes, line: bytes) -> None:
        """Put `leaves` behind the first `size`, then the anchor, each synced to the disk.

        Leaves behind the last anchor are of an attempt that was cut off: they are written over.
        """
        self._put(self._leaves, size * HASH_BYTES, leaves)
        whole = sum(len(known) + 1 for known in self.lines())
        self._put(self._anchors, whole, line + b"\n")
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Make the folder, and keep other writers out while the block runs.

        Raises:
            ConfigError: it cannot be written, or another process writes anchors here.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = (self._folder / ".lock").open("wb")
        except OSError as error:
            raise ConfigError(f"cannot write to {self._folder}: {error.strerror}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigError(f"another process writes anchors to {self._folder}") from error
            yield

    def _put(self, path: Path, offset: int, data: bytes) -> None:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            file.truncate(offset)
            file.seek(offset)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
