"""What each venue's files become, from public records of the venues."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.support.importing import amounts, folded, owner_of, planned, read, record, written

from psm.workers.imports.reading import read_files

BOND = """<a>
  <Trade tradeID="1" assetCategory="BOND" symbol="B" currency="X" buySell="BUY" /></a>"""


def payloads(form: Any, venue: str, currency: str, *names: str) -> list[dict[str, Any]]:
    found = read(form, *(record(f"{venue}/{name}") for name in names))
    return [one.event["payload"] for one in planned(found, owner_of(venue, currency)).new]


def test_spot_fills_of_binance() -> None:
    """Side, commission and its asset; no rate is known for anything but the account's currency."""
    first, second = payloads("binance", "binance", "USDT", "trades.json")
    assert first == {
        "symbol": "NANOETH",
        "side": "buy",
        "quantity": "3",
        "price": "0.014481",
        "commission": "0.003",
        "commission_currency": "NANO",
        "order_id": "470859",
        "fill_id": "137423",
        "liquidity": "taker",
        "rates": {"ETH": None, "NANO": None},
    }
    assert (second["side"], second["liquidity"], second["commission"]) == (
        "sell",
        "maker",
        "0.00002241",
    )


def test_a_price_in_the_accounts_currency_is_a_rate() -> None:
    """A pair quoted in the account's currency states what its base was worth."""
    first, _ = payloads("binance", "binance", "ETH", "trades.json")
    assert first["rates"] == {"NANO": "0.014481"}


def test_money_of_binance_in_and_out() -> None:
    """What was not completed moves nothing; a fee on top is a fee; old answers have no id."""
    names = ("deposits.json", "withdrawals.json", "distributions.json")
    found = read("binance", *(record(f"binance/{name}") for name in names))
    assert amounts(planned(found, owner_of("binance", "USDT"))) == [
        ("InterestAccrued", "10"),
        ("InterestAccrued", "10"),
        ("CashWithdrawn", "0.0015"),
        ("FeeCharged", "0.0004"),
        ("CashWithdrawn", "8.91"),
        ("FeeCharged", "0.004"),
        ("CashDeposited", "0.5"),
        ("CashDeposited", "0.009998"),
    ]
    assert dict(found.skipped) == {"withdrawal that is not completed": 1}


def test_futures_of_binance() -> None:
    """A contract is not the spot pair of its name; the income history does not repeat fills."""
    found = read("binance", record("binance/futures_trades.json"), record("binance/income.json"))
    steps = planned(found, owner_of("binance", "USDT"))
    mode, fill, transfer, funding = (one.event["payload"] for one in steps.new)
    assert mode == {"mode": "hedge", "symbol": "BTCUSDT-PERP"}
    assert (fill["symbol"], fill["position_side"]) == ("BTCUSDT-PERP", "short")
    assert fill["commission"] == "-0.0781901"
    assert transfer == {"currency": "USDT", "reference": "9689322392", "amount": "0.375"}
    assert (funding["symbol"], funding["funding_payment"]) == ("BTCUSDT-PERP", "-0.00134317")
    assert sum(found.skipped.values()) == 1
    assert found.instruments["BTCUSDT-PERP"].kind == "linear_perp"


def test_a_spot_account_agrees(tmp_path: Path) -> None:
    """A pair moves its assets, fees in the coin bought included; balances are the venue's."""
    fill = {"symbol": "BTCUSDT", "id": 1, "orderId": 2, "price": "50000", "qty": "0.01"}
    fill |= {"commission": "0.00001", "commissionAsset": "BTC", "isBuyer": True, "isMaker": False}
    deposit = {"amount": "1000", "coin": "USDT", "status": 1, "txId": "t", "insertTime": 1}
    balances = [
        {"asset": "USDT", "free": "400", "locked": "100"},
        {"asset": "BTC", "free": "0.00999", "locked": "0"},
        {"asset": "ETH", "free": "0", "locked": "0"},
    ]
    paths = (
        written(tmp_path, "fills.json", [{**fill, "time": 5}]),
        written(tmp_path, "deposits.json", [deposit]),
        written(tmp_path, "account.json", {"balances": balances, "updateTime": 9, "uid": 4711}),
    )
    found = read("binance", *paths)
    log, compared = folded(found, owner_of("binance", "USDT"))
    assert (compared.matches, compared.differences) == (True, [])
    assert log.state("acc")["positions"] == {}


