"""Binance: answers of its REST interface, as JSON files.

Spot and both kinds of futures. Commissions and realized results of the income history are told by
the fills already. A contract is named `BTCUSDT-PERP`, because the spot pair is `BTCUSDT`.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from psm.contracts.fields import PositionSide
from psm.workers.imports.facts import (
    Found,
    Kind,
    ReportedPosition,
    VenueInstrument,
    fields_of,
    kind_of,
)
from psm.workers.imports.pairs import perpetual, spot
from psm.workers.imports.rows import FileRow

VENUE = "binance"
_WITHDRAWN, _DEPOSITED = "6", ("1", "6")
_APPLY_TIME = "%Y-%m-%d %H:%M:%S"
_LEGS: dict[str, PositionSide | None] = {"BOTH": None, "LONG": "long", "SHORT": "short"}
_SWEPT_INTO = "BNB"
_TOLD_BY_FILLS = ("COMMISSION", "REALIZED_PNL")
_TRANSFERS = ("TRANSFER", "INTERNAL_TRANSFER")
_FEES = ("INSURANCE_CLEAR", "COMMISSION_REBATE", "REFERRAL_KICKBACK", "API_REBATE")
_GIFTS = ("WELCOME_BONUS", "CONTEST_REWARD", "FUTURES_PRESENT", "BONUS_VOUCHER")


def defines(document: FileRow) -> bool:
    """Return whether an answer says what instruments are; other answers lean on it."""
    return "symbols" in document.values


def parse(document: FileRow, found: Found) -> None:
    """Take what an answer of the venue says; a list may lie in `rows`."""
    rows = document.rows("list") if "list" in document.values else [document]
    for field in ("rows", "userAssetDribblets"):
        if len(rows) == 1 and field in rows[0].values:
            rows = rows[0].rows(field)
    found.read(rows, lambda row, into: kind_of(row, _KINDS).take(row, into))


def _spot_fill(row: FileRow, found: Found) -> None:
    pair = spot(found, row.text("symbol"), row, VENUE)
    side = "buy" if row.flag("isBuyer") else "sell"
    _fill(row, found, pair.symbol, side, maker=row.flag("isMaker"))


def _futures_fill(row: FileRow, found: Found) -> None:
    side = row.optional("side") or ("BUY" if row.flag("buyer") else "SELL")
    symbol, leg = _contract(row, found), _leg(row)
    if leg is not None:
        found.leg(row, symbol, row.millis("time"))
    more = {"position_side": leg}
    _fill(row, found, symbol, side.lower(), maker=row.flag("maker"), more=more)


def _fill(
    row: FileRow, found: Found, symbol: str, side: str, *, maker: bool, more: Mapping[str, Any] = {}
) -> None:
    fill_id, order_id = row.text("id"), row.text("orderId")
    payload = {
        "symbol": symbol,
        "side": side,
        "quantity": row.decimal("qty"),
        "price": row.decimal("price"),
        "commission": row.decimal("commission"),
        "commission_currency": row.text("commissionAsset"),
        "order_id": order_id,
        "fill_id": fill_id,
        "liquidity": "maker" if maker else "taker",
        **more,
    }
    # Both legs of a self-trade have one id.
    record = f"fill:{symbol}:{fill_id}:{side}:{order_id}"
    found.add(row, row.millis("time"), "TradeExecuted", record, payload)


def _income(row: FileRow, found: Found) -> None:
    kind, asset, amount = row.text("incomeType"), row.text("asset"), row.decimal("income")
    if kind in _TOLD_BY_FILLS:
        found.skipped[f"{kind}: the fills tell it"] += 1
        return
    reference = row.text("tranId")
    payload: dict[str, Any] = {"currency": asset, "reference": reference}
    if kind == "FUNDING_FEE":
        event_type = "FundingApplied"
        payload |= {"symbol": _contract(row, found), "funding_payment": amount}
    elif kind in _TRANSFERS:
        event_type = "CashDeposited" if amount > 0 else "CashWithdrawn"
        payload["amount"] = abs(amount)
    elif kind in _FEES:
        event_type = "FeeCharged"
        payload |= {"amount": -amount, "reason": kind}
    elif kind in _GIFTS:
        event_type = "CashAdjusted"
        payload |= {"amount": amount, "reason": kind, "actor": VENUE}
    else:
        raise row.error(f"{kind} is no income that can be imported", "incomeType")
    record = f"income:{kind}:{reference}:{row.optional('symbol') or asset}"
    found.add(row, row.millis("time"), event_type, record, payload)


def _deposit(row: FileRow, found: Found) -> None:
    if row.text("status") not in _DEPOSITED:
        found.skipped["deposit that is not credited"] += 1
        return
    _flow(row, found, "CashDeposited", row.millis("insertTime"), row.decimal("amount"))


def _withdrawal(row: FileRow, found: Found) -> None:
    if row.text("status") != _WITHDRAWN:
        found.skipped["withdrawal that is not completed"] += 1
        return
    time = row.time("applyTime", _APPLY_TIME)
    _flow(row, found, "CashWithdrawn", time, row.decimal("amount"))
    fee = row.decimal_or("transactionFee")
    if fee:
        _flow(row, found, "FeeCharged", time, fee, reason="withdrawal")


def _flow(
    row: FileRow, found: Found, event_type: str, time_us: int, amount: Decimal, **more: str
) -> None:
    reference = row.optional("id") or row.text("txId")  # the latter in older answers
    payload = {"amount": amount, "currency": row.text("coin"), "reference": reference, **more}
    found.add(row, time_us, event_type, f"{event_type}:{reference}", payload)


def _distribution(row: FileRow, found: Found) -> None:
    asset, reference = row.text("asset"), row.text("tranId")
    payload = {"amount": row.decimal("amount"), "currency": asset, "reference": reference}
    record = f"distribution:{reference}:{asset}"
    found.add(row, row.millis("divTime"), "InterestAccrued", record, payload)


def _conversion(row: FileRow, found: Found) -> None:
    if row.text("orderStatus") != "SUCCESS":
        found.skipped["conversion that did not succeed"] += 1
        return
    reference = row.text("orderId")
    payload = {
        "from": row.text("fromAsset"),
        "from_amount": row.decimal("fromAmount"),
        "to": row.text("toAsset"),
        "to_amount": row.decimal("toAmount"),
        "reference": reference,
    }
    record = f"conversion:{reference}"
    found.add(row, row.millis("createTime"), "AssetsExchanged", record, payload)


def _dust(row: FileRow, found: Found) -> None:
    """Take small amounts that were swept into the venue's coin, each with its charge in it."""
    for swept in row.rows("userAssetDribbletDetails"):
        asset, reference = swept.text("fromAsset"), swept.text("transId")
        payload = {
            "from": asset,
            "from_amount": swept.decimal("amount"),
            "to": _SWEPT_INTO,
            "to_amount": swept.decimal("transferedAmount"),
            "fee": swept.decimal("serviceChargeAmount"),
            "fee_currency": _SWEPT_INTO,
            "reference": f"{reference}:{asset}",
        }
        record = f"dust:{reference}:{asset}"
        found.add(swept, swept.millis("operateTime"), "AssetsExchanged", record, payload)


