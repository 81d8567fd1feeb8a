"""Every sentence that a story may use."""

from __future__ import annotations

from tests.stories.language import Vocabulary
from tests.stories.story import Story

VOCABULARY = Vocabulary()
_sentence = VOCABULARY.sentence
_FILL = "[ as fill {name}][ and pays {fee}][ on the {leg} side]"


# --- what happens to an account -------------------------------------------------------------------


@_sentence("{who} opens an account in {currency}")
def _opens(story: Story, stream: str, currency: str) -> None:
    story.open(stream, currency)


@_sentence("{who} deposits {amount} {currency}[ as {name}]")
def _deposits(story: Story, stream: str, name: str | None, **money: str) -> None:
    story.append(stream, "CashDeposited", **money, reference=name)


@_sentence("The venue takes back {amount} of {whose} deposit {name}")
def _deposit_returns(story: Story, stream: str, amount: str, name: str) -> None:
    story.append(stream, "CashReversed", amount=amount, reference=name, direction="in")


@_sentence("{who} transfers {amount} {currency} to another account as {name}")
def _transfers(story: Story, stream: str, name: str, **money: str) -> None:
    story.append(stream, "TransferredOut", **money, transfer_id=name)


@_sentence("{amount} of {whose} transfer {name} come back")
def _transfer_returns(story: Story, stream: str, amount: str, name: str) -> None:
    story.append(stream, "TransferReversed", amount=amount, transfer_id=name, direction="out")


@_sentence("{who} exchanges {given} {currency} for {got} {other} and pays {fee}")
def _exchanges(
    story: Story, stream: str, given: str, currency: str, got: str, other: str, fee: str
) -> None:
    sides = {"from": currency, "from_amount": given, "to": other, "to_amount": got}
    story.append(stream, "AssetsExchanged", **sides, fee=fee)


@_sentence("{who} borrows {amount} {currency}")
def _borrows(story: Story, stream: str, amount: str, currency: str) -> None:
    story.append(stream, "BorrowChanged", asset=currency, amount=amount)


@_sentence("{who} repays {amount} {currency}")
def _repays(story: Story, stream: str, amount: str, currency: str) -> None:
    story.append(stream, "BorrowChanged", asset=currency, amount=f"-{amount}")


@_sentence("{who} pays a tax of {amount} {currency}")
def _pays_tax(story: Story, stream: str, **money: str) -> None:
    story.append(stream, "TaxCharged", **money, kind="tax")


@_sentence("{who} withdraws {amount} {currency}")
def _withdraws(story: Story, stream: str, amount: str, currency: str) -> None:
    story.append(stream, "CashWithdrawn", amount=amount, currency=currency)


@_sentence(f"{{who}} buys {{quantity}} {{symbol}} at {{price}}{_FILL}")
def _buys(story: Story, stream: str, **terms: str | None) -> None:
    _trades(story, stream, "buy", **terms)


@_sentence(f"{{who}} sells {{quantity}} {{symbol}} at {{price}}{_FILL}")
def _sells(story: Story, stream: str, **terms: str | None) -> None:
    _trades(story, stream, "sell", **terms)


def _trades(
    story: Story,
    stream: str,
    side: str,
    *,
    name: str | None,
    fee: str | None,
    leg: str | None,
    **terms: str | None,
) -> None:
    how = {"fill_id": name, "commission": fee, "position_side": leg}
    story.append(stream, "TradeExecuted", side=side, **terms, **how)


@_sentence("{who} cancels order {name}")
def _cancels(story: Story, stream: str, name: str) -> None:
    story.append(stream, "OrderCancelled", order_id=name)


@_sentence("{who} pays {amount} of funding on {symbol}")
def _pays_funding(story: Story, stream: str, amount: str, symbol: str) -> None:
    story.append(stream, "FundingApplied", symbol=symbol, funding_payment=f"-{amount}")


@_sentence("{who} receives {amount} of funding on {symbol}")
def _receives_funding(story: Story, stream: str, amount: str, symbol: str) -> None:
    story.append(stream, "FundingApplied", symbol=symbol, funding_payment=amount)


@_sentence("{who} receives a dividend of {amount} {currency} on {symbol}[, less a tax of {tax}]")
def _receives_dividend(story: Story, stream: str, **payload: str | None) -> None:
    story.append(stream, "DividendPaid", **payload)


