"""The data folder of the embedded servers: recognised as ours, and leased to one supervisor.

The lease is a `flock`, which the operating system lets go with its last holder. The servers
inherit it, so a folder counts as free only when no server of a crashed supervisor uses it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

from psm.contracts.errors import ConfigError

_MARKER = "psm-data.txt"
_FORMAT = "psm data folder, format 1\n"
_LOCK = "lock"
_HANDOVER_S = 15.0  # how long servers of a killed supervisor may take to end


class DataFolder:
    """A folder that belongs to this process until `release`.

    Attributes:
        path: the folder, absolute.
        lease: file descriptor that holds the lease; servers inherit it.
    """

    def __init__(self, path: Path, lease: int) -> None:
        self.path = path
        self.lease = lease

    @classmethod
    def claim(cls, path: Path) -> DataFolder:
        """Make or open the folder and take its lease.

        Raises:
            ConfigError: it is no folder, not ours, not writable, or in use.
        """
        path = path.expanduser().absolute()
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"data folder {str(path)!a}: its name is no UTF-8. Name another --data-dir"
            ) from error
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _recognise(path)
            lease = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except (FileExistsError, NotADirectoryError) as error:
            raise ConfigError(
                f"data folder {path}: it, or a part of its path, is a file. Name another --data-dir"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"data folder {path}: {(error.strerror or 'cannot be opened').lower()} "
                f"({error.filename}). Give this user the right to write there, or name another "
                "--data-dir"
            ) from error
        try:
            _lock(path, lease)
        except BaseException:
            os.close(lease)
            raise
        return cls(path, lease)

    def release(self) -> None:
        """Let go of the lease; a child that inherited it still holds it."""
        os.close(self.lease)


def _recognise(path: Path) -> None:
    """Refuse a folder that holds something else; mark an empty one as ours."""
    marker = path / _MARKER
    if marker.exists():
        found = marker.read_text()
        if found != _FORMAT:
            raise ConfigError(
                f"data folder {path}: written by another version of PSM ({found.strip()!r}). Start "
                "that version, or name another --data-dir"
            )
    elif any(path.iterdir()):
        raise ConfigError(
            f"data folder {path}: holds files that are not PSM's ({_MARKER} is missing). Name an "
            "empty or new folder as --data-dir"
        )
    else:
        marker.write_text(_FORMAT)


def _lock(path: Path, lease: int) -> None:
    """Take the lease; wait a moment if only the servers of a dead supervisor still hold it."""
    deadline = time.monotonic() + _HANDOVER_S
    while True:
        try:
            fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(lease, 32, 0).decode(errors="replace").strip()
            if _is_alive(holder) or time.monotonic() > deadline:
                raise ConfigError(
                    f"data folder {path}: in use by another psm (process {holder or 'unknown'}). "
                    "Stop that one first, or name another --data-dir"
                ) from error
            time.sleep(0.05)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
                raise
            raise ConfigError(
                f"data folder {path}: its file system cannot lock files. Name a --data-dir on a "
                "local disk"
            ) from error
        else:
            os.ftruncate(lease, 0)
            os.pwrite(lease, f"{os.getpid()}\n".encode(), 0)
            return


def _is_alive(pid: str) -> bool:
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
