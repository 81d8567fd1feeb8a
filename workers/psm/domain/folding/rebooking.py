"""The whole account as its corrected past makes it: every event and mark again, in their order.

A correction is as if the fill had never happened, or had happened as amended: cash, positions and
orders, and also equity at every mark since, so peak, net asset value and warnings are those of a
log without it. Every other event keeps its outcome; what does not compute in the corrected past
does nothing there, and is flagged. Marks are read again up to a limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

import msgspec

from psm.contracts import limits
from psm.contracts.codec import decode_envelope
from psm.contracts.errors import ContractError, InvariantError
from psm.contracts.events import AccountEvent
from psm.contracts.subjects import OF_MARKET, encode_token, log_subject
from psm.domain.account import Account
from psm.domain.booking.evolve import evolve
from psm.domain.booking.fractions import VOID
from psm.domain.books import Books
from psm.domain.corrections import ChainPlace, Corrected
from psm.domain.folding.commit import commit_effect
from psm.domain.folding.market_events import fold_collateral, fold_instrument, fold_mark
from psm.domain.ledger import orders
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.ledger_hash import hash_of
from psm.domain.ledger.orders import Order
from psm.domain.ledger.positions import Position, PositionStep
from psm.domain.market.instrument import Instrument
from psm.domain.market.rates import rate_pairs, symbols_of_pairs
from psm.domain.market.tables import Market
from psm.domain.messages import History, LogMessage, NeedHistory

MARKS_REFOLDED_MAX = limits.MARKS_REFOLDED
"""A constant of the log: beyond it the peak stays as it is, flagged."""


_FOLDS = {"marks": fold_mark, "instruments": fold_instrument, "collateral": fold_collateral}


def with_market(
    books: Books, wanted: NeedHistory, messages: Iterable[LogMessage] = ()
) -> NeedHistory:
    """Return what a correction needs besides its stream: definitions, and marks if not too many.

    Args:
        books: as they are before it.
        wanted: of its stream.
        messages: among which are corrections that may name what the account never had.
    """
    if not wanted.correction:
        return wanted
    account = books.accounts.get(wanted.stream_id)
    symbols = () if account is None else valuing_symbols(account, named_assets(messages))
    taken = books.market.marks_taken
    count = 0
    for symbol in symbols:
        count += taken.get(symbol, 0)
    marks = count <= MARKS_REFOLDED_MAX or (account is not None and needs_rates(account))
    return msgspec.structs.replace(wanted, symbols=symbols, marks=symbols if marks else None)


def still_wanted(
    books: Books, wanted: NeedHistory | None, message: LogMessage, history: History | None
) -> NeedHistory | None:
    """Return what of the log must be read before a message is folded; None: all is there.

    Which assets a correction names that waited is known only when it was read.
    """
    if wanted is None:
        return None
    asked = with_market(books, wanted, (message,))
    if history is None or not wanted.correction:
        return asked if history is None else None
    found = with_market(books, wanted, (message, *history.values()))
    missing = [symbol for symbol in found.symbols if symbol not in asked.symbols]
    defined = books.market.defined_at
    return None if all(defined.get(symbol) in history for symbol in missing) else found


def unrestated_flags(event: AccountEvent, home: str | None) -> tuple[str, ...]:
    """Return the flags of a correction for which the marks are too many to be read again."""
    named = getattr(event, "commission_currency", None)
    if named in (None, home):
        return ("peak_not_restated",)
    return ("peak_not_restated", "fill_out_of_reach")


def named_assets(messages: Iterable[LogMessage]) -> tuple[str, ...]:
    """Return the assets in which amendments say that a commission was paid."""
    found: dict[str, None] = {}
    for message in messages:
        if b"TradeAmended" in message.data and b"commission_currency" in message.data:
            found |= dict.fromkeys(_commission_currency(message))
    return tuple(found)


def _commission_currency(message: LogMessage) -> tuple[str, ...]:
    try:
        payload = msgspec.json.decode(decode_envelope(message.data).payload)
        named = payload["commission_currency"]
    except (ContractError, msgspec.MsgspecError, LookupError, TypeError):
        return ()  # it will be refused for what is wrong with it
    return (named,) if isinstance(named, str) else ()


def needs_rates(account: Account) -> bool:
    """Return whether rates are in the ledger itself, so that booking it again takes the marks."""
    ledger, home = account.ledger, account.ledger.currency
    settles = (position.instrument.settle for position in ledger.positions.values())
    return ledger.by_mark or any(asset != home for asset in (*ledger.cash, *settles))


def valuing_symbols(account: Account, named: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the symbols whose marks ever valued the account: traded ones, underlyings, its rates.

    And those that may rate `named` assets, which it may have had.
    """
    ledger, prices = account.ledger, account.prices
    instruments = [position.instrument for position in ledger.positions.values()]
    underlyings = [prices.underlying_of(one) for one in instruments if one.option is not None]
    settles = [instrument.settle for instrument in instruments]
    assets = dict.fromkeys((*ledger.cash, *settles, *(quote for _, quote in underlyings), *named))
    assets |= dict.fromkeys(prices.fill_partners(assets))
    assets |= dict.fromkeys(_priced_in(prices.market, assets))
    pairs = rate_pairs(tuple(assets), ledger.currency)
    rates = symbols_of_pairs(prices.market, pairs)
    held = [instrument.symbol for instrument in instruments]
    held.extend(symbol for symbol, _ in underlyings)
    named = (*ledger.renames.aliases, *ledger.renames.keys)  # held under another symbol once
    return tuple(sorted(dict.fromkeys((*held, *named, *rates, *ledger.splits))))


