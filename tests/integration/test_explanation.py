"""Why a number is that number, on a real log: every tree adds up, to the published figure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from tests.support.events import deposit, event, fee, instrument, mark, opened, trade
from tests.support.leg_traffic import LegTraffic
from tests.support.market import Market
from tests.support.slots import even_slots
from tests.support.workbench import Bench, open_bench

from psm.contracts.errors import ConfigError
from psm.workers.explain.figures import TOTALS, VALUED, FigureExplanation, explain_field
from psm.workers.explain.tree import Node
from psm.workers.history.as_of import When, past_state
from psm.workers.history.timeline import NoSuchPlaceError, read_ledger
from psm.workers.log.shape import LogShape

PARTITIONS = 2
SHAPE = LogShape(partitions=PARTITIONS, slots=even_slots(20))


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url, partitions=PARTITIONS) as opened:
        yield opened


def nodes(node: Node) -> Iterator[Node]:
    """Yield a node and all below it."""
    yield node
    for child in node.children:
        yield from nodes(child)


def find(explanation: FigureExplanation, figure: str) -> Node:
    """Return the first node of a figure."""
    return next(node for node in nodes(explanation.tree) if node.figure == figure)


async def test_every_figure_of_a_random_account_adds_up(bench: Bench) -> None:
    """What is explained is what was published; sums are checked while the trees are built."""
    author = Market(seed=5, length=200, accounts=1).author()
    await bench.publish(author.sent)
    last = len((await read_ledger(bench.nc, SHAPE, "acc_000")).places)
    when = When(sequence=last - 5)
    past = await past_state(bench.nc, SHAPE, "acc_000", when)
    state = {**past.state, **past.margin}
    fields = [*VALUED, *TOTALS, *(f"cash.{c}" for c in state["cash"])]
    for field in fields:
        found = await explain_field(bench.nc, SHAPE, "acc_000", field, when)
        wanted = state["cash"][field[5:]] if field.startswith("cash.") else state[field]
        assert found.published == wanted, field
        assert found.ledger_hash == state["ledger_hash"]
        assert found.state_hash == state["state_hash"]
    for number, (symbol, position) in enumerate(state["positions"].items()):
        name = ("realized_pnl", "fees", "entry_price", "notional", "funding")[number % 5]
        path = f"positions.{symbol}.{name}"
        found = await explain_field(bench.nc, SHAPE, "acc_000", path, when)
        assert found.published == (position[name] if found.tree.value else None), path


async def test_equity_is_told_down_to_the_events(bench: Bench) -> None:
    """The tree of the example: cash from two events, a reduced long, the rest at the mark."""
    await bench.publish(
        instrument(1, kind="linear_perp"),
        deposit(1, "1000"),
        trade(2, "buy", "0.5", "42000", commission="2.1"),
        trade(3, "sell", "0.2", "42500", commission="0.85"),
        mark(1, "42500"),
    )
    found = await explain_field(bench.nc, SHAPE, "acc_001", "equity")
    assert (found.published, found.tree.arithmetic) == ("1247.05", "1097.05 + 150")
    cash = find(found, "cash.USDT")
    assert [(n.figure, n.value, n.arithmetic) for n in cash.children] == [
        ("event 1 CashDeposited", "1000", None),
        ("event 2 TradeExecuted", "-2.1", "0 - 2.1"),
        ("event 3 TradeExecuted", "99.15", "(0.2 x 42500 - 8400) - 0.85"),
    ]
    assert all(n.event_id and n.log_sequence for n in cash.children)
    gain = find(found, "positions.BTC-PERP.unrealized_pnl")
    assert gain.arithmetic == "1 x (0.3 x 42500 - 12600)"
    assert find(found, "positions.BTC-PERP.mark_price").rule == "mark 1 of BTC-PERP"
    size = find(found, "positions.BTC-PERP.size")
    assert [(n.value, n.arithmetic) for n in size.children] == [("0.5", "+0.5"), ("-0.2", "-0.2")]


async def test_short_is_told_mirrored(bench: Bench) -> None:
    await bench.publish(
        deposit(1, "1000"), trade(2, "sell", "2", "100"), trade(3, "buy", "3", "90"), mark(1, "95")
    )
    realized = await explain_field(bench.nc, SHAPE, "acc_001", "realized_pnl")
    (event,) = realized.tree.children
    assert (event.value, event.arithmetic) == ("20", "(200 - 2 x 90)")
    gain = await explain_field(bench.nc, SHAPE, "acc_001", "unrealized_pnl")
    assert gain.tree.children[0].arithmetic == "1 x (1 x 95 - 90)"


async def test_events_released_together_are_one_node(bench: Bench) -> None:
    await bench.publish(deposit(1, "10"), fee(3, "1"), fee(4, "2"), deposit(2, "5"))
    found = await explain_field(bench.nc, SHAPE, "acc_001", "cash.USDT")
    assert [(n.figure, n.value) for n in found.tree.children] == [
        ("event 1 CashDeposited", "10"),
        ("events 2 to 4", "2"),
    ]
    with pytest.raises(NoSuchPlaceError, match="folded together with those up to 4"):
        await explain_field(bench.nc, SHAPE, "acc_001", "cash.USDT", When(sequence=3))


async def test_unknown_field_names_those_there_are(bench: Bench) -> None:
    await bench.publish(deposit(1, "10"))
    with pytest.raises(ConfigError, match=r"happiness cannot be explained; choose equity, .*cash"):
        await explain_field(bench.nc, SHAPE, "acc_001", "happiness")


async def test_legs_and_wallets_are_explained(bench: Bench) -> None:
    """Margins leave out what has a wallet of its own, and a leg's sums are of its own events."""
    await bench.publish(*LegTraffic(3, 60).messages())
    past = await past_state(bench.nc, SHAPE, "acc_001", When(at="9999-12-31T23:59:59Z"))
    state = {**past.state, **past.margin}
    assert any(position["isolated_margin"] for position in state["positions"].values())
    paths = [f"positions.{key}.realized_pnl" for key in state["positions"]]
    for field in [*VALUED, *paths]:
        found = await explain_field(bench.nc, SHAPE, "acc_001", field)
        wanted = state.get(field)
        if field in paths:
            wanted = state["positions"][field.split(".")[1]]["realized_pnl"]
        assert found.published == wanted, field


