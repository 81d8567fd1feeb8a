"""Marks and definitions: messages of the market, which concern no single account."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, cast

from psm.contracts import registry
from psm.contracts.codec import decode_envelope
from psm.contracts.envelope import Envelope
from psm.contracts.errors import ContractError
from psm.contracts.events import TableEvents
from psm.contracts.position_keys import position_key
from psm.contracts.subjects import TOKEN_RULE, encode_token, is_token
from psm.contracts.table_events import CollateralDefined, InstrumentDefined, MarkPriceUpdated
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.delivery.rules import RejectedError
from psm.domain.ledger.ledger import Ledger
from psm.domain.market.collateral import terms_of
from psm.domain.market.instrument import undefined_instrument
from psm.domain.market.mark import Mark
from psm.domain.market.tables import pair_of
from psm.domain.messages import (
    Emit,
    Folded,
    LogMessage,
    NeedHistory,
    Outcome,
)
from psm.domain.publication.due import due_for_publication
from psm.domain.publication.updates import UpdateWriter
from psm.domain.valuation.state import Crossing


def fold_mark(books: Books, message: LogMessage, token: str, emit: Emit) -> Folded | NeedHistory:
    """Take a mark price: value every holder now, publish what is due."""
    writer = UpdateWriter(books, message, "mark", emit)
    return fold_table(books, message, token, writer, _NewMark(books, message, writer))


def fold_instrument(
    books: Books, message: LogMessage, token: str, emit: Emit
) -> Folded | NeedHistory:
    """Take a definition; its kind, currencies and multiplier never change again."""
    writer = UpdateWriter(books, message, "event", emit)
    return fold_table(books, message, token, writer, _NewDefinition(books, message, writer))


def fold_collateral(
    books: Books, message: LogMessage, token: str, emit: Emit
) -> Folded | NeedHistory:
    """Take the terms of an asset as security: value everybody who has it now."""
    writer = UpdateWriter(books, message, "event", emit)
    return fold_table(books, message, token, writer, _NewCollateral(books, message, writer))


Concerns = Callable[[Account, str], bool]
"""Whether what is known of a symbol changes an account's figures."""


class TableEvent(Protocol):
    """Effect of a message that concerns no single account."""

    event_types: tuple[str, ...]
    """The types that belong on the subject."""
    numbered: bool
    """True if the message must have a number."""

    def take(self, envelope: Envelope) -> Outcome | NeedHistory:
        """Take it; raises `ContractError` where it is refused. Returns applied or stale."""
        ...

    def publish(self) -> None:
        """Publish what is due after it, also where it was rejected, refused or stale."""
        ...


def fold_table(
    books: Books, message: LogMessage, token: str, writer: UpdateWriter, event: TableEvent
) -> Folded | NeedHistory:
    """Read the message, take it, publish what follows, and publish a refusal last."""
    envelope: Envelope | None = None
    error: ContractError | None = None
    try:
        envelope = _read(message, token, numbered=event.numbered)
        writer.caused_by(envelope)
        _check_type(envelope, message, event.event_types)
        outcome = event.take(envelope)
    except RejectedError as rejected:
        envelope, error, outcome = rejected.envelope, rejected.error, Outcome.REJECTED
        writer.caused_by(envelope)
    except ContractError as refused:
        error, outcome = refused, Outcome.REFUSED
    if isinstance(outcome, NeedHistory):
        return outcome
    event.publish()
    if error is not None and books.owns(token):
        writer.refusal(token, None, outcome.value, envelope, error)
    return Folded(
        outcome=outcome,
        reason=error.reason if error else None,
        stream_id=token,
        sequence_number=envelope.sequence_number if envelope else None,
        updates=writer.finished(),
        payloads=writer.payloads,
        hashes=writer.hashes,
    )


class _MarketEvent:
    """What all accounts see: it values those whom it concerns again, and warns them at once."""

    numbered = True

    def __init__(self, books: Books, message: LogMessage, writer: UpdateWriter) -> None:
        self._books = books
        self._message = message
        self._writer = writer
        self._crossed: dict[str, tuple[Crossing, ...]] = {}

    def publish(self) -> None:
        if self._crossed:
            self._writer.caused_by_market()
        for stream_id, levels in sorted(self._crossed.items()):
            self._writer.account(self._books.accounts[stream_id], crossed=levels)


