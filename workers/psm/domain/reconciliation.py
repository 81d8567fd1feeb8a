"""Reconciliation: what somebody reports that an account has, against what we hold it has.

Pure, and apart from the fold: importers and commands compare with it too. A report is whole, so
what only one side names is a difference. Both sides are rounded to 18 decimals, half-even, and may
be as far apart as the report's `tolerance` says. Entry prices are compared where both are averages
in one currency, debts where both sides have any, and the margin mode where it is stated. What
depends on the moment of a mark is never compared: gains and marks; equity only where the report
says by which rates and marks, and what it is made of agrees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from psm.contracts.errors import ContractError
from psm.contracts.fields import MarginMode, PositionSide
from psm.contracts.position_keys import parts_of, position_key
from psm.contracts.reconciliation import Difference
from psm.contracts.reports import AccountReported, AssetReport, PositionReport, WalletReport
from psm.domain.account import Account
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import Position, entry_price
from psm.domain.market.instrument import Instrument
from psm.domain.money import ONE, ZERO, absolute, add_wide, published, published_text, subtract_wide
from psm.domain.reported_equity import equity_at

DIFFERENCES_MAX = 256
"""Differences that one answer lists."""
THROUGH_NOT_LAST = "through_not_last"
"""Reason why nothing was compared: the books are not at the last fact that the report contains."""
_AVERAGE = "average"
_FIGURES = {"isolated": ONE, "cross": ZERO}

Named = TypeVar("Named", PositionReport, WalletReport)
PositionKey = tuple[str, PositionSide]
"""Symbol, and the leg of hedge mode or `net`."""


class HeldPosition(msgspec.Struct, frozen=True, kw_only=True):
    """One open position: size below zero for what is short, average entry price in `currency`.

    `margin_mode` is of contracts; `position` is what our books have.
    """

    size: Decimal
    entry_price: Decimal | None = None
    currency: str | None = None
    margin_mode: MarginMode | None = None
    position: Position | None = None


class Holdings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an account has by our books: assets, open positions, isolated wallets, debts.

    `aliases`: former symbols, by which a reporter may still name what it has. `currency`: of the
    account; None where nothing was booked.
    """

    assets: Mapping[str, Decimal]
    positions: Mapping[PositionKey, HeldPosition]
    wallets: Mapping[PositionKey, Decimal] = {}
    borrowed: Mapping[str, Decimal] = {}
    aliases: Mapping[str, str] = {}
    currency: str | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a comparison: every difference, and what the report says that was not compared."""

    differences: tuple[Difference, ...]
    not_compared: tuple[str, ...]

    @property
    def matches(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


def holdings_of(account: Account) -> Holdings:
    """Return what an account has, as of now."""
    ledger = account.ledger
    return Holdings(
        assets={asset: quantity for asset, quantity in sorted(ledger.cash.items()) if quantity},
        positions={
            (position.symbol, position.position_side): _held(ledger, position)
            for _, position in sorted(ledger.positions.items())
            if position.size
        },
        wallets={
            parts_of(key): max(ZERO, amount)  # as it is published
            for key, amount in sorted(ledger.wallets.amounts.items())
        },
        borrowed=ledger.borrowed,
        aliases=ledger.renames.aliases,
        currency=ledger.currency,
    )


def _held(ledger: Ledger, position: Position) -> HeldPosition:
    mode: MarginMode = "isolated" if position.symbol in ledger.wallets.symbols else "cross"
    return HeldPosition(
        size=position.size,
        entry_price=entry_price(position),
        currency=position.instrument.quote,
        margin_mode=None if position.instrument.full_notional else mode,
        position=position,
    )


def report_of(
    holdings: Holdings, *, source: str, as_of: str, through: str | None = None
) -> dict[str, Any]:
    """Return the payload of an `AccountReported` that says what `holdings` do."""
    payload: dict[str, Any] = {
        "source": source,
        "as_of": as_of,
        "assets": {
            asset: _asset_payload(holdings, asset)
            for asset in sorted({**holdings.assets, **holdings.borrowed})
        },
        "positions": [
            _position_payload(*key, held) for key, held in sorted(holdings.positions.items())
        ],
        "cost_method": _AVERAGE,
    }
    if holdings.wallets:
        payload["wallets"] = [
            {"symbol": symbol, "position_side": side, "amount": published_text(amount)}
            for (symbol, side), amount in sorted(holdings.wallets.items())
        ]
    return payload if through is None else {**payload, "through": through}


def _asset_payload(holdings: Holdings, asset: str) -> str | dict[str, str]:
    quantity = published_text(holdings.assets.get(asset, ZERO))
    owed = holdings.borrowed.get(asset, ZERO)
    return {"quantity": quantity, "borrowed": published_text(owed)} if owed > 0 else quantity


def _position_payload(symbol: str, side: PositionSide, held: HeldPosition) -> dict[str, str]:
    said = {"symbol": symbol, "position_side": side, "size": published_text(held.size)}
    if held.margin_mode is not None:
        said["margin_mode"] = held.margin_mode
    if held.entry_price is not None:
        said["entry_price"] = published_text(held.entry_price)
    return said if held.currency is None else {**said, "currency": held.currency}


def check_report(report: AccountReported) -> None:
    """Make sure that a report says one thing of each asset and position.

    Raises:
        ContractError: reason `invalid_payload`, with the field's path.
    """
    for asset, said in report.assets.items():
        if isinstance(said, AssetReport) and said.quantity is said.free is said.locked is None:
            detail = "an asset needs its quantity, or what is free or locked of it"
            raise ContractError("invalid_payload", detail, f"payload.assets.{asset}")
    for name in ("positions", "wallets"):
        seen: dict[PositionKey, None] = {}
        for place, item in enumerate(getattr(report, name)):
            key = (item.symbol, item.position_side)
            if key in seen:
                detail = "the report names this symbol and position_side twice"
                raise ContractError("invalid_payload", detail, f"payload.{name}[{place}]")
            seen[key] = None


def compare(
    report: AccountReported, holdings: Holdings, instruments: Mapping[str, Instrument]
) -> Comparison:
    """Return in what a report and our books differ, sorted by what it is.

    Args:
        report: as `check_report` let it pass.
        holdings: ours, as of the moment that the report tells of.
        instruments: defined by then; a spot pair that is named as a position means its base.
    """
    if holdings.aliases:
        report = _by_names_of_now(report, holdings.aliases)
    report = _without_pairs(report, holdings, instruments)
    found = [
        *_of_assets(report, holdings.assets),
        *_of_positions(report, holdings.positions),
        *_of_wallets(report, holdings.wallets),
        *_of_borrowed(report, holdings.borrowed),
    ]
    equity = None if found else _equity(report, holdings)
    if equity is not None:
        found.extend(_difference(report, "equity", holdings.currency or "", None, *equity))
    return Comparison(
        differences=tuple(sorted(found, key=lambda one: one.what)),
        not_compared=tuple(_not_compared(report, holdings, equity=equity is not None)),
    )


def _by_names_of_now(report: AccountReported, aliases: Mapping[str, str]) -> AccountReported:
    """Return the report with former symbols replaced, unless it names the new ones as well."""
    named = dict.fromkeys((*report.assets, *(said.symbol for said in report.positions)))
    former = {old: new for old, new in aliases.items() if new not in named}

    def renamed(said: Named) -> Named:
        return msgspec.structs.replace(said, symbol=former.get(said.symbol, said.symbol))

    return msgspec.structs.replace(
        report,
        assets={former.get(asset, asset): said for asset, said in report.assets.items()},
        positions=tuple(map(renamed, report.positions)),
        wallets=tuple(map(renamed, report.wallets)),
    )


def _without_pairs(
    report: AccountReported, holdings: Holdings, instruments: Mapping[str, Instrument]
) -> AccountReported:
    """Return the report with its positions in spot pairs as the assets that they are."""
    assets = dict(report.assets)
    positions = []
    for said in report.positions:
        instrument = instruments.get(said.symbol)
        held = (said.symbol, said.position_side) in holdings.positions
        if instrument is None or instrument.kind != "spot" or held or instrument.base in assets:
            positions.append(said)
        else:
            assets[instrument.base] = said.size
    if len(positions) == len(report.positions):
        return report
    return msgspec.structs.replace(report, assets=assets, positions=tuple(positions))


def reported_quantity(said: Decimal | AssetReport, basis: str) -> Decimal:
    """Return the quantity of an asset as of trade dates, net of what was borrowed."""
    if isinstance(said, Decimal):
        return said
    quantity = said.quantity
    if quantity is None:
        owned = add_wide(said.free or ZERO, said.locked or ZERO)
        quantity = subtract_wide(owned, add_wide(said.borrowed or ZERO, said.interest or ZERO))
    return add_wide(quantity, said.unsettled or ZERO) if basis == "settle" else quantity


def _of_assets(report: AccountReported, own: Mapping[str, Decimal]) -> Iterator[Difference]:
    for asset in sorted({**report.assets, **own}):
        said = report.assets.get(asset, ZERO)
        figures = (own.get(asset, ZERO), reported_quantity(said, report.basis))
        yield from _difference(report, f"assets.{asset}", asset, None, *figures)


def _of_positions(
    report: AccountReported, own: Mapping[PositionKey, HeldPosition]
) -> Iterator[Difference]:
    told = {(said.symbol, said.position_side): said for said in report.positions}
    for symbol, side in sorted({**told, **own}):
        said, held = told.get((symbol, side)), own.get((symbol, side))
        what = f"positions.{position_key(symbol, side)}"
        sizes = (held.size if held else ZERO, said.size if said else ZERO)
        yield from _difference(report, f"{what}.size", symbol, side, *sizes)
        modes = _margin_modes(said, held)
        if modes is not None:
            yield from _difference(report, f"{what}.margin_mode", symbol, side, *modes)
        prices = _average_prices(report, said, held)
        if prices is not None:
            yield from _difference(report, f"{what}.entry_price", symbol, side, *prices)


def _margin_modes(
    said: PositionReport | None, held: HeldPosition | None
) -> tuple[Decimal, Decimal] | None:
    """Return our margin mode and theirs as figures, where both say one: 1 isolated, 0 cross."""
    if not (said and held and said.margin_mode and held.margin_mode):
        return None
    return _FIGURES[held.margin_mode], _FIGURES[said.margin_mode]


def _of_borrowed(report: AccountReported, own: Mapping[str, Decimal]) -> Iterator[Difference]:
    """Yield differences of debts, where both sides have any; what is left out is none."""
    told = {
        asset: said.borrowed if isinstance(said, AssetReport) else None
        for asset, said in report.assets.items()
    }
    if not own or all(said is None for said in told.values()):
        return
    for asset in sorted({**told, **own}):
        said = told.get(asset, ZERO)
        if said is not None:
            owed = own.get(asset, ZERO)
            yield from _difference(report, f"assets.{asset}.borrowed", asset, None, owed, said)


def _equity(report: AccountReported, holdings: Holdings) -> tuple[Decimal, Decimal] | None:
    """Return the equity of our books at the report's prices, and theirs; None: not comparable."""
    if report.equity is None:
        return None
    positions = {key: held.position for key, held in holdings.positions.items()}
    own = equity_at(report, holdings.currency, holdings.assets, positions)
    return None if own is None else (own, report.equity)


