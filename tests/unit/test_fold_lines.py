"""The offline fold over JSON lines, and its command."""

from __future__ import annotations

import hashlib
import io
import json
from typing import Any

import msgspec
import pytest
from tests.support.domain import given
from tests.support.events import (
    ACCOUNT,
    SAMPLES,
    Sent,
    changed,
    deposit,
    event,
    instrument,
    mark,
    opened,
    rules,
    trade,
)

from psm.contracts import codec
from psm.contracts.subjects import stored_trades
from psm.domain.delivery.parked import PARKED_MAX
from psm.domain.messages import UnknownRulesError
from psm.workers.cli import main
from psm.workers.replay.lines import LineError, LineFolder, LineResult, fold_lines, nanoseconds


def line(sent: Sent, **fields: Any) -> bytes:
    """Return a wrapped line; the body's bytes as they are."""
    head = json.dumps({"subject": sent.subject, **fields})
    return head[:-1].encode() + b', "data": ' + sent.data + b"}\n"


def folded(*lines: bytes, **options: Any) -> list[LineResult]:
    """Return the results of lines that must all be good."""
    results = list(fold_lines(lines, **options))
    for result in results:
        assert isinstance(result, LineResult), result
    return [r for r in results if isinstance(r, LineResult)]


def failed(*lines: bytes) -> str:
    """Return the error of the last line."""
    *_, last = fold_lines(lines)
    assert isinstance(last, LineError), last
    return str(last)


def test_bytes_are_those_of_the_live_fold() -> None:
    """With subject, time and log sequence given, updates and hashes are the same."""
    sent = [instrument(), opened(1), deposit(2), deposit(4), mark(1, "5"), deposit(3), mark(2, "6")]
    log = given(*sent)
    times = [m.time for m in log.messages.values()]
    lines = [
        line(s, log_sequence=n, time=rfc3339(t))
        for n, (s, t) in enumerate(zip(sent, times, strict=True), 1)
    ]
    results = folded(*lines)
    updates = [(u.subject, bytes(u.data)) for r in results for u in r.updates]
    assert updates == [(u.subject, u.data) for u in log.updates]
    account = [r for r in results if r.stream_id == ACCOUNT][-1]
    assert account.ledger_hash == log.state()["ledger_hash"]


def rfc3339(time_ns: int) -> str:
    """Return a time with nanoseconds."""
    from psm.domain.publication.log_times import log_time

    return log_time(time_ns)[:-1] + f"{time_ns % 1000:03d}Z"


def test_output_document() -> None:
    """Exactly the fields of the contract; states only when asked for."""
    (result,) = folded(line(deposit(1)))
    document = msgspec.json.decode(msgspec.json.encode(result))
    assert list(document) == [
        "log_sequence",
        "subject",
        "stream_id",
        "sequence_number",
        "outcome",
        "reason",
        "updates",
        "ledger_hash",
        "state_hash",
    ]
    assert document["subject"] == "trades.acc_001"
    assert (document["outcome"], document["reason"]) == ("applied", None)
    assert list(document["updates"][0]) == ["subject", "data"]
    assert document["updates"][0]["data"]["event_type"] == "MarginUpdated"


def test_states_of_what_a_line_touched() -> None:
    """An account's line shows its state, a mark's line every account it valued."""
    lines = [
        line(trade(1, "buy", "1", "10", stream="b")),
        line(trade(1, "buy", "1", "10", stream="a")),
        line(deposit(1, stream="c")),
        line(mark(1, "12")),
        line(instrument(1)),
        line(Sent(subject="trades.new", data=b'"junk"')),
    ]
    results = folded(*lines, with_state=True)
    assert isinstance(results[0].state, dict)
    assert results[0].state["account_id"] == "b"
    assert results[0].states is msgspec.UNSET
    assert isinstance(results[3].states, list)
    assert [s["account_id"] for s in results[3].states] == ["a", "b"]
    assert results[3].states[0]["equity"] == "2"
    assert results[4].states == []
    assert results[5].state is None
    assert results[5].ledger_hash is None


def test_number_text_survives() -> None:
    """What must be added is put in front; the rest of the body keeps its bytes."""
    bare = SAMPLES[0].replace(b'"sequence_number":1,', b"")
    (result,) = folded(bare)
    (numbered,) = folded(b'{"sequence_number":1,' + bare[1:])
    assert result.ledger_hash == numbered.ledger_hash
    assert [bytes(u.data) for u in result.updates] == [bytes(u.data) for u in numbered.updates]


