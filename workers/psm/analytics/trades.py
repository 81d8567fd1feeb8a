"""Trades from flat to flat, net of their fees and funding, and what they say together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec

from psm.analytics.rows import TradeRow
from psm.analytics.statistics import mean, minus, over, plus, total
from psm.domain.money import ONE, ZERO, absolute


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """One cycle of a position, from flat to flat; a flip ends one and starts the next.

    Attributes:
        opened, closed: log times, nanoseconds.
        peak_size: largest size, without sign.
        gross: realized, before fees and funding.
        net: gross - fees + funding.
        mae, mfe: least and most that gross and unrealized together ever were, 0 included.
        currency: that the position settles in, of all amounts.
    """

    symbol: str
    side: str
    opened: int
    closed: int
    peak_size: Decimal
    gross: Decimal
    fees: Decimal
    funding: Decimal
    net: Decimal
    mae: Decimal | None = None
    mfe: Decimal | None = None
    currency: str = ""

    @property
    def holding_s(self) -> Decimal:
        """Seconds between the first and the last fill."""
        return seconds_between(self.opened, self.closed)


class TradeMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of trades; None where not defined. A trade that broke even is no win and no loss.

    Amounts of trades that settle in different currencies are neither added up nor compared: then
    all that is made of amounts is None, and counts, rates, streaks and times are as ever.

    Attributes:
        win_rate: of all; `win_rate_decided`: of wins and losses.
        profit_factor: sum of wins over that of losses.
        payoff: average win over average loss.
        expectancy: mean net.
        kelly: W - (1 - W) / payoff, over wins and losses.
    """

    n: int = 0
    wins: int = 0
    losses: int = 0
    breakeven: int = 0
    win_rate: Decimal | None = None
    win_rate_decided: Decimal | None = None
    profit_factor: Decimal | None = None
    payoff: Decimal | None = None
    avg_win: Decimal | None = None
    avg_loss: Decimal | None = None
    expectancy: Decimal | None = None
    longest_win_streak: int = 0
    longest_loss_streak: int = 0
    holding_mean_s: Decimal | None = None
    holding_median_s: Decimal | None = None
    best: Decimal | None = None
    worst: Decimal | None = None
    net: Decimal | None = ZERO
    kelly: Decimal | None = None


def seconds_between(opened: int, closed: int) -> Decimal:
    """Return the seconds between two times in nanoseconds."""
    return over(Decimal(closed - opened), Decimal(1_000_000_000))


def trade_metrics(trades: Sequence[Trade] | Sequence[TradeRow]) -> TradeMetrics:
    """Return the figures of trades, in the order in which they closed."""
    nets = [trade.net for trade in trades]
    won = [net for net in nets if net > 0]
    lost = [net for net in nets if net < 0]
    held = sorted(trade.holding_s for trade in trades)
    metrics = TradeMetrics(
        n=len(nets),
        wins=len(won),
        losses=len(lost),
        breakeven=len(nets) - len(won) - len(lost),
        win_rate=_share(len(won), len(nets)),
        win_rate_decided=_share(len(won), len(won) + len(lost)),
        longest_win_streak=_longest(nets, lambda net: net > 0),
        longest_loss_streak=_longest(nets, lambda net: net < 0),
        holding_mean_s=mean(held) if held else None,
        holding_median_s=_median(held),
        net=None,
    )
    if len(dict.fromkeys(trade.currency for trade in trades)) > 1:
        return metrics
    return _with_amounts(metrics, nets, won, lost)


def _with_amounts(
    metrics: TradeMetrics, nets: list[Decimal], won: list[Decimal], lost: list[Decimal]
) -> TradeMetrics:
    """Return figures with those that are made of amounts of one currency."""
    avg_win = mean(won) if won else None
    avg_loss = mean(lost) if lost else None
    payoff = None if avg_win is None or avg_loss is None else over(avg_win, absolute(avg_loss))
    return msgspec.structs.replace(
        metrics,
        profit_factor=over(total(won), absolute(total(lost))) if lost else None,
        payoff=payoff,
        avg_win=avg_win,
        avg_loss=avg_loss,
        expectancy=mean(nets) if nets else None,
        best=max(nets, default=None),
        worst=min(nets, default=None),
        net=total(nets),
        kelly=_kelly(metrics.win_rate_decided, payoff),
    )


def _kelly(win_rate: Decimal | None, payoff: Decimal | None) -> Decimal | None:
    if win_rate is None or payoff is None:
        return None
    return minus(win_rate, over(minus(ONE, win_rate), payoff))


def _longest(nets: Sequence[Decimal], counts: Callable[[Decimal], bool]) -> int:
    """Return the longest run of trades of a kind; one that broke even ends it."""
    longest = run = 0
    for net in nets:
        run = run + 1 if counts(net) else 0
        longest = max(longest, run)
    return longest


def _median(ordered: Sequence[Decimal]) -> Decimal | None:
    if not ordered:
        return None
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return over(plus(ordered[middle - 1], ordered[middle]), Decimal(2))


def _share(count: int, of: int) -> Decimal | None:
    return over(Decimal(count), Decimal(of)) if of else None
