"""What happens to an incoming event: every outcome, checked in the contract's order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.support.domain import Log, given
from tests.support.events import (
    SAMPLES,
    Sent,
    changed,
    deposit,
    event,
    fee,
    funding,
    instrument,
    opened,
    raw,
    trade,
    unknown,
    withdrawal,
)

from psm.contracts.codec import MAX_DEPTH, decode_envelope
from psm.contracts.envelope import MAX_BODY_BYTES, chain_next, chain_start, event_hash
from psm.contracts.payload_codec import MAX_DIGITS
from psm.contracts.sequencing import SEQUENCE_AHEAD_MAX
from psm.domain.delivery.parked import PARKED_MAX
from psm.domain.messages import Outcome
from psm.domain.windows import WINDOW

EVENTS: dict[str, tuple[Callable[..., Sent], Callable[..., Sent]]] = {
    "AccountOpened": (
        lambda n, **m: event("AccountOpened", {"currency": "USDT"}, n, **m),
        lambda n: event("AccountOpened", {"currency": ""}, n),
    ),
    "CashDeposited": (lambda n, **m: deposit(n, "5", **m), lambda n: deposit(n, "0")),
    "CashWithdrawn": (lambda n, **m: withdrawal(n, "5", **m), lambda n: withdrawal(n, "-1")),
    "TradeExecuted": (
        lambda n, **m: trade(n, "buy", "1", "10", **m),
        lambda n: trade(n, "long", "1", "10"),
    ),
    "FundingApplied": (lambda n, **m: funding(n, "-0.1", **m), lambda n: funding(n, "NaN")),
    "FeeCharged": (lambda n, **m: fee(n, "0.5", **m), lambda n: fee(n, "1_0")),
}
"""Event type -> (a valid event with this number, one that must be refused)."""

each_event = pytest.mark.parametrize("event_type", EVENTS)


@each_event
def test_each_event_is_applied_when_it_is_next(event_type: str) -> None:
    """A valid next event advances the version and says so once."""
    good, _ = EVENTS[event_type]
    seen = given().when(good(1))
    assert seen.outcome is Outcome.APPLIED
    assert seen.types.count("StateUpdated") == 1
    assert seen.types[-1] == "StateUpdated"
    assert seen.payload("StateUpdated")["sequence_number"] == 1


@each_event
def test_each_event_is_refused_when_its_payload_is_invalid(event_type: str) -> None:
    """A refused event keeps its place and changes nothing else."""
    _, bad = EVENTS[event_type]
    log = given(deposit(1), trade(2, "buy", "1", "10"))
    before = log.state()
    seen = log.when(bad(3))
    assert seen.outcome is Outcome.REFUSED
    assert seen.types[-2:] == ["EventRefused", "StateUpdated"]
    refused = seen.payload("EventRefused")
    assert refused["outcome"] == "refused"
    assert refused["field"].startswith("payload.")
    changed = {name for name, value in log.state().items() if before[name] != value}
    bookkeeping = {"sequence_number", "log_sequence", "event_hash", "chain_hash"}
    assert changed == bookkeeping | {"ledger_hash", "state_hash"}


@each_event
def test_each_event_is_quiet_when_repeated(event_type: str) -> None:
    """The same bytes again are a duplicate without updates."""
    good, _ = EVENTS[event_type]
    log = given(good(1))
    hashes = log.hashes()
    seen = log.when(good(1))
    assert (seen.outcome, seen.updates) == (Outcome.DUPLICATE, [])
    assert log.hashes() == hashes


@each_event
def test_each_event_is_loud_when_its_number_returns(event_type: str) -> None:
    """Another event under a taken number is a conflict, and the first in the log wins."""
    good, _ = EVENTS[event_type]
    log = given(good(1))
    hashes = log.hashes()
    seen = log.when(good(1, salt="other"))
    assert (seen.outcome, seen.reason) == (Outcome.CONFLICT, "sequence_conflict")
    assert seen.types == ["EventRefused"]
    assert log.hashes() == hashes


def test_event_id_with_other_bytes_is_a_conflict() -> None:
    """A remembered event_id returns with other bytes, under a free number."""
    log = given(deposit(1, event_id="7b0e0c0e-8a57-4d8c-9c56-0b7f3f0f2a01"))
    seen = log.when(deposit(2, event_id="7b0e0c0e-8a57-4d8c-9c56-0b7f3f0f2a01"))
    assert (seen.outcome, seen.reason) == (Outcome.CONFLICT, "event_id_conflict")
    assert log.account().delivery.version == 1


def test_event_id_is_compared_without_regard_to_case() -> None:
    """An event_id in capitals is the same identity."""
    log = given(deposit(1, event_id="7b0e0c0e-8a57-4d8c-9c56-0b7f3f0f2a01"))
    seen = log.when(deposit(2, event_id="7B0E0C0E-8A57-4D8C-9C56-0B7F3F0F2A01"))
    assert seen.reason == "event_id_conflict"


def test_event_id_conflict_comes_before_stale() -> None:
    """An event_id conflict is told even where the number is too old to be judged."""
    events = [deposit(n) for n in range(1, WINDOW + 3)]
    again = deposit(1, event_id=decode_envelope(events[-1].data).event_id)
    seen = given(*events).when(again)
    assert seen.reason == "event_id_conflict"


def test_window_holds_exactly_the_last_256_places() -> None:
    """The 256th place back is verified as a duplicate, the 257th is stale."""
    log = given(*[deposit(n) for n in range(1, WINDOW + 2)])
    assert log.when(deposit(2)).outcome is Outcome.DUPLICATE
    assert log.when(deposit(2, salt="other")).reason == "sequence_conflict"
    seen = log.when(deposit(1))
    assert (seen.outcome, seen.reason) == (Outcome.STALE, "stale_unverified")
    refused = seen.payload("EventRefused")
    assert (refused["outcome"], refused["sequence_number"]) == ("stale", 1)


REJECTED = [
    (b"not json", "invalid_json", None),
    (b"[1]", "invalid_json", None),
    (b"\xff\xfe", "invalid_json", None),
    (b'{"a":' * 70 + b"1" + b"}" * 70, "invalid_json", None),
    (b'{"event_id":"' + b"x" * 70_000 + b'"}', "invalid_json", None),
    (b"{}", "missing_field", "event_id"),
    (changed(deposit(1), schema_version=None).data, "missing_field", "schema_version"),
    (changed(deposit(1), timestamp=None).data, "missing_field", "timestamp"),
    (changed(deposit(1), event_id="1").data, "malformed_field", "event_id"),
    (changed(deposit(1), timestamp="2025-12-12 10:30:00").data, "malformed_field", "timestamp"),
    (changed(deposit(1), timestamp="2025-13-12T10:30:00Z").data, "malformed_field", "timestamp"),
    (
        changed(deposit(1), timestamp="2025-12-12T10:30:00+01:00").data,
        "malformed_field",
        "timestamp",
    ),
    (changed(deposit(1), schema_version="v1").data, "malformed_field", "schema_version"),
    (changed(deposit(1), correlation_id="\0").data, "malformed_field", "correlation_id"),
    (changed(deposit(1), causation_id="é" * 129).data, "malformed_field", "causation_id"),
    (changed(deposit(1), event_type="Cash\0").data, "malformed_field", "event_type"),
    (changed(deposit(1), timestamp="2025-12-12T24:00:00Z").data, "malformed_field", "timestamp"),
    (changed(deposit(1), correlation_id=5).data, "malformed_field", "correlation_id"),
    (changed(deposit(1), sequence_number=0).data, "malformed_field", "sequence_number"),
    (changed(deposit(1), sequence_number="1").data, "malformed_field", "sequence_number"),
    (changed(deposit(1), sequence_number=2**63).data, "malformed_field", "sequence_number"),
    (changed(deposit(1), payload="x").data, "malformed_field", "payload"),
    (changed(deposit(1), stream_id="a.b").data, "malformed_field", "stream_id"),
    (changed(deposit(1), stream_id="BRK%2EB").data, "malformed_field", "stream_id"),
    (changed(deposit(1), stream_id="acc_002").data, "stream_mismatch", "stream_id"),
    (event("CashDeposited", {"amount": "1"}, None).data, "sequence_missing", "sequence_number"),
    (deposit(100_001).data, "sequence_too_far", "sequence_number"),
    (
        SAMPLES[2],
        "sequence_missing",
        "sequence_number",
    ),
]


@pytest.mark.parametrize(("data", "reason", "field"), REJECTED)
def test_what_is_no_event_is_rejected(data: bytes, reason: str, field: str | None) -> None:
    """Rejected takes no place, creates no account, and names the field."""
    log = Log()
    seen = log.when(raw(data))
    assert (seen.outcome, seen.reason) == (Outcome.REJECTED, reason)
    assert log.books.accounts == {}
    refused = seen.payload("EventRefused")
    assert refused.get("field") == field
    assert (refused["outcome"], refused["account_id"]) == ("rejected", "acc_001")
    assert refused["chain_hash"] is None


def test_rejected_leaves_an_account_as_it_was() -> None:
    """Junk on an account's subject changes no hash."""
    log = given(deposit(1))
    before = log.hashes()
    seen = log.when(raw(b"junk"))
    assert seen.types == ["EventRefused"]
    assert seen.updates[0]["sequence_number"] == 1
    assert log.hashes() == before


