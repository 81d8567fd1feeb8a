"""Answers to requests: the decision, what it changes in the memory, and its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from psm.domain.money import ONE, ZERO, add, exact_text, subtract
from psm.risk.engine.commands import Command, line_of_command, order_of
from psm.risk.engine.group import GroupState
from psm.risk.engine.history import repeats, repeats_key
from psm.risk.engine.ids import ORDERS_MAX, Answered, AnsweredRequests
from psm.risk.engine.inquiry import Basis, Judged, line_name_of, standing_facts
from psm.risk.engine.member import microseconds
from psm.risk.engine.orders import OpenOrders
from psm.risk.engine.path import Flag, Peak, Repeats, Reservation
from psm.risk.engine.records import Chain, moment_text
from psm.risk.engine.rules import EngineRules
from psm.risk.engine.scopes import Ordered, is_of_account
from psm.risk.engine.told import (
    Payload,
    cancellation,
    is_change,
    no_change,
    refusal,
    told_of,
)
from psm.risk.engine.vector import ENTRIES_MAX, Vector
from psm.risk.engine.watch import LossWatch
from psm.risk.engine.windows import Windows
from psm.risk.facts import Fact
from psm.risk.messages import RiskOutput


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What requests are answered with, and by.

    Attributes:
        rules: by which requests are judged.
        groups: of the slot, by account.
    """

    rules: EngineRules
    books: Basis
    chain: Chain
    watch: LossWatch
    orders: OpenOrders
    remembered: AnsweredRequests
    vector: Vector
    groups: Mapping[str, GroupState]

    def preview(self, command: Command, clock: int) -> RiskOutput:
        """Return the decision that a request would get now; nothing changes."""
        payload, _ = self.judged(command, clock)
        return self._unstored(command, payload, clock)

    def decide(self, command: Command, clock: int) -> list[RiskOutput]:
        """Answer a request; the decision is the last output."""
        state = self.groups.get(command.account_id)
        if state is None:
            return [self.preview(command, clock)]
        name = request_name(command)
        known = self.remembered.get(name)
        again = known is not None and known.hash != command.hash
        earlier = self.remembered.get(_other_name(name, command.hash)) if again else known
        if earlier is not None and not self._is_excused_now(earlier, command, clock):
            data = earlier.data.encode()
            return [RiskOutput(kind="decision", key=command.account_id, data=data)]
        outputs = self._told_before(command, clock)
        payload, judged = self.judged(command, clock, again=again)
        if judged is not None:
            outputs = [*outputs, *self.commit(command, state, judged, clock)]
        vector, told = self._vector(state, clock)
        payload = {**payload, **vector, "vector_hash": self.vector.hash(state.name)}
        records = self.chain.record(
            "decision", command.account_id, "risk_decision", payload, clock, command.links
        )
        data = records[-1].data
        note(payload, data, self.books.windows, self.remembered)
        return [*outputs, *told, *records]

    def _told_before(self, command: Command, clock: int) -> list[RiskOutput]:
        """Tell a reservation as it is before the request changes it: by that it is judged."""
        name = f"reservation/{command.account_id}/{command.order_id}"
        return self.chain.tell(clock) if self.books.path.is_untold(name) else []

    # --- judging --------------------------------------------------------------------------------

    def judged(
        self, command: Command, clock: int, *, again: bool = False
    ) -> tuple[Payload, Judged | None]:
        """Return the payload of a decision without its vector, and what it was made by."""
        state = self.groups.get(command.account_id)
        payload = self._head(command, state, clock)
        if state is None:
            return {**payload, **refusal([self._not_here(command)])}, None
        facts = standing_facts(self.books, state, command, clock, self.remembered.count(clock))
        if command.kind == "cancel":
            return {**payload, **cancellation(command, state.name, facts[0])}, None
        fatal = [fact for fact in facts if fact.name in _FATAL and not fact.passed]
        replaced = self._replaced(state, command)
        if not fatal and command.kind == "replace" and not is_change(command, replaced):
            facts = [no_change(command), *facts[1:]]
            fatal = facts[:1]
        if fatal:
            return {**payload, **refusal(facts)}, None
        judged = self._inquire(state, command, clock, facts, replaced, again=again)
        filled = ZERO if replaced is None else Decimal(replaced["filled_quantity"])
        return {**payload, **told_of(judged, filled), **self._figures(state, command)}, judged

    def _not_here(self, command: Command) -> Fact:
        """Return why an account of no group of this slot is unknown."""
        group = self.books.rulebook.group_of(command.account_id)
        return Fact(
            name="account_known", passed=False, scope=f"account:{command.account_id}",
            reason="no_group" if group is None else "other_slot",
        )  # fmt: skip

    def _inquire(
        self,
        state: GroupState,
        command: Command,
        clock: int,
        standing: Sequence[Fact],
        replaced: Payload | None,
        *,
        again: bool,
    ) -> Judged:
        order = order_of(command, replaced)
        fields = {**(replaced or {}), **command.fields}
        key, left = line_of_command(fields), ZERO
        if replaced is not None:  # what is filled of it is in the position
            filled = Decimal(replaced["filled_quantity"])
            left = subtract(Decimal(replaced["quantity"]), filled)
            order = msgspec.structs.replace(order, quantity=subtract(order.quantity, filled))
        ordered = Ordered(
            order=order,
            account_id=command.account_id,
            group=state.name,
            line_name=(replaced or {}).get("line")
            or line_name_of(self.books.market, key, order.symbol),
            clock=clock,
            replaces=None if replaced is None else command.order_id,
            replaced=left,
        )
        inquiry = self.rules.inquiry(self.books, state, command, ordered, standing, again=again)
        return inquiry.judge()

    def _replaced(self, state: GroupState, command: Command) -> Payload | None:
        """Return the order that a change is of: as PSM shows it, or as it was approved."""
        if command.kind != "replace" or command.error is not None:
            return None
        shown = state.members[command.account_id].orders.get(command.order_id)
        if shown is not None:
            return dict(shown)
        key = f"{command.account_id}/{command.order_id}"
        reserved = self.books.path.get(Reservation, "reservation", key)
        if reserved is None:
            return None
        return {
            "symbol": reserved.symbol,
            "side": reserved.side,
            "type": "market" if reserved.price is None else "limit",
            "quantity": exact_text(reserved.quantity),
            "price": None if reserved.price is None else exact_text(reserved.price),
            "reduce_only": reserved.reduce_only,
            "strategy_id": reserved.strategy_id,
            "filled_quantity": "0",
            "line": reserved.line,
        }

    def _is_excused_now(self, earlier: Answered, command: Command, clock: int) -> bool:
        """Return whether an override was granted since that the refused order waited for."""
        return any(self.books.override(command, check, clock) for check in earlier.failed)

    # --- what follows ---------------------------------------------------------------------------

    def commit(
        self, command: Command, state: GroupState, judged: Judged, clock: int
    ) -> list[RiskOutput]:
        """Remember what was approved; return alerts and latches."""
        ordered, decision = judged.ordered, judged.answer.decision
        for check in judged.excused:
            override = self.books.override(command, check, clock)
            if override is not None:
                self.books.path.put("overridden", override.hash, Flag(clock=clock))
        outputs = self._repeating(state, judged, clock)
        if decision.decision == "rejected":
            return outputs
        order, account_id = ordered.order, ordered.account_id
        approved = Decimal(decision.approved_quantity)
        found = repeats(self.books.path, self.books.rulebook, ordered)
        count = Repeats(count=int(found.count) + 1, enabled=found.enabled)
        self.books.path.put("repeats", repeats_key(ordered), count)
        shown = state.members[account_id].orders.get(ordered.replaces or "")
        filled = ZERO if shown is None else Decimal(shown["filled_quantity"])
        reserved = self.orders.reserve(
            Reservation(
                account_id=account_id,
                order_id=command.order_id,
                symbol=order.symbol,
                line=ordered.line_name,
                side=order.side,
                quantity=add(approved, filled),
                since=clock,
                price=order.price,
                reduce_only=order.reduce_only,
                strategy_id=order.strategy_id,
                replaces=shown is not None,
            )
        )
        bands, most = judged.answer.bands, judged.answer.most
        near = self.watch.figures_near(state.name, account_id, bands, most, clock)
        state.reserve(*reserved)
        return [*outputs, *near]

    def _repeating(self, state: GroupState, judged: Judged, clock: int) -> list[RiskOutput]:
        """Halt a strategy that repeated itself too often, until somebody enables it."""
        strategy = judged.ordered.order.strategy_id
        failed = [
            check
            for check in judged.answer.decision.checks
            if check.name == "repeated_execution" and not check.passed
        ]
        if strategy is None or not failed or "repeated_execution" in judged.excused:
            return []
        value, limit = Decimal(failed[0].value or 0), Decimal(failed[0].limit or 0)
        return self.watch.set_latch(
            state.name, f"strategy:{strategy}", "repeated_execution", value, limit, clock,
            mode="halted", enabled=self.books.rulebook.enabled_at(strategy),
        )  # fmt: skip

    def _vector(self, state: GroupState, clock: int) -> tuple[Payload, list[RiskOutput]]:
        """Return the entries that changed; records of their own for those beyond a record's."""
        news = self.vector.news(state.name, state.touched())
        records: list[RiskOutput] = []
        while len(news) > ENTRIES_MAX:
            part, news = news[:ENTRIES_MAX], news[ENTRIES_MAX:]
            payload = {
                "severity": "info", "code": "vector", "message": "accounts that changed",
                "group": state.name, "vector": {name: list(entry) for name, entry in part},
            }  # fmt: skip
            self.vector.tell(state.name, part)
            records = [*records, *self.chain.record("alert", "info", "alert", payload, clock)]
        self.vector.tell(state.name, news)
        return {"vector": {name: list(entry) for name, entry in news}}, records

    # --- payloads -------------------------------------------------------------------------------

    def _head(self, command: Command, state: GroupState | None, clock: int) -> Payload:
        rulebook, fields = self.books.rulebook, {} if command.error else command.fields
        clusters = rulebook.clusters
        found: Payload = {
            "account_id": command.account_id,
            "command": command.kind,
            "order_id": fields.get("order_id"),
            "strategy_id": fields.get("strategy_id"),
            "symbol": fields.get("symbol"),
            "side": fields.get("side"),
            "order": command.embedded(),
            "order_hash": command.hash,
            "request_id": command.event_id,
            "expires": moment_text(command.expires),
            "clock": moment_text(clock),
            "group": None if state is None else state.name,
            "marks_log_sequence": self.books.market.position or None,
            "orders_sequence": command.sequence,
            "rulebook_sequence": rulebook.sequence or None,
            "rulebook_hash": rulebook.hash,
            "clusters_version": None if clusters is None else clusters.version,
            "engine": self.rules.version,
        }
        return {name: value for name, value in found.items() if value is not None}

    def _figures(self, state: GroupState, command: Command) -> Payload:
        """Return what account and group are worth, and have made today: stated inputs."""
        own, total = state.figures(command.account_id), state.total()
        peak = self.books.path.get(Peak, "peak", f"group:{state.name}")
        found = {
            "equity": None if own is None else own.equity,
            "profit": None if own is None else own.profit,
            "group_equity": None if total is None else total.equity,
            "group_profit": None if total is None else total.profit,
            "group_nav": state.nav(),
            "group_peak": None if peak is None else peak.peak,
        }
        figures = {name: exact_text(v) for name, v in found.items() if v is not None}
        return {"figures": figures}

    def _unstored(self, command: Command, payload: Payload, clock: int) -> RiskOutput:
        data = self.chain.preview("risk_decision", payload, clock, command.links)
        return RiskOutput(kind="decision", key=command.account_id, data=data)


