"""What the owner of a partition answers from its books, while it folds on."""

from __future__ import annotations

import uuid

from psm.contracts import subjects
from psm.contracts.heads import HASH_DIGITS, HeadEvent, SubjectHead
from psm.domain.books import Books
from psm.domain.delivery.delivery import Delivery
from psm.domain.windows import VOIDED, WINDOW


def table_head(books: Books, subject: str) -> SubjectHead:
    """Return the head of a subject of marks, instruments or rules."""
    kind, token = subjects.log_subject(subject)
    market = books.market
    last = market.numbers.get(subject, 0)
    if kind == "marks":
        mark = market.marks.get(subjects.decode_token(token))
        last = mark.sequence_number if mark is not None else 0
    return SubjectHead(subject=subject, log_sequence=books.position, last=last)


def stream_head(delivery: Delivery | None, subject: str, position: int) -> SubjectHead:
    """Return the head of an account's subject.

    Args:
        delivery: of the stream; None where no event of it was ever taken.
        subject: public.
        position: log sequence up to which the log is folded.
    """
    if delivery is None:
        return SubjectHead(subject=subject, log_sequence=position, last=0)
    if delivery.blocked is not None:
        # What is held is not judged yet, so whoever numbers has to read it.
        position = min(position, delivery.blocked.log_sequence - 1)
    return SubjectHead(
        subject=subject,
        log_sequence=position,
        last=delivery.version,
        parked=sorted(delivery.parked),
        status=delivery.status,
        last_of_subject=delivery.last_log_sequence,
        events=_events(delivery),
    )


def _events(delivery: Delivery) -> list[HeadEvent]:
    refused = frozenset(delivery.refused[-WINDOW:])
    found = []
    for back in reversed(range(len(delivery.identities))):
        place = delivery.identities.at(back)
        if place is None or place[1] == VOIDED:
            continue
        number = delivery.version - back
        found.append(
            HeadEvent(
                number=number,
                event_id=str(uuid.UUID(bytes=place[0])),
                event_hash=place[1].hex()[:HASH_DIGITS],
                refused=number in refused,
            )
        )
    return found