def _of_wallets(
    report: AccountReported, own: Mapping[PositionKey, Decimal]
) -> Iterator[Difference]:
    if not (own and report.wallets):
        return
    told = {(said.symbol, said.position_side): said.amount for said in report.wallets}
    for symbol, side in sorted({**told, **own}):
        amounts = (own.get((symbol, side), ZERO), told.get((symbol, side), ZERO))
        yield from _difference(
            report, f"wallets.{position_key(symbol, side)}", symbol, side, *amounts
        )


def _average_prices(
    report: AccountReported, said: PositionReport | None, held: HeldPosition | None
) -> tuple[Decimal, Decimal] | None:
    """Return our entry price and theirs, where both are averages in one currency."""
    if report.cost_method != _AVERAGE or not (said and held and said.size):
        return None
    if said.entry_price is None or held.entry_price is None:
        return None
    if said.currency not in (None, held.currency):
        return None
    return held.entry_price, said.entry_price


def _difference(
    report: AccountReported,
    what: str,
    symbol: str,
    side: PositionSide | None,
    expected: Decimal,
    reported: Decimal,
) -> Iterator[Difference]:
    expected, reported = published(expected), published(reported)
    apart = subtract_wide(reported, expected)
    if absolute(apart) <= _tolerance(report, what):
        return
    yield Difference(
        what=what,
        symbol=symbol,
        position_side=side,
        expected=published_text(expected),
        reported=published_text(reported),
        difference=published_text(apart),
    )


