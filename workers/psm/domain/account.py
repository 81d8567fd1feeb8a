"""The account aggregate: what one account's events add up to.

An `Account` is changed in one way only: `commit` takes the `Effect` that `evolve` computed. All
arithmetic happens before the first assignment, so an event that does not compute changes nothing.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Iterable
from decimal import Decimal

from psm.contracts.envelope import chain_next, chain_start
from psm.contracts.updates import Level, Status
from psm.domain.effect import Effect, TotalName
from psm.domain.money import ONE, ZERO, add, published_text
from psm.domain.orders import TERMINAL_KEPT, Order
from psm.domain.parts import Texts, account_part, order_part, parked_part, position_part
from psm.domain.positions import Position
from psm.domain.valuation import Valuation
from psm.domain.waiting import Blocked, Parked
from psm.domain.windows import IdentityWindow, KeyWindow
from psm.domain.worths import Worths

_ACCOUNT = ""
"""Key of the account's own part; positions are `p<symbol>`, orders `o<order id>`."""

_sha256 = hashlib.sha256


class Account:
    """One account: ledger, valuation state, delivery state and throttle.

    Attributes:
        version: sequence number of the last event that took a place.
        cash: amount per currency.
        totals: lifetime sums by (currency, name).
        positions: per symbol, flat ones with a history included.
        orders: open ones and the last 256 that ended, by order id.
        ended: ids of ended orders, oldest first.
        leverages: by symbol; the empty symbol stands for the account.
        refused: places whose event changed nothing; corrections need to know them.
        rates: symbols whose marks convert its currencies, as the books indexed them.
        unindexed: whether what that index follows from changed since.
        splits: symbol -> (number of the mark that is of old units, new units per old one).
        parked: events waiting for a gap to close, by sequence number.
        blocked: why the stream stopped, or None.
        operators: the last 256 operator events; None before the first.
        peak_equity: of unitised net asset value, see `valuation`.
        warned: margin levels crossed and not yet armed again.
        unpublished: symbols whose mark changed since their last publication.
        margin_published: margin figures as last published.
        margin_unwritten: what they would be made from, where nobody wanted the last publication.
        margin_in_worths: whether they would be made from `worths` as those are now.
        as_of: log sequence that the loaded snapshot includes; lower messages are skipped.
        last_log_sequence: of the last message on this stream's subject, whatever its outcome.
        valuation: as of now; None until it is needed.
    """

    __slots__ = (
        "_cash_texts",
        "_changed",
        "_digests",
        "_open_orders",
        "_ordered",
        "_part_digests",
        "_published",
        "_totals_texts",
        "as_of",
        "blocked",
        "cash",
        "chain_hash",
        "currency",
        "ended",
        "event_hash",
        "identities",
        "keys",
        "last_log_sequence",
        "leverage_limit",
        "leverages",
        "margin_in_worths",
        "margin_published",
        "margin_unwritten",
        "operators",
        "orders",
        "parked",
        "peak_equity",
        "positions",
        "rates",
        "refused",
        "settles",
        "splits",
        "stream_id",
        "totals",
        "unindexed",
        "unpublished",
        "valuation",
        "version",
        "warned",
        "worths",
    )

    def __init__(self, stream_id: str) -> None:
        self.stream_id = stream_id
        self.currency: str | None = None
        self.leverage_limit: Decimal | None = None
        self.version = 0
        self.event_hash: bytes | None = None
        self.chain_hash = chain_start(stream_id)
        self.cash: dict[str, Decimal] = {}
        self.totals: dict[tuple[str, TotalName], Decimal] = {}
        self.positions: dict[str, Position] = {}
        self.orders: dict[str, Order] = {}
        self.ended: list[str] = []
        self.leverages: dict[str, Decimal] = {}
        self.refused: list[int] = []
        self.splits: dict[str, tuple[int, Decimal]] = {}
        self.parked: dict[int, Parked] = {}
        self.blocked: Blocked | None = None
        self.operators: IdentityWindow | None = None
        self.identities = IdentityWindow()
        self.keys = KeyWindow()
        self.peak_equity: Decimal | None = None
        self.warned: tuple[Level, ...] = ()
        self.unpublished: dict[str, None] = {}
        self.margin_published: tuple[str | None, ...] | None = None
        self.margin_unwritten: Valuation | None = None
        self.margin_in_worths = False
        self.as_of = 0
        self.last_log_sequence = 0
        self.valuation: Valuation | None = None
        self.settles: dict[str, int] = {}
        self.rates: tuple[str, ...] = ()
        self.unindexed = True
        self._open_orders: dict[str, Order] = {}
        self._ordered: dict[str, dict[str, Order]] = {}  # the same, by symbol
        self.worths = Worths(())
        self._cash_texts: Texts[str] = {}
        self._totals_texts: Texts[tuple[str, TotalName]] = {}
        self._changed: dict[str, None] = {_ACCOUNT: None}
        self._part_digests: dict[str, bytes] = {}
        self._published: dict[TotalName, tuple[Decimal, str]] = {}
        self._digests: list[bytes] = []

    @property
    def status(self) -> Status:
        """`open`, in a `gap`, or `blocked`."""
        if self.blocked is not None:
            return "blocked"
        return "gap" if self.parked else "open"

    @property
    def undisturbed(self) -> bool:
        """Whether nothing of the stream waits: neither behind a gap nor behind a block."""
        return not self.parked and self.blocked is None

    def total(self, name: TotalName) -> Decimal:
        """Return a lifetime total in the account currency."""
        return self.totals.get((self.currency or "", name), ZERO)

    def total_text(self, name: TotalName) -> str:
        """Return a lifetime total as it is published; written anew only when it changed."""
        total = self.total(name)
        if not total:
            return "0"
        known = self._published.get(name)
        if known is not None and known[0] is total:
            return known[1]
        text = published_text(total)
        self._published[name] = (total, text)
        return text

    def open_positions(self) -> list[Position]:
        """Return the positions that are not flat, ascending by symbol."""
        return [p for _, p in sorted(self.positions.items()) if p.size]

    def open_position_count(self) -> int:
        """Return how many positions are not flat."""
        count = 0
        for in_currency in self.settles.values():
            count += in_currency
        return count

    def take_place(self, number: int, identity: bytes, event_hash: bytes) -> None:
        """Give the event the next place in the stream: version, hash chain and identity."""
        assert number == self.version + 1, f"{self.stream_id}: place {number} after {self.version}"
        self.version = number
        self.event_hash = event_hash
        self.chain_hash = chain_next(self.chain_hash, event_hash)
        self.identities.add(identity, event_hash)
        self._changed[_ACCOUNT] = None

    def take_operator(self, identity: bytes, event_hash: bytes) -> None:
        """Give an operator event its place in the hash chain; it has no number."""
        self.event_hash = event_hash
        self.chain_hash = chain_next(self.chain_hash, event_hash)
        if self.operators is None:
            self.operators = IdentityWindow()
        self.operators.add(identity, event_hash)

    def void(self, last: int, event_hash: bytes) -> None:
        """Pass over the numbers up to `last`: the operator event with this hash voided them."""
        self.identities.add_voided(last - self.version, event_hash)
        self.version = last
        self._changed[_ACCOUNT] = None

    def commit(self, effect: Effect) -> None:
        """Apply a computed effect; raises `ArithmeticError` before anything is changed."""
        cash: dict[str, Decimal] = {}
        for currency, amount in effect.cash:
            before = cash[currency] if currency in cash else self.cash.get(currency, ZERO)
            cash[currency] = add(before, amount)
        totals: dict[tuple[str, TotalName], Decimal] = {}
        for currency, name, amount in effect.totals:
            key = (currency, name)
            before = totals[key] if key in totals else self.totals.get(key, ZERO)
            totals[key] = add(before, amount)
        if not cash.keys() <= self.cash.keys():
            self.unindexed = True
        self.cash.update(cash)
        self.totals.update(totals)
        if effect.currency is not None:
            self.unindexed = True
            self.currency = effect.currency
            self.leverage_limit = effect.leverage_limit
        for step in effect.steps:
            self._put_position(None if step.forgotten else step.position, step.position.symbol)
        if effect.leverage is not None:
            symbol, leverage = effect.leverage
            self.leverages[symbol] = leverage
        for order in effect.orders:
            self._put_order(order)
        if effect.key is not None:
            self.keys.add(effect.key)
        self._changed[_ACCOUNT] = None

    def restore(
        self, positions: Iterable[Position], orders: Iterable[Order], ended: list[str]
    ) -> None:
        """Put the positions and orders of a snapshot into an account that has its amounts."""
        for position in positions:
            self._put_position(position, position.symbol)
        for order in orders:
            self.orders[order.order_id] = order
            if order.open:
                self._open_order(order)
            self._changed[f"o{order.order_id}"] = None
        self.ended = ended
        self.worths = Worths((*self.positions, *self._ordered))

    def _put_position(self, position: Position | None, symbol: str) -> None:
        """Replace a position; keep the counts and digests that follow from it."""
        before = self.positions.get(symbol)
        self._changed[f"p{symbol}"] = None
        if (
            (before is not None and before.size)
            and (position is not None and position.size)
            and before.instrument is position.instrument
        ):
            self.positions[symbol] = position  # still open, and still the same thing
            return
        self.unindexed = True
        if before is not None and before.size:
            self._count(before.instrument.settle, -1)
        if position is None:
            self.positions.pop(symbol, None)
            return
        self.positions[symbol] = position
        if position.size:
            self._count(position.instrument.settle, 1)

    def _count(self, settle: str, change: int) -> None:
        count = self.settles.get(settle, 0)
        count += change
        if count:
            self.settles[settle] = count
        else:
            del self.settles[settle]

    def _put_order(self, order: Order) -> None:
        """Keep an order; of the ended ones the last 256."""
        self.unindexed = True
        order_id = order.order_id
        before = self.orders.get(order_id)
        was_open = self._open_orders.pop(order_id, None) is not None
        if before is not None and was_open:
            same_symbol = self._ordered[before.symbol]
            del same_symbol[order_id]
            if not same_symbol:
                del self._ordered[before.symbol]
        self._changed[f"o{order_id}"] = None
        if order.external and not order.filled_quantity:  # a bust took its only fill
            if self.orders.pop(order_id, None) is not None and not was_open:
                self.ended.remove(order_id)
            return
        self.orders[order_id] = order
        if order.open:
            self._open_order(order)
            if before is not None and not was_open:
                self.ended.remove(order_id)
        elif before is None or was_open:
            self.ended.append(order_id)
        if len(self.ended) > TERMINAL_KEPT:
            forgotten = self.ended.pop(0)
            del self.orders[forgotten]
            self._changed[f"o{forgotten}"] = None

    def _open_order(self, order: Order) -> None:
        self._open_orders[order.order_id] = order
        self._ordered.setdefault(order.symbol, {})[order.order_id] = order

    @property
    def has_open_orders(self) -> bool:
        """Whether any order may still fill."""
        return bool(self._open_orders)

    @property
    def open_order_count(self) -> int:
        """How many orders may still fill."""
        return len(self._open_orders)

    def open_orders(self) -> list[Order]:
        """Return the orders that may still fill, ascending by id."""
        return [order for _, order in sorted(self._open_orders.items())]

    def ordered_symbols(self) -> Iterable[str]:
        """Return the symbols with an open order, in no particular order."""
        return self._ordered

    def open_orders_of(self, symbol: str) -> list[Order]:
        """Return the orders of a symbol that may still fill, ascending by id."""
        found = self._ordered.get(symbol)
        return [] if found is None else [order for _, order in sorted(found.items())]

    def leverage_of(self, symbol: str) -> Decimal:
        """Return the leverage of a symbol: its own, else the account's, else 1."""
        own = self.leverages.get(symbol)
        return self.leverages.get("", ONE) if own is None else own

    def park(self, number: int, parked: Parked) -> None:
        """Remember an event beyond a gap."""
        self.parked[number] = parked
        self._changed[_ACCOUNT] = None

    def unpark(self, number: int) -> Parked:
        """Forget a parked event: its turn has come."""
        self._changed[_ACCOUNT] = None
        return self.parked.pop(number)

    def block(self, blocked: Blocked | None) -> None:
        """Stop the stream, or let it go on."""
        self.blocked = blocked
        self._changed[_ACCOUNT] = None

    def ledger_hash(self) -> bytes:
        """Return SHA-256 over the sorted digests of account, positions, orders and parked list.

        Delivery counters, log positions, flags and identity windows are not in it. Only the parts
        that changed since the last call are digested again.
        """
        for key in self._changed:
            self._digest_anew(key)
        self._changed = {}
        if not self.parked:
            return _sha256(b"".join(self._digests)).digest()
        own = _sha256(parked_part(self.parked)).digest()
        return _sha256(b"".join(sorted([*self._digests, own]))).digest()

    def forget_texts(self) -> None:
        """Free what only speeds up the next hash and the next update."""
        self._cash_texts, self._totals_texts, self._published = {}, {}, {}

    def _digest_anew(self, key: str) -> None:
        """Keep the sorted list of part digests: a change costs the same however many there are."""
        digest = self._digest_of(key)
        before = self._part_digests.pop(key, None)
        if before is not None:
            del self._digests[bisect_left(self._digests, before)]
        if digest is not None:
            self._part_digests[key] = digest
            insort(self._digests, digest)

    def _digest_of(self, key: str) -> bytes | None:
        """Return the digest of a part; None where it is gone."""
        if not key:
            return _sha256(account_part(self, self._cash_texts, self._totals_texts)).digest()
        name = key[1:]
        if key[0] == "p":
            position = self.positions.get(name)
            return None if position is None else _sha256(position_part(position)).digest()
        order = self.orders.get(name)
        return None if order is None else _sha256(order_part(order)).digest()
