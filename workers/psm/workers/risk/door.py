"""`psm.risk.check`: ask for a decision and get it when it is stored.

The order is appended to `ORDERS` first, as if it had been published there; whoever owns its slot
decides, stores, and tells the decision under the order's sequence. The door only waits, so any
process may be asked. A dry run is decided on the state as it is, and nothing is appended or stored.

    _psmfleet.risk.decided.<sequence of ORDERS>    a decision that is stored, told by the owner
    _psmfleet.risk.dry.<slot>                      a dry run, asked of the owner
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Annotated

import msgspec
import nats.errors
from nats import micro
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, Service

from psm.adapters.jetstream import publish_expected
from psm.adapters.logs import get_logger
from psm.contracts import codec, recorded, subjects
from psm.contracts.errors import ConfigError, ContractError, PSMError, TransientError
from psm.contracts.factory import EventFactory
from psm.contracts.subjects import ORDERS, RISK_CHECK, last_token
from psm.risk.messages import Stored
from psm.workers.risk.inputs import SlotInputs

DECIDED = "_psmfleet.risk.decided"
DRY = "_psmfleet.risk.dry"
WAIT_DEFAULT_MS, WAIT_MAX_MS = 5_000, 30_000
PROBLEM_HEADER = "Psm-Problem"
"""Kind of the problem in an error's answer, as HTTP names it."""

_DRY_WAIT_S = 1.0
_AT_ONCE = 1_000
_TOLD_BEFORE = 4_096
_ORDER_REQUEST = "order_request"
_log = get_logger()


class CheckQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked.

    Attributes:
        order: payload of an `order_request`, or the whole event.
        dry_run: decide on the state as it is; append and store nothing.
        timeout_ms: how long to wait for the decision at most.
    """

    order: msgspec.Raw
    dry_run: bool = False
    timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=WAIT_MAX_MS)] = WAIT_DEFAULT_MS


class CheckRefusedError(PSMError):
    """A question without a decision.

    Attributes:
        kind: of the problem: `no-group`, `no-owner`, `not-decided`, `too-many-checks`.
        status: that of HTTP.
    """

    def __init__(self, kind: str, status: int, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.status = status


class Decisions:
    """Decisions as owners tell them, by the sequence of their command in ORDERS."""

    def __init__(self, nc: Client) -> None:
        """Nothing is heard before `listen`."""
        self._nc = nc
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._told: OrderedDict[int, bytes] = OrderedDict()
        self._sending: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        """Hear decisions from now on."""

        async def heard(message: Msg) -> None:
            with contextlib.suppress(ValueError):
                self._tell(int(last_token(message.subject)), message.data)

        await self._nc.subscribe(f"{DECIDED}.*", cb=heard)

    def answered(self, sequence: int, decision: bytes) -> None:
        """Tell a decision of a slot here: the door of this process, or all others."""
        if sequence in self._waiting:
            self._tell(sequence, decision)
            return

        async def send() -> None:
            try:
                await self._nc.publish(f"{DECIDED}.{sequence}", decision)
            except (nats.errors.Error, PSMError) as error:
                _log.info("risk.decision_not_told", sequence=sequence, detail=str(error))

        task = asyncio.create_task(send())
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def of(self, sequence: int, timeout_s: float) -> bytes:
        """Return the decision on the command at a sequence of ORDERS.

        Raises:
            CheckRefusedError: it was not told in time.
        """
        told = self._told.pop(sequence, None)
        if told is not None:
            return told
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[sequence] = future
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError as error:
            raise CheckRefusedError(
                "not-decided",
                504,
                f"the order is appended as number {sequence} of ORDERS and not decided within "
                f"{timeout_s:g} s; ask again with the same order: it is decided once",
            ) from error
        finally:
            self._waiting.pop(sequence, None)

    def _tell(self, sequence: int, decision: bytes) -> None:
        waiting = self._waiting.get(sequence)
        if waiting is not None and not waiting.done():
            waiting.set_result(decision)
            return
        # It may be decided before its own acknowledgement is read here.
        self._told[sequence] = decision
        if len(self._told) > _TOLD_BEFORE:
            self._told.popitem(last=False)


class RiskDoor:
    """Answers `psm.risk.check`, on the inputs of a risk worker."""

    def __init__(self, nc: Client, inputs: SlotInputs, decisions: Decisions) -> None:
        self._nc = nc
        self._inputs = inputs
        self._decisions = decisions
        self._events = EventFactory("psm-risk", version("portfolio-state-manager"))

    async def check(self, body: bytes) -> bytes:
        """Return the decision on an order, as stored; a dry run's as it would be.

        Raises:
            ContractError: it is no question, or its order is none of the contract.
            CheckRefusedError: nobody decides on it, or not in time.
            PSMError: the broker does not take the order; it may be appended.
        """
        try:
            question = _question.decode(body)
        except codec.INVALID_JSON as error:
            raise ContractError("malformed_field", f"expected a question: {error}") from error
        account_id, event = self._order(bytes(question.order))
        slot = self._inputs.slot_of_account(account_id)
        if slot is None:
            raise CheckRefusedError(
                "no-group", 404, f"{account_id} is in no risk group; nobody decides on its orders"
            )
        subject = subjects.order_command(account_id)
        if question.dry_run:
            return await self._dry(slot, subject, event)
        ack = await publish_expected(self._nc, ORDERS, subject, event, expected=None)
        return await self._decisions.of(ack.sequence, question.timeout_ms / 1000)

    def _order(self, data: bytes) -> tuple[str, bytes]:
        """Return an order's account, and the event as it is appended."""
        fields = codec.decode_untyped(data)
        if "event_type" in fields:
            if fields["event_type"] != _ORDER_REQUEST:
                raise ContractError(
                    "malformed_field", f"expected an {_ORDER_REQUEST}", "order.event_type"
                )
            payload = recorded.decode_audit(recorded.decode_recorded(data))
            return str(payload["account_id"]), data
        order_type = fields.pop("type", "market")
        try:
            made = self._events.create_order_request(order_type=order_type, **fields)
        except TypeError as error:  # a field that it cannot be without
            raise ContractError("missing_field", str(error).partition(") ")[2]) from error
        return str(made.payload["account_id"]), made.body

    async def _dry(self, slot: int, subject: str, event: bytes) -> bytes:
        here = self._dry_here(slot, subject, event)
        if here is not None:
            return here
        headers = {"Nats-Subject": subject}
        try:
            answer = await self._nc.request(
                f"{DRY}.{slot}", event, timeout=_DRY_WAIT_S, headers=headers
            )
        except nats.errors.Error as error:
            raise CheckRefusedError("no-owner", 503, f"nobody owns risk slot {slot} now") from error
        return answer.data

    def _dry_here(self, slot: int, subject: str, event: bytes) -> bytes | None:
        loop = self._inputs.loop_of(slot)
        if loop is None:
            return None
        now = time.time_ns() // 1000  # as the broker would say, were it appended
        command = Stored(sequence=loop.commands_from, time=now, subject=subject, data=event)
        return loop.dry_run(command)

    async def listen(self) -> Service:
        """Answer from now on; stop the service to end."""

        async def dry(message: Msg) -> None:
            subject = (message.headers or {}).get("Nats-Subject", "")
            try:
                slot = int(last_token(message.subject))
                decision = self._dry_here(slot, subject, message.data)
                if decision is not None:
                    await message.respond(decision)
            except (PSMError, ValueError, nats.errors.Error) as error:
                _log.warning("risk.dry_run_failed", detail=str(error))

        await self._nc.subscribe(f"{DRY}.*", cb=dry)
        service = await micro.add_service(
            self._nc,
            name="psm-risk",
            version=version("portfolio-state-manager"),
            description="Portfolio & State Manager: may this order be sent?",
        )
        await service.add_endpoint(
            EndpointConfig(name="check", subject=RISK_CHECK, handler=_handler(self.check))
        )
        return service


_question = msgspec.json.Decoder(CheckQuestion)


def _handler(
    check: Callable[[bytes], Awaitable[bytes]],
) -> Callable[[Request], Awaitable[None]]:
    tasks: set[asyncio.Task[None]] = set()

    async def answer(request: Request) -> None:
        try:
            decision = await check(request.data)
        except ContractError as error:
            await _refuse(request, 422, "invalid-order", str(error))
        except CheckRefusedError as error:
            await _refuse(request, error.status, error.kind, str(error))
        except (TransientError, ConfigError) as error:
            detail = f"{error}; the order may be appended: ask again with the same one"
            await _refuse(request, 503, "unavailable", detail)
        else:
            await request.respond(decision)

    async def respond(request: Request) -> None:
        try:
            await answer(request)
        except nats.errors.Error as error:  # the connection was closed meanwhile
            _log.info("risk.answer_not_sent", detail=str(error))

    async def handle(request: Request) -> None:
        # Requests are handled one after the other, and one of these waits for its record.
        if len(tasks) >= _AT_ONCE:
            detail = f"{_AT_ONCE} orders wait here already"
            await _refuse(request, 429, "too-many-checks", detail)
            return
        task = asyncio.create_task(respond(request))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return handle


async def _refuse(request: Request, status: int, kind: str, detail: str) -> None:
    await request.respond_error(str(status), detail, headers={PROBLEM_HEADER: kind})
