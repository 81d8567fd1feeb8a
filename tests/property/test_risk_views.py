"""Views about risk on random days: they remember what the records do, however these are batched."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.risk_log import GROUP, RiskLog
from tests.support.risk_views import assert_remembered, sha256, stored, updates

from psm.projections.risk import RISK
from psm.projections.rows import Row

FEWER = settings(max_examples=max(10, settings().max_examples // 8))
LIMITS = {"daily_loss": "0.05", "exposure_symbol": "2", "repeated_execution": 3, "drawdown": "0.1"}
quantities = st.integers(1, 200).map(str)
sides = st.sampled_from(["buy", "sell"])
steps = st.one_of(
    st.tuples(st.just("order"), sides, quantities),
    st.tuples(st.just("trade"), sides, quantities),
    st.tuples(st.just("mark"), st.integers(85, 110).map(str)),
    st.tuples(st.just("wait"), st.sampled_from([1, 86_400])),
    st.tuples(st.just("lift")),
)


def day(run: list[Any]) -> RiskLog:
    """Return the log that steps make."""
    log = RiskLog(LIMITS)
    for kind, *what in run:
        if kind == "order":
            log.order(*what, on_limit="reduce", strategy_id="s")
        elif kind == "trade":
            side, quantity = what
            log.trade(side, quantity, "100")
        elif kind == "mark":
            log.mark("BTC-PERP", *what)
        elif kind == "wait":
            log.wait(*what)
            log.mark("BTC-PERP", "100")
        else:
            lift_last(log)
    return log


def lift_last(log: RiskLog) -> None:
    latches = [one for one in log.outputs if one.kind == "halt"]
    if latches and latches[-1].key == f"group:{GROUP}":
        halt = sha256(latches[-1].data)
        if halt not in log.rules.book.lifted:
            log.both("HaltLifted", scope="group", id=GROUP, halt_hash=halt)


@FEWER
@given(st.lists(steps, min_size=4, max_size=16))
def test_views_remember_what_the_records_do(run: list[Any]) -> None:
    """After any record, latches and near limits are those of a slot that read the records."""
    records = stored(day(run).outputs)
    for end in range(1, len(records) + 1):
        assert_remembered(records[:end])


@FEWER
@given(st.lists(steps, min_size=4, max_size=16), st.lists(st.integers(1, 9), max_size=9))
def test_rows_do_not_depend_on_batches(run: list[Any], sizes: list[int]) -> None:
    """A rebuild reads other batches than the follower did, and must leave the same rows."""
    found = updates(stored(day(run).outputs))
    assert left_by([found]) == left_by([[update] for update in found])
    cut = []
    rest = found
    for size in sizes:
        cut.append(rest[:size])
        rest = rest[size:]
    assert left_by([*cut, rest]) == left_by([found])


def left_by(batches: list[list[Any]]) -> dict[str, dict[tuple[Any, ...], Row]]:
    """Return the rows that batches leave, by table and key."""
    left: dict[str, dict[tuple[Any, ...], Row]] = {view.table: {} for view in RISK.views}
    for batch in batches:
        for view in RISK.views:
            for statement, rows in view.reduce(batch).items():
                for row in rows:
                    key = tuple(row[name] for name in view.key)
                    left[view.table].pop(key, None)
                    if statement == "upsert":
                        left[view.table][key] = row
    return left
