"""No update tells who, why or whom: secrets in every personal field and extra stay in the log."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import domain
from tests.support.domain import Log
from tests.support.events import Sent
from tests.support.planted import STREAMS, Planted

from psm.contracts import codec, registry
from psm.domain.messages import Outcome


def in_place(log: Log, sent: Sent) -> Sent:
    """Return an operator's dismissal with the position of what blocks, anything else as it is."""
    body = codec.raw_fields(sent.data) if sent.subject.startswith("repair.") else {}
    if body.get("event_type") is None or bytes(body["event_type"]) != b'"EventDismissed"':
        return sent
    account = log.books.accounts[sent.subject.rpartition(".")[2]]
    if account.delivery.blocked is None:
        return sent
    fields = msgspec.json.decode(sent.data)
    fields["payload"]["log_sequence"] = account.delivery.blocked.log_sequence
    return msgspec.structs.replace(sent, data=codec.encode(fields))


def folded(planted: Planted) -> tuple[Log, Counter[tuple[Outcome, str | None]]]:
    """Fold the traffic; every stream stays open."""
    log = domain.given()
    seen: Counter[tuple[Outcome, str | None]] = Counter()
    for sent in planted.messages():
        result = log.when(in_place(log, sent))
        seen[result.outcome, result.reason] += 1
        for update in result.result.updates:
            assert not planted.found_in(update.data), update.data
    return log, seen


@settings(max_examples=10)
@given(st.integers(0, 2**32))
def test_no_update_repeats_a_secret(seed: int) -> None:
    """Whatever becomes of the event: applied, refused, rejected, in conflict, parked, blocked."""
    planted = Planted(seed)
    log, _ = folded(planted)
    for stream in STREAMS:
        document = codec.canonical_bytes(log.state(stream))
        assert not planted.found_in(document)


def test_the_traffic_is_of_every_kind() -> None:
    """Else the test above would prove nothing."""
    planted = Planted(7)
    log, seen = folded(planted)
    reasons = {reason for _, reason in seen}
    assert {outcome for outcome, _ in seen} >= set(Outcome) - {Outcome.SKIPPED, Outcome.STALE}
    assert reasons >= {
        "invalid_json", "missing_field", "malformed_field", "invalid_payload", "sequence_conflict",
        "event_id_conflict", "sequence_too_far", "sequence_gap", "unknown_event_type",
        "unknown_order", "not_blocking",
    }  # fmt: skip
    kinds = {update.kind for update in log.updates}
    assert {"state.updated", "event.refused", "stream.blocked", "stream.resumed"} <= kinds
    applied = {
        u["payload"]["applied"]["event_type"]
        for u in map(msgspec.json.decode, (update.data for update in log.updates))
        if "applied" in u["payload"]
    }
    assert {"CashAdjusted", "TransferredIn", "FeeCharged", "OrderSubmitted"} <= applied
    assert len(planted.secrets) > 1000


@pytest.mark.parametrize("kind", [kind.__name__ for kind in registry.ACCOUNT_EVENTS])
def test_what_is_applied_says_no_personal_field(kind: str) -> None:
    """`applied` is made of other fields than those that are marked."""
    applied = registry.schemas()["StateUpdated/1.0.0.json"]["$defs"]["AppliedEvent"]["properties"]
    personal = {
        name
        for name, field in registry.schemas()[f"{kind}/1.0.0.json"]["properties"].items()
        if "x-psm-pii" in field
    }
    assert not personal & applied.keys()
