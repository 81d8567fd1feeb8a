"""A slot's loop: take the owner record, recover, take inputs, decide, store, renew.

Inputs are taken at once and change the slot's state; what it says is stored in order, one write in
flight. Nobody hears of a record before it is stored. When a write is not acknowledged the state is
ahead of what is stored, so it is dropped: the owner record is taken again, and what is stored
decides from where it goes on. So each command has one decision, whatever dies when.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from psm.adapters.logs import get_logger
from psm.adapters.risk_metrics import RiskMetrics
from psm.adapters.tracing import child_span
from psm.contracts.errors import FencedError
from psm.risk.engine import Slot
from psm.risk.engine.results import OrderEnd, read_end
from psm.risk.messages import RiskOutput, Stored
from psm.risk.rulebook import Rulebook
from psm.workers.process.crash_points import crash_point
from psm.workers.risk.delivered import Delivered, take_delivered
from psm.workers.risk.orders_log import account_of, is_end
from psm.workers.risk.outbox import Outbox, Renewal, Waiting
from psm.workers.risk.owner import OwnerRecord, with_checkpoint
from psm.workers.risk.ports import Answered, Inputs, stored_of, until_needed
from psm.workers.risk.settings import SlotSettings, SlotStats
from psm.workers.risk.store import NotStoredError, Owned, RiskStore

_COUNT_S = 0.002
_log = get_logger()


class SlotLoop:
    """Runs one slot until it is stopped or fenced. Not reusable.

    Attributes:
        number: of the slot.
        stats: how it is.
        commands_from: the first sequence of ORDERS that it has not decided.
    """

    def __init__(
        self,
        number: int,
        owner: str,
        store: RiskStore,
        inputs: Inputs,
        settings: SlotSettings,
        metrics: RiskMetrics,
        answered: Answered = lambda _sequence, _decision: None,
        engine: type[Slot] = Slot,
    ) -> None:
        """Nothing is read or written yet.

        Args:
            number: of the slot.
            owner: name of this process in the owner record.
            store: the slot's records.
            inputs: delivers once attached.
            settings: of the loop.
            metrics: where counts go.
            answered: told of each decision.
            engine: the rules of the slot's state.
        """
        self.number = number
        self.stats = SlotStats()
        self.commands_from = 1
        self._owner = owner
        self._store = store
        self._inputs = inputs
        self._settings = settings
        self._metrics = metrics
        self._answered = answered
        self._engine = engine
        self._slot = engine(number)
        self._outbox = Outbox()
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._failure: Exception | None = None

    def stop(self) -> None:
        """Store what is decided, save a checkpoint and end."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Own the slot and decide until stopped.

        Raises:
            FencedError: another process owns the slot.
            LogDamagedError: records, or the owner record, are gone.
            TransientError: the broker does not answer while recovering.
        """
        self.stats.live = True
        if not await until_needed(self._inputs, self.number, self._stopping):
            return
        self.stats.live = False
        while True:
            await self._take_over()
            try:
                self._inputs.attach(self)
                await self._serve()
            except NotStoredError as error:
                _log.warning("slot.not_stored", slot=self.number, detail=str(error))
                self._metrics.not_stored()
            else:
                return
            finally:
                self._inputs.detach(self)
                self.stats.live = False
                self._outbox.clear()

    # --- owning and recovering ------------------------------------------------------------------

    async def _take_over(self) -> None:
        """Take the owner record, then read what was stored before it."""
        started = time.monotonic()
        owned = await self._own()
        crash_point("risk.after_owner_record")
        self.stats.takeovers += 1
        await self._store.remember(owned.record)
        at, checkpoint = await self._store.checkpoint(owned)
        slot = self._engine.restored(checkpoint)
        records = await self._store.recorded(at)
        for record in records:
            slot.take_recorded(stored_of(record))
        self._slot = slot
        self._outbox.restart(len(records), owned.record.orders)
        self.commands_from = max(owned.record.orders, slot.consumed.get("ORDERS", 0)) + 1
        self.stats.position = self.commands_from - 1
        self.stats.renewed_at = self._store.checkpoint_time
        # A halt is appended before it fences: whoever owns behind the fence must know of it.
        await self._inputs.rules_as_led()
        crash_point("risk.after_recovery")
        seconds = time.monotonic() - started
        self._metrics.taken_over(seconds)
        _log.info(
            "slot.acquired",
            slot=self.number,
            owner_record=self._store.fence,
            n=slot.n,
            records=len(records),
            orders=self.commands_from - 1,
            seconds=round(seconds, 3),
        )

    async def _own(self) -> Owned:
        """Put an owner record of this process behind the newest one.

        Raises:
            FencedError: another process took the slot since this one had it.
        """
        newest = await self._store.newest()
        ours = newest is None or self._store.fence in {0, newest.sequence}
        while True:
            if newest is not None and not ours and newest.record.reason != "fence":
                raise FencedError(f"slot {self.number}: {newest.record.owner} owns it")
            try:
                return await self._own_behind(newest)
            except FencedError:  # by a halt, perhaps
                newest, ours = await self._store.newest(), False

    async def _own_behind(self, newest: Owned | None) -> Owned:
        if newest is None:
            first = await self._inputs.first_command(self.number) or 1
            slot = self._engine(self.number)
            slot.begin(first - 1)
            record, parts = self._checkpointed(slot, "takeover", first - 1)
            await self._store.own(record, parts, 0)
        else:
            record = newest.record.following(self._owner, "takeover", newest.sequence)
            await self._store.own(record, (), newest.sequence)
        return Owned(sequence=self._store.fence, record=record)

    def _checkpointed(
        self, slot: Slot, reason: str, orders: int
    ) -> tuple[OwnerRecord, list[bytes]]:
        return with_checkpoint(
            slot=self.number,
            owner=self._owner,
            reason="takeover" if reason == "takeover" else "renewal",
            orders=orders,
            n=slot.n,
            previous=slot.previous,
            checkpoint=slot.checkpoint(),
        )

    # --- inputs, from the one task that reads them all ------------------------------------------

    def members(self) -> tuple[str, ...]:
        """Return the accounts that must be fed."""
        return self._slot.members()

    def take_rulebook(self, rulebook: Rulebook, at: int) -> None:
        """Take the rulebook as it stands."""
        self._guarded(lambda: self._slot.take_rulebook(rulebook, at))

    def awaits(self, account_id: str) -> bool:
        """Return whether it waits for what another group remembered of an account."""
        return self._slot.awaits(account_id)

    def take_release(self, release: Stored) -> None:
        """Take what another group remembered of an account that came."""
        self._guarded(lambda: self._slot.take_release(release))

    def take_figures(self, record: Stored) -> None:
        """Take what another slot told of a group, which may share a parent with one here."""
        self._guarded(lambda: self._slot.take_figures(record))

    def take(self, delivered: Delivered) -> None:
        """Take what the feed gives."""
        self._guarded(lambda: take_delivered(self._slot, delivered))

    def reserved_since(self, account_id: str) -> int | None:
        """Return when the first order was approved that PSM does not show, us; None: all are."""
        return self._slot.reserved_since(account_id)

    def begin(self) -> None:
        """Take commands from now on: the members are known."""
        self.stats.live = True

    def decide(self, command: Stored, traceparent: str | None = None) -> None:
        """Decide on a command; the record is stored behind those before it, with its trace."""
        if command.sequence < self.commands_from:
            return
        if not self._slot.holds_back(account_of(command.subject) or ""):
            self._guarded(lambda: self._slot.decide(command), command.sequence, traceparent)
            crash_point("risk.after_decide")
        self.commands_from = command.sequence + 1

    def take_end(self, end: OrderEnd) -> None:
        """Take it that an order ended at the venue, in its turn among the commands."""
        if end.sequence < self.commands_from:
            return
        if not self._slot.holds_back(end.account_id):
            self._guarded(lambda: self._slot.take_end(end))
        self.commands_from = end.sequence + 1

    @property
    def owed(self) -> Mapping[str, int]:
        """Accounts that moved here, and up to where in ORDERS their old groups answered."""
        return self._slot.owed

    def take_owed(self, account_id: str, said: Sequence[Stored], until: int) -> None:
        """Take what was said of an account in ORDERS while it moved, up to a sequence.

        Not further than this loop is: what it decides is where a recovery goes on.
        """
        passed = self.commands_from - 1
        for one in said if account_id in self.owed else ():
            end = read_end(one) if is_end(one.subject) else None
            if one.sequence > passed:
                break
            if end is not None:
                self._guarded(partial(self._slot.take_end, end))
            elif not is_end(one.subject):
                self._guarded(partial(self._slot.decide, one), one.sequence)
        to, whole = min(until, passed), until >= passed
        self._guarded(lambda: self._slot.settle(account_id, to, whole=whole))

    def dry_run(self, command: Stored) -> bytes:
        """Return what would be decided, and change nothing.

        Raises:
            PSMError: it is no command.
        """
        return self._slot.decide(command, dry_run=True)[-1].data

    def pass_commands(self, sequence: int) -> None:
        """Take in that there is no further command of this slot up to a sequence of ORDERS."""
        self.commands_from = max(self.commands_from, sequence + 1)
        self.stats.last_known = max(self.stats.last_known, sequence)
        if not self._outbox:
            self.stats.position = self.commands_from - 1

    def _guarded(
        self,
        step: Callable[[], list[RiskOutput]],
        command: int = 0,
        traceparent: str | None = None,
    ) -> None:
        """Let a defect of one slot stop that slot alone."""
        if self._failure is not None:
            return
        before = self._slot.n
        try:
            outputs = step()
        except Exception as error:  # noqa: BLE001 - raised by `run`, where it is told
            self._failure = error
            self._wake.set()
            return
        # An answer that was given before is told again, and not stored twice.
        new = outputs[len(outputs) - (self._slot.n - before) :]
        if command:
            answer = Waiting(
                output=new.pop() if new else None,
                command=command,
                decision=outputs[-1].data if outputs else b"",
                received=time.monotonic(),
                traceparent=traceparent,
            )
            self._outbox.put(new)
            self._outbox.put_answer(answer)
        else:
            self._outbox.put(new)
        if self._outbox or self._due():
            self._wake.set()

    # --- storing --------------------------------------------------------------------------------

    async def _serve(self) -> None:
        while True:
            if self._failure is not None:
                raise self._failure
            stopping = self._stopping.is_set()
            if stopping:
                self._inputs.detach(self)  # so there is an end to what is to be stored
            if self._due() or (stopping and not self._outbox.is_saved):
                self._renew_in_turn()
            if self._outbox:
                await self._store_next()
            elif stopping:
                return
            else:
                await self._pause()

    async def _store_next(self) -> None:
        """Store what waits: one write in flight."""
        what = self._outbox.next(self._settings.batch_records)
        if isinstance(what, Renewal):
            await self._renew(what)
        else:
            await self._write(what)
            last = max((one.command for one in what), default=0)
            self.stats.position = max(self.stats.position, last)
        self._outbox.stored(what)
        if not self._outbox:
            self.stats.position = self.commands_from - 1

    async def _write(self, waiting: Sequence[Waiting]) -> None:
        crash_point("risk.before_write")
        started = time.monotonic()
        outputs = [one.output for one in waiting if one.output is not None]
        traces = [one.traceparent for one in waiting if one.output is not None]
        if outputs:
            with child_span("psm.decide", None, {"psm.slot": self.number}, traces):
                await self._store.write(outputs, traces)
        crash_point("risk.after_write")
        now = time.monotonic()
        for one in waiting:
            if one.output is not None:
                self.stats.decisions += one.output.kind == "decision"
            if one.command and one.decision:
                self._answered(one.command, one.decision)
        # Once the answers are on their way: what is counted of them can wait.
        later = asyncio.get_running_loop().call_later
        later(_COUNT_S, self._count, waiting, now - started, now)

    def _count(self, stored: Sequence[Waiting], seconds: float, now: float) -> None:
        self._metrics.stored(seconds)
        for one in stored:
            if one.output is not None:
                self._metrics.record(one.output, now - one.received if one.command else None)

    def _due(self) -> bool:
        """Return whether the owner record is to be renewed, with a checkpoint."""
        return self._outbox.due(self._settings, self.commands_from - 1, self._age_s())

    def _age_s(self) -> float:
        return time.time() - self.stats.renewed_at / 1e9

    def _renew_in_turn(self) -> None:
        """Let the owner record be stored anew behind what is decided by now."""
        record, parts = self._checkpointed(self._slot, "renewal", self.commands_from - 1)
        self._outbox.put_renewal(record, parts)

    async def _renew(self, renewal: Renewal) -> None:
        """Store the owner record, expecting itself."""
        crash_point("risk.before_renewal")
        try:
            await self._store.own(renewal.record, renewal.parts, self._store.fence)
        except FencedError as error:  # by a halt, or by another owner: the newest record says
            raise NotStoredError(str(error)) from error
        crash_point("risk.after_renewal")
        self.stats.renewed_at = time.time_ns()
        await self._store.remember(renewal.record)

    async def _pause(self) -> None:
        left = max(0.05, min(self._settings.renew_s - self._age_s(), 60.0))
        try:
            async with asyncio.timeout(left):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()