_FATAL = ("well_formed", "account_known", "stream_open", "expired")
"""Checks without which nothing else can be said, or need be."""


def request_name(command: Command) -> str:
    """Return what a request is remembered by: an order by its id, others by their own."""
    if command.kind == "order":
        return f"order/{command.account_id}/{command.order_id}"
    return f"{command.kind}/{command.account_id}/{command.event_id}"


def _other_name(name: str, order_hash: str) -> str:
    """Return what another request under a name that is taken is remembered by."""
    return f"other/{name}/{order_hash}"


def note(
    payload: Mapping[str, Any], data: bytes, windows: Windows, remembered: AnsweredRequests
) -> None:
    """Remember what a decision counts for from now on; all of it stands in its record."""
    clock, group = microseconds(payload["clock"]), payload["group"]
    windows.forget(clock)
    remembered.forget(clock)
    counted = payload.get("counted", {})
    scopes = counted.get("scopes") or ["firm", f"group:{group}", f"account:{payload['account_id']}"]
    approved = payload["decision"] != "rejected" and payload["command"] != "cancel"
    places = [f"{group}|{scope}" for scope in scopes]
    windows.note([f"{place}|message_rate" for place in places], clock, ONE)
    if approved:
        _note_order(counted, places, clock, windows)
    # What is refused while all places are taken, and cancels then, may be asked anew: else whoever
    # asks too often decides how much is remembered.
    if approved or remembered.count(clock) < ORDERS_MAX:
        _note_answer(payload, data, remembered)


