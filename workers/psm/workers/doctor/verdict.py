"""A number against its limits, in the line and exit code that monitoring systems read."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import msgspec


class Level(IntEnum):
    """How it stands; the value is the exit code."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


class Reading(NamedTuple):
    """What was measured.

    Attributes:
        value: None where there is nothing to measure, which is fine.
        text: what it is about, for people.
    """

    value: float | None
    text: str


class CheckLine(msgspec.Struct, frozen=True, kw_only=True):
    """One result.

    Attributes:
        check: what was asked.
        level: of it.
        text: for people.
        value: None where there is none.
        unit, warning, critical: of the value.
    """

    check: str
    level: Level
    text: str
    value: float | None = None
    unit: str = ""
    warning: str = ""
    critical: str = ""

    def __str__(self) -> str:
        """Return `LEVEL - text | 'check'=value;warning;critical`; one line, whatever the text."""
        text = " ".join(self.text.replace("|", "/").split())
        line = f"{self.level.name} - {text}"
        if self.value is None:
            return line
        limits = f"{self.value:g}{self.unit};{self.warning};{self.critical}"
        return f"{line} | '{self.check}'={limits}"


def judged(
    check: str,
    measured: Reading,
    *,
    warning: float,
    critical: float,
    falling: bool,
    unit: str,
) -> CheckLine:
    """Return how a number stands; `falling` where it is bad to be small."""
    value = measured.value
    if value is None:
        return CheckLine(check=check, level=Level.OK, text=measured.text)

    def beyond(limit: float) -> bool:
        return value < limit if falling else value >= limit

    level = Level.OK
    if beyond(warning):
        level = Level.WARNING
    if beyond(critical):
        level = Level.CRITICAL
    colon = ":" if falling else ""
    return CheckLine(
        check=check,
        level=level,
        text=f"{value:g}{unit} {measured.text}",
        value=value,
        unit=unit,
        warning=f"{warning:g}{colon}",
        critical=f"{critical:g}{colon}",
    )
