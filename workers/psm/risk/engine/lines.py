"""What the members of a group hold and have ordered, line by line, and what it adds up to.

A line changes by an input, a mark, or an approval; every decision in between finds it as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from psm.contracts.position_keys import symbol_of
from psm.domain.money import ZERO, subtract
from psm.risk.decide import line_of, line_with
from psm.risk.engine.member import ASSET, GroupMember
from psm.risk.engine.path import Path, Reservation
from psm.risk.exposure import ExposureLine, LineChange, Sums, cluster_of
from psm.risk.market import MarketView
from psm.risk.rulebook import Rulebook
from psm.risk.state import OpenOrder, Side

_SIDES: tuple[Side, ...] = ("buy", "sell")
_NO_ORDERS: Mapping[Side, tuple[OpenOrder, ...]] = {"buy": (), "sell": ()}


class GroupLines:
    """Lines of a group's members, and the sums over them.

    Attributes:
        currency: of the group's sums.
        sums: over all lines of all members.
        rulebook: by whose tags is counted; None before the first.
    """

    def __init__(self, currency: str, market: MarketView, path: Path) -> None:
        self.currency, self.sums = currency, Sums()
        self.rulebook: Rulebook | None = None
        self._market, self._path = market, path
        self._sums: dict[str, Sums] = {}
        self._kept: dict[str, dict[str, tuple[ExposureLine, ExposureLine]]] = {}
        self._holders: dict[str, dict[str, dict[str, None]]] = {}
        self._orders: dict[tuple[str, Side], dict[tuple[str, str], tuple[OpenOrder, ...]]] = {}

    # --- members --------------------------------------------------------------------------------

    def add(self, account_id: str) -> None:
        """Begin with an account that holds nothing."""
        self._sums[account_id], self._kept[account_id] = Sums(), {}

    def remove(self, member: GroupMember) -> None:
        """Take an account out."""
        account_id = member.account_id
        for name in [*self._kept[account_id]]:
            self._put(member, name, None, _NO_ORDERS)
        del self._sums[account_id], self._kept[account_id]

    def sums_of(self, account_id: str) -> Sums:
        """Return the sums over an account's own lines, in its currency."""
        return self._sums[account_id]

    def names(self, member: GroupMember) -> list[str]:
        """Return every line that an account may have."""
        reserved = self._path.under(Reservation, "reservation", member.account_id)
        lines = [one.line for _, one in reserved]
        return [*self._kept[member.account_id], *member.line_names(), *lines]

    def holders(self, symbol: str) -> Mapping[str, Mapping[str, None]]:
        """Return the lines in a symbol of whoever holds or has ordered some of it, by account."""
        return self._holders.get(symbol, {})

    def is_settled_abroad(self, member: GroupMember, name: str | None = None) -> bool:
        """Return whether a line, or one of all, is settled in another currency than its account."""
        kept, home = self._kept[member.account_id], member.currency or self.currency
        lines = kept.values() if name is None else [kept[name]] if name in kept else ()
        return any(self._market.settles(own.symbol, home) != home for own, _ in lines)

    # --- lines ----------------------------------------------------------------------------------

    def line(self, member: GroupMember, name: str, without: str | None = None) -> ExposureLine:
        """Return a line with all that is ordered of it, in the account's currency.

        Args:
            member: whose.
            name: of the line.
            without: an order that is left out.
        """
        kept = self._kept[member.account_id].get(name) if without is None else None
        return self._made(member, name, without)[0] if kept is None else kept[0]

    def refresh(self, member: GroupMember, name: str) -> None:
        """Count a line as it is now."""
        line, orders = self._made(member, name)
        by_side = {side: tuple(one for one in orders if one.side == side) for side in _SIDES}
        self._put(member, name, line, by_side)

    def reserve(self, member: GroupMember, reservation: Reservation) -> None:
        """Count an approved order that nobody saw before; the memory has it already."""
        account_id, name = member.account_id, reservation.line
        kept = self._kept[account_id].get(name)
        if kept is None:
            self.refresh(member, name)
            return
        order = _reserved_order(reservation)
        others = self._orders.get((kept[0].symbol, order.side), {}).get((account_id, name), ())
        self._put(member, name, line_with(kept[0], order), {order.side: (*others, order)})

    def opposing(self, symbol: str, side: Side, without: str | None) -> list[OpenOrder]:
        """Return open orders of the group in lines of a symbol, on the other side.

        Args:
            symbol: of the lines.
            side: of the order that they are opposed to.
            without: an order that is left out.
        """
        found = self._orders.get((symbol, "sell" if side == "buy" else "buy"), {})
        return [one for orders in found.values() for one in orders if one.order_id != without]

    def scaled(self, member: GroupMember, line: ExposureLine) -> ExposureLine:
        """Return a line of an account in the group's currency."""
        home = member.currency
        return line if home in (None, self.currency) else line.scaled(self.rate(member))

    def rate(self, member: GroupMember) -> Decimal | None:
        """Return group currency per unit of an account's; None where no mark says it."""
        return self._market.rate(member.currency or self.currency, self.currency)

    def line_name(self, name: str) -> str:
        """Return the line that a position's key is part of: of a pair that of its base."""
        instrument = None if name.startswith(ASSET) else self._market.instrument(symbol_of(name))
        if instrument is None or not instrument.is_pair:
            return name
        return f"{ASSET}{instrument.base}"

    # --- helpers --------------------------------------------------------------------------------

    def _made(
        self, member: GroupMember, name: str, without: str | None = None
    ) -> tuple[ExposureLine, list[OpenOrder]]:
        """Return a line, and what may still be filled of it, from the account and the memory."""
        held = member.held(name, self._market)
        symbol = held.symbol
        rate = self._market.contract(symbol).initial_margin_rate or ZERO
        held = msgspec.structs.replace(held, margin_rate=rate, tags=self._tags(symbol))
        orders = self._open_orders(member, name)
        orders = [order for order in orders if order.order_id != without]
        return line_of(held, orders), orders

    def _put(
        self,
        member: GroupMember,
        name: str,
        line: ExposureLine | None,
        orders: Mapping[Side, tuple[OpenOrder, ...]],
    ) -> None:
        """Count a line instead of what it was before.

        Args:
            member: whose.
            name: of the line.
            line: as it is now; None for nothing.
            orders: what may still be filled of it, by side; of a side left out nothing changed.
        """
        account_id = member.account_id
        kept = self._kept[account_id]
        before, after = kept.pop(name, None), None
        if line is not None and not line.is_empty:
            after = kept[name] = (line, self.scaled(member, line))
        own, scaled = ((before and before[at], after and after[at]) for at in (0, 1))
        change = LineChange(*own)
        self._sums[account_id].change(change)
        same = own[0] is scaled[0] and own[1] is scaled[1]
        self.sums.change(change if same else LineChange(*scaled))
        counted = after or before
        if counted is not None:
            symbol = counted[0].symbol
            self._index(account_id, name, symbol, held=after is not None)
            for side, found in orders.items():
                self._index_orders(account_id, name, symbol, side, found if after else ())

    def _index(self, account_id: str, name: str, symbol: str, *, held: bool) -> None:
        holders = self._holders.setdefault(symbol, {})
        names = holders.setdefault(account_id, {})
        if held:
            names[name] = None
            return
        names.pop(name, None)
        if not names:
            del holders[account_id]
        if not holders:
            del self._holders[symbol]

    def _index_orders(
        self, account_id: str, name: str, symbol: str, side: Side, orders: tuple[OpenOrder, ...]
    ) -> None:
        if orders:
            self._orders.setdefault((symbol, side), {})[account_id, name] = orders
        elif (found := self._orders.get((symbol, side))) is not None:
            found.pop((account_id, name), None)
            if not found:
                del self._orders[symbol, side]

    def _open_orders(self, member: GroupMember, name: str) -> list[OpenOrder]:
        """Return what may still be filled of a line, reservations too."""
        account_id = member.account_id
        reserved = {one.order_id: one for one in self._path.reservations_of(account_id, name)}
        found = []
        for order_id, figures in self._shown(member, name):
            order = self._open_order(account_id, figures)
            replacing = reserved.pop(order_id, None)
            if replacing is not None:
                filled = Decimal(figures["filled_quantity"])
                left = subtract(replacing.quantity, filled)
                order = msgspec.structs.replace(order, open_quantity=max(order.open_quantity, left))
            found.append(order)
        return [*found, *map(_reserved_order, reserved.values())]

    def _shown(self, member: GroupMember, name: str) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the orders that PSM shows of a line; to an asset those of all its pairs belong."""
        if not name.startswith(ASSET):
            return [*member.ordered(name).items()]
        return [
            (order_id, figures)
            for key in member.ordered_lines()
            if self.line_name(key) == name
            for order_id, figures in member.ordered(key).items()
        ]

    def _open_order(self, account_id: str, figures: Mapping[str, Any]) -> OpenOrder:
        """Return an order that PSM shows; one that risk never saw may open something."""
        external = self._path.has("external", f"{account_id}/{figures['order_id']}")
        left = subtract(Decimal(figures["quantity"]), Decimal(figures["filled_quantity"]))
        side: Side = figures["side"]
        return OpenOrder(
            order_id=figures["order_id"],
            symbol=figures["symbol"],
            side=side,
            open_quantity=left,
            price=None if figures["price"] is None else Decimal(figures["price"]),
            reduce_only=figures["reduce_only"] and not external,
        )

    def _tags(self, symbol: str) -> tuple[tuple[str, str], ...]:
        """Return what a symbol is counted under."""
        if self.rulebook is None:
            return ()
        tags = self.rulebook.tags_of(symbol)
        found = [("currency", tags.currency), ("sector", tags.sector)]
        clusters = self.rulebook.cluster_of()
        if clusters:
            found.append(("cluster", cluster_of(symbol, clusters)))
        return tuple((kind, tag) for kind, tag in found if tag is not None)


def _reserved_order(one: Reservation) -> OpenOrder:
    return OpenOrder(
        order_id=one.order_id,
        symbol=one.symbol,
        side=one.side,
        open_quantity=subtract(one.quantity, one.filled),
        price=one.price,
        reduce_only=one.reduce_only,
    )
