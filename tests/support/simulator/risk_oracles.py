"""What must be true of a risk world's records, decided from the streams and the truth alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
from tests.support.simulator.risk_truth import ACCOUNT, HELD, Truth
from tests.support.simulator.streams import MemoryStream

from psm.adapters.jetstream import StoredMessage
from psm.contracts.subjects import ORDERS, RISK, RULEBOOK
from psm.risk.limits import CATALOGUE
from psm.risk.messages import Stored
from psm.risk.rulebook import Rulebook
from psm.workers.ops.keys import made_signature

Payload = dict[str, Any]
_OPEN_MAX = 6


def check_risk(streams: Mapping[str, MemoryStream], truth: Truth) -> Counter[str]:
    """Check every record; return how often what was met."""
    records = [
        message
        for message in streams[RISK].stored.values()
        if message.subject.split(".")[1] in ("decision", "alert", "halt", "release")
    ]
    check_chain(records)
    rules = Rules(list(streams[RULEBOOK].stored.values()))
    seen: Counter[str] = Counter()
    open_orders: dict[str, Payload] = {}
    approved: dict[str, Payload] = {}
    latched: str | None = None
    decided: dict[str, None] = {}
    told = ends_of(streams[ORDERS])
    at: tuple[int, int, str] | None = None
    for message in records:
        fields = msgspec.json.decode(message.data)
        payload = fields["payload"]
        if fields["event_type"] == "LatchSet":
            latched = hashlib.sha256(message.data).hexdigest()
            seen["latched"] += 1
        if ACCOUNT in payload.get("vector", {}):
            number, place, state_hash = payload["vector"][ACCOUNT]
            at = (number, place, state_hash)
        if fields["event_type"] != "risk_decision":
            continue
        order_id = payload["order_id"]
        assert order_id not in decided, f"{order_id} was decided twice"
        decided[order_id] = None
        seen[f"{payload['decision']} {payload['reason']}"] += 1
        rules.take_to(payload["rulebook_sequence"])
        check_limit(payload, rules.most)
        if latched is not None and latched in rules.lifted:
            latched = None
        if payload["reason"] in ("account_unknown", "stream_open", "expired"):
            continue
        assert at is not None, f"{order_id} was decided on nothing"
        check_state(payload, at, truth)
        asked_at = payload["orders_sequence"]
        open_orders = {
            name: one
            for name, one in open_orders.items()
            if truth.shown.get(name, truth.last + 1) > at[1]
            and told.get(name, asked_at) >= asked_at
        }
        check_closing(payload, approved)
        if payload["decision"] == "rejected":
            continue
        if latched is not None:
            closing = Decimal(payload["approved_quantity"]) <= room(payload, open_orders)
            assert closing, f"{order_id} opens, although the day's loss is latched"
        open_orders[order_id] = approved[order_id] = payload
        assert len(open_orders) <= _OPEN_MAX, f"{order_id} is one too many: {list(open_orders)}"
    ordered = {
        msgspec.json.decode(message.data)["payload"]["order_id"]
        for message in commands_of(streams[ORDERS])
    }
    assert decided.keys() == ordered, f"without a decision: {sorted(ordered - decided.keys())}"
    seen["takeovers"] = sum(m.subject.endswith(".record") for m in streams[RISK].stored.values())
    return seen


def commands_of(orders: MemoryStream) -> list[StoredMessage]:
    """Return what was asked."""
    return [one for one in orders.stored.values() if one.subject.startswith("orders.command.")]


def ends_of(orders: MemoryStream) -> dict[str, int]:
    """Return where the venue first said that an order ended."""
    found: dict[str, int] = {}
    for message in orders.stored.values():
        if message.subject.startswith("orders.status."):
            payload = msgspec.json.decode(message.data)["payload"]
            found.setdefault(payload["order_id"], message.sequence)
    return found


def check_last(streams: Mapping[str, MemoryStream], truth: Truth, count: int) -> None:
    """At the end exactly those orders count that are open: nothing is reserved for ever."""
    decisions = [
        msgspec.json.decode(message.data)["payload"]
        for message in streams[RISK].stored.values()
        if message.subject.startswith("risk.decision.")
    ]
    ended = truth.shown.keys() | ends_of(streams[ORDERS]).keys()
    approved = [one["order_id"] for one in decisions if one["decision"] != "rejected"]
    for payload in decisions[-count:]:
        found = [one["value"] for one in payload["checks"] if one["name"] == "open_orders_count"]
        assert found, f"{payload['order_id']} was decided by {payload['reason']}"
        before = [one for one in approved if one not in ended and one != payload["order_id"]]
        later = [one["order_id"] for one in decisions[decisions.index(payload) :]]
        counted = 1 + sum(one not in later for one in before)
        assert found == [str(counted)], f"{payload['order_id']} counts {found}, not {counted}"


def check_chain(records: list[StoredMessage]) -> None:
    """Records are numbered without a hole, and each names the one before."""
    previous = None
    for number, message in enumerate(records, start=1):
        payload = msgspec.json.decode(message.data)["payload"]
        assert payload["n"] == number, f"record {payload['n']} stands where {number} belongs"
        assert previous in (None, payload["previous"]), f"record {number} is of another chain"
        previous = hashlib.sha256(message.data).hexdigest()


def check_state(payload: Payload, at: tuple[int, int, str], truth: Truth) -> None:
    """A decision saw the account as the log has it, at the mark that the log had."""
    _, place, state_hash = at
    assert truth.state_hash(place) == state_hash, f"no such state at {place}"
    marked = payload["marks_log_sequence"]
    if place > marked:  # no figure counts at marks that are older than the account
        assert payload["decision"] == "rejected", f"{payload['order_id']} went by old marks"
        return
    missed = [one for one in truth.inputs if place < one < marked]
    assert not missed, f"{payload['order_id']} saw the account at {place}, without {missed}"
    told = payload.get("figures", {}).get("equity")
    wanted = truth.equity(place, marked)
    assert told is None or Decimal(told) == wanted, (
        f"{payload['order_id']} saw equity {told}, and at {place} with marks of {marked} it was "
        f"{wanted}"
    )


def check_limit(payload: Payload, most: str | None) -> None:
    """The largest order is the one that two persons had agreed to by then."""
    found = [one for one in payload["checks"] if one["name"] == "max_order_quantity"]
    assert all(one["limit"] == most for one in found), (
        f"{payload['order_id']} at rulebook {payload['rulebook_sequence']} by {found}, not {most}"
    )


def room(payload: Payload, open_orders: Mapping[str, Payload]) -> Decimal:
    """Return how much an order's side may close: the account is long, and orders are limits."""
    if payload["side"] == "buy":
        return Decimal(0)
    taken = [
        Decimal(one["approved_quantity"]) for one in open_orders.values() if one["side"] == "sell"
    ]
    return max(HELD - sum(taken), Decimal(0))


