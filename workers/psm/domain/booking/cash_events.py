"""Effects of the events that move cash without a fill, and of the account's own settings."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.contracts.corporate_actions import DividendPaid
from psm.contracts.errors import ContractError
from psm.contracts.events import (
    AccountOpened,
    CashAdjusted,
    CashDeposited,
    CashWithdrawn,
    FeeCharged,
    FundingApplied,
    InterestAccrued,
    LeverageChanged,
    PeakReset,
    TransferredIn,
    TransferredOut,
)
from psm.contracts.fields import Payload
from psm.contracts.holdings import AssetsExchanged, BorrowChanged, LossCovered, TaxCharged
from psm.contracts.position_keys import position_key
from psm.contracts.reversals import CashReversed, TransferReversed
from psm.domain.booking.context import EventContext, instrument_of
from psm.domain.booking.identities import new_reference, new_transfer, original_flow
from psm.domain.booking.isolated import with_stated
from psm.domain.booking.legs import cost_leg, fill_leg, known_leg
from psm.domain.booking.movements import FlowTotal, Leg, Movements
from psm.domain.booking.transfers_in_kind import position_transfer_reversed
from psm.domain.ledger.effect import Effect, TotalName
from psm.domain.ledger.holdings import Cost
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import Position, PositionStep, notional
from psm.domain.money import ZERO, absolute, add, multiply, negate, scaled

_FUNDING_TOLERANCE = Decimal("0.01")
"""Relative: marks enter the log sampled, so a recomputed payment may differ by a little."""
_FUNDING_QUANTUM = Decimal("0.00000001")

_Flow = (
    CashDeposited | CashWithdrawn | TransferredIn | TransferredOut | TransferReversed | CashReversed
)
_Earned = CashAdjusted | InterestAccrued | DividendPaid | LossCovered


def account_opened(ledger: Ledger, event: AccountOpened, _: EventContext) -> Effect:
    """Open the account; once."""
    if ledger.currency is not None:
        raise ContractError(
            "invalid_payload", f"the account is open already, in {ledger.currency}", "event_type"
        )
    return Effect(currency=event.currency, leverage_limit=event.leverage_limit)


def leverage_changed(ledger: Ledger, event: LeverageChanged, context: EventContext) -> Effect:
    """Set the leverage of one position or symbol, or of all without their own."""
    symbol = event.symbol
    if symbol is None:
        effect = Effect(leverage=("", event.leverage))
        return with_stated(ledger, effect, "", "", event.isolated_margin)
    leg, flags = fill_leg(ledger, symbol, event.position_side, context)
    named = leg if event.position_side is not None else "net"
    moved = event.isolated_margin
    effect = Effect(
        leverage=(position_key(symbol, named), event.leverage),
        flags=flags if event.position_side is not None or moved else (),
    )
    return with_stated(ledger, effect, symbol, position_key(symbol, leg), moved)


def peak_reset(_: Ledger, event: PeakReset, __: EventContext) -> Effect:
    """Restate the peak; no money moves."""
    return Effect(peak_reset=event)


def cash_deposited(ledger: Ledger, event: CashDeposited, context: EventContext) -> Effect:
    """Money or an asset in from outside."""
    return _flow(ledger, event, context, event.amount, "deposits", cost=event.cost)


def cash_withdrawn(ledger: Ledger, event: CashWithdrawn, context: EventContext) -> Effect:
    """Money or an asset out; booked even if it overdraws."""
    return _flow(ledger, event, context, negate(event.amount), "withdrawals")


def transferred_in(ledger: Ledger, event: TransferredIn, context: EventContext) -> Effect:
    """In from another account: a flow for this one, neutral for the house."""
    named = _Named(new_transfer(ledger, event.transfer_id))
    return _flow(ledger, event, context, event.amount, "transfers", cost=event.cost, named=named)


def transferred_out(ledger: Ledger, event: TransferredOut, context: EventContext) -> Effect:
    """Out to another account."""
    named = _Named(new_transfer(ledger, event.transfer_id))
    return _flow(ledger, event, context, negate(event.amount), "transfers", named=named)


def transfer_reversed(ledger: Ledger, event: TransferReversed, context: EventContext) -> Effect:
    """A transfer came back: the opposite flow, out of the same total."""
    if event.amount is None or event.symbol is not None or event.quantity is not None:
        return position_transfer_reversed(ledger, event, context)
    named = _Named.of(ledger, event, event.currency or context.home, event.reversal_reference)
    amount = negate(event.amount) if event.direction == "in" else event.amount
    return _flow(ledger, event, context, amount, "transfers", cost=event.cost, named=named)


def cash_reversed(ledger: Ledger, event: CashReversed, context: EventContext) -> Effect:
    """A deposit or withdrawal was taken back: the opposite flow, out of the same total."""
    named = _Named.of(ledger, event, event.currency or context.home, event.reversal_reference)
    if event.direction == "in":
        return _flow(
            ledger, event, context, negate(event.amount), "deposits", cost=event.cost, named=named
        )
    return _flow(ledger, event, context, event.amount, "withdrawals", cost=event.cost, named=named)


def cash_adjusted(ledger: Ledger, event: CashAdjusted, context: EventContext) -> Effect:
    """A correction by a person; performance, not a flow."""
    currency = event.currency or context.home
    return _earned(ledger, event, context, currency, event.amount, "adjustments", of=currency)


def interest_accrued(ledger: Ledger, event: InterestAccrued, context: EventContext) -> Effect:
    """Interest received or paid."""
    currency = event.currency or context.home
    return _earned(ledger, event, context, currency, event.amount, "interest", of=currency)


def dividend_paid(ledger: Ledger, event: DividendPaid, context: EventContext) -> Effect:
    """A dividend received or, by a short, paid; a tax was withheld from it, or paid beside it."""
    named = _Named.of(ledger, event, event.symbol, event.reference)
    currency = event.currency or instrument_of(ledger, event.symbol, context).settle
    tax, paid_in = event.tax or ZERO, event.tax_currency or currency
    moves = Movements(ledger, context, event)
    whole = add(event.amount, tax) if paid_in == currency else event.amount
    moves.earn(currency, whole, "dividends")
    if tax:
        moves.pay(paid_in, tax, "taxes")
    return moves.effect(flags=named.flags, reference_key=named.key)


def loss_covered(ledger: Ledger, event: LossCovered, context: EventContext) -> Effect:
    """Somebody else paid for a loss."""
    currency = event.currency or instrument_of(ledger, event.symbol, context).settle
    of = event.symbol
    return _earned(ledger, event, context, currency, event.amount, "losses_covered", of=of)


def borrow_changed(ledger: Ledger, event: BorrowChanged, _: EventContext) -> Effect:
    """More or less is owed; the money itself moves by other events."""
    named = _Named.of(ledger, event, event.asset, event.reference)
    return Effect(borrowed=(event.asset, event.amount), flags=named.flags, reference_key=named.key)


def assets_exchanged(ledger: Ledger, event: AssetsExchanged, context: EventContext) -> Effect:
    """One asset went and another came, both at the value of the trade; the fee is paid after it."""
    if event.from_asset == event.to_asset:
        raise ContractError("invalid_payload", "to must be another asset than from", "payload.to")
    named = _Named.of(ledger, event, event.from_asset, event.reference)
    moves = Movements(ledger, context, event)
    gone, came = (
        Leg(event.from_asset, negate(event.from_amount)),
        Leg(event.to_asset, event.to_amount),
    )
    value = moves.trade_value(gone, came)
    moves.exchange(gone, came, value)
    if event.fee:
        paid_in, at = event.fee_currency or came.asset, None
        if value is not None and paid_in in (gone.asset, came.asset):
            whole = event.from_amount if paid_in == gone.asset else event.to_amount
            at = scaled(negate(value), event.fee, whole)
        moves.pay(paid_in, event.fee, "fees", at=at)
    return moves.effect(flags=named.flags, reference_key=named.key)


def fee_charged(ledger: Ledger, event: FeeCharged, context: EventContext) -> Effect:
    """A fee outside a trade; a tagged one also counts for its symbol."""
    currency = event.currency or context.home
    named = _Named.of(ledger, event, event.symbol or currency, event.reference)
    position, key, flags = None, "", named.flags
    if event.symbol is not None:
        leg, leg_flags = cost_leg(ledger, event.symbol, event.position_side, context)
        key = position_key(event.symbol, leg or "net")
        position, flags = known_leg(ledger, event.symbol, leg), (*flags, *leg_flags)
    steps: tuple[PositionStep, ...] = ()
    if position is not None and currency == position.instrument.settle:
        after = msgspec.structs.replace(
            position,
            fees=add(position.fees, event.amount),
            cycle_fees=add(position.cycle_fees, event.amount if position.size else ZERO),
        )
        steps = (PositionStep(position=after, change="adjusted"),)
    moves = Movements(ledger, context, event)
    moves.pay(currency, event.amount, "fees")
    effect = moves.effect(steps=steps, flags=flags, reference_key=named.key)
    return with_stated(ledger, effect, event.symbol or "", key, event.isolated_margin)


def tax_charged(ledger: Ledger, event: TaxCharged, context: EventContext) -> Effect:
    """A tax was paid, or refunded."""
    currency = event.currency or context.home
    named = _Named.of(ledger, event, event.symbol or currency, event.reference)
    moves = Movements(ledger, context, event)
    moves.pay(currency, event.amount, "taxes")
    return moves.effect(flags=named.flags, reference_key=named.key)


def funding_applied(ledger: Ledger, event: FundingApplied, context: EventContext) -> Effect:
    """Book the venue's payment; flag it where rate and price say something else."""
    named = _Named.of(ledger, event, event.symbol, event.reference)
    leg, leg_flags = cost_leg(ledger, event.symbol, event.position_side, context)
    position = known_leg(ledger, event.symbol, leg)
    settle = instrument_of(ledger, event.symbol, context).settle
    currency = event.currency or settle
    payment, moved = event.funding_payment, event.isolated_margin
    steps: tuple[PositionStep, ...] = ()
    flags = (*named.flags, *leg_flags)
    if position is not None and currency == settle:
        after = msgspec.structs.replace(
            position,
            funding=add(position.funding, payment),
            cycle_funding=add(position.cycle_funding, payment if position.size else ZERO),
        )
        steps = (PositionStep(position=after, change="adjusted"),)
        if event.funding_rate is not None and position.size:
            price, _ = context.prices.price_of(position)
            if _mismatch(position, payment, event.funding_rate, price):
                flags = (*flags, "funding_mismatch")
        if moved is None and position.size and event.symbol in ledger.wallets.symbols:
            moved = payment
    moves = Movements(ledger, context, event)
    moves.earn(currency, payment, "funding")
    effect = moves.effect(steps=steps, flags=flags, reference_key=named.key)
    key = position_key(event.symbol, leg or "net")
    return with_stated(ledger, effect, event.symbol, key, moved)