def test_legs_of_hedge_mode_agree(tmp_path: Path) -> None:
    """Fills of both legs, bought and sold in turns, end in the positions that the venue has."""
    fills = []
    for number, (side, leg, size) in enumerate(
        [("BUY", "LONG", "2"), ("SELL", "SHORT", "3"), ("SELL", "LONG", "1"), ("BUY", "SHORT", "1")]
    ):
        fill = {"symbol": "BTCUSDT", "id": number, "orderId": number, "side": side, "qty": size}
        fill |= {"price": "100", "realizedPnl": "0", "commission": "0", "commissionAsset": "USDT"}
        fills.append({**fill, "time": number, "positionSide": leg, "maker": False})
    held = {"symbol": "BTCUSDT", "entryPrice": "100"}
    positions = [
        {**held, "positionSide": "LONG", "positionAmt": "1"},
        {**held, "positionSide": "SHORT", "positionAmt": "-2"},
    ]
    paths = (written(tmp_path, "a.json", fills), written(tmp_path, "b.json", positions))
    found = read("binance", *paths)
    _, compared = folded(found, owner_of("binance", "USDT"))
    assert compared.compared == [f"positions.BTCUSDT-PERP#{leg}" for leg in ("long", "short")]
    assert (compared.matches, compared.differences) == (True, [])


def test_conversions_and_dust_of_binance(tmp_path: Path) -> None:
    """Swept amounts are exchanges with a charge; what they sum up to is the venue's own total."""
    swept = payloads("binance", "binance", "USDT", "dust.json")
    assert swept[0] == {
        "from": "ETH",
        "from_amount": "0.0009",
        "to": "BNB",
        "to_amount": "0.00088156",
        "fee": "0.00001799",
        "fee_currency": "BNB",
        "reference": "4359321:ETH",
        "rates": {"BNB": None, "ETH": None},
    }
    assert sum(Decimal(one["to_amount"]) for one in swept[:2]) == Decimal("0.00132256")
    done = {"orderId": 9, "orderStatus": "SUCCESS", "fromAsset": "USDT", "fromAmount": "20"}
    done |= {"toAsset": "BNB", "toAmount": "0.06154036", "createTime": 1624248872184}
    file = written(tmp_path, "convert.json", {"list": [done, {**done, "orderStatus": "FAIL"}]})
    (one,) = planned(read("binance", file), owner_of("binance", "USDT")).new
    assert one.event["payload"]["rates"] == {"BNB": None}
    assert (one.event["payload"]["to"], one.event["payload"]["from_amount"]) == ("BNB", "20")


def test_executions_of_bybit() -> None:
    """Funding among the executions is what the account paid, not a fill."""
    fill, funding = payloads("bybit", "bybit", "USDT", "executions.json")
    assert (fill["symbol"], fill["quantity"], fill["commission"]) == (
        "BTCUSDT-PERP",
        "0.093",
        "0.015",
    )
    assert funding == {
        "symbol": "BTCUSDT-PERP",
        "funding_payment": "-0.7506234",
        "funding_rate": "0.0001",
        "currency": "USDT",
        "reference": "7d3328ca-604f-4335-b9cb-d63826563800",
    }


def test_funding_of_bybit_in_both_histories_is_one(tmp_path: Path) -> None:
    """The transaction log tells funding again, under the id that the execution has."""
    log = {
        "id": "1",
        "symbol": "BTCUSDT",
        "side": "Buy",
        "funding": "-0.7506234",
        "fee": "0",
        "change": "-0.7506234",
        "cashFlow": "0",
        "transactionTime": "1788508800000",
        "type": "SETTLEMENT",
        "feeRate": "0.0001",
        "cashBalance": "99.2493766",
        "currency": "USDT",
        "category": "linear",
        "tradeId": "7d3328ca-604f-4335-b9cb-d63826563800",
    }
    second = written(tmp_path, "log.json", {"retCode": 0, "result": {"list": [log]}, "time": 1})
    found = read("bybit", record("bybit/executions.json"), second)
    steps = planned(found, owner_of("bybit", "USDT"))
    assert (len(steps.new), steps.repeated) == (2, 1)


def test_fills_of_hyperliquid() -> None:
    """A builder's share is in the fee; liquidations are told apart; contracts have their names."""
    fills = payloads("hyperliquid", "hyperliquid", "USDC", "fills.json")
    assert [fill["execution"] for fill in fills] == [
        "trade", "liquidation", "trade", "liquidation", "trade"
    ]  # fmt: skip
    assert fills[0]["commission"] == "0.01361"
    assert fills[2]["symbol"] == "flx:CRCL-PERP"
    assert fills[2]["rates"] == {"USDH": None}


