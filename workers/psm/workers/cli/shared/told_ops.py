"""The record of what commands of the owner replaced or made: keys, passwords, tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from psm.contracts.errors import PSMError
from psm.workers.cli.shared.connections import broker
from psm.workers.cli.shared.output import Output
from psm.workers.ops.journal import record_done
from psm.workers.ops.principal import principal
from psm.workers.process.config import Settings, settings_with_sources


def tell_ops(what: Mapping[str, Any], output: Output, *, reason: str = "rotation") -> None:
    """Record in OPS, by our user at NATS, what was done; where that cannot be, say so.

    It is done already, and may be what lets us in again, so no missing record makes it fail.
    """
    try:
        settings, sources = settings_with_sources()
        if sources["nats_url"] == "default":
            why = "NATS_URL names no broker"
        else:
            asyncio.run(_record(settings, what, reason))
            return
    except PSMError as error:
        why = str(error)
    output.note(f"not recorded in OPS ({why}); `psm ops note` records it later")


async def _record(settings: Settings, what: Mapping[str, Any], reason: str) -> None:
    async with broker(settings, "psm-cli") as nc:
        await record_done(nc, what, actor=principal(), reason=reason)
