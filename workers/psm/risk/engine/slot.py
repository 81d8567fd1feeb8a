"""One loop of the risk engine: its inputs, its memory, its records.

A `Slot` is a fold: the same inputs in the same order give the same outputs, byte for byte. It
reads no clock, does no I/O, and knows no other slot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from psm.contracts.errors import InvariantError
from psm.contracts.feed import FeedInput
from psm.domain.money import ZERO, subtract
from psm.risk.engine.answers import Answers
from psm.risk.engine.commands import read_command
from psm.risk.engine.group import GroupState
from psm.risk.engine.inquiry import Basis
from psm.risk.engine.member import AccountChange, GroupMember, line_name, microseconds
from psm.risk.engine.memory import SlotMemory
from psm.risk.engine.orders import order_told
from psm.risk.engine.path import Peak, StaleState
from psm.risk.engine.results import OrderEnd
from psm.risk.messages import RiskOutput, Stored
from psm.risk.rulebook import Rulebook


class _Dated(msgspec.Struct, frozen=True, gc=False):
    """An update, as far as its log time."""

    timestamp: str


class Slot(SlotMemory):
    """The state of one loop, and everything that its groups decide.

    A record whose `n` is not above the slot's before was stored already, or (`n` 0) is stored by
    nobody: it is an answer all the same.

    Args:
        number: of the slot, 0 to 63; groups whose name falls into it are its own.

    Attributes:
        number: of the slot.
        clock: highest time of all inputs, us; risk's only clock.
    """

    # --- what is known of it --------------------------------------------------------------------

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
        outputs = self._members.regroup(rulebook, self.clock, self._positions["ORDERS"])
        outputs = [*outputs, *self._cancels.ask(rulebook, self._members.states(), self.clock)]
        self._answers = self._answering(rulebook)
        for state in self._members.states():
            state.use(rulebook)
        self._orders.released(rulebook, self._members.by_account())
        lifted = self._watch.end_latches(rulebook, self._day_time(), self._members.groups)
        outputs = [*outputs, *lifted]
        for state in self._members.states():
            outputs = [*outputs, *self._looked_at(state, sorted(state.members))]
            outputs = [*outputs, *self._parents.look(state, rulebook, self._day_time())]
        return [*outputs, *self._chain.flush(self.clock)]

    def take_figures(self, record: Stored) -> list[RiskOutput]:
        """Take what another slot told of a group, which may share a parent with one here."""
        if self._rulebook is None:
            return []
        return self._parents.take(record, self._rulebook, self._day_time())

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
        self._transfers.take(state, member.account_id, change.transfers, self.clock)
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
        outputs = [*outputs, *self._orders.overdue(time), *self._transfers.overdue(time)]
        outputs = [*outputs, *self._parents.tick(rulebook, time)]
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
        losses = self._watch.losses(state, known, rulebook, time)
        return [*losses, *self._parents.look(state, rulebook, time)]

    # --- orders ---------------------------------------------------------------------------------

    def decide(self, command: Stored, *, dry_run: bool = False) -> list[RiskOutput]:
        """Answer a message of `orders.command.*`; the decision is the last output.

        Of an account that moved there is none while what it asked before waits, or where the old
        group has answered: see `owed`.

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
        if not self._members.answers(request.account_id, command.sequence):
            return []
        self._advance(command.time)
        self._positions["ORDERS"] = max(self._positions["ORDERS"], command.sequence)
        self._engine = self.rules[-1].version
        return answers.decide(request, clock)

    def begin(self, orders: int) -> None:
        """Take it that requests up to a sequence of ORDERS are nobody's: no group was here."""
        self._positions["ORDERS"] = max(self._positions["ORDERS"], orders)

    def holds_back(self, account_id: str) -> bool:
        """Return whether what is said of an account in ORDERS waits for what was said before."""
        return self._members.holds_back(account_id)

    @property
    def owed(self) -> Mapping[str, int]:
        """Accounts that moved here, and where in ORDERS their old groups stopped to answer.

        What was said of them from there on is to be given to `decide` and `take_end`, in order and
        up to where the slot is; then to `settle`.
        """
        return self._members.owed

    def awaits(self, account_id: str) -> bool:
        """Return whether `take_release` waits for what another group remembers of an account."""
        return self._members.awaits(account_id)

    def settle(self, account_id: str, sequence: int, *, whole: bool = True) -> list[RiskOutput]:
        """Take it that what is owed to an account was given, up to a sequence of ORDERS.

        Args:
            account_id: whose.
            sequence: from which on, with `whole`, it needs no giving any more.
            whole: the slot is not further than that.
        """
        self._members.settle(account_id, sequence, whole=whole)
        return []

    def take_end(self, end: OrderEnd) -> list[RiskOutput]:
        """Take it that an order ended at the venue; commands and ends come in ORDERS' order."""
        self._advance(end.time)
        self._positions["ORDERS"] = max(self._positions["ORDERS"], end.sequence)
        found = self._members.find(end.account_id)
        if found is None:
            return []
        state, member = found
        line = self._orders.end(member, end, self.clock)
        if line is not None:
            state.refresh(end.account_id, (line,))
        return []

    def _answering(self, rulebook: Rulebook) -> Answers:
        """Return what answers by a rulebook, and for the accounts that it groups here."""
        return Answers(
            rules=self.rules[-1],
            books=Basis(rulebook, self._market, self._path, self._windows),
            chain=self._chain,
            watch=self._watch,
            orders=self._orders,
            remembered=self._remembered,
            vector=self._vector,
            groups=self._members.by_account(),
        )
