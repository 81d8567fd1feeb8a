"""What is published now, on subjects that some stream keeps: nothing is missed, nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from nats.aio.client import Client

from psm.adapters.jetstream import OrderedReader, stream_info
from psm.workers.replay.playback import Recorded, filters_of

_FETCH_MAX = 500
_WAIT_S = 1.0
_WAITING_MAX = 1000  # beyond it the streams wait for whoever reads


async def live_messages(nc: Client, patterns: Sequence[str]) -> AsyncGenerator[Recorded]:
    """Yield messages from now on, of each stream in its order, until the caller stops.

    Raises:
        ConfigError: nothing records such subjects, or a stream does not exist.
        TransientError: the connection was closed for good.
    """
    arrived: asyncio.Queue[Recorded] = asyncio.Queue(_WAITING_MAX)
    readers = []
    for js_stream, filters in sorted(filters_of(patterns).items()):
        end = (await stream_info(nc, js_stream)).last_sequence
        readers.append((js_stream, OrderedReader(nc, js_stream, filters, end + 1)))

    async def read(js_stream: str, reader: OrderedReader) -> None:
        while True:
            for message in await reader.fetch(_FETCH_MAX, _WAIT_S):
                await arrived.put(Recorded(js_stream=js_stream, message=message))

    tasks = [asyncio.create_task(read(name, reader)) for name, reader in readers]
    try:
        while True:
            coming = asyncio.create_task(arrived.get())
            done, _ = await asyncio.wait([coming, *tasks], return_when=asyncio.FIRST_COMPLETED)
            if coming in done:
                yield coming.result()
                continue
            coming.cancel()
            for task in done:  # a reader ends only by an error
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _, reader in readers:
            await reader.close()
