"""A reader that takes what is stored already by a consumer for each of its filters.

To find the next message for a consumer with several filters, the broker goes through all subjects
of a block while those are fewer than the messages that are left. At the end of a stream, where one
consumer then follows, that is nothing; far from its end, with thousands of accounts in a partition,
it is ten times slower than reading each filter by itself and merging.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

from nats.aio.client import Client

from psm.adapters.jetstream.errors import ApiError
from psm.adapters.jetstream.messages import StoredMessage
from psm.adapters.jetstream.reader import BATCH, OrderedReader
from psm.adapters.jetstream.reads import stream_info
from psm.adapters.jetstream.scans import read_range
from psm.adapters.logs import get_logger
from psm.contracts.errors import TransientError

FAR = 5 * BATCH
"""Messages of the stream beyond which reading each filter by itself pays."""

_log = get_logger()


class CatchUpReader:
    """Reads messages on some subjects of one stream, in stream order; see `OrderedReader`."""

    def __init__(
        self,
        nc: Client,
        stream: str,
        filter_subjects: Sequence[str],
        *,
        on_reset: Callable[[str, str], None] | None = None,
    ) -> None:
        """Nothing is opened before the first `fetch`."""
        self._nc = nc
        self._stream = stream
        self._filters = tuple(filter_subjects)
        self._reader = OrderedReader(nc, stream, filter_subjects, on_reset=on_reset)
        self._fresh = True
        self._stored: AsyncGenerator[list[StoredMessage], None] | None = None
        self._stored_end = 0
        self._ahead: list[StoredMessage] = []

    @property
    def catching_up(self) -> bool:
        """True while what was stored at the start is still being read."""
        return self._stored is not None or bool(self._ahead)

    async def restart_at(self, sequence: int) -> None:
        """Go on at `sequence`, forwards or backwards; what had arrived is forgotten."""
        await self._leave()
        await self._reader.restart_at(sequence)
        self._fresh = True

    async def fetch(
        self, max_messages: int, max_wait_s: float, *, linger_s: float = 0.0
    ) -> list[StoredMessage]:
        """Return the next messages, or an empty list when none came within `max_wait_s`.

        Raises:
            ApiConfigError: the stream does not exist or refuses the filters (at the first open).
            TransientError: the connection was closed for good.
        """
        if self._fresh:
            await self._look_ahead()
        if self.catching_up:
            messages = await self._fetch_stored(max_messages)
            if messages:
                return messages
        return await self._reader.fetch(max_messages, max_wait_s, linger_s=linger_s)

    async def watch(self, last_expected_sequence: int) -> bool:
        """Tell the reader which matching message the stream is known to have."""
        if self._fresh or self.catching_up:
            return False
        return await self._reader.watch(last_expected_sequence)

    async def close(self) -> None:
        """Delete what is on the broker. The reader may be used again."""
        await self._leave()
        await self._reader.close()

    async def _look_ahead(self) -> None:
        """Read what is stored by itself, if it is much; the broker is asked only once."""
        self._fresh = False
        try:
            self._stored_end = (await stream_info(self._nc, self._stream)).last_sequence
        except (ApiError, TransientError):
            return  # the reader asks again, and says what is wrong
        first = self._reader.position + 1
        if self._stored_end - first >= FAR:
            self._stored = read_range(
                self._nc, self._stream, self._filters, first, self._stored_end
            )

    async def _fetch_stored(self, most: int) -> list[StoredMessage]:
        """Return stored messages; none where the other reader goes on: at their end or failure."""
        if not self._ahead:
            # Ended unless it answers: a generator that was cancelled would look like its end.
            stored, self._stored = self._stored, None
            assert stored is not None
            try:
                self._ahead = await anext(stored)
            except StopAsyncIteration:
                await self._reader.restart_at(self._stored_end + 1)
                return []
            except TransientError as error:
                _log.warning("reader.catch_up_failed", js_stream=self._stream, reason=str(error))
                return []
            self._stored = stored
        taken, self._ahead = self._ahead[:most], self._ahead[most:]
        await self._reader.restart_at(taken[-1].sequence + 1)
        return taken

    async def _leave(self) -> None:
        stored, self._stored = self._stored, None
        self._ahead = []
        if stored is not None:
            await stored.aclose()
