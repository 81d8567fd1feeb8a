"""The query parameters of each route: which there are, how they are read, what OpenAPI says.

A parameter that nobody knows, or that would have no effect, is refused: whoever misspelt
`at_sequence` must not be told the present.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request

from psm.contracts.codec import is_timestamp
from psm.contracts.flags import FLAGS
from psm.contracts.reasons import REASONS
from psm.workers.api.reads import (
    ACCOUNT_ORDERS,
    ACCOUNTS_DEFAULT,
    ACCOUNTS_MAX,
    WAIT_DEFAULT_S,
    WAIT_MAX_S,
)
from psm.workers.archive.reads import LIMIT_DEFAULT, LIMIT_MAX

_INTEGER_MAX = 2**63 - 1
_DIGITS_MAX = len(str(_INTEGER_MAX))

NUMBER: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": _INTEGER_MAX}
TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
TEXT: dict[str, Any] = {"type": "string"}
HASH: dict[str, Any] = {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"}


class ParameterError(ValueError):
    """A query parameter that cannot be read, is not known here, or means nothing."""


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One query parameter.

    Attributes:
        name: as it is written.
        description: in OpenAPI.
        schema: in OpenAPI.
        needs: parameters of which one must be given too, or this one has no effect.
        required: whether there is no answer without it.
    """

    name: str
    description: str
    schema: dict[str, Any]
    needs: tuple[str, ...] = ()
    required: bool = False

    def document(self) -> dict[str, Any]:
        """Return what OpenAPI says of it."""
        return {
            "name": self.name,
            "in": "query",
            "description": self.description,
            "required": self.required,
            "schema": self.schema,
        }


def _log_time(*needs: str) -> Parameter:
    return Parameter(
        name="log_time",
        description="Times are the log's (what was known then), not the events'.",
        schema={"type": "boolean", "default": False},
        needs=needs,
    )


def _timeout(*needs: str) -> Parameter:
    return Parameter(
        name="timeout_s",
        description="How long to wait for it at most.",
        schema=_WAIT,
        needs=needs,
    )


_WAIT = {"type": "number", "minimum": 0, "maximum": WAIT_MAX_S, "default": WAIT_DEFAULT_S}
READ_PARAMETERS = (
    Parameter(
        name="at_sequence",
        description="The past: after the event of this number.",
        schema=NUMBER,
    ),
    Parameter(
        name="at",
        description="The past: before the first event later than this time.",
        schema=TIME,
    ),
    _log_time("at"),
    Parameter(
        name="min_sequence",
        description="Wait until the view, or live the owner, has this version of the account.",
        schema=NUMBER,
    ),
    Parameter(
        name="live",
        description="Ask the worker that folds the account: at the marks of this moment, of one "
        "moment, with `as_of`.",
        schema={"type": "boolean", "default": False},
    ),
    Parameter(
        name="min_log_sequence",
        description="Live: wait until the log is folded up to here; `as_of` is not lower.",
        schema=NUMBER,
        needs=("live",),
    ),
    _timeout("min_sequence", "min_log_sequence"),
)
RECONCILIATION_PARAMETERS = (
    Parameter(
        name="min_log_sequence",
        description="Wait for the answer to the report at this log sequence, or to a later one.",
        schema=NUMBER,
    ),
    _timeout("min_log_sequence"),
)
VERIFY_PARAMETERS = (
    Parameter(
        name="sequence",
        description="After the event of this number.",
        schema=NUMBER,
        required=True,
    ),
    Parameter(
        name="ledger_hash",
        description="The hash that the caller kept.",
        schema=HASH,
        required=True,
    ),
)
REPLAY_PARAMETERS = (
    Parameter(name="from_sequence", description="First number.", schema=NUMBER),
    Parameter(name="to_sequence", description="Last number.", schema=NUMBER),
    Parameter(
        name="from",
        description="Begin with the first event not earlier than this time.",
        schema=TIME,
    ),
    Parameter(
        name="to",
        description="End before the first event later than this time.",
        schema=TIME,
    ),
    _log_time("from", "to"),
)


def limit(most: int, default: int) -> Parameter:
    """Return the parameter that bounds a page."""
    return Parameter(
        name="limit",
        description="How many at most; a page may have fewer.",
        schema={"type": "integer", "minimum": 1, "maximum": most, "default": default},
    )


