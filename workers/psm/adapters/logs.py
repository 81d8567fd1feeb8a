"""Structured logs: one JSON object a line on stderr, with names that stay.

An event name is a literal, `noun.past_verb`; what varies is a field. `docs/log-events.md` lists all
of them, collected from the sources. Times are UTC. A log line carries the trace it belongs to.
Passwords in addresses, and tokens wherever somebody put them, are cut out, in every field.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, BinaryIO, Literal, cast

import msgspec
import structlog

from psm.adapters.terminal import is_plain, printable
from psm.adapters.tracing import current_trace_id

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "console"]
Event = MutableMapping[str, Any]

_SEVERITY = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_level: Level = "info"
_USERINFO = re.compile(r"(?<=://)[^/\s@]+@")
_SECRET_NAME = re.compile(r"(?i)password|passwd|token|secret|seed|dsn|credential|authorization")
_TOKEN = re.compile(r"(psm_[a-z0-9]{8})_[a-z0-9]{16,}")
_SECRET_FIELD = re.compile(r"(?i)\b(password|passwd|token|secret)=[^\s&]+")


def configure(
    level: Level = "info",
    format: Format = "auto",  # noqa: A002
    *,
    file: BinaryIO | None = None,
) -> None:
    """Send all logs of this process, also those of libraries, to `file`.

    Args:
        level: least severe lines to write.
        format: `auto` is `console` on a terminal and `json` elsewhere.
        file: binary stream; stderr by default.
    """
    stream = file if file is not None else sys.stderr.buffer
    console = format == "console" or (format == "auto" and stream.isatty())
    structlog.configure(
        processors=[
            _filter,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_trace,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            _redact,
            _console(stream) if console else _json,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.BytesLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    logging.getLogger().handlers[:] = [_Forward()]
    set_level(level)


def set_level(level: Level) -> None:
    """Write lines that are as severe as `level`, from now on; also of loggers that are there."""
    global _level
    _level = level
    logging.getLogger().setLevel(logging.DEBUG if level == "debug" else logging.WARNING)


def level() -> Level:
    """Return the level of the least severe lines that are written."""
    return _level


def get_logger(**fields: Any) -> structlog.typing.FilteringBoundLogger:
    """Return a logger that adds `fields` (such as `partition=3`) to each line."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger(**fields))


def _filter(_logger: Any, method: str, event: Event) -> Event:
    # Not by the class of loggers: those that are bound keep theirs.
    if _SEVERITY.get(method, logging.ERROR) < _SEVERITY[_level]:
        raise structlog.DropEvent
    return event


def _add_trace(_logger: Any, _method: str, event: Event) -> Event:
    trace_id = current_trace_id()
    if trace_id is not None:
        event.setdefault("trace_id", trace_id)
    return event


def _redact(_logger: Any, _method: str, event: Event) -> Event:
    for name, value in event.items():
        if _SECRET_NAME.search(name):
            event[name] = "***"
        elif isinstance(value, str):
            event[name] = redacted(value)
        elif isinstance(value, BaseException):
            event[name] = redacted(f"{type(value).__name__}: {value}")
    return event


def redacted(text: str) -> str:
    """Return `text` without the user part of addresses, `password=...`, and secrets of tokens."""
    if "@" in text:
        text = _USERINFO.sub("***@", text)
    if "psm_" in text:
        text = _TOKEN.sub(r"\1_***", text)
    return _SECRET_FIELD.sub(r"\1=***", text) if "=" in text else text


def _json(_logger: Any, _method: str, event: Event) -> bytes:
    head = {name: event.pop(name, None) for name in ("timestamp", "level", "event")}
    return msgspec.json.encode(head | dict(event), enc_hook=str)


def _console(stream: BinaryIO) -> Any:
    render = structlog.dev.ConsoleRenderer(colors=stream.isatty() and not is_plain())

    def rendered(logger: Any, method: str, event: Event) -> bytes:
        shown = {n: printable(v) if isinstance(v, str) else v for n, v in event.items()}
        return render(logger, method, shown).encode()

    return rendered


class _Forward(logging.Handler):
    """Hands the lines of the standard library's loggers on as structured ones."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"library": record.name, "message": record.getMessage()}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        get_logger().log(min(record.levelno, logging.ERROR), "library.logged", **fields)
