"""Equity, exposure, margin, drawdown and warning levels."""
# Decimals are compared with plain numbers:
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from decimal import Decimal

import pytest

from psm.contracts.table_events import MarginTier
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.modes import PositionModes
from psm.domain.ledger.order_store import OrderStore
from psm.domain.ledger.positions import Position
from psm.domain.ledger.prices import AccountPrices
from psm.domain.ledger.wallets import Wallets
from psm.domain.market.instrument import Instrument
from psm.domain.market.margin_tiers import maintenance_margin, tiers_of
from psm.domain.market.mark import Mark
from psm.domain.market.tables import Market
from psm.domain.money import quotient
from psm.domain.valuation.performance import NOTHING_YET, Performance, drawdown
from psm.domain.valuation.state import ValuationState
from psm.domain.valuation.valuation import Valuation
from psm.domain.valuation.warnings import crossings
from psm.domain.windows import FillWindow, KeyWindow

D = Decimal


def position(size: str, cost: str, symbol: str = "X", **changes: object) -> Position:
    """Return an open linear position."""
    fields = {"kind": "linear_perp", "settle": "USDT", **changes}
    made = Instrument(symbol=symbol, base="B", quote="Q", **fields)  # type: ignore[arg-type]
    return Position(instrument=made, size=D(size), cost=D(cost), last_fill=D(100), cycle=1)


def marks(**prices: str) -> dict[str, Mark]:
    """Return a table of marks."""
    return {symbol: Mark(price=D(price), sequence_number=1) for symbol, price in prices.items()}


def valuate(
    cash: dict[str, str], held: list[Position], prices: dict[str, Mark], **rates: str
) -> Valuation:
    """Return the valuation of a USDT account; `rates` are the known ones, by currency."""
    market = Market()
    market.marks = dict(prices)
    for currency, rate in rates.items():
        symbol = f"{currency}USDT"
        market.marks[symbol] = Mark(price=D(rate), sequence_number=1)
        made = Instrument(symbol=symbol, kind="spot", base=currency, quote="USDT", settle="USDT")
        market.learn(1, made)
    ledger = Ledger.restored(
        currency="USDT",
        leverage_limit=None,
        leverages={},
        modes=PositionModes(),
        wallets=Wallets(),
        cash={currency: D(amount) for currency, amount in cash.items()},
        costs={},
        totals={},
        positions=held,
        orders=OrderStore(),
        fill_keys=FillWindow(),
        reference_keys=KeyWindow(),
        booked_flows={},
        by_mark=False,
        own_fills={},
        splits={},
    )
    state = ValuationState.restored(
        ledger.positions,
        performance=NOTHING_YET,
        excursions={},
        warned=(),
        warned_positions={},
        published=None,
    )
    return state.value(ledger, AccountPrices(ledger, market))


def test_figures_of_a_long_and_a_short() -> None:
    """Gross adds magnitudes, net adds signs, initial margin is the notional at leverage 1."""
    held = [position("2", "200", "A"), position("-1", "50", "B")]
    v = valuate({"USDT": "1000"}, held, marks(A="110", B="60"))
    assert (v.unrealized_pnl, v.equity) == (10, 1010)
    assert (v.exposure_gross, v.exposure_net, v.margin_initial) == (280, 160, 280)
    assert (v.margin_available, v.withdrawable) == (730, 720)
    assert v.leverage == quotient(D(280), D(1010))
    assert v.flags == ()


def test_losses_reduce_and_gains_do_not_raise_what_may_be_withdrawn() -> None:
    """Unrealized profit is not withdrawable, unrealized loss counts."""
    cash = {"USDT": "1000"}
    gain = valuate(cash, [position("1", "100")], marks(X="150"))
    loss = valuate(cash, [position("1", "100")], marks(X="50"))
    assert (gain.withdrawable, loss.withdrawable) == (850, 900)


def test_position_without_a_mark_uses_its_own_last_fill() -> None:
    """The source says which price it was."""
    v = valuate({}, [position("1", "90")], {})
    assert (v.positions["X"].source, v.unrealized_pnl) == ("fill", 10)
    assert v.equity == 10


def test_fully_paid_instruments_count_by_market_value() -> None:
    """Spot and equity are paid in cash, so their value is part of equity."""
    v = valuate({"USDT": "-100"}, [position("1", "100", kind="equity")], marks(X="130"))
    assert (v.equity, v.unrealized_pnl) == (30, 30)
    assert "overdraft" in v.flags


def test_other_currencies_are_left_out_and_flagged() -> None:
    """Nothing is taken one to one."""
    cash = {"USDT": "5", "BTC": "1"}
    v = valuate(cash, [], {})
    assert (v.equity, v.flags) == (5, ("rate_missing",))
    v = valuate({"USDT": "5"}, [position("1", "90", settle="BTC")], {})
    assert (v.equity, v.exposure_gross, v.margin_initial) == (5, 0, 0)
    assert v.flags == ("rate_missing",)


def test_other_currencies_are_converted_at_their_rate() -> None:
    """Assets, PnL, exposure and margins count at their rate; these two BTC came for nothing."""
    held = [position("1", "90", settle="BTC")]
    v = valuate({"USDT": "5", "BTC": "2"}, held, marks(X="100"), BTC="7")
    assert (v.equity, v.unrealized_pnl) == (5 + 14 + 70, 14 + 70)
    assert (v.exposure_gross, v.exposure_net, v.margin_initial) == (714, 714, 700)
    assert "rate_missing" not in v.flags


