"""From a request to the question that is answered: everything that an order is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from psm.risk.decide import Judgement, Question, answer
from psm.risk.engine.commands import Command
from psm.risk.engine.group import GroupState
from psm.risk.engine.history import LookBack
from psm.risk.engine.ids import ORDERS_MAX
from psm.risk.engine.member import ASSET
from psm.risk.engine.path import Latch, Membership, Path, StaleState
from psm.risk.engine.records import moment_text
from psm.risk.engine.scopes import Measures, Ordered, with_defaults
from psm.risk.engine.windows import Windows
from psm.risk.exposure import ExposureLine
from psm.risk.facts import Fact, mode_fact, order_facts
from psm.risk.limits import CATALOGUE, Limits, text
from psm.risk.market import MarketView
from psm.risk.measured import OrderPlace
from psm.risk.rulebook import Override, Rulebook
from psm.risk.state import Mode, OpenOrder

MAX_STATE_AGE = 5 * 1_000_000
"""Time within which PSM should fold an input, us; its group only closes beyond it."""

_TIGHTNESS: tuple[Mode, ...] = ("active", "reducing", "halted")


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """An answered question.

    Attributes:
        mode: tightest of the halts and latches that apply.
        excused: checks that overrides let the order fail.
        unit: what one of it is worth at its price or mark, in the account's currency; None if
            that is not known. `group_unit` in the group's.
    """

    ordered: Ordered
    answer: Judgement
    mode: Mode
    excused: tuple[str, ...]
    unit: Decimal | None
    group_unit: Decimal | None


class Basis:
    """Everything that a slot decides by."""

    __slots__ = ("market", "path", "rulebook", "windows")

    def __init__(
        self, rulebook: Rulebook, market: MarketView, path: Path, windows: Windows
    ) -> None:
        self.rulebook, self.market, self.path, self.windows = rulebook, market, path, windows

    def override(self, command: Command, check: str, clock: int) -> Override | None:
        """Return what lets a request fail a check, if it was not used already."""
        found = self.rulebook.override_for(command.hash, check, clock)
        if found is None or found.account_id != command.account_id:
            return None
        return None if self.path.has("overridden", found.hash) else found


class Inquiry:
    """One request for an order, or for a change of one, of an account that is known."""

    def __init__(
        self,
        books: Basis,
        state: GroupState,
        command: Command,
        ordered: Ordered,
        standing: Sequence[Fact],
        *,
        again: bool,
    ) -> None:
        self._books, self._state, self._command = books, state, command
        self._ordered, self._standing, self._again = ordered, standing, again

    def judge(self) -> Judged:
        """Answer it; nothing changes."""
        ordered, state, books = self._ordered, self._state, self._books
        account_id = ordered.account_id
        own = state.line(account_id, ordered.line_name, ordered.replaces)
        mode, excused = self._mode(), self._excused()
        scoped = with_defaults(
            books.rulebook.limits_of(
                account_id, ordered.order.strategy_id, ordered.order.symbol, ordered.clock
            )
        )
        crossing = any(limits.self_cross for _, limits in scoped)
        place = self._place(own, tuple(self._others(own.symbol)) if crossing else ())
        measures = Measures(state, ordered, own, books.market, books.path, books.windows)
        hard, latches = self._facts(place, mode, scoped)
        found = answer(
            Question(
                order=ordered.order,
                place=place,
                measured=tuple(measures.measured(*one) for one in scoped),
                hard=hard,
                latches=latches,
                excused=excused,
                scope=f"account:{account_id}",
            )
        )
        home = state.members[account_id].currency
        unit = self._unit(place, home)
        return Judged(
            ordered=ordered,
            answer=found,
            mode=_mode_of(mode),
            excused=excused,
            unit=unit,
            group_unit=unit if home == state.currency else self._unit(place, state.currency),
        )

    def _place(self, own: ExposureLine, others: tuple[OpenOrder, ...]) -> OrderPlace:
        ordered, market = self._ordered, self._books.market
        mark = market.mark(ordered.order.symbol)
        return OrderPlace(
            contract=market.contract(ordered.order.symbol),
            mark=None if mark is None else mark.price,
            size=own.size,
            room=own.room(ordered.order.side),
            tag_kinds=("currency", "sector", "cluster"),
            others=others,
            known=self._again or (ordered.replaces is None and self._is_open()),
        )

    def _facts(
        self, place: OrderPlace, mode: Fact, scoped: tuple[tuple[str, Limits], ...]
    ) -> tuple[tuple[Fact, ...], tuple[Fact, ...]]:
        """Return the facts that reject, and those that leave closing, but for the short form's."""
        ordered, books = self._ordered, self._books
        mark = books.market.mark(ordered.order.symbol)
        history = LookBack(ordered, place, mark, books.path, books.windows, books.rulebook)
        hard = [*self._standing, self._instrument(), *self._order_facts(place, mode)]
        latches = [mode] if mode.value == "reducing" else []
        for scope, limits in scoped:
            hard = [*hard, *history.hard(scope, limits)]
            latches = [*latches, *history.latches(scope, limits)]
        return (*hard, history.session()), tuple(latches)

    def _unit(self, place: OrderPlace, currency: str | None) -> Decimal | None:
        """Return what one of the order is worth at its price or mark, whichever is more."""
        order, market = self._ordered.order, self._books.market
        worth = [market.worth(order.symbol, p, currency) for p in (order.price, place.mark)]
        return max((each for each in worth if each is not None), default=None)

    def _order_facts(self, place: OrderPlace, mode: Fact) -> list[Fact]:
        ordered = self._ordered
        order = ordered.order
        restricted = self._books.rulebook.restriction_of(ordered.account_id, order.symbol)
        halt = None if mode.value == "reducing" else mode
        scope = f"account:{ordered.account_id}"
        return order_facts(order, place, mode=halt, restricted=restricted, scope=scope)

    def _instrument(self) -> Fact:
        symbol = self._ordered.order.symbol
        known = self._books.market.instrument(symbol) is not None
        return Fact(name="instrument_known", scope=f"symbol:{symbol}", passed=known)

    def _mode(self) -> Fact:
        """Return the tightest of the rulebook's halts, the engine's latches, and stale states."""
        ordered, books = self._ordered, self._books
        order = ordered.order
        ruling = books.rulebook.mode_of(
            ordered.account_id, order.strategy_id, order.symbol, ordered.clock
        )
        mode, scope, code = ruling.mode, ruling.scope, ruling.code
        above = [f"group:{name}" for name in books.rulebook.tree.above(self._state.name)]
        for _, latch in books.path.items(Latch, "latch"):
            tighter = _TIGHTNESS.index(latch.mode) > _TIGHTNESS.index(mode)
            if tighter and latch.scope in (*ordered.scopes, *above):
                mode, scope, code = latch.mode, latch.scope, latch.code
        if mode == "active" and self._is_stale():
            mode, scope, code = "reducing", f"group:{self._state.name}", "state_stale"
        blind = [name for name in above if books.path.has("blind", name)]
        if mode == "active" and blind:
            mode, scope, code = "reducing", blind[0], "parent_unknown"
        return mode_fact(mode, scope or "firm", code or None)

    def _is_stale(self) -> bool:
        """Return whether PSM is behind the log with a member, for longer than it may be."""
        return any(
            account_id in self._state.members and self._ordered.clock - one.since >= MAX_STATE_AGE
            for account_id, one in self._books.path.items(StaleState, "stale")
        )

    def _others(self, symbol: str) -> list[OpenOrder]:
        """Return open orders of the group in the order's symbol, on the other side."""
        ordered = self._ordered
        order = ordered.order
        opposing = self._state.lines.opposing(symbol, order.side, ordered.replaces)
        return [one for one in opposing if one.symbol == order.symbol]

    def _is_open(self) -> bool:
        """Return whether the order's id is that of an open order, or of a reservation."""
        account_id, order_id = self._ordered.account_id, self._ordered.order.order_id
        shown = order_id in self._state.members[account_id].orders
        key, path = f"{account_id}/{order_id}", self._books.path
        return shown or path.has("reservation", key) or path.has("moved", key)

    def _excused(self) -> tuple[str, ...]:
        """Return the checks that an override lets this order fail, each once."""
        books, clock = self._books, self._ordered.clock
        if not books.rulebook.has_overrides:
            return ()
        return tuple(c for c in CATALOGUE if books.override(self._command, c, clock) is not None)