class _NewMark(_MarketEvent):
    event_types: tuple[str, ...] = ("MarkPriceUpdated",)

    def take(self, envelope: Envelope) -> Outcome:
        event = cast("MarkPriceUpdated", _payload_of(envelope))
        number, market = envelope.sequence_number, self._books.market
        assert number is not None
        instrument = market.instruments.get(event.symbol) or undefined_instrument(event.symbol, "")
        instrument.check_price(event.price, "payload.price")
        current = market.marks.get(event.symbol)
        if current is not None and number <= current.sequence_number:
            return Outcome.STALE
        message = self._message
        mark = Mark(
            price=event.price,
            sequence_number=number,
            log_sequence=message.log_sequence,
            time=message.time,
            index_price=event.index_price,
            delta=event.delta,
        )
        moved = current is None or not mark.has_prices_of(current)
        opens = current is None or not (current.is_positive and mark.is_positive)
        holders = _concerned(self._books, message, event.symbol, None)
        # A mark at the same price is new where it ends the correction of the one before.
        split = [account for account in holders if event.symbol in account.ledger.splits]
        _value_before(holders if opens else split)
        concerned = holders if moved else split
        _begin_change(self._books, message, event.symbol, concerned)
        market.set_mark(event.symbol, mark)
        self._crossed = _revalue(self._books, message, event.symbol, concerned, paths=opens)
        return Outcome.APPLIED

    def publish(self) -> None:
        books, message, crossed = self._books, self._message, self._crossed
        due = due_for_publication(books, message)
        for stream_id in sorted({**crossed, **due}):
            account = books.accounts[stream_id]
            books.touch_value(account, message.log_sequence)
            self._writer.account(
                account, crossed=crossed.get(stream_id, ()), due=due.get(stream_id)
            )


class _NewDefinition(_MarketEvent):
    event_types: tuple[str, ...] = ("InstrumentDefined",)

    def take(self, envelope: Envelope) -> Outcome:
        books, message = self._books, self._message
        if is_stale(books, message, envelope):
            return Outcome.STALE
        event = cast("InstrumentDefined", _payload_of(envelope))
        if event.kind == "spot" and event.base == event.quote:
            raise ContractError(
                "invalid_payload", "quote must be another asset than base", "payload.quote"
            )
        pair = pair_of(event.base, event.quote)
        if event.symbol not in books.market.instruments:
            for symbol in (event.symbol, pair):
                _value_before(_concerned(books, message, symbol, None))
            self._begin_change(event.symbol, _needs_definition)
            self._begin_change(pair, None)
        if books.market.define(event, message.log_sequence):
            concerned = {**books.holders.get(event.symbol, {}), **books.holders.get(pair, {})}
            for account in concerned.values():
                books.index(account, (event.symbol,))
            # It may be the instrument whose mark converts an asset from now on.
            defined = _concerned(books, message, event.symbol, _needs_definition)
            self._crossed = _revalue(books, message, event.symbol, defined, paths=True)
        books.market.take_number(message.subject, envelope.sequence_number)
        return Outcome.APPLIED

    def _begin_change(self, symbol: str, concerns: Concerns | None) -> None:
        """Note closes of those who may be valued another way from here on."""
        books, message = self._books, self._message
        concerned = _concerned(books, message, symbol, concerns)
        _begin_change(books, message, "", concerned)
        for account in concerned:
            books.touch_value(account, message.log_sequence)


class _NewCollateral(_MarketEvent):
    event_types: tuple[str, ...] = ("CollateralDefined",)

    def take(self, envelope: Envelope) -> Outcome:
        books, message = self._books, self._message
        if is_stale(books, message, envelope):
            return Outcome.STALE
        event = cast("CollateralDefined", _payload_of(envelope))
        terms = terms_of(event)
        # Definitions are few, and whose security an asset is changes with every event: no index.
        concerned = [
            account
            for account in books.accounts.values()
            if message.log_sequence > account.delivery.as_of
            and _is_secured_by(account.ledger, event.asset)
        ]
        _begin_change(books, message, "", concerned)
        books.market.secure(terms)
        for account in concerned:
            account.valuation.resecure(event.asset)
        self._crossed = _revalue(books, message, event.asset, concerned)
        books.market.take_number(message.subject, envelope.sequence_number)
        return Outcome.APPLIED


def _is_secured_by(ledger: Ledger, asset: str) -> bool:
    """Return whether the terms of an asset change figures: of what is idle they change none.

    Money of the account currency secures in full, whatever its terms; only owing it needs margin.
    """
    share = ledger.positions.get(position_key(asset))
    if share is not None and share.size:
        return True
    amount = ledger.cash.get(asset)
    return amount is not None and (asset != ledger.currency or amount < 0)