def test_left_out_fields_are_filled_in() -> None:
    """Number: the stream's next. Id: from the line number. Time: the previous one."""
    bare = (
        b'{"event_type":"CashDeposited","stream_id":"%s","schema_version":"1",'
        b'"payload":{"amount":1}}'
    )
    first = deposit(1, stream="a", timestamp="2025-01-01T00:00:07Z")
    lines = [first.data, b"", bare % b"a", bare % b"b", bare % b"a", b"  \n"]
    one, two = folded(*lines), folded(*lines)
    assert [(r.stream_id, r.sequence_number) for r in one] == [
        ("a", 1),
        ("a", 2),
        ("b", 1),
        ("a", 3),
    ]
    assert [r.log_sequence for r in one] == [1, 2, 3, 4]
    assert [r.ledger_hash for r in one] == [r.ledger_hash for r in two]
    stamps = [msgspec.json.decode(r.updates[0].data)["timestamp"] for r in one]
    assert stamps == ["2025-01-01T00:00:07.000000Z"] * 4
    causes = [msgspec.json.decode(r.updates[0].data)["causation_id"] for r in one]
    assert len(dict.fromkeys(causes)) == 4


def test_assigned_number_follows_what_is_parked_or_refused() -> None:
    """Rejected lines take no number; parked and refused ones do."""
    bare = b'{"event_type":"CashDeposited","stream_id":"acc_001","schema_version":"1","payload":%s}'
    results = folded(
        line(deposit(1)),
        line(deposit(300_000)),
        bare % b"{}",
        line(deposit(4)),
        bare % b'{"amount":1}',
    )
    assert [r.sequence_number for r in results] == [1, 300_000, 2, 4, 5]
    assert [r.outcome for r in results] == ["applied", "rejected", "refused", "parked", "parked"]


def test_marks_and_rules_without_envelope_extras() -> None:
    """Marks are numbered per symbol, rules need no number; subjects come from the type."""
    text = (
        b'{"event_type":"MarkPriceUpdated","stream_id":"%s","schema_version":"1",'
        b'"payload":{"symbol":"%s","price":%s}}'
    )
    results = folded(
        text % (b"A", b"A", b"1.5"),
        text % (b"B", b"B", b"1"),
        text % (b"A", b"A", b"2"),
        rules(1).data,
        instrument(1).data,
    )
    assert [r.outcome for r in results] == ["applied"] * 5
    assert [r.sequence_number for r in results] == [1, 1, 2, None, 1]
    assert [r.subject for r in results[2:]] == [
        "marks.A",
        "control.rules",
        "instruments.BTC-PERP",
    ]


def test_history_is_answered_from_the_lines_before() -> None:
    """Gaps close and overflows release, each event once."""
    folder = LineFolder()
    numbers = [1, *range(3, PARKED_MAX + 10), 2]
    for n in numbers:
        result = folder.take(line(deposit(n)))
    assert result is not None
    assert result.updates[-1].subject.startswith("psm.stream.resumed.")
    (state,) = folder.final()
    assert state["sequence_number"] == PARKED_MAX + 9
    assert state["deposits"] == str(1000 * (PARKED_MAX + 9))


def test_bust_in_a_closed_cycle_reads_the_whole_stream() -> None:
    """The books are those of a fold that never had the fill, with other streams in between."""
    fills = [
        trade(1, "buy", "1", "100", fill_id="f1", commission="0.1"),
        trade(2, "buy", "1", "110", fill_id="f2", commission="0.2"),
        trade(3, "sell", "2", "120", fill_id="f3"),
        trade(4, "buy", "3", "130", fill_id="f4"),
        trade(5, "sell", "1", "140", fill_id="f5"),
    ]
    lines = [line(instrument())]
    for n, fill in enumerate(fills, 1):
        lines += [line(fill), line(deposit(n, stream="other"))]
    bust = event("TradeBusted", {"fill_id": "f2", "reason": "venue error"}, 6)
    *_, busted = folded(*lines, line(bust), with_state=True)
    assert (busted.outcome, busted.reason) == ("applied", None)
    renumbered = [fills[0], *(changed(f, sequence_number=n) for n, f in enumerate(fills[2:], 2))]
    *_, without = folded(line(instrument()), *map(line, renumbered), with_state=True)
    assert isinstance(busted.state, dict)
    assert isinstance(without.state, dict)
    for name in ("cash", "positions", "equity", "realized_pnl", "fees", "margin_initial"):
        assert busted.state[name] == without.state[name], name
    assert busted.state["positions"]["BTC-PERP"]["size"] == "1"


