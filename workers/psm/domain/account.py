"""The account aggregate: a ledger, how its events were delivered, and what it is worth."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from psm.domain.delivery.delivery import Delivery
from psm.domain.ledger.effect import TotalName
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.ledger_hash import hash_of
from psm.domain.ledger.prices import AccountPrices
from psm.domain.market.tables import Market
from psm.domain.money import published_text
from psm.domain.valuation.position_value import PositionValue, position_value
from psm.domain.valuation.state import ValuationState
from psm.domain.valuation.unpublished import Unpublished
from psm.domain.valuation.valuation import Valuation


class Account:
    """One account of the books. Each part changes in its own methods.

    Attributes:
        stream_id: its name.
        ledger: what its events add up to.
        delivery: its places, hash chain, and what waits.
        prices: marks and rates as this account sees them.
        valuation: what the ledger is worth at those prices.
        unpublished: what waits to be published of it.
    """

    __slots__ = (
        "_total_texts",
        "delivery",
        "ledger",
        "prices",
        "stream_id",
        "unpublished",
        "valuation",
    )

    def __init__(self, stream_id: str, market: Market) -> None:
        self.stream_id = stream_id
        self.ledger = Ledger()
        self.delivery = Delivery(stream_id)
        self.prices = AccountPrices(self.ledger, market)
        self.valuation = ValuationState()
        self.unpublished = Unpublished(stream_id)
        self._total_texts: dict[TotalName, tuple[Decimal, str]] = {}

    @classmethod
    def restored(
        cls,
        ledger: Ledger,
        delivery: Delivery,
        valuation: ValuationState,
        unpublished: Unpublished,
    ) -> Account:
        """Return the account that a snapshot holds; it knows no market until it enters one."""
        account = cls(delivery.stream_id, Market())
        account.ledger = ledger
        account.delivery = delivery
        account.valuation = valuation
        account.unpublished = unpublished
        return account

    def marked(self, valuation: ValuationState, unpublished: Unpublished) -> None:
        """Take what the market changed since the snapshot that this account came from."""
        self.valuation = valuation
        self.unpublished = unpublished

    def enter(self, market: Market) -> None:
        """Value the ledger at the prices of this market from now on."""
        self.prices = AccountPrices(self.ledger, market)

    def rebook(self, again: Account, *, restated: bool) -> None:
        """Take the ledger of this account's corrected past.

        Args:
            again: this account as that past makes it, without identities.
            restated: whether its peak and warnings are right too.
        """
        again.ledger.take_identities(self.ledger)
        symbols = self.ledger.symbols()
        self.ledger = again.ledger
        self.prices = AccountPrices(self.ledger, self.prices.market)
        self._total_texts = {}
        symbols = (*symbols, *self.ledger.symbols())
        self.valuation.rebook(symbols, again.valuation if restated else None)

    def value(self) -> Valuation:
        """Return the valuation at the current marks; computed when needed, then kept."""
        known = self.valuation.cached
        return self.valuation.value(self.ledger, self.prices) if known is None else known

    def equity(self) -> Decimal | None:
        """Return the equity at the current marks, None where it does not compute."""
        return self.valuation.equity(self.ledger, self.prices)

    def open_keys(self, symbol: str) -> tuple[str, ...]:
        """Return the keys of a symbol's open positions."""
        ledger, positions = self.ledger, self.ledger.positions
        if not ledger.legs and "#" not in symbol:
            position = positions.get(symbol)
            return (symbol,) if position is not None and position.size else ()
        keys = ledger.keys_of(symbol)
        return tuple([key for key in keys if key in positions and positions[key].size])

    def keys_rated_by(self, symbol: str | None) -> list[str]:
        """Return keys of open positions in whose currency's rate a symbol is; None: in others."""
        ledger, rate_steps = self.ledger, self.prices.rate_steps
        rated = {
            settle: None
            for settle in ledger.settles
            if settle != ledger.currency
            and (symbol is None or any(step.symbol == symbol for step in rate_steps(settle)))
        }
        held = ledger.positions.items() if rated else ()
        return [key for key, one in held if one.size and one.instrument.settle in rated]

    def assets_rated_by(self, symbol: str | None) -> list[str]:
        """Return assets in whose rate a symbol is; None: all but the account currency."""
        if symbol is None:
            ledger = self.ledger
            return [a for a, held in ledger.cash.items() if held and a != ledger.currency]
        assets = self.valuation.totals.assets
        return [] if assets is None else assets.rated_by(symbol)

    def begin_change(self, minute: int, keys: Iterable[str]) -> None:
        """Note closes, as a message of this minute is about to change account and positions.

        All of an account closes at once, and once: a mark whose log time is before that of the
        account's last event changes the minute of that event.
        """
        waiting = self.unpublished
        if waiting.minute is None or waiting.minute < minute:
            self.end_minute(minute)
            waiting.open_minute(minute)
        else:
            minute = waiting.minute
        for key in keys:
            waiting.open_position_minute(key, minute)

    def end_minute(self, minute: int) -> None:
        """Note the closes of all that changed before this minute."""
        waiting = self.unpublished
        if waiting.minute is not None and waiting.minute < minute:
            waiting.close(self.equity(), self.valuation.performance)
        for key, open_minute in [*waiting.minutes.items()]:
            if open_minute < minute:
                value = self.position_value(key)
                unrealized, price = (value.unrealized, value.price) if value else (None, None)
                waiting.close_position(key, unrealized, price)

    def position_value(self, key: str) -> PositionValue | None:
        """Return the value of an open position, also where the account does not compute."""
        self.valuation.totals.refresh(self.ledger, self.prices)
        value = self.valuation.totals.values.get(key)
        if value is not None:
            return value
        try:
            return position_value(self.ledger, self.ledger.positions[key], self.prices)
        except ArithmeticError:
            return None

    def near_unpublished(self) -> list[str]:
        """Return the keys of positions near liquidation that no update tells as they are."""
        state, waiting = self.valuation, self.unpublished
        if not state.warned_positions:
            return []
        return sorted(key for key in state.near_positions() if key in waiting.positions)

    def ledger_hash(self) -> bytes:
        """Return the hash of the ledger, the stream's version, status and parked events."""
        delivery = self.delivery
        return hash_of(self.ledger, delivery.version, delivery.status, delivery.parked)

    def total_text(self, name: TotalName) -> str:
        """Return a lifetime total as it is published; written again only when it changed."""
        total = self.ledger.total(name)
        if not total:
            return "0"
        known = self._total_texts.get(name)
        if known is not None and known[0] is total:
            return known[1]
        text = published_text(total)
        self._total_texts[name] = (total, text)
        return text

    def drop_caches(self) -> None:
        """Free what only speeds up the next hash and the next update."""
        self.ledger.digests.drop_texts()
        self._total_texts = {}
