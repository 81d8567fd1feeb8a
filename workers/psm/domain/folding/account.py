"""One event of an account: decoded, evolved, committed, placed, valued, published."""

from __future__ import annotations

from psm.contracts.errors import ContractError
from psm.contracts.events import TradeExecuted
from psm.contracts.payload_codec import PayloadCodec
from psm.domain.account import Account
from psm.domain.booking.evolve import evolve
from psm.domain.booking.identities import fact_name, fill_keys_of
from psm.domain.books import Books
from psm.domain.corrections import ChainPlace, Correction, Corrections
from psm.domain.delivery.rules import Entry
from psm.domain.folding.commit import commit_effect
from psm.domain.folding.placements import find_places
from psm.domain.folding.rebooking import (
    Rebooking,
    changed_orders,
    changed_positions,
    check_same,
    needs_rates,
    unrestated_flags,
    with_market,
)
from psm.domain.folding.stream import StreamFold, Taken
from psm.domain.ledger.bounds import check_bounds, check_rebooked
from psm.domain.ledger.ledger import Ledger
from psm.domain.messages import Emit, History, LogMessage, NeedHistory, Outcome
from psm.domain.publication.asset_figures import asset_steps, changed_assets
from psm.domain.publication.updates import UpdateWriter


def stream_fold(
    books: Books, message: LogMessage, stream_id: str, history: History | None, emit: Emit
) -> StreamFold:
    """Return what folds a message of a stream into the account of its stream."""
    writer = UpdateWriter(books, message, "event", emit)
    settle = ApplyToAccount(books, message, history, writer)
    return StreamFold(books, message, stream_id, history, settle, writer)


class ApplyToAccount:
    """Lets events of one message take their places in the ledger."""

    def __init__(
        self, books: Books, message: LogMessage, history: History | None, writer: UpdateWriter
    ) -> None:
        self._books = books
        self._message = message
        self._history = history
        self._writer = writer
        self._places: list[ChainPlace] | None = None

    def apply(
        self, account: Account, entry: Entry, codec: PayloadCodec, released: int | None
    ) -> Taken:
        """Apply the event that is next in order, or refuse it; publish the account.

        Raises:
            StateTooLargeError: the state has no room for it; nothing was changed.
        """
        writer, ledger, state = self._writer, account.ledger, account.valuation
        writer.caused_by(entry.envelope, released)
        if writer.wanted:
            state.freeze_published_margin(ledger)
        try:
            event = codec.decode(entry.envelope.payload)
            if isinstance(event, Correction):
                return self._correct(account, entry, event)
            again = self._books.corrected
            effect = evolve(ledger, event, account.prices, self._message.time, corrected=again)
            check_bounds(ledger, effect)
            touched = [step.position.key for step in effect.steps]
            self._books.begin_change(account, self._message.time, touched)
            done = commit_effect(self._books, account, effect, corrected=again)
        except ContractError as error:
            if error.reason == "duplicate_fill":
                self._complete_fill(ledger, entry, codec)
            return self._refuse(account, entry, error)
        except ArithmeticError:
            detail = "the event does not compute exactly in 100 digits"
            return self._refuse(account, entry, ContractError("arithmetic", detail))
        account.delivery.take_place(entry.number, entry.identity, entry.hashed)
        if effect.cash or effect.steps:
            account.delivery.note_fact(entry.identity, fact_name(event))
        crossed = state.revalue(ledger, account.prices, done.symbols, done.moved)
        writer.account(
            account,
            orders=effect.orders,
            assets=asset_steps(ledger, effect) if state.totals.assets is not None else (),
            steps=effect.steps,
            crossed=crossed,
            flags=effect.flags,
            event=event,
        )
        return Outcome.APPLIED, None, effect.flags

    def _refuse(self, account: Account, entry: Entry, error: ContractError) -> Taken:
        """Give the event its place without any effect, and publish why."""
        account.delivery.refuse_place(entry.number, entry.identity, entry.hashed)
        self._writer.account(account, refusal=(entry.envelope, error))
        return Outcome.REFUSED, error.reason, ()

    def _complete_fill(self, ledger: Ledger, entry: Entry, codec: PayloadCodec) -> None:
        """Learn which order a fill belongs to, where only its repeat names one."""
        event = codec.decode(entry.envelope.payload)
        if isinstance(event, TradeExecuted):
            for key in fill_keys_of(ledger, event):
                ledger.complete_fill(key)

    def _correct(self, account: Account, entry: Entry, event: Correction) -> Taken:
        """Book the stream again, with the correction; publish everything that it changed.

        Raises:
            ContractError: reason `unknown_trade`, `ambiguous_target` or `invalid_payload`.
            StateTooLargeError: the state has no room for what it brings.
            InvariantError: booking the stream again does not give the books as they are.
        """
        if self._places is None:
            self._places = find_places(self._books, self._message, account.stream_id, self._history)
        delivery, before = account.delivery, account.ledger
        places = [place for place in self._places if place.number <= delivery.version]
        corrections = Corrections(account, places)
        was = corrections.events()
        corrections.correct(event, delivery.version + 1)
        corrected = corrections.events()
        rebooking = Rebooking(self._books, self._message, account.stream_id, self._history)
        marks = needs_rates(account)
        known = rebooking.rebook(was, marks=marks, corrected_at=corrections.last)
        check_same(account, known.account)
        restated = self._restates(account)
        number = delivery.version + 1
        rebooked = rebooking.rebook(corrected, marks=restated, corrected_at=number)
        check_rebooked(before, rebooked.account.ledger)
        self._books.begin_change(account, self._message.time, _open_positions(before))
        beyond = () if restated else unrestated_flags(event, before.currency)
        flags = (*rebooked.flags, *beyond)
        symbols = before.symbols()
        warned = account.valuation.all_warned()
        account.rebook(rebooked.account, restated=restated)
        after, state = account.ledger, account.valuation
        symbols = (*symbols, *after.symbols())
        self._books.index(account, symbols)
        delivery.take_place(entry.number, entry.identity, entry.hashed)
        delivery.note_fact(entry.identity, fact_name(event))
        state.revalue(after, account.prices, symbols)
        standing = state.standing(after, account.prices)
        self._writer.account(
            account,
            orders=changed_orders(
                before.orders.by_id, after.orders.by_id, (found for _, found in corrected)
            ),
            assets=changed_assets(before, after),
            steps=changed_positions(before, after),
            crossed=[level for level in standing if level not in warned],
            flags=flags,
            event=event,
        )
        return Outcome.APPLIED, None, flags

    def _restates(self, account: Account) -> bool:
        """Return whether the marks of the past were asked for: they may be too many."""
        asked = NeedHistory(
            stream_id=account.stream_id, from_log_sequence=1, to_log_sequence=1, correction=True
        )
        told = (self._message, *(self._history or {}).values())
        return with_market(self._books, asked, told).marks is not None


def _open_positions(ledger: Ledger) -> list[str]:
    return [key for key, position in ledger.positions.items() if position.size]
