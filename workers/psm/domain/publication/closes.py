"""Closes of minutes as updates tell them."""

from __future__ import annotations

from psm.domain.market.slots import MINUTE
from psm.domain.money import published_or_null, published_text
from psm.domain.publication.log_times import log_time
from psm.domain.valuation.unpublished import AccountClose, PositionClose


def account_close(close: AccountClose) -> dict[str, str | None]:
    """Return what `StateUpdated.closed` says of one minute."""
    return {
        "bucket_end": log_time(close.minute * MINUTE),
        "equity": published_or_null(close.equity),
        "nav": published_or_null(close.performance.nav(close.equity)),
        "flows": published_text(close.performance.flows),
        "max_drawdown": published_or_null(close.performance.max_drawdown()),
    }


def position_close(close: PositionClose) -> dict[str, str | None]:
    """Return what `PositionUpdated.closed` says of one minute."""
    return {
        "bucket_end": log_time(close.minute * MINUTE),
        "unrealized_pnl": published_or_null(close.unrealized),
        "mark_price": published_or_null(close.price),
    }
