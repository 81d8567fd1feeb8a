"""`psm marks`: sample ticks into marks."""

from __future__ import annotations

import asyncio

from psm.adapters import telemetry
from psm.adapters.jetstream.streams_apply import check
from psm.adapters.tasks import end_all
from psm.workers.bridges.marks_sampler import Marks
from psm.workers.bridges.silence import Silence
from psm.workers.cli.shared.process import process
from psm.workers.process.config import Settings, load_settings


def marks() -> int:
    """Sample `marketdata.ticker.*` into `marks.*`. Runs until SIGINT or SIGTERM.

    At most one mark per symbol and PSM_MARKS_INTERVAL_MS, or one at once when the price moves by
    PSM_MARKS_MOVE_BPS. Where no marks come, the newest is appended again for a while, so that what
    it changed is published. Start it again whenever you like: it goes on with the newest ticks.
    """
    return asyncio.run(run(load_settings()))


async def run(settings: Settings) -> int:
    """Sample until told to stop."""
    async with process(settings, "psm-marks") as own:
        await check(own.nc, settings)
        sampling = Marks(
            own.nc,
            own.instruments.metrics,
            interval_s=settings.marks_interval_ms / 1000,
            move_bps=settings.marks_move_bps,
        )
        await own.serve_health(sampling.readiness)
        own.on_stop(sampling.stop)
        log = telemetry.get_logger()
        log.info("marks.started", interval_ms=settings.marks_interval_ms)
        silence = Silence(own.nc, own.instruments.metrics, settings.valuation_slots)
        filling = asyncio.create_task(silence.run())
        try:
            await sampling.run()
        finally:
            await end_all([filling])
        log.info("marks.stopped")
        return 0
