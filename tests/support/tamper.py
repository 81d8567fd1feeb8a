"""Damage done to the store of a stopped NATS server, as a disk or a wrong restore would do it.

Every function says how much really changed, so that no test passes on a store that is whole.
"""

from __future__ import annotations

import shutil
from pathlib import Path


def store(folder: Path, stream: str) -> Path:
    """Return the folder of one stream in the data folder of an embedded server."""
    (found,) = folder.glob(f"jetstream/*/streams/{stream}")
    return found


def cut_tail(folder: Path, stream: str, part: float) -> int:
    """Cut the last block of a stream off at a part of its length; return the bytes that went."""
    block = _blocks(folder, stream)[-1]
    whole = block.stat().st_size
    with block.open("r+b") as file:
        file.truncate(int(whole * part))
    return whole - block.stat().st_size


def flip_bit(folder: Path, stream: str, within: bytes) -> int:
    """Flip one bit of the stored text `within`; return how many blocks had it, which must be 1."""
    changed = 0
    for block in _blocks(folder, stream):
        data = bytearray(block.read_bytes())
        at = data.find(within)
        if at >= 0:
            data[at + len(within) // 2] ^= 1
            block.write_bytes(data)
            changed += 1
    return changed


def forget_index(folder: Path, stream: str) -> None:
    """Delete what the server keeps beside the blocks, as after a crash before it was written."""
    for file in (store(folder, stream) / "msgs").iterdir():
        if file.suffix != ".blk":
            file.unlink()


def keep(folder: Path, copy: Path, *streams: str) -> None:
    """Copy streams of a stopped server."""
    for stream in streams:
        shutil.copytree(store(folder, stream), copy / stream)


def put_back(folder: Path, copy: Path, *streams: str) -> None:
    """Replace streams of a stopped server by what was kept of them."""
    for stream in streams:
        place = store(folder, stream)
        shutil.rmtree(place)
        shutil.copytree(copy / stream, place)


def replace_messages(source: Path, folder: Path, stream: str) -> None:
    """Replace what a stopped server stored of a stream by what another server stored of it."""
    place = store(folder, stream) / "msgs"
    shutil.rmtree(place)
    shutil.copytree(store(source, stream) / "msgs", place)


def _blocks(folder: Path, stream: str) -> list[Path]:
    blocks = (store(folder, stream) / "msgs").glob("*.blk")
    return sorted(blocks, key=lambda block: int(block.stem))
