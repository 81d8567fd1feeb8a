"""The fold: one message of the log into the books, exactly one outcome, the updates to publish.

Checked in the order of the contract: operator events, rejected, held, conflict, duplicate, stale,
parked, blocked, refused, applied. Releasing parked or held events needs their bytes: the fold
answers `NeedHistory` before it changes anything, and is called again with them; all of it is one
input. New rules may release several streams: the fold then asks for one after the other.

The way of one event: `fold` here, `StreamFold` reads it and asks the sequence rules whose turn it
is, `ApplyToAccount.apply` decodes, evolves, commits, places, values and publishes it.
"""

from __future__ import annotations

from psm.contracts.errors import InvariantError
from psm.contracts.subjects import OF_STREAMS, log_subject
from psm.domain.books import Books
from psm.domain.folding.account import stream_fold
from psm.domain.folding.market_events import fold_collateral, fold_instrument, fold_mark
from psm.domain.folding.table_events import fold_control
from psm.domain.messages import Emit, Folded, History, LogMessage, NeedHistory


def fold(
    books: Books, message: LogMessage, history: History | None = None, *, emit: Emit = "updates"
) -> Folded | NeedHistory:
    """Fold one message into the books.

    Args:
        books: changed in place; on `NeedHistory` and on an exception not at all.
        message: the next of the log that concerns these books.
        history: messages by log sequence, everything that it asked for at this message so far.
        emit: what to make beside the outcome.

    Raises:
        InvariantError: the order of messages or a released message's bytes are not as they must be.
        UnknownRulesError: the log enables rules that this code does not know.
    """
    if message.log_sequence <= books.position:
        raise InvariantError(
            f"log sequence {message.log_sequence} after {books.position}: messages out of order"
        )
    kind, token = log_subject(message.subject)
    if kind in OF_STREAMS:
        result = stream_fold(books, message, token, history, emit).run()
    elif kind == "marks":
        result = fold_mark(books, message, token, emit)
    elif kind == "instruments":
        result = fold_instrument(books, message, token, emit)
    elif kind == "collateral":
        result = fold_collateral(books, message, token, emit)
    elif kind == "control":
        result = fold_control(books, message, token, history, emit)
    else:
        raise InvariantError(f"subject {message.subject} does not belong to the log")
    if isinstance(result, Folded):
        books.advance(message.log_sequence)
    return result
