"""What decisions were made from, put together from the logs for one slot after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from psm.risk.engine.proof import SlotProof
from psm.risk.engine.proof_records import DecisionEvidence, RecordRead, UnfoldedInput
from psm.risk.engine.results import OrderEnd, read_end
from psm.risk.messages import Stored
from psm.risk.rulebook import Rulebook, Verify
from psm.workers.proof.risk.accounts import PastAccounts

ReadMarket = Callable[[int], AsyncIterator[Stored]]
"""Messages of marks and instruments from a log sequence on, ascending."""
ReadStored = Callable[[int], Awaitable[Stored | None]]
"""Message of a stream at a sequence; None if it is gone."""


ReadResults = Callable[[], AsyncIterator[Stored]]
"""Messages of `orders.status.*`, ascending; from where the first slot's proof begins."""


class PastEnds:
    """What ORDERS tells of orders that ended."""

    def __init__(self, results: ReadResults) -> None:
        """Nothing is read yet."""
        self._results: ReadResults | None = results
        self._of: dict[tuple[str, str], list[OrderEnd]] = {}

    async def read(self) -> None:
        """Read all of it, once."""
        results, self._results = self._results, None
        if results is None:
            return
        async for message in results():
            if (end := read_end(message)) is not None:
                self._of.setdefault((end.account_id, end.order_id), []).append(end)

    def of(self, account_id: str, order_id: str) -> Sequence[OrderEnd]:
        """Return what was told of an order."""
        return self._of.get((account_id, order_id), ())


class Sources:
    """The logs that the slots of one validation share.

    Args:
        rules: every message of RULEBOOK.
        verify: checks a signature of the rulebook.
        market: reads marks and instruments.
        command: reads a request of ORDERS.
        results: reads what the venue said of orders.
        message: reads a message of the log.
        accounts: folds accounts.
    """

    def __init__(
        self,
        rules: Sequence[Stored],
        verify: Verify,
        *,
        market: ReadMarket,
        command: ReadStored,
        results: ReadResults,
        message: ReadStored,
        accounts: PastAccounts,
    ) -> None:
        self.rules, self.verify = rules, verify
        self.market, self.command, self.message = market, command, message
        self.accounts = accounts
        self.ends = PastEnds(results)


class SlotEvidence:
    """The evidence of one slot's decisions, in their order."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._rulebook = Rulebook(sources.verify)
        self._market: AsyncIterator[Stored] | None = None
        self._ahead: Stored | None = None

    async def of(self, record: RecordRead, proof: SlotProof) -> DecisionEvidence:
        """Return what a decision was made from."""
        accounts = self._sources.accounts
        wanted = proof.wants(record)
        documents = {
            name: await accounts.document(name, place) for name, place in sorted(wanted.items())
        }
        for name, place in wanted.items():
            accounts.forget(name, place)
        position = record.payload.get("marks_log_sequence", 0)
        await self._sources.ends.read()
        return DecisionEvidence(
            rulebook=self._ruled(record.payload.get("rulebook_sequence", 0)),
            market=await self._until(position, proof.market_position),
            documents=documents,
            command=await self._sources.command(record.payload["orders_sequence"]),
            shown=accounts.shown,
            ends=self._sources.ends.of,
            unfolded={key: await self._unfolded(*key) for key in proof.unfolded(record)},
        )

    async def _unfolded(self, account_id: str, log_sequence: int) -> UnfoldedInput:
        """Return an input that PSM was said not to have folded."""
        return UnfoldedInput(
            message=await self._sources.message(log_sequence),
            document=await self._sources.accounts.document(account_id, log_sequence),
        )

    def _ruled(self, sequence: int) -> Rulebook:
        """Return the rulebook at a sequence; it never falls but where a record was altered."""
        if sequence < self._rulebook.sequence:
            self._rulebook = Rulebook(self._sources.verify)
        for stored in self._sources.rules[self._rulebook.sequence :]:
            if stored.sequence > sequence:
                break
            self._rulebook.take(stored)
        return self._rulebook

    async def _until(self, position: int, known: int) -> list[Stored]:
        """Return the market's messages up to a place; all of them where it is before the last."""
        if self._market is None or position < known:
            self._market, self._ahead = self._sources.market(1), None
        found: list[Stored] = []
        while self._ahead is None or self._ahead.sequence <= position:
            if self._ahead is not None:
                found.append(self._ahead)
            self._ahead = await anext(self._market, None)
            if self._ahead is None:
                break
        return found
