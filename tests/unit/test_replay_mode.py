"""Replay mode: what is guarded has no effect, wherever it is called from."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from psm.contracts.errors import ReplayModeError
from psm.contracts.factory import EventFactory
from psm.contracts.publisher import Publisher
from psm.contracts.replay import ReplayMode, is_replaying, no_replay, require_live


class Effects:
    """Counts what happened in the world."""

    def __init__(self) -> None:
        self.count = 0

    @no_replay
    def quietly(self, amount: int = 1) -> int | None:
        self.count += amount
        return self.count

    @no_replay(strict=True)
    def strictly(self) -> int:
        self.count += 1
        return self.count

    @no_replay
    async def later(self) -> int | None:
        await asyncio.sleep(0)
        self.count += 1
        return self.count

    @no_replay(strict=True)
    async def strictly_later(self) -> int:
        self.count += 1
        return self.count


async def test_guarded_functions_run_live_and_only_live() -> None:
    """Live they run and return; in replay they return None, strict ones raise."""
    effects = Effects()
    assert (effects.quietly(2), effects.strictly()) == (2, 3)
    assert (await effects.later(), await effects.strictly_later()) == (4, 5)
    with ReplayMode():
        assert is_replaying()
        assert effects.quietly() is None
        assert await effects.later() is None
        with pytest.raises(ReplayModeError, match=r"Effects\.strictly"):
            effects.strictly()
        with pytest.raises(ReplayModeError, match="no effects"):
            await effects.strictly_later()
    assert effects.count == 5
    assert not is_replaying()
    assert effects.quietly() == 6


async def test_mode_follows_tasks_and_threads_of_asyncio() -> None:
    """A task made inside is inside, one made outside is not, whoever awaits it."""
    effects = Effects()
    gate = asyncio.Event()

    async def wait_and_act() -> int | None:
        await gate.wait()
        return await effects.later()

    outside = asyncio.create_task(wait_and_act())
    with ReplayMode():
        inside = asyncio.create_task(wait_and_act())
        threaded = await asyncio.to_thread(effects.quietly)
        gate.set()
        assert await outside == 1
    assert await inside is None
    assert threaded is None


def test_process_mode_reaches_every_thread() -> None:
    """A plain thread does not inherit a task's mode; the process mode holds there too."""
    effects = Effects()

    def in_a_thread() -> int | None:
        seen: list[int | None] = []
        thread = threading.Thread(target=lambda: seen.append(effects.quietly()))
        thread.start()
        thread.join()
        return seen[0]

    with ReplayMode():
        assert in_a_thread() == 1
    with ReplayMode(process=True):
        assert in_a_thread() is None
    assert in_a_thread() == 2


def test_modes_nest() -> None:
    """Leaving an inner replay leaves the outer one on; the same object may be used again."""
    mode = ReplayMode()
    with mode:
        with mode, ReplayMode(process=True):
            pass
        assert is_replaying()
    assert not is_replaying()
    with pytest.raises(KeyError), mode:
        raise KeyError
    assert not is_replaying()


def test_guard_keeps_what_a_function_is() -> None:
    """Name and docstring stay; a generator cannot be guarded, because it runs later."""

    @no_replay()
    def documented() -> None:
        """What it does."""

    assert (documented.__name__, documented.__doc__) == ("documented", "What it does.")

    def generator() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="guard the function that has the effect"):
        no_replay(generator)


@pytest.mark.parametrize(
    ("value", "replaying"),
    [("1", True), ("true", True), ("unclear", True), ("0", False), ("off", False), ("", False)],
)
def test_environment_puts_the_process_into_replay(value: str, replaying: bool) -> None:
    """PSM_REPLAY_MODE holds for the whole process, whatever the code does to its environment."""
    code = (
        "import os; from psm.contracts.replay import is_replaying; "
        "os.environ.pop('PSM_REPLAY_MODE'); print(is_replaying())"
    )
    environment = {**os.environ, "PSM_REPLAY_MODE": value}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(replaying)


async def test_publishing_is_refused_before_anything_is_sent() -> None:
    """Publisher and factory refuse by type in replay mode, without even a connection."""
    nowhere = Publisher("nats://127.0.0.1:1")
    factory = EventFactory("momentum", "1.0.0", publisher=nowhere)
    event = factory.create_market_data(symbol="BTCUSDT", price="43250.5")
    with ReplayMode():
        with pytest.raises(ReplayModeError, match="publish market_data"):
            await factory.publish(event)
        with pytest.raises(ReplayModeError, match=r"record on marketdata\.ticker\.BTCUSDT"):
            await nowhere.record("marketdata.ticker.BTCUSDT", event.body)
        trade = factory.create_event("CashDeposited", "acc", {"amount": "1"})
        with pytest.raises(ReplayModeError, match=r"append to trades\.acc"):
            await nowhere.append(trade.body)
        with pytest.raises(ReplayModeError):
            require_live("anything")
    require_live("anything")
