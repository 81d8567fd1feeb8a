"""From a tick to a position: six services in six processes, every decision recorded.

    python examples/strategy_chain.py --url nats://127.0.0.1:4222

Market data, strategy, risk, execution, venue and booking each follow the one before, and each names
the event that caused its own. So the whole story of a trade hangs on one correlation id, which is
printed at the end. Needs nats-py and psm.contracts only, and the streams of PSM (`psm up`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import nats
from nats.aio.client import Client
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from psm.contracts import EventFactory, Publisher, Side
from psm.contracts.factory import NewEvent

SYMBOL = "BTCUSDT"
MAX_NOTIONAL = Decimal(50_000)
MIN_CONFIDENCE = Decimal("0.5")
WAIT_S = 30.0


class Service:
    """One service: what it follows, and what it makes of it.

    Attributes:
        nc: its connection.
        account: for which it trades.
        make: its factory.
    """

    def __init__(self, nc: Client, role: str, account: str) -> None:
        self.nc = nc
        self.account = account
        self.make = EventFactory(role, "1.0.0", publisher=Publisher(nc))

    async def publish(self, event: NewEvent) -> NewEvent:
        """Publish and tell the parent process."""
        await self.make.publish(event)
        print(json.dumps(event.to_dict()), flush=True)
        return event


async def market(service: Service, _: dict[str, Any]) -> None:
    """Publish one tick."""
    await service.publish(
        service.make.create_market_data(symbol=SYMBOL, price=43250.5, bid=43250.0, ask=43251.0)
    )


async def strategy(service: Service, tick: dict[str, Any]) -> None:
    """See a breakout in every tick."""
    await service.publish(
        service.make.caused_by(tick).create_signal(
            symbol=SYMBOL,
            side=Side.BUY,
            confidence=0.82,
            reason="price broke out above the 20-period high",
            price=tick["payload"]["price"],
            quantity="0.5",
            strategy_params={"window": 20, "threshold": 1.5},
        )
    )


async def risk(service: Service, signal: dict[str, Any]) -> None:
    """Check the size of the trade against a limit, on the state that PSM knows."""
    wanted = signal["payload"]
    notional = Decimal(wanted["quantity"]) * Decimal(wanted["price"])
    state = await known_state(service)
    checks = [
        {
            "name": "max_notional",
            "value": notional,
            "limit": MAX_NOTIONAL,
            "passed": notional <= MAX_NOTIONAL,
        },
        {
            "name": "min_confidence",
            "value": wanted["confidence"],
            "limit": MIN_CONFIDENCE,
            "passed": Decimal(wanted["confidence"]) >= MIN_CONFIDENCE,
        },
    ]
    passed = all(check["passed"] for check in checks)
    await service.publish(
        service.make.caused_by(signal).create_risk_decision(
            account_id=service.account,
            decision="approved" if passed else "rejected",
            reason="within limits" if passed else "a limit is exceeded",
            checks=checks,
            symbol=SYMBOL,
            side=wanted["side"],
            quantity=wanted["quantity"],
            price=wanted["price"],
            risk_state=state,
        )
    )


async def execution(service: Service, decision: dict[str, Any]) -> None:
    """Send the order that risk approved."""
    allowed = decision["payload"]
    if allowed["decision"] != "approved":
        return
    await service.publish(
        service.make.caused_by(decision).create_order_request(
            account_id=service.account,
            order_id=f"o-{decision['event_id'][-12:]}",
            symbol=SYMBOL,
            side=allowed["side"],
            quantity=allowed["quantity"],
            order_type="limit",
            price=allowed["price"],
        )
    )


async def venue(service: Service, request: dict[str, Any]) -> None:
    """Fill the order, and report the fill to PSM's log."""
    order = request["payload"]
    result = await service.publish(
        service.make.caused_by(request).create_order_result(
            order_id=order["order_id"],
            status="filled",
            account_id=service.account,
            symbol=SYMBOL,
            filled_quantity=order["quantity"],
            average_price=order["price"],
            fill_id=f"f-{order['order_id']}",
            exchange="example",
        )
    )
    fill = {
        "symbol": SYMBOL,
        "side": order["side"],
        "quantity": order["quantity"],
        "price": order["price"],
        "commission": "8.65",
        "fill_id": f"f-{order['order_id']}",
    }
    await service.publish(
        service.make.caused_by(result).create_event("TradeExecuted", service.account, fill)
    )


