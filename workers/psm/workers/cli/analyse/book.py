"""`psm book`: follow order books of depth events, without any server."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from psm.analytics.order_book import PROFILES
from psm.workers.cli.shared.lines import answer_lines
from psm.workers.replay.depth import DepthBooks


def book(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)] = "-",
    /,
    *,
    profile: Literal["binance_futures", "binance_spot", "kraken", "generic"] = "generic",
    depth: int | None = None,
    on_checksum: Literal["resync", "flag"] = "resync",
) -> int:
    """Follow the order books of depth events, one JSON line each; print each book after it.

    A line is {"kind": "snapshot" or "delta", "first_id", "last_id", "prev_id", "bids": [[price,
    quantity]], "asks", "checksum"}, or an event whose payload is that. Quantities are absolute, 0
    takes a level away. Only a book in state "synced" is one to read.

    Args:
        file: What to read; - is standard input.
        profile: How the venue numbers and checks its changes.
        depth: Levels a side that are subscribed to; as many as the snapshot has if not given.
        on_checksum: What is done where a checksum does not fit: wait for a snapshot, or count it.
    """
    books = DepthBooks(PROFILES[profile], depth=depth, flag_checksums=on_checksum == "flag")
    return answer_lines(file, books.take)
