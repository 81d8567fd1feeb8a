"""What the log says of both pasts of a correction, for timelines that are fed from memory."""

from __future__ import annotations

from tests.support.domain import Log

from psm.analytics.corrected import PastsFold
from psm.analytics.revision import Pasts


def pasts_of(log: Log, stream_id: str, number: int) -> Pasts:
    """Fold both pasts of the correction that the last message of a log has."""
    messages = list(log.messages.values())
    own = [message for message in messages if message.stream_id == stream_id]
    fold = PastsFold(log.books, stream_id, own, number)
    fold.take([message for message in messages if message.stream_id is None])
    return fold.pasts()
