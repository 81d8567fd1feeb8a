"""Contexts: services that somebody asks over HTTP, by name, each with the file of its token."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from psm.adapters.secret_files import write_whole
from psm.contracts.errors import ConfigError
from psm.workers.process.running import state_folder

VARIABLE = "PSM_CONTEXT"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FILE, _TOKENS = "contexts.json", "tokens"


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """A service, and the file that holds the token for it; None: it asks for none."""

    url: str
    token_file: str | None = None


class Contexts(msgspec.Struct, kw_only=True):
    """What somebody can ask, and what is asked unless PSM_CONTEXT names another."""

    current: str | None = None
    named: dict[str, Context] = msgspec.field(default_factory=dict)

    def chosen(self) -> Context | None:
        """Return the context in use; None where there is none.

        Raises:
            ConfigError: PSM_CONTEXT names none.
        """
        name = os.environ.get(VARIABLE) or self.current
        return None if name is None else self.one(name)

    def one(self, name: str) -> Context:
        """Return a context by its name; a ConfigError where there is none."""
        if name not in self.named:
            listed = ", ".join(sorted(self.named)) or "none"
            raise ConfigError(f"there is no context {name[:64]!r}, but {listed}")
        return self.named[name]


def read_contexts() -> Contexts:
    """Return the contexts of the system's user.

    Raises:
        ConfigError: their file cannot be read.
    """
    folder = _folder()
    if folder is None or not (folder / _FILE).exists():
        return Contexts()
    try:
        return msgspec.json.decode((folder / _FILE).read_bytes(), type=Contexts)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{folder / _FILE} cannot be read: {error}") from error


def keep_context(name: str, context: Context) -> None:
    """Add or change a context, and use it.

    Raises:
        ConfigError: there can be no such name, or nothing can be kept.
    """
    if _NAME.fullmatch(name) is None:
        raise ConfigError(f"{name[:64]!r} names no context: letters, digits and . _ -")
    found = read_contexts()
    found.named[name] = context
    found.current = name
    _write(found)


def use_context(name: str | None) -> None:
    """Ask a service from now on, None: none; a ConfigError where there is no such context."""
    found = read_contexts()
    if name is not None:
        found.one(name)
    found.current = name
    _write(found)


def keep_token(name: str, token: str) -> Path:
    """Keep a token in a file that only its user may read; return the file.

    Raises:
        ConfigError: nothing can be kept.
    """
    folder = _needed() / _TOKENS
    file = folder / name
    _replace(file, f"{token}\n".encode())
    return file


def _write(contexts: Contexts) -> None:
    _replace(_needed() / _FILE, msgspec.json.format(msgspec.json.encode(contexts)) + b"\n")


def _replace(file: Path, data: bytes) -> None:
    """Write a file for its user alone: whole, or not at all."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(file, data, 0o600)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from error


def _needed() -> Path:
    folder = _folder()
    if folder is None:
        raise ConfigError("this user has no home to keep contexts in: set PSM_URL instead")
    return folder


def _folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    folder = state_folder(environment)
    return None if folder is None else folder / "psm"