def standing_facts(
    books: Basis, state: GroupState, command: Command, clock: int, remembered: int
) -> list[Fact]:
    """Return what makes an account's requests impossible, whatever they ask for."""
    account_id = command.account_id
    member = state.members[account_id]
    membership = books.path.get(Membership, "member", account_id)
    moving = membership is not None and membership.awaited
    scope = f"account:{account_id}"
    return [
        Fact(name="well_formed", passed=command.error is None, detail=command.error, scope=scope),
        Fact(
            name="account_known", scope=scope, passed=member.known and not moving,
            reason="account_moving" if moving else "account_unknown",
        ),
        Fact(
            name="stream_open", scope=scope,
            passed=member.status == "open" and member.equity is not None,
            value=member.status, detail=None if member.equity is not None else "not valued",
        ),
        _state_behind(books, state, command),
        Fact(
            name="expired", scope=scope, passed=not command.too_late and clock <= command.expires,
            value=moment_text(clock), limit=moment_text(command.expires),
            detail="more than 15 minutes" if command.too_late else None,
        ),
        Fact(
            name="too_many_orders", scope="firm", passed=remembered < ORDERS_MAX,
            value=text(remembered), limit=text(ORDERS_MAX),
        ),
    ]  # fmt: skip


def _state_behind(books: Basis, state: GroupState, command: Command) -> Fact:
    """Marks must be as far as every account that is looked at, accounts as far as is asked."""
    needed, position = state.log_sequence, books.market.position
    expected = command.fields.get("expects") or {}
    behind = [
        account_id
        for account_id, number in sorted(expected.items())
        if account_id in state.members and state.members[account_id].seen[0] < int(number)
    ]
    return Fact(
        name="state_behind", scope=f"group:{state.name}", passed=position >= needed and not behind,
        value=text(position), limit=text(needed), detail=", ".join(behind) or None,
    )  # fmt: skip


def line_name_of(market: MarketView, key: str, symbol: str) -> str:
    """Return the line that an order belongs to: of a pair that of the asset it buys or sells."""
    instrument = market.instrument(symbol)
    return f"{ASSET}{instrument.base}" if instrument is not None and instrument.is_pair else key


def _mode_of(fact: Fact) -> Mode:
    return next(mode for mode in _TIGHTNESS if mode == fact.value)
