"""Every flag: what it says, where it comes from, and what one does about it.

A flag is an opinion about an event or a state. It refuses nothing and is in no hash.
"""

from __future__ import annotations

from msgspec import Struct


class FlagText(Struct, frozen=True):
    """What a flag means to a person.

    Attributes:
        meaning: what is so.
        cause: what made it so.
        remedy: what makes it go away, or whom to ask.
    """

    meaning: str
    cause: str
    remedy: str


FLAGS: dict[str, FlagText] = {
    "defined_late": FlagText(
        "what was booked as a contract turned out to be a pair or a share",
        "it was traded before its symbol was defined, so a linear contract was booked; now its "
        "size is held at its cost, and that cost was taken from the cash",
        "nothing; define instruments before they are traded",
    ),
    "fill_after_cancel": FlagText(
        "an order was filled although it had ended",
        "a trade came for an order that was cancelled, rejected or had expired before; the venue "
        "says that it happened, so it is booked, and the order keeps its status unless the fills "
        "cover its quantity",
        "ask the venue; if the trade is wrong, it is taken back by TradeBusted. The flag is of "
        "this event, and the next event's state does not have it",
    ),
    "fill_out_of_reach": FlagText(
        "an amended commission has no rate",
        "a TradeAmended names a coin that the account never had, and the marks that would say what "
        "it was worth at the fill are more than a correction reads again",
        "amend the trade with rates, which are facts and need no mark. The flag is of this event, "
        "and the next event's state does not have it",
    ),
    "funding_mismatch": FlagText(
        "a funding payment is not what its rate gives",
        "payment and rate of a FundingApplied differ by more than the tolerance at the present "
        "mark; the payment is booked as reported",
        "compare the venue's statement; if it is wrong, CashAdjusted corrects it. The flag is of "
        "this event, and the next event's state does not have it",
    ),
    "instrument_undefined": FlagText(
        "a position or open order is in a symbol that nobody defined",
        "no InstrumentDefined for it stood in the log when the position began, so it counts as "
        "linear with multiplier 1, settled in the account's currency, without margin tiers",
        "publish InstrumentDefined on instruments.<symbol> before the first trade; a position "
        "keeps what it began with until it is flat",
    ),
    "isolated_liquidatable": FlagText(
        "the wallet of an isolated position does not cover its maintenance margin",
        "wallet and unrealized PnL of a position in isolated margin have fallen to its maintenance "
        "margin, or below zero",
        "move margin to the position or reduce it; the venue decides whether it is liquidated",
    ),
    "leg_unknown": FlagText(
        "an event in hedge mode does not say which leg it is of",
        "it has no position_side, and none or several legs of its symbol are open; a fill is "
        "booked into a leg of its own, the net one, a payment to the account alone",
        "publish events with position_side; a fill in the net leg is moved by TradeAmended with "
        "position_side. The flag is of this event, and the next event's state does not have it",
    ),
    "leverage_limit_exceeded": FlagText(
        "the leverage is above the account's own limit",
        "gross exposure over equity is more than the leverage_limit that AccountOpened named",
        "reduce positions or deposit; a limit only flags and warns, it stops no order",
    ),
    "liquidatable": FlagText(
        "the equity does not cover the maintenance margin of the positions",
        "the margin ratio has reached 1, or equity is zero or below with a position open",
        "deposit or reduce positions; whether it is liquidated is the venue's decision",
    ),
    "margin_unknown": FlagText(
        "the margin of an open position is not known, or not as it is now",
        "MarginModeChanged came while a position was open, without its amount: nothing was moved "
        "into its wallet; or the position changed after MarginReported, whose figures stay until "
        "the next one; or MarginReported came where no position is open, and says nothing",
        "publish MarginTransferred, or MarginReported, with what the venue shows. After "
        "MarginReported the flag stays as long as its figures are used, else it is of the event "
        "alone",
    ),
    "not_isolated": FlagText(
        "an event moves isolated margin of what has none",
        "its symbol is in cross margin, or a share; the amount is ignored, all else is booked",
        "publish MarginModeChanged before it. The flag is of this event, and the next event's "
        "state does not have it",
    ),
    "overclose": FlagText(
        "a leg of hedge mode was closed for more than it had",
        "its fills sell more than they bought, or a close came before its open; everything is "
        "booked, so the leg is on the other side until its next fill nets it",
        "wait for the missing fill; if none comes, correct the wrong one with TradeAmended",
    ),
    "overdraft": FlagText(
        "money of the account currency is below zero",
        "more was paid, withdrawn or lost than was there; money that left has left, and is booked",
        "publish the deposit that is missing, or move money into that currency",
    ),
    "overfill": FlagText(
        "an order was filled for more than its quantity",
        "the fills of an order add up to more than was ordered; the venue says that they happened, "
        "so they are booked",
        "ask the venue; if a trade is wrong, it is taken back by TradeBusted. The flag is of this "
        "event, and the next event's state does not have it",
    ),
    "peak_not_restated": FlagText(
        "peak, drawdown and warnings are those of before a correction",
        "the marks since the corrected fill are more than a correction reads again; the ledger "
        "itself is corrected",
        "state the peak by PeakReset, if it matters. The flag is of this event, and the next "
        "event's state does not have it",
    ),
    "position_mode_waiting": FlagText(
        "another position mode was reported while positions are open",
        "PositionModeChanged takes effect when everything that it concerns is flat; until then the "
        "mode from before holds",
        "close what is open, or publish the fills that are missing",
    ),
    "position_side_ignored": FlagText(
        "an event names a leg, and fills net into one position",
        "its position_side is long or short in net mode; it is kept and ignored",
        "publish PositionModeChanged if the account is in hedge mode. The flag is of this event, "
        "and the next event's state does not have it",
    ),
    "rate_from_derivative": FlagText(
        "a rate into the account's currency is the price of a perpetual",
        "no spot instrument or equity between the two has a usable mark, so what a perpetual's "
        "mark says is taken: its index price where it names one, else the mark itself",
        "define the spot instrument, such as BTCUSDT, and publish its marks; the figures are "
        "right to the difference between the two",
    ),
    "rate_missing": FlagText(
        "an amount is in an asset that cannot be converted, and is left out of the figures",
        "cash, a position or an order is in another asset than the account's currency, and neither "
        "marks between the two, in one step or over a bridge, nor a fill of the account's own say "
        "what it is worth; nothing is ever taken 1:1",
        "define the spot instrument, such as BTCUSDT, and publish its marks",
    ),
    "reduce_only_opened": FlagText(
        "an order that may only reduce has opened a position",
        "a trade of a reduce-only order was larger than the position or had none to reduce",
        "ask the venue; if a trade is wrong, it is taken back by TradeBusted. The flag is of this "
        "event, and the next event's state does not have it",
    ),
    "valuation_failed": FlagText(
        "the account's value does not compute; its figures are null",
        "a figure has more digits than any can have, mostly as a mark or quantity is absurd; cash "
        "and positions are not touched by it",
        "publish a right mark; if a trade is absurd, it is taken back by TradeBusted",
    ),
    "view_stale": FlagText(
        "the document lacks the last update of a key",
        "PostgreSQL cannot hold a row of the account, so the key keeps the row that it had; reads "
        "of the views give the flag, no update has it",
        "psm views status names key and column; after the next update that can be held, or after "
        "psm views retry, it is gone. Until then psm state --at-sequence folds the log",
    ),
}
"""By the flag as updates and documents carry it."""
