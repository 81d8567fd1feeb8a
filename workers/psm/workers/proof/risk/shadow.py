"""Recorded orders decided again under other limits: what would have been different."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

import msgspec

from psm.contracts.errors import ConfigError, ContractError
from psm.domain.money import ZERO, add, exact_text, multiply, subtract
from psm.risk.engine.answers import Answers
from psm.risk.engine.commands import Command
from psm.risk.engine.inquiry import Basis
from psm.risk.engine.member import microseconds
from psm.risk.engine.proof_records import RecordRead
from psm.risk.limits import Limits, limits_of_document
from psm.risk.rulebook import Rulebook, ScopedLimits

Verdict = Literal["same", "stricter", "looser"]
_KINDS = ("firm", "group", "account", "strategy", "symbol")


class ShadowedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One order under the limits of then and under the candidates.

    Attributes:
        approved, would_approve: quantities.
        reason, would_reason: of the decisions.
        notional: between the two quantities, at the order's price or mark, in the group's
            currency; None where that is not known.
    """

    slot: int
    n: int
    account_id: str
    order_id: str
    symbol: str
    verdict: Verdict
    approved: str
    would_approve: str
    reason: str
    would_reason: str
    notional: str | None = None


class ShadowSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the candidates would have changed.

    Attributes:
        refused: orders that were approved, in part at least, and would not have been.
        notional_stricter, notional_looser: that would have been approved less, and more.
    """

    orders: int
    same: int
    stricter: int
    looser: int
    refused: int
    notional_stricter: str
    notional_looser: str


class CandidateRules(Rulebook):
    """A rulebook in which some scopes have other limits; everything else holds as it is said."""

    def __init__(self, rulebook: Rulebook, limits: Mapping[str, Limits]) -> None:
        vars(self).update(vars(rulebook))
        self._candidates = limits

    def limits_of(
        self, account_id: str, strategy_id: str | None, symbol: str, clock: int
    ) -> tuple[ScopedLimits, ...]:
        """Return the limits of all scopes of an order, the candidates instead of those in force."""
        found = {
            one.scope: one for one in super().limits_of(account_id, strategy_id, symbol, clock)
        }
        group = self.group_of(account_id)
        scopes = {
            "firm": "firm",
            "group": "" if group is None else f"group:{group.name}",
            "account": f"account:{account_id}",
            "strategy": "" if strategy_id is None else f"strategy:{strategy_id}",
            "symbol": f"symbol:{symbol}",
        }
        for scope in scopes.values():
            if scope in self._candidates:
                limits = self._candidates[scope]
                found[scope] = ScopedLimits(scope=scope, limits=limits, version=0, hash="")
        kinds = {scope: _KINDS.index(scope.partition(":")[0]) for scope in found}
        return tuple(found[scope] for scope in sorted(found, key=lambda scope: kinds[scope]))


def candidates_of(document: Any) -> dict[str, Limits]:
    """Return limits by scope of a file: one {"scope", ["id"], "limits"}, or a list of them.

    Raises:
        ConfigError: it is none of it; the text names the field.
    """
    found: dict[str, Limits] = {}
    for one in document if isinstance(document, list) else [document]:
        if not isinstance(one, dict) or not isinstance(one.get("limits"), dict):
            raise ConfigError('candidates are {"scope": "group:desk", "limits": {...}}, or a list')
        scope = str(one.get("scope", ""))
        if one.get("id") not in (None, "firm") and ":" not in scope:
            scope = f"{scope}:{one['id']}"
        if scope.partition(":")[0] not in _KINDS:
            raise ConfigError(f"{scope or 'no scope'}: scopes are firm, group:NAME, account:ID ...")
        try:
            found[scope] = limits_of_document(one["limits"])
        except ContractError as error:
            raise ConfigError(f"{scope}: {error}") from error
    return found


class Shadow:
    """Judges each proved decision again under candidates.

    Attributes:
        orders: in order, of the range.
    """

    def __init__(
        self, limits: Mapping[str, Limits], since: int | None = None, until: int | None = None
    ) -> None:
        """Nothing was judged.

        Args:
            limits: by scope.
            since: risk clock, us; decisions before are left out.
            until: likewise, those after.
        """
        self.orders: list[ShadowedOrder] = []
        self._limits, self._since, self._until = limits, since, until

    def judge(self, record: RecordRead, answers: Answers, command: Command) -> None:
        """Decide a recorded request as the candidates would have it, in the state of then."""
        payload = record.payload
        clock = microseconds(payload["clock"])
        outside = (self._since is not None and clock < self._since) or (
            self._until is not None and clock > self._until
        )
        if outside or command.kind == "cancel":
            return
        basis = answers.books
        rules = CandidateRules(basis.rulebook, self._limits)
        books = Basis(rules, basis.market, basis.path, basis.windows)
        again = payload["reason"] == "duplicate_order_id"
        made, _ = msgspec.structs.replace(answers, books=books).judged(command, clock, again=again)
        self.orders.append(_compared(payload, made, answers, command))

    def summary(self) -> ShadowSummary:
        """Return how many orders would have been decided otherwise."""
        counts = {"same": 0, "stricter": 0, "looser": 0}
        notional = {"stricter": ZERO, "looser": ZERO}
        refused = 0
        for one in self.orders:
            counts[one.verdict] += 1
            if one.verdict != "same":
                notional[one.verdict] = add(notional[one.verdict], Decimal(one.notional or 0))
            refused += one.approved != "0" and one.would_approve == "0"
        return ShadowSummary(
            orders=len(self.orders),
            refused=refused,
            notional_stricter=exact_text(notional["stricter"]),
            notional_looser=exact_text(notional["looser"]),
            **counts,
        )


def _compared(
    was: Mapping[str, Any], would: Mapping[str, Any], answers: Answers, command: Command
) -> ShadowedOrder:
    before, after = Decimal(was["approved_quantity"]), Decimal(would["approved_quantity"])
    verdict: Verdict = "same"
    if after != before:
        verdict = "stricter" if after < before else "looser"
    symbol = str(was.get("symbol", ""))
    market, state = answers.books.market, answers.groups[command.account_id]
    mark = market.mark(symbol)
    prices = (command.number("price"), None if mark is None else mark.price)
    worth = [market.worth(symbol, price, state.currency) for price in prices]
    unit = max((one for one in worth if one is not None), default=None)
    apart = abs(subtract(after, before))
    return ShadowedOrder(
        slot=was["slot"],
        n=was["n"],
        account_id=command.account_id,
        order_id=str(was.get("order_id", "")),
        symbol=symbol,
        verdict=verdict,
        approved=was["approved_quantity"],
        would_approve=would["approved_quantity"],
        reason=was["reason"],
        would_reason=would["reason"],
        notional=None if unit is None else exact_text(multiply(unit, apart)),
    )