def _concerned(
    books: Books, message: LogMessage, symbol: str, concerns: Concerns | None
) -> list[Account]:
    """Return the holders of a symbol, or those whose figures change."""
    return [
        account
        for account in books.holders.get(symbol, {}).values()
        if message.log_sequence > account.delivery.as_of
        and (concerns is None or concerns(account, symbol))
    ]


def _value_before(accounts: Iterable[Account]) -> None:
    """Value accounts before a price comes that may rate what had no rate, or end a rate.

    What crosses is a flow at the equity before; an account that a snapshot gave back has none yet.
    """
    for account in accounts:
        account.equity()


def _begin_change(
    books: Books, message: LogMessage, symbol: str, accounts: Iterable[Account]
) -> None:
    """Note closes as long as the market is as it was: figures may still have to be computed."""
    if not books.publishing:
        return
    minute = books.market.minute(message.time)
    for account in accounts:
        waiting = account.unpublished
        if waiting.minute == minute == waiting.minutes.get(symbol) and not account.ledger.legs:
            continue  # the usual case: it has changed in this minute
        keys = account.open_keys(symbol)
        if waiting.minute != minute or any(waiting.minutes.get(key) != minute for key in keys):
            account.begin_change(minute, keys)


def _revalue(
    books: Books,
    message: LogMessage,
    symbol: str,
    accounts: Iterable[Account],
    *,
    paths: bool = False,
) -> dict[str, tuple[Crossing, ...]]:
    """Value accounts again, `paths` where rates may be made of other marks; return crossings."""
    crossed: dict[str, tuple[Crossing, ...]] = {}
    mark = books.market.marks.get(symbol)
    for account in accounts:
        books.touch_value(account, message.log_sequence)
        ledger, state = account.ledger, account.valuation
        split = symbol in ledger.splits
        if split and mark is not None:
            books.touch(account, message.log_sequence)  # the correction is the ledger's
            ledger.mark_replaced(symbol, mark.sequence_number)
        state.freeze_published_margin(ledger)
        levels = state.revalue(ledger, account.prices, (symbol,))
        if levels:
            crossed[account.stream_id] = levels
        if books.publishing:
            books.postpone(account, symbol, paths=paths or split)
    return crossed


def _needs_definition(account: Account, symbol: str) -> bool:
    """Return whether a definition changes figures: as a rate, or of what an order reserves.

    The rates are those of ordered currencies, too, of which the account may have none yet.
    """
    return symbol in account.valuation.rates or symbol in account.ledger.orders.open_by_symbol


def _read(message: LogMessage, token: str, *, numbered: bool) -> Envelope:
    """Return the envelope; raises `RejectedError` where it is none of this subject."""
    envelope = None
    try:
        if not is_token(token):
            detail = f"the last token must be {TOKEN_RULE}"
            raise ContractError("invalid_subject", detail, "subject")
        envelope = decode_envelope(message.data)
        if envelope.stream_id != token:
            raise ContractError(
                "stream_mismatch",
                f"stream_id {envelope.stream_id} came on the subject of {token}",
                "stream_id",
            )
        if numbered and envelope.sequence_number is None:
            raise ContractError(
                "sequence_missing", "sequence_number is required here", "sequence_number"
            )
    except ContractError as error:
        raise RejectedError(error, envelope) from None
    return envelope


def _check_type(envelope: Envelope, message: LogMessage, event_types: tuple[str, ...]) -> None:
    if envelope.event_type not in event_types:
        detail = f"{envelope.event_type} does not belong on {message.subject}"
        raise ContractError("unknown_event_type", detail, "event_type")


def _payload_of(envelope: Envelope) -> TableEvents:
    """Return the payload, whose symbol or asset must be the one of the subject."""
    payload = registry.codec_for(envelope).decode(envelope.payload)
    assert isinstance(payload, TableEvents)
    name = "asset" if isinstance(payload, CollateralDefined) else "symbol"
    if encode_token(getattr(payload, name)) != envelope.stream_id:
        raise ContractError(
            "invalid_payload", f"{name} is not the one of the subject", f"payload.{name}"
        )
    return payload


def is_stale(books: Books, message: LogMessage, envelope: Envelope) -> bool:
    """Return whether a higher number was applied on this subject already."""
    number = envelope.sequence_number
    return number is not None and number <= books.market.numbers.get(message.subject, 0)
