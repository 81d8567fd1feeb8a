"""Reports on random logs: our own state matches, and no report changes anything."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.support.domain import Log
from tests.support.events import event
from tests.support.market import KINDS, Market
from tests.support.simulator.traffic import type_of

from psm.domain.reconciliation import holdings_of, report_of

seeds = st.integers(0, 2**32)


def told(log: Log, stream: str, **changed: Any) -> dict[str, Any]:
    """Return the answer to a report of what we hold ourselves, with some fields changed."""
    own = report_of(holdings_of(log.account(stream)), source="us", as_of="now")
    sent = event("AccountReported", {**own, **changed}, None, stream=stream, salt=f"{changed}")
    return log.when(sent).payload("ReconciliationReported")


@given(seeds, st.sampled_from(sorted(KINDS)))
def test_our_own_state_matches(seed: int, kind: str) -> None:
    """In every kind of account, in a gap too: assets, sizes and entry prices, exactly."""
    log = Market(seed=seed, length=160, accounts=2, symbols=KINDS[kind]).author().log
    for stream, account in sorted(log.books.accounts.items()):
        before = log.state(stream)
        answer = told(log, stream)
        assert (answer["matches"], answer["not_compared"]) == (True, []), answer
        assert answer["ledger_hash"] == before["ledger_hash"] == account.ledger_hash().hex()
        extra = {"symbol": "NEW-PERP", "size": "1"}
        more = told(log, stream, positions=[extra])
        names = {one["symbol"] for one in more["differences"]}
        held = {p.symbol for p in account.ledger.positions.values() if p.size}
        assert names == {"NEW-PERP", *held}


@given(seeds)
def test_log_without_its_reports_gives_the_same_accounts(seed: int) -> None:
    """Chains, hashes, numbers, updates: nothing but the answers is missing."""
    author = Market(seed=seed, length=160).author()
    apart = Log()
    for sent in author.sent:
        if type_of(sent.data) != "AccountReported":
            apart.when(sent)
    assert apart.hashes() == author.log.hashes()
    for stream, account in apart.books.accounts.items():
        whole = author.log.account(stream)
        assert whole.delivery.chain_hash == account.delivery.chain_hash
        assert whole.delivery.last_fact == account.delivery.last_fact
        one, other = (log.state(stream) for log in (apart, author.log))
        del one["log_sequence"], other["log_sequence"]
        dropped = ("mark_log_sequence",)
        for state in (one, other):
            for figures in state["positions"].values():
                for name in dropped:
                    figures.pop(name, None)
        assert msgspec.json.encode(one) == msgspec.json.encode(other)
