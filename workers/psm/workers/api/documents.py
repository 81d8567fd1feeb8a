"""The documents that reads answer with: what OpenAPI describes and a consumer may decode.

PostgreSQL writes them (`current_state/reads.sql`). Their figures are the fields of the updates.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import GenericAlias
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from psm.contracts.live import AsOf
from psm.contracts.reconciliation import ReconciliationReported
from psm.contracts.update_fields import Decimal18, Hash
from psm.contracts.updates import (
    VERSION_FIELDS,
    AccountFigures,
    MarginUpdated,
    OrderUpdated,
    PositionUpdated,
    StateUpdated,
    figures_of,
)
from psm.projections.current_state.accounts import LISTED_MARGIN, STATE_FIGURES
from psm.projections.current_state.reads import ANSWER_FIGURES

_Struct = type[msgspec.Struct]
_Fields = Iterable[tuple[str, Any]]

_HASHES = {"ledger_hash": Hash | None, "state_hash": Hash | None}
"""Types in documents: null while an account waits for its first event."""

_AS_OF = ("as_of", AsOf)
_ROW_AS_OF: Any = ("as_of", AsOf | UnsetType, UNSET)


def figures_document(
    name: str, payload: _Struct, describes: str, *, valued: bool = False
) -> _Struct:
    """Return a struct of an update's figures, as a document has them.

    Args:
        name: of the struct, in OpenAPI too.
        payload: the update.
        describes: docstring, the description in OpenAPI.
        valued: whether marks move it: then it says what it is as of.
    """
    fields = _fields(payload, figures_of(payload))
    return _document(name, describes, [*fields, _ROW_AS_OF] if valued else fields)


def _document(name: str, describes: str, fields: _Fields, base: _Struct | None = None) -> _Struct:
    return msgspec.defstruct(
        name,
        fields,
        bases=(base,) if base else None,
        module=__name__,
        namespace={"__doc__": describes},
        frozen=True,
        kw_only=True,
    )


def _fields(payload: _Struct, names: Iterable[str]) -> list[tuple[str, Any]]:
    types = {field.encode_name: field.type for field in msgspec.structs.fields(payload)} | _HASHES
    return [(name, types[name]) for name in names]


def _by_name(struct: _Struct) -> Any:
    return GenericAlias(dict, (str, struct))


PositionFigures = figures_document(
    "PositionFigures",
    PositionUpdated,
    "One position: the fields of `PositionUpdated` that are the position's own.",
    valued=True,
)

OrderFigures = figures_document(
    "OrderFigures",
    OrderUpdated,
    "One order: the fields of `OrderUpdated` that are the order's own.",
)


class AssetFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One asset, in the account currency: what is held of it, what it cost, what it is worth.

    `value` and `mark_price` are null where it has no rate; `entry_price` and `unrealized_pnl` where
    a part of the cost is not known either.
    """

    quantity: Decimal18
    cost: Decimal18
    entry_price: Decimal18 | None
    mark_price: Decimal18 | None
    value: Decimal18 | None
    unrealized_pnl: Decimal18 | None
    as_of: AsOf | UnsetType = UNSET


_STALE_FLAGS: Any = ("flags", tuple[str, ...] | UnsetType, UNSET)
_POSITIONS = ("positions", _by_name(PositionFigures))
_ORDERS = ("orders", _by_name(OrderFigures))
_ASSETS = ("assets", _by_name(AssetFigures))

StateDocument = _document(
    "StateDocument",
    """Everything of the last `StateUpdated`, with assets, positions and open orders.

    Hashes are null only while the account waits for its first event. Live, `as_of` is the moment
    it shows, and `flags` are those of the state alone.
    """,
    (*_HASHES.items(), _AS_OF, _ASSETS, _POSITIONS, _ORDERS),
    AccountFigures,
)

Versions = _document(
    "Versions",
    """What every answer says of the account it belongs to.

    Of `flags` only when a key is stale: `view_stale` is one of them then. Live, `as_of` is the
    moment it shows.
    """,
    [*_fields(StateUpdated, VERSION_FIELDS), _AS_OF, _STALE_FLAGS],
)

PositionsDocument = _document(
    "PositionsDocument",
    "All positions of an account; flat ones with a history have the side flat.",
    [_POSITIONS],
    Versions,
)

OrdersDocument = _document(
    "OrdersDocument",
    "The open orders of an account, and of the ended ones the 256 that changed last.",
    [_ORDERS],
    Versions,
)

_ACCOUNT_ROW = _document(
    "AccountRow",
    "An account in a list; its figures are those of its own documents, in its own currency.",
    (
        *_fields(StateUpdated, (*VERSION_FIELDS, *STATE_FIGURES)),
        *_fields(MarginUpdated, LISTED_MARGIN),
        _AS_OF,
    ),
)

AccountsDocument = _document(
    "AccountsDocument",
    "A page of accounts; `next` is `after` of the next page, null at the end.",
    [("accounts", GenericAlias(list, (_ACCOUNT_ROW,))), ("next", str | None)],
)

MarginDocument = _document(
    "MarginDocument",
    "The margin figures of an account; null until the first were published.",
    _fields(MarginUpdated, figures_of(MarginUpdated)),
    Versions,
)

ReconciliationDocument = _document(
    "ReconciliationDocument",
    "The answer to the last report about an account, as `ReconciliationReported` gave it.",
    _fields(ReconciliationReported, (*ANSWER_FIGURES, "differences")),
)
