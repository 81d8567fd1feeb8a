"""Folds what concerns no single account: marks, instruments, rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from psm.contracts import registry
from psm.contracts.codec import decode_envelope
from psm.contracts.envelope import Envelope
from psm.contracts.errors import ContractError
from psm.contracts.events import InstrumentDefined, MarkPriceUpdated, RulesEnabled
from psm.contracts.subjects import encode_token
from psm.contracts.updates import Level
from psm.domain.account import Account
from psm.domain.account_fold import AccountFold
from psm.domain.books import RULES_VERSION, Books
from psm.domain.messages import LogMessage
from psm.domain.outcomes import Folded, History, NeedHistory, Outcome, UnknownRulesError
from psm.domain.positions import Instrument
from psm.domain.publish import Emitter
from psm.domain.sequence import history_wanted
from psm.domain.valuation import keep_margin
from psm.domain.worth import Mark


def fold_mark(books: Books, message: LogMessage, token: str) -> Folded:
    """Take a mark price: value every holder now, publish what is due."""
    emitter = Emitter(books, message, "mark")
    envelope, error, outcome = _read_table_event(message, token, ("MarkPriceUpdated",))
    crossed: dict[str, tuple[Level, ...]] = {}
    if envelope is not None:
        emitter.caused_by(envelope)
    if error is None:
        assert envelope is not None
        assert envelope.sequence_number is not None
        try:
            event = cast("MarkPriceUpdated", _payload_of(envelope, token))
        except ContractError as refused:
            error, outcome = refused, Outcome.REFUSED
        else:
            current = books.marks.get(event.symbol)
            if current is not None and envelope.sequence_number <= current.sequence_number:
                outcome = Outcome.STALE
            else:
                mark = Mark(price=event.price, sequence_number=envelope.sequence_number)
                books.marks[event.symbol] = mark
                moved = current is None or current.price != mark.price
                concerns = _anybody if moved else _is_split
                crossed = _revalue_holders(books, message, event.symbol, concerns)
    due = _due_for_publication(books, message)
    for stream_id in sorted({**crossed, **due}):
        account = books.accounts[stream_id]
        if stream_id in due:
            books.touch(account, message.log_sequence)
            emitter.account(account, crossed=crossed.get(stream_id, ()))
        else:
            emitter.warnings(account, crossed[stream_id])
    return _table_result(books, emitter, token, envelope, error, outcome)


def _revalue_holders(
    books: Books, message: LogMessage, symbol: str, concerns: Callable[[Account, str], bool]
) -> dict[str, tuple[Level, ...]]:
    """Value every holder it concerns anew; return the warning levels crossed, by account."""
    crossed: dict[str, tuple[Level, ...]] = {}
    for stream_id, account in books.holders.get(symbol, {}).items():
        if message.log_sequence <= account.as_of or not concerns(account, symbol):
            continue
        books.touch(account, message.log_sequence)
        split = account.splits.get(symbol)
        mark = books.marks.get(symbol)
        if split is not None and mark is not None and split[0] != mark.sequence_number:
            del account.splits[symbol]
        keep_margin(account)
        levels = books.revalue(account, (symbol,))
        if levels:
            crossed[stream_id] = levels
        account.unpublished[symbol] = None
        books.unpublished[stream_id] = account
    return crossed


def _anybody(_: Account, __: str) -> bool:
    return True


def _is_split(account: Account, symbol: str) -> bool:
    """Whether a mark at the same price is new: it ends the correction of the one before."""
    return symbol in account.splits


def _needs_definition(account: Account, symbol: str) -> bool:
    """Whether a definition changes figures: as a rate, or of what an order reserves.

    The rates are those of ordered currencies, too, of which the account may have none yet.
    """
    return symbol in account.rates or symbol in account.ordered_symbols()


def _due_for_publication(books: Books, message: LogMessage) -> dict[str, None]:
    """Move the valuation clock; return the accounts to publish if a new interval began."""
    before = books.clock
    books.clock = message.time if before is None else max(before, message.time)
    interval = books.valuation_interval_ns
    if before is not None and books.clock // interval <= before // interval:
        return {}
    return {
        stream_id: None
        for stream_id, account in books.unpublished.items()
        if message.log_sequence > account.as_of
    }


def fold_instrument(books: Books, message: LogMessage, token: str) -> Folded:
    """Take a definition; its kind, currencies and multiplier never change again."""
    emitter = Emitter(books, message, "event")
    envelope, error, outcome = _read_table_event(message, token, ("InstrumentDefined",))
    crossed: dict[str, tuple[Level, ...]] = {}
    emitter.caused_by(envelope)
    if error is None and not _is_stale(books, message, envelope):
        assert envelope is not None
        try:
            event = cast("InstrumentDefined", _payload_of(envelope, token))
            first = event.symbol not in books.instruments
            _define(books, event, message.log_sequence)
            if first:
                for account in list(books.holders.get(event.symbol, {}).values()):
                    books.index(account, (event.symbol,))
                # It may be the spot instrument whose mark converts a currency from now on.
                crossed = _revalue_holders(books, message, event.symbol, _needs_definition)
            _remember_number(books, message, envelope)
        except ContractError as refused:
            error, outcome = refused, Outcome.REFUSED
    elif error is None:
        outcome = Outcome.STALE
    for stream_id, levels in sorted(crossed.items()):
        emitter.warnings(books.accounts[stream_id], levels)
    return _table_result(books, emitter, token, envelope, error, outcome)


def _define(books: Books, event: InstrumentDefined, log_sequence: int) -> None:
    instrument = Instrument(
        symbol=event.symbol,
        kind=event.kind,
        base=event.base,
        quote=event.quote,
        settle=event.settle,
        multiplier=event.multiplier,
        margin_tiers=event.margin_tiers,
    )
    first = books.instruments.get(event.symbol)
    for name in ("kind", "base", "quote", "settle", "multiplier"):
        if first is not None and getattr(first, name) != getattr(instrument, name):
            raise ContractError(
                "instrument_conflict",
                f"{name} of {event.symbol} is {getattr(first, name)} since its first definition",
                f"payload.{name}",
            )
    books.defined_at.setdefault(event.symbol, log_sequence)
    books.instruments[event.symbol] = instrument


def fold_control(
    books: Books, message: LogMessage, token: str, history: History | None
) -> Folded | NeedHistory:
    """Take an operator's message to every partition; unknown rules stop the worker."""
    released: list[Emitter] = []
    emitter = Emitter(books, message, "event")
    envelope, error, outcome = _read_table_event(
        message,
        token,
        ("RulesEnabled",) if message.subject == "control.rules" else (),
        numbered=False,
    )
    emitter.caused_by(envelope)
    if error is None and not _is_stale(books, message, envelope):
        assert envelope is not None
        try:
            event = cast("RulesEnabled", registry.codec_for(envelope).decode(envelope.payload))
        except ContractError as refused:
            error, outcome = refused, Outcome.REFUSED
        else:
            if event.rules_version > RULES_VERSION:
                raise UnknownRulesError(
                    f"log sequence {message.log_sequence} enables rules {event.rules_version}; "
                    f"this version knows rules up to {RULES_VERSION}: run a newer version"
                )
            enabled = _enable_rules(books, message, event.rules_version, envelope, history or {})
            if isinstance(enabled, NeedHistory):
                return enabled
            released = enabled
            _remember_number(books, message, envelope)
    elif error is None:
        outcome = Outcome.STALE
    result = _table_result(books, emitter, token, envelope, error, outcome)
    for other in released:
        emitter.updates.extend(other.updates)
        emitter.hashes.extend(other.hashes)
    return result


