"""`.env`: variables for PSM in a file of the folder in which it is started.

`NAME=value` a line, as `docker compose` and shells write it: `export` in front, quotes around and
a comment behind may stand. Nothing is substituted. Lines of other programs are passed over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from psm.contracts.errors import ConfigError

ENV_FILE = "PSM_ENV_FILE"
NO_FILE = os.devnull
"""What `PSM_ENV_FILE` is for processes that are told everything."""

_OURS = re.compile(r"\s*(?:export\s+)?((?:PSM_\w*|NATS_URL|POSTGRES_DSN)(?:_FILE)?)\b(.*)")
_VALUE = re.compile(
    r"""\s*=\s*(?:'([^']*)'|"([^"]*)"|([^'"\s#]\S*(?:\s+[^\s#]\S*)*|))(?:\s+\#.*|\s*)"""
)


def read_env_file(env: Mapping[str, str]) -> tuple[Path | None, dict[str, str]]:
    """Return the file, and the variables of PSM in it; nothing if there is no file.

    Raises:
        ConfigError: it cannot be read, or a line is no assignment; no value is told.
    """
    named = env.get(ENV_FILE)
    path = Path(named or ".env")
    if not named and not path.is_file():
        return None, {}
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigError(f"{path}: cannot be read: {reason}") from None
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        ours = _OURS.fullmatch(line)
        if ours is None:
            continue
        value = _VALUE.fullmatch(ours[2])
        if value is None:
            raise ConfigError(f"{path}, line {number}: expected {ours[1]}=value")
        values[ours[1]] = next((part for part in value.groups() if part is not None), "")
    return path, values