async def test_a_short_at_a_price_below_zero_is_told(bench: Bench) -> None:
    """Its notional is a magnitude, and its net exposure above zero."""
    crude = {"base": "CL", "quote": "USD", "settle": "USD", "multiplier": "100"}
    await bench.publish(
        instrument(1, "CL", kind="linear_future", signed_price=True, **crude),
        opened(1, currency="USD"),
        deposit(2, "100000"),
        trade(3, "sell", "2", "-10", "CL", commission="1"),
        mark(1, "-13", "CL"),
    )
    net = await explain_field(bench.nc, SHAPE, "acc_001", "exposure_net")
    assert net.published == "2600"
    notional = find(net, "positions.CL.notional")
    assert (notional.value, notional.arithmetic) == ("2600", "100 x 2 x 13")
    gain = await explain_field(bench.nc, SHAPE, "acc_001", "positions.CL.unrealized_pnl")
    assert (gain.published, gain.tree.arithmetic) == ("600", "100 x ((-20) - 2 x (-13))")


async def test_the_mark_of_an_old_symbol_is_told(bench: Bench) -> None:
    """Until the new symbol has a mark, that of the old one values it."""
    old = {"symbol": "BTC-PERP", "new_symbol": "BTC-NEW"}
    await bench.publish(
        deposit(1, "1000"),
        trade(2, "buy", "1", "100"),
        mark(1, "110"),
        event("SymbolChanged", old, 3),
    )
    found = await explain_field(bench.nc, SHAPE, "acc_001", "equity")
    assert found.published == "1010"
    told = find(found, "positions.BTC-NEW.mark_price")
    assert told.rule == "mark 1 of the symbol that became BTC-NEW"


async def test_a_fee_in_another_coin_is_in_no_arithmetic_of_money(bench: Bench) -> None:
    """Each coin is told by what was paid in it; a total in the account's currency by no sum."""
    await bench.publish(
        instrument(1, "BNBUSDT", kind="spot", base="BNB"),
        mark(1, "300", "BNBUSDT"),
        deposit(1, "1000"),
        trade(2, "buy", "1", "100", commission="0.5", commission_currency="BNB"),
        trade(3, "sell", "1", "110", commission="0.5", commission_currency="BNB"),
    )
    wanted = {
        "cash.USDT": [("1000", None), ("10", "(1 x 110 - 100)")],
        "cash.BNB": [("-0.5", "0 - 0.5"), ("-0.5", "0 - 0.5")],
        "fees": [("150", None), ("150", None)],
    }
    for field, told in wanted.items():
        found = await explain_field(bench.nc, SHAPE, "acc_001", field)
        assert [(n.value, n.arithmetic) for n in found.tree.children] == told, field


async def test_exposure_of_an_option_is_told_by_what_it_is_on(bench: Bench) -> None:
    """Size, multiplier, mark of the underlying and delta; a past moment reads the same marks."""
    terms = {"underlying": "ABC", "right": "put", "strike": "50", "expiry": "2026-06-19T20:00:00Z"}
    await bench.publish(
        instrument(1, "PUT", kind="option", base="ABC", multiplier="100", option=terms),
        deposit(1, "1000"),
        trade(2, "buy", "2", "3", "PUT"),
        mark(1, "3", "PUT", delta="-0.4"),
        mark(1, "60", "ABC"),
    )
    found = await explain_field(bench.nc, SHAPE, "acc_001", "exposure_net")
    assert found.published == "-4800"
    exposure = find(found, "positions.PUT.exposure")
    assert exposure.arithmetic == "2 x 100 x 60 x (-0.4)"
    assert (await explain_field(bench.nc, SHAPE, "acc_001", "exposure_gross")).published == "4800"
