"""Tear sheets of made-up accounts."""

from __future__ import annotations

import random
from datetime import date, timedelta
from decimal import Decimal

from psm.analytics.closes import BucketClose, counted, units
from psm.analytics.performance import performance
from psm.analytics.rows import TradeRow
from psm.analytics.trades import trade_metrics
from psm.workers.analytics.parts import PnlPart
from psm.workers.analytics.report.figures import ReportFigures

ZERO, ONE = Decimal(0), Decimal(1)
_DAY_NS = 86_400_000_000_000


def walk(days: int, *, seed: int = 7) -> list[BucketClose]:
    """Return closes of a random walk; the last day is not complete."""
    draw = random.Random(seed)
    nav, equity, closes = ONE, Decimal(10_000), []
    for day in range(days):
        ret = Decimal(str(round(draw.gauss(0.0008, 0.013), 6)))
        pnl = (equity * ret).quantize(Decimal("0.01"))
        nav, equity = nav * (1 + ret), equity + pnl
        closes.append(
            BucketClose(
                bucket=str(date(2025, 3, 14) + timedelta(days=day)),
                epoch=1,
                complete=day < days - 1,
                equity=equity,
                nav=nav,
                ret=ret,
                flows=ZERO,
                pnl=pnl,
            )
        )
    return closes


def closed_trade(number: int, net: str, *, symbol: str = "BTC-PERP") -> TradeRow:
    """Return a trade of an hour that ended `number` days after 1970-01-01."""
    gross = Decimal(net) + Decimal("0.5")
    return TradeRow(
        account_id="acc_001",
        symbol=symbol,
        position_side="net",
        strategy_id="*",
        cycle=number,
        side="long" if number % 2 else "short",
        currency="USDT",
        opened=number * _DAY_NS,
        closed=number * _DAY_NS + 3_600_000_000_000,
        peak_size=Decimal("0.5"),
        gross=gross,
        fees=Decimal("0.5"),
        funding=ZERO,
        net=Decimal(net),
        mae=Decimal("-3.25"),
        mfe=Decimal("12.75"),
        return_on_peak_notional=Decimal("0.01"),
        holding_s=Decimal(3600),
        fills=2,
        through_log_sequence=number,
    )


def tear_sheet(
    closes: list[BucketClose],
    trades: list[TradeRow] | None = None,
    *,
    subject: str = "acc_001",
    symbol: str = "BTC-PERP",
) -> ReportFigures:
    """Return what a page shows of them."""
    entering = counted(closes)
    navs = units(entering, ONE)
    return ReportFigures(
        subject=subject,
        asked=subject,
        kind="account",
        strategy_id="*",
        symbol="*",
        members=[],
        currency="USDT",
        timeframe="1d",
        start=None,
        end=None,
        closed_through="2026-03-14T10:31:00Z",
        through_log_sequence=48_213,
        rules=1,
        periods_per_year=365,
        risk_free=ZERO,
        closes=closes,
        navs=[(close.bucket, nav) for close, nav in zip(entering, navs, strict=True)],
        exposure=[(close.bucket, close.equity and close.equity / 4) for close in closes],
        metrics=performance(navs, 365),
        symbols=[
            PnlPart(
                name=symbol,
                realized=Decimal("512.25"),
                unrealized_change=Decimal("-12.5"),
                fees=Decimal("8.75"),
                funding=Decimal("-1.25"),
                other=ZERO,
                pnl=Decimal("489.75"),
                turnover=Decimal(125_000),
                fills=48,
            )
        ],
        strategies=[],
        trades=trades or [],
        trade_metrics=trade_metrics(trades or []),
    )
