"""`psm book`: follow order books of depth events without any server, or show one of the views."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal
from urllib.parse import quote

import msgspec
from cyclopts import Parameter

from psm.analytics.order_book import PROFILES
from psm.contracts.errors import ConfigError
from psm.workers.api.market_http import BookDocument, MarketReads
from psm.workers.cli.shared.connections import database
from psm.workers.cli.shared.http import remote
from psm.workers.cli.shared.lines import LinesOutput, answer_lines
from psm.workers.process.config import load_settings
from psm.workers.replay.depth import DepthBooks


def book(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)] = "-",
    symbol: str | None = None,
    /,
    *,
    profile: Literal["binance_futures", "binance_spot", "kraken", "generic"] = "generic",
    depth: int | None = None,
    on_checksum: Literal["resync", "flag"] = "resync",
    output: LinesOutput = None,
) -> int:
    """Follow the order books of depth events, one JSON line each; print each book after it.

    A line is {"kind": "snapshot" or "delta", "first_id", "last_id", "prev_id", "bids": [[price,
    quantity]], "asks", "checksum"}, or an event whose payload is that. Quantities are absolute, 0
    takes a level away. Only a book in state "synced" is one to read.

    With a symbol, `psm book EXCHANGE SYMBOL`, print the book that the views have; exit 1 while it
    is not synced.

    Args:
        file: What to read; - is standard input. Before a symbol the exchange.
        symbol: Show the live book of this one.
        profile: How the venue numbers and checks its changes.
        depth: Levels a side that are subscribed to; as many as the snapshot has if not given.
        on_checksum: What is done where a checksum does not fit: wait for a snapshot, or count it.
        output: Tell problems as JSON lines, too; results always are.
    """
    if symbol is not None:
        if (profile, depth, on_checksum) != ("generic", None, "resync"):
            raise ConfigError(
                "--profile, --depth and --on-checksum are for a file; how a live book is followed "
                "is set in PSM_MARKET_VENUES"
            )
        live = asyncio.run(_live(file, symbol))
        print(msgspec.json.encode(live).decode())
        return 0
    if depth is not None and depth < 1:
        raise ConfigError("--depth must be 1 or more")
    books = DepthBooks(PROFILES[profile], depth=depth, flag_checksums=on_checksum == "flag")
    return answer_lines(file, books.take, as_json=output is not None)


async def _live(exchange: str, symbol: str) -> BookDocument:
    there = remote()
    if there is not None:
        where = "/".join(quote(part, safe="") for part in (exchange, symbol))
        return msgspec.json.decode(there.read(f"/market/book/{where}"), type=BookDocument)
    async with database(load_settings()) as pool:
        return await MarketReads(pool).book(exchange, symbol)
