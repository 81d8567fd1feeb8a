"""Approved orders until PSM shows them, and orders that nobody approved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from psm.risk.engine.commands import LIFETIME
from psm.risk.engine.group import GroupState
from psm.risk.engine.member import ENDED, AccountChange, GroupMember, line_name, microseconds
from psm.risk.engine.path import ApprovedOrder, Flag, Path, Reservation
from psm.risk.engine.results import OrderEnd, left_of
from psm.risk.engine.watch import LossWatch
from psm.risk.messages import RiskOutput
from psm.risk.rulebook import Rulebook

RESERVATION_TTL = 30 * 1_000_000
"""Time within which PSM should show an approved order, us; then it counts on, and somebody asks."""


class OrderTold(msgspec.Struct, frozen=True, kw_only=True):
    """An order as an update told it: at a place of the log, and the time there, us."""

    figures: Mapping[str, Any]
    log_sequence: int
    time: int


def order_told(update: bytes) -> OrderTold | None:
    """Return the order of an update; None of one that tells none."""
    found = msgspec.json.decode(update, type=dict[str, Any])
    if found["event_type"] != "OrderUpdated":
        return None
    figures = found["payload"]
    time = microseconds(found["timestamp"])
    return OrderTold(figures=figures, log_sequence=figures["log_sequence"], time=time)


class OpenOrders:
    """Reservations of a slot, and which orders are known."""

    def __init__(self, path: Path, watch: LossWatch) -> None:
        self._path, self._watch = path, watch
        self._due = 0

    def reserve(self, reservation: Reservation) -> tuple[Reservation | None, Reservation]:
        """Remember an approved order; of a change the greater quantity.

        Returns:
            What was reserved for it before, and what is now.
        """
        key = f"{reservation.account_id}/{reservation.order_id}"
        before = self._path.get(Reservation, "reservation", key)
        if before is not None:
            quantity = max(before.quantity, reservation.quantity)
            reservation = msgspec.structs.replace(
                reservation, quantity=quantity, replaces=before.replaces
            )
        self._path.put("reservation", key, reservation)
        self._due = min(self._due, int(reservation.since) + RESERVATION_TTL)
        return before, reservation

    def entered(self, member: GroupMember, clock: int, *, first: bool) -> list[RiskOutput]:
        """Look at all open orders of an account that was read anew.

        Those that were open before risk knew the account are external, and nobody's fault.
        """
        outputs: list[RiskOutput] = []
        for kind in ("order", "external"):
            for name in self._path.names(kind, f"{member.account_id}/"):
                if name.partition("/")[2] not in member.orders:
                    self._path.drop(kind, name)
        for _, figures in sorted(member.orders.items()):
            outputs = [*outputs, *self._shown(member.account_id, figures, clock, quiet=first)]
        return outputs

    def updated(
        self, account_id: str, orders: tuple[Mapping[str, Any], ...], clock: int
    ) -> list[RiskOutput]:
        """Take orders as PSM shows them now."""
        outputs: list[RiskOutput] = []
        for figures in orders:
            outputs = [*outputs, *self._shown(account_id, figures, clock, quiet=False)]
        return outputs

    def reserved_since(self, member: GroupMember) -> int | None:
        """Return when the first order of an account was approved that it does not show, us."""
        reserved = self._path.under(Reservation, "reservation", member.account_id)
        waiting = [int(one.since) for _, one in reserved if one.order_id not in member.orders]
        return min(waiting, default=None)

    def ended(
        self, member: GroupMember, told: Iterable[OrderTold]
    ) -> tuple[Mapping[str, Any], ...]:
        """Return the figures of ended orders that are still reserved, and ended since.

        What the account does not hold yet comes as an input, with what it filled.
        """
        found = []
        for one in told:
            key = f"{member.account_id}/{one.figures['order_id']}"
            reservation = self._path.get(Reservation, "reservation", key)
            held = one.log_sequence <= member.log_sequence
            if reservation is None or not held or one.time < int(reservation.since):
                continue
            if one.figures["status"] in ENDED:
                found.append(one.figures)
        return tuple(found)

    def end(self, member: GroupMember, end: OrderEnd, clock: int) -> str | None:
        """Count of an approved order what had filled when it ended; return its line.

        What filled counts until PSM shows it, and no longer. None: nothing changes. Which change of
        an open order was rejected nobody says, so the worse of both counts on.
        """
        key, shown = f"{end.account_id}/{end.order_id}", member.orders.get(end.order_id)
        one = self._path.get(Reservation, "reservation", key)
        if one is None or (one.replaces and end.rejected):
            return None
        held = one.filled if shown is None else Decimal(shown["filled_quantity"])
        left = left_of(one.quantity, end)
        if left > held:
            self._path.put("reservation", key, msgspec.structs.replace(one, quantity=left))
            return one.line
        self._path.drop("reservation", key)
        if shown is None:  # PSM may show it late, and it was approved
            self._path.put("closed", key, Flag(clock=int(clock) + LIFETIME))
        return one.line

    def lines(self, change: AccountChange) -> tuple[str, ...]:
        """Return the lines that an input changed, those of its orders among them."""
        return (*change.lines, *map(line_name, change.orders))

    def overdue(self, clock: int) -> list[RiskOutput]:
        """Tell of approved orders that PSM should have shown by now; they count on."""
        outputs: list[RiskOutput] = []
        if clock < self._due:
            return []
        reserved = self._path.items(Reservation, "reservation")
        waiting = [int(one.since) for _, one in reserved if not one.expired]
        self._due = int(min(waiting, default=clock)) + RESERVATION_TTL
        for key, one in reserved:
            if not one.expired and clock - int(one.since) >= RESERVATION_TTL:
                self._path.put("reservation", key, msgspec.structs.replace(one, expired=True))
                message = f"PSM never showed {one.order_id}, which was approved: it counts as open"
                more = {"account_id": one.account_id, "symbol": one.symbol}
                outputs = [
                    *outputs,
                    *self._watch.alert("warning", "reservation_expired", message, clock, more),
                ]
        for kind in ("moved", "closed"):
            for key, flag in self._path.items(Flag, kind):
                if flag.clock < clock:
                    self._path.drop(kind, key)
        return outputs

    def released(self, rulebook: Rulebook, states: Mapping[str, GroupState]) -> None:
        """Forget reservations that a person released.

        Args:
            rulebook: which says so.
            states: groups by account.
        """
        for key, one in self._path.items(Reservation, "reservation"):
            if rulebook.released(one.order_id, one.account_id):
                self._path.drop("reservation", key)
                if one.account_id in states:
                    states[one.account_id].refresh(one.account_id, (one.line,))

    def _shown(
        self, account_id: str, figures: Mapping[str, Any], clock: int, *, quiet: bool
    ) -> list[RiskOutput]:
        key, ended = f"{account_id}/{figures['order_id']}", figures["status"] in ENDED
        reservation = self._path.get(Reservation, "reservation", key)
        if reservation is not None and _is_only_filled(figures, reservation):
            filled = Decimal(figures["filled_quantity"])
            self._path.put("reservation", key, msgspec.structs.replace(reservation, filled=filled))
        elif reservation is not None and (ended or _shows(figures, reservation)):
            self._path.drop("reservation", key)
            if not reservation.replaces and not ended:
                self._path.put("order", key, ApprovedOrder(strategy_id=reservation.strategy_id))
        if self._is_known(key, ended=ended):
            return []
        self._path.put("external", key, Flag(clock=clock))
        if quiet:
            return []
        message = f"PSM shows {figures['order_id']}, which risk never approved"
        more = {"account_id": account_id, "symbol": figures["symbol"]}
        return self._watch.alert("error", "unapproved_order", message, clock, more)

    def _is_known(self, key: str, *, ended: bool) -> bool:
        """Return whether nobody need be told of an order: it ended, or risk knows it."""
        if ended:
            for kind in ("order", "external", "closed"):
                self._path.drop(kind, key)
            return True
        if self._path.has("closed", key):
            self._path.drop("closed", key)
            self._path.put("order", key, ApprovedOrder())
        return any(self._path.has(kind, key) for kind in ("order", "external", "reservation"))


def _is_only_filled(figures: Mapping[str, Any], reservation: Reservation) -> bool:
    """Return whether fills alone tell of an order: as filled, with what they filled so far."""
    if reservation.replaces or figures["status"] != "filled":
        return False
    return Decimal(figures["quantity"]) < reservation.quantity


def _shows(figures: Mapping[str, Any], reservation: Reservation) -> bool:
    """Return whether an open order is what was approved: of a change, as it was changed."""
    if not reservation.replaces:
        return True
    price = None if figures["price"] is None else Decimal(figures["price"])
    return Decimal(figures["quantity"]) == reservation.quantity and price == reservation.price
