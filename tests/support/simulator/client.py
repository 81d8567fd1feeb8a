"""A connection to the broker in memory, used like nats-py's `Client` by the real adapters.

A link keeps order, as TCP does, except for what the swarm does to single messages. When it is cut,
what was on its way may or may not arrive, and subscriptions come back with the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import nats.errors
from tests.support.simulator.broker import Delivery, MemoryBroker
from tests.support.simulator.loop import context_of

from psm.adapters.jetstream.messages import parse_headers

_Callback = Callable[["MemoryMsg"], Awaitable[None]]
_SEND_AGAIN_S = 2.0


class MemoryMsg:
    """What a subscription's callback gets."""

    def __init__(self, client: MemoryClient, delivery: Delivery) -> None:
        self._client = client
        self.subject = delivery.subject
        self.reply = delivery.reply
        self.data = delivery.data
        self.headers = dict(delivery.headers) if delivery.headers else None

    async def respond(self, data: bytes) -> None:
        """Send an answer to whoever asked."""
        await self._client.publish(self.reply, data)


class MemorySubscription:
    """A subscription that can be ended."""

    def __init__(self, client: MemoryClient, subject: str, callback: _Callback) -> None:
        self._client = client
        self.subject = subject
        self.callback = callback

    async def unsubscribe(self) -> None:
        """Hear no more."""
        self._client.forget(self)


