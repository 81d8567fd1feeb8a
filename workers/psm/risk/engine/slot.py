"""One loop of the risk engine: its inputs, its memory, its records.

A `Slot` is a fold: the same inputs in the same order give the same outputs, byte for byte. It
reads no clock, does no I/O, and knows no other slot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from psm.contracts.errors import InvariantError
from psm.contracts.feed import FeedInput
from psm.domain.money import ZERO, subtract
from psm.risk.engine.answers import Answers, note
from psm.risk.engine.checkpoint import CHECKPOINT, hash_of, read_checkpoint
from psm.risk.engine.commands import read_command
from psm.risk.engine.group import GroupState
from psm.risk.engine.ids import AnsweredRequests
from psm.risk.engine.inquiry import Basis
from psm.risk.engine.member import AccountChange, GroupMember, line_name, microseconds
from psm.risk.engine.membership import Memberships
from psm.risk.engine.orders import OpenOrders, order_told
from psm.risk.engine.path import Path, Peak, StaleState, canonical
from psm.risk.engine.records import Chain
from psm.risk.engine.vector import Vector
from psm.risk.engine.watch import LossWatch
from psm.risk.engine.windows import Windows
from psm.risk.market import MarketView
from psm.risk.messages import RiskOutput, Stored
from psm.risk.rulebook import Rulebook


class _Dated(msgspec.Struct, frozen=True, gc=False):
    """An update, as far as its log time."""

    timestamp: str


class Slot:
    """The state of one loop, and everything that its groups decide.

    A record whose `n` is not above the slot's before was stored already, or (`n` 0) is stored by
    nobody: it is an answer all the same.

    Args:
        number: of the slot, 0 to 63; groups whose name falls into it are its own.

    Attributes:
        number: of the slot.
        clock: highest time of all inputs, us; risk's only clock.
    """

    def __init__(self, number: int) -> None:
        self.number, self.clock = number, 0
        self._path, self._windows = Path(), Windows()
        self._market = MarketView()
        self._chain = Chain(number, self._path)
        self._watch = LossWatch(self._path, self._chain)
        self._orders = OpenOrders(self._path, self._watch)
        self._remembered = AnsweredRequests()
        self._vector = Vector()
        self._members = Memberships(
            self._chain, self._market, self._path, self._vector, self._remembered, self._watch
        )
        self._rulebook: Rulebook | None = None
        self._answers: Answers | None = None
        self._day_ends = 0
        self._turned = 0
        self._positions = {"ORDERS": 0, "RULEBOOK": 0, "TRADES": 0}

    # --- what is known of it --------------------------------------------------------------------

    @property
    def n(self) -> int:
        """Number of its last record, 0 before the first; contiguous."""
        return self._chain.n

    @property
    def previous(self) -> str:
        """SHA-256 of its last record's bytes, hex; before the first one that of the slot's name."""
        return self._chain.previous

    @property
    def consumed(self) -> Mapping[str, int]:
        """Positions up to which `ORDERS`, `RULEBOOK` and `TRADES` (its marks) were taken."""
        return {**self._positions, "TRADES": self._market.position}

    def members(self) -> tuple[str, ...]:
        """Return the accounts whose groups are this slot's, ascending: what must be fed."""
        return tuple(sorted(self._members.of))

    # --- the rulebook ---------------------------------------------------------------------------

    def take_rulebook(self, rulebook: Rulebook, at: int) -> list[RiskOutput]:
        """Take the rulebook as it stands now, `at` being the time of its last event, us."""
        self._advance(at)
        self._rulebook = rulebook
        self._positions["RULEBOOK"] = rulebook.sequence
        self._day_ends = 0
        outputs = self._members.regroup(rulebook, self.clock)
        self._answers = self._answering(rulebook)
        for state in self._members.states():
            state.use(rulebook)
        self._orders.released(rulebook, self._members.by_account())
        lifted = self._watch.end_latches(rulebook, self._day_time(), self._members.groups)
        outputs = [*outputs, *lifted]
        for state in self._members.states():
            outputs = [*outputs, *self._looked_at(state, sorted(state.members))]
        return [*outputs, *self._chain.flush(self.clock)]

    def take_release(self, record: Stored) -> list[RiskOutput]:
        """Take what another group remembered of an account that is this slot's now."""
        if self._rulebook is None:
            return []
        return self._members.take_release(record, self._rulebook, self.clock)

    # --- accounts -------------------------------------------------------------------------------

    def enter(self, account_id: str, document: bytes, log_sequence: int) -> list[RiskOutput]:
        """Take a member's whole state document, as of one input of the log."""
        found = self._members.find(account_id)
        if found is None:
            return []
        state, member = found
        new = not self._path.has("day", account_id)
        member.enter(document, log_sequence)
        self._watch.folded(account_id, log_sequence)
        outputs = self._orders.entered(member, self.clock, first=new)
        state.refresh(account_id)
        figures = state.figures(account_id)
        if new and figures is not None:
            state.take_flow(account_id, figures.equity)
        return [*outputs, *self._looked_at(state, [account_id])]

    def take_input(self, found: FeedInput) -> list[RiskOutput]:
        """Take a member's updates of one input; other accounts' are left alone.

        One that is not next to the last leaves the account unknown, until it entered again.
        """
        known = self._members.find(found.account_id)
        if known is None or found.log_sequence <= known[1].log_sequence or not found.updates:
            return []
        state, member = known
        if found.previous is not None and found.previous > member.log_sequence:
            return self.lose(found.account_id)
        flows = member.amount("flows") or ZERO
        time = microseconds(msgspec.json.decode(found.updates[0], type=_Dated).timestamp)
        outputs = self.take_clock(time)
        change = member.apply(found)
        self._watch.folded(found.account_id, found.log_sequence)
        outputs = [*outputs, *self._changed(state, member, change)]
        state.refresh(found.account_id, self._orders.lines(change))
        state.take_flow(found.account_id, subtract(member.amount("flows") or ZERO, flows))
        self._watch.correct_day(state, member, change)
        state.refresh(found.account_id, ())
        return [*outputs, *self._looked_at(state, [found.account_id])]

    def _changed(
        self, state: GroupState, member: GroupMember, change: AccountChange
    ) -> list[RiskOutput]:
        self._watch.count_results(state, member.account_id, change.results)
        rebased = self._path.get(Peak, "peak", f"account:{member.account_id}")
        nav = member.amount("nav")
        if rebased is not None and nav is not None and nav > rebased.peak:
            self._path.put("peak", f"account:{member.account_id}", Peak(peak=nav))
        return self._orders.updated(member.account_id, change.orders, self.clock)

    def reserved_since(self, account_id: str) -> int | None:
        """Return when the first order was approved that PSM does not show, us; None: all are."""
        found = self._members.find(account_id)
        return None if found is None else self._orders.reserved_since(found[1])

    def take_told(self, account_id: str, updates: Sequence[bytes]) -> list[RiskOutput]:
        """Take what PSM told of a member's orders before it was entered: those that ended count.

        The whole account shows open ones alone: else an approved order that came and went while
        nobody followed would be reserved for ever.
        """
        found = self._members.find(account_id)
        if found is None:
            return []
        state, member = found
        told = [one for one in map(order_told, updates) if one is not None]
        ended = self._orders.ended(member, told)
        outputs = self._orders.updated(account_id, ended, self.clock)
        state.refresh(account_id, map(line_name, ended))
        return outputs

    def lose(self, account_id: str) -> list[RiskOutput]:
        """Take a member as unknown: its group's decisions fail closed until it is known again."""
        return self._known(account_id, known=False)

    def regain(self, account_id: str) -> list[RiskOutput]:
        """Take a member as known again: what was missing came, or nothing was."""
        return self._known(account_id, known=True)

    def unfolded(self, account_id: str, log_sequence: int, since: int | None) -> list[RiskOutput]:
        """Take it that PSM has not folded a member's input that the log holds since then, us.

        While that is older than `MAX_STATE_AGE` its group only closes. `since` None: it is folded.
        """
        found = self._members.find(account_id)
        if found is None:
            return []
        if since is None or log_sequence <= found[1].log_sequence:
            self._watch.folded(account_id, log_sequence)
            return []
        entry = StaleState(log_sequence=log_sequence, since=since)
        return self._watch.unfolded(account_id, entry, self.clock)

    def _known(self, account_id: str, *, known: bool) -> list[RiskOutput]:
        found = self._members.find(account_id)
        if found is None or (known and not found[1].log_sequence):
            return []
        state, member = found
        member.known = known
        state.refresh(account_id)
        return self._looked_at(state, [account_id]) if known else []

    # --- the market and time --------------------------------------------------------------------

    def take_market(self, message: Stored) -> list[RiskOutput]:
        """Take a message of `marks.*` or `instruments.*` of TRADES; older ones are left alone."""
        outputs = self.take_clock(message.time)
        symbol = self._market.take(message)
        if symbol is None:
            return outputs
        for state in self._members.states():
            outputs = [*outputs, *self._looked_at(state, state.moved(symbol))]
        return outputs

    def reach(self, log_sequence: int) -> list[RiskOutput]:
        """Take it that TRADES has no other mark or instrument up to here: M, without a message."""
        self._market.reach(log_sequence)
        return []

    def take_clock(self, time: int) -> list[RiskOutput]:
        """Take a time that TRADES has passed, us: days, latches and reservations end by it."""
        self._advance(time)
        rulebook = self._rulebook
        if rulebook is None or time < self._turned:
            return []
        self._turned = time
        if time >= self._day_ends:
            self._day_ends = self._open_days(rulebook, time)
        outputs = self._watch.end_latches(rulebook, time, self._members.groups)
        outputs = [*outputs, *self._orders.overdue(time)]
        return [*outputs, *self._chain.flush(self.clock)]

    def _open_days(self, rulebook: Rulebook, time: int) -> int:
        """Begin the days that have begun; return when the next one does."""
        for state in self._members.states():
            for member in state.members.values():
                self._watch.open_day(state, member, rulebook, time)
        return min((rulebook.day_of(name, time).end for name in self._members.groups), default=0)

    def _looked_at(self, state: GroupState, accounts: Sequence[str]) -> list[RiskOutput]:
        """Look at accounts and their group after something changed."""
        rulebook, time = self._rulebook, self._day_time()
        known = [name for name in accounts if state.members[name].known]
        if rulebook is None or not known:
            return []
        for account_id in known:
            self._watch.open_day(state, state.members[account_id], rulebook, time)
        state.take_nav()
        return self._watch.losses(state, known, rulebook, time)

    # --- orders ---------------------------------------------------------------------------------

    def decide(self, command: Stored, *, dry_run: bool = False) -> list[RiskOutput]:
        """Answer a message of `orders.command.*`; the decision is the last output.

        Args:
            command: an `order_request`, `replace_request` or `cancel_request`.
            dry_run: change nothing; the record is then `n` 0 and stored by nobody.
        """
        request = read_command(command)
        clock = max(self.clock, command.time)
        answers = self._answers
        if answers is None:
            raise InvariantError("no rulebook was taken: nothing can be decided")
        if dry_run:
            return [answers.preview(request, clock)]
        self._advance(command.time)
        self._positions["ORDERS"] = max(self._positions["ORDERS"], command.sequence)
        return answers.decide(request, clock)

    def _answering(self, rulebook: Rulebook) -> Answers:
        """Return what answers by a rulebook, and for the accounts that it groups here."""
        return Answers(
            books=Basis(rulebook, self._market, self._path, self._windows),
            chain=self._chain,
            watch=self._watch,
            orders=self._orders,
            remembered=self._remembered,
            vector=self._vector,
            groups=self._members.by_account(),
        )

    # --- memory ---------------------------------------------------------------------------------

    def take_recorded(self, record: RiskOutput | Stored) -> None:
        """Take a record of this slot that was stored after the checkpoint.

        Raises:
            InvariantError: it is not the one after the last: a hole, or another chain.
        """
        event_type, time, payload = self._chain.take(record.data)
        self._advance(microseconds(time))
        self._path.apply(payload.get("path") or {})
        if payload.get("vector"):
            self._vector.restore({payload["group"]: payload["vector"]})
        if event_type == "LatchSet":
            key = f"{payload['group']}|{payload['scope']}|{payload['code']}"
            self._watch.name_latch(key, self._chain.previous)
        if event_type == "AccountReleased":
            self._vector.forget(payload["account_id"])
        if event_type == "risk_decision":
            self._positions["ORDERS"] = payload["orders_sequence"]
            note(payload, record.data, self._windows, self._remembered)

    def checkpoint(self) -> bytes:
        """Return the complete path state, canonical JSON with its own hash."""
        state = self._state()
        return canonical({**state, "hash": hash_of(state)})

    @classmethod
    def restored(cls, checkpoint: bytes) -> Slot:
        """Return the slot of a checkpoint; members enter again, path state is complete.

        Raises:
            InvariantError: the bytes are not what `checkpoint` wrote.
        """
        state = read_checkpoint(checkpoint)
        slot = cls(state["slot"])
        slot.clock = state["clock"]
        slot._chain.n, slot._chain.previous = state["n"], state["previous"]
        slot._positions.update(state["consumed"])
        slot._path.restore(state["path"])
        slot._windows.restore(state["windows"])
        slot._remembered.restore(state["requests"])
        slot._vector.restore(state["vector"])
        return slot

    def state_hash(self) -> str:
        """Return SHA-256 of the path state, hex."""
        return hash_of(self._state())

    def _state(self) -> dict[str, Any]:
        return {
            "form": CHECKPOINT,
            "slot": self.number,
            "clock": self.clock,
            "n": self._chain.n,
            "previous": self._chain.previous,
            "consumed": {"ORDERS": self._positions["ORDERS"]},
            "path": self._path.document(),
            "windows": self._windows.document(),
            "requests": self._remembered.document(),
            "vector": self._vector.document(),
        }

    # --- helpers --------------------------------------------------------------------------------

    def _day_time(self) -> int:
        """Return the time by which days and latches turn: that of TRADES alone, once it is known.

        A request that ORDERS stored a moment later turns nothing.
        """
        return self._turned or self.clock

    def _advance(self, time: int) -> None:
        self.clock = max(self.clock, time)
