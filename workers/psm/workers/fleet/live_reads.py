"""Live reads between processes: a worker answers for what it owns, others find the owner.

    _psmfleet.live.<member>     answered by that member, or by the broker when it is gone

The fleet's table says who owns a partition. It may be out of date, so who is asked says whether it
still is the owner, and who asks looks again, for a moment.
"""

from __future__ import annotations

import asyncio
import zlib

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from psm.adapters.logs import get_logger
from psm.adapters.metrics import Metrics
from psm.contracts.codec import encode
from psm.contracts.errors import PSMError, TransientError
from psm.contracts.live import LiveQuestion, question_of
from psm.contracts.subjects import partition_of
from psm.workers.fleet.members import Member
from psm.workers.fleet.ports import MemberStore
from psm.workers.fleet.worker import Worker
from psm.workers.partition.live_reads import LiveOutcome, LiveRefusedError

LIVE = "_psmfleet.live"
OWNER_WAIT_S = 2.0
"""So long an owner is looked for; a handover is shorter."""

_OUTCOME = "Psm-Live-Outcome"
_ENCODING, _DEFLATE = "Content-Encoding", "deflate"
_DEFLATE_FROM = 64 * 1024  # bytes; beyond it the wire, and the limit of a message, cost more
_HEADERS_BYTES = 256
_ANSWER_S = 2.0  # beyond what the owner may wait
_TABLE_S = 1.0
_AGAIN_S = 0.05
_FOLDING = ("live", "draining")
_ELSEWHERE: tuple[LiveOutcome, ...] = ("handover", "silent")
_log = get_logger()


class _Refusal(msgspec.Struct, frozen=True, kw_only=True):
    outcome: LiveOutcome
    detail: str
    reached: int = 0


_refusal = msgspec.json.Decoder(_Refusal)


# --- the owner --------------------------------------------------------------------------------


class LiveAnswers:
    """Answers live reads of the accounts that a worker owns."""

    def __init__(self, nc: Client, worker: Worker, metrics: Metrics) -> None:
        self._nc = nc
        self._worker = worker
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, member_id: str) -> None:
        """Answer from now on, as long as the connection lives."""

        async def asked(message: Msg) -> None:
            # One that waits for the log must not keep the others.
            task = asyncio.create_task(self._respond(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        await self._nc.subscribe(f"{LIVE}.{member_id}", cb=asked)

    async def _respond(self, message: Msg) -> None:
        outcome: LiveOutcome = "answered"
        headers = {}
        try:
            body = await self._worker.live(question_of(message.data))
            if len(body) >= _DEFLATE_FROM:
                body = await asyncio.to_thread(zlib.compress, body, 1)
                headers[_ENCODING] = _DEFLATE
            if len(body) + _HEADERS_BYTES > self._nc.max_payload:
                outcome, detail = "too_large", f"the document has {len(body)} bytes, compressed"
                body = encode(_Refusal(outcome=outcome, detail=detail))
        except LiveRefusedError as error:
            outcome = error.outcome
            refusal = _Refusal(outcome=outcome, detail=error.detail, reached=error.reached)
            body = encode(refusal)
        except PSMError as error:  # a question that is none included
            outcome = "failed"
            body = encode(_Refusal(outcome=outcome, detail=str(error)))
            _log.warning("live_reads.failed", detail=str(error))
        self._metrics.live_read(outcome)
        try:
            reply = {**headers, _OUTCOME: outcome}
            await self._nc.publish(message.reply, body, headers=reply)
        except (PSMError, nats.errors.Error) as error:
            _log.warning("live_reads.not_sent", detail=str(error))


# --- who asks ---------------------------------------------------------------------------------


class Owners:
    """Finds the owner of an account and asks it."""

    def __init__(self, nc: Client, store: MemberStore, partitions: int) -> None:
        """Nothing is asked yet.

        Args:
            nc: connection.
            store: the fleet's table.
            partitions: of the log.
        """
        self._nc = nc
        self._store = store
        self._partitions = partitions
        self._members: tuple[Member, ...] = ()
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def ask(self, question: LiveQuestion) -> bytes:
        """Return the document that the owner answers with, as JSON.

        Raises:
            LiveRefusedError: it is not answered; `handover` and `silent` where nobody can who was
                there within `OWNER_WAIT_S`.
            TransientError: NATS is away.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + question.timeout_ms / 1000
        partition = partition_of(question.account_id, self._partitions)
        refused = LiveRefusedError("handover", f"nobody has partition {partition} now")
        missing_since: float | None = None
        while True:
            for member in await self._owners(partition, anew=missing_since is not None):
                left_ms = max(0, round(1000 * (ends_at - loop.time())))
                try:
                    return await self._asked(
                        member, msgspec.structs.replace(question, timeout_ms=left_ms)
                    )
                except LiveRefusedError as error:
                    if error.outcome not in _ELSEWHERE:
                        raise
                    refused = error
            now = loop.time()
            missing_since = missing_since or now
            if now - missing_since >= OWNER_WAIT_S:
                raise refused
            await asyncio.sleep(_AGAIN_S)

    async def _owners(self, partition: int, *, anew: bool) -> list[str]:
        """Return the members that say they fold a partition; more than one while they meet."""
        loop = asyncio.get_running_loop()
        async with self._reading:
            if loop.time() - self._read_at >= (_AGAIN_S if anew else _TABLE_S):
                entries = await self._store.entries()
                self._members = tuple(entry.member for entry in entries if entry.member is not None)
                self._read_at = loop.time()
        return [
            member.id
            for member in self._members
            for holding in member.holdings
            if holding.partition == partition and holding.state in _FOLDING
        ]

    async def _asked(self, member: str, question: LiveQuestion) -> bytes:
        waits_s = _ANSWER_S + (question.timeout_ms / 1000 if question.waits else 0.0)
        try:
            answer = await self._nc.request(f"{LIVE}.{member}", encode(question), timeout=waits_s)
        except nats.errors.NoRespondersError as error:
            raise LiveRefusedError("handover", f"worker {member} is gone") from error
        except nats.errors.TimeoutError as error:
            raise LiveRefusedError("silent", f"worker {member} does not answer") from error
        except nats.errors.Error as error:
            raise TransientError(f"NATS is away: {error}") from error
        headers = answer.headers or {}
        if headers.get(_OUTCOME) != "answered":
            try:
                told = _refusal.decode(answer.data)
            except msgspec.MsgspecError as error:
                raise TransientError(f"worker {member} answered with something else") from error
            raise LiveRefusedError(told.outcome, told.detail, told.reached)
        if headers.get(_ENCODING) == _DEFLATE:
            return await asyncio.to_thread(zlib.decompress, answer.data)
        return answer.data
