"""What is watched between orders: days, losses, drawdowns, and figures near their limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from psm.domain.money import ZERO, multiply, negate
from psm.risk.bands import WATCHED, Band
from psm.risk.engine.group import GroupState
from psm.risk.engine.member import AccountChange, GroupMember
from psm.risk.engine.path import (
    DayOpening,
    Flag,
    Latch,
    LatchEnd,
    LossBase,
    Path,
    Peak,
    StaleState,
    Streak,
)
from psm.risk.engine.records import Chain, moment_text
from psm.risk.engine.scopes import (
    drawdown_of,
    is_of_account,
    latch_scope,
    nav_above,
    profit_of,
)
from psm.risk.limits import Limits, text
from psm.risk.measured import loss_cap
from psm.risk.messages import RiskOutput
from psm.risk.rulebook import Rulebook

_WARN, _REARM = Decimal("0.8"), Decimal("0.7")


class LossWatch:
    """Latches and alerts of a slot."""

    def __init__(self, path: Path, chain: Chain) -> None:
        self._path, self._chain = path, chain

    # --- days -----------------------------------------------------------------------------------

    def open_day(
        self, state: GroupState, member: GroupMember, rulebook: Rulebook, time: int
    ) -> None:
        """Begin an account's day, if another one has begun; its equity is that of now."""
        if not member.known:
            return
        day = rulebook.day_of(state.name, time)
        known = self._path.get(DayOpening, "day", member.account_id)
        if known is not None and known.number >= day.number:
            return
        figures = state.figures(member.account_id)
        funded = figures is not None and (figures.equity or figures.flows)
        if figures is None or not funded:
            opening = DayOpening(number=day.number, start=day.start)
        else:
            opening = DayOpening(
                number=day.number, start=day.start, equity=figures.equity,
                flows=figures.flows, realized=member.realized(),
            )  # fmt: skip
        self._path.put("day", member.account_id, opening)
        state.refresh(member.account_id, ())

    def correct_day(self, state: GroupState, member: GroupMember, change: AccountChange) -> None:
        """Take the close of the last minute of the day before, where PSM tells it.

        What the engine valued at the boundary may lack an input that came to it later. And an
        account that was opened within the day begins it with its first flow.
        """
        day = self._path.get(DayOpening, "day", member.account_id)
        if day is None:
            return
        for end, equity, flows in change.closes:
            if day.closed <= end <= day.start and equity is not None:
                funded = bool(equity or flows)
                day = DayOpening(
                    number=day.number, start=day.start, equity=equity if funded else None,
                    flows=flows, realized=day.realized, closed=end,
                )  # fmt: skip
        figures = state.figures(member.account_id)
        if day.equity is None and figures is not None and figures.flows:
            day = DayOpening(
                number=day.number, start=day.start, equity=figures.equity,
                flows=figures.flows, realized=member.realized(), closed=day.start,
            )  # fmt: skip
        self._path.put("day", member.account_id, day)

    def count_results(
        self, state: GroupState, account_id: str, results: tuple[Decimal, ...]
    ) -> None:
        """Count closed trades in loss, of the account and of its group."""
        for scope in (f"account:{account_id}", f"group:{state.name}") if results else ():
            found = self._path.get(Streak, "streak", scope)
            losses = 0 if found is None else found.losses
            for result in results:
                losses = int(losses) + 1 if result < 0 else 0
            self._path.put("streak", scope, Streak(losses=losses))

    # --- latches --------------------------------------------------------------------------------

    def losses(
        self, state: GroupState, accounts: Sequence[str], rulebook: Rulebook, clock: int
    ) -> list[RiskOutput]:
        """Latch what has reached its cap or its drawdown, of accounts and of their group."""
        outputs: list[RiskOutput] = []
        for place, account_id in enumerate(accounts):
            for one in rulebook.limits_of(account_id, None, "", clock):
                if place and not is_of_account(one.scope):
                    continue  # the group was looked at with the first of them
                latch = latch_scope(one.scope, account_id, state.name)
                found = self.lost(state, latch, one.limits, rulebook, clock)
                outputs = [*outputs, *found] if found else outputs
        return outputs

    def lost(
        self, state: GroupState, latch: str, limits: Limits, rulebook: Rulebook, clock: int
    ) -> list[RiskOutput]:
        """Latch what one scope's limits say is too much, and tell of what is near it."""
        outputs: list[RiskOutput] = []
        for code, value, limit, until in self._reached(state, latch, limits, rulebook, clock):
            latched = self.set_latch(state.name, latch, code, value, limit, clock, until=until)
            outputs = [*outputs, *latched]
        return [*outputs, *self._loss_alert(state, latch, limits, clock)]

    def _reached(
        self, state: GroupState, latch: str, limits: Limits, rulebook: Rulebook, clock: int
    ) -> Iterator[tuple[str, Decimal, Decimal, int | None]]:
        """Yield code, value, limit and end of what has reached its limit."""
        profit, cap = self._loss(state, latch, limits, clock)
        if profit is not None and cap is not None and profit <= negate(cap):
            end = rulebook.day_of(state.name, clock).end
            until = None if limits.daily_loss_sticky else end
            yield "daily_loss", profit, negate(cap), until
        fall = drawdown_of(state, self._path, latch)
        if limits.drawdown is not None and fall is not None and fall >= limits.drawdown:
            yield "drawdown", fall, limits.drawdown, None

    def _loss(
        self, state: GroupState, latch: str, limits: Limits, clock: int
    ) -> tuple[Decimal | None, Decimal | None]:
        figures = state.figures_of(latch)
        if figures is None:
            return None, None
        profit = profit_of(self._path, latch, limits, figures, clock)
        return profit, loss_cap(limits, figures.opened)

    def _loss_alert(
        self, state: GroupState, latch: str, limits: Limits, clock: int
    ) -> list[RiskOutput]:
        profit, cap = self._loss(state, latch, limits, clock)
        if profit is None or cap is None:
            return []
        return self.near_limit(latch, "daily_loss", negate(profit), cap, clock)

    def set_latch(
        self,
        group: str,
        scope: str,
        code: str,
        value: Decimal,
        limit: Decimal,
        clock: int,
        *,
        until: int | None = None,
        mode: str = "reducing",
        enabled: int = 0,
    ) -> list[RiskOutput]:
        """Halt a scope, unless it is by the same code."""
        key = f"{group}|{scope}|{code}"
        if self._path.has("latch", key):
            return []
        latch = Latch(
            scope=scope,
            code=code,
            mode="halted" if mode == "halted" else "reducing",
            since=clock,
            value=text(value) or "",
            limit=text(limit) or "",
            until=until,
            enabled=enabled,
        )
        self._path.put("latch", key, latch)
        payload: dict[str, Any] = {
            "scope": scope,
            "mode": latch.mode,
            "code": code,
            "value": latch.value,
            "limit": latch.limit,
            "group": group,
            "clock": moment_text(clock),
        }
        if until is not None:
            payload["until"] = moment_text(until)
        records = self._chain.record("halt", scope, "LatchSet", payload, clock)
        self.name_latch(key, self._chain.previous)
        return records

    def name_latch(self, key: str, record_hash: str) -> None:
        """Note the hash of the record that set a latch: by it it is lifted."""
        latch = self._path.get(Latch, "latch", key)
        if latch is not None:
            named = {**_fields(latch), "hash": record_hash}
            self._path.settle("latch", key, Latch(**named))

    def end_latches(
        self, rulebook: Rulebook, clock: int, groups: Mapping[str, GroupState]
    ) -> list[RiskOutput]:
        """End what is over, was lifted by two persons, or was enabled again."""
        outputs: list[RiskOutput] = []
        for key, latch in self._path.items(Latch, "latch"):
            state = groups.get(key.partition("|")[0])
            lift = rulebook.lifted.get(latch.hash)
            strategy = latch.scope.removeprefix("strategy:")
            enabled = latch.code == "repeated_execution" and (
                rulebook.enabled_at(strategy) > latch.enabled
            )
            over = latch.until is not None and latch.until <= clock
            if not (over or enabled or lift is not None):
                continue
            self._path.drop("latch", key)
            self._path.put("ended", latch.scope, LatchEnd(clock=clock))
            if lift is not None:
                if state is not None:
                    self._begin_anew(state, latch, rulebook, clock, rebase=lift.rebase_peak)
                message = f"{latch.code} of {latch.scope} was lifted"
                outputs = [*outputs, *self.alert("error", "latch_lifted", message, clock)]
        return outputs

    def _begin_anew(
        self, state: GroupState, latch: Latch, rulebook: Rulebook, clock: int, *, rebase: bool
    ) -> None:
        """Count a loss, or a drawdown if that was said, from the lift on."""
        figures = state.figures_of(latch.scope)
        if latch.code == "daily_loss" and figures is not None and figures.profit is not None:
            base = LossBase(
                profit=figures.profit,
                realized=figures.realized or ZERO,
                until=rulebook.day_of(state.name, clock).end,
            )
            self._path.put("lossbase", latch.scope, base)
        if latch.code == "drawdown" and rebase:
            self._rebase(state, latch.scope)

    def _rebase(self, state: GroupState, scope: str) -> None:
        """Count the drawdown of a group or an account from here on."""
        kind, _, name = scope.partition(":")
        found = self._path.get(Peak, "peak", scope)
        if kind == "group" and found is not None:
            value = state.nav() if name == state.name else nav_above(state, self._path, scope)
            peak = Peak(peak=value or found.peak, units=found.units, flows=found.flows)
            self._path.put("peak", scope, peak)
        elif kind == "account" and name in state.members:
            nav = state.members[name].amount("nav")
            if nav is not None:
                self._path.put("peak", scope, Peak(peak=nav))

    # --- how far PSM is -------------------------------------------------------------------------

    def unfolded(self, account_id: str, entry: StaleState, clock: int) -> list[RiskOutput]:
        """Remember that PSM is behind the log with an account; tell it once."""
        if self._path.has("stale", account_id):
            return []
        self._path.put("stale", account_id, entry)
        message = f"PSM has not folded {entry.log_sequence} of the log for {account_id}"
        more = {"account_id": account_id}
        return self.alert("warning", "state_stale", message, clock, more)

    def folded(self, account_id: str, log_sequence: int) -> None:
        """Forget that PSM was behind, if it was so with nothing later than this."""
        found = self._path.get(StaleState, "stale", account_id)
        if found is not None and found.log_sequence <= log_sequence:
            self._path.drop("stale", account_id)

    # --- alerts ---------------------------------------------------------------------------------

    def figures_near(
        self, group: str, account_id: str, bands: tuple[Band, ...], most: Decimal, clock: int
    ) -> list[RiskOutput]:
        """Tell of figures that an approved order brings near their limit."""
        outputs: list[RiskOutput] = []
        for band in bands:
            value = band.at(most) if band.limit is not None and band.name in WATCHED else None
            if value is None or band.limit is None:
                continue
            if value >= multiply(_WARN, band.limit) or not self._path.is_empty("raised"):
                scope = latch_scope(band.scope, account_id, group)
                name = band.name if band.tag is None else f"{band.name}|{band.tag}"
                found = self.near_limit(scope, name, value, band.limit, clock)
                outputs = [*outputs, *found] if found else outputs
        return outputs

    def near_limit(
        self, scope: str, name: str, value: Decimal, limit: Decimal, clock: int
    ) -> list[RiskOutput]:
        """Tell once of a figure at 80 % of its limit; again after it was below 70 %."""
        key = f"{scope}|{name}"
        if self._path.has("raised", key):
            if value < multiply(_REARM, limit):
                self._path.drop("raised", key)
            return []
        if limit <= ZERO or value < multiply(_WARN, limit):
            return []
        self._path.put("raised", key, Flag(clock=clock))
        more = {"value": text(value), "limit": text(limit)}
        message = f"{name} of {scope} is at 80 % of its limit"
        return self.alert("warning", "near_limit", message, clock, more)

    def alert(
        self,
        severity: str,
        code: str,
        message: str,
        clock: int,
        more: Mapping[str, Any] | None = None,
    ) -> list[RiskOutput]:
        """Tell somebody."""
        payload = {"severity": severity, "code": code, "message": message, **(more or {})}
        return self._chain.record("alert", severity, "alert", payload, clock)


def _fields(latch: Latch) -> dict[str, Any]:
    return {name: getattr(latch, name) for name in Latch.__struct_fields__}