def _mismatch(position: Position, payment: Decimal, rate: Decimal, price: Decimal) -> bool:
    """Return whether the payment differs from -side x notional x rate beyond tolerance."""
    try:
        expected = multiply(notional(position, price), rate)
        if position.size > 0:
            expected = negate(expected)
        slack = add(multiply(absolute(expected), _FUNDING_TOLERANCE), _FUNDING_QUANTUM)
        return absolute(add(payment, negate(expected))) > slack
    except ArithmeticError:
        return False


class _Named(msgspec.Struct, frozen=True):
    """Identity of a fact without a fill, and the flags that its look raises."""

    key: bytes | None
    flags: tuple[str, ...] = ()

    @classmethod
    def of(cls, ledger: Ledger, event: Payload, of: str, reference: str | None) -> _Named:
        """Return the identity of an event that moves `of`."""
        leg = getattr(event, "position_side", None)
        return cls(*new_reference(ledger, type(event).__name__, of, reference, leg))


def _flow(
    ledger: Ledger,
    event: _Flow,
    context: EventContext,
    signed: Decimal,
    name: FlowTotal,
    *,
    cost: Decimal | None = None,
    named: _Named | None = None,
) -> Effect:
    """Book money or an asset that comes from outside, or goes there."""
    currency = event.currency or context.home
    if named is None:
        named = _Named.of(ledger, event, currency, getattr(event, "reference", None))
    moves = Movements(ledger, context, event)
    stated = None if cost is None else Cost(cost)
    if isinstance(event, TransferReversed | CashReversed):
        booked_at = stated or _cost_taken_back(ledger, event, absolute(signed))
        moves.flow(currency, signed, name, cost=booked_at, back=True)
        return moves.effect(flags=named.flags, reference_key=named.key)
    flow = moves.flow(currency, signed, name, cost=stated)
    booked = None if flow is None or named.key is None else (named.key, flow)
    return moves.effect(flags=named.flags, reference_key=named.key, booked_flow=booked)


def _cost_taken_back(
    ledger: Ledger, event: TransferReversed | CashReversed, amount: Decimal
) -> Cost | None:
    """Return what the part of a flow that is taken back was booked at; None: nobody remembers."""
    original = original_flow(ledger, event)
    return None if original is None else original.part(amount).cost


def _earned(
    ledger: Ledger,
    event: _Earned,
    context: EventContext,
    currency: str,
    signed: Decimal,
    name: TotalName,
    *,
    of: str,
) -> Effect:
    """Book what was gained or lost without a trade."""
    named = _Named.of(ledger, event, of, event.reference)
    moves = Movements(ledger, context, event)
    moves.earn(currency, signed, name)
    return moves.effect(flags=named.flags, reference_key=named.key)