def _priced_in(market: Market, assets: Iterable[str]) -> list[str]:
    """Return the quotes of pairs of assets: what is adjusted or comes in kind is priced so."""
    wanted = dict.fromkeys(assets)
    return [i.quote for i in market.instruments.values() if i.is_pair and i.base in wanted]


class Rebooked(msgspec.Struct, frozen=True, kw_only=True):
    """An account whose past was corrected, beside the one in the books.

    Attributes:
        account: booked again; keeps no identities.
        flags: what did not compute there, and whether peak and nav could not be restated.
    """

    account: Account
    flags: tuple[str, ...]


class Rebooking:
    """Books the places of one stream again, with the market of their time."""

    def __init__(
        self, books: Books, current: LogMessage, stream_id: str, history: History | None
    ) -> None:
        self._books = books
        self._current = current
        self._stream_id = stream_id
        self._history = history or {}

    def rebook(self, corrected: Sequence[Corrected], *, marks: bool, corrected_at: int) -> Rebooked:
        """Return the account that corrected events make.

        Args:
            corrected: the applied events in their order, None for a busted one.
            marks: whether marks are read again too; without them only the ledger is right.
            corrected_at: number of the correction: what came before it is of a corrected past.
        """
        apart = Books(partitions=self._books.partitions, publishing=False)
        account = apart.open(self._stream_id)
        table, flags = self._table(marks=marks), list[str]()
        ahead, rest = next(table, None), self._never_valuing()
        for place, event in corrected:
            at = place.log_sequence
            while ahead is not None and ahead.log_sequence < at:
                self._take(apart, ahead)
                ahead = next(table, None)
            while rest and rest[-1][0] < at:
                apart.market.learn(*rest.pop())
            if at == self._current.log_sequence:
                apart.market.restore(self._books.market.tables())
            if event is not None:
                past = place.number < corrected_at
                flags.extend(_apply(apart, account, event, place, corrected=past))
        while ahead is not None:
            self._take(apart, ahead)
            ahead = next(table, None)
        return Rebooked(account=account, flags=tuple(dict.fromkeys(flags)))

    def _table(self, *, marks: bool) -> Iterator[LogMessage]:
        """Yield the marks and definitions of the past, in their order."""
        kinds = OF_MARKET if marks else ("instruments",)
        for log_sequence in sorted(self._history):
            message = self._history[log_sequence]
            if message.kind in kinds and log_sequence < self._current.log_sequence:
                yield message

    def _never_valuing(self) -> list[tuple[int, Instrument]]:
        """Return what no mark of the account needs, by the place of its definition, last first.

        Such a symbol may be named by a dividend or a fee: what counts is decided by its first
        definition, so the one of now will do.
        """
        told = {m.token: None for m in self._history.values() if m.kind == "instruments"}
        market = self._books.market
        found = [
            (at, symbol)
            for symbol, at in market.defined_at.items()
            if encode_token(symbol) not in told
        ]
        return [(at, market.instruments[symbol]) for at, symbol in sorted(found, reverse=True)]

    def _take(self, apart: Books, message: LogMessage) -> None:
        kind, token = log_subject(message.subject)
        _FOLDS[kind](apart, message, token, "nothing")


def _apply(
    apart: Books, account: Account, event: AccountEvent, place: ChainPlace, *, corrected: bool
) -> list[str]:
    """Apply an event in the corrected past; return the flag of what could not be, or not whole."""
    ledger = account.ledger
    ledger.forget_keys()  # outcomes are not revisited
    try:
        effect = evolve(ledger, event, account.prices, place.time, corrected=corrected)
        done = commit_effect(apart, account, effect, corrected=True)
    except (ContractError, ArithmeticError):
        return [VOID]
    account.valuation.revalue(ledger, account.prices, done.symbols, done.moved)
    return [flag for flag in effect.flags if flag == VOID]


def check_same(account: Account, again: Account) -> None:
    """The past as it is in the books, booked again, must give exactly those books."""
    ours, theirs = hash_of(account.ledger, 0, "open", {}), hash_of(again.ledger, 0, "open", {})
    if ours != theirs:
        raise InvariantError(
            f"{account.stream_id}: booking its stream again does not give the ledger in the books"
        )


def changed_positions(before: Ledger, after: Ledger) -> tuple[PositionStep, ...]:
    """Return a step for each position that a correction changed, brought or took."""
    steps = []
    for key in sorted({**before.positions, **after.positions}):
        old, new = before.positions.get(key), after.positions.get(key)
        if new is not None and (new != old or _margin_of(before, new) != _margin_of(after, new)):
            steps.append(PositionStep(position=new, change="adjusted"))
        elif new is None and old is not None:
            empty = Position(
                instrument=old.instrument,
                position_side=old.position_side,
                last_fill=old.last_fill,
            )
            steps.append(PositionStep(position=empty, change="adjusted", forgotten=True))
    return tuple(steps)


def _margin_of(ledger: Ledger, position: Position) -> tuple[bool, Decimal]:
    """Return whether a position is isolated, and its wallet."""
    wallets = ledger.wallets
    return position.instrument.symbol in wallets.symbols, wallets.of(position.key)


def changed_orders(
    before: Mapping[str, Order], after: Mapping[str, Order], events: Iterable[AccountEvent | None]
) -> tuple[Order, ...]:
    """Return each order that a correction changed; one that never was has filled nothing."""
    named = dict.fromkeys(getattr(event, "order_id", None) for event in events)
    changed = []
    for order_id in sorted({**before, **after}):
        old, new = before.get(order_id), after.get(order_id)
        if new is not None and new != old:
            changed.append(new)
        elif new is None and old is not None and order_id not in named:
            changed.append(orders.never_was(old))
    return tuple(changed)
