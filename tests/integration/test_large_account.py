"""An account whose updates are large: batches stay small, and neighbours are served meanwhile."""

from __future__ import annotations

import pytest
from tests.support.events import deposit
from tests.support.workbench import open_bench, until_answer

from psm.adapters.jetstream import last_for, read_range, stream_info
from psm.contracts import limits
from psm.contracts.subjects import partition_of
from psm.workers.partition import commit_queue

CURRENCIES = limits.ASSETS
LIMIT = 256 * 1024
LARGE = "acc_001"
HOME = partition_of(LARGE, 2)
NEIGHBOUR = next(
    name for name in map("acc_{:03}".format, range(2, 99)) if partition_of(name, 2) != HOME
)


async def test_account_in_many_currencies_does_not_hold_up_its_neighbours(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of deposits in as many currencies: each update is longer than the one before."""
    monkeypatch.setattr(commit_queue, "BYTES_PER_COMMIT", LIMIT)
    async with open_bench(nats_url, partitions=2) as bench:
        deposits = [
            deposit(number, currency=f"C{number:04}", stream=LARGE)
            for number in range(1, CURRENCIES + 1)
        ]
        await bench.publish(deposits)
        last = await bench.publish(deposit(1, stream=NEIGHBOUR))
        async with bench.worker():
            neighbour = await until_answer(
                lambda: last_for(bench.nc, "PSM", f"psm.state.updated.*.{NEIGHBOUR}"),
                lambda found: found is not None,
                "the neighbour is served",
            )
            await until_answer(
                lambda: last_for(bench.nc, "PSM", f"psm.state.updated.*.{LARGE}"),
                lambda found: (
                    found is not None and f'"sequence_number":{CURRENCIES},'.encode() in found.data
                ),
                "everything is committed",
            )
        end = (await stream_info(bench.nc, "PSM")).last_sequence
        assert neighbour is not None
        assert neighbour.sequence < end // 2
        assert bench.nc.stats["reconnects"] == 0
        sizes: list[int] = []
        largest = 0
        async for part in read_range(
            bench.nc, "PSM", [f"psm.*.*.{HOME}.*", f"psm.cursor.{HOME}"], 1, end
        ):
            for message in part:
                if message.subject.startswith("psm.cursor."):
                    sizes.append(0)
                else:
                    sizes[-1] += len(message.data)
                    largest = max(largest, len(message.data))
        assert LIMIT // 2 < max(sizes) <= LIMIT
        assert largest < LIMIT
        assert (await bench.judge()).outcomes == {"applied": last}
