"""Corrections: which event they mean, and the events of a stream as they leave them.

The account's whole stream is read again. Which message took which place follows from the sequence
rules and is proven by the hash chain; which places were refused, the account remembers. Outcomes,
used identities and published updates are never revisited.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from psm.contracts.corporate_actions import DividendPaid, Merged, SpinOff, SymbolChanged
from psm.contracts.envelope import chain_next, chain_start
from psm.contracts.errors import ContractError, InvariantError
from psm.contracts.events import (
    AccountEvent,
    CashAdjusted,
    FeeCharged,
    FundingApplied,
    InterestAccrued,
    PositionAdjusted,
    SplitApplied,
    TradeExecuted,
)
from psm.contracts.holdings import (
    AssetsExchanged,
    BorrowChanged,
    LossCovered,
    ReturnOfCapital,
    StockDividend,
    TaxCharged,
)
from psm.contracts.reversals import EventReversed, TradeAmended, TradeBusted
from psm.contracts.settlements import PositionSettled
from psm.domain.account import Account

Correction = TradeBusted | TradeAmended | EventReversed

_NAMES = ("symbol", "side", "order_id")
_REVERSIBLE = (
    AssetsExchanged,
    BorrowChanged,
    CashAdjusted,
    DividendPaid,
    FeeCharged,
    FundingApplied,
    InterestAccrued,
    LossCovered,
    Merged,
    PositionAdjusted,
    PositionSettled,
    ReturnOfCapital,
    SpinOff,
    SplitApplied,
    StockDividend,
    SymbolChanged,
    TaxCharged,
)
"""What `EventReversed` takes back; trades and flows have corrections of their own."""
_CHANGES = (
    "quantity", "price", "commission", "commission_currency", "liquidation_fee", "rates",
    "position_side", "isolated_margin",
)  # fmt: skip


class ChainPlace(msgspec.Struct, frozen=True, kw_only=True):
    """One event that took a place in the stream.

    Attributes:
        log_sequence: at which it was folded; for a released event that of the releasing message.
        time: log time of that message, ns.
        event: None where the payload cannot be read; such a place is a refused one.
    """

    number: int
    event_id: str
    event_hash: bytes
    log_sequence: int
    time: int
    event: AccountEvent | None


Corrected = tuple[ChainPlace, AccountEvent | None]
"""A place of the stream, and its event as corrections left it; None where it was busted."""


class Corrections:
    """Applied events of one stream, with the corrections that came so far.

    Args:
        account: whose chain the places are.
        places: of its stream, all of them.
        through: number of the last one that counts; None for all.

    Attributes:
        last: number of the last of them; 0 without any.
    """

    def __init__(
        self, account: Account, places: Sequence[ChainPlace], *, through: int | None = None
    ) -> None:
        check_chain(account, places)
        refused = frozenset(account.delivery.refused)
        self._applied = [
            place
            for place in places
            if place.event is not None
            and place.number not in refused
            and (through is None or place.number <= through)
        ]
        self._corrected: dict[str, AccountEvent | None] = {}
        self._aliases = account.ledger.renames.aliases
        self.last = 0
        for place in self._applied:
            if isinstance(place.event, Correction):
                self.correct(place.event, place.number)
                self.last = place.number

    def events(self) -> list[Corrected]:
        """Return the applied events as corrected, in their order; corrections are left out."""
        return [
            (place, self._corrected.get(place.event_id, place.event))
            for place in self._applied
            if not isinstance(place.event, Correction)
        ]

    def correct(self, correction: Correction, number: int) -> None:
        """Note a correction at place `number`.

        Raises:
            ContractError: reason `unknown_trade`, `unknown_event`, `ambiguous_target` or
                `invalid_payload`.
        """
        if isinstance(correction, EventReversed):
            self._corrected[self._reversed(correction, number)] = None
            return
        event_id, current = self._target(correction, number)
        if isinstance(correction, TradeBusted):
            self._corrected[event_id] = None
            return
        changes = {
            name: value
            for name in (*_CHANGES, "side")
            if (value := getattr(correction, name)) is not None
        }
        if not changes:
            wanted = ", ".join((*_CHANGES, "side"))
            raise ContractError("invalid_payload", f"one of {wanted} must be given", "payload")
        self._corrected[event_id] = msgspec.structs.replace(current, **changes)

    def _reversed(self, correction: EventReversed, number: int) -> str:
        """Return the id of the event before place `number` that never happened."""
        event_id = correction.event_id.lower()
        for place in self._applied:
            if place.event_id == event_id and place.number < number:
                if not isinstance(place.event, _REVERSIBLE):
                    raise ContractError(
                        "invalid_payload",
                        f"{type(place.event).__name__} is not taken back by EventReversed",
                        "payload.event_id",
                    )
                if self._corrected.get(event_id, place.event) is not None:
                    return event_id
        raise ContractError("unknown_event", "no booked event has this event_id, or it is reversed")

    def _target(
        self, correction: TradeBusted | TradeAmended, number: int
    ) -> tuple[str, TradeExecuted]:
        """Return the trade that a correction at place `number` means: one that came before it."""
        if (correction.fill_id is None) == (correction.event_id is None):
            raise ContractError(
                "invalid_payload", "either fill_id or event_id must name the trade", "payload"
            )
        named = [
            (place.event_id, self._corrected.get(place.event_id, place.event))
            for place in self._applied
            if isinstance(place.event, TradeExecuted)
            and place.number < number
            and self._is_meant(correction, place.event_id, place.event)
        ]
        found = [(event_id, event) for event_id, event in named if isinstance(event, TradeExecuted)]
        if not found:
            name = "event_id" if correction.fill_id is None else "fill_id"
            known = "was busted before" if named else "is not booked"
            raise ContractError("unknown_trade", f"the trade of this {name} {known}")
        if len(found) > 1:
            candidates = ", ".join(event_id for event_id, _ in found)
            raise ContractError(
                "ambiguous_target",
                f"this fill_id is that of several trades; name one by event_id: {candidates}",
                "payload.fill_id",
            )
        return found[0]

    def _is_meant(
        self, correction: TradeBusted | TradeAmended, event_id: str, trade: TradeExecuted
    ) -> bool:
        """Return whether a trade, as it was reported, has the names that a correction gives."""
        if correction.event_id is not None:
            return event_id == correction.event_id.lower()
        if trade.fill_id != correction.fill_id:
            return False
        names = _NAMES if isinstance(correction, TradeBusted) else ("symbol", "order_id")
        return all(self._is_same(name, getattr(correction, name), trade) for name in names)

    def _is_same(self, name: str, wanted: str | None, trade: TradeExecuted) -> bool:
        """Return whether a trade has a name that a correction gives, or may have any."""
        found: str | None = getattr(trade, name)
        if wanted is None or found is None or name != "symbol":
            return wanted in (None, found)
        return self._aliases.get(wanted, wanted) == self._aliases.get(found, found)


def check_chain(account: Account, places: Sequence[ChainPlace]) -> None:
    """The places must be those whose hashes the account's chain is made of."""
    chain = chain_start(account.stream_id)
    for place in places:
        chain = chain_next(chain, place.event_hash)
    if chain != account.delivery.chain_hash:
        raise InvariantError(
            f"{account.stream_id}: the stream read again has another hash chain: the log changed"
        )
