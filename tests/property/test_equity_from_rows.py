"""Equity computed from rows of unlike age, at the marks of now, is the equity of the fold."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.domain import Log
from tests.support.leg_traffic import LegTraffic
from tests.support.market import Market

from psm.contracts.documents import put_asset, put_home
from psm.contracts.position_keys import position_key
from psm.contracts.valuation import equity_at
from psm.domain.account import Account
from psm.domain.market.slots import ValuationSlots

SLOTS = ValuationSlots(fast_ms=1_000, mid_ms=10_000, slow_ms=60_000)
LAST_DIGIT = Decimal("1e-18")
FEWER = settings(max_examples=settings().max_examples // 4)
seeds = st.integers(0, 2**32)


class Rows:
    """What the views have of each account: the last update per key, whatever its age."""

    def __init__(self) -> None:
        self.states: dict[str, dict[str, Any]] = {}
        self.holdings: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}

    def take(self, updates: list[dict[str, Any]]) -> None:
        """Apply the updates of one message."""
        for update in updates:
            payload, account = update["payload"], update["stream_id"]
            if update["event_type"] == "StateUpdated":
                self.states[account] = payload
            elif update["event_type"] == "PositionUpdated":
                key = position_key(payload["symbol"], payload["position_side"])
                self.holdings.setdefault(account, {})[payload["class"], key] = payload

    def document(self, account: str) -> dict[str, Any]:
        """Return what `psm.get.state` answers."""
        state = self.states[account]
        assets: dict[str, dict[str, str | None]] = {}
        positions: dict[str, dict[str, Any]] = {}
        for (kind, key), row in self.holdings.get(account, {}).items():
            if kind == "asset":
                put_asset(assets, row)
            else:
                positions[key] = row
        if state["currency"] is not None:
            put_home(assets, state["currency"], state["cash"])
        return {**state, "assets": assets, "positions": positions}

    def ages(self, account: str) -> set[int]:
        """Return the log sequences of an account's rows."""
        held = self.holdings.get(account, {}).values()
        return {row["log_sequence"] for row in [self.states[account], *held]}


def assert_equal(account: Account, document: dict[str, Any]) -> bool:
    """Compare the equity from rows with the live one; return whether there is one."""
    live, prices = account.equity(), account.prices
    positions = [p for p in account.ledger.positions.values() if p.size]
    priced = {p.symbol: prices.price_of(p) for p in positions}
    marks = {symbol: price for symbol, (price, source) in priced.items() if source == "mark"}
    home = account.ledger.currency
    names = dict.fromkeys([*account.ledger.cash, *(p.instrument.settle for p in positions)])
    rates = {name: prices.rate(name) for name in names if name != home}
    if live is None or document["equity"] is None:
        return False
    found = equity_at(document, marks, rates)
    assert found is not None
    largest = max([Decimal(1), *(rate for rate in rates.values() if rate is not None)])
    # Each figure of a row is rounded to 18 decimals, a size that a split left with more, too.
    units = sum(abs(priced[p.symbol][0]) * p.instrument.multiplier for p in positions)
    rounded = LAST_DIGIT * largest * (4 + 2 * len(positions) + len(rates) + units)
    worth = sum((abs(Decimal(h["value"] or 0)) for h in document["assets"].values()), Decimal(1))
    assert abs(found - live) <= rounded + worth * Decimal("1e-30")
    return True


def compare(messages: list[Any], every: int) -> tuple[int, int]:
    """Compare all accounts at each n-th message; return (compared, those of unlike age)."""
    log, rows, compared, unlike = Log(slots=SLOTS), Rows(), 0, 0
    for place, sent in enumerate(messages):
        rows.take(log.when(sent).updates)
        if place % every:
            continue
        for name in [n for n in log.books.accounts if n in rows.states]:
            if assert_equal(log.account(name), rows.document(name)):
                compared += 1
                unlike += len(rows.ages(name)) > 1
    return compared, unlike


@FEWER
@given(seeds)
def test_equity_from_rows_is_the_live_equity(seed: int) -> None:
    """Contracts, shares, options, assets and other currencies, on logs of every event type."""
    compared, unlike = compare(Market(seed=seed, length=70).author().sent, every=5)
    assert compared
    assert unlike, "rows of one age prove nothing"


@FEWER
@given(seeds)
def test_equity_from_rows_of_legs_and_wallets(seed: int) -> None:
    """Hedge mode and isolated margin."""
    compare(LegTraffic(seed).messages(), every=3)
