"""What is told of one setting: its description, and its value with what is secret blanked out."""

from __future__ import annotations

from typing import Any, get_args, get_origin
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

REDACTED = "***"


class About(Struct, frozen=True, kw_only=True):
    """What the documentation says of one setting.

    Attributes:
        name: field of `Settings`, and key in psm.toml.
        env: environment variable.
        group: heading it belongs under.
        help: one sentence.
        default: as written in an environment variable; None when there is none.
        secret: whether its value is never shown; then `<env>_FILE` is read too.
        type: the annotated type to convert to.
        choices: the only values allowed; empty when free.
    """

    name: str
    env: str
    group: str
    help: str
    default: str | None
    secret: bool
    type: Any
    choices: tuple[str, ...]

    @property
    def is_list(self) -> bool:
        """Whether it has several values, in a variable with commas between them."""
        return get_origin(get_args(self.type)[0]) is tuple


def written(value: Any) -> str:
    """Return `value` as it is written in an environment variable."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def public_value(field: About, value: Any) -> Any:
    """Return the value of a setting as it may be shown."""
    if field.secret:
        return None if value is None else REDACTED
    if field.name == "nats_url":
        return ",".join(map(_without_password, value.split(",")))
    return _without_password(value) if field.name == "otlp_endpoint" and value else value


def _without_password(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return REDACTED
    if "@" not in parts.netloc:
        return url.strip()
    return urlunsplit(parts._replace(netloc=f"{REDACTED}@{parts.netloc.rpartition('@')[2]}"))