class MemoryClient:
    """One process's connection.

    Attributes:
        name: of the process.
    """

    def __init__(self, broker: MemoryBroker, name: str) -> None:
        self.name = name
        self.is_connected = True
        self.is_closed = False
        self.stats = {"reconnects": 0}
        self.options = {"name": name}
        self.max_payload = 1_000_000
        self._broker = broker
        self._loop = broker.loop
        self._swarm = broker.swarm
        self._context = context_of(name)
        self._epoch = 0  # of the connection; grows when it is cut
        self._up_at = self._down_at = 0.0
        self._inboxes = 0
        self._waiting: dict[str, asyncio.Future[MemoryMsg]] = {}
        self._subscriptions: dict[str, MemorySubscription] = {}
        self._unsent: list[tuple[str, bytes, str, dict[str, str]]] = []
        broker.connect(self)

    # --- what the adapters call -----------------------------------------------------------------

    def new_inbox(self) -> str:
        """Return a subject that nobody else uses."""
        self._inboxes += 1
        return f"_INBOX.{self.name}.{self._inboxes}"

    async def request(
        self,
        subject: str,
        data: bytes = b"",
        timeout: float = 0.5,
        headers: dict[str, str] | None = None,
    ) -> MemoryMsg:
        """Publish and wait for one answer."""
        inbox = self.new_inbox()
        answer: asyncio.Future[MemoryMsg] = self._loop.create_future()
        self._waiting[inbox] = answer
        try:
            self._send(subject, data, inbox, headers or {})
            async with asyncio.timeout(timeout):
                message = await answer
        except TimeoutError as error:
            raise nats.errors.TimeoutError from error
        finally:
            del self._waiting[inbox]
        if (message.headers or {}).get("Status") == "503":
            raise nats.errors.NoRespondersError
        return message

    async def publish(
        self, subject: str, data: bytes = b"", reply: str = "", headers: Any = None
    ) -> None:
        """Send a message; while there is no connection it is kept for later."""
        self._send(subject, data, reply, headers or {})

    async def _send_command(self, frames: bytes) -> None:
        """Send messages that are framed already; the swarm meets each of them by itself."""
        while frames:
            line, _, rest = frames.partition(b"\r\n")
            _, subject, head, total = line.decode().split(" ")
            headers = parse_headers(rest[: int(head)]) or {}
            self._send(subject, rest[int(head) : int(total)], "", headers)
            frames = rest[int(total) + 2 :]

    async def subscribe(self, subject: str, cb: _Callback, **_: int) -> MemorySubscription:
        """Call `cb` with whatever arrives on a subject."""
        self._check()
        subscription = MemorySubscription(self, subject, cb)
        self._subscriptions[subject] = subscription
        return subscription

    async def flush(self) -> None:
        """Return when what was sent has arrived, about."""
        await asyncio.sleep(self._swarm.latency())

    def forget(self, subscription: MemorySubscription) -> None:
        """End a subscription."""
        if self._subscriptions.get(subscription.subject) is subscription:
            del self._subscriptions[subscription.subject]

    # --- what the world does to it --------------------------------------------------------------

    def cut(self, seconds: float) -> None:
        """Lose the connection for a while."""
        if self.is_closed or not self.is_connected:
            return
        self.is_connected = False
        self._epoch += 1
        self._broker.disconnect(self)
        self._loop.call_later(seconds, self._reconnect, context=self._context)

    def close(self) -> None:
        """End for good: its process is gone."""
        self.is_closed, self.is_connected = True, False
        self._epoch += 1
        self._broker.disconnect(self)

    def _reconnect(self) -> None:
        if self.is_closed:
            return
        self.is_connected = True
        self.stats["reconnects"] += 1
        self._up_at = self._down_at = self._loop.time()
        self._broker.connect(self)
        unsent, self._unsent = self._unsent, []
        for message in unsent:
            self._send(*message)

    # --- the link -------------------------------------------------------------------------------

    def _check(self) -> None:
        if self.is_closed:
            raise nats.errors.ConnectionClosedError

    def _send(self, subject: str, data: bytes, reply: str, headers: dict[str, str]) -> None:
        self._check()
        if not self.is_connected:
            self._unsent.append((subject, data, reply, headers))
            return
        for when in self._ways("_up_at"):
            self._loop.call_at(
                when,
                self._sent,
                self._epoch,
                subject,
                data,
                reply,
                headers,
                context=self._broker.context,
            )

    def _sent(
        self, epoch: int, subject: str, data: bytes, reply: str, headers: Mapping[str, str]
    ) -> None:
        if epoch != self._epoch and self._swarm.dice.random() < 0.5:
            return  # it was on its way when the connection ended
        self._broker.receive(self, subject, data, reply, headers)

    def listens(self, subject: str) -> bool:
        """Return whether it has subscribed to a subject."""
        return subject in self._subscriptions or subject in self._waiting

    def deliver(self, delivery: Delivery) -> None:
        """Send something from the broker to this client."""
        if not self.is_connected:
            return
        for when in self._ways("_down_at"):
            self._loop.call_at(when, self._arrived, self._epoch, delivery, context=self._context)

    def _arrived(self, epoch: int, delivery: Delivery) -> None:
        if epoch != self._epoch:
            return
        message = MemoryMsg(self, delivery)
        waiting = self._waiting.get(delivery.to)
        if waiting is not None:
            if not waiting.done():
                waiting.set_result(message)
            return
        subscription = self._subscriptions.get(delivery.to)
        if subscription is not None:
            _finish(subscription.callback(message))

    def _ways(self, line: str) -> list[float]:
        """Return when a message arrives: never, once or twice; in order unless it is held up."""
        swarm, now = self._swarm, self._loop.time()
        if swarm.happens("dropped"):
            return []
        when = max(now + swarm.latency(), getattr(self, line))
        if swarm.happens("reordered"):
            return [when + swarm.dice.uniform(0, 10) * swarm.latency_s]
        if swarm.happens("delayed"):
            when += swarm.dice.choice([0.05, 0.5, 3.0]) * swarm.dice.random()
        setattr(self, line, when)
        if swarm.happens("doubled"):
            return [when, when + swarm.dice.choice([0.0, _SEND_AGAIN_S]) * swarm.dice.random()]
        return [when]


def _finish(callback: Awaitable[None]) -> None:
    """Run a callback to its end at once; none of ours waits for anything."""
    steps = callback.__await__()
    try:
        next(steps)
    except StopIteration:
        return
    raise AssertionError("a subscription's callback waits")