@_sentence("{who} receives {new} {symbol} on top of every {old}")
def _receives_on_top(story: Story, stream: str, symbol: str, new: str, old: str) -> None:
    story.append(stream, "StockDividend", symbol=symbol, numerator=new, denominator=old)


@_sentence("{who} is paid back {amount} of the capital of {symbol}")
def _is_paid_back(story: Story, stream: str, **payload: str) -> None:
    story.append(stream, "ReturnOfCapital", **payload)


@_sentence("{whose} {symbol} are called {new_symbol} from now on")
def _are_called(story: Story, stream: str, **payload: str) -> None:
    story.append(stream, "SymbolChanged", **payload)


@_sentence("{who} receives {new} {new_symbol} for {old} {symbol}, with {part} of their cost")
def _receives_part(
    story: Story, stream: str, new: str, old: str, part: str, **symbols: str
) -> None:
    terms = {"numerator": new, "denominator": old, "cost_share": part}
    story.append(stream, "SpinOff", **symbols, **terms)


@_sentence("{whose} {symbol} become {new_symbol}, {new} for {old}, and {cash} is paid")
def _become(story: Story, stream: str, new: str, old: str, cash: str, **symbols: str) -> None:
    story.append(stream, "Merged", **symbols, numerator=new, denominator=old, cash=cash)


@_sentence("{who} exercises {quantity} {symbol}, and receives {units} {new_symbol}")
def _exercises(
    story: Story, stream: str, quantity: str, symbol: str, units: str, new_symbol: str
) -> None:
    received = {"symbol": new_symbol, "quantity": units, "price": story.strike(symbol)}
    how = {"kind": "exercise", "settlement_price": "0", "quantity": quantity}
    story.append(stream, "PositionSettled", symbol=symbol, **how, deliver=received)


@_sentence("{whose} {symbol} expire at {price}")
def _expire(story: Story, stream: str, symbol: str, price: str) -> None:
    how = {"kind": "expiry", "settlement_price": price}
    story.append(stream, "PositionSettled", symbol=symbol, **how)


@_sentence("{who} keeps the sides of {symbol} apart")
def _keeps_apart(story: Story, stream: str, symbol: str) -> None:
    story.append(stream, "PositionModeChanged", symbol=symbol, mode="hedge")


@_sentence("{who} keeps a margin of its own behind {symbol}")
def _keeps_margin(story: Story, stream: str, symbol: str) -> None:
    story.append(stream, "MarginModeChanged", symbol=symbol, mode="isolated")


@_sentence("{who} trades {symbol} at a leverage of {leverage}")
def _trades_at(story: Story, stream: str, **payload: str) -> None:
    story.append(stream, "LeverageChanged", **payload)


@_sentence("{who} puts {amount} behind {symbol}")
def _puts_behind(story: Story, stream: str, **payload: str) -> None:
    story.append(stream, "MarginTransferred", **payload)


@_sentence("{whose} venue asks {initial} for {symbol}, and never less than {maintenance}")
def _asks(story: Story, stream: str, **payload: str) -> None:
    story.append(stream, "MarginReported", **payload)


@_sentence("An operator sets {whose} peak to {peak}, and the deepest drawdown to {deepest}")
def _sets_peak(story: Story, stream: str, peak: str, deepest: str) -> None:
    said = {"peak_nav": peak, "max_drawdown": deepest}
    story.append(stream, "PeakReset", **said, actor="ann", reason="wrong mark")


@_sentence("{whose} broker reports {amount} {currency}[ and {size} {symbol}]")
def _reports(
    story: Story, stream: str, amount: str, currency: str, size: str | None, symbol: str | None
) -> None:
    held = [{"symbol": symbol, "size": size}] if symbol is not None and size is not None else []
    story.report(stream, {currency: amount}, *held)


@_sentence(
    "{whose} {symbol} are split {new} for {old}[, which leaves {left}, and {amount} is paid for "
    "the rest]"
)
def _split(
    story: Story,
    stream: str,
    symbol: str,
    new: str,
    old: str,
    left: str | None,
    amount: str | None,
) -> None:
    terms = {"numerator": new, "denominator": old}
    paid = {"quantity_after": left, "cash_in_lieu": amount}
    story.append(stream, "SplitApplied", symbol=symbol, **terms, **paid)


@_sentence("{whose} {quantity} {symbol} go to another broker")
def _go_elsewhere(story: Story, stream: str, quantity: str, symbol: str) -> None:
    story.append(
        stream, "PositionTransferredOut", symbol=symbol, quantity=quantity, transfer_id="out"
    )