def test_hundred_thousand_ahead_is_parked_and_one_more_is_rejected() -> None:
    """The limit counts from the last number."""
    log = given(deposit(1))
    assert log.when(deposit(100_002)).reason == "sequence_too_far"
    assert log.when(deposit(100_001)).outcome is Outcome.PARKED


def test_unknown_type_blocks_only_its_own_stream() -> None:
    """An event type nobody knows is never guessed and never dropped."""
    log = given(deposit(1))
    seen = log.when(unknown(2))
    assert (seen.outcome, seen.reason) == (Outcome.BLOCKED, "unknown_event_type")
    blocked = seen.payload("StreamBlocked")
    assert (blocked["reason"], blocked["expected_sequence"]) == ("unknown_event_type", 2)
    assert log.state()["status"] == "blocked"
    assert log.when(deposit(1, stream="acc_002")).outcome is Outcome.APPLIED


def test_unknown_major_version_blocks() -> None:
    """A minor version is read, a major one is not guessed."""
    log = given(deposit(1, schema_version="1.7"))
    assert log.account().delivery.version == 1
    seen = log.when(deposit(2, schema_version="2.0.0"))
    assert (seen.outcome, seen.reason) == (Outcome.BLOCKED, "unknown_schema_version")


def test_event_of_another_subject_blocks() -> None:
    """A mark on an account's subject is no event of an account."""
    seen = given().when(event("MarkPriceUpdated", {"symbol": "A", "price": "1"}, 1))
    assert seen.reason == "unknown_event_type"