def _note_answer(payload: Mapping[str, Any], data: bytes, remembered: AnsweredRequests) -> None:
    """Remember the answer under the request's name, or beside it where that is another one's."""
    kind, account_id = payload["command"], payload["account_id"]
    own_id = payload.get("order_id") if kind == "order" else payload.get("request_id")
    if own_id is None:
        return
    rejected = payload["decision"] == "rejected"
    checks = msgspec.to_builtins(payload["checks"]) if rejected else ()
    name, order_hash = f"{kind}/{account_id}/{own_id}", payload["order_hash"]
    known = remembered.get(name)
    remembered.put(
        name if known is None or known.hash == order_hash else _other_name(name, order_hash),
        Answered(
            hash=order_hash,
            expires=microseconds(payload["expires"]),
            failed=tuple(check["name"] for check in checks if not check["passed"]),
            data=data.decode(),
        ),
    )


def _note_order(
    counted: Mapping[str, Any], places: Sequence[str], clock: int, windows: Windows
) -> None:
    """Count an approved order in the windows of each of its scopes."""
    same, side, symbol = "|".join(counted["same"]), counted["same"][2], counted["same"][1]
    windows.note([f"{place}|order_rate" for place in places], clock, ONE)
    windows.note([f"{place}|same|{same}" for place in places], clock, ONE)
    for name, of_account in (("notional", True), ("group_notional", False)):
        if name in counted:
            named = zip(counted["scopes"], places, strict=True)
            own = [
                f"{place}|notional|{side}"
                for scope, place in named
                if is_of_account(scope) == of_account
            ]
            windows.note(own, clock, Decimal(counted[name]))
    if "price" in counted:
        price = Decimal(counted["price"])
        windows.note([f"{place}|price|{symbol}|{side}" for place in places], clock, price)
