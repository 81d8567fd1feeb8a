"""Whoever reads the past for a correction finds what collateral was then."""

from __future__ import annotations

from pathlib import Path

from tests.support.domain import Log
from tests.support.events import collateral, deposit, event, instrument, mark, opened, trade

from psm.domain.books import Books
from psm.domain.fold import fold
from psm.domain.messages import NeedHistory
from psm.workers.proof.validation.run import Spool, spooled
from psm.workers.replay.lines import LineFolder

TIERS = [{"notional_floor": "0", "maintenance_rate": "0.1"}]
MESSAGES = (
    instrument(1, "BTCUSDT", kind="spot"),
    instrument(1, "X-PERP", base="X", margin_tiers=TIERS),
    mark(1, "1000", "BTCUSDT"),
    mark(1, "100", "X-PERP"),
    opened(1),
    deposit(2, "1", currency="BTC"),
    trade(3, "buy", "1", "100", "X-PERP", fill_id="f"),
    collateral(1, "BTC", "0"),
    trade(4, "buy", "48", "100", "X-PERP", fill_id="g"),
    event("TradeBusted", {"fill_id": "f", "reason": "x"}, 5),
)
"""Without `f` the coin secures all of `g`: 480 of 1000 are needed, below every warning level."""


def test_from_memory() -> None:
    """As the worker has it."""
    log = Log()
    log.when(*MESSAGES)
    assert log.account().valuation.warned == ()


def test_from_a_file_of_lines() -> None:
    """As `psm fold` has it."""
    folder = LineFolder()
    for sent in MESSAGES:
        taken = folder.take(sent.data)
        assert taken is not None
        assert taken.outcome == "applied"
    assert folder.books.accounts["acc_001"].valuation.warned == ()


def test_from_a_spooled_log(tmp_path: Path) -> None:
    """As `psm validate` has it."""
    log, books, path = Log(), Books(partitions=16), tmp_path / "spool"
    log.when(*MESSAGES)
    with path.open("wb") as file:
        for message in log.messages.values():
            spooled(file, message)
    spool = Spool(str(path))
    for batch in spool.batches(3):
        for message in batch:
            result = fold(books, message)
            if isinstance(result, NeedHistory):
                found = {one.log_sequence: one for one in spool.history(result)}
                result = fold(books, message, found)
            assert not isinstance(result, NeedHistory)
    assert books.accounts["acc_001"].valuation.warned == ()