def test_blocked_stream_holds_and_remembers_only_the_first() -> None:
    """Held events stay in the log; what concerns taken numbers is judged as ever."""
    log = given(deposit(1), unknown(2))
    assert log.when(deposit(3)).outcome is Outcome.HELD
    first = log.books.position
    assert log.when(deposit(2)).outcome is Outcome.HELD
    assert log.when(deposit(1)).outcome is Outcome.DUPLICATE
    assert log.when(deposit(1, salt="x")).outcome is Outcome.CONFLICT
    assert log.when(raw(b"junk")).outcome is Outcome.REJECTED
    blocked = log.account().delivery.blocked
    assert blocked is not None
    assert blocked.held_from == first
    assert log.account().delivery.version == 1


def test_held_comes_before_conflict() -> None:
    """On a blocked stream a later number is held even under a remembered event_id."""
    log = given(deposit(1), unknown(2))
    assert (
        log.when(deposit(3, event_id=decode_envelope(deposit(1).data).event_id)).outcome
        is Outcome.HELD
    )


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (
            trade(1, "buy", "1", "10", fill_id="f1"),
            trade(2, "buy", "1", "11", fill_id="f1"),
            "duplicate_fill",
        ),
        (
            funding(1, "1", reference="r1"),
            funding(2, "1", reference="r1"),
            "duplicate_reference",
        ),
    ],
)
def test_business_key_is_booked_once(first: Sent, second: Sent, reason: str) -> None:
    """The same fill or funding under a new event_id is refused."""
    log = given(first)
    cash = log.state()["cash"]
    seen = log.when(second)
    assert (seen.outcome, seen.reason) == (Outcome.REFUSED, reason)
    assert log.state()["cash"] == cash