ACCOUNTS_PARAMETERS = (
    Parameter(
        name="sort",
        description="The most troubled first: the greatest drawdown, the greatest margin ratio "
        "(beyond all an equity that is used up), the least equity; or by account id.",
        schema={"type": "string", "enum": list(ACCOUNT_ORDERS), "default": ACCOUNT_ORDERS[0]},
    ),
    Parameter(
        name="flag",
        description="Only accounts with this flag.",
        schema={"type": "string", "enum": list(FLAGS)},
    ),
    Parameter(
        name="after",
        description="The `next` of the page before, with the same sort and flag.",
        schema=TEXT,
    ),
    limit(ACCOUNTS_MAX, ACCOUNTS_DEFAULT),
)
EVENTS_PARAMETERS = (
    Parameter(name="from_sequence", description="The first archive_sequence.", schema=NUMBER),
    Parameter(name="to_sequence", description="The last archive_sequence.", schema=NUMBER),
    Parameter(
        name="stream_id", description="Only events of this account or portfolio.", schema=TEXT
    ),
    Parameter(name="event_type", description="Only events of this type.", schema=TEXT),
    limit(LIMIT_MAX, LIMIT_DEFAULT),
)
MESSAGE_PARAMETERS = (
    Parameter(name="offset", description="Where to begin.", schema=NUMBER | {"minimum": 0}),
)

REFUSALS_PARAMETERS = (
    Parameter(
        name="account",
        description="Only of this account, or of this symbol of marks.",
        schema=TEXT,
    ),
    Parameter(name="since", description="Only since this UTC time.", schema=TIME),
    Parameter(
        name="reason",
        description="Only with this code.",
        schema={"type": "string", "enum": sorted(REASONS)},
    ),
    Parameter(
        name="before",
        description="The psm_sequence with which the page before ended.",
        schema=NUMBER,
    ),
    limit(LIMIT_MAX, LIMIT_DEFAULT),
)


def check_parameters(request: Request, known: Sequence[Parameter]) -> None:
    """Make sure that every query parameter of a request means something.

    Raises:
        ParameterError: one is unknown, given twice, missing, or without effect.
    """
    given = [name for name, _ in request.query_params.multi_items()]
    names = [parameter.name for parameter in known]
    for name in given:
        if name not in names:
            raise ParameterError(_unknown(name, names))
        if given.count(name) > 1:
            raise ParameterError(f"{name} is given more than once")
    for parameter in known:
        if parameter.required and parameter.name not in given:
            raise ParameterError(f"{parameter.name} is missing: {parameter.description}")
        if parameter.name in given and parameter.needs and not set(parameter.needs) & set(given):
            needed = " or ".join(parameter.needs)
            raise ParameterError(f"{parameter.name} has no effect without {needed}")


def _unknown(name: str, names: Sequence[str]) -> str:
    shown = name[:64]
    near = difflib.get_close_matches(shown.lower(), names, n=1, cutoff=0.6)
    if near:
        return f"{shown!r} is not a parameter here; did you mean {near[0]}?"
    listed = f"there are {', '.join(names)}" if names else "there are none"
    return f"{shown!r} is not a parameter here; {listed}"


def integer(request: Request, name: str, *, least: int = 1, most: int = _INTEGER_MAX) -> int | None:
    """Return a query parameter that is a number from `least` to `most`, None if it is not given."""
    text = request.query_params.get(name)
    if text is None:
        return None
    is_number = text.isascii() and text.isdecimal() and len(text) <= _DIGITS_MAX
    if not is_number or not least <= int(text) <= most:
        raise ParameterError(f"{name} must be an integer from {least} to {most}")
    return int(text)


def timestamp(request: Request, name: str) -> str | None:
    """Return a query parameter that is a UTC time, None if it is not given."""
    text = request.query_params.get(name)
    if text is not None and not is_timestamp(text):
        raise ParameterError(f"{name} must be a UTC time such as 2025-12-12T10:30:00Z")
    return text


def flag(request: Request, name: str) -> bool:
    """Return a query parameter that is true or false; false if it is not given."""
    text = request.query_params.get(name, "false")
    if text not in ("true", "false", "1", "0"):
        raise ParameterError(f"{name} must be true or false")
    return text in ("true", "1")


def seconds(request: Request, name: str, default: float, most: float) -> float:
    """Return a query parameter that is a number of seconds, the default if it is not given."""
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise ParameterError(f"{name} must be a number of seconds from 0 to {most:g}")
    return value


def choice(request: Request, name: str, choices: Sequence[str], default: str | None = None) -> Any:
    """Return a query parameter that is one of some words, the default if it is not given."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if text not in choices:
        near = difflib.get_close_matches(text[:64], choices, n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ParameterError(f"{name} must be one of {', '.join(choices)}{hint}")
    return text


def text_of(request: Request, name: str) -> str | None:
    """Return a query parameter that is any text PostgreSQL can hold, None if it is not given."""
    text = request.query_params.get(name)
    return None if text is None else clean(name, text)


def clean(name: str, text: str) -> str:
    """Return a text of a request.

    Raises:
        ParameterError: it holds a character that nothing here has.
    """
    if "\0" in text:
        raise ParameterError(f"{name} holds a character that no event has")
    return text
