"""A NATS server in memory: routes messages, answers the JetStream API, feeds consumers.

It runs in a process of its own and knows of clients only what comes over their links.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
from tests.support.events import START
from tests.support.simulator.faults import Swarm
from tests.support.simulator.loop import context_of
from tests.support.simulator.streams import (
    COMMIT,
    EXPECTED,
    GARBAGE,
    IN_FLIGHT,
    NO_MESSAGE,
    NS,
    Answer,
    MemoryStream,
    error,
    make_streams,
)

from psm.adapters.jetstream import StoredMessage
from psm.adapters.jetstream.streams import LogSettings
from psm.contracts.subjects import SNAPSHOTS

BROKER = "broker"
_API = "$JS.API."
_LAG_S = 3.0
_IDLE_S = 60.0


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What the server sends to a client's subscription on `to`."""

    to: str
    subject: str
    data: bytes = b""
    reply: str = ""
    headers: Mapping[str, str] | None = None


class Link(Protocol):
    """A client as the server sees it."""

    name: str

    def listens(self, subject: str) -> bool:
        """Return whether it has subscribed to a subject."""

    def deliver(self, delivery: Delivery) -> None:
        """Send something on its way."""


class MemoryBroker:
    """One server with the streams of PSM.

    Attributes:
        streams: by name.
        away: it answers nothing of JetStream: no leader.
        offset_s: what its calendar is off by; may jump.
        history: what was stored, of all streams, in the order in which it was.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, swarm: Swarm, settings: LogSettings
    ) -> None:
        self.loop = loop
        self.swarm = swarm
        self.offset_s = 0.0
        self.away = False
        self.history: list[StoredMessage] = []
        self.context = context_of(BROKER)
        self.streams = make_streams(settings, self._now_ns)
        self._links: dict[str, Link] = {}
        self._consumers: dict[tuple[str, str], _Consumer] = {}

    def _now_ns(self) -> int:
        return START + round((self.loop.time() + self.offset_s) * NS)

    # --- clients --------------------------------------------------------------------------------

    def connect(self, link: Link) -> None:
        """Take a client in."""
        self._links[link.name] = link

    def disconnect(self, link: Link) -> None:
        """A client's connection is closed: nothing can reach it, nobody waits for its pulls."""
        self._links.pop(link.name, None)
        for consumer in self._consumers.values():
            if consumer.link is link:
                consumer.pulls.clear()

    def receive(
        self, link: Link, subject: str, data: bytes, reply: str, headers: Mapping[str, str]
    ) -> None:
        """Take what a client published."""
        if subject.startswith(_API):
            if not self.away:
                self._api(link, subject.removeprefix(_API), data, reply)
            return
        stream = next((s for s in self.streams.values() if s.takes(subject)), None)
        if stream is None:
            self._route(link, subject, data, reply)
            return
        if self.away:
            return
        guarded = (EXPECTED in headers and reply) or COMMIT in headers
        if guarded and self.swarm.happens("write_in_flight"):
            answer: Answer | None = error(400, IN_FLIGHT, "last sequence by subject mismatch")
        else:
            if stream.name == SNAPSHOTS and self.swarm.happens("garbage_snapshot"):
                data = GARBAGE
            before = stream.last
            answer = stream.publish(subject, data, headers)
            if stream.last > before:
                self.history += [stream.stored[n] for n in range(before + 1, stream.last + 1)]
                self._feed(stream)
        if reply and answer is not None:
            self._answer(link, reply, answer)

    def _route(self, link: Link, subject: str, data: bytes, reply: str) -> None:
        """Core NATS: to everybody who listens, or tell the sender that nobody does."""
        hearers = [one for one in self._links.values() if one.listens(subject)]
        for hearer in hearers:
            hearer.deliver(Delivery(to=subject, subject=subject, data=data, reply=reply))
        if not hearers and reply:
            link.deliver(Delivery(to=reply, subject=reply, headers={"Status": "503"}))

    def _answer(self, link: Link, reply: str, answer: Any) -> None:
        link.deliver(Delivery(to=reply, subject=reply, data=msgspec.json.encode(answer)))

    # --- the JetStream API ----------------------------------------------------------------------

    def _api(self, link: Link, operation: str, data: bytes, reply: str) -> None:
        body: dict[str, Any] = msgspec.json.decode(data) if data else {}
        match operation.split("."):
            case ["STREAM", "INFO", name]:
                self._answer(link, reply, self.streams[name].info())
            case ["STREAM", "MSG", "GET", name]:
                self._answer(link, reply, self._message(self.streams[name], body))
            case ["DIRECT", "GET", name]:
                self._last_values(link, self.streams[name], body["multi_last"], reply)
            case ["CONSUMER", "CREATE", stream, name]:
                consumer = _Consumer(self, link, self.streams[stream], name, body["config"])
                self._consumers[stream, name] = consumer
                self._answer(link, reply, {"num_pending": consumer.pending()})
            case ["CONSUMER", "MSG", "NEXT", stream, name]:
                self._pull(link, stream, name, body, reply)
            case ["CONSUMER", "DELETE", stream, name]:
                self.delete_consumer(stream, name)
                if reply:
                    self._answer(link, reply, {"success": True})
            case _:
                raise NotImplementedError(operation)

    def _pull(self, link: Link, stream: str, name: str, body: dict[str, Any], reply: str) -> None:
        consumer = self._consumers.get((stream, name))
        if consumer is None:
            link.deliver(Delivery(to=reply, subject=reply, headers={"Status": "503"}))
        else:
            consumer.pull(link, body, reply)

    def _message(self, stream: MemoryStream, body: dict[str, Any]) -> Answer:
        if "last_by_subj" in body:
            found = stream.last_of(body["last_by_subj"])
        elif "next_by_subj" in body:
            found = stream.next_of((body["next_by_subj"],), body["seq"])
        else:
            found = stream.get(body["seq"])
        if found is None:
            return error(404, NO_MESSAGE, "no message found")
        message: dict[str, Any] = {
            "subject": found.subject,
            "seq": found.sequence,
            "time": _rfc3339(found.time_ns),
            "data": b64encode(found.data).decode(),
        }
        if found.headers:
            lines = "".join(f"{name}: {value}\r\n" for name, value in found.headers.items())
            message["hdrs"] = b64encode(f"NATS/1.0\r\n{lines}\r\n".encode()).decode()
        return {"message": message}

    def _last_values(
        self, link: Link, stream: MemoryStream, patterns: list[str], reply: str
    ) -> None:
        """Answer from a replica, which may be behind."""
        as_of = stream.last
        if self.swarm.happens("stale_read"):
            as_of -= self.swarm.dice.randint(1, 20)
        found = [m for pattern in patterns for m in stream.last_each(pattern, as_of)]
        for message in found:
            headers = {
                **(message.headers or {}),
                "Nats-Stream": stream.name,
                "Nats-Subject": message.subject,
                "Nats-Sequence": str(message.sequence),
                "Nats-Time-Stamp": _rfc3339(message.time_ns),
            }
            link.deliver(Delivery(to=reply, subject=reply, data=message.data, headers=headers))
        status = "204" if found else "404"
        link.deliver(Delivery(to=reply, subject=reply, headers={"Status": status}))

    # --- consumers ------------------------------------------------------------------------------

    def delete_consumer(self, stream: str, name: str) -> None:
        """End a consumer; whoever waits for it is told."""
        consumer = self._consumers.pop((stream, name), None)
        if consumer is not None:
            consumer.end()

    def delete_some_consumer(self) -> bool:
        """Lose one, as a broker does whose memory is gone; return whether there was any."""
        if not self._consumers:
            return False
        self.delete_consumer(*self.swarm.dice.choice(list(self._consumers)))
        return True

    def _feed(self, stream: MemoryStream) -> None:
        for consumer in list(self._consumers.values()):
            if consumer.stream is stream:
                consumer.feed()


