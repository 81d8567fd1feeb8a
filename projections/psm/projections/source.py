"""Sources of projections: a JetStream stream, and how its messages become batches."""

from __future__ import annotations

import msgspec

from psm.contracts.subjects import PSM


class ProjectionSource(msgspec.Struct, frozen=True, kw_only=True):
    """Stream that a projection follows.

    Attributes:
        js_stream: name of the JetStream stream.
        reader: how it is read: where a transaction may end, which partitions it has and what the
            kinds of its messages are. Processes choose the code by this name.
        follows_from_log: whether folding the log gives the same messages again. Only then can a
            view be rebuilt.
    """

    js_stream: str
    reader: str
    follows_from_log: bool = False


COMMITTED_UPDATES = ProjectionSource(js_stream=PSM, reader="committed", follows_from_log=True)
"""The updates of PSM, in batches that end where a commit of whole inputs ends."""
