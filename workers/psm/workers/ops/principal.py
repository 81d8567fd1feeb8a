"""Who acts, by pseudonym: records of what people did are kept for ever and shall name nobody.

The pseudonym is random and kept in a file of the person's own; whose it is the house knows, in a
list that can be erased. It follows from nothing, so it cannot be guessed back either.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from psm.contracts.errors import ConfigError
from psm.workers.process.running import state_folder

VARIABLE = "PSM_ACTOR"
_FILE = Path("psm") / "principal"
_PSEUDONYM = re.compile(r"p-[0-9a-f]{16}")


def principal() -> str:
    """Return who runs this process: PSM_ACTOR, else the pseudonym of the system's user.

    Raises:
        ConfigError: the user has none, and no place to keep one.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return named
    folder = state_folder(os.environ)
    if folder is None:
        raise ConfigError(f"nobody is logged in here: say who acts with --actor or {VARIABLE}")
    file = folder / _FILE
    try:
        return _kept(file) or _made(file)
    except OSError as error:
        raise ConfigError(
            f"no pseudonym can be kept in {file} ({error.strerror}): say who acts with --actor or "
            f"{VARIABLE}"
        ) from error


def _kept(file: Path) -> str | None:
    try:
        text = file.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None
    if _PSEUDONYM.fullmatch(text) is None:
        raise ConfigError(f"{file} holds no pseudonym: remove it, or set {VARIABLE}")
    return text


def _made(file: Path) -> str:
    """Keep a new pseudonym; another process may be doing the same."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = f"p-{secrets.token_hex(8)}"
    beside = file.with_name(f"{file.name}.{made}")
    beside.touch(mode=0o600)
    beside.write_text(f"{made}\n", encoding="utf-8")
    try:
        os.link(beside, file)  # whole or not at all, and never over another one
    except FileExistsError:
        return _kept(file) or made
    finally:
        beside.unlink()
    return made