def check_closing(payload: Payload, approved: Mapping[str, Payload]) -> None:
    """What only closes is refused by nothing but a hard check, or its own size.

    Of an order that came and went while the account was lost nobody tells the engine: it counts
    on, until a person releases it. So here every approved order counts.
    """
    quantity = Decimal(payload["quantity"]) if "quantity" in payload else None
    if payload["decision"] != "rejected" or quantity is None:
        return
    if quantity > room(payload, approved):
        return
    failed = [one for one in payload["checks"] if not one["passed"]]
    reducing = {"name": "mode", "value": "reducing"}
    kinds = {CATALOGUE[one["name"]][0] for one in failed if {**one, **reducing} != one}
    assert kinds & {"hard", "order_size"}, f"{payload['order_id']} only closes, and was refused"


class Rules:
    """The rulebook as it was said, as far as the oracle looks at it.

    Attributes:
        most: largest order.
        lifted: hashes of latches that two persons lifted.
    """

    def __init__(self, said: list[StoredMessage]) -> None:
        self.most: str | None = None
        self.lifted: dict[str, None] = {}
        self._said = said
        self._book = Rulebook(made_signature)
        self._proposed: dict[str, str] = {}

    def take_to(self, sequence: int) -> None:
        """Take what was said up to a place."""
        while self._book.sequence < sequence:
            message = self._said[self._book.sequence]
            ruled = self._book.take(
                Stored(
                    sequence=message.sequence,
                    time=message.time_ns // 1000,
                    subject=message.subject,
                    data=message.data,
                )
            )
            fields = msgspec.json.decode(message.data)
            payload = fields["payload"]
            match fields["event_type"]:
                case "LimitsProposed":
                    self._proposed[ruled.hash] = payload["limits"]["max_order_quantity"]
                    if ruled.outcome == "applied":
                        self.most = self._proposed[ruled.hash]
                case "LimitsApproved" if ruled.outcome == "applied":
                    self.most = self._proposed[payload["proposal_hash"]]
                case "HaltLifted" if ruled.outcome == "applied":
                    self.lifted[payload["halt_hash"]] = None
