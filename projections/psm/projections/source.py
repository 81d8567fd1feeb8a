"""Sources of projections: a JetStream stream, and how its messages become batches."""

from __future__ import annotations

from typing import Literal

import msgspec

from psm.contracts.subjects import ALL_DEPTH, MARKETDATA, PSM, RISK, RULEBOOK


class ProjectionSource(msgspec.Struct, frozen=True, kw_only=True):
    """Stream that a projection follows.

    Attributes:
        js_stream: name of the JetStream stream.
        reader: how it is read: where a transaction may end, which partitions it has and what the
            kinds of its messages are. Processes choose the code by this name.
        rebuilt_from: what gives the same messages again: folding the log, or the stream itself,
            with the archive for what it holds no more. None: the view cannot be rebuilt.
        filter_subject: of its messages, where the stream has others too.
        heals: what expires is not needed again: a view that is behind the stream goes on with what
            there is, and a rebuild begins with it.
    """

    js_stream: str
    reader: str
    rebuilt_from: Literal["log", "stream"] | None = None
    filter_subject: str = ">"
    heals: bool = False


COMMITTED_UPDATES = ProjectionSource(js_stream=PSM, reader="committed", rebuilt_from="log")
"""The updates of PSM, in batches that end where a commit of whole inputs ends."""

RISK_RECORDS = ProjectionSource(js_stream=RISK, reader="risk", rebuilt_from="stream")
"""What the risk engine stored; each record is complete by itself."""

RULES = ProjectionSource(js_stream=RULEBOOK, reader="rulebook", rebuilt_from="stream")
"""What was said in the rulebook, and what became of it."""

DEPTH = ProjectionSource(
    js_stream=MARKETDATA,
    reader="depth",
    rebuilt_from="stream",
    filter_subject=ALL_DEPTH,
    heals=True,
)
"""Changes of order books; after the next snapshot of a book what was before it counts no more."""
