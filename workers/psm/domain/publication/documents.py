"""The documents of an account: what reads answer, from the books."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psm.contracts.documents import STATE_FIELDS
from psm.contracts.live import LiveRead
from psm.contracts.updates import MARGIN_FIGURES, VERSION_FIELDS
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.publication.figures import (
    common_figures,
    margin_figures,
    order_figures,
    state_document,
    state_figures,
)
from psm.domain.publication.log_times import log_time


def document_of(
    read: LiveRead,
    state: Mapping[str, Any],
    margin: Mapping[str, Any],
    orders: Mapping[str, Any],
) -> dict[str, Any]:
    """Return one document.

    Args:
        read: which.
        state: the whole account and `as_of`; of it the version fields where nothing more is asked.
        margin: the figures of the margin document.
        orders: every order kept, ended ones included.
    """
    if read == "state":
        return {field: state[field] for field in STATE_FIELDS if field in state}
    versions = {field: state[field] for field in (*VERSION_FIELDS, "as_of")}
    if read == "margin":
        return {**versions, **{field: margin[field] for field in MARGIN_FIGURES}}
    return {**versions, read: orders if read == "orders" else state[read]}


def document_at(
    books: Books, account: Account, read: LiveRead, log_sequence: int, time: int
) -> dict[str, Any]:
    """Return a document as of the books' position; reading changes nothing of them.

    Args:
        books: that the account is valued by.
        account: of these books, or one that waits in its snapshot and entered their market.
        read: which document.
        log_sequence: of the document: the books' position, or a later one up to which the log
            has nothing for them.
        time: log time of the message there, ns.
    """
    margin: Mapping[str, Any] = {}
    orders: Mapping[str, Any] = {}
    if read in ("state", "positions"):
        state = state_document(books, account)
        # A cause is the message at this place; the flags are those of the state, not of an event.
        own = account.delivery.last_log_sequence == log_sequence
        state["cause"] = "event" if own else "mark"
    else:
        state = {**common_figures(books, account), **state_figures(account, account.value())}
        margin = margin_figures(account.value(), account.ledger.leverage_limit)
        if read == "orders":
            orders = {n: order_figures(o) for n, o in sorted(account.ledger.orders.by_id.items())}
    state["log_sequence"] = log_sequence
    state["as_of"] = {"log_sequence": log_sequence, "time": log_time(time)}
    return document_of(read, state, margin, orders)
