"""Every sentence that a story may use."""

from __future__ import annotations

from tests.stories.language import Vocabulary
from tests.stories.story import Story

VOCABULARY = Vocabulary()
_sentence = VOCABULARY.sentence


# --- what happens to an account -------------------------------------------------------------------


@_sentence("{who} opens an account in {currency}")
def _opens(story: Story, stream: str, currency: str) -> None:
    story.open(stream, currency)


@_sentence("{who} deposits {amount} {currency}")
def _deposits(story: Story, stream: str, amount: str, currency: str) -> None:
    story.append(stream, "CashDeposited", amount=amount, currency=currency)


@_sentence("{who} withdraws {amount} {currency}")
def _withdraws(story: Story, stream: str, amount: str, currency: str) -> None:
    story.append(stream, "CashWithdrawn", amount=amount, currency=currency)


@_sentence("{who} buys {quantity} {symbol} at {price}[ as fill {name}][ and pays {fee}]")
def _buys(story: Story, stream: str, name: str | None, fee: str | None, **terms: str) -> None:
    story.append(stream, "TradeExecuted", side="buy", **terms, fill_id=name, commission=fee)


@_sentence("{who} sells {quantity} {symbol} at {price}[ as fill {name}][ and pays {fee}]")
def _sells(story: Story, stream: str, name: str | None, fee: str | None, **terms: str) -> None:
    story.append(stream, "TradeExecuted", side="sell", **terms, fill_id=name, commission=fee)


@_sentence("{who} cancels order {name}")
def _cancels(story: Story, stream: str, name: str) -> None:
    story.append(stream, "OrderCancelled", order_id=name)


@_sentence("{who} pays {amount} of funding on {symbol}")
def _pays_funding(story: Story, stream: str, amount: str, symbol: str) -> None:
    story.append(stream, "FundingApplied", symbol=symbol, funding_payment=f"-{amount}")


@_sentence("{who} receives {amount} of funding on {symbol}")
def _receives_funding(story: Story, stream: str, amount: str, symbol: str) -> None:
    story.append(stream, "FundingApplied", symbol=symbol, funding_payment=amount)


@_sentence("{who} receives a dividend of {amount} {currency} on {symbol}")
def _receives_dividend(story: Story, stream: str, **payload: str) -> None:
    story.append(stream, "DividendPaid", **payload)


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


# --- the market -----------------------------------------------------------------------------------


@_sentence("{symbol} is a perpetual in {currency}")
def _is_perpetual(story: Story, symbol: str, currency: str) -> None:
    base = symbol.partition("-")[0]
    story.define(symbol, kind="linear_perp", base=base, quote=currency, settle=currency)


@_sentence("{symbol} is a share in {currency}")
def _is_share(story: Story, symbol: str, currency: str) -> None:
    story.define(symbol, kind="equity", base=symbol, quote=currency, settle=currency)


@_sentence("{symbol} is marked at {price}")
def _is_marked(story: Story, symbol: str, price: str) -> None:
    story.set_mark(symbol, price)


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


@_sentence("{whose} nav is {figure}")
def _nav_is(story: Story, stream: str, figure: str) -> None:
    story.equal(story.state(stream)["nav"], figure)


@_sentence("{whose} deepest drawdown is {figure}")
def _deepest_is(story: Story, stream: str, figure: str) -> None:
    story.equal(story.state(stream)["max_drawdown"], figure)


@_sentence("{whose} fees are {figure}")
def _fees_are(story: Story, stream: str, figure: str) -> None:
    story.equal(story.state(stream)["fees"], figure)


@_sentence("{whose} funding is {figure}")
def _funding_is(story: Story, stream: str, figure: str) -> None:
    story.equal(story.state(stream)["funding"], figure)


@_sentence("{who} holds {figure} {symbol} at {price}")
def _holds(story: Story, stream: str, figure: str, symbol: str, price: str) -> None:
    story.position(stream, symbol, side="long", size=figure, entry_price=price)


@_sentence("{who} is short {figure} {symbol} at {price}")
def _is_short(story: Story, stream: str, figure: str, symbol: str, price: str) -> None:
    story.position(stream, symbol, side="short", size=figure, entry_price=price)


@_sentence("{who} holds no {symbol}")
def _holds_none(story: Story, stream: str, symbol: str) -> None:
    story.position(stream, symbol, side="flat", size="0")


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
