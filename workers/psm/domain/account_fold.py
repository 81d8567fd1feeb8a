"""What an account's event does when its turn has come: applied or refused, and published."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import cast

from psm.contracts.errors import ContractError
from psm.contracts.events import AccountEvent, Payload
from psm.contracts.payload_codec import PayloadCodec
from psm.domain.account import Account
from psm.domain.corrections import Correction, Corrector, Place
from psm.domain.effect import Effect
from psm.domain.evolve import evolve
from psm.domain.money import ONE, ZERO, multiply, scaled
from psm.domain.orders import Order
from psm.domain.outcomes import Outcome
from psm.domain.place_finder import find_places
from psm.domain.positions import Step
from psm.domain.sequence import Entry
from psm.domain.setting import Setting
from psm.domain.stream_fold import StreamFold, Taken
from psm.domain.valuation import keep_margin, peak_after_flow


class AccountFold(StreamFold):
    """Folds one message on `trades.*` into its account."""

    _places: list[Place] | None = None

    def _take(
        self, account: Account, entry: Entry, codec: PayloadCodec, released: int | None = None
    ) -> Taken:
        """Apply or refuse the event that is next in order, and publish the account."""
        books = self.books
        self.emitter.caused_by(entry.envelope, released)
        if books.publishing == "updates":
            keep_margin(account)
        symbols: list[str] = []
        steps: tuple[Step, ...] = ()
        changed: tuple[Order, ...] = ()
        flags: tuple[str, ...] = ()
        refusal: ContractError | None = None
        try:
            effect = self._effect(account, codec.decode(entry.envelope.payload))
            peak = self._peak(account, effect)
            account.commit(effect)
        except ContractError as error:
            refusal = error
        except ArithmeticError:
            refusal = ContractError(
                "arithmetic", "the event does not compute exactly in 100 digits"
            )
        else:
            account.peak_equity = peak
            steps, flags = effect.steps, effect.flags
            changed = effect.orders
            if effect.split is not None:
                self._split(account, *effect.split)
            symbols = [step.position.symbol for step in steps]
            if changed:
                symbols.extend(order.symbol for order in changed)
            if account.unindexed:
                books.index(account, symbols)
            if effect.leverage is not None:
                symbols.extend((*account.worths.values, *account.ordered_symbols()))
        if refusal is not None:
            account.refused.append(entry.number)
        account.take_place(entry.number, entry.identity, entry.hashed)
        self._count_applied()
        crossed = books.revalue(account, symbols) if refusal is None else ()
        self.emitter.account(
            account,
            orders=changed,
            steps=steps,
            crossed=crossed,
            flags=flags,
            refusal=(entry.envelope, refusal) if refusal else None,
        )
        if refusal is not None:
            return Outcome.REFUSED, refusal.reason
        return Outcome.APPLIED, None

    def _effect(self, account: Account, event: Payload) -> Effect:
        """Return what an event changes; a correction reads the whole stream again."""
        books = self.books
        if isinstance(event, Correction):
            if self._places is None:
                self._places = find_places(self)
            places = [place for place in self._places if place.number <= account.version]
            corrector = Corrector(account, places, books.instruments, books.defined_at)
            return corrector.effect(event)
        setting = Setting(
            instruments=books.instruments, price_of=partial(books.mark_price, account)
        )
        return evolve(account, cast("AccountEvent", event), setting)

    def _peak(self, account: Account, effect: Effect) -> Decimal | None:
        """Return the peak after the event's external flow, in the account currency."""
        if effect.flow is None or account.currency is None:
            return account.peak_equity
        equity = self.books.equity(account)
        currency, amount = effect.flow
        rate = self.books.rate(account, currency)
        flow = ZERO if rate is None else multiply(amount, rate)
        return peak_after_flow(account.peak_equity, equity, flow)

    def _split(self, account: Account, symbol: str, ratio: Decimal) -> None:
        """The current mark is of units that no longer exist: divide it until the next one."""
        mark = self.books.marks.get(symbol)
        if mark is None:
            return
        number, before = account.splits.get(symbol, (0, ONE))
        if number == mark.sequence_number:
            ratio = scaled(ratio, before, ONE)
        account.splits[symbol] = (mark.sequence_number, ratio)
