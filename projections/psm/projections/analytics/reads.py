"""Rows of analytics as they stand in the views."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from psm.projections.sql import load

READS = load("psm.projections.analytics", "reads")
"""The statements of `reads.sql`, by name."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_Row = TypeVar("_Row", bound=msgspec.Struct)


def nanoseconds(time: datetime) -> int:
    """Return a time of PostgreSQL, which has microseconds, as log time."""
    return (time - _EPOCH) // _MICROSECOND * 1000


def as_time(time_ns: int) -> datetime:
    """Return a log time as PostgreSQL has it."""
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


def row_of(struct: type[_Row], record: Mapping[str, Any]) -> _Row:
    """Return what a record says; its times become log times."""
    given = {name: record[name] for name in struct.__struct_fields__}
    return struct(
        **{
            name: nanoseconds(value) if isinstance(value, datetime) else value
            for name, value in given.items()
        }
    )
