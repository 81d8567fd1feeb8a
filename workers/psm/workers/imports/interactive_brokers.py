"""Interactive Brokers: statements of Flex queries, as XML.

FileRows of executions and details count; those that sum them up are left out. Accruals are no money
yet, and options that were exercised or expired are told by the trades that the broker books for
them. Names, addresses and descriptions are read by nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from psm.workers.imports.facts import Found, ReportedPosition, VenueInstrument
from psm.workers.imports.rows import FileRow, rfc3339

VENUE = "interactive_brokers"
_ZONE = ZoneInfo("America/New_York")  # statements say no zone; it is the broker's own
_DATES = ("%Y-%m-%d", "%Y%m%d", "%m/%d/%Y")
_TIMES = tuple(
    date + between + time
    for date in _DATES
    for between in (";", " ", ", ", "T")
    for time in ("%H:%M:%S", "%H%M%S")
)
_SUMS = ("ORDER", "SYMBOL_SUMMARY", "ASSET_SUMMARY", "CLOSED_LOT", "SUMMARY", "LOT", "WASH_SALE")
_SPLIT = re.compile(r"SPLIT (\d+(?:\.\d+)?) FOR (\d+(?:\.\d+)?)")
_CANCELLED = "(Ca.)"
_BASE = ("BASE_SUMMARY", "BASE")
_FLOWS = ("Deposits & Withdrawals", "Deposits/Withdrawals", "Deposits and Withdrawals")
_DIVIDENDS = ("Dividends", "Payment In Lieu Of Dividends")
_TAXES = ("Withholding Tax", "871(m) Withholding")
_INTEREST = (
    "Broker Interest Paid",
    "Broker Interest Received",
    "Bond Interest Paid",
    "Bond Interest Received",
)
_FEES = ("Other Fees", "Advisor Fees", "Broker Fees", "Commission Adjustments", "Bill Pay")


def parse(rows: list[FileRow], found: Found) -> None:
    """Take the elements of a statement that say something of their own."""
    found.read(rows, lambda row, into: _TAKEN.get(row.kind, _nothing)(row, into))


def _nothing(row: FileRow, found: Found) -> None:
    del row, found


def _statement(row: FileRow, found: Found) -> None:
    if row.has("accountId"):
        found.owners.add(row.text("accountId"))
    if row.has("toDate"):
        found.reported(row.time("toDate", *_DATES, zone=_ZONE))


def _section(row: FileRow, found: Found) -> None:
    found.whole.add({"OpenPositions": "positions", "CashReport": "balances"}[row.kind])


def _account(row: FileRow, found: Found) -> None:
    if row.has("currency"):
        found.currency = row.text("currency")


def _trade(row: FileRow, found: Found) -> None:
    if _is_sum(row):
        return
    side = row.text("buySell")
    fill_id = _first(row, "tradeID", "transactionID")
    symbol = _instrument(row, found)
    if _CANCELLED in side:
        _cancelled(row, found, symbol, side)
        return
    payload = {
        "symbol": symbol,
        "side": side.lower(),
        "quantity": abs(_number(row, "quantity")),
        "price": _number(row, "tradePrice"),
        # What the broker charges is negative in its statements.
        "commission": -_number(row, "ibCommission") - _number(row, "taxes"),
        "commission_currency": row.optional("ibCommissionCurrency") or row.text("currency"),
        "order_id": row.optional("ibOrderID"),
        "fill_id": fill_id,
    }
    record = f"trade:{fill_id}:{side}"
    found.add(row, _time(row), "TradeExecuted", record, payload, rates=_rates(row))


def _cancelled(row: FileRow, found: Found, symbol: str, side: str) -> None:
    original = _first(row, "origTradeID", "origTransactionID")
    payload = {
        "fill_id": original,
        "symbol": symbol,
        "side": side.partition(" ")[0].lower(),
        "reason": "cancelled by the broker",
    }
    found.add(row, _time(row), "TradeBusted", f"cancelled:{original}:{side}", payload)


def _cash(row: FileRow, found: Found) -> None:
    if _is_sum(row):
        return
    kind, amount, reference = (
        row.text("type"),
        _number(row, "amount"),
        row.optional("transactionID"),
    )
    payload: dict[str, Any] = {"currency": row.text("currency"), "reference": reference}
    if kind in _FLOWS:
        event_type = "CashDeposited" if amount > 0 else "CashWithdrawn"
        payload["amount"] = abs(amount)
    elif kind in _DIVIDENDS:
        event_type = "DividendPaid"
        payload |= {"symbol": row.text("symbol"), "amount": amount}
    elif kind in _TAXES:
        event_type = "TaxCharged"
        payload |= {"symbol": row.optional("symbol"), "amount": -amount, "kind": "withholding"}
    elif kind in _INTEREST:
        event_type, payload["amount"] = "InterestAccrued", amount
    elif kind in _FEES:
        event_type = "FeeCharged"
        payload |= {"amount": -amount, "reason": kind}
    else:
        raise row.error(f"{kind} is no cash transaction that can be imported", "type")
    record = None if reference is None else f"cash:{reference}"
    found.add(row, _time(row), event_type, record, payload, rates=_rates(row))


def _tax(row: FileRow, found: Found) -> None:
    if _is_sum(row):
        return
    payload = {
        "currency": row.text("currency"),
        "symbol": row.optional("symbol"),
        "amount": -_number(row, "taxAmount"),
        "kind": "transaction",
    }
    found.add(row, _time(row), "TaxCharged", None, payload, rates=_rates(row))


def _transfer(row: FileRow, found: Found) -> None:
    if _is_sum(row):
        return
    quantity, cash = _number(row, "quantity"), _number(row, "cashTransfer")
    transfer_id = row.optional("transactionID")
    incoming = row.text("direction") == "IN"
    if cash:
        event_type = "CashDeposited" if cash > 0 else "CashWithdrawn"
        payload = {
            "amount": abs(cash),
            "currency": row.text("currency"),
            "reference": transfer_id,
        }
        record = None if transfer_id is None else f"transfer-cash:{transfer_id}"
        found.add(row, _time(row), event_type, record, payload, rates=_rates(row))
    if not quantity:
        return
    if incoming != (quantity > 0):
        raise row.error(f"is {quantity} in a transfer {row.text('direction')}", "quantity")
    if transfer_id is None:
        raise row.error("is missing; the query must include it", "transactionID")
    payload = {
        "symbol": _instrument(row, found),
        "quantity": abs(quantity),
        "transfer_id": transfer_id,
        "cost": abs(_number(row, "positionAmount")) if incoming else None,
    }
    event_type = "PositionTransferredIn" if incoming else "PositionTransferredOut"
    record = f"transfer:{transfer_id}"
    found.add(row, _time(row), event_type, record, payload, rates=_rates(row))


def _corporate_action(row: FileRow, found: Found) -> None:
    if _is_sum(row):
        return
    kind = row.text("type")
    split = _SPLIT.search(row.optional("actionDescription") or row.text("description"))
    if kind not in ("FS", "RS") or split is None:
        raise row.error(f"{kind} is no corporate action that can be imported", "type")
    reference = row.optional("transactionID") or row.optional("actionID")
    payload = {
        "symbol": _instrument(row, found),
        "numerator": Decimal(split[1]),
        "denominator": Decimal(split[2]),
        "reference": reference,
    }
    record = None if reference is None else f"action:{reference}"
    found.add(row, _time(row), "SplitApplied", record, payload, rates=_rates(row))


def _open_position(row: FileRow, found: Found) -> None:
    level = row.optional("levelOfDetail") or "SUMMARY"
    if level != "SUMMARY" or row.text("assetCategory") == "CASH":
        return
    quantity = _number(row, "position") or _number(row, "quantity")
    entry = _number(row, "costBasisPrice") if row.has("costBasisPrice") else None
    symbol = _instrument(row, found)
    found.position(symbol, ReportedPosition(quantity=quantity, entry_price=entry))


def _cash_report(row: FileRow, found: Found) -> None:
    currency = row.text("currency")
    if currency in _BASE or not row.has("endingCash"):
        return
    found.balance(currency, _number(row, "endingCash"))
    before = _number(row, "startingCash")
    if before:
        found.opening[currency] = found.opening.get(currency, Decimal(0)) + before


def _instrument(row: FileRow, found: Found) -> str:
    """Return the symbol of a row, and take what it is."""
    symbol = row.text("symbol")
    category, currency = row.text("assetCategory"), row.text("currency")
    multiplier = _number(row, "multiplier") or Decimal(1)
    kind, base, more = _KINDS.get(category), symbol, {}
    if kind is None:
        raise row.error(f"{category} is no kind that can be imported", "assetCategory")
    if category == "CASH":
        base = symbol.partition(".")[0]
    elif category != "STK":
        base = row.optional("underlyingSymbol") or symbol
    if category == "OPT":
        more = {"option": _option(row)}
    if symbol not in found.instruments:
        found.instruments[symbol] = VenueInstrument(
            symbol=symbol,
            kind=kind,
            base=base,
            quote=currency,
            settle=currency,
            multiplier=multiplier,
            venue=VENUE,
            more=more,
        )
    return symbol


def _option(row: FileRow) -> dict[str, Any]:
    expiry = rfc3339(row.time("expiry", *_DATES, zone=_ZONE))
    return {
        "underlying": row.text("underlyingSymbol"),
        "right": {"C": "call", "P": "put"}.get(row.text("putCall"), row.text("putCall")),
        "strike": row.text("strike"),
        "expiry": expiry,
        "style": "american",
        "settlement": "physical",
    }


def _first(row: FileRow, *fields: str) -> str:
    """Return the first field that is there; statements differ in what their query asked for."""
    for field in fields:
        if row.has(field):
            return row.text(field)
    raise row.error("is missing; the query must include it", fields[0])


def _time(row: FileRow) -> int:
    """Return when something happened; a date is its first moment."""
    if not row.has("dateTime") and row.has("tradeDate") and row.has("tradeTime"):
        text = f"{row.text('tradeDate')};{row.text('tradeTime')}"
        return row.moment("tradeTime", text, *_TIMES, zone=_ZONE)
    for field in ("dateTime", "tradeDate", "date", "reportDate", "settleDate"):
        if row.has(field):
            return row.time(field, *_TIMES, *_DATES, zone=_ZONE)
    raise row.error("is missing; the query must include it", "dateTime")


def _number(row: FileRow, field: str) -> Decimal:
    """Return a number that may have commas between thousands; 0 where there is none."""
    return row.number(field, row.text(field).replace(",", "")) if row.has(field) else Decimal(0)


def _rates(row: FileRow) -> dict[str, Decimal]:
    """Return the rate of a row's currency, where the query asked for it."""
    if not row.has("fxRateToBase"):
        return {}
    return {row.text("currency"): _number(row, "fxRateToBase")}


def _is_sum(row: FileRow) -> bool:
    """Return whether a row repeats what others say, or is of no account."""
    if row.values.get("accountId") == "-":
        return True
    return (row.optional("levelOfDetail") or "").upper() in _SUMS


_KINDS = {
    "STK": "equity",
    "FUND": "equity",
    "FUT": "linear_future",
    "CASH": "spot",
    "OPT": "option",
}
_TAKEN: dict[str, Callable[[FileRow, Found], None]] = {
    "FlexStatement": _statement,
    "AccountInformation": _account,
    "OpenPositions": _section,
    "CashReport": _section,
    "Trade": _trade,
    "CashTransaction": _cash,
    "TransactionTax": _tax,
    "Transfer": _transfer,
    "CorporateAction": _corporate_action,
    "OpenPosition": _open_position,
    "CashReportCurrency": _cash_report,
}