def test_valuation_that_does_not_compute_is_null() -> None:
    """One account's numbers never stop its neighbours."""
    v = valuate({"USDT": "1"}, [position("1", "1e60")], marks(X="1e-60"))
    assert (v.equity, v.margin_ratio, v.positions) == (None, None, {})
    assert v.flags == ("valuation_failed",)
    assert crossings(v, ("0.5",), None) == ((), ("0.5",))


TIERS = (
    MarginTier(notional_floor=D(0), maintenance_rate=D("0.004")),
    MarginTier(notional_floor=D(50_000), maintenance_rate=D("0.005")),
    MarginTier(notional_floor=D(250_000), maintenance_rate=D("0.01")),
)


@pytest.mark.parametrize(
    ("value", "margin"),
    [
        ("0", "0"),
        ("49999", "199.996"),
        ("50000", "200"),
        ("100000", "450"),
        ("250000", "1200"),
        ("1000000", "8700"),
    ],
)
def test_tiers_are_continuous(value: str, margin: str) -> None:
    """A left-out amount is the one without a jump at the floor; order does not matter."""
    assert maintenance_margin(D(value), tiers_of(TIERS)) == D(margin)
    assert maintenance_margin(D(value), tiers_of(TIERS[::-1])) == D(margin)


def test_given_tier_amount_is_used() -> None:
    """The venue's own amount wins: 250000 x 1% - 1300."""
    tiers = (MarginTier(notional_floor=D(0), maintenance_rate=D("0.01"), maintenance_amount=D(50)),)
    assert maintenance_margin(D(250_000), tiers_of(tiers)) == 2450


def test_tier_begins_at_its_floor() -> None:
    """Where the venue's amounts make a jump, the floor itself belongs to the higher tier."""
    tiers = tuple(
        MarginTier(notional_floor=D(f), maintenance_rate=D(r), maintenance_amount=D(0))
        for f, r in (("0", "0.01"), ("100", "0.02"))
    )
    assert [maintenance_margin(D(v), tiers_of(tiers)) for v in ("99", "100")] == [D("0.99"), 2]


@pytest.mark.parametrize(
    ("peak", "equity", "flow", "result"),
    [
        ("100", "80", "80", "200"),
        ("100", "80", "-40", "50"),
        ("100", "80", "0", "100"),
        ("100", "80", "-80", None),
        ("100", "80", "-90", None),
        ("100", "-10", "30", "20"),
        ("100", "-10", "5", None),
        (None, "0", "50", "50"),
        (None, "80", "-90", None),
        ("100", None, "20", "100"),
    ],
)
def test_peak_after_a_flow(
    peak: str | None, equity: str | None, flow: str, result: str | None
) -> None:
    """Flows scale the peak with the equity; where that has no meaning it starts afresh."""
    before = NOTHING_YET if peak is None else Performance(units=D(1), peak=D(peak), epoch=1)
    after = before.after_flow(None if equity is None else D(equity), D(flow))
    assert after.peak == (None if result is None else D(result))
    assert after.flows == D(flow)


def test_peak_and_drawdown() -> None:
    """The peak starts at the first positive equity and only rises; drawdown is relative to it."""
    assert NOTHING_YET.after_equity(D(-1)) is NOTHING_YET
    begun = NOTHING_YET.after_equity(D(7))
    assert (begun.peak, begun.units, begun.epoch) == (7, 7, 1)
    assert begun.after_equity(D(5)).peak == 7
    assert begun.after_equity(None) is begun
    assert drawdown(D(8), D(6)) == D("0.25")
    assert drawdown(D(8), D(-8)) == 2
    assert drawdown(None, D(5)) is None
    assert drawdown(D(8), None) is None


def test_equity_of_an_account_without_positions_is_no_warning() -> None:
    """An overdraft alone is flagged, not warned about."""
    v = valuate({"USDT": "-5"}, [], {})
    assert crossings(v, (), None) == ((), ())
    assert v.flags == ("overdraft",)


@pytest.mark.parametrize(
    ("ratio", "before", "crossed", "after"),
    [
        ("0.499", (), (), ()),
        ("0.5", (), ("0.5",), ("0.5",)),
        ("0.475", ("0.5",), (), ("0.5",)),
        ("0.4749", ("0.5",), (), ()),
        ("0.9", ("0.5",), ("0.8",), ("0.5", "0.8")),
        ("1", (), ("0.5", "0.8", "1.0"), ("0.5", "0.8", "1.0")),
        ("0.95", ("0.5", "0.8", "1.0"), (), ("0.5", "0.8", "1.0")),
        ("0.94", ("0.5", "0.8", "1.0"), (), ("0.5", "0.8")),
    ],
)
def test_levels(
    ratio: str, before: tuple[str, ...], crossed: tuple[str, ...], after: tuple[str, ...]
) -> None:
    """Upward crossings only, ascending; armed again below 0.95 of the level."""
    v = Valuation(positions={}, equity=D(1), collateral=D(1), margin_maintenance=D(ratio))
    assert crossings(v, before, None) == (crossed, after)  # type: ignore[arg-type]
