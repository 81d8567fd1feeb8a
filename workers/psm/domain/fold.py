"""The fold: one message of the log into the books, exactly one outcome, the updates to publish.

Checked in the order of the contract: operator events, rejected, held, conflict, duplicate, stale,
parked, blocked, refused, applied. Releasing parked or held events needs their bytes: the fold
answers `NeedHistory` before it changes anything, and is called again with them; all of it is one
input. New rules may release several streams: the fold then asks for one after the other.
"""

from __future__ import annotations

from psm.contracts.errors import InvariantError
from psm.domain.account_fold import AccountFold
from psm.domain.books import Books
from psm.domain.messages import LogMessage
from psm.domain.outcomes import Folded, History, NeedHistory
from psm.domain.table_fold import fold_control, fold_instrument, fold_mark


def fold(books: Books, message: LogMessage, history: History | None = None) -> Folded | NeedHistory:
    """Fold one message into the books.

    Args:
        books: changed in place; on `NeedHistory` and on an exception not at all.
        message: the next of the log that concerns these books.
        history: messages by log sequence, everything that it asked for at this message so far.

    Raises:
        InvariantError: the order of messages or a released message's bytes are not as they must be.
        UnknownRulesError: the log enables rules that this code does not know.
    """
    if message.log_sequence <= books.position:
        raise InvariantError(
            f"log sequence {message.log_sequence} after {books.position}: messages out of order"
        )
    kind, _, rest = message.subject.partition(".")
    token = rest.rpartition(".")[2]
    if kind == "trades":
        result: Folded | NeedHistory = AccountFold(books, message, token, history).run()
    elif kind == "marks":
        result = fold_mark(books, message, token)
    elif kind == "instruments":
        result = fold_instrument(books, message, token)
    elif kind == "control":
        result = fold_control(books, message, token, history)
    else:
        raise InvariantError(f"subject {message.subject} does not belong to the log")
    if isinstance(result, Folded):
        books.position = message.log_sequence
    return result