@_sentence("{who} receives {quantity} {symbol} that cost {cost} from another broker")
def _come_from_elsewhere(story: Story, stream: str, **terms: str) -> None:
    story.append(stream, "PositionTransferredIn", **terms, transfer_id="in")


@_sentence("The venue takes {whose} event {number} back")
def _takes_back(story: Story, stream: str, number: str) -> None:
    named = story.event_id(stream, int(number))
    story.append(stream, "EventReversed", event_id=named, reason="wrong", actor="ann")


@_sentence("The venue busts {whose} trade of event {number}")
def _busts(story: Story, stream: str, number: str) -> None:
    named = story.event_id(stream, int(number))
    story.append(stream, "TradeBusted", event_id=named, reason="error of the venue")


# --- how its events come --------------------------------------------------------------------------


@_sentence("Event {number} is missing")
def _is_missing(story: Story, number: str) -> None:
    story.skip(int(number))


@_sentence("Event {number} comes again")
def _comes_again(story: Story, number: str) -> None:
    story.repeat(int(number))


@_sentence("That waits for event {number}")
def _waits(story: Story, number: str) -> None:
    story.outcome("parked", "sequence_gap")
    story.missing(int(number))


@_sentence("That is refused as {code}")
def _is_refused(story: Story, code: str) -> None:
    story.outcome("refused", code)


@_sentence("That is a duplicate and changes nothing")
def _is_duplicate(story: Story) -> None:
    story.outcome("duplicate")
    story.unchanged()


@_sentence("That is a conflict ({code}) and changes nothing")
def _is_conflict(story: Story, code: str) -> None:
    story.outcome("conflict", code)
    story.unchanged()


@_sentence("That matches")
def _matches(story: Story) -> None:
    story.compared(matches=True)
    story.unchanged()


@_sentence("That differs by {figure} {currency}")
def _differs(story: Story, figure: str, currency: str) -> None:
    found = story.compared(matches=False)
    if [*found] != [f"assets.{currency}"]:
        raise story.fail(f"the books say: {found}")
    story.equal(found[f"assets.{currency}"], figure)
    story.unchanged()


# --- the market -----------------------------------------------------------------------------------


@_sentence("{symbol} is a perpetual in {currency}")
def _is_perpetual(story: Story, symbol: str, currency: str) -> None:
    base = symbol.partition("-")[0]
    story.define(symbol, kind="linear_perp", base=base, quote=currency, settle=currency)


@_sentence("{symbol} is a share in {currency}")
def _is_share(story: Story, symbol: str, currency: str) -> None:
    story.define(symbol, kind="equity", base=symbol, quote=currency, settle=currency)


@_sentence("{symbol} is a call of {units} {new_symbol} at {strike} {currency}")
def _is_call(
    story: Story, symbol: str, units: str, new_symbol: str, strike: str, currency: str
) -> None:
    terms = {"underlying": new_symbol, "right": "call", "strike": strike}
    option = {**terms, "settlement": "physical", "expiry": "2026-06-19T20:00:00Z"}
    money = {"base": new_symbol, "quote": currency, "settle": currency}
    story.define(symbol, kind="option", **money, multiplier=units, option=option)


@_sentence("{symbol} is marked at {price}")
def _is_marked(story: Story, symbol: str, price: str) -> None:
    story.set_mark(symbol, price)


@_sentence("{symbol} is marked at {price} with a delta of {delta}")
def _is_marked_with_delta(story: Story, symbol: str, price: str, delta: str) -> None:
    story.set_mark(symbol, price, delta=delta)


@_sentence("One {currency} is worth {price} {home}")
def _is_worth(story: Story, currency: str, price: str, home: str) -> None:
    pair = f"{currency}{home}"
    story.define(pair, kind="spot", base=currency, quote=home, settle=home)
    story.set_mark(pair, price)


# --- what the books say ---------------------------------------------------------------------------


@_sentence("{whose} cash is {figure}[ {currency}]")
def _cash_is(story: Story, stream: str, figure: str, currency: str | None) -> None:
    state = story.state(stream)
    story.equal(state["cash"].get(currency or state["currency"]), figure)


@_sentence("{whose} equity is {figure}")
def _equity_is(story: Story, stream: str, figure: str) -> None:
    story.equal(story.state(stream)["equity"], figure)


@_sentence("{whose} realized profit is {figure}")
def _realized_is(story: Story, stream: str, figure: str) -> None:
    story.equal(story.state(stream)["realized_pnl"], figure)


