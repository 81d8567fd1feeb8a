"""An effect into an account: the ledger, the peak, corrected marks, the index of holders."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from psm.contracts.errors import ContractError
from psm.contracts.events import PeakReset
from psm.contracts.position_keys import symbol_of
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.ledger.effect import Effect
from psm.domain.ledger.ledger import Ledger
from psm.domain.market.tables import Market
from psm.domain.money import ONE, ZERO, scaled
from psm.domain.valuation.performance import Performance
from psm.domain.valuation.state import Moved


class Committed(NamedTuple):
    """What an effect changed: symbols whose contribution is another one, and what moved."""

    symbols: list[str]
    moved: Moved


def commit_effect(
    books: Books, account: Account, effect: Effect, *, corrected: bool = False
) -> Committed:
    """Take an effect in; return what the valuation has to look at.

    Args:
        books: of the account.
        account: whose event it is.
        effect: of the event.
        corrected: whether this is a corrected past, in which a reset peak is at least the nav.

    Raises:
        ContractError, ArithmeticError: nothing was changed.
    """
    ledger, state = account.ledger, account.valuation
    equity = ZERO if ledger.currency is None else account.equity()
    reset = effect.peak_reset
    performance = None if reset is None else _reset(account, reset, corrected=corrected)
    waited = len(ledger.modes.waiting)
    changed = ledger.commit(effect)
    if performance is not None:
        state.move_performance(performance)
    if effect.split is not None or effect.renamed is not None:
        _restate(books.market, account, effect)
    symbols = _named(effect)
    if changed or effect.renamed is not None:  # what an option is on may have another name
        books.index(account, symbols)
    # A mode that waited holds from here on: orders reserve for other positions.
    symbols.extend(_others(account, effect, moded=len(ledger.modes.waiting) != waited))
    assets = [asset for asset, _ in effect.cash]
    if effect.steps:
        assets.append(effect.steps[-1].position.instrument.settle)  # it may be collateral now
    return Committed(symbols, Moved(equity, tuple(assets), effect.flows, effect.legs))


def _others(account: Account, effect: Effect, *, moded: bool) -> list[str]:
    """Return further symbols whose contribution is another one now."""
    ledger, found = account.ledger, list[str]()
    if effect.margin_mode is not None or effect.wallets:
        found = _with_margin_of_their_own(effect)
    wide = moded or _is_wide(effect)
    if wide or effect.own_fill is not None:
        account.valuation.may_reprice(by_fill=not wide)
        return [*found, *ledger.symbols()]
    if ledger.orders.open_by_symbol and len(ledger.cash) > 1:
        return [*found, *_ordered_pairs(account, effect)]
    return found


def _is_wide(effect: Effect) -> bool:
    """Return whether an effect is a setting that more than its own positions depend on."""
    return (
        effect.leverage is not None
        or effect.position_mode is not None
        or effect.split is not None
        or effect.renamed is not None
    )


def _ordered_pairs(account: Account, effect: Effect) -> list[str]:
    """Return the pairs with open orders whose base an effect moved: what they reserve differs."""
    moved = {asset: None for asset, _ in effect.cash}
    return [
        symbol
        for symbol in account.ledger.orders.open_by_symbol
        if account.prices.instrument(symbol).base in moved
    ]


def _restate(market: Market, account: Account, effect: Effect) -> None:
    """Let prices be of units that exist, and excursions of names that do."""
    if effect.split is not None:
        _split_prices(market, account.ledger, effect)
    if effect.renamed is not None:
        account.valuation.rename(effect.renamed.excursions)


def _named(effect: Effect) -> list[str]:
    """Return the symbols whose positions and orders an effect replaces."""
    symbols = [step.position.instrument.symbol for step in effect.steps]
    if effect.renamed is not None and effect.renamed.old is not None:
        symbols = [*symbols, effect.renamed.old, effect.renamed.new]
    if effect.orders:
        symbols.extend(order.symbol for order in effect.orders)
    return symbols


def _split_prices(market: Market, ledger: Ledger, effect: Effect) -> None:
    """Correct what is of units that no longer exist: own last fills, and marks as of now."""
    assert effect.split is not None, "it is of a split"
    for symbol, new, old in _split_symbols(market, *effect.split):
        ledger.split_own_fill(symbol, new, old)
        if not effect.mark_adjusted:
            _split_mark(market, ledger, symbol, new, old)


def _split_mark(market: Market, ledger: Ledger, symbol: str, new: Decimal, old: Decimal) -> None:
    """Correct the current mark of a symbol, or the one that moved to it with its name."""
    mark, moved = market.marks.get(symbol), ledger.renames.marks.get(symbol)
    if mark is not None:
        ledger.split_mark(symbol, mark.sequence_number, new, old)
    elif moved is not None:
        ledger.split_moved_mark(symbol, scaled(moved.price, old, new))


def _split_symbols(
    market: Market, symbol: str, new: Decimal, old: Decimal
) -> Iterator[tuple[str, Decimal, Decimal]]:
    """Yield the symbols whose prices a split changes, and how; of an asset every pair of it.

    A contract on it keeps its price, which is no rate of the new units until its next mark.
    """
    yield symbol, new, old
    made = market.instruments.get(symbol)
    if made is not None and made.kind != "spot":
        return
    asset = symbol if made is None else made.base
    for other in market.instruments.values():
        if other.symbol == symbol or other.kind == "option":
            continue
        if asset not in (other.base, other.quote):
            continue
        if not other.full_notional:
            yield other.symbol, ONE, ONE
        elif other.base == asset:
            yield other.symbol, new, old
        else:
            yield other.symbol, old, new


def _with_margin_of_their_own(effect: Effect) -> list[str]:
    """Return the symbols whose margin mode or wallets an effect changed."""
    symbols = [symbol_of(key) for key, _ in effect.wallets]
    return symbols if effect.margin_mode is None else [*symbols, effect.margin_mode[0]]


def _reset(account: Account, reset: PeakReset, *, corrected: bool) -> Performance:
    """Return the performance with the peak that an operator stated.

    Raises:
        ContractError: reason `invalid_payload`: the account is above that peak, or has none.
    """
    performance = account.valuation.performance
    nav = performance.nav(account.equity())
    if nav is not None and corrected:
        return performance.reset(max(reset.peak_nav, nav), reset.max_drawdown)
    if nav is None or reset.peak_nav < nav:
        raise ContractError(
            "invalid_payload", "peak_nav must not be below the nav of now", "payload.peak_nav"
        )
    return performance.reset(reset.peak_nav, reset.max_drawdown)
