"""Effects of the events that move cash without a fill, and of the account's own settings."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.contracts.errors import ContractError
from psm.contracts.events import (
    AccountOpened,
    CashAdjusted,
    CashDeposited,
    CashWithdrawn,
    DividendPaid,
    FeeCharged,
    FundingApplied,
    InterestAccrued,
    LeverageChanged,
    TransferredIn,
    TransferredOut,
)
from psm.domain.account import Account
from psm.domain.effect import Effect, TotalName
from psm.domain.money import ZERO, absolute, add, multiply, negate
from psm.domain.positions import Position, Step, notional
from psm.domain.setting import Setting, instrument_of, new_key

_FUNDING_TOLERANCE = Decimal("0.01")
"""Relative: marks enter the log sampled, so a recomputed payment may differ by a little."""
_FUNDING_QUANTUM = Decimal("0.00000001")


def account_opened(account: Account, event: AccountOpened, _: Setting) -> Effect:
    """Open the account; once."""
    if account.currency is not None:
        raise ContractError(
            "invalid_payload", f"the account is open already, in {account.currency}", "event_type"
        )
    return Effect(currency=event.currency, leverage_limit=event.leverage_limit)


def leverage_changed(_: Account, event: LeverageChanged, __: Setting) -> Effect:
    """Set the leverage of one symbol, or of all symbols without their own."""
    return Effect(leverage=(event.symbol or "", event.leverage))


def cash_deposited(_: Account, event: CashDeposited, setting: Setting) -> Effect:
    """Cash in from outside."""
    currency = event.currency or setting.home
    return _moved(currency, event.amount, "deposits", flow=True)


def cash_withdrawn(_: Account, event: CashWithdrawn, setting: Setting) -> Effect:
    """Cash out; booked even if it overdraws."""
    currency = event.currency or setting.home
    return _moved(currency, negate(event.amount), "withdrawals", flow=True)


def transferred_in(account: Account, event: TransferredIn, setting: Setting) -> Effect:
    """Cash in from another account: a flow for this one, neutral for the house."""
    key = new_key(account, "transfer", "transfer_id", event.transfer_id)
    return _moved(event.currency or setting.home, event.amount, "transfers", flow=True, key=key)


def transferred_out(account: Account, event: TransferredOut, setting: Setting) -> Effect:
    """Cash out to another account."""
    key = new_key(account, "transfer", "transfer_id", event.transfer_id)
    amount = negate(event.amount)
    return _moved(event.currency or setting.home, amount, "transfers", flow=True, key=key)


def cash_adjusted(_: Account, event: CashAdjusted, setting: Setting) -> Effect:
    """A correction by a person; performance, not a flow."""
    return _moved(event.currency or setting.home, event.amount, "adjustments")


def interest_accrued(_: Account, event: InterestAccrued, setting: Setting) -> Effect:
    """Interest received or paid."""
    return _moved(event.currency or setting.home, event.amount, "interest")


def dividend_paid(account: Account, event: DividendPaid, setting: Setting) -> Effect:
    """A dividend received or, by a short, paid."""
    settle = instrument_of(account, event.symbol, setting).settle
    return _moved(event.currency or settle, event.amount, "dividends")


def fee_charged(account: Account, event: FeeCharged, setting: Setting) -> Effect:
    """A fee outside a trade; a tagged one also counts for its symbol."""
    currency = event.currency or setting.home
    position = account.positions.get(event.symbol or "")
    steps: tuple[Step, ...] = ()
    if position is not None and currency == position.instrument.settle:
        after = msgspec.structs.replace(
            position,
            fees=add(position.fees, event.amount),
            cycle_fees=add(position.cycle_fees, event.amount if position.size else ZERO),
        )
        steps = (Step(position=after, change="adjusted"),)
    return Effect(
        cash=((currency, negate(event.amount)),),
        totals=((currency, "fees", event.amount),),
        steps=steps,
    )


def funding_applied(account: Account, event: FundingApplied, setting: Setting) -> Effect:
    """Book the venue's payment; flag it where rate and price say something else."""
    key = None
    if event.reference is not None:
        key = new_key(account, "funding", "reference", event.reference, event.symbol)
    position = account.positions.get(event.symbol)
    settle = instrument_of(account, event.symbol, setting).settle
    currency = event.currency or settle
    payment = event.funding_payment
    steps: tuple[Step, ...] = ()
    flags: tuple[str, ...] = ()
    if position is not None and currency == settle:
        after = msgspec.structs.replace(
            position,
            funding=add(position.funding, payment),
            cycle_funding=add(position.cycle_funding, payment if position.size else ZERO),
        )
        steps = (Step(position=after, change="adjusted"),)
        if event.funding_rate is not None and position.size:
            price = setting.price_of(event.symbol) or position.last_fill
            if _mismatch(position, payment, event.funding_rate, price):
                flags = ("funding_mismatch",)
    return Effect(
        cash=((currency, payment),),
        totals=((currency, "funding", payment),),
        steps=steps,
        flags=flags,
        key=key,
    )


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


def _moved(
    currency: str,
    signed: Decimal,
    name: TotalName,
    *,
    flow: bool = False,
    key: bytes | None = None,
) -> Effect:
    booked = negate(signed) if name == "withdrawals" else signed
    return Effect(
        cash=((currency, signed),),
        totals=((currency, name, booked),),
        flow=(currency, signed) if flow else None,
        key=key,
    )
