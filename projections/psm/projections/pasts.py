"""What a projection may ask of the log beside its own source."""

from __future__ import annotations

from typing import Protocol

from psm.analytics.revision import Pasts


class PastReader(Protocol):
    """Reader of the positions of an account without a correction and with it."""

    async def read(self, stream_id: str, log_sequence: int, number: int) -> Pasts:
        """Fold both pasts from the log.

        Args:
            stream_id: of the account.
            log_sequence: of the input that has the correction.
            number: of the correction among the account's events.

        Raises:
            LogDamagedError: the log does not have the account's events up to there.
            TransientError: it cannot be read now.
        """
