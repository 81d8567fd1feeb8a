"""Why a decision was made: each value again, and the events that it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from psm.domain.money import exact_text
from psm.domain.publication.log_times import log_time
from psm.risk.engine.answers import Answers
from psm.risk.engine.commands import Command
from psm.risk.engine.member import microseconds
from psm.risk.engine.path import DayOpening, Latch, Reservation
from psm.risk.engine.proof_records import RecordRead

Document = dict[str, Any]


class DecisionStory:
    """Looks at one decision while it is proved.

    Attributes:
        document: what it was made from; None before it was seen.
    """

    def __init__(self, n: int) -> None:
        """Nothing was seen yet; `n` is the number of the record."""
        self.document: Document | None = None
        self._n = n

    def judge(self, record: RecordRead, answers: Answers, command: Command) -> None:
        """Note everything that the decision was made from."""
        if record.payload["n"] != self._n:
            return
        payload = record.payload
        clock = microseconds(payload["clock"])
        again = payload["reason"] == "duplicate_order_id"
        made, _ = answers.judged(command, clock, again=again)
        self.document = {
            "decision": {name: payload.get(name) for name in _TOLD if name in payload},
            "checks": _checks(payload["checks"], msgspec.to_builtins(made["checks"])),
            "figures": made.get("figures", {}),
            "request": {"orders_sequence": command.sequence, "time": log_time(command.time * 1000)},
            "rules": _rules(answers, command, clock),
            "market": _market(answers, command),
            "accounts": _accounts(answers, command),
            "memory": _memory(answers, command),
        }


_TOLD = (
    *("account_id", "order_id", "symbol", "side", "quantity", "decision", "reason"),
    *("approved_quantity", "max_quantity", "reducing_room", "mode", "clock", "group", "slot", "n"),
    *("marks_log_sequence", "rulebook_sequence", "rulebook_hash", "engine", "vector_hash"),
)


def _checks(recorded: list[Mapping[str, Any]], made: list[Mapping[str, Any]]) -> list[Document]:
    """Return each check as recorded, and whether it comes out again."""
    again = {(one["name"], one["scope"]): dict(one) for one in made}
    return [
        {**one, "rederived": again.get((one["name"], one["scope"])) == dict(one)}
        for one in recorded
    ]


def _rules(answers: Answers, command: Command, clock: int) -> list[Document]:
    """Return the limits that applied, and the proposal that each came from."""
    rulebook = answers.books.rulebook
    found = rulebook.limits_of(
        command.account_id, command.strategy_id, command.text("symbol") or "", clock
    )
    return [
        {"scope": one.scope, "version": one.version, "proposal_hash": one.hash} for one in found
    ]


def _market(answers: Answers, command: Command) -> list[Document]:
    """Return the marks that the account's and the order's values were made with."""
    market = answers.books.market
    state = answers.groups[command.account_id]
    symbols = {command.text("symbol") or "": None}
    for member in state.members.values():
        for name in member.line_names():
            symbols[name.partition("|")[0].partition(":")[0]] = None
    rows = []
    for symbol in sorted(symbols):
        mark = market.mark(symbol)
        if mark is not None:
            rows.append(
                {
                    "symbol": symbol,
                    "price": exact_text(mark.price),
                    "log_sequence": mark.log_sequence,
                    "time": log_time(mark.time),
                }
            )
    return rows


def _accounts(answers: Answers, command: Command) -> list[Document]:
    """Return each account of the group as it was seen."""
    state = answers.groups[command.account_id]
    rows = []
    for name, member in sorted(state.members.items()):
        number, log_sequence, state_hash = member.seen
        day = answers.books.path.get(DayOpening, "day", name)
        figures = state.figures(name)
        rows.append(
            {
                "account_id": name,
                "sequence_number": number,
                "log_sequence": log_sequence,
                "state_hash": state_hash,
                "equity": None if figures is None else exact_text(figures.equity),
                "day": None if day is None else day.number,
                "day_opened": None if day is None or day.equity is None else exact_text(day.equity),
            }
        )
    return rows


def _memory(answers: Answers, command: Command) -> Document:
    """Return what the decision saw of the slot's memory."""
    path = answers.books.path
    reserved = [
        {
            "order_id": one.order_id,
            "symbol": one.symbol,
            "side": one.side,
            "quantity": exact_text(one.quantity),
        }
        for _, one in path.under(Reservation, "reservation", command.account_id)
    ]
    latches = [
        {"scope": one.scope, "code": one.code, "mode": one.mode, "set_by": one.hash}
        for _, one in path.items(Latch, "latch")
    ]
    return {"reservations": reserved, "latches": latches}