def test_ledger_of_hyperliquid(tmp_path: Path) -> None:
    """Deposits, withdrawals with their fee, transfers by direction; between own wallets nothing."""
    me, other = "0xAbc0000000000000000000000000000000000001", "0x" + "b" * 40
    rows = [
        {"type": "deposit", "usdc": "100.0"},
        {"type": "accountClassTransfer", "usdc": "10", "toPerp": True},
        {"type": "withdraw", "usdc": "20.0", "nonce": 1, "fee": "1.0"},
        {"type": "internalTransfer", "usdc": "5", "user": other, "destination": me, "fee": "1"},
        {
            "type": "spotTransfer", "token": "PURR", "amount": "3", "usdcValue": "1", "user": me,
            "destination": other, "fee": "0.5", "feeToken": "USDC",
        },
    ]  # fmt: skip
    ledger = [{"time": 1000 + n, "hash": f"0x{n}", "delta": row} for n, row in enumerate(rows)]
    file = written(tmp_path, "ledger.json", ledger)
    found = read_files("hyperliquid", [file], None, me)
    steps = planned(found, owner_of("hyperliquid", "USDC"))
    assert amounts(steps) == [
        ("CashDeposited", "100"),
        ("CashWithdrawn", "20"),
        ("FeeCharged", "1"),
        ("CashDeposited", "5"),
        ("CashWithdrawn", "3"),
        ("FeeCharged", "0.5"),
    ]
    assert steps.new[4].event["payload"]["rates"] == {"PURR": None}
    (error,) = read_files("hyperliquid", [file], None).errors[:1]
    assert "--venue-account" in str(error)


def test_fills_of_one_moment_follow_the_position(tmp_path: Path) -> None:
    """Fills with one time are ordered by where the position stood before each of them."""
    sizes = [("3", "A", "2.5", 9), ("0", "B", "1", 5), ("4", "A", "1", 1), ("1", "B", "3", 7)]
    rows = [
        {
            "coin": "BTC", "px": "1", "sz": size, "side": side, "time": 5, "startPosition": start,
            "hash": "0x", "oid": 1, "crossed": True, "fee": "0", "tid": tid, "feeToken": "USDC",
        }
        for start, side, size, tid in sizes
    ]  # fmt: skip
    found = read("hyperliquid", written(tmp_path, "fills.json", rows))
    steps = planned(found, owner_of("hyperliquid", "USDC"))
    assert [one.event["payload"]["fill_id"] for one in steps.new] == ["5", "7", "1", "9"]


def test_a_year_at_interactive_brokers() -> None:
    """Commissions are costs, a date is midnight in New York, and no name is read."""
    deposit, bought, sold, interest, dividend = payloads(
        "interactive-brokers", "interactive_brokers", "USD", "year.xml"
    )
    assert deposit == {"currency": "USD", "amount": "5000"}
    assert (bought["commission"], bought["fill_id"], bought["quantity"]) == ("1", "1001", "10")
    assert (sold["side"], sold["quantity"]) == ("sell", "5")
    assert interest == {"currency": "USD", "amount": "25.5"}
    assert dividend == {"currency": "USD", "symbol": "MSFT", "amount": "50"}


def test_more_of_interactive_brokers(tmp_path: Path) -> None:
    """Rates to base, sums left out, a cancelled trade, taxes, a split, a future's multiplier."""
    rows = """
    <Trade accountId="U1" assetCategory="FUT" symbol="ESH5" underlyingSymbol="ES" multiplier="50"
      currency="USD" fxRateToBase="0.9" tradeID="1" ibOrderID="11" dateTime="20250115;103000"
      quantity="2" tradePrice="5900.25" taxes="-1" ibCommission="-4.5" ibCommissionCurrency="USD"
      buySell="BUY" levelOfDetail="EXECUTION" />
    <Trade accountId="U1" assetCategory="FUT" symbol="ESH5" underlyingSymbol="ES" multiplier="50"
      currency="USD" dateTime="20250115;103000" quantity="2" tradePrice="5900.25" buySell="BUY"
      levelOfDetail="ORDER" />
    <Trade accountId="U1" assetCategory="FUT" symbol="ESH5" underlyingSymbol="ES" multiplier="50"
      currency="USD" tradeID="2" origTradeID="1" dateTime="20250115;110000" quantity="-2"
      tradePrice="5900.25" buySell="BUY (Ca.)" levelOfDetail="EXECUTION" />
    <CashTransaction accountId="U1" currency="USD" fxRateToBase="0.9" symbol="AAPL"
      dateTime="20250116;020000" amount="-1,218.75" type="Withholding Tax" transactionID="9" />
    <CorporateAction accountId="U1" currency="USD" assetCategory="STK" symbol="IBKR" type="FS"
      dateTime="2025-06-17;202500" quantity="6" transactionID="7"
      actionDescription="IBKR(US45841N1072) SPLIT 4 FOR 1 (IBKR, A NAME, US45841N1072)" />
    """
    file = written(tmp_path, "a.xml", f"<FlexStatements>{rows}</FlexStatements>")
    found = read("interactive-brokers", file)
    steps = planned(found, owner_of("interactive_brokers", "EUR"))
    fill, busted, tax, split = (one.event["payload"] for one in steps.new)
    assert (fill["commission"], fill["rates"]) == ("5.5", {"USD": "0.9"})
    assert found.instruments["ESH5"].multiplier == 50
    assert (busted["fill_id"], busted["side"]) == ("1", "buy")
    assert (tax["amount"], tax["kind"], tax["rates"]) == ("1218.75", "withholding", {"USD": "0.9"})
    assert (split["numerator"], split["denominator"]) == ("4", "1")
    assert steps.new[0].event["timestamp"] == "2025-01-15T15:30:00Z"