def test_business_key_belongs_to_its_symbol_and_window() -> None:
    """Another symbol may use the same fill_id; after 256 more keys it is forgotten."""
    log = given(trade(1, "buy", "1", "10", fill_id="f1"))
    assert log.when(trade(2, "buy", "1", "10", "ETH", fill_id="f1")).outcome is Outcome.APPLIED
    for n in range(3, 3 + WINDOW - 2):
        log.when(trade(n, "buy", "1", "10", fill_id=f"x{n}"))
    number = log.account().delivery.version + 1
    assert log.when(trade(number, "buy", "1", "10", fill_id="f1")).reason == "duplicate_fill"
    log.when(trade(number + 1, "buy", "1", "10", fill_id="last"))
    seen = log.when(trade(number + 2, "buy", "1", "10", fill_id="f1"))
    assert seen.outcome is Outcome.APPLIED


def test_event_that_does_not_compute_is_refused() -> None:
    """A sum that needs more than 100 digits is refused as arithmetic; the neighbours go on."""
    log = given(
        instrument(kind="inverse_perp", settle="BTC"),
        opened(1, currency="BTC"),
        trade(2, "buy", "0.000000000000000001", "300000000000000000"),
    )
    before = log.position()
    seen = log.when(trade(3, "buy", "9" * 18, "0.000000000000000001"))
    assert (seen.outcome, seen.reason) == (Outcome.REFUSED, "arithmetic")
    assert log.account().delivery.version == 3
    assert log.position() == before
    assert log.when(deposit(4)).outcome is Outcome.APPLIED
    assert log.when(deposit(1, stream="acc_002")).outcome is Outcome.APPLIED


def test_chain_covers_applied_and_refused_events_only() -> None:
    """The chain hash follows the stored bytes of what took a place, in place order."""
    events = [opened(1), deposit(2), deposit(3, "-1"), trade(4, "buy", "1", "10")]
    log = given(events[0], events[1], raw(b"junk"), events[1], events[2], events[3])
    chain = chain_start("acc_001")
    for sent in events:
        chain = chain_next(chain, event_hash(sent.data))
    assert log.state()["chain_hash"] == chain.hex()
    assert log.state()["event_hash"] == event_hash(events[3].data).hex()


def test_duplicate_or_conflict_is_judged_by_bytes() -> None:
    """The same event with one blank more is another event."""
    sent = deposit(1)
    log = given(sent)
    spaced = raw(sent.data.replace(b'"payload":', b'"payload": '))
    assert log.when(spaced).reason == "event_id_conflict"


def test_limits_are_constants_of_the_log() -> None:
    """Another window or limit would judge an old log differently."""
    assert (WINDOW, PARKED_MAX, SEQUENCE_AHEAD_MAX) == (256, 1000, 100_000)
    assert (MAX_BODY_BYTES, MAX_DIGITS, MAX_DEPTH) == (65_536, 18, 64)
