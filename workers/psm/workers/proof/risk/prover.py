"""Proves the records of slots, in the order in which RISK has them."""

from __future__ import annotations

from typing import Any

import msgspec

from psm.risk.engine.proof import Judge, SlotProof
from psm.risk.engine.proof_records import Deviation, RecordRead, unfolded_in, vector_of
from psm.risk.engine.rules import RULES, Registry
from psm.workers.proof.risk.evidence import SlotEvidence, Sources

DEVIATIONS_MAX = 100
"""Deviations that are told one by one; more are only counted."""


class ProvenSlot(msgspec.Struct, kw_only=True):
    """What was proved of a slot.

    Attributes:
        slot: number.
        records: that were taken; `decisions` those of them that were made again.
        checkpoints: that were compared.
        first_n, last_n: of the records; 0 for none.
        skipped: records before the first checkpoint that is left; what they follow is gone.
    """

    slot: int
    records: int = 0
    decisions: int = 0
    checkpoints: int = 0
    first_n: int = 0
    last_n: int = 0
    skipped: int = 0


class Prover:
    """Takes the records of any number of slots and makes their decisions again.

    Attributes:
        slots: what was proved, by number.
        deviations: the first of them; `deviating` how many there were.
    """

    def __init__(
        self,
        sources: Sources,
        *,
        judge: Judge | None = None,
        rules: Registry = RULES,
        first_n: int = 1,
        last_n: int | None = None,
    ) -> None:
        """Nothing was taken yet.

        Args:
            sources: logs to prove by.
            judge: looks at each decision of the range in the state that it was made in.
            rules: all that decisions may name.
            first_n: first record whose deviations count; those before it are taken.
            last_n: last one that is taken.
        """
        self.slots: dict[int, ProvenSlot] = {}
        self.deviations: list[Deviation] = []
        self.deviating = 0
        self._sources, self._judge, self._rules = sources, judge, rules
        self._first_n, self._last_n = first_n, last_n
        self._proofs: dict[int, tuple[SlotProof, SlotEvidence]] = {}

    @property
    def decisions(self) -> int:
        """How many decisions were made again."""
        return sum(one.decisions for one in self.slots.values())

    def expect(self, record: RecordRead) -> None:
        """Say that a record will come, before the first one is taken."""
        for account_id, entry in vector_of(record).items():
            if entry[1]:
                self._sources.accounts.want(account_id, entry[1])
        for account_id, log_sequence in unfolded_in(record):
            self._sources.accounts.want(account_id, log_sequence)

    def expect_checkpoint(self, state: dict[str, Any]) -> None:
        """Say that a checkpoint will be begun with: what it says that accounts were seen at."""
        for told in state["vector"].values():
            for account_id, entry in told.items():
                if entry[1]:
                    self._sources.accounts.want(account_id, int(entry[1]))
        for account_id, entry in state["path"].get("stale", {}).items():
            self._sources.accounts.want(account_id, entry["log_sequence"])

    async def take(self, record: RecordRead) -> None:
        """Take the next record of a slot."""
        number, n = record.payload["slot"], record.payload["n"]
        slot = self.slots.setdefault(number, ProvenSlot(slot=number))
        if self._last_n is not None and n > self._last_n:
            return
        if number not in self._proofs:
            if n != 1:
                slot.skipped += 1
                return
            self._begin(number)
        proof, evidence = self._proofs[number]
        if proof.is_repeated(record):
            return
        slot.records += 1
        slot.first_n, slot.last_n = slot.first_n or n, n
        if not record.is_decision:
            self._add(proof.follow(record))
            return
        slot.decisions += 1
        judge = self._judge if n >= self._first_n else None
        self._add(proof.prove(record, await evidence.of(record, proof), judge))

    def checkpoint(self, number: int, checkpoint: bytes, sequence: int) -> None:
        """Take a checkpoint of a slot: begin with it, or compare it.

        Raises:
            InvariantError: it is the first one, and is none.
        """
        slot = self.slots.setdefault(number, ProvenSlot(slot=number))
        if number not in self._proofs:
            self._begin(number).begin(checkpoint)
            return
        if self._last_n is None or self._proofs[number][0].n < self._last_n:
            slot.checkpoints += 1
            self._add(self._proofs[number][0].compare(checkpoint, sequence))

    def add(self, deviation: Deviation) -> None:
        """Report what was found beside the records."""
        self._add([deviation])

    def _begin(self, number: int) -> SlotProof:
        proof = SlotProof(number, self._rules)
        self._proofs[number] = (proof, SlotEvidence(self._sources))
        return proof

    def _add(self, deviations: list[Deviation]) -> None:
        counted = [one for one in deviations if one.n >= self._first_n]
        self.deviating += len(counted)
        self.deviations += counted[: max(0, DEVIATIONS_MAX - len(self.deviations))]
