"""The nodes of an explanation."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from psm.contracts.errors import InvariantError
from psm.domain.money import add_wide, exact_text


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One number and why it is that number.

    Attributes:
        figure: what it is, such as `cash.USDT` or `event 3 TradeExecuted`.
        value: exact, as text; None where it does not compute.
        rule: how it follows from its children, in words.
        arithmetic: the same with the figures put in.
        sequence_number, log_sequence, event_id, timestamp: of the event, where it is one.
        children: what it follows from.
    """

    figure: str
    value: str | None
    rule: str
    arithmetic: str | None = None
    sequence_number: int | None = None
    log_sequence: int | None = None
    event_id: str | None = None
    timestamp: str | None = None
    children: tuple[Node, ...] = ()


def leaf(figure: str, value: Decimal | None, rule: str) -> Node:
    """Return a number that is given, not computed."""
    return Node(figure=figure, value=None if value is None else exact_text(value), rule=rule)


def sum_of(figure: str, value: Decimal, rule: str, children: Iterable[Node]) -> Node:
    """Return a number that is the sum of its children.

    Raises:
        InvariantError: they do not add up to it.
    """
    parts = tuple(children)
    total = Decimal(0)
    for part in parts:
        total = add_wide(total, Decimal(part.value or "0"))
    if total != value:
        raise InvariantError(
            f"{figure} is {exact_text(value)}, but its parts add up to {exact_text(total)}"
        )
    return Node(
        figure=figure,
        value=exact_text(value),
        rule=rule,
        arithmetic=" + ".join(bracketed(part.value or "0") for part in parts) or None,
        children=parts,
    )


def bracketed(text: str) -> str:
    """Return a number as it stands behind a sign: in brackets below zero."""
    return f"({text})" if text.startswith("-") else text