def _spot_account(row: FileRow, found: Found) -> None:
    if row.has("uid"):
        found.owners.add(row.text("uid"))
    _reported(row, found)
    found.whole.add("balances")
    for held in row.rows("balances"):
        found.balance(held.text("asset"), held.decimal("free") + held.decimal("locked"))


def _futures_account(row: FileRow, found: Found) -> None:
    found.whole |= {"balances", "positions"}
    for held in row.rows("assets"):
        found.balance(held.text("asset"), held.decimal("walletBalance"))
        _reported(held, found)
    for position in row.rows("positions"):
        _position(position, found)


def _futures_balance(row: FileRow, found: Found) -> None:
    found.balance(row.text("asset"), row.decimal("balance"))
    _reported(row, found)


def _reported(row: FileRow, found: Found) -> None:
    if row.has("updateTime") and row.text("updateTime") != "0":
        found.reported(row.millis("updateTime"))


def _position(row: FileRow, found: Found) -> None:
    size, leg = row.decimal("positionAmt"), _leg(row)
    found.whole.add("positions")
    if not size:
        return
    symbol = _contract(row, found)
    found.position(
        symbol,
        ReportedPosition(
            quantity=size,
            entry_price=row.decimal("entryPrice") if row.has("entryPrice") else None,
        ),
        leg,
    )


def _instruments(row: FileRow, found: Found) -> None:
    for item in row.rows("symbols"):
        name, base, quote = item.text("symbol"), item.text("baseAsset"), item.text("quoteAsset")
        contract, settle = item.optional("contractType"), item.optional("marginAsset") or quote
        kind, symbol = "spot", name
        if contract is not None:
            form = "perp" if "PERPETUAL" in contract else "future"
            kind = f"{'inverse' if settle == base else 'linear'}_{form}"
            symbol = name if "_" in name else f"{name}-PERP"
        found.instruments[symbol] = VenueInstrument(
            symbol=symbol,
            kind=kind,
            base=base,
            quote=quote,
            settle=settle,
            multiplier=item.decimal_or("contractSize", Decimal(1)),
            venue=VENUE,
        )


def _leg(row: FileRow) -> PositionSide | None:
    """Return the leg in hedge mode; None where the venue nets."""
    leg = row.optional("positionSide") or "BOTH"
    if leg not in _LEGS:
        raise row.error(f"{leg} is neither BOTH, LONG nor SHORT", "positionSide")
    return _LEGS[leg]


def _contract(row: FileRow, found: Found) -> str:
    """Return the symbol of a contract; those with a date or on coin have names of their own."""
    name = row.text("symbol")
    if "_" not in name:
        return perpetual(found, name, row, VENUE)
    if name not in found.instruments:
        found.undefined.setdefault(name, row.place)
    return name


_KINDS = (
    Kind(name="exchangeInfo", fields=fields_of("symbols timezone"), take=_instruments),
    Kind(
        name="myTrades",
        fields=fields_of("symbol id orderId price qty commission commissionAsset isBuyer isMaker"),
        take=_spot_fill,
    ),
    Kind(
        name="userTrades",
        fields=fields_of("symbol id orderId price qty commission commissionAsset realizedPnl"),
        take=_futures_fill,
    ),
    Kind(name="income", fields=fields_of("incomeType income asset tranId time"), take=_income),
    Kind(name="deposits", fields=fields_of("amount coin status insertTime"), take=_deposit),
    Kind(name="withdrawals", fields=fields_of("amount coin status applyTime"), take=_withdrawal),
    Kind(name="assetDividend", fields=fields_of("amount asset divTime tranId"), take=_distribution),
    Kind(
        name="conversions",
        fields=fields_of("orderId orderStatus fromAsset fromAmount toAsset toAmount createTime"),
        take=_conversion,
    ),
    Kind(name="dust", fields=fields_of("userAssetDribbletDetails"), take=_dust),
    Kind(name="account", fields=fields_of("balances"), take=_spot_account),
    Kind(name="futures account", fields=fields_of("assets positions"), take=_futures_account),
    Kind(
        name="futures balance",
        fields=fields_of("asset balance crossWalletBalance"),
        take=_futures_balance,
    ),
    Kind(name="positionRisk", fields=fields_of("symbol positionAmt entryPrice"), take=_position),
)
