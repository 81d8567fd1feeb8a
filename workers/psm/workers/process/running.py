"""The `psm up` that runs here: how commands of the same user find it without being told.

It announces itself in a file that only its user may read, because a database password is in it,
and holds a lock on it while it runs: what a killed one left behind is found by nobody.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

_FILE = "psm-up.json"
_TRIES = 50  # a command may just be looking
_TRY_S = 0.02


class Announcement(Struct, frozen=True, kw_only=True):
    """What a running `psm up` says of itself."""

    nats_url: str
    postgres_dsn: str
    http_url: str
    data_dir: str
    partitions: int
    pid: int
    admin_token: str | None = None
    nats_monitoring_url: str = ""
    metrics: dict[str, str] = {}
    """Address of the metrics of each part."""

    operator: dict[str, str] = {}
    """Variables with which commands connect to NATS: its password is in a file that one names."""


def state_folder(env: Mapping[str, str]) -> Path | None:
    """Return where programs of this user keep state; None for a user without a home."""
    if env.get("XDG_STATE_HOME"):
        return Path(env["XDG_STATE_HOME"]).expanduser()
    return Path(env["HOME"]) / ".local" / "state" if env.get("HOME") else None


def find_running(env: Mapping[str, str]) -> Announcement | None:
    """Return what the running `psm up` of this user announced; None if there is none."""
    folder = state_folder(env)
    if folder is None:
        return None
    try:
        descriptor = os.open(folder / _FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            return None  # whoever wrote it could send this user anywhere
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:  # it is held, so there is somebody
            try:
                return msgspec.json.decode(file.read(), type=Announcement)
            except msgspec.DecodeError:  # being written, or of another version
                return None
    return None


@contextmanager
def announced(said: Announcement) -> Iterator[bool]:
    """Let commands find this `psm up` during the block; False if they find another one."""
    folder = state_folder(os.environ)
    descriptor = None if folder is None else _taken(folder)
    if descriptor is None:
        yield False
        return
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, msgspec.json.encode(said), 0)
        yield True
    finally:
        os.ftruncate(descriptor, 0)
        os.close(descriptor)


def _taken(folder: Path) -> int | None:
    """Return the file, open and locked; None if another `psm up` has it or it cannot be used."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(folder / _FILE, flags, 0o600)
    except OSError:
        return None
    os.fchmod(descriptor, 0o600)
    for _ in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(_TRY_S)
        else:
            return descriptor
    os.close(descriptor)
    return None