def test_amendments_and_busts_in_a_row_over_parked_ones() -> None:
    """A correction that waited behind a gap is answered like one that came in order."""
    fills = [trade(n, "buy", "1", str(100 + n), fill_id=f"f{n}") for n in (1, 2, 3)]
    amend = event("TradeAmended", {"fill_id": "f1", "price": "90", "reason": "price"}, 4)
    bust = event("TradeBusted", {"fill_id": "f2", "reason": "venue error"}, 5)
    again = event("TradeBusted", {"fill_id": "f2", "reason": "venue error"}, 6)
    sent = [fills[0], fills[1], amend, bust, again, fills[2]]
    results = folded(*map(line, sent), with_state=True)
    assert [r.outcome for r in results] == [*["applied"] * 2, *["parked"] * 3, "applied"]
    state = results[-1].state
    assert isinstance(state, dict)
    figures = state["positions"]["BTC-PERP"]
    assert (state["sequence_number"], state["status"]) == (6, "open")
    assert (figures["size"], figures["entry_price"]) == ("2", "96.5")
    refused = [u for u in results[-1].updates if "event.refused" in u.subject]
    assert [msgspec.json.decode(u.data)["payload"]["reason"] for u in refused] == ["unknown_trade"]


def test_stored_subject_must_fit_the_partitions() -> None:
    """A line from another log's layout is not folded under wrong subjects."""
    stored = Sent(subject=stored_trades("acc_001", 16), data=deposit(1).data)
    (result,) = folded(line(stored))
    assert result.subject == stored.subject
    assert "--partitions" in failed(line(Sent(subject="trades.15.acc_001", data=b"{}")))


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (b"junk", "invalid_json"),
        (b"[1]", "invalid_json"),
        (b'{"x":1}', "event_type, stream_id, schema_version and payload are required"),
        (
            b'{"event_type":"CashDeposited","payload":{}}',
            "stream_id and schema_version are required",
        ),
        (
            (
                b'{"event_type":"CashDeposited","stream_id":"a b","schema_version":"1.0.0",'
                b'"payload":{}}'
            ),
            "stream_id",
        ),
        (b'{"subject":"trades.a"}', "data is required"),
        (b'{"subject":5,"data":{}}', "subject must be a string"),
        (b'{"subject":"orders.a","data":{}}', "no subject of the log"),
        (b'{"subject":"trades.a.b.c","data":{}}', "no subject of the log"),
        (b'{"subject":"trades.","data":{}}', "no subject of the log"),
        (b'{"subject":"trades.a","time":"now","data":{}}', "time must be"),
        (b'{"subject":"trades.a","time":true,"data":{}}', "time must be a string"),
        (b'{"subject":"trades.a","log_sequence":1,"data":{}}', "above 1"),
        (b'{"subject":"trades.a","log_sequence":"7","data":{}}', "above 1"),
        (SAMPLES[2].replace(b"short", b"flat"), "unknown_side"),
    ],
)
def test_bad_line_is_named_and_changes_nothing(bad: bytes, text: str) -> None:
    """The error names the line; the others still fold."""
    error = failed(line(deposit(1)), b"\n", bad)
    assert error.startswith("line 3: ")
    assert text in error
    *_, last = fold_lines([line(deposit(1)), bad, line(deposit(2))])
    assert isinstance(last, LineResult)
    assert (last.log_sequence, last.outcome) == (2, "applied")


def test_body_that_is_no_event_is_an_outcome() -> None:
    """Where the subject is known, junk is rejected as the live system does it."""
    results = folded(
        b'{"subject":"trades.a","data":"junk"}', b'{"subject":"marks.A","data":"\\u0000"}'
    )
    assert [r.reason for r in results] == ["invalid_json", "invalid_json"]


def test_unknown_rules_end_the_fold() -> None:
    """What the log enables and this version does not know cannot be folded."""
    with pytest.raises(UnknownRulesError):
        folded(line(rules(2)))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T00:00:01.5+00:00", 1_500_000_000),
        ("2025-12-12T10:30:00.123456789Z", 1_765_535_400_123_456_789),
        ("1969-12-31T23:59:59.9Z", -100_000_000),
    ],
)
def test_times_are_exact(text: str, value: int) -> None:
    """Nanoseconds pass through no float."""
    assert nanoseconds(text) == value


# --- the command ---------------------------------------------------------------------------------


def run(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, list[dict[str, Any]], str]:
    """Return exit code, documents on stdout and text on stderr."""
    code = main(["fold", *arguments])
    out, err = capsys.readouterr()
    return code, [json.loads(text) for text in out.splitlines()], err


