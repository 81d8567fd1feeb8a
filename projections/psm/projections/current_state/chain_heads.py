"""`chain_heads`: the head of every stream's hash chain, kept to notice a log that lost its end."""

from __future__ import annotations

from msgspec import UNSET

from psm.contracts.updates import StateUpdated
from psm.contracts.updates_read import Decoded, ReadUpdate
from psm.projections.latest import LatestPerKey
from psm.projections.rows import Row
from psm.projections.witness.heads import ChainHead


def _head(update: ReadUpdate, decoded: Decoded[StateUpdated]) -> Row | None:
    """Return the head after an event; None for a mark, which changes no chain."""
    state = decoded.payload
    if state.cause != "event" or state.event_hash is None:
        return None
    own = state.event_log_sequence
    return {
        "stream_id": state.account_id,
        "partition": update.partition,
        "sequence_number": state.sequence_number,
        "log_sequence": state.log_sequence,
        "event_log_sequence": None if own is UNSET else own,
        "event_hash": state.event_hash,
        "chain_hash": state.chain_hash,
        "ledger_hash": state.ledger_hash,
    }


CHAIN_HEADS = LatestPerKey(
    "chain_heads",
    "state.updated",
    StateUpdated,
    key=("stream_id",),
    columns=ChainHead.__struct_fields__,
    to_row=_head,
)
"""One row per stream, of its last event that took a place."""
