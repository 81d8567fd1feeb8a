"""Account <-> versioned snapshot, tables <-> checkpoint.

A snapshot carries everything of an account (ledger, valuation state, windows, what waits to be
published), so that snapshot + tail equals the full replay byte for byte. What is read is checked:
the ledger hash is computed again from the restored state. A checkpoint carries the records of
accounts that only the market changed since their snapshots.

It is compressed JSON: a message of the broker takes 1 MiB at most, which an account with 1 000
positions in tiered instruments would exceed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from psm.contracts.errors import ContractError
from psm.contracts.margin_events import PositionMode
from psm.contracts.updates import Level
from psm.domain import snapshot_forms
from psm.domain.account import Account
from psm.domain.books import RULES_VERSION, Books
from psm.domain.delivery.delivery import Delivery
from psm.domain.delivery.parked import Blocked, Parked
from psm.domain.ledger.booked_flows import BookedFlow
from psm.domain.ledger.effect import TotalName
from psm.domain.ledger.holdings import NO_COST, Cost
from psm.domain.ledger.ledger import Ledger, MarkSplit
from psm.domain.ledger.modes import PositionModes
from psm.domain.ledger.order_store import OrderStore
from psm.domain.ledger.orders import Order
from psm.domain.ledger.own_fills import OwnFill
from psm.domain.ledger.positions import Position
from psm.domain.ledger.saved_names import SavedNames, renames_of, saved_names
from psm.domain.ledger.wallets import Wallets
from psm.domain.market.instrument import Instrument
from psm.domain.market.tables import Tables
from psm.domain.money import ZERO
from psm.domain.publication.figures import published_margin
from psm.domain.snapshot_forms import Converters, converted
from psm.domain.snapshot_records import AccountRecord
from psm.domain.valuation.excursion import Excursion
from psm.domain.valuation.performance import Performance
from psm.domain.valuation.state import ValuationState
from psm.domain.valuation.unpublished import (
    SavedUnpublished,
    Unpublished,
)
from psm.domain.windows import FillWindow, IdentityWindow, KeyWindow

SNAPSHOT_FORM = 1
_LEVEL = 1  # of compression: the fastest; higher ones save little


class AccountSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One account as of a commit boundary.

    Attributes:
        log_sequence: position that the state includes.
        message_hash: SHA-256 of the log message at that position, hex.
        ledger_hash: of the state, hex; checked when it is read back.
    """

    form: int = SNAPSHOT_FORM
    rules_version: int = RULES_VERSION
    stream_id: str
    log_sequence: int
    message_hash: str
    ledger_hash: str
    currency: str | None
    leverage_limit: Decimal | None
    version: int
    event_hash: bytes | None
    chain_hash: bytes
    cash: dict[str, Decimal]
    costs: dict[str, Cost]
    totals: dict[TotalName, Decimal]
    positions: list[Position]
    orders: list[Order]
    ended: list[str]
    leverages: dict[str, Decimal]
    position_modes: dict[str, PositionMode] = {}
    waiting_modes: dict[str, PositionMode] = {}
    isolated: list[str] = []
    wallets: dict[str, Decimal] = {}
    refused: list[int]
    own_fills: list[tuple[str, OwnFill]]
    splits: dict[str, MarkSplit]
    names: SavedNames | None = None
    parked: list[tuple[int, Parked]]
    blocked: Blocked | None
    too_large: list[tuple[int, int]] = []
    identity_ids: bytes
    identity_hashes: bytes
    operator_ids: bytes = b""
    operator_hashes: bytes = b""
    report_ids: bytes = b""
    report_hashes: bytes = b""
    last_fact: bytes = b""
    fill_keys: bytes
    reference_keys: bytes
    booked_flows: list[tuple[bytes, BookedFlow]] = []
    by_mark: bool = False
    performance: Performance
    excursions: dict[str, Excursion]
    warned: tuple[Level, ...]
    unpublished: SavedUnpublished
    warned_positions: dict[str, tuple[Level, ...]]
    margin_published: tuple[str | None, ...] | None
    last_log_sequence: int
    updated_at: int


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a partition's recovery starts: all accounts are on disk as of here or later.

    An account is what its snapshot says if that is of this position or a later one, else what the
    snapshot says with the record laid over it; without a record nothing of it changed in between.

    Attributes:
        log_sequence: consume from the next one.
        message_hash: SHA-256 of the log message at that position, hex; None at the start.
        tables: marks, instruments and clock as of the position.
        records: by account, likewise as of the position.
    """

    form: int = SNAPSHOT_FORM
    rules_version: int = RULES_VERSION
    log_sequence: int
    message_hash: str | None
    tables: Tables
    records: dict[str, AccountRecord] = {}


_Saved = TypeVar("_Saved", AccountSnapshot, Checkpoint)
_snapshots = msgspec.json.Decoder(AccountSnapshot)
_checkpoints = msgspec.json.Decoder(Checkpoint)
_encoder = msgspec.json.Encoder(order="sorted")


def dump_account(account: Account, log_sequence: int, message_hash: bytes) -> bytes:
    """Return the snapshot of an account whose state is as of `log_sequence`."""
    return _encoded(_snapshot_of(account, log_sequence, message_hash))


def _snapshot_of(account: Account, log_sequence: int, message_hash: bytes) -> AccountSnapshot:
    ledger, delivery, state = account.ledger, account.delivery, account.valuation
    return AccountSnapshot(
        stream_id=account.stream_id,
        log_sequence=log_sequence,
        message_hash=message_hash.hex(),
        ledger_hash=account.ledger_hash().hex(),
        currency=ledger.currency,
        leverage_limit=ledger.leverage_limit,
        version=delivery.version,
        event_hash=delivery.event_hash,
        chain_hash=delivery.chain_hash,
        cash=ledger.cash,
        costs=ledger.costs,
        totals=ledger.totals,
        positions=[position for _, position in sorted(ledger.positions.items())],
        orders=[order for _, order in sorted(ledger.orders.by_id.items())],
        ended=ledger.orders.ended,
        leverages=ledger.leverages,
        position_modes=ledger.modes.own,
        waiting_modes=ledger.modes.waiting,
        isolated=sorted(ledger.wallets.symbols),
        wallets=ledger.wallets.amounts,
        refused=delivery.refused,
        own_fills=list(ledger.own_fills.items()),
        splits=ledger.splits,
        names=saved_names(ledger),
        parked=sorted(delivery.parked.items()),
        blocked=delivery.blocked,
        too_large=sorted(delivery.too_large.items()),
        identity_ids=bytes(delivery.identities.ids),
        identity_hashes=bytes(delivery.identities.hashes),
        operator_ids=_ids(delivery.operators),
        operator_hashes=_hashes(delivery.operators),
        report_ids=_ids(delivery.reports),
        report_hashes=_hashes(delivery.reports),
        last_fact=delivery.last_fact,
        fill_keys=bytes(ledger.fill_keys.packed),
        reference_keys=bytes(ledger.reference_keys.packed),
        booked_flows=list(ledger.booked_flows.items()),
        by_mark=ledger.by_mark,
        performance=state.performance.plain(),
        excursions=dict(sorted(state.totals.excursions.items())),
        warned=state.warned,
        unpublished=account.unpublished.saved(),
        warned_positions=dict(sorted(state.warned_positions.items())),
        margin_published=published_margin(account),
        last_log_sequence=delivery.last_log_sequence,
        updated_at=delivery.updated_at,
    )


def _ids(window: IdentityWindow | None) -> bytes:
    return bytes(window.ids) if window else b""


def _hashes(window: IdentityWindow | None) -> bytes:
    return bytes(window.hashes) if window else b""


def load_account(data: bytes) -> tuple[Account, AccountSnapshot]:
    """Return the account in a snapshot, and the snapshot itself.

    Raises:
        ContractError: reason `bad_snapshot`: unreadable, of another form, or its hash differs.
    """
    snapshot = _decode(_snapshots, data, snapshot_forms.ACCOUNTS)
    ledger, delivery = _ledger(snapshot), _delivery(snapshot)
    state = ValuationState.restored(
        ledger.symbols(),
        performance=snapshot.performance,
        excursions=snapshot.excursions,
        warned=snapshot.warned,
        warned_positions=snapshot.warned_positions,
        published=snapshot.margin_published,
    )
    unpublished = Unpublished.restored(snapshot.stream_id, snapshot.unpublished)
    account = Account.restored(ledger, delivery, state, unpublished)
    if account.ledger_hash().hex() != snapshot.ledger_hash:
        raise ContractError("bad_snapshot", f"the ledger hash of {account.stream_id} differs")
    account.drop_caches()  # many accounts stay idle after a start
    return account, snapshot


def _ledger(snapshot: AccountSnapshot) -> Ledger:
    return Ledger.restored(
        currency=_currency(snapshot.currency),
        leverage_limit=snapshot.leverage_limit,
        leverages=snapshot.leverages,
        modes=PositionModes(snapshot.position_modes, snapshot.waiting_modes),
        wallets=Wallets(snapshot.isolated, snapshot.wallets),
        cash=snapshot.cash,
        costs=snapshot.costs,
        totals={_total_name(name): _shared(value) for name, value in snapshot.totals.items()},
        positions=[_lean(position) for position in snapshot.positions],
        orders=OrderStore(snapshot.orders, snapshot.ended),
        fill_keys=FillWindow(snapshot.fill_keys),
        reference_keys=KeyWindow(snapshot.reference_keys),
        booked_flows=dict(snapshot.booked_flows),
        by_mark=snapshot.by_mark,
        own_fills=dict(snapshot.own_fills),
        splits=snapshot.splits,
        borrowed=None if snapshot.names is None else snapshot.names.borrowed,
        renames=renames_of(snapshot.names),
    )


def _delivery(snapshot: AccountSnapshot) -> Delivery:
    operators = reports = None
    if snapshot.operator_ids:
        operators = IdentityWindow(snapshot.operator_ids, snapshot.operator_hashes)
    if snapshot.report_ids:
        reports = IdentityWindow(snapshot.report_ids, snapshot.report_hashes)
    return Delivery.restored(
        snapshot.stream_id,
        version=snapshot.version,
        event_hash=snapshot.event_hash,
        chain_hash=snapshot.chain_hash,
        identities=IdentityWindow(snapshot.identity_ids, snapshot.identity_hashes),
        operators=operators,
        reports=reports,
        last_fact=snapshot.last_fact,
        refused=snapshot.refused,
        parked=snapshot.parked,
        blocked=snapshot.blocked,
        too_large=snapshot.too_large,
        as_of=snapshot.log_sequence,
        last_log_sequence=snapshot.last_log_sequence,
        updated_at=snapshot.updated_at,
    )


def _lean(position: Position) -> Position:
    """Return the same position; what many accounts have alike, they share."""
    return Position(
        instrument=_shared_instrument(_encoder.encode(position.instrument)),
        position_side=position.position_side,
        size=_shared(position.size),
        cost=_shared(position.cost),
        last_fill=position.last_fill,
        realized_pnl=_shared(position.realized_pnl),
        fees=_shared(position.fees),
        funding=_shared(position.funding),
        cycle=position.cycle,
        cycle_realized_pnl=_shared(position.cycle_realized_pnl),
        cycle_fees=_shared(position.cycle_fees),
        cycle_funding=_shared(position.cycle_funding),
        cycle_opened_at=position.cycle_opened_at,
        peak_size=_shared(position.peak_size),
        home_cost=NO_COST if position.home_cost == NO_COST else position.home_cost,
        margin=position.margin,
    )


def _shared(value: Decimal) -> Decimal:
    """Return the one zero for a plain zero, `value` itself for all else."""
    return ZERO if not value and value.compare_total(ZERO) == 0 else value


@lru_cache(maxsize=4096)
def _currency(name: str | None) -> str | None:
    return name


@lru_cache(maxsize=4096)
def _total_name(name: TotalName) -> TotalName:
    return name


# By its bytes: instruments that are equal may still write their numbers differently.
_shared_instrument: Callable[[bytes], Instrument] = lru_cache(maxsize=4096)(
    msgspec.json.Decoder(Instrument).decode
)


def dump_checkpoint(
    books: Books,
    log_sequence: int,
    message_hash: bytes | None,
    records: Mapping[str, AccountRecord] = MappingProxyType({}),
) -> bytes:
    """Return the checkpoint of books whose tables and records are as of `log_sequence`."""
    checkpoint = Checkpoint(
        log_sequence=log_sequence,
        message_hash=message_hash.hex() if message_hash else None,
        tables=books.market.tables(),
        records=dict(records),
    )
    return _encoded(checkpoint)


def load_checkpoint(data: bytes) -> Checkpoint:
    """Return the checkpoint in `data`.

    Raises:
        ContractError: reason `bad_snapshot`: unreadable, or of another form.
    """
    return _decode(_checkpoints, data, snapshot_forms.CHECKPOINTS)


def _encoded(saved: AccountSnapshot | Checkpoint) -> bytes:
    return zlib.compress(_encoder.encode(saved), _LEVEL)


def _decode(decoder: msgspec.json.Decoder[_Saved], data: bytes, converters: Converters) -> _Saved:
    try:
        text = zlib.decompress(data)
        saved = _of_this_form(decoder, text) or decoder.decode(_converted(text, converters))
    except (msgspec.MsgspecError, ValueError, zlib.error) as error:
        raise ContractError("bad_snapshot", "it cannot be read") from error
    if saved.rules_version > RULES_VERSION:
        known = f"rules {saved.rules_version} are not known here"
        raise ContractError("bad_snapshot", known)
    return saved


def _of_this_form(decoder: msgspec.json.Decoder[_Saved], text: bytes) -> _Saved | None:
    """Return what is saved in the form of today; None in another one."""
    try:
        saved = decoder.decode(text)
    except msgspec.ValidationError:
        return None
    return saved if saved.form == SNAPSHOT_FORM else None


def _converted(text: bytes, converters: Converters) -> bytes:
    """Return what is saved in the form of today.

    Raises:
        ContractError: it is of a form from which no converter leads here.
    """
    saved = msgspec.json.decode(text, type=dict[str, Any])
    newest = converted(saved, converters, SNAPSHOT_FORM)
    if newest is None:
        form = saved.get("form")
        raise ContractError("bad_snapshot", f"form {form} is not known here")
    return _encoder.encode(newest)