class _Pull(msgspec.Struct):
    reply: str
    left: int
    until: float


class _Consumer:
    """An ephemeral consumer without acknowledgements; may follow a replica that is behind."""

    def __init__(
        self,
        broker: MemoryBroker,
        link: Link,
        stream: MemoryStream,
        name: str,
        config: dict[str, Any],
    ) -> None:
        self.link = link
        self.stream = stream
        self.pulls: deque[_Pull] = deque()
        self._broker = broker
        self._name = name
        self._patterns = tuple(config["filter_subjects"])
        self._backlog: deque[int] = deque()
        self._next = int(config.get("opt_start_seq", 1))
        self._sent = 0
        self._beat_s = 1.0
        self._ended = False
        self._sent_at = self._asked_at = broker.loop.time()
        self._visible = stream.last
        self._lags_until = 0.0
        if config["deliver_policy"] == "last_per_subject":
            self._behind()
            found = {m.sequence for p in self._patterns for m in stream.last_each(p, self._visible)}
            self._backlog.extend(sorted(found))
            self._next = self._visible + 1
        self._beat()

    def _behind(self) -> None:
        """Maybe begin to follow a replica that lacks the newest messages for a while."""
        broker = self._broker
        self._visible = self.stream.last
        if broker.loop.time() < self._lags_until or not broker.swarm.happens("stale_consumer"):
            return
        self._visible -= broker.swarm.dice.randint(0, 10)
        lag = broker.swarm.dice.uniform(0, _LAG_S)
        self._lags_until = broker.loop.time() + lag
        broker.loop.call_later(lag, self._caught_up, context=broker.context)

    def _caught_up(self) -> None:
        self._visible = self.stream.last
        self.feed()

    def pending(self) -> int:
        """Return how many messages it has yet to show, as far as its replica knows."""
        return len(self._backlog) + self.stream.count_from(
            self._patterns, self._next, self._visible
        )

    def pull(self, link: Link, body: dict[str, Any], reply: str) -> None:
        """Take a request for more messages."""
        self.link = link
        self._asked_at = self._broker.loop.time()
        until = self._asked_at + body["expires"] / NS
        self._beat_s = body["idle_heartbeat"] / NS
        self.pulls.append(_Pull(reply, body["batch"], until))
        self.feed()

    def feed(self) -> None:
        """Send what is there and was asked for."""
        broker = self._broker
        if self._ended or broker.away:
            return
        if broker.loop.time() >= self._lags_until:
            self._behind()
        while self.pulls:
            message = self._following()
            if message is None:
                return
            pull = self.pulls[0]
            pull.left -= 1
            if not pull.left:
                self.pulls.popleft()
            self._send(message, pull.reply)

    def _following(self) -> StoredMessage | None:
        while self._backlog:
            message = self.stream.get(self._backlog.popleft())
            if message is not None:
                return message
        message = self.stream.next_of(self._patterns, self._next)
        if message is None or message.sequence > self._visible:
            return None
        self._next = message.sequence + 1
        return message

    def _send(self, message: StoredMessage, to: str) -> None:
        self._sent += 1
        self._sent_at = self._broker.loop.time()
        place = f"1.{message.sequence}.{self._sent}.{message.time_ns}.{self.pending()}"
        self.link.deliver(
            Delivery(
                to=to,
                subject=message.subject,
                data=message.data,
                reply=f"$JS.ACK.{self.stream.name}.{self._name}.{place}",
                headers=message.headers,
            )
        )

    def _beat(self) -> None:
        """Say that it is there while somebody waits, and end requests that are too old."""
        if self._ended:
            return
        now = self._broker.loop.time()
        if not self._broker.away:
            while self.pulls and self.pulls[0].until <= now:
                pull = self.pulls.popleft()
                self._tell(pull.reply, "408", {"Nats-Pending-Messages": str(pull.left)})
            if self.pulls and now - self._sent_at >= self._beat_s:
                self._tell(self.pulls[0].reply, "100", {"Nats-Last-Consumer": str(self._sent)})
            self.feed()
        if not self.pulls and now - self._asked_at > _IDLE_S:
            self._broker.delete_consumer(self.stream.name, self._name)
            return
        self._broker.loop.call_later(self._beat_s, self._beat, context=self._broker.context)

    def _tell(self, to: str, status: str, more: dict[str, str]) -> None:
        self.link.deliver(Delivery(to=to, subject=to, headers={"Status": status, **more}))

    def end(self) -> None:
        """Tell those who wait that it is gone."""
        self._ended = True
        for pull in self.pulls:
            self._tell(pull.reply, "409", {"Description": "Consumer Deleted"})
        self.pulls.clear()


def _rfc3339(time_ns: int) -> str:
    seconds, nanoseconds = divmod(time_ns, NS)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{nanoseconds:09}Z"
