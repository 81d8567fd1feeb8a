"""SQL that follows from the fields of updates: rendered, so no list of columns is kept twice.

Rows travel as one JSON array whose keys are columns; numerics travel as strings, so exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import fill

import msgspec

from psm.contracts.updates import TOLD_ONCE, is_amounts, is_decimal

ENVELOPE_COLUMNS = ("log_time", "correlation_id", "causation_id", "trace_id")
"""Columns that a row has from the envelope and the headers of its update."""

_UPSERT = """
INSERT INTO {table} (
{columns}
)
SELECT
{columns}
FROM json_populate_recordset(NULL::{table}, $1::json)
ON CONFLICT ({key}) DO UPDATE SET (
{changed}
) = ROW (
{new}
)
""".strip()

_DELETE = """
DELETE FROM {table}
USING json_to_recordset($1::json) AS gone ({columns})
WHERE {same}
""".strip()

_SORTED = """
(
    SELECT coalesce(json_object_agg(e.key, e.value ORDER BY e.key COLLATE "C"), '{{}}')
    FROM jsonb_each({column}) AS e
)
""".strip()

_AS_OF = """
'as_of', json_build_object(
    'log_sequence', {alias}.log_sequence,
    'time', to_char({alias}.log_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
)
""".strip()

_WIDTH = 96


def columns_of(payload: type[msgspec.Struct], key: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a view of this update: the key, the other fields, the envelope's."""
    left_out = (*key, *TOLD_ONCE)
    fields = (name for name in payload.__struct_encode_fields__ if name not in left_out)
    return (*key, *fields, *ENVELOPE_COLUMNS)


def upsert(table: str, columns: Sequence[str], key: Sequence[str]) -> str:
    """Return the statement that inserts rows, and replaces those that have the same key.

    Args:
        table: name of the table.
        columns: names of all columns that the rows have.
        key: those that identify a row.
    """
    changed = [name for name in columns if name not in key]
    return _UPSERT.format(
        table=table,
        columns=_lines(columns),
        key=", ".join(key),
        changed=_lines(changed),
        new=_lines(f"excluded.{name}" for name in changed),
    )


def delete(table: str, key: Sequence[str]) -> str:
    """Return the statement that deletes the rows with the given keys, whose columns are texts."""
    return _DELETE.format(
        table=table,
        columns=", ".join(f"{name} text" for name in key),
        same=" AND ".join(f"{table}.{name} = gone.{name}" for name in key),
    )


def json_pairs(payload: type[msgspec.Struct], names: Sequence[str], alias: str) -> str:
    """Return arguments of `json_build_object`: columns by their name, decimals as exact texts.

    Args:
        payload: the update whose fields the columns are.
        names: of the columns.
        alias: of the table in the statement.
    """
    return ",\n".join(f"'{name}', {_json_value(payload, name, alias)}" for name in names)


def as_of_pair(alias: str) -> str:
    """Return arguments of `json_build_object`: which place of the log a row is as of.

    Args:
        alias: of the table in the statement.
    """
    return _AS_OF.format(alias=alias)


def _json_value(payload: type[msgspec.Struct], name: str, alias: str) -> str:
    column = f"{alias}.{name}"
    if is_amounts(payload, name):  # jsonb has an order of its own
        return _SORTED.format(column=column)
    return f"{column}::text" if is_decimal(payload, name) else column


def _lines(items: Iterable[str]) -> str:
    return fill(", ".join(items), _WIDTH, initial_indent="    ", subsequent_indent="    ")