def test_command_reads_a_file(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """One line in, one line out; the end states with --final, sorted by account."""
    file = tmp_path / "events.jsonl"
    file.write_bytes(line(deposit(1, stream="b")) + line(deposit(1, stream="a")))
    code, documents, err = run(capsys, str(file), "--partitions", "1")
    assert (code, err) == (0, "")
    assert documents[0]["updates"][0]["subject"] == "psm.margin.updated.0.b"
    code, documents, _ = run(capsys, str(file), "--final")
    assert [d["account_id"] for d in documents] == ["a", "b"]
    _, documents, _ = run(capsys, str(file), "--state")
    assert documents[1]["state"]["cash"] == {"USDT": "1000"}


def test_command_reads_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad line is told on stderr, and the exit code says so at the end."""
    text = b"junk\n" + b"\n".join(SAMPLES)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    code, documents, err = run(capsys, "-", "--final")
    assert code == 1
    assert err.startswith("psm: line 1: invalid_json")
    assert documents[0]["equity"] == "244.908"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["/nowhere/events.jsonl"], "cannot read"),
        (["--finl"], "unknown option --finl"),
        (["--partitions", "0"], "--partitions must be"),
    ],
)
def test_command_says_what_is_wrong(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Usage errors end with exit code 2 and one line."""
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert text in err


def test_state_says_everything_that_was_published() -> None:
    """`state` is what GET answers: every field of the last StateUpdated, the event's flags too."""
    submitted = {"order_id": "o", "symbol": "A", "side": "buy", "type": "market", "quantity": "1"}
    trade = {"symbol": "A", "side": "buy", "quantity": "2", "price": "10", "order_id": "o"}
    lines = [
        {"event_type": kind, "stream_id": "a", "schema_version": "1.0.0", "payload": payload}
        for kind, payload in (("OrderSubmitted", submitted), ("TradeExecuted", trade))
    ]
    folder = LineFolder(with_state=True)
    results = [folder.take(msgspec.json.encode(line)) for line in lines]
    last = results[-1]
    assert last is not None
    assert isinstance(last.state, dict)
    published = codec.decode_untyped(bytes(last.updates[-1].data))["payload"]
    assert "overfill" in published["flags"]
    assert published.pop("applied")["event_type"] == "TradeExecuted"
    assert published.items() <= last.state.items()


ADJUSTED = event(
    "CashAdjusted", {"amount": "5", "actor": "Ada Example", "reason": "found in a drawer"}, 3
)
BLACKED_OUT = changed(
    ADJUSTED, payload={"amount": "5", "actor": "psm1.gone." + "x" * 40, "reason": "-"}
)


def test_a_redacted_edition_has_the_hashes_of_the_log() -> None:
    """Personal texts are others, chain and ledger the same, also of what waited and returned."""
    before = [line(opened(1)), line(deposit(4)), line(deposit(2))]
    carried = hashlib.sha256(ADJUSTED.data).hexdigest()
    original = folded(*before, line(ADJUSTED), line(deposit(5)))
    redacted = folded(
        *before, line(BLACKED_OUT, event_hash=carried, redacted=True), line(deposit(5))
    )
    for a, b in zip(original, redacted, strict=True):
        assert (a.outcome, a.ledger_hash, a.state_hash) == (b.outcome, b.ledger_hash, b.state_hash)
        assert [u.data for u in a.updates] == [u.data for u in b.updates]
    other = folded(*before, line(BLACKED_OUT), line(deposit(5)))
    assert other[-1].updates[-1].data != original[-1].updates[-1].data  # its chain hash
    held = hashlib.sha256(deposit(4).data).hexdigest()
    also = folded(
        line(opened(1)), line(changed(deposit(4), note="-"), event_hash=held, redacted=True),
        *before[2:], line(ADJUSTED), line(deposit(5)),
    )  # fmt: skip
    assert also[-1].ledger_hash == original[-1].ledger_hash


def test_a_hash_that_is_not_redacted_is_that_of_the_bytes() -> None:
    """It is checked; a redacted line must carry one."""
    right = hashlib.sha256(opened(1).data).hexdigest()
    assert folded(line(opened(1), event_hash=right))[0].outcome == "applied"
    assert folded(line(opened(1), event_hash=right, redacted=False))[0].outcome == "applied"
    assert "event_hash is not that of data" in failed(line(opened(1), event_hash="0" * 64))
    assert "needs the event_hash" in failed(line(opened(1), redacted=True))
    assert "64 hex digits" in failed(line(opened(1), event_hash=right.upper(), redacted=True))
    assert "64 hex digits" in failed(line(opened(1), event_hash="", redacted=True))
    assert "must be a string" in failed(line(opened(1), event_hash=7, redacted=True))
    assert "true or false" in failed(line(opened(1), event_hash=right, redacted="yes"))