def test_options_of_interactive_brokers(tmp_path: Path) -> None:
    """An assigned option is closed at nothing, as the broker books it; its terms are told."""
    row = """<Trade accountId="U1" currency="USD" fxRateToBase="1" assetCategory="OPT"
      symbol="VXX   110917C00005000" underlyingSymbol="VXX" multiplier="100" strike="5"
      expiry="2011-09-17" putCall="C" tradeID="594763148" tradeDate="2011-08-11"
      tradeTime="162000" transactionType="BookTrade" quantity="3" tradePrice="0" taxes="0"
      ibCommission="0" ibCommissionCurrency="USD" notes="A" transactionID="2381339439"
      buySell="BUY" ibOrderID="2381339439" levelOfDetail="EXECUTION" />"""
    found = read("interactive-brokers", written(tmp_path, "a.xml", f"<Trades>{row}</Trades>"))
    (one,) = planned(found, owner_of("interactive_brokers", "USD")).new
    assert (one.event["payload"]["price"], one.event["payload"]["quantity"]) == ("0", "3")
    assert one.event["timestamp"] == "2011-08-11T20:20:00Z"
    instrument = found.instruments["VXX   110917C00005000"]
    assert (instrument.kind, instrument.base, instrument.multiplier) == (
        "option",
        "VXX",
        Decimal(100),
    )
    assert instrument.more["option"] == {
        "underlying": "VXX",
        "right": "call",
        "strike": "5",
        "expiry": "2011-09-17T04:00:00Z",
        "style": "american",
        "settlement": "physical",
    }


@pytest.mark.parametrize(
    ("form", "text", "said"),
    [
        ("binance", '[{"id": 1}]', "a:1:2: is none of the records that can be imported"),
        ("binance", '{"a": ', "a:1:7: no JSON"),
        ("binance", "[NaN]", "no JSON that can be read"),
        ("bybit", '{"retCode": 10004, "result": {}}', "retCode: the venue refused"),
        ("interactive-brokers", "<a>\n <b></a>", "a:2:7: no XML: mismatched tag"),
        (
            "interactive-brokers",
            '<!DOCTYPE a [<!ENTITY e "x">]>\n<a>&e;</a>',
            "declares a document type",
        ),
        (
            "interactive-brokers",
            BOND,
            "a:2:3: assetCategory: BOND is no kind that can be imported",
        ),
        (
            "hyperliquid",
            '[\n {"time": 1, "hash": "0x", "delta": {"type": "novel"}}]',
            "a:2:2: delta: novel is no movement that can be imported",
        ),
    ],
)
def test_what_cannot_be_imported_is_named(tmp_path: Path, form: Any, text: str, said: str) -> None:
    """File, line, column and field of what is wrong, and what it is."""
    path = written(tmp_path, "a", text)
    (error,) = read_files(form, [path], None).errors
    assert said in str(error).replace(str(tmp_path) + "/", "")


def test_a_real_account_of_hyperliquid_reconciles() -> None:
    """What the venue tells with each fill names the history that is missing."""
    found = read("hyperliquid", record("hyperliquid/fills.json"))
    _, compared = folded(found, owner_of("hyperliquid", "USDC"))
    assert compared.matches is False
    told = {d.what: (d.reported, d.expected, d.cause) for d in compared.differences}
    before = "were there before the first record of these files"
    assert told == {
        "positions.HYPE-PERP.size": ("0.73", "-5.47", f"6.2 {before}"),
        "positions.flx:CRCL-PERP.size": ("0", "-0.13", f"0.13 {before}"),
    }
