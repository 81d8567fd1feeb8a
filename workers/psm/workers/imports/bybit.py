"""Bybit: answers of its REST interface version 5, as JSON files, of a unified account.

Executions tell fills and funding; the transaction log tells transfers, interest and the like, and
funding once more, under the same id. A perpetual is named `BTCUSDT-PERP`, because the spot pair is
`BTCUSDT`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

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

VENUE = "bybit"
_EXECUTIONS = {
    "Trade": "trade",
    "BlockTrade": "trade",
    "AdlTrade": "adl",
    "BustTrade": "liquidation",
}
_TOLD_BY_EXECUTIONS = ("TRADE", "LIQUIDATION", "ADL")
_INTEREST = ("INTEREST", "AUTO_DEDUCTION", "AUTO_BUY_LIABILITY_USDT")
_FEES = ("FEE_REFUND", "LIQUIDATION_FEE")
_GIFTS = ("BONUS", "BONUS_RECOLLECT", "AIRDROP")
_CONTRACTS = {
    "LinearPerpetual": "linear_perp",
    "LinearFutures": "linear_future",
    "InversePerpetual": "inverse_perp",
    "InverseFutures": "inverse_future",
}
_LEGS: dict[str, PositionSide] = {"1": "long", "2": "short"}
_DERIVATIVES = ("linear", "inverse")


def defines(document: FileRow) -> bool:
    """Return whether an answer says what instruments are; other answers lean on it."""
    answer = document.values.get("result", document)
    rows = answer.values.get("list") if isinstance(answer, FileRow) else None
    return isinstance(rows, list) and any("baseCoin" in row.values for row in rows[:1])


def parse(document: FileRow, found: Found) -> None:
    """Take what an answer of the venue says: its `result`, with what is common to its rows."""
    if document.has("retCode") and document.text("retCode") != "0":
        raise document.error("the venue refused this request", "retCode")
    answer = document.inner("result") if "result" in document.values else document
    common = {"category": answer.optional("category")}

    def take(row: FileRow, into: Found) -> None:
        known = msgspec.structs.replace(row, values={**common, **row.values})
        kind = kind_of(known, _KINDS)
        if kind.name in _REPORTS and document.has("time"):
            into.reported(document.millis("time"))
        kind.take(known, into)

    # The newest row comes first; of one moment's balances the last is to count.
    found.read(reversed(answer.rows("list")), take)


def _execution(row: FileRow, found: Found) -> None:
    kind = row.text("execType")
    if kind == "Funding":
        # A fee is what the account pays; funding is what it receives.
        _funding(row, found, row.millis("execTime"), row.text("execId"), -row.decimal("execFee"))
        return
    if kind not in _EXECUTIONS:
        raise row.error(f"{kind} is no execution that can be imported", "execType")
    symbol, side = _symbol(row, found), row.text("side").lower()
    fill_id, order_id = row.text("execId"), row.text("orderId")
    payload = {
        "symbol": symbol,
        "side": side,
        "quantity": row.decimal("execQty"),
        "price": row.decimal("execPrice"),
        "commission": row.decimal_or("execFee"),
        "commission_currency": _fee_currency(row, found, symbol, side),
        "order_id": order_id,
        "fill_id": fill_id,
        "liquidity": "maker" if row.flag("isMaker") else "taker",
        "execution": _EXECUTIONS[kind],
    }
    record = f"fill:{symbol}:{fill_id}:{side}:{order_id}"
    found.add(row, row.millis("execTime"), "TradeExecuted", record, payload)


def _fee_currency(row: FileRow, found: Found, symbol: str, side: str) -> str:
    """Return what a fee was paid in; older answers leave it to the rules of the venue."""
    if row.has("feeCurrency"):
        return row.text("feeCurrency")
    instrument = found.instruments[symbol]
    if instrument.kind != "spot":
        return instrument.settle
    return instrument.base if side == "buy" else instrument.quote


def _transaction(row: FileRow, found: Found) -> None:
    kind, asset, change = row.text("type"), row.text("currency"), row.decimal("change")
    time = row.millis("transactionTime")
    if row.has("cashBalance"):
        after = row.decimal("cashBalance")
        found.after(asset, after, time)
        found.before(asset, after - change, time)
    if kind in _TOLD_BY_EXECUTIONS:
        found.skipped[f"{kind}: the executions tell it"] += 1
        return
    if kind == "SETTLEMENT":
        _funding(row, found, time, row.text("tradeId"), change)
        return
    reference = row.text("id")
    payload: dict[str, Any] = {"currency": asset, "reference": reference}
    if kind in ("TRANSFER_IN", "TRANSFER_OUT"):
        event_type = "CashDeposited" if change > 0 else "CashWithdrawn"
        payload["amount"] = abs(change)
    elif kind in _INTEREST:
        event_type = "InterestAccrued"
        payload["amount"] = change
    elif kind in _FEES:
        event_type = "FeeCharged"
        payload |= {"amount": -change, "reason": kind}
    elif kind in _GIFTS:
        event_type = "CashAdjusted"
        payload |= {"amount": change, "reason": kind, "actor": VENUE}
    else:
        raise row.error(f"{kind} is no transaction that can be imported", "type")
    found.add(row, time, event_type, f"transaction:{reference}", payload)


def _funding(row: FileRow, found: Found, time_us: int, reference: str, payment: Decimal) -> None:
    symbol = _symbol(row, found)
    settle = found.instruments[symbol].settle
    payload = {
        "symbol": symbol,
        "funding_payment": payment,
        "funding_rate": row.decimal("feeRate") if row.has("feeRate") else None,
        "currency": settle,
        "reference": reference,
    }
    found.add(row, time_us, "FundingApplied", f"funding:{reference}", payload)


def _wallet(row: FileRow, found: Found) -> None:
    found.whole.add("balances")
    for held in row.rows("coin"):
        found.balance(held.text("coin"), held.decimal("walletBalance"))


def _position(row: FileRow, found: Found) -> None:
    size = row.decimal_or("size")
    found.whole.add("positions")
    if not size:
        return
    symbol = _symbol(row, found)
    short = row.text("side") == "Sell"
    reported = ReportedPosition(
        quantity=-size if short else size,
        entry_price=row.decimal("avgPrice") if row.has("avgPrice") else None,
    )
    found.position(symbol, reported, _LEGS.get(row.optional("positionIdx") or "0"))


def _instrument(row: FileRow, found: Found) -> None:
    name, base, quote = row.text("symbol"), row.text("baseCoin"), row.text("quoteCoin")
    contract = row.optional("contractType")
    if contract is not None and contract not in _CONTRACTS:
        found.skipped[f"instrument of kind {contract}"] += 1
        return
    kind = "spot" if contract is None else _CONTRACTS[contract]
    symbol = f"{name}-PERP" if kind.endswith("_perp") and "PERP" not in name else name
    found.instruments[symbol] = VenueInstrument(
        symbol=symbol,
        kind=kind,
        base=base,
        quote=quote,
        settle=row.optional("settleCoin") or quote,
        venue=VENUE,
    )


def _symbol(row: FileRow, found: Found) -> str:
    """Return the symbol of a row's instrument, by its category."""
    name, category = row.text("symbol"), row.optional("category")
    if category == "spot":
        return spot(found, name, row, VENUE).symbol
    if category not in _DERIVATIVES:
        raise row.error("is neither spot, linear nor inverse", "category")
    if "-" not in name:
        return perpetual(found, name, row, VENUE, inverse=category == "inverse")
    if name not in found.instruments:
        raise row.error(
            f"{name} has a date, and only the venue knows what it settles in: add its answer to "
            "instruments-info to the files",
            "symbol",
        )
    return name


_REPORTS = ("wallet-balance", "positions")
_KINDS = (
    Kind(
        name="executions",
        fields=fields_of("symbol orderId side execId execPrice execQty execType execTime"),
        take=_execution,
    ),
    Kind(
        name="transaction-log",
        fields=fields_of("id type transactionTime currency change"),
        take=_transaction,
    ),
    Kind(name="wallet-balance", fields=fields_of("coin accountType"), take=_wallet),
    Kind(name="positions", fields=fields_of("symbol side size avgPrice"), take=_position),
    Kind(name="instruments-info", fields=fields_of("symbol baseCoin quoteCoin"), take=_instrument),
)
