"""A document that updates keep is the one that the books say, each row as of its own update."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.domain import Log
from tests.support.events import Sent
from tests.support.leg_traffic import LegTraffic
from tests.support.market import Market
from tests.support.slots import even_slots

from psm.contracts.codec import encode_fields
from psm.contracts.documents import AccountDocument
from psm.domain.publication.documents import document_at

FEWER = settings(max_examples=settings().max_examples // 4)
_OF_THE_EVENT = ("cause", "flags", "event_log_sequence")
_MOVED = (  # by marks and by the rest of the account, without an update of the row
    "mark_price", "mark_source", "mark_log_sequence", "mark_time", "notional", "value",
    "unrealized_pnl", "unrealized_pnl_account", "cycle_mae", "cycle_mfe", "liquidation_price",
)  # fmt: skip


class Followed:
    """Documents of all accounts: entered at their first update, kept by the others."""

    def __init__(self) -> None:
        self.log = Log(slots=even_slots(1))
        self.documents: dict[str, AccountDocument] = {}
        self.compared = 0

    def take(self, sent: Sent) -> None:
        """Fold a message, apply its updates, compare whoever it updated."""
        updates: dict[str, list[bytes]] = {}
        for update in self.log.when(sent).result.updates:
            if update.previous is not None:
                updates.setdefault(update.stream_id, []).append(update.data)
        for account_id, own in updates.items():
            document = self.documents.get(account_id)
            if document is None:
                self.documents[account_id] = AccountDocument(encode_fields(self.truth(account_id)))
                continue
            document.take(own)
            if any(b'"StateUpdated"' in data for data in own):
                self.compare(account_id, document)

    def compare(self, account_id: str, document: AccountDocument) -> None:
        """Compare but for what an update says of the event, and for what moves without one."""
        kept, truth = lasting(document.state), lasting(self.truth(account_id))
        assert kept.keys() == truth.keys()
        for name, figure in kept.items():
            assert figure == truth[name], name
        self.compared += 1

    def truth(self, account_id: str) -> dict[str, Any]:
        """Return the document of the books."""
        books = self.log.books
        time = self.log.messages[books.position].time
        return document_at(books, self.log.account(account_id), "state", books.position, time)


def lasting(state: dict[str, Any]) -> dict[str, Any]:
    """Return a document without what is not compared."""
    found = {name: figure for name, figure in state.items() if name not in _OF_THE_EVENT}
    for field in ("assets", "positions"):
        found[field] = {
            key: {name: figure for name, figure in row.items() if name not in _MOVED}
            for key, row in state[field].items()
            # One that never was anything is in the books, and in no view.
            if (row.get("side"), row.get("cycle")) != ("flat", 0)
        }
    return found


@FEWER
@given(st.integers(0, 2**32))
def test_of_every_kind_of_account(seed: int) -> None:
    """Contracts, shares, options, assets, other currencies; every event type."""
    followed = Followed()
    for sent in Market(seed=seed, length=60).author().sent:
        followed.take(sent)
    assert followed.compared


@FEWER
@given(st.integers(0, 2**32))
def test_of_legs_and_wallets(seed: int) -> None:
    """Hedge mode and isolated margin."""
    followed = Followed()
    for sent in LegTraffic(seed).messages():
        followed.take(sent)
    assert followed.compared


@pytest.mark.parametrize("field", ["assets", "positions", "orders"])
def test_rows_stand_by_their_keys(field: str) -> None:
    """However late one comes, as the reads show them."""
    followed = Followed()
    for sent in Market(seed=5, length=120).author().sent:
        followed.take(sent)
    rows = [document.state[field] for document in followed.documents.values()]
    assert any(len(row) > 1 for row in rows)
    assert all(list(row) == sorted(row) for row in rows)
