"""The settings as they were given, wrong ones left out, and the commands that change one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from psm.contracts.errors import ConfigError
from psm.workers.process.config import load_settings
from psm.workers.process.env_file import ENV_FILE, NO_FILE, read_env_file
from psm.workers.process.settings import Settings, about

_NAME = re.compile(r"\b(?:PSM_[A-Z0-9_]+|NATS_URL|POSTGRES_DSN(?:_FILE)?)\b")
_BOTH = re.compile(r"(\w+) and (\w+) are both set")
_MEANT = re.compile(r"(\w+) is not a setting; did you mean (\w+)\?")


class Given:
    """The settings of this place, as good as they can be read.

    Attributes:
        env: the variables.
        settings: with what is wrong left out; None where not even that can be read.
        problems: what is wrong, one sentence each.
        env_file: the `.env` that was read; None without one.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self.problems: list[str] = []
        self.settings: Settings | None = None
        self.env_file: Path | None = None
        self._in_file: dict[str, str] = {}
        try:
            self.env_file, self._in_file = read_env_file(env)
        except ConfigError:  # it is one of the problems below
            self.env_file = Path(env.get(ENV_FILE) or ".env")
        try:
            self.settings = load_settings(env)
        except ConfigError as error:
            self.problems = [line.strip() for line in str(error).splitlines()[1:]]
            self.settings = self._without(self.problems)

    def _without(self, problems: list[str]) -> Settings | None:
        """Return the settings without what the problems name."""
        wrong = {name for problem in problems for name in self.wrong_names(problem)}
        left = {name: value for name, value in self.variables.items() if name not in wrong}
        try:
            return load_settings({**left, ENV_FILE: NO_FILE})
        except ConfigError:
            return None

    def wrong_names(self, problem: str) -> list[str]:
        """Return the variables that a problem is about and that can be left out."""
        if both := _BOTH.match(problem):
            return [both[2]]
        return _NAME.findall(problem.partition("; did you mean")[0])

    def command_for(self, problem: str) -> str:
        """Return what mends a problem of the settings."""
        if meant := _MEANT.match(problem):
            return self.renaming(meant[1], meant[2])
        if both := _BOTH.match(problem):
            return self.unsetting(both[2])
        if names := [name for name in self.wrong_names(problem) if self.is_given(name)]:
            return self.unsetting(names[0])
        return "psm config check"

    @property
    def variables(self) -> dict[str, str]:
        """Variables that are given, in the environment or in `.env`."""
        return {**self._in_file, **self.env}

    @property
    def env_file_has_secrets(self) -> bool:
        """Whether a password or token stands in `.env` itself."""
        secret = {field.env for field in about() if field.secret}
        return any(value for name, value in self._in_file.items() if name in secret)

    def is_given(self, name: str) -> bool:
        """Whether a variable is set, here or in `.env`."""
        return name in self.variables

    def setting(self, name: str, value: str) -> str:
        """Return the command that sets a variable where it is set now, else in `.env`."""
        if name not in self._in_file and (name in self.env or self.env_file is None):
            return f"export {name}={shlex.quote(value)}"
        file = shlex.quote(str(self.env_file))
        if name in self._in_file:
            return f"sed -i -E {shlex.quote(f's|^(export +)?{name} *=.*|{name}={value}|')} {file}"
        return f"echo {shlex.quote(f'{name}={value}')} >> {file}"

    def unsetting(self, name: str) -> str:
        """Return the command that takes a variable away."""
        if name in self.env:
            return f"unset {name}"
        return f"sed -i -E '/^(export +)?{name} *=/d' {shlex.quote(str(self.env_file or '.env'))}"

    def renaming(self, name: str, other: str) -> str:
        """Return the command that gives the value of a variable to another one."""
        if name in self.env:
            return f'export {other}="${name}"; unset {name}'
        file = shlex.quote(str(self.env_file or ".env"))
        return f"sed -i -E 's/^(export +)?{name} *=/{other}=/' {file}"
