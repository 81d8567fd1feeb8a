"""Answers to reports: what an account has by somebody else's books, against what it has by ours.

A report takes no place, enters no chain and creates no account, whatever state its stream is in.
What the books remember of it is its event id, so that it is answered once; an account that nothing
was booked for remembers nothing.
"""

from __future__ import annotations

from typing import cast

from psm.contracts import registry
from psm.contracts.errors import ContractError
from psm.contracts.reports import AccountReported
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.delivery.rules import ID_USED, Entry
from psm.domain.messages import Outcome
from psm.domain.publication.updates import UpdateWriter
from psm.domain.reconciliation import Comparison, check_report, compare, holdings_of
from psm.domain.windows import same_hash


def answer_report(
    books: Books, stream_id: str, account: Account | None, entry: Entry, writer: UpdateWriter
) -> tuple[Outcome, ContractError | None]:
    """Compare a report with the books and publish the answer.

    Args:
        books: nothing in them changes.
        stream_id: the account.
        account: as the books have it; None where no event of it came.
        entry: the report.
        writer: of its message.

    Returns:
        What became of the message, and what is wrong with it.
    """
    window = account.delivery.reports if account else None
    remembered = window.hash_of(entry.identity) if window else None
    if remembered is not None and same_hash(remembered, entry.hashed):
        return Outcome.DUPLICATE, None
    if remembered is not None:
        return Outcome.CONFLICT, ContractError("event_id_conflict", ID_USED, "event_id")
    try:
        codec = registry.report_codec_for(entry.envelope, books.market.rules)
        report = cast("AccountReported", codec.decode(entry.envelope.payload))
        check_report(report)
    except ContractError as error:
        return Outcome.REJECTED, error
    writer.caused_by(entry.envelope)
    known = account or Account(stream_id, books.market)
    writer.reconciliation(known, entry.envelope, report, _compared(books, known, report))
    if account is not None:
        account.delivery.answer_report(entry.identity, entry.hashed)
    return Outcome.COMPARED, None


def _compared(books: Books, account: Account, report: AccountReported) -> Comparison | None:
    """Return the comparison; None while the books are not where the report is."""
    if report.through is not None and not account.delivery.is_last_fact(report.through):
        return None
    return compare(report, holdings_of(account), books.market.instruments)
