"""What only the market changed of an account, as a small record beside its snapshot.

A mark changes what an account is worth and what of it waits to be published, and nothing of its
ledger or its delivery. So an account that only marks, definitions and terms touched since its
snapshot is not saved whole again: its record goes with the partition's checkpoint.
"""

from __future__ import annotations

import msgspec

from psm.contracts.updates import Level
from psm.domain.account import Account
from psm.domain.publication.figures import published_margin
from psm.domain.valuation.excursion import Excursion
from psm.domain.valuation.performance import Performance
from psm.domain.valuation.state import ValuationState
from psm.domain.valuation.unpublished import SavedUnpublished, Unpublished


class AccountRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the market changed of one account since its snapshot; fields as in the snapshot.

    Attributes:
        last_log_sequence: of the last message on the stream's subject: as in the snapshot, which
            the record must be laid over.
        excursions: of the open positions; the market moves no others.
    """

    last_log_sequence: int
    performance: Performance
    excursions: dict[str, Excursion]
    warned: tuple[Level, ...]
    unpublished: SavedUnpublished
    warned_positions: dict[str, tuple[Level, ...]]
    margin_published: tuple[str | None, ...] | None
    updated_at: int


def record_of(account: Account) -> AccountRecord:
    """Return the record of an account as it is now."""
    delivery, state, positions = account.delivery, account.valuation, account.ledger.positions
    return AccountRecord(
        last_log_sequence=delivery.last_log_sequence,
        performance=state.performance.plain(),
        excursions={
            key: excursion
            for key, excursion in state.totals.excursions.items()
            if key in positions and positions[key].size
        },
        warned=state.warned,
        unpublished=account.unpublished.saved(),
        warned_positions=dict(state.warned_positions),
        margin_published=published_margin(account),
        updated_at=delivery.updated_at,
    )


def lay_over(account: Account, record: AccountRecord) -> None:
    """Make an account that its snapshot gave back what it was when the record was taken."""
    state = account.valuation
    valuation = ValuationState.restored(
        account.ledger.symbols(),
        performance=record.performance,
        excursions={**state.totals.excursions, **record.excursions},
        warned=record.warned,
        warned_positions=record.warned_positions,
        published=record.margin_published,
    )
    unpublished = Unpublished.restored(account.stream_id, record.unpublished)
    account.marked(valuation, unpublished)
    account.delivery.note_update(record.updated_at)
