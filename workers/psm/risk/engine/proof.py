"""Decisions made again, from what they name: the records of a slot against their inputs.

A decision names its inputs: the rulebook's sequence, the place of the market, each account's place
and hash, the request, and a clock. What follows from no log is memory, and every record tells what
changed of it. So a decision is made again without the order in which its inputs once came, and must
be the same bytes. The memory that it tells is checked for what it may say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from psm.contracts.errors import InvariantError
from psm.risk.engine.answers import Answers, note, request_name
from psm.risk.engine.cancels import unasked
from psm.risk.engine.checkpoint import read_checkpoint
from psm.risk.engine.commands import Command, read_command
from psm.risk.engine.group import GroupState
from psm.risk.engine.ids import AnsweredRequests
from psm.risk.engine.inquiry import Basis, Judged
from psm.risk.engine.lawful import (
    Approvals,
    SeenPlaces,
    Told,
    account_of,
    apart,
    came_along,
    forgotten,
    own_names,
    told_by,
    told_by_checkpoint,
    unfolded_by,
    unlawful,
)
from psm.risk.engine.member import UNKNOWN, microseconds
from psm.risk.engine.orders import OpenOrders
from psm.risk.engine.path import Path
from psm.risk.engine.proof_records import (
    DecisionEvidence,
    Deviation,
    RecordRead,
    deviation_of,
    difference_of,
    entry_of,
    first_difference,
    plain,
    vector_of,
)
from psm.risk.engine.records import Chain, moment_text
from psm.risk.engine.rules import RULES, EngineRules, Registry, rules_of
from psm.risk.engine.vector import Vector
from psm.risk.engine.watch import LossWatch
from psm.risk.engine.windows import Windows
from psm.risk.market import MarketView
from psm.risk.rulebook import Rulebook, slot_of

Judge = Callable[[RecordRead, Answers, Command], object]
"""Looks at a decision in the state that it was made in: the record, whom to ask, the request."""


class SlotProof:
    """The memory of a slot as its records tell it, and what each decision must have been.

    Records are given in the order of the slot. Whatever deviates is reported once: from there on
    what was recorded counts, so that one error is not found in all that follows it.

    Attributes:
        number: of the slot.
    """

    def __init__(self, number: int, rules: Registry = RULES) -> None:
        """Nothing is known; each decision is made again by those rules that it names."""
        self.number, self._rules, self._newest = number, rules, rules[-1].version
        self._path, self._windows = Path(), Windows()
        self._market = MarketView()
        self._chain, self._scratch = Chain(number, self._path), Chain(number, self._path)
        self._watch = LossWatch(self._path, self._scratch)
        self._orders = OpenOrders(self._path, self._watch)
        self._remembered = AnsweredRequests()
        self._vector = Vector()
        self._groups: dict[str, GroupState] = {}
        self._of: dict[str, str] = {}
        self._rulebook: Rulebook | None = None
        self._ruled_at = -1
        self._pending: list[Told] = []
        self._approvals = Approvals()
        self._entries: dict[str, tuple[int, int, str]] = {}
        self._seen: dict[str, tuple[tuple[int, int, str], bytes | None]] = {}
        self._clock = 0

    @property
    def n(self) -> int:
        """Number of the last record that was taken."""
        return self._chain.n

    @property
    def market_position(self) -> int:
        """Log sequence up to which it has the market."""
        return self._market.position

    # --- what is saved --------------------------------------------------------------------------

    def begin(self, checkpoint: bytes) -> None:
        """Start from a checkpoint: what is before it counts as it says.

        Raises:
            InvariantError: it is none.
        """
        state = read_checkpoint(checkpoint)
        self._chain.n, self._chain.previous = state["n"], state["previous"]
        self._clock = state["clock"]
        self._path.restore(state["path"])
        self._remember(state)
        for told in state["vector"].values():
            self._entries.update({name: entry_of(value) for name, value in told.items()})

    def compare(self, checkpoint: bytes, sequence: int) -> list[Deviation]:
        """Compare a checkpoint, whose owner record is there in RISK, with the records before it."""
        try:
            state = read_checkpoint(checkpoint)
        except InvariantError as error:
            differs = ("checkpoint", str(error), None)
            return [deviation_of({"slot": self.number, "n": self.n}, sequence, differs)]
        own = {
            "slot": self.number,
            "n": self._chain.n,
            "previous": self._chain.previous,
            "windows": self._windows.document(),
            "requests": self._remembered.document(),
            "vector": self._vector.document(),
        }
        found = first_difference({name: state[name] for name in own}, plain(own))
        # What of the memory no record told yet is judged with the next decision.
        told = told_by_checkpoint(plain(self._path.document()), state["path"])
        self._pending = [*self._pending, *told]
        if found is None:
            return []
        self._remember(state)
        differs = (f"checkpoint.{found[0]}", *found[1:])
        return [deviation_of({"slot": self.number, "n": self.n}, sequence, differs)]

    def _remember(self, state: Mapping[str, Any]) -> None:
        """Take what a checkpoint says of windows, requests and accounts, instead of what was."""
        self._windows, self._remembered, self._vector = Windows(), AnsweredRequests(), Vector()
        self._windows.restore(state["windows"])
        self._remembered.restore(state["requests"])
        self._vector.restore(state["vector"])

    # --- records --------------------------------------------------------------------------------

    def is_repeated(self, record: RecordRead) -> bool:
        """Return whether a record is the last one once more: whoever recovers passes over it."""
        return self._chain.is_repeated(record.data)

    def wants(self, record: RecordRead) -> dict[str, int]:
        """Return the accounts whose documents a decision needs, and at which log sequence."""
        entries = {**self._entries, **vector_of(record)}
        return {
            name: entry[1]
            for name, entry in entries.items()
            if entry[1] and self._seen.get(name, (None, None))[0] != entry
        }

    def unfolded(self, record: RecordRead) -> list[tuple[str, int]]:
        """Return the inputs that a decision must know of: PSM was said to be behind with them."""
        return unfolded_by(self._path, [*self._pending, *told_by(record, "")])

    def follow(self, record: RecordRead) -> list[Deviation]:
        """Take a record that is no decision."""
        deviations = self._link(record)
        payload = record.payload
        self._note_vector(record)
        self._pending = [*self._pending, *told_by(record, self._chain.previous)]
        if payload.get("code") == "account_moved":
            self._pending = came_along(self._pending, payload["account_id"])
        if record.event_type == "AccountReleased":
            self._vector.forget(payload["account_id"])
            for known in (self._entries, self._seen):
                known.pop(payload["account_id"], None)
        return deviations

    def prove(
        self, record: RecordRead, evidence: DecisionEvidence, judge: Judge | None = None
    ) -> list[Deviation]:
        """Make a decision again, and take it.

        Args:
            record: the decision.
            evidence: what it was made from.
            judge: looks at the state that it was made in; nothing may change by it.
        """
        deviations = self._link(record)
        told = [*self._pending, *told_by(record, self._chain.previous)]
        self._pending = []
        held = own_names(record.payload)
        before, after = apart(told, held)
        places = SeenPlaces(evidence, self._entries, vector_of(record), self._seen)
        for one in before:
            ends = self._approvals.ends_of(one, evidence.ends)
            found = unlawful(self._path, one, evidence.rulebook, record.payload, places, ends)
            deviations = [*deviations, *(self._of_record(record, *each) for each in found)]
            self._apply([one])
        clock = microseconds(record.payload["clock"])
        asked = unasked(self._path, evidence.rulebook, self.number, clock)
        kept = [*forgotten(self._path, places), *asked]
        deviations = [*deviations, *(self._of_record(record, *each) for each in kept)]
        deviations = [*deviations, *self._enter(record, evidence, before)]
        deviations = [*deviations, *self._judge(record, evidence, after, judge)]
        self._apply(after)
        self._approvals.note(after, record.payload["orders_sequence"])
        for name, _ in [*self._path.untold()]:
            self._path.told(name)
        note(record.payload, record.data, self._windows, self._remembered)
        self._refresh(dict.fromkeys(account_of(one.name) for one in after))
        return deviations

    def _apply(self, told: Sequence[Told]) -> None:
        self._path.apply({one.name: one.value for one in told})
        for one in told:
            if one.latch is not None:
                self._watch.name_latch(one.name.removeprefix("latch/"), one.latch)

    def _link(self, record: RecordRead) -> list[Deviation]:
        n, previous = record.payload.get("n"), record.payload.get("previous")
        deviations = []
        if n != self._chain.n + 1:
            deviations = [self._of_record(record, "n", n, self._chain.n + 1)]
        elif previous != self._chain.previous:
            deviations = [self._of_record(record, "previous", previous, self._chain.previous)]
        self._chain.n, self._chain.previous = record.payload["n"] - 1, previous or ""
        self._chain.take(record.data)
        clock = microseconds(record.timestamp)
        if clock < self._clock and record.is_decision:
            latest = self._clock
            deviations = [*deviations, self._of_record(record, "clock", clock, latest)]
        self._clock = max(self._clock, clock) if record.is_decision else self._clock
        return deviations

    def _note_vector(self, record: RecordRead) -> None:
        entries = vector_of(record)
        if entries:
            self._entries.update(entries)
            self._vector.tell(record.payload["group"], entries.items())

    # --- the state that a decision saw ----------------------------------------------------------

    def _enter(
        self, record: RecordRead, evidence: DecisionEvidence, told: Sequence[Told]
    ) -> list[Deviation]:
        """Bring rulebook, market and accounts to where the decision saw them."""
        position = record.payload.get("marks_log_sequence", 0)
        if position < self._market.position:
            self._market, self._groups, self._of = MarketView(), {}, {}
            self._ruled_at = -1
            self._seen = {name: (_NOWHERE, seen[1]) for name, seen in self._seen.items()}
        symbols = [self._market.take(message) for message in evidence.market]
        self._market.reach(position)
        if evidence.rulebook.sequence != self._ruled_at:
            self._regroup(evidence.rulebook)
        self._note_vector(record)
        deviations: list[Deviation] = []
        for name, entry in self._entries.items():
            seen = self._seen.get(name, (None, None))
            if seen[0] != entry and name in self._of:
                document = evidence.documents.get(name, seen[1])
                deviations = [*deviations, *self._see(record, name, entry, document)]
        for symbol in dict.fromkeys(one for one in symbols if one is not None):
            for state in self._groups.values():
                state.moved(symbol)
        self._refresh(dict.fromkeys(account_of(one.name) for one in told))
        return deviations

    def _regroup(self, rulebook: Rulebook) -> None:
        """Hold the accounts that the rulebook groups here."""
        self._rulebook, self._ruled_at = rulebook, rulebook.sequence
        wanted = {
            account_id: group
            for group in rulebook.groups.values()
            if slot_of(group.name) == self.number
            for account_id in group.members
        }
        for account_id, name in [*self._of.items()]:
            if account_id not in wanted or wanted[account_id].name != name:
                self._groups[name].remove(account_id)
                self._vector.forget(account_id)
                self._seen.pop(account_id, None)
                self._entries.pop(account_id, None)
                del self._of[account_id]
        for account_id, group in sorted(wanted.items()):
            if group.name not in self._groups:
                self._groups[group.name] = GroupState(
                    group.name, group.currency, self._market, self._path
                )
            if account_id not in self._of:
                self._of[account_id] = group.name
                self._groups[group.name].add(account_id)
        for state in self._groups.values():
            state.use(rulebook)

    def _see(
        self, record: RecordRead, name: str, entry: tuple[int, int, str], document: bytes | None
    ) -> list[Deviation]:
        """Take an account as the vector says that it was seen."""
        state = self._groups[self._of[name]]
        if not entry[1] and state.members[name].log_sequence:
            state.remove(name)  # by another owner, which had not read it yet
        member = state.add(name)
        if document is not None and entry[1]:
            member.enter(document, entry[1])
        self._seen[name] = (entry, document)
        found = member.seen
        member.known = entry[2] != UNKNOWN
        self._refresh({name: None})
        # Of a stream that waits the hash is that of the state before: nothing was published since.
        hashed = found[2] if member.status == "open" else entry[2]
        expected = (found[0], entry[1], hashed if member.known else UNKNOWN)
        if document is None and entry[1]:
            return [self._of_record(record, f"vector.{name}", list(entry), None)]
        if expected != entry:
            return [self._of_record(record, f"vector.{name}", list(entry), list(expected))]
        return []

    def _refresh(self, accounts: Mapping[str | None, None]) -> None:
        for name in accounts:
            if name is not None and name in self._of:
                self._groups[self._of[name]].refresh(name)

    # --- judging --------------------------------------------------------------------------------

    def _judge(
        self,
        record: RecordRead,
        evidence: DecisionEvidence,
        own: Sequence[Told],
        judge: Judge | None,
    ) -> list[Deviation]:
        payload = record.payload
        rules = rules_of(self._rules, payload.get("engine"))
        if rules is None:
            return [self._of_record(record, "engine", payload.get("engine"), self._newest)]
        if evidence.command is None:
            return [self._of_record(record, "orders_sequence", payload["orders_sequence"], None)]
        command = read_command(evidence.command)
        answers = self._answers(evidence.rulebook, rules)
        clock = microseconds(payload["clock"])
        if clock < command.time:  # it never runs behind what it decides on
            latest = moment_text(command.time)
            return [self._of_record(record, "clock", payload["clock"], latest)]
        if judge is not None:
            judge(record, answers, command)
        earlier = self._remembered.get(request_name(command))
        again = earlier is not None and earlier.hash != command.hash
        made, judged = answers.judged(command, clock, again=again)
        vector_hash = self._vector.hash(payload["group"])
        differs = difference_of(record, made, vector_hash, self.number, command.links)
        deviations = [] if differs is None else [self._of_record(record, *differs)]
        if judged is None:
            return deviations
        return [*deviations, *self._compare_memory(record, answers, command, judged, own)]

    def _compare_memory(
        self,
        record: RecordRead,
        answers: Answers,
        command: Command,
        judged: Judged,
        own: Sequence[Told],
    ) -> list[Deviation]:
        """Let the decision change the memory as it must; compare with what was told of that."""
        state = self._groups[self._of[command.account_id]]
        before = {name: plain(self._path.told_as(name)) for name in own_names(record.payload)}
        answers.commit(command, state, judged, microseconds(record.payload["clock"]))
        told = {one.name: one.value for one in own}
        for name, was in before.items():
            made, recorded = plain(self._path.told_as(name)), told.get(name, was)
            if name.startswith("latch/"):
                continue  # its hash is that of the record that set it
            if made != recorded:
                differs = first_difference(recorded, made, f"path.{name}")
                return [self._of_record(record, *(differs or (f"path.{name}", recorded, made)))]
        return []

    def _answers(self, rulebook: Rulebook, rules: EngineRules) -> Answers:
        return Answers(
            rules=rules,
            books=Basis(rulebook, self._market, self._path, self._windows),
            chain=self._scratch,
            watch=self._watch,
            orders=self._orders,
            remembered=self._remembered,
            vector=self._vector,
            groups={account_id: self._groups[name] for account_id, name in self._of.items()},
        )

    def _of_record(self, record: RecordRead, field: str, recorded: Any, made: Any) -> Deviation:
        return deviation_of(record.payload, record.sequence, (field, recorded, made))


_NOWHERE = (-1, -1, "")
