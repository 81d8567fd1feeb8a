"""A log with a rulebook and orders in it, fed to the engine as `psm risk fold` feeds it."""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import Any

import msgspec
from tests.support.rules import ADA, BOB, SECOND, T0, Person, Rules

from psm.contracts.subjects import order_command, order_status
from psm.domain.publication.figures import state_document
from psm.risk.engine import Slot
from psm.risk.messages import RiskOutput, Stored
from psm.risk.rulebook import slot_of
from psm.workers.replay.risk_fold import RiskFolder

ACCOUNT, GROUP = "acc_1", "desk"


class RiskLog:
    """Lines of a log, of a rulebook and of orders, one second apart.

    Attributes:
        lines: everything that was said, as `psm risk fold` reads it.
        outputs: every record of the engine.
        clock: time of the next line, us.
    """

    def __init__(
        self,
        limits: dict[str, Any] | None = None,
        *,
        accounts: tuple[str, ...] = (ACCOUNT,),
        currency: str = "USDT",
        deposit: str = "10000",
    ) -> None:
        self.folder = RiskFolder(16)
        self.rules = Rules(founded=False)
        self.lines: list[bytes] = []
        self.outputs: list[RiskOutput] = []
        self.clock = T0
        self._ids = itertools.count(1)
        self._numbers: dict[str, int] = {}
        for person in (ADA, BOB):
            self.say(ADA if person is ADA else BOB, "KeyDefined", **_key(person))
        self.instrument("BTC-PERP")
        self.mark("BTC-PERP", "100")
        for account in accounts:
            self.event(account, "AccountOpened", currency=currency)
            if deposit != "0":
                self.event(account, "CashDeposited", amount=deposit, currency=currency)
        self.both("GroupDefined", group=GROUP, members=list(accounts), currency=currency)
        if limits is not None:
            self.limits(limits)

    # --- what happens -----------------------------------------------------------------------------

    def line(self, subject: str, data: bytes) -> list[RiskOutput]:
        """Say a line; return the records that it caused."""
        text = b'{"subject":%s,"time":%d,"data":%s}' % (
            json.dumps(subject).encode(), self.clock * 1000, data,
        )  # fmt: skip
        self.lines.append(text)
        self.clock += SECOND
        found = self.folder.decide(text)
        self.outputs += found
        return found

    def event(self, account: str, event_type: str, **payload: Any) -> list[RiskOutput]:
        """Append an event of an account; with a `number` of its own where one is given."""
        number = payload.pop("number", None)
        return self.line(f"trades.{account}", self._envelope(account, event_type, payload, number))

    def trade(
        self, side: str, quantity: str, price: str, symbol: str = "BTC-PERP",
        account: str = ACCOUNT, **more: Any,
    ) -> list[RiskOutput]:  # fmt: skip
        """Append a fill."""
        number = next(self._ids)
        payload = {
            "fill_id": f"f{number}", "symbol": symbol, "side": side, "quantity": quantity,
            "price": price, **more,
        }  # fmt: skip
        return self.event(account, "TradeExecuted", **payload)

    def mark(self, symbol: str, price: str) -> list[RiskOutput]:
        """Append a mark."""
        number = self._numbers[symbol] = self._numbers.get(symbol, 0) + 1
        payload = {"symbol": symbol, "price": price}
        body = self._envelope(symbol, "MarkPriceUpdated", payload, number)
        return self.line(f"marks.{symbol}", body)

    def instrument(self, symbol: str, **more: Any) -> list[RiskOutput]:
        """Append a definition: a linear perpetual unless told."""
        payload = {
            "symbol": symbol, "kind": "linear_perp", "base": symbol.partition("-")[0],
            "quote": "USDT", "settle": "USDT", **more,
        }  # fmt: skip
        return self.line(
            f"instruments.{symbol}", self._envelope(symbol, "InstrumentDefined", payload)
        )

    def say(self, person: Person, event_type: str, **content: Any) -> list[RiskOutput]:
        """Say something in the rulebook."""
        self.rules.clock = self.clock
        event = self.rules.event(person, event_type, **content)
        found = self.line(event.subject, event.data)
        self.rules.take(event.data, event.subject)
        return found

    def both(self, event_type: str, **content: Any) -> list[RiskOutput]:
        """Say something twice: Ada, then Bob."""
        return [*self.say(ADA, event_type, **content), *self.say(BOB, event_type, **content)]

    def limits(
        self, limits: dict[str, Any], scope: str = "group", name: str = GROUP
    ) -> list[RiskOutput]:
        """Set the limits of a scope, by two."""
        text = scope if scope == "firm" else f"{scope}:{name}"
        name = "firm" if scope == "firm" else name
        version = self.rules.book.documents.version_of(text) + 1
        content = {"scope": scope, "id": name, "version": version, "limits": limits}
        first = self.say(ADA, "LimitsProposed", **content)
        proposed = _hash(self.rules.log[-1].data)
        second = self.say(BOB, "LimitsApproved", scope=scope, id=name, proposal_hash=proposed)
        return [*first, *second]

    # --- orders -----------------------------------------------------------------------------------

    def order(self, side: str, quantity: str, **more: Any) -> dict[str, Any]:
        """Ask for an order; return the decision."""
        account = more.pop("account_id", ACCOUNT)
        payload = {
            "account_id": account, "order_id": f"o{next(self._ids)}", "symbol": "BTC-PERP",
            "side": side, "type": "market", "quantity": quantity, **more,
        }  # fmt: skip
        return self.request("order_request", payload)

    def request(self, event_type: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Ask for anything; return the decision."""
        body = self._envelope(None, event_type, payload)
        return self.ask(payload["account_id"], body)

    def ask(self, account: str, body: bytes) -> dict[str, Any]:
        """Ask by these bytes; return the decision."""
        (*_, last) = self.line(order_command(account), body)
        assert last.kind == "decision"
        return payload_of(last)

    def shows(self, order_id: str, **more: Any) -> list[RiskOutput]:
        """Let the venue accept an order."""
        account = more.pop("account", ACCOUNT)
        payload = {
            "order_id": order_id, "symbol": "BTC-PERP", "side": "buy", "type": "limit",
            "quantity": "1", "price": "100", **more,
        }  # fmt: skip
        return self.event(account, "OrderSubmitted", **payload)

    def result(self, order_id: str, status: str, **more: Any) -> list[RiskOutput]:
        """Let the venue say what became of an order; of the account unless told of another."""
        payload = {"order_id": order_id, "status": status, "account_id": ACCOUNT, **more}
        told = {name: value for name, value in payload.items() if value is not None}
        return self.line(order_status(order_id), self._envelope(None, "order_result", told))

    def body(self, event_type: str, account: str, **more: Any) -> bytes:
        """Return a request that nobody has sent."""
        payload = {
            "account_id": account, "order_id": f"o{next(self._ids)}", "symbol": "BTC-PERP",
            "type": "market", **more,
        }  # fmt: skip
        return self._envelope(None, event_type, payload)

    def stored(self, body: bytes, account: str = ACCOUNT) -> Stored:
        """Return a request as ORDERS would have it."""
        return Stored(sequence=10**6, time=self.clock, subject=order_command(account), data=body)

    def document(self) -> dict[str, Any]:
        """Return the state document of the account."""
        return state_document(self.folder.books, self.folder.books.accounts[ACCOUNT])

    def shown(self, order_id: str) -> dict[str, Any]:
        """Return the figures of an open order that nobody approved."""
        return {
            "order_id": order_id, "symbol": "BTC-PERP", "position_side": None, "side": "buy",
            "type": "limit", "quantity": "1", "price": "100", "stop_price": None,
            "reduce_only": False, "time_in_force": None, "strategy_id": None,
            "filled_quantity": "0", "average_price": None, "status": "accepted",
        }  # fmt: skip

    # --- slots ------------------------------------------------------------------------------------

    @property
    def slot(self) -> Slot:
        """The slot of the group."""
        return self.folder.slots[slot_of(GROUP)]

    def restart(self, slot: Slot) -> None:
        """Go on with another slot in the place of the group's: members and market come anew."""
        self.folder.replace_slot(slot, self.clock)

    def release(self, record: RiskOutput) -> None:
        """Let every slot hear of a release."""
        for slot in self.folder.slots.values():
            stored = Stored(sequence=1, time=self.clock, subject="risk.release", data=record.data)
            self.outputs += slot.take_release(stored)

    def again(self) -> list[RiskOutput]:
        """Fold all lines anew; return the records."""
        folder = RiskFolder(16)
        return [output for line in self.lines for output in folder.decide(line)]

    def wait(self, seconds: int) -> list[RiskOutput]:
        """Let time pass: a mark of a symbol that nobody has."""
        self.clock += seconds * SECOND
        return self.mark("IDLE", "1")

    def _envelope(
        self,
        stream: str | None,
        event_type: str,
        payload: dict[str, Any],
        number: int | None = None,
    ) -> bytes:
        fields: dict[str, Any] = {
            "event_id": f"00000000-0000-4000-8000-{next(self._ids):012d}",
            "event_type": event_type,
            "timestamp": "2026-12-01T00:00:00Z",
            "schema_version": "1.0.0",
            "payload": payload,
        }
        if stream is not None:
            fields["stream_id"] = stream
        if number is not None:
            fields["sequence_number"] = number
        return json.dumps(fields).encode()


def payload_of(output: RiskOutput) -> dict[str, Any]:
    """Return what a record says."""
    found: dict[str, Any] = msgspec.json.decode(output.data)["payload"]
    return found


def check_of(decision: dict[str, Any], name: str, scope: str | None = None) -> dict[str, Any]:
    """Return one check of a decision."""
    found = [c for c in decision["checks"] if c["name"] == name and scope in (None, c["scope"])]
    assert len(found) == 1, [c["name"] for c in decision["checks"]]
    return dict(found[0])


def _key(person: Person) -> dict[str, Any]:
    rights = ["propose", "approve", "halt", "publish"]
    return {"holder": person.name, "public_key": person.public_key, "rights": rights}


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
