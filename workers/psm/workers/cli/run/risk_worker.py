"""`psm risk worker`: decide on orders, as many slots as the fleet has for it."""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import version
from typing import Any

from psm.adapters import telemetry
from psm.adapters.health import Readiness
from psm.adapters.jetstream.streams_apply import REQUIRED_FOR_RISK, check
from psm.risk.engine import Slot
from psm.risk.rulebook import SLOTS
from psm.workers.cli.shared.process import Process, process
from psm.workers.fleet import Fleet, NatsMembers, NatsProber, this_member
from psm.workers.fleet.live_reads import Owners
from psm.workers.ops.keys import made_signature
from psm.workers.process.canary import Canary
from psm.workers.process.config import Settings, load_settings
from psm.workers.process.garbage import look_seldom
from psm.workers.risk.door import Decisions, RiskDoor
from psm.workers.risk.feed import live_owners
from psm.workers.risk.inputs import SlotInputs
from psm.workers.risk.settings import SlotSettings
from psm.workers.risk.worker import RiskWorker

FLEET_GROUP = "risk"


def worker() -> int:
    """Decide on orders of `orders.command.*` and answer `psm.risk.check`.

    Any number may run; they share the slots. Runs until SIGINT or SIGTERM.
    """
    return asyncio.run(run(load_settings()))


async def run(settings: Settings, engine: type[Slot] = Slot) -> int:
    """Run a risk worker until it is told to stop; exit code 1 if a slot had to stop before.

    Args:
        settings: of this process.
        engine: the rules of decisions.
    """
    async with process(settings, "psm-risk") as own:
        await check(own.nc, settings, REQUIRED_FOR_RISK)
        me = this_member(version("portfolio-state-manager"), None)
        decisions = Decisions(own.nc)
        risk = _risk_worker(own, settings, me.id, decisions, engine)
        store = NatsMembers(own.nc, FLEET_GROUP)
        prober = NatsProber(own.nc, time.monotonic)
        fleet = Fleet(me, SLOTS, store, prober, risk, own.instruments.risk_metrics)
        risk.on_change(fleet.wake)
        await own.serve_health(_readiness(fleet, risk, await own.open_canary()))
        own.on_stop(fleet.leave)
        look_seldom()
        log = telemetry.get_logger()
        log.info("risk.started", member=me.id)
        await prober.listen(me.id)
        await store.listen(fleet.hear)
        await decisions.listen()
        running = asyncio.create_task(risk.run())
        running.add_done_callback(lambda _: fleet.leave())
        # The feed hears `psm.*.*`: on its connection a question would come twice, and the broker
        # lets it be answered once.
        asked = await own.open_connection("psm-risk-door")
        door = await RiskDoor(asked, risk.inputs, decisions).listen()
        try:
            await fleet.run()
        finally:
            await door.stop()
            risk.stop()
            await asyncio.wait([running])
        running.result()
        log.info("risk.stopped")
        return 1 if risk.failed else 0


def _risk_worker(
    own: Process, settings: Settings, owner: str, decisions: Decisions, engine: type[Slot]
) -> RiskWorker:
    made, owners = own.instruments, Owners(own.nc, NatsMembers(own.nc), settings.partitions)
    inputs = SlotInputs(
        own.nc, made_signature, made.metrics, made.risk_metrics, live_owners(owners)
    )
    return RiskWorker(
        own.nc,
        owner,
        inputs,
        slot_settings(settings),
        made.risk_metrics,
        decisions.answered,
        engine,
    )


def _readiness(fleet: Fleet, risk: RiskWorker, canary: Canary) -> Readiness:
    def readiness() -> tuple[bool, dict[str, Any]]:
        ready, detail = fleet.readiness()
        well, held = risk.readiness()
        log = canary.report().log
        slots = {"slots": detail["partitions"], "waiting": detail["waiting"]}
        return ready and well, {**held, **slots, "log": log, "members": detail["members"]}

    return readiness


def slot_settings(settings: Settings) -> SlotSettings:
    """Return what a slot's loop takes of the settings."""
    return SlotSettings(
        checkpoint_records=settings.risk_checkpoint_records,
        renew_s=float(settings.risk_renew_s),
    )
