"""Rates of exchange between assets, as the market's own marks give them. Know no account.

Of A in C it is the first that there is: spot A quoted in C, the inverse of spot C quoted in A, an
equity A quoted in C, a perpetual on base A quoted in C (linear with multiplier 1, or inverse), the
inverse of one on C quoted in A; then two such steps over a bridge. Within a kind the instrument
defined first counts that has a usable mark. A mark below zero is no rate; zero is one only as it
stands. What a perpetual says is its index price where its mark names one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Literal, cast

import msgspec

from psm.domain.market.instrument import Instrument
from psm.domain.market.tables import Market, pair_of
from psm.domain.money import ONE, multiply_wide, quotient, rounded_rate

BRIDGES = ("USDT", "USD", "BTC")
"""Assets that two steps may meet in, the first that gives both: a constant of the log."""

StepKind = Literal["spot", "equity", "linear_perp", "inverse_perp", "fill"]
"""What a step is made of: the mark of such an instrument, or the account's own last fill."""

DERIVATIVES: tuple[StepKind, ...] = ("linear_perp", "inverse_perp")
"""Kinds whose marks are near the price of their base, not the price itself."""

_RANKS = {
    ("spot", True): 0,
    ("spot", False): 1,
    ("equity", True): 2,
    ("linear_perp", True): 3,
    ("inverse_perp", True): 3,
    ("linear_perp", False): 4,
    ("inverse_perp", False): 4,
}
"""(Kind, whether its base is what is converted) -> its turn; others convert nothing."""
_UNRANKED = len(_RANKS)


class RateStep(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One step of a rate: numerator and denominator, so that a path is rounded once.

    Attributes:
        symbol: of the instrument.
        over, under: the rate is over / under; one of them is 1.
        inverted: whether it is one over the price.
    """

    symbol: str
    kind: StepKind
    over: Decimal
    under: Decimal
    inverted: bool

    @property
    def text(self) -> str:
        """The step in words, such as `1 / EURUSDT (spot)`."""
        return f"{'1 / ' if self.inverted else ''}{self.symbol} ({self.kind})"


Restated = Mapping[str, Decimal | None]
"""Marks as an account sees them after a split, by symbol; None: no rate until the next one."""

_AS_MARKED: Restated = {}


def _price(market: Market, instrument: Instrument, restated: Restated) -> Decimal | None:
    """Return what an instrument's current mark says for a rate: of a perpetual, its index."""
    if restated and instrument.symbol in restated:
        return restated[instrument.symbol]
    mark = market.marks.get(instrument.symbol)
    if mark is None:
        return None
    if mark.index_price is not None and instrument.kind in DERIVATIVES:
        return mark.index_price
    return mark.price


def market_rate(market: Market, asset: str, home: str | None) -> Decimal | None:
    """Return the value of one unit of `asset` in `home`; None where no mark says it."""
    if home is None:
        return None
    steps = market_steps(market, asset, home)
    return rate_of(steps) if steps else None


def rate_of(steps: Sequence[RateStep]) -> Decimal:
    """Return the rate that steps give, rounded once, to 34 significant digits."""
    over, under = steps[0].over, steps[0].under
    for step in steps[1:]:
        over, under = multiply_wide(over, step.over), multiply_wide(under, step.under)
    return rounded_rate(over) if under is ONE else quotient(over, under)


def rate_path(steps: Iterable[RateStep]) -> str:
    """Return the steps of a rate in words, each with its kind."""
    return " x ".join(step.text for step in steps)


def market_steps(
    market: Market, asset: str, home: str, restated: Restated = _AS_MARKED
) -> tuple[RateStep, ...]:
    """Return the step or the two steps of a rate; none where no marks say it."""
    if not market.pairs:
        return ()
    step = _step(market, asset, home, restated, direct=True)
    if step is not None:
        return (step,)
    for bridge in BRIDGES:
        if bridge in (asset, home):
            continue
        first = _step(market, asset, bridge, restated, direct=False)
        second = None
        if first is not None:
            second = _step(market, bridge, home, restated, direct=False)
        if first is not None and second is not None:
            return first, second
    return ()


def _step(
    market: Market, asset: str, home: str, restated: Restated, *, direct: bool
) -> RateStep | None:
    """Return the rate of one step; one of zero only where it is the whole rate."""
    found, rank = None, _UNRANKED
    for symbol in market.pairs.get(pair_of(asset, home), ()):
        instrument = market.instruments[symbol]
        forward = instrument.base == asset
        turn = _RANKS.get((instrument.kind, forward), _UNRANKED)
        if turn >= rank:
            continue
        price = _price(market, instrument, restated)
        if price is not None and is_usable(price, forward=forward, direct=direct):
            kind = cast("StepKind", instrument.kind)
            if instrument.full_notional and instrument.multiplier != 1:
                price = multiply_wide(price, instrument.multiplier)
            found, rank = step_of(symbol, kind, price, forward=forward), turn
            if not rank:
                break
    return found


def is_usable(price: Decimal, *, forward: bool, direct: bool) -> bool:
    """Return whether a price may be a step: above zero, or zero as it stands."""
    return price > 0 or (not price and forward and direct)


def step_of(symbol: str, kind: StepKind, price: Decimal, *, forward: bool) -> RateStep:
    """Return the step that a price makes: as it stands, or inverted."""
    return RateStep(
        symbol=symbol,
        kind=kind,
        over=price if forward else ONE,
        under=ONE if forward else price,
        inverted=not forward,
    )


@lru_cache(maxsize=4096)
def rate_pairs(assets: tuple[str, ...], home: str | None) -> tuple[str, ...]:
    """Return the pairs whose instruments may convert assets into `home`, in one step or two."""
    if home is None:
        return ()
    found: dict[str, None] = {}
    for asset in assets:
        if asset == home:
            continue
        found[pair_of(asset, home)] = None
        for bridge in BRIDGES:
            if bridge not in (asset, home):
                found[pair_of(asset, bridge)] = None
                found[pair_of(bridge, home)] = None
    return tuple(sorted(found))


def symbols_of_pairs(market: Market, pairs: Iterable[str]) -> list[str]:
    """Return the instruments of pairs that are defined by now."""
    return [symbol for pair in pairs for symbol in market.pairs.get(pair, ())]
