"""Producers of some accounts alone, as commands take them."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from psm.adapters.jetstream.roles import Role, producer
from psm.contracts.errors import ConfigError

Producers = Annotated[
    tuple[str, ...],
    Parameter(
        negative="",
        consume_multiple=False,
        help="One more user, NAME=ACCOUNT,ACCOUNT: a publisher for these accounts alone.",
    ),
]


def producer_of(text: str) -> Role:
    """Return the role that `--producer` asks for.

    Raises:
        ConfigError: it is no NAME=ACCOUNT,ACCOUNT.
    """
    try:
        return producer(text)
    except ValueError as error:
        raise ConfigError(f"--producer {text}: {error}") from error
