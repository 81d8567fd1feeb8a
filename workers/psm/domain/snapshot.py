"""Account <-> versioned snapshot, tables <-> checkpoint.

A snapshot carries everything of an account (ledger, valuation state, windows, throttle), so that
snapshot + tail equals the full replay byte for byte. What is read is checked: the ledger hash is
computed again from the restored state.

It is compressed JSON: a message of the broker takes 1 MiB at most, which an account with 1 000
positions in tiered instruments would exceed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import TypeVar

import msgspec

from psm.contracts.errors import ContractError
from psm.contracts.updates import Level
from psm.domain.account import Account
from psm.domain.books import RULES_VERSION, Books, Tables, tables_of
from psm.domain.effect import TotalName
from psm.domain.figures import published_margin
from psm.domain.money import ZERO, exact_text
from psm.domain.orders import Order
from psm.domain.positions import Instrument, Position
from psm.domain.waiting import Blocked, Parked
from psm.domain.windows import IdentityWindow, KeyWindow

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
    totals: list[tuple[str, TotalName, Decimal]]
    positions: list[Position]
    orders: list[Order]
    ended: list[str]
    leverages: dict[str, Decimal]
    refused: list[int]
    splits: dict[str, tuple[int, Decimal]]
    parked: list[tuple[int, Parked]]
    blocked: Blocked | None
    identity_ids: bytes
    identity_hashes: bytes
    operator_ids: bytes = b""
    operator_hashes: bytes = b""
    keys: bytes
    peak_equity: Decimal | None
    warned: tuple[Level, ...]
    unpublished: list[str]
    margin_published: tuple[str | None, ...] | None
    last_log_sequence: int


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a partition's recovery starts: all accounts are on disk as of here or later.

    Attributes:
        log_sequence: consume from the next one.
        message_hash: SHA-256 of the log message at that position, hex; None at the start.
        tables: marks, instruments and clock as of the position.
    """

    form: int = SNAPSHOT_FORM
    rules_version: int = RULES_VERSION
    log_sequence: int
    message_hash: str | None
    tables: Tables


_Saved = TypeVar("_Saved", AccountSnapshot, Checkpoint)
_snapshots = msgspec.json.Decoder(AccountSnapshot)
_checkpoints = msgspec.json.Decoder(Checkpoint)
_encoder = msgspec.json.Encoder(order="sorted")


def dump_account(account: Account, log_sequence: int, message_hash: bytes) -> bytes:
    """Return the snapshot of an account whose state is as of `log_sequence`."""
    operators = account.operators
    snapshot = AccountSnapshot(
        stream_id=account.stream_id,
        log_sequence=log_sequence,
        message_hash=message_hash.hex(),
        ledger_hash=account.ledger_hash().hex(),
        currency=account.currency,
        leverage_limit=account.leverage_limit,
        version=account.version,
        event_hash=account.event_hash,
        chain_hash=account.chain_hash,
        cash=account.cash,
        totals=[(currency, name, v) for (currency, name), v in sorted(account.totals.items())],
        positions=[position for _, position in sorted(account.positions.items())],
        orders=[order for _, order in sorted(account.orders.items())],
        ended=account.ended,
        leverages=account.leverages,
        refused=account.refused,
        splits=account.splits,
        parked=sorted(account.parked.items()),
        blocked=account.blocked,
        identity_ids=bytes(account.identities.ids),
        identity_hashes=bytes(account.identities.hashes),
        operator_ids=bytes(operators.ids) if operators else b"",
        operator_hashes=bytes(operators.hashes) if operators else b"",
        keys=bytes(account.keys.packed),
        peak_equity=_plain(account.peak_equity),
        warned=account.warned,
        unpublished=sorted(account.unpublished),
        margin_published=published_margin(account),
        last_log_sequence=account.last_log_sequence,
    )
    return _encoded(snapshot)


def _plain(value: Decimal | None) -> Decimal | None:
    """Return a figure without the zeros that its way of computing left behind the point.

    A sum that is kept up to date has more of them than one that is computed anew after a start.
    """
    return None if value is None else Decimal(exact_text(value))