async def booking(service: Service, trade: dict[str, Any]) -> None:
    """Record what the fill did to the position."""
    fill = trade["payload"]
    await service.publish(
        service.make.caused_by(trade).create_position_update(
            account_id=service.account,
            order_id=fill["fill_id"].removeprefix("f-"),
            symbol=SYMBOL,
            side="long",
            size=fill["quantity"],
            fill_price=fill["price"],
            fill_id=fill["fill_id"],
        )
    )


async def known_state(service: Service) -> dict[str, Any] | None:
    """Ask PSM for the account, whose hashes prove what the decision was based on."""
    try:
        answer = await service.nc.request("psm.get.state", service.account.encode(), timeout=2)
    except (NoRespondersError, NatsTimeoutError):
        return None
    return None if "Nats-Service-Error" in (answer.headers or {}) else json.loads(answer.data)


Work = Callable[[Service, dict[str, Any]], Awaitable[None]]
ROLES: dict[str, tuple[str | None, Work]] = {
    "booking": ("trades.{account}", booking),
    "venue": ("orders.command.{account}", venue),
    "execution": ("risk.decision.{account}", execution),
    "risk": (f"signals.strategy.*.{SYMBOL}", risk),
    "strategy": (f"marketdata.ticker.{SYMBOL}", strategy),
    "market": (None, market),
}
"""What each role follows, the last of the chain first."""


async def play(role: str, url: str, account: str) -> None:
    """Be one service, until the parent process ends it."""
    follows, work = ROLES[role]
    nc = await nats.connect(url)
    service = Service(nc, role, account)
    if follows is None:
        await work(service, {})
        await nc.close()
        return
    subscription = await nc.subscribe(follows.format(account=account))
    await nc.flush()
    print("ready", flush=True)
    async for message in subscription.messages:
        await work(service, json.loads(message.data))


async def stage(url: str, account: str) -> int:
    """Start every service, the tick last, and print the chain as it grows."""
    running: list[Process] = []
    story: list[dict[str, Any]] = []
    try:
        for role in ROLES:
            options = ("--url", url, "--account", account, "--role", role)
            process = await asyncio.create_subprocess_exec(
                sys.executable, __file__, *options, stdout=PIPE
            )
            running.append(process)
            if role != "market":
                assert process.stdout is not None
                await asyncio.wait_for(process.stdout.readline(), WAIT_S)
        for process in reversed(running):
            assert process.stdout is not None
            for _ in range(2 if process is running[1] else 1):  # the venue makes two events
                line = await asyncio.wait_for(process.stdout.readline(), WAIT_S)
                story.append(json.loads(line))
                show(story[-1])
    finally:
        for process in running:
            if process.returncode is None:
                process.terminate()
            await process.wait()
    print(f"\ncorrelation id: {story[0]['correlation_id']}")
    return 0


def show(event: dict[str, Any]) -> None:
    """Print one event of the chain."""
    cause = event.get("causation_id", "nothing before it")
    source, kind = event["source_service"], event["event_type"]
    print(f"{source:10} {kind:17} {event['event_id']}  caused by {cause}", flush=True)


def main() -> int:
    """Stage the chain, or with --role be one of its services."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--url", default="nats://127.0.0.1:4222")
    parser.add_argument("--account", default="acc_001")
    parser.add_argument("--role", choices=ROLES)
    options = parser.parse_args()
    if options.role is None:
        return asyncio.run(stage(options.url, options.account))
    asyncio.run(play(options.role, options.url, options.account))
    return 0


if __name__ == "__main__":
    sys.exit(main())