@_sentence("{whose} unrealized profit is {figure}")
def _unrealized_is(story: Story, stream: str, figure: str) -> None:
    story.equal(story.state(stream)["unrealized_pnl"], figure)


@_sentence("{whose} margin is {figure}")
def _margin_is(story: Story, stream: str, figure: str) -> None:
    story.equal(story.state(stream)["margin_initial"], figure)


@_sentence("{whose} maintenance margin is {figure}")
def _maintenance_is(story: Story, stream: str, figure: str) -> None:
    story.equal(story.state(stream)["margin_maintenance"], figure)


@_sentence("{whose} net exposure is {figure}")
def _exposure_is(story: Story, stream: str, figure: str) -> None:
    story.equal(story.state(stream)["exposure_net"], figure)


@_sentence("{whose} nav is {figure}")
def _nav_is(story: Story, stream: str, figure: str) -> None:
    story.equal(story.state(stream)["nav"], figure)


@_sentence("{whose} deepest drawdown is {figure}")
def _deepest_is(story: Story, stream: str, figure: str) -> None:
    story.equal(story.state(stream)["max_drawdown"], figure)


@_sentence("{whose} drawdown is {figure}")
def _drawdown_is(story: Story, stream: str, figure: str) -> None:
    story.equal(story.state(stream)["drawdown"], figure)


@_sentence("{whose} dividends are {figure}")
def _dividends_are(story: Story, stream: str, figure: str) -> None:
    story.equal(story.state(stream)["dividends"], figure)


@_sentence("{whose} taxes are {figure}")
def _taxes_are(story: Story, stream: str, figure: str) -> None:
    story.equal(story.state(stream)["taxes"], figure)


@_sentence("{whose} deposits are {figure}")
def _deposits_are(story: Story, stream: str, figure: str) -> None:
    story.equal(story.state(stream)["deposits"], figure)


@_sentence("{whose} transfers are {figure}")
def _transfers_are(story: Story, stream: str, figure: str) -> None:
    story.equal(story.state(stream)["transfers"], figure)


@_sentence("{who} owes {figure} {currency}")
def _owes(story: Story, stream: str, figure: str, currency: str) -> None:
    story.equal(story.state(stream)["borrowed"].get(currency, "0"), figure)


@_sentence("{figure} stand behind {whose} {symbol}")
def _stand_behind(story: Story, stream: str, figure: str, symbol: str) -> None:
    story.equal(story.state(stream)["positions"][symbol]["isolated_margin"], figure)


@_sentence("{whose} fees are {figure}")
def _fees_are(story: Story, stream: str, figure: str) -> None:
    story.equal(story.state(stream)["fees"], figure)


@_sentence("{whose} funding is {figure}")
def _funding_is(story: Story, stream: str, figure: str) -> None:
    story.equal(story.state(stream)["funding"], figure)


@_sentence("{who} holds {figure} {symbol} at {price}[ on the {leg} side]")
def _holds(
    story: Story, stream: str, figure: str, symbol: str, price: str, leg: str | None
) -> None:
    story.position(stream, _key(symbol, leg), side="long", size=figure, entry_price=price)


@_sentence("{who} is short {figure} {symbol} at {price}[ on the {leg} side]")
def _is_short(
    story: Story, stream: str, figure: str, symbol: str, price: str, leg: str | None
) -> None:
    story.position(stream, _key(symbol, leg), side="short", size=figure, entry_price=price)


@_sentence("{who} holds no {symbol}[ on the {leg} side]")
def _holds_none(story: Story, stream: str, symbol: str, leg: str | None) -> None:
    story.position(stream, _key(symbol, leg), side="flat", size="0")


@_sentence("{whose} account stands at event {number}")
def _stands_at(story: Story, stream: str, number: str) -> None:
    story.equal(str(story.state(stream)["sequence_number"]), number)


@_sentence("{whose} account is flagged {code}")
def _is_flagged(story: Story, stream: str, code: str) -> None:
    flags = story.state(stream)["flags"]
    if flags != [code]:
        raise story.fail(f"the books say: {flags}")


@_sentence("{whose} account is not flagged")
def _is_not_flagged(story: Story, stream: str) -> None:
    flags = story.state(stream)["flags"]
    if flags:
        raise story.fail(f"the books say: {flags}")


def _key(symbol: str, leg: str | None) -> str:
    """Return the name of a position; a leg's says its side."""
    return symbol if leg is None else f"{symbol}#{leg}"
