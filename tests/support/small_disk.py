"""A small disk that can be filled: a file system in memory, where the machine lets one mount it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Give a folder on a disk of its own."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Leave no room on the folder's disk while the block runs."""
    filling = folder / "filling"
    try:
        with filling.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(64 * 1024))
        yield
    finally:
        filling.unlink()


async def write(nc: Client, subject: str = "trades.acc_001") -> None:
    """Publish without caring for the answer."""
    with contextlib.suppress(Exception):
        await nc.request(subject, bytes(20_000), timeout=0.5)