def _enable_rules(
    books: Books, message: LogMessage, version: int, cause: Envelope, history: History
) -> list[Emitter] | NeedHistory:
    """Judge by other rules from here on; release each stream that an unknown event blocked.

    Streams go on in ascending order, each as if it were retried by itself.
    """
    if version == books.rules:
        return []
    waiting = [
        account
        for _, account in sorted(books.accounts.items())
        if account.blocked is not None
        and message.log_sequence > account.as_of
        and account.blocked.known_by(version)
    ]
    for account in waiting:
        assert account.blocked is not None
        if account.blocked.log_sequence not in history:
            number = account.version + 1
            wanted = history_wanted(account, number, message.log_sequence, correction=False)
            assert wanted is not None
            return wanted
    books.rules_enabled.append((message.log_sequence, version))
    released: list[Emitter] = []
    for account in waiting:
        end = f".{account.stream_id}"
        own = {place: m for place, m in history.items() if m.subject.endswith(end)}
        fold = AccountFold(books, message, account.stream_id, own)
        fold.resume(cause)
        released.append(fold.emitter)
    return released


def _read_table_event(
    message: LogMessage, token: str, types: tuple[str, ...], *, numbered: bool = True
) -> tuple[Envelope | None, ContractError | None, Outcome]:
    """Return (envelope, error, outcome so far) of a message that concerns no single account."""
    envelope = None
    try:
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
    except ContractError as rejected:
        return envelope, rejected, Outcome.REJECTED
    if envelope.event_type not in types:
        detail = f"{envelope.event_type} does not belong on {message.subject}"
        unknown = ContractError("unknown_event_type", detail, "event_type")
        return envelope, unknown, Outcome.REFUSED
    return envelope, None, Outcome.APPLIED


def _payload_of(envelope: Envelope, token: str) -> MarkPriceUpdated | InstrumentDefined:
    payload = registry.codec_for(envelope).decode(envelope.payload)
    assert isinstance(payload, MarkPriceUpdated | InstrumentDefined)
    if encode_token(payload.symbol) != token:
        raise ContractError(
            "invalid_payload",
            f"symbol {payload.symbol} came on the subject of {token}",
            "payload.symbol",
        )
    return payload


def _is_stale(books: Books, message: LogMessage, envelope: Envelope | None) -> bool:
    """Return whether a higher number was applied on this subject already."""
    number = envelope.sequence_number if envelope else None
    return number is not None and number <= books.numbers.get(message.subject, 0)


def _remember_number(books: Books, message: LogMessage, envelope: Envelope) -> None:
    if envelope.sequence_number is not None:
        books.numbers[message.subject] = envelope.sequence_number


def _table_result(
    books: Books,
    emitter: Emitter,
    token: str,
    envelope: Envelope | None,
    error: ContractError | None,
    outcome: Outcome,
) -> Folded:
    if error is not None and books.owns(token):
        emitter.refusal(token, None, outcome.value, envelope, error)
    return Folded(
        outcome=outcome,
        reason=error.reason if error else None,
        stream_id=token,
        sequence_number=envelope.sequence_number if envelope else None,
        updates=emitter.updates,
        hashes=emitter.hashes,
    )