def load_account(data: bytes) -> tuple[Account, AccountSnapshot]:
    """Return the account in a snapshot, and the snapshot itself.

    Raises:
        ContractError: reason `bad_snapshot`: unreadable, of another form, or its hash differs.
    """
    snapshot = _decode(_snapshots, data)
    account = Account(snapshot.stream_id)
    account.currency = _currency(snapshot.currency)
    account.leverage_limit = snapshot.leverage_limit
    account.version = snapshot.version
    account.event_hash = snapshot.event_hash
    account.chain_hash = snapshot.chain_hash
    account.cash = snapshot.cash
    account.totals = {_total_key(of, name): _shared(value) for of, name, value in snapshot.totals}
    account.restore(map(_lean, snapshot.positions), snapshot.orders, snapshot.ended)
    account.leverages = snapshot.leverages
    account.refused = snapshot.refused
    account.splits = snapshot.splits
    account.parked = dict(snapshot.parked)
    account.blocked = snapshot.blocked
    account.identities = IdentityWindow(snapshot.identity_ids, snapshot.identity_hashes)
    if snapshot.operator_ids:
        account.operators = IdentityWindow(snapshot.operator_ids, snapshot.operator_hashes)
    account.keys = KeyWindow(snapshot.keys)
    account.peak_equity = snapshot.peak_equity
    account.warned = snapshot.warned
    account.unpublished = dict.fromkeys(snapshot.unpublished)
    account.margin_published = snapshot.margin_published
    account.last_log_sequence = snapshot.last_log_sequence
    account.as_of = snapshot.log_sequence
    if account.ledger_hash().hex() != snapshot.ledger_hash:
        raise ContractError("bad_snapshot", f"the ledger hash of {account.stream_id} differs")
    account.forget_texts()  # many accounts stay idle after a start
    return account, snapshot


def _lean(position: Position) -> Position:
    """Return the same position; what many accounts have alike, they share."""
    return Position(
        instrument=_shared_instrument(_encoder.encode(position.instrument)),
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
    )


def _shared(value: Decimal) -> Decimal:
    """Return the one zero for a plain zero, `value` itself for all else."""
    return ZERO if not value and value.compare_total(ZERO) == 0 else value


@lru_cache(maxsize=4096)
def _currency(name: str | None) -> str | None:
    return name


@lru_cache(maxsize=4096)
def _total_key(currency: str, name: TotalName) -> tuple[str, TotalName]:
    return currency, name


# By its bytes: instruments that are equal may still write their numbers differently.
_shared_instrument: Callable[[bytes], Instrument] = lru_cache(maxsize=4096)(
    msgspec.json.Decoder(Instrument).decode
)


def dump_checkpoint(books: Books, log_sequence: int, message_hash: bytes | None) -> bytes:
    """Return the checkpoint of books whose tables are as of `log_sequence`."""
    checkpoint = Checkpoint(
        log_sequence=log_sequence,
        message_hash=message_hash.hex() if message_hash else None,
        tables=tables_of(books),
    )
    return _encoded(checkpoint)


def load_checkpoint(data: bytes) -> Checkpoint:
    """Return the checkpoint in `data`.

    Raises:
        ContractError: reason `bad_snapshot`: unreadable, or of another form.
    """
    return _decode(_checkpoints, data)


def _encoded(saved: AccountSnapshot | Checkpoint) -> bytes:
    return zlib.compress(_encoder.encode(saved), _LEVEL)


def _decode(decoder: msgspec.json.Decoder[_Saved], data: bytes) -> _Saved:
    try:
        saved = decoder.decode(zlib.decompress(data))
    except (msgspec.MsgspecError, ValueError, zlib.error) as error:
        raise ContractError("bad_snapshot", "it cannot be read") from error
    if saved.form != SNAPSHOT_FORM or saved.rules_version > RULES_VERSION:
        raise ContractError(
            "bad_snapshot", f"form {saved.form}, rules {saved.rules_version} are not known here"
        )
    return saved
