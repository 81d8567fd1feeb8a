"""A document that updates keep is the one that the books say."""

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
        """Compare but for what an update says of the event, and not of the state."""
        kept, truth = dict(document.state), self.truth(account_id)
        for name in _OF_THE_EVENT:
            kept.pop(name, None)
            truth.pop(name, None)
        assert encode_fields(kept) == encode_fields({name: truth[name] for name in kept})
        assert kept.keys() == truth.keys()
        self.compared += 1

    def truth(self, account_id: str) -> dict[str, Any]:
        """Return the document of the books."""
        books = self.log.books
        time = self.log.messages[books.position].time
        return document_at(books, self.log.account(account_id), "state", books.position, time)


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
