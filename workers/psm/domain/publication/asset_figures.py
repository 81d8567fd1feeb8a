"""The figures of assets as updates and documents show them: texts, in the account currency."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

from psm.contracts.updates import TOLD_ONCE, Change, PositionUpdated, own_fields
from psm.domain.account import Account
from psm.domain.ledger.effect import Effect
from psm.domain.ledger.holdings import AssetHolding
from psm.domain.ledger.ledger import Ledger
from psm.domain.market.rates import RateStep, rate_of
from psm.domain.money import ONE, ZERO, absolute, add_wide, published_text, subtract_wide
from psm.domain.publication.log_times import log_time


class AssetStep(NamedTuple):
    """An asset that an event or a mark moved, and how."""

    asset: str
    change: Change


def changed_assets(before: Ledger, after: Ledger) -> tuple[AssetStep, ...]:
    """Return a step for each asset that a correction changed."""
    home = after.currency
    names = sorted({**before.cash, **after.cash})
    return tuple(
        AssetStep(name, "adjusted")
        for name in names
        if name != home and before.holding(name) != after.holding(name)
    )


def asset_steps(ledger: Ledger, effect: Effect) -> tuple[AssetStep, ...]:
    """Return a step for each asset that an event moved, ascending; none for the account currency.

    Args:
        ledger: after the event.
        effect: of the event.
    """
    home = ledger.currency
    going: dict[str, Decimal] = {asset: ZERO for asset, _ in effect.costs}
    for asset, amount in effect.cash:
        if amount:
            going[asset] = subtract_wide(going.get(asset, ZERO), amount)
    return tuple(
        AssetStep(asset, _change(ledger.holding(asset).quantity, gone))
        for asset, gone in sorted(going.items())
        if asset != home
    )


def _change(after: Decimal, going: Decimal) -> Change:
    """Return what happened to a holding that was `after + going` before."""
    before = add_wide(after, going)
    if not going:
        return "adjusted"
    if not after:
        return "closed"
    if not before or (before > 0) != (after > 0):
        return "opened"
    return "increased" if absolute(after) > absolute(before) else "reduced"


def asset_document(account: Account) -> dict[str, dict[str, str | None]]:
    """Return what is held of each asset and what it is worth; of what is not held nothing."""
    ledger = account.ledger
    return {
        asset: _figures(_Seen.of(account, asset))
        for asset, quantity in sorted(ledger.cash.items())
        if quantity
    }


def asset_update(account: Account, step: AssetStep) -> dict[str, Any]:
    """Return the fields of `PositionUpdated` of an asset that are not common to every update."""
    seen = _Seen.of(account, step.asset)
    own = _figures(seen)
    quantity = seen.holding.quantity
    only = seen.steps[0] if len(seen.steps) == 1 else None
    marked = None
    if only is not None and only.kind != "fill":
        marked = account.prices.market.marks.get(only.symbol)
    source = None
    if seen.steps:
        source = "fill" if any(one.kind == "fill" for one in seen.steps) else "mark"
    return {
        **_NO_FIGURES,
        "class": "asset",
        "symbol": step.asset,
        "position_side": "net",
        "change": step.change,
        "currency": account.ledger.currency,
        "multiplier": "1",
        "side": "flat" if not quantity else "long" if quantity > 0 else "short",
        "size": published_text(absolute(quantity)),
        "entry_price": own["entry_price"],
        "cost": own["cost"],
        "mark_price": own["mark_price"],
        "mark_source": source,
        "mark_log_sequence": marked.log_sequence if marked else None,
        "mark_time": log_time(marked.time) if marked else None,
        "notional": None if seen.value is None else published_text(absolute(seen.value)),
        "unrealized_pnl": own["unrealized_pnl"],
        "unrealized_pnl_account": own["unrealized_pnl"],
    }


_NO_FIGURES: dict[str, Any] = dict.fromkeys(
    name for name in own_fields(PositionUpdated) if name not in TOLD_ONCE
)
"""The fields in their order; those of contracts and shares alone are null."""


class _Seen(NamedTuple):
    """A holding as it is valued now."""

    holding: AssetHolding
    steps: tuple[RateStep, ...]
    rate: Decimal | None
    value: Decimal | None

    @classmethod
    def of(cls, account: Account, asset: str) -> _Seen:
        """Return the holding of an asset."""
        holding = account.ledger.holding(asset)
        if asset == account.ledger.currency:
            return cls(holding, (), ONE, holding.quantity)
        steps = account.prices.rate_steps(asset)
        computes = account.value().equity is not None  # else the sums are of some time before
        assets = account.valuation.totals.assets
        value = assets.value_of(asset) if computes and assets is not None else None
        return cls(
            holding,
            steps,
            rate_of(steps) if steps else None,
            value if holding.quantity else ZERO,
        )


def _figures(seen: _Seen) -> dict[str, str | None]:
    holding = seen.holding
    entry, gain = holding.entry_price, None
    if seen.value is not None and not holding.cost.unknown:
        gain = subtract_wide(seen.value, holding.cost.amount)
    return {
        "quantity": published_text(holding.quantity),
        "cost": published_text(holding.cost.amount),
        "entry_price": None if entry is None else published_text(entry),
        "mark_price": None if seen.rate is None else published_text(seen.rate),
        "value": None if seen.value is None else published_text(seen.value),
        "unrealized_pnl": None if gain is None else published_text(gain),
    }
