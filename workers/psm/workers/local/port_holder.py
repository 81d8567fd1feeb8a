"""Who has a port: so that "taken" comes with a name."""

from __future__ import annotations

from pathlib import Path

_LISTENING = "0A"


def holder_of(port: int) -> str | None:
    """Return process id and command of what listens on a TCP port, as far as this user may see.

    Linux only; elsewhere, and for another user's program, None.
    """
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    for process in Path("/proc").glob("[0-9]*") if sockets else ():
        try:
            if any(_target(entry) in sockets for entry in (process / "fd").iterdir()):
                words = (process / "cmdline").read_bytes().split(b"\0")
                name = b" ".join(words).decode(errors="replace").strip()
                return f"process {process.name} ({name[:60]})"
        except OSError:  # gone meanwhile, or another user's
            continue
    return None


def _listening(port: int) -> set[str]:
    """Return the inodes of sockets that listen on the port."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            rows = Path("/proc/net", table).read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            _, local, _, state, *_, inode = row.split()[:10]
            if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                inodes.add(inode)
    return inodes


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        return ""
