"""Trades from flat to flat, net of their fees and funding, and what they say together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from psm.analytics.rows import TradeRow
from psm.analytics.statistics import mean, minus, over, plus, total
from psm.domain.money import ONE, ZERO, absolute


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """One cycle of a position, from flat to flat; a flip ends one and starts the next.

    Attributes:
        opened, closed: log times, nanoseconds.
        currency: that all of its money is in.
        peak_size: largest size, without sign.
        gross: realized, before fees and funding.
        net: gross - fees + funding.
        mae, mfe: least and most that gross and unrealized together ever were, 0 included.
    """

    symbol: str
    side: str
    currency: str
    opened: int
    closed: int
    peak_size: Decimal
    gross: Decimal
    fees: Decimal
    funding: Decimal
    net: Decimal
    mae: Decimal | None = None
    mfe: Decimal | None = None

    @property
    def holding_s(self) -> Decimal:
        """Seconds between the first and the last fill."""
        return seconds_between(self.opened, self.closed)


class TradeMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of trades; None where not defined. A trade that broke even is no win and no loss.

    Money of different currencies is never added up: of such trades there are counts, shares,
    streaks and times, and the figures of each currency are in `trade_metrics_by_currency`.

    Attributes:
        currency: of the money; None where there is no trade, or trades of several currencies.
        win_rate: of all; `win_rate_decided`: of wins and losses.
        profit_factor: sum of wins over that of losses; None where there are `no_losses`.
        payoff: average win over average loss.
        expectancy: mean net.
        kelly: W - (1 - W) / payoff, over wins and losses.
    """

    n: int = 0
    currency: str | None = None
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
    no_losses: bool = True


def seconds_between(opened: int, closed: int) -> Decimal:
    """Return the seconds between two times in nanoseconds."""
    return over(Decimal(closed - opened), Decimal(1_000_000_000))


def trade_metrics(trades: Sequence[Trade] | Sequence[TradeRow]) -> TradeMetrics:
    """Return the figures of trades, in the order in which they closed."""
    nets = [trade.net for trade in trades]
    wins = len([net for net in nets if net > 0])
    losses = len([net for net in nets if net < 0])
    unlike = len(dict.fromkeys(trade.currency for trade in trades)) > 1
    decided = _share(wins, len([net for net in nets if net]))
    held = sorted(trade.holding_s for trade in trades)
    return TradeMetrics(
        n=len(nets),
        currency=trades[0].currency if trades and not unlike else None,
        wins=wins,
        losses=losses,
        breakeven=len(nets) - wins - losses,
        win_rate=_share(wins, len(nets)),
        win_rate_decided=decided,
        longest_win_streak=_longest(nets, lambda net: net > 0),
        longest_loss_streak=_longest(nets, lambda net: net < 0),
        holding_mean_s=mean(held) if held else None,
        holding_median_s=_median(held),
        no_losses=not losses,
        **({"net": None} if unlike else _money(nets, decided)),
    )


def trade_metrics_by_currency(
    trades: Sequence[Trade] | Sequence[TradeRow],
) -> dict[str, TradeMetrics]:
    """Return the figures of the trades of each currency; none where there is one currency alone."""
    parts: dict[str, list[Any]] = {}
    for trade in trades:
        parts.setdefault(trade.currency, []).append(trade)
    if len(parts) < 2:
        return {}
    return {currency: trade_metrics(own) for currency, own in sorted(parts.items())}


def _money(nets: Sequence[Decimal], decided: Decimal | None) -> dict[str, Decimal | None]:
    """Return what amounts of one currency say together; `decided` is the share of wins."""
    won = [net for net in nets if net > 0]
    lost = [net for net in nets if net < 0]
    avg_win = mean(won) if won else None
    avg_loss = mean(lost) if lost else None
    payoff = None if avg_win is None or avg_loss is None else over(avg_win, absolute(avg_loss))
    return {
        "profit_factor": over(total(won), absolute(total(lost))) if lost else None,
        "payoff": payoff,
        "avg_win": avg_win,
        "avg_loss": avg_loss,
        "expectancy": mean(nets) if nets else None,
        "best": max(nets, default=None),
        "worst": min(nets, default=None),
        "net": total(nets),
        "kelly": _kelly(decided, payoff),
    }


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
