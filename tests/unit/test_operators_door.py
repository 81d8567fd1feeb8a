"""Operators' events have a subject of their own, and no other event has a place there."""

from __future__ import annotations

import msgspec
import pytest
from tests.support.domain import Log, given
from tests.support.events import ACCOUNT, Sent, deposit, dismissed, retried, unknown, voided

from psm.contracts import subjects
from psm.contracts.drafts import draft_of
from psm.contracts.errors import ContractError
from psm.domain.messages import Outcome


def through(head: str, sent: Sent) -> Sent:
    """Return a message as if it came through the other door."""
    return msgspec.structs.replace(sent, subject=f"{head}.{ACCOUNT}")


def blocked() -> Log:
    """Return a log whose stream waits for an operator."""
    return given(deposit(1), unknown(2), deposit(3))


@pytest.mark.parametrize(
    "sent", [dismissed(2), retried(), voided(2, 2)], ids=["dismissed", "retried", "voided"]
)
def test_operator_event_among_trades_is_rejected(sent: Sent) -> None:
    """Whoever may publish trades may not repair: it enters no chain and changes nothing."""
    log = blocked()
    before = log.hashes(), log.account().delivery.chain_hash
    seen = log.when(through("trades", sent))
    assert (seen.outcome, seen.reason) == (Outcome.REJECTED, "operators_only")
    assert seen.payload("EventRefused")["field"] == "event_type"
    assert (log.hashes(), log.account().delivery.chain_hash) == before
    assert log.when(dismissed(2)).outcome is Outcome.APPLIED


def test_event_of_an_account_among_repairs_is_rejected() -> None:
    """Nothing but operators' events has a place on their subject."""
    log = given(deposit(1))
    seen = log.when(through("repair", deposit(2)))
    assert (seen.outcome, seen.reason) == (Outcome.REJECTED, "operators_only")
    assert log.account().delivery.version == 1


@pytest.mark.parametrize("partition", ["other", "99", "x"])
def test_operator_event_in_another_partition_is_nothing(partition: str) -> None:
    """A tool that errs in the partition repairs nothing, opens nothing and stops nobody."""
    log = blocked()
    own = subjects.partition_of(ACCOUNT, 16)
    place = str((own + 1) % 16) if partition == "other" else partition
    sent = msgspec.structs.replace(dismissed(2), subject=f"repair.{place}.{ACCOUNT}")
    seen = log.when(sent)
    assert (seen.outcome, seen.reason) == (Outcome.REJECTED, "stream_mismatch")
    assert seen.updates == []
    assert log.account().delivery.status == "blocked"


def test_draft_of_an_operator_event_needs_the_partitions() -> None:
    """Doors for producers refuse it; the operators' tools know the log."""
    with pytest.raises(ContractError) as refused:
        draft_of(retried().data)
    assert (refused.value.reason, refused.value.field) == ("operators_only", "event_type")
    assert draft_of(retried().data, partitions=16).subject == subjects.repair(ACCOUNT, 16)


def test_one_pattern_matches_both_subjects_of_a_stream() -> None:
    """Requests that take one subject see events and repairs in log order."""
    trades, repair = subjects.stream_subjects(ACCOUNT, 16)
    partition = subjects.partition_of(ACCOUNT, 16)
    pattern = subjects.either_of_stream(ACCOUNT, partition).split(".")
    for subject in (trades, repair):
        assert all(p in ("*", t) for p, t in zip(pattern, subject.split("."), strict=True))
    assert subjects.partition_filters(partition)[:2] == [
        f"trades.{partition}.*",
        f"repair.{partition}.*",
    ]
