"""The unit of a group of accounts, out of the closes of its members."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from psm.analytics.closes import BucketClose
from psm.analytics.statistics import minus, over, times
from psm.domain.money import ONE, ZERO, add, subtract


class _Unit(msgspec.Struct, frozen=True):
    """Where the group last stood with an equity that is known; flows since then."""

    epoch: int = 0
    equity: Decimal = ZERO
    nav: Decimal | None = None
    flows: Decimal = ZERO


def group_closes(members: Sequence[Sequence[BucketClose]]) -> list[BucketClose]:
    """Return the closes of a group as if its members were one account, in one currency.

    What is known of members are their closes and flows, not when within a bucket money came: it
    counts at the bucket's end, and at the beginning where units begin. So the nav is exact over
    buckets without flows, and the shorter buckets are, the nearer it is to the nav of one account.

    Args:
        members: closes of each in buckets of one length; they may begin at different times.
    """
    at: dict[str, list[BucketClose]] = {}
    for series in members:
        for close in series:
            at.setdefault(close.bucket, []).append(close)
    found: list[BucketClose] = []
    unit = _Unit()
    for bucket in sorted(at):
        closes = at[bucket]
        flows = ZERO
        for close in closes:
            flows = add(flows, close.flows)
        equity = _together(closes)
        before, unit = unit, _after(unit, equity, flows)
        found.append(_close(bucket, closes, equity, flows, before, unit))
    return found


def _together(closes: Sequence[BucketClose]) -> Decimal | None:
    """Return the equity of all; None where one of them is not known."""
    total = ZERO
    for close in closes:
        if close.equity is None:
            return None
        total = add(total, close.equity)
    return total


def _after(unit: _Unit, equity: Decimal | None, flows: Decimal) -> _Unit:
    """Return the unit after a bucket that ended with this equity."""
    flows = add(unit.flows, flows)
    if equity is None:
        return msgspec.structs.replace(unit, flows=flows)
    kept = subtract(equity, flows)  # what there is of what there was
    goes_on = unit.nav is not None and unit.equity > 0 and (not flows or (kept > 0 and equity > 0))
    if goes_on and unit.nav is not None:
        return _Unit(unit.epoch, equity, times(unit.nav, over(kept, unit.equity)))
    if equity <= 0:
        return _Unit(unit.epoch, equity)
    base = flows if flows > 0 else equity
    return _Unit(unit.epoch + 1, equity, over(equity, base))


def _close(
    bucket: str,
    closes: Sequence[BucketClose],
    equity: Decimal | None,
    flows: Decimal,
    before: _Unit,
    unit: _Unit,
) -> BucketClose:
    nav = None if equity is None else unit.nav
    base = (before.nav if before.epoch == unit.epoch else ONE) or ZERO
    gained = None if equity is None else subtract(equity, before.equity)
    return BucketClose(
        bucket=bucket,
        epoch=unit.epoch,
        complete=all(close.complete for close in closes),
        equity=equity,
        nav=nav,
        ret=minus(over(nav, base), ONE) if nav is not None and base > 0 else None,
        flows=flows,
        pnl=None if gained is None else subtract(gained, add(before.flows, flows)),
    )
