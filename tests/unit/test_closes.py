"""Series of closes out of rows: gaps, ranges, parts of an account, groups."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from psm.analytics.buckets import MINUTE_NS
from psm.analytics.closes import (
    BucketClose,
    between,
    bound_text,
    closes_of,
    contributions_of,
    counted,
    standing_of,
    units,
)
from psm.analytics.formulas import FORMULAS
from psm.analytics.groups import group_closes
from psm.analytics.performance import PerformanceFigures, performance
from psm.analytics.rows import PnlRow, Timeframe
from psm.analytics.series import compounded, distribution, falls, months, rolling_sharpe
from psm.analytics.statistics import over
from psm.analytics.trades import TradeMetrics

DAY = 86_400_000_000_000
ZERO, ONE = Decimal(0), Decimal(1)


def row(day: int, nav: str | None, *, epoch: int = 1, **more: object) -> PnlRow:
    """Return a row of the day that begins `day` days after 1970."""
    known: dict[str, object] = {
        "account_id": "a", "strategy_id": "*", "symbol": "*", "timeframe": "1d",
        "bucket": day * DAY, "epoch": epoch, "equity": nav and Decimal(nav) * 100,
        "nav": nav and Decimal(nav), "ret": None, "realized": ZERO, "unrealized_change": ZERO,
        "fees": ZERO, "funding": ZERO, "other": ZERO, "pnl": ONE, "pnl_corrected": ZERO,
        "flows": ZERO, "turnover": ZERO, "fills": 1, "peak_gross": None, "contribution": None,
        "return_on_gross": None, "max_drawdown": None,
        "through_log_sequence": day, "through_bucket": 0, "rules": 1,
    }  # fmt: skip
    return PnlRow(**{**known, **more})  # type: ignore[arg-type]


def close(bucket: str, equity: str | None, flows: str = "0", **more: object) -> BucketClose:
    known: dict[str, object] = {
        "bucket": bucket, "epoch": 1, "complete": True, "equity": equity and Decimal(equity),
        "nav": ONE, "ret": None, "flows": Decimal(flows), "pnl": None,
    }  # fmt: skip
    return BucketClose(**{**known, **more})  # type: ignore[arg-type]


def test_a_close_holds_until_the_next_row() -> None:
    """And up to what is complete: the bucket that is not stands open at the end."""
    found = closes_of([row(1, "1"), row(4, "1.5")], "1d", 6 * DAY + MINUTE_NS)
    assert [(one.bucket, one.nav, one.complete) for one in found] == [
        ("1970-01-02", ONE, True),
        ("1970-01-03", ONE, True),
        ("1970-01-04", ONE, True),
        ("1970-01-05", Decimal("1.5"), True),
        ("1970-01-06", Decimal("1.5"), True),
        ("1970-01-07", Decimal("1.5"), False),
    ]
    assert [one.ret for one in found[1:3]] == [ZERO, ZERO]
    assert [one.pnl for one in found[:2]] == [ONE, ZERO]


def test_nothing_is_complete_before_the_first_minute() -> None:
    found = closes_of([row(1, "1")], "1d", None)
    assert [one.complete for one in found] == [False]
    assert counted(found) == []


def test_statistics_are_of_the_latest_epoch() -> None:
    found = closes_of(
        [row(1, "0.5"), row(2, "1.1", epoch=2), row(3, "1.2", epoch=2)], "1d", 9 * DAY
    )
    assert counted(found)[0].bucket == "1970-01-03"
    assert units(counted(found), ONE)[0] == Decimal("1.1")


def test_a_range_starts_from_the_close_before_it() -> None:
    """The close before is taken from a row of long ago; what is between is not made."""
    rows = [row(1, "2"), row(1_000, "3")]
    closes = closes_of(rows, "1d", 1_002 * DAY, since=999 * DAY)
    assert len(closes) == 4
    found, base = between(closes, bound_text(999 * DAY), None)
    assert [one.bucket for one in found] == ["1972-09-26", "1972-09-27", "1972-09-28"]
    assert base == 2
    assert units(found, base) == [ONE, Decimal("1.5"), Decimal("1.5")]


def test_a_range_ends_where_it_ends() -> None:
    """However far the log went on since then."""
    closes = closes_of([row(1, "2")], "1d", 9_000_000 * DAY, until=3 * DAY + 1)
    assert [close.bucket for close in closes] == ["1970-01-02", "1970-01-03", "1970-01-04"]
    assert [close.complete for close in closes] == [True] * 3


def test_a_range_starts_from_the_last_nav_that_is_known() -> None:
    """Equity that did not compute on the day before is no new start: 2 to 3, not 1 to 3."""
    closes = closes_of([row(1, "2"), row(2, None), row(3, "3")], "1d", 4 * DAY)
    found, base = between(closes, bound_text(3 * DAY), None)
    assert (len(found), base) == (1, Decimal(2))


@pytest.mark.parametrize("before", ["-0.5", "0"])
def test_a_range_after_ruin_has_no_figures(before: str) -> None:
    """From -0.5 to -1 is no doubling: of a unit that was lost nothing is known but that."""
    closes = closes_of([row(1, before), row(2, "-1"), row(3, "0.5")], "1d", 4 * DAY)
    found, base = between(closes, bound_text(2 * DAY), None)
    entering = counted(found)
    metrics = performance(units(entering, base), 365, standing=standing_of(closes, entering, base))
    assert base == Decimal(before)
    assert (metrics.n, metrics.ruined) == (2, True)
    assert metrics.total_return is metrics.max_drawdown is metrics.sharpe is None


def test_a_range_that_begins_in_another_epoch_starts_from_one() -> None:
    closes = closes_of([row(1, "2"), row(2, "1.5", epoch=2)], "1d", 3 * DAY)
    assert between(closes, bound_text(2 * DAY), None)[1] == ONE


@pytest.mark.parametrize(
    ("timeframe", "start", "text"),
    [("1d", 3 * DAY, "1970-01-04"), ("1h", 3 * DAY, "1970-01-04T00:00:00Z")],
)
def test_bounds_compare_with_buckets(timeframe: Timeframe, start: int, text: str) -> None:
    found = closes_of([row(3, "1", timeframe=timeframe, bucket=start)], timeframe, None)
    assert found[0].bucket == text
    assert between(found, bound_text(start), None)[0] == found
    assert between(found, None, bound_text(start))[0] == []
    assert between(found, None, bound_text(start + 1_000_000_000))[0] == found


def test_contributions_make_a_unit_of_a_part() -> None:
    """A day without a row brought nothing; an epoch of the account starts it again."""
    account = closes_of([row(1, "1"), row(4, "1", epoch=2)], "1d", 6 * DAY)
    own = [row(1, None, contribution=Decimal("0.1")), row(4, None, contribution=Decimal("0.5"))]
    found = contributions_of(own, account, "1d")
    assert [one.nav for one in found][:4] == [
        Decimal("1.1"), Decimal("1.1"), Decimal("1.1"), Decimal("1.5"),
    ]  # fmt: skip
    assert [one.ret for one in found][1] == ZERO
    assert {one.equity for one in found} == {None}


def test_a_group_is_its_members_together() -> None:
    """A deposit of one of them, or one that joins, is no gain of the group."""
    one = [close("d1", "100", "100"), close("d2", "110"), close("d3", "110")]
    other = [close("d2", "300", "300"), close("d3", "341")]
    found = group_closes([one, other])
    assert [(day.equity, day.flows, day.nav) for day in found] == [
        (Decimal(100), Decimal(100), ONE),
        (Decimal(410), Decimal(300), Decimal("1.1")),
        (Decimal(451), ZERO, Decimal("1.21")),
    ]
    assert [day.pnl for day in found] == [ZERO, Decimal(10), Decimal(41)]
    assert {day.epoch for day in found} == {1}


def test_a_group_of_one_has_the_nav_of_its_account() -> None:
    days = [close("d1", "95", "100", nav=Decimal("0.95")), close("d2", "190", nav=Decimal("1.9"))]
    assert [day.nav for day in group_closes([days])] == [day.nav for day in days]


def test_a_group_without_a_known_equity_has_a_gap() -> None:
    days = [close("d1", "100", "100"), close("d2", None, "50"), close("d3", "165")]
    found = group_closes([days])
    assert [day.nav for day in found] == [ONE, None, Decimal("1.15")]
    assert found[2].pnl == 15


def test_a_ruined_group_starts_again() -> None:
    days = [close("d1", "100", "100"), close("d2", "-10"), close("d3", "50", "60")]
    assert [(day.epoch, day.nav) for day in group_closes([days])] == [
        (1, ONE), (1, Decimal("-0.1")), (2, over(Decimal(50), Decimal(60))),
    ]  # fmt: skip


def test_every_figure_has_its_formula() -> None:
    flags = {"few", "ruined"}
    returns = set(PerformanceFigures.__struct_fields__) - flags
    trades = set(TradeMetrics.__struct_fields__) - {"n", "currency", "no_losses"}
    assert {name for name, one in FORMULAS.items() if one.of == "returns"} == returns
    assert {name for name, one in FORMULAS.items() if one.of == "trades"} == trades


def test_an_account_without_a_row_has_no_close() -> None:
    """As in its first minute, and in a range before its first bucket."""
    assert closes_of([], "1d", 6 * DAY) == []
    assert closes_of([], "1m", None, since=DAY) == []
    assert contributions_of([], [], "1d") == counted([]) == []


def test_a_part_goes_on_behind_a_bucket_without_a_contribution() -> None:
    """The account's first bucket began with nothing: no return, and no reason for none ever."""
    account = closes_of([row(1, "1"), row(2, "1.1"), row(3, "1.2")], "1d", 4 * DAY)
    own = [row(1, None), *(row(day, None, contribution=Decimal("0.1")) for day in (2, 3))]
    found = contributions_of(own, account, "1d")
    assert [(one.ret, one.nav) for one in found[:3]] == [
        (None, None), (Decimal("0.1"), Decimal("1.1")), (Decimal("0.1"), Decimal("1.21")),
    ]  # fmt: skip
    assert [one.bucket for one in counted(found)] == ["1970-01-03", "1970-01-04"]
    figures = performance(units(counted(found), ONE), 365)
    assert (figures.n, figures.total_return) == (2, Decimal("0.21"))


