"""What a slot's loop needs of the outside, and what waits in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from psm.adapters.jetstream import StoredMessage
from psm.risk.engine.results import OrderEnd
from psm.risk.messages import Stored
from psm.risk.rulebook import Rulebook
from psm.workers.risk.delivered import Delivered


class Decider(Protocol):
    """A loop as its inputs see it."""

    number: int
    commands_from: int

    def members(self) -> tuple[str, ...]:
        """Return the accounts that must be fed."""

    def take_rulebook(self, rulebook: Rulebook, at: int) -> None:
        """Take the rulebook as it stands."""

    def awaits(self, account_id: str) -> bool:
        """Return whether it waits for what another group remembered of an account."""

    def take_release(self, release: Stored) -> None:
        """Take what another group remembered of an account that came."""

    def take_figures(self, record: Stored) -> None:
        """Take what another slot told of a group, which may share a parent with one here."""

    def take(self, delivered: Delivered) -> None:
        """Take what the feed gives."""

    def reserved_since(self, account_id: str) -> int | None:
        """Return when the first order was approved that PSM does not show, us; None: all are."""

    def begin(self) -> None:
        """Take commands from now on: the members are known."""

    def decide(self, command: Stored, traceparent: str | None = None) -> None:
        """Decide on a command; the record is stored behind those before it, with its trace."""

    def take_end(self, end: OrderEnd) -> None:
        """Take it that an order ended at the venue."""

    @property
    def owed(self) -> Mapping[str, int]:
        """Accounts that moved here, and up to where in ORDERS their old groups answered."""

    def take_owed(self, account_id: str, said: Sequence[Stored], until: int) -> None:
        """Take what was said of an account in ORDERS while it moved, up to a sequence."""

    def dry_run(self, command: Stored) -> bytes:
        """Return what would be decided, and change nothing."""

    def pass_commands(self, sequence: int) -> None:
        """Take in that there is no further command of this slot up to a sequence of ORDERS."""


class Inputs(Protocol):
    """Where a loop's inputs come from; one for all loops of a process."""

    async def first_command(self, slot: int) -> int | None:
        """Return the sequence of ORDERS from which a slot must answer; None without groups.

        It is that of the first command after the first of its groups was defined.
        """

    async def groups_change(self) -> None:
        """Wait until groups were defined."""

    async def rules_as_led(self) -> None:
        """Wait until the rulebook is as the leader of RULEBOOK had it at this call."""

    def attach(self, loop: Decider) -> None:
        """Deliver from now on: the market, the rulebook, the members, then commands."""

    def detach(self, loop: Decider) -> None:
        """Deliver nothing more."""


Answered = Callable[[int, bytes], None]
"""Told the sequence of a command in ORDERS and its decision, once that is stored."""


def stored_of(message: StoredMessage) -> Stored:
    """Return a message of a stream as the engine takes it."""
    return Stored(
        sequence=message.sequence,
        time=message.time_ns // 1000,
        subject=message.subject,
        data=message.data,
    )


async def until_needed(inputs: Inputs, slot: int, stopping: asyncio.Event) -> bool:
    """Wait until there is a group that needs a slot; False when told to stop before."""
    while await inputs.first_command(slot) is None:
        waiting = {
            asyncio.ensure_future(inputs.groups_change()),
            asyncio.ensure_future(stopping.wait()),
        }
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
        if stopping.is_set():
            return False
    return True