def _tolerance(report: AccountReported, what: str) -> Decimal:
    allowed = report.tolerance
    if isinstance(allowed, Decimal):
        return allowed
    return ZERO if allowed is None else allowed.get(what, ZERO)


def _not_compared(report: AccountReported, holdings: Holdings, *, equity: bool) -> Iterator[str]:
    """Yield the fields that the report states and nothing was compared with, in their order."""
    assets = [said for said in report.assets.values() if isinstance(said, AssetReport)]
    if _any_states(assets, "borrowed") and not holdings.borrowed:
        yield "assets.borrowed"
    for name in _positions_not_compared(report, holdings, equity=equity):
        yield f"positions.{name}"
    if report.wallets and not holdings.wallets:
        yield "wallets"
    for name in () if equity else ("equity", "rates"):
        if _any_states([report], name):
            yield name


def _positions_not_compared(
    report: AccountReported, holdings: Holdings, *, equity: bool
) -> Iterator[str]:
    said = report.positions
    if any(_has_other_price(report, one, holdings) for one in said):
        yield "entry_price"
    if any(_has_other_mode(one, holdings) for one in said):
        yield "margin_mode"
    if not equity and _any_states(said, "mark_price"):
        yield "mark_price"
    if _any_states(said, "unrealized_pnl"):
        yield "unrealized_pnl"


def _any_states(said: Sequence[msgspec.Struct], field: str) -> bool:
    return any(getattr(one, field) is not None for one in said)


def _has_other_mode(said: PositionReport, holdings: Holdings) -> bool:
    """Return whether a margin mode is stated of what has none in our books."""
    held = holdings.positions.get((said.symbol, said.position_side))
    return said.margin_mode is not None and _margin_modes(said, held) is None


def _has_other_price(report: AccountReported, said: PositionReport, holdings: Holdings) -> bool:
    """Return whether an entry price is stated that is no average in our currency."""
    held = holdings.positions.get((said.symbol, said.position_side))
    return said.entry_price is not None and _average_prices(report, said, held) is None
