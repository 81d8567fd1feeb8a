"""Hyperliquid: answers of its info interface, as JSON files, of one address.

The account holds what lies in both wallets of the address, for contracts and spot, so what moves
between them is no event. `fee` is all of a fill's fee; a builder's share is in it. Fills of one
moment are ordered by the position that each began with. A contract is named `BTC-PERP`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from psm.workers.imports.facts import (
    Found,
    Kind,
    Link,
    ReportedPosition,
    VenueInstrument,
    fields_of,
    kind_of,
)
from psm.workers.imports.rows import FileRow

VENUE = "hyperliquid"
_CASH = "USDC"
_BETWEEN_WALLETS = ("accountClassTransfer", "cStakingTransfer")
_MOVES = ("internalTransfer", "subAccountTransfer", "spotTransfer", "send")
_AMOUNTS = ("amount", "usdc", "netWithdrawnUsd")
_EVENTS = {
    "deposit": "CashDeposited",
    "vaultWithdraw": "CashDeposited",
    "vaultDistribution": "CashDeposited",
    "withdraw": "CashWithdrawn",
    "vaultDeposit": "CashWithdrawn",
    "vaultCreate": "CashWithdrawn",
    "rewardsClaim": "InterestAccrued",
    "accountActivationGas": "FeeCharged",
}


def defines(document: FileRow) -> bool:
    """Return whether an answer says what instruments are, or whose; others lean on it."""
    return "universe" in document.values or document.has("user")


def parse(document: FileRow, found: Found) -> None:
    """Take what an answer of the venue says; streamed fills have theirs in `fills`."""
    if document.has("user"):
        found.owners.add(document.text("user").lower())
    rows = [document]
    for field in ("list", "fills"):
        if isinstance(document.values.get(field), list):
            rows = document.rows(field)
    found.read(rows, lambda row, into: kind_of(row, _KINDS).take(row, into))


def _fill(row: FileRow, found: Found) -> None:
    symbol = _symbol(row, found, row.text("coin"))
    side = {"B": "buy", "A": "sell"}.get(row.text("side"))
    if side is None:
        raise row.error("is neither B nor A", "side")
    size, before = row.decimal("sz"), row.decimal("startPosition")
    tid, oid = row.text("tid"), row.text("oid")
    payload = {
        "symbol": symbol,
        "side": side,
        "quantity": size,
        "price": row.decimal("px"),
        "commission": row.decimal("fee"),
        "commission_currency": row.text("feeToken"),
        "order_id": oid,
        "fill_id": tid,
        "liquidity": "taker" if row.flag("crossed") else "maker",
        "execution": _execution(row),
    }
    after = before + size if side == "buy" else before - size
    link = Link(symbol=symbol, before=before, after=after)
    record = f"fill:{row.text('time')}:{symbol}:{tid}:{side}:{oid}"
    found.add(row, row.millis("time"), "TradeExecuted", record, payload, link=link)


def _execution(row: FileRow) -> str:
    if "liquidation" in row.values and row.values["liquidation"] is not None:
        return "liquidation"
    return "adl" if row.optional("dir") == "Auto-Deleveraging" else "trade"


def _funding(row: FileRow, found: Found) -> None:
    delta = row.inner("delta")
    if delta.text("type") != "funding":
        _ledger(row, found)
        return
    symbol, time = _symbol(row, found, delta.text("coin")), row.millis("time")
    reference = f"{symbol}:{row.text('time')}"  # funding has no hash of its own
    payload = {
        "symbol": symbol,
        "funding_payment": delta.decimal("usdc"),
        "funding_rate": delta.decimal("fundingRate") if delta.has("fundingRate") else None,
        "currency": _CASH,
        "reference": reference,
    }
    found.add(row, time, "FundingApplied", f"funding:{reference}", payload)


def _ledger(row: FileRow, found: Found) -> None:
    delta = row.inner("delta")
    kind = delta.text("type")
    reason = _told_elsewhere(delta, kind)
    if reason is not None:
        found.skipped[f"{kind}: {reason}"] += 1
        return
    if kind not in _EVENTS and kind not in _MOVES:
        raise row.error(f"{kind} is no movement that can be imported", "delta")
    event_type = _EVENTS.get(kind)
    if event_type is None:
        event_type = "CashDeposited" if _is_incoming(row, delta, found) else "CashWithdrawn"
    _flow(row, found, delta, event_type)


def _told_elsewhere(delta: FileRow, kind: str) -> str | None:
    """Return why a movement is no event of the account; None where it is one."""
    if kind == "liquidation":
        return "the fills tell it"
    own = kind in _MOVES and delta.optional("user") == delta.optional("destination")
    return "between wallets of the account" if own or kind in _BETWEEN_WALLETS else None


def _flow(row: FileRow, found: Found, delta: FileRow, event_type: str) -> None:
    reference, kind, time = row.text("hash"), delta.text("type"), row.millis("time")
    asset = delta.optional("token") or _CASH
    field = next((name for name in _AMOUNTS if delta.has(name)), "usdc")
    fields: dict[str, Any] = {"currency": asset, "reference": reference}
    record = f"{kind}:{reference}:{asset}:{event_type}"
    found.add(row, time, event_type, record, {"amount": delta.decimal(field), **fields})
    fee = delta.decimal_or("fee")
    if fee and event_type == "CashWithdrawn":
        payload = {**fields, "currency": delta.optional("feeToken") or _CASH}
        payload |= {"amount": fee, "reason": kind}
        found.add(row, time, "FeeCharged", f"{record}:fee", payload)


def _is_incoming(row: FileRow, delta: FileRow, found: Found) -> bool:
    """Return whether a transfer comes here; the files have to name the address."""
    if not found.owners:
        raise row.error(
            "moves between two addresses, and no file says which of them is the account's: add "
            "--venue-account, or an answer that has `user`",
            "delta",
        )
    return delta.text("destination").lower() in found.owners


def _clearinghouse(row: FileRow, found: Found) -> None:
    found.reported(row.millis("time"))
    found.whole.add("positions")
    unrealized = Decimal(0)
    for item in row.rows("assetPositions"):
        position = item.inner("position")
        size = position.decimal("szi")
        unrealized += position.decimal_or("unrealizedPnl")
        if size:
            symbol = _symbol(position, found, position.text("coin"))
            entry = position.decimal("entryPx") if position.has("entryPx") else None
            found.position(symbol, ReportedPosition(quantity=size, entry_price=entry))
    value = row.inner("marginSummary").decimal("accountValue")
    found.balance(_CASH, value - unrealized)


def _spot_balances(row: FileRow, found: Found) -> None:
    for held in row.rows("balances"):
        found.balance(held.text("coin"), held.decimal("total"))


def _spot_meta(row: FileRow, found: Found) -> None:
    tokens = {token.text("index"): token.text("name") for token in row.rows("tokens")}
    for pair in row.rows("universe"):
        base, quote = (tokens.get(index) for index in pair.values["tokens"])
        if base is None or quote is None:
            raise pair.error("names a token that is not listed", "tokens")
        symbol = pair.text("name")
        found.instruments[symbol] = VenueInstrument(
            symbol=symbol, kind="spot", base=base, quote=quote, settle=quote, venue=VENUE
        )


def _symbol(row: FileRow, found: Found, coin: str) -> str:
    """Return the symbol of a coin: a spot pair as it is, `@107` too, else its contract."""
    if coin.startswith("@") and coin not in found.instruments:
        found.undefined.setdefault(coin, row.place)
        return coin
    if "/" in coin and coin not in found.instruments:
        base, _, quote = coin.partition("/")
        found.instruments[coin] = VenueInstrument(
            symbol=coin, kind="spot", base=base, quote=quote, settle=quote, venue=VENUE
        )
    if coin in found.instruments:
        return coin
    symbol = f"{coin}-PERP"
    quote = row.optional("feeToken") or _CASH
    if symbol not in found.instruments:
        found.instruments[symbol] = VenueInstrument(
            symbol=symbol,
            kind="linear_perp",
            base=coin.rpartition(":")[2],
            quote=quote,
            settle=quote,
            venue=VENUE,
        )
    return symbol


_KINDS = (
    Kind(
        name="userFills",
        fields=fields_of("coin px sz side time startPosition oid tid fee feeToken crossed"),
        take=_fill,
    ),
    Kind(name="userFunding or ledger updates", fields=fields_of("time hash delta"), take=_funding),
    Kind(
        name="clearinghouseState",
        fields=fields_of("marginSummary assetPositions time"),
        take=_clearinghouse,
    ),
    Kind(name="spotMeta", fields=fields_of("tokens universe"), take=_spot_meta),
    Kind(name="spotClearinghouseState", fields=fields_of("balances"), take=_spot_balances),
)
