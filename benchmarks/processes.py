"""`psm` commands as processes of their own, as they run in production."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_STOP_S = 20.0


@asynccontextmanager
async def psm(*arguments: str, **settings: object) -> AsyncIterator[Process]:
    """Run `psm ARGUMENTS` with these environment variables until the block ends; give it."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PSM_")}
    own = {name: str(value) for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "psm.workers.cli",
        *arguments,
        env={**clean, "PSM_LOG_LEVEL": "error", **own},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()
