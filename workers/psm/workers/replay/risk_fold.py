"""A whole log folded with its rulebook and its orders: per order the decision, without a server.

Lines are those of `psm fold`; `rulebook.*`, `orders.command.*` and `orders.status.*` stand among
them where they came. Accounts are folded by the domain, and their updates feed the very slots that
decide live.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from psm.contracts import codec
from psm.contracts.errors import ContractError
from psm.contracts.feed import FeedInput
from psm.contracts.subjects import decode_token, head_of, last_token
from psm.domain.messages import Folded, LogMessage, Update
from psm.domain.publication.figures import state_document
from psm.domain.publication.log_times import log_time
from psm.risk.engine import Slot
from psm.risk.engine.parents import CODE
from psm.risk.engine.results import read_end
from psm.risk.messages import RiskOutput, Stored
from psm.risk.rulebook import Rulebook, slot_of
from psm.workers.ops.keys import made_signature
from psm.workers.replay.lines import LineError, LineFolder

FIGURES = f'"code":"{CODE}"'.encode()
_OWN = ("rulebook", "orders")
_STATUS = "orders.status."
_UNOPENED: Mapping[str, Any] = {
    "status": "open", "currency": None, "equity": None, "unrealized_pnl": None,
    "cash": {}, "assets": {}, "positions": {}, "orders": {},
}  # fmt: skip
"""Document of an account that no event has opened yet."""


class RiskFolder(LineFolder):
    """Folds the lines of a log, its rulebook and its orders.

    Attributes:
        rulebook: as far as it was said.
        slots: by number, those that have a group.
    """

    def __init__(self, partitions: int) -> None:
        super().__init__(partitions=partitions)
        self.rulebook = Rulebook(made_signature)
        self.slots: dict[int, Slot] = {}
        self._entered: dict[str, str] = {}
        self._last: dict[str, int] = dict.fromkeys(_OWN, 0)
        self._released: dict[str, Stored] = {}
        self._outputs: list[RiskOutput] = []

    def decide(self, line: bytes) -> list[RiskOutput]:
        """Take the next line; return the records that it caused, a decision last.

        Raises:
            LineError: it is no event that could stand in a log.
            UnknownRulesError: it enables rules that this version does not know.
        """
        self._outputs = []
        head = self._head(line)
        if head in _OWN:
            self._line += 1
            try:
                stored = self._stored_line(line, head)
            except ContractError as error:
                raise LineError(self._line, error) from error
            self._time = max(self._time, stored.time * 1000)
            if head == "rulebook":
                self._ruled(stored)
            elif stored.subject.startswith(_STATUS):
                self._ended(stored)
            else:
                self._commanded(stored)
        else:
            self.take(line)
        self._give_figures()
        return self._outputs

    def _give_figures(self) -> None:
        """Give every slot what others told of the groups beside its own."""
        for output in self._outputs:
            if output.kind == "alert" and FIGURES in output.data:
                found = Stored(
                    sequence=1, time=self._time // 1000, subject="risk", data=output.data
                )
                for _, slot in sorted(self.slots.items()):
                    self._add(slot.take_figures(found))

    def _head(self, line: bytes) -> str:
        try:
            subject = codec.decode_untyped(line).get("subject") if line.strip() else None
        except ContractError:
            return ""
        return head_of(subject) if isinstance(subject, str) else ""

    def _stored_line(self, line: bytes, head: str) -> Stored:
        fields = codec.raw_fields(line.strip())
        subject = str(codec.decode_untyped(line)["subject"])
        body = bytes(fields.get("data", b""))
        if body[:1] != b"{":
            raise ContractError("missing_field", "data must be an event", "data")
        body = self._completed(body, subject)
        self._last[head] += 1
        return Stored(
            sequence=self._last[head],
            time=self._log_time(fields, body) // 1000,
            subject=subject,
            data=body,
        )

    def _ruled(self, stored: Stored) -> None:
        self.rulebook.take(stored)
        for group in self.rulebook.groups.values():
            number = slot_of(group.name)
            if number not in self.slots:
                self.slots[number] = Slot(number)
                self._replay_market(self.slots[number])
        for _, slot in sorted(self.slots.items()):
            self._add(slot.take_rulebook(self.rulebook, stored.time))
        for output in self._outputs:
            if output.kind == "release":
                self._released[output.key] = Stored(
                    sequence=stored.sequence, time=stored.time, subject="risk", data=output.data
                )
        self._give_releases()
        for account_id in self._members():
            now = self.rulebook.group_of(account_id)
            if now is not None and self._entered.get(account_id) != now.name:
                self._enter(account_id)

    def _give_releases(self) -> None:
        """Give every slot what groups remembered of accounts; nothing waits in one process."""
        for _, slot in sorted(self.slots.items()):
            for _, release in sorted(self._released.items()):
                self._add(slot.take_release(release))
            for account_id in [*slot.owed]:
                slot.settle(account_id, self._last["orders"])

    def replace_slot(self, slot: Slot, time: int) -> list[RiskOutput]:
        """Go on with another slot of the same number; market and members come to it anew.

        Args:
            slot: restored, with its memory.
            time: of now, us.
        """
        self._outputs = []
        self.slots[slot.number] = slot
        self._replay_market(slot)
        self._add(slot.take_rulebook(self.rulebook, time))
        for account_id in slot.members():
            self._enter(account_id)
        return self._outputs

    def _replay_market(self, slot: Slot) -> None:
        """Give a new slot the market so far."""
        for name in sorted(self._streams):
            for message in self._streams[name]:
                if head_of(message.subject) in ("marks", "instruments"):
                    self._add(slot.take_market(_stored(message)))

    def _commanded(self, stored: Stored) -> None:
        group = self.rulebook.group_of(decode_token(last_token(stored.subject)))
        slot = Slot(0) if group is None else self.slots[slot_of(group.name)]
        if group is None:
            slot.take_rulebook(self.rulebook, stored.time)
        slot.reach(self.books.position)
        self._add(slot.decide(stored))

    def _ended(self, stored: Stored) -> None:
        end = read_end(stored)
        slot = None if end is None else self._slot_of(end.account_id)
        if end is not None and slot is not None:
            self._add(slot.take_end(end))

    def _fold(self, message: LogMessage) -> Folded:
        result = super()._fold(message)
        for _, slot in sorted(self.slots.items()):
            self._add(slot.take_market(_stored(message)))
            slot.reach(message.log_sequence)
        by_account: dict[str, list[Update]] = {}
        for update in result.updates:
            if update.previous is not None:
                by_account.setdefault(update.stream_id, []).append(update)
        for account_id, updates in sorted(by_account.items()):
            self._feed(account_id, updates)
        return result

    def _feed(self, account_id: str, updates: list[Update]) -> None:
        slot = self._slot_of(account_id)
        if slot is None:
            return
        found = FeedInput(
            account_id=account_id,
            log_sequence=updates[0].log_sequence,
            previous=updates[0].previous,
            updates=tuple(update.data for update in updates),
        )
        self._add(slot.take_input(found))

    def _enter(self, account_id: str) -> None:
        slot = self._slot_of(account_id)
        if slot is None:
            return
        group = self.rulebook.group_of(account_id)
        self._entered[account_id] = "" if group is None else group.name
        account = self.books.accounts.get(account_id)
        document = dict(_UNOPENED) if account is None else state_document(self.books, account)
        document["as_of"] = {
            "log_sequence": self.books.position, "time": log_time(self._time)
        }  # fmt: skip
        self._add(slot.enter(account_id, codec.encode(document), self.books.position))

    def _members(self) -> list[str]:
        return sorted(name for group in self.rulebook.groups.values() for name in group.members)

    def _slot_of(self, account_id: str) -> Slot | None:
        group = self.rulebook.group_of(account_id)
        return None if group is None else self.slots.get(slot_of(group.name))

    def _add(self, outputs: list[RiskOutput]) -> None:
        self._outputs = [*self._outputs, *outputs]


def decision_document(output: RiskOutput) -> dict[str, Any]:
    """Return what is printed of a record."""
    fields = msgspec.json.decode(output.data, type=dict[str, Any])
    return {"kind": output.kind, "key": output.key, **fields["payload"]}


def _stored(message: LogMessage) -> Stored:
    return Stored(
        sequence=message.log_sequence,
        time=message.time // 1000,
        subject=message.subject,
        data=message.data,
    )
