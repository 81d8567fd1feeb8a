"""Tasks: what a thread works at counts until it has ended."""

from __future__ import annotations

import asyncio
import threading

import pytest

from psm.adapters.tasks import end_all, to_its_end


async def test_cancelled_caller_waits_for_its_thread() -> None:
    """However often it is cancelled; else its place were free while the thread still works."""
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work() -> int:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait()
        return 7

    async def caller() -> int:
        return await to_its_end(asyncio.ensure_future(asyncio.to_thread(work)))

    calling = asyncio.create_task(caller())
    await begun.wait()
    ending = asyncio.create_task(end_all([calling]))
    calling.cancel()
    await asyncio.sleep(0)
    calling.cancel()
    await asyncio.sleep(0)
    assert not calling.done()
    go_on.set()
    await ending
    assert calling.cancelled()


async def test_work_that_ends_is_answered() -> None:
    """By what it returns, or by what it raises."""
    assert await to_its_end(asyncio.ensure_future(asyncio.to_thread(lambda: 7))) == 7

    def fails() -> None:
        raise ValueError("told")

    with pytest.raises(ValueError, match="told"):
        await to_its_end(asyncio.ensure_future(asyncio.to_thread(fails)))
