"""Figures as people read them, each with its exact text beside it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from html import escape

from psm.domain.money import exact_text

Shown = Callable[[Decimal], str]
_HUNDRED = Decimal(100)


def percent(value: Decimal) -> str:
    """Return a fraction as per cent."""
    return f"{_plain(value * _HUNDRED, 2)} %"


def bare_percent(value: Decimal) -> str:
    """Return a fraction as per cent, without the sign for it."""
    return _plain(value * _HUNDRED, 2)


def ratio(value: Decimal) -> str:
    """Return a number with two decimals."""
    return _plain(value, 2)


def money(value: Decimal) -> str:
    """Return an amount; small ones keep their leading digits."""
    small = 0 < abs(value) < 1
    return f"{value:.4g}" if small else _plain(value, 2)


def seconds(value: Decimal) -> str:
    """Return a duration in the unit that fits."""
    for name, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if value >= length:
            return f"{_plain(value / length, 1)} {name}"
    return f"{_plain(value, 1)} s"


def count(value: Decimal) -> str:
    """Return a whole number."""
    return f"{value:,.0f}"


def short_time(text: str) -> str:
    """Return an RFC 3339 time as people read it, to the minute; anything else as it is."""
    return f"{text[:10]} {text[11:16]}" if text[10:11] == "T" else text


SHOWN: dict[str, Shown] = {
    "percent": percent,
    "ratio": ratio,
    "money": money,
    "seconds": seconds,
    "count": count,
}
"""By the word of `MetricFormula.shown`."""


def data(value: Decimal | int | None, shown: Shown) -> str:
    """Return a figure as HTML: rounded for the eye, exact for a program and as its tooltip."""
    if value is None:
        return '<span class="none" title="not defined">&ndash;</span>'
    exact = exact_text(value) if isinstance(value, Decimal) else str(value)
    sign = ' class="loss"' if value < 0 else ""
    text = escape(shown(Decimal(value)))
    return f'<data value="{escape(exact)}" title="{escape(exact)}"{sign}>{text}</data>'


def _plain(value: Decimal, places: int) -> str:
    """Return a number with thousands apart; what rounds to zero has no sign."""
    text = f"{value:,.{places}f}"
    return text.lstrip("-") if not text.strip("-0.,") else text
