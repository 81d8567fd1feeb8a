"""What runs in `psm risk worker`: the slots that are this process's share, on shared inputs."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from nats.aio.client import Client

from psm.adapters.logs import get_logger
from psm.adapters.risk_metrics import RiskMetrics
from psm.adapters.tasks import BackOff, end_all
from psm.contracts.errors import PSMError
from psm.risk.engine import Slot
from psm.workers.fleet.keeper import End, Keeper, Keepers
from psm.workers.risk.inputs import SlotInputs
from psm.workers.risk.loop import SlotLoop
from psm.workers.risk.ports import Answered
from psm.workers.risk.settings import SlotSettings
from psm.workers.risk.store import RiskStore

_DRAIN_S = 20.0
_LOOK_S = 2.0
_NS = 1e9
_log = get_logger()


class SlotKeeper(Keeper[SlotLoop]):
    """One slot of a worker."""

    def tell(self, end: End, error: Exception) -> None:
        """Write to the process's log how a try ended."""
        number, detail = self.number, str(error)
        match end:
            case "fenced":
                _log.warning("slot.fenced", slot=number, detail=detail)
            case "interrupted":
                _log.warning("slot.interrupted", slot=number, detail=detail)
            case "stopped":
                _log.critical("slot.stopped", slot=number, detail=detail)
            case "failed":
                _log.critical("slot.failed", slot=number, exc_info=error)


class RiskWorker(Keepers[SlotKeeper]):
    """Runs slots on one connection; `Runner` of a fleet.

    Attributes:
        inputs: of all of them.
        failure: why no slot can run any more; None while they can.
    """

    def __init__(
        self,
        nc: Client,
        owner: str,
        inputs: SlotInputs,
        settings: SlotSettings,
        metrics: RiskMetrics,
        answered: Answered = lambda _sequence, _decision: None,
        engine: type[Slot] = Slot,
    ) -> None:
        """Nothing runs yet.

        Args:
            nc: connection.
            owner: name of this process in owner records.
            inputs: of all slots.
            settings: of the slots.
            metrics: where counts of decisions go.
            answered: told of each decision, once it is stored.
            engine: the rules of a slot's state.
        """
        super().__init__(self._keeper)
        self.inputs = inputs
        self.failure: str | None = None
        self._nc = nc
        self._owner = owner
        self._settings = settings
        self._metrics = metrics
        self._answered = answered
        self._engine = engine
        self._told_to_stop = asyncio.Event()

    async def run(self) -> None:
        """Run until `stop` is called.

        Raises:
            PSMError: an input cannot be read any more; no slot can go on without it.
        """
        reading = asyncio.create_task(self.inputs.run())
        stopping = asyncio.create_task(self._told_to_stop.wait())
        looking = asyncio.create_task(self._look())
        try:
            await asyncio.wait([stopping, reading], return_when=asyncio.FIRST_COMPLETED)
            super().stop()
            if not reading.done() and (late := await self.drained(_DRAIN_S)):
                _log.warning("risk.drain_timed_out", slots=late, seconds=_DRAIN_S)
            if reading.done():
                reading.result()
        except PSMError as error:
            self.failure = str(error)
            raise
        finally:
            await end_all((*self.tasks(), stopping, looking, reading))

    def stop(self) -> None:
        """Store what is decided, save checkpoints, end."""
        self._told_to_stop.set()

    # --- how it is ------------------------------------------------------------------------------

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Return whether every slot here takes commands, and what is not as it should be."""
        held = self.items()
        states = Counter(keeper.state for _, keeper in held)
        detail = {
            "slots": len(held),
            "live": states["live"],
            "recovering": [number for number, keeper in held if keeper.state == "recovering"],
            "stopped": {str(n): keeper.failure for n, keeper in held if keeper.failure},
            "rulebook": self.inputs.rulebook.sequence,
            "unknown_accounts": self.inputs.unknown_members(),
            "connected": self._nc.is_connected,
        }
        ready = self._nc.is_connected and self.inputs.ready.is_set()
        return ready and states["live"] == len(held), detail

    async def _look(self) -> None:
        while True:
            now = time.time()
            held = [keeper for _, keeper in self.items()]
            states = Counter(str(keeper.state) for keeper in held)
            renewed = [k.running.stats.renewed_at for k in held if k.running is not None]
            oldest = max((now - at / _NS for at in renewed if at), default=0.0)
            self._metrics.slots(states, oldest, self.inputs.unknown_members())
            clusters = self.inputs.rulebook.clusters
            if clusters is not None:
                day = datetime.fromisoformat(clusters.as_of_day).replace(tzinfo=UTC)
                self._metrics.clusters(now - (day + timedelta(days=1)).timestamp())
            await asyncio.sleep(_LOOK_S)

    def _keeper(self, number: int, back_off: BackOff) -> SlotKeeper:
        return SlotKeeper(number, self._loop, self._metrics.fenced, back_off, steps_down=True)

    def _loop(self, number: int) -> SlotLoop:
        store = RiskStore(self._nc, number)
        return SlotLoop(
            number,
            self._owner,
            store,
            self.inputs,
            self._settings,
            self._metrics,
            self._answered,
            self._engine,
        )