def test_falls_end_at_the_drawdown() -> None:
    navs = [Decimal(text) for text in ("0.9", "1.2", "0.6", "1.1")]
    assert min(falls(navs)) == performance(navs, 365).max_drawdown == Decimal("-0.5")


def test_months_compound_to_the_whole() -> None:
    closes = [("2025-01-31", Decimal("1.1")), ("2025-02-01", Decimal("1.2")),
              ("2025-02-28", Decimal("0.99"))]  # fmt: skip
    found = months(closes)
    assert found == {"2025-01": Decimal("0.1"), "2025-02": Decimal("-0.1")}
    assert compounded(list(found.values())) == Decimal("-0.01")


def test_a_distribution_counts_every_return() -> None:
    values = [Decimal(n) / 100 for n in range(-5, 8)]
    found = distribution(values, 5)
    assert sum(one.count for one in found) == len(values)
    assert (found[0].low, found[-1].high) == (values[0], values[-1])
    assert distribution([], 5) == []
    assert distribution([ONE, ONE], 5)[0].count == 2


def test_rolling_sharpe_is_annual_by_buckets_not_by_its_window() -> None:
    """A window of 3 of daily returns is annual by 365, as quantstats once got wrong."""
    returns = [Decimal(text) for text in ("0.01", "-0.02", "0.03", "0.01")]
    found = rolling_sharpe(returns, 3, 365, ZERO)
    assert found[:2] == [None, None]
    navs = [ONE]
    for value in returns[1:]:
        navs.append(navs[-1] * (1 + value))
    last = performance(navs[1:], 365).sharpe
    assert last is not None
    assert found[3] is not None
    assert abs(found[3] - last) < Decimal("1E-28")


def test_rolling_sharpe_of_equal_returns_is_not_defined() -> None:
    assert rolling_sharpe([ONE, ONE, ONE], 2, 365, ZERO) == [None, None, None]
    assert msgspec.to_builtins(rolling_sharpe([], 2, 365, ZERO)) == []
