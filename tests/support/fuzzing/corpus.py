"""Odd inputs, by what they are about: whatever harmed a system like this once, here or elsewhere.

Add what was found, never take away. Each message that goes to an account goes to one of its own,
so that none hides behind another.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from tests.support.fuzzing.wire import Odd

_VALID = {
    "event_type": "TradeExecuted",
    "timestamp": "2026-01-02T03:04:05Z",
    "schema_version": "1.0.0",
    "payload": {"symbol": "BTC-PERP", "side": "buy", "quantity": "1", "price": "100"},
}
_numbers = count(1)


def account() -> str:
    """Return an account that nobody else has."""
    return f"odd_{next(_numbers)}"


def envelope(stream: str, **changed: Any) -> dict[str, Any]:
    """Return a valid first event of an account, with some fields changed."""
    event = {"event_id": str(uuid.uuid4()), "stream_id": stream, "sequence_number": 1}
    return {**event, **_VALID, **changed}


def encoded(value: Any) -> bytes:
    """Return JSON as a careless producer writes it: NaN, Infinity, halves of surrogates."""
    return json.dumps(value).encode()


# --- what a field may hold ------------------------------------------------------------------------

NUL = "a\0b"
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 10**30, 1e308, float("nan"), float("inf"), "", " ", "0", "-0",
    NUL, "\ud800", "\u2028", "\u202e", "\x1b[31mred", "\ufffe", "é" * 300, "a" * 5000, "a.b", "*",
    ">", "%", "%00", "../..", "'; DROP TABLE events; --", "{}", [], {}, [[]], {"a": [None]}, ["x"],
)  # fmt: skip
"""Values of every JSON type, and texts that some parser, terminal or database trips over."""

NUMBERS: tuple[str, ...] = (
    "NaN", "Infinity", "-Infinity", "1e5", "1e131071", "1e999999999", "1e-999999999", "1" * 19,
    "9" * 18 + "." + "9" * 18, "9" * 5000, "0." + "0" * 5000 + "1", "1_000", " 1", "1 ", "+1",
    "--1", "0x10", "\u0661\u0662", "1,5", "\u22121", "1\0", ".5", "5.", "00", "1e+5", "-0.0", "1/2",
)  # fmt: skip
"""Texts that some parser takes for a number."""

TIMES: tuple[str, ...] = (
    "2026-01-02T24:00:00Z", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "0000-01-01T00:00:00Z",
    "2026-01-02T03:04:60Z", "2026-01-02", "20260102T030405Z", "2026-W01-1T00:00:00Z",
    "2026-01-02T03:04:05", "2026-01-02T03:04:05+14:00", "2026-01-02T03:04:05,5Z",
    "2026-01-02T03:04:05.1234567Z", "9999-12-31T23:59:59.999999Z", "2026-01-02t03:04:05z",
    "2026-01-02T03:04:05Z\0", "-2026-01-02T03:04:05Z", "1767323045",
)  # fmt: skip

RAW_BODIES: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n",
    "no JSON": b"\x00\xff\xfe\x80",
    "BOM": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "null": b"null",
    "array": b"[]",
    "string": b'"text"',
    "cut": b'{"event_id":',
    "trailing": b"{} {}",
    "key twice": b'{"event_id":"a","event_id":"b"}',
    "deep arrays": b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "long number": b'{"a":' + b"9" * 60_000 + b"}",
    "huge exponent": b'{"a":1e999999999}',
    "large": b'{"a":"' + b"x" * 66_000 + b'"}',
    "half a surrogate": b'{"a":"\\ud800"}',
    "raw surrogate": b'{"a":"\xed\xa0\x80"}',
    "NUL": b'{"a":"\\u0000"}',
    "NUL in a key": b'{"a\\u0000":1}',
    "bad UTF-8": b'{"a":"\xc3\x28"}',
}


# --- subjects and headers -------------------------------------------------------------------------

TOKENS: dict[str, bytes] = {
    "invalid UTF-8": b"\xff\xfe",
    "cut UTF-8": b"\xc3\x28",
    "surrogate": b"\xed\xa0\x80",
    "overlong UTF-8": b"\xc0\xaf",
    "NUL": b"a\0b",
    "control characters": b"\x01\x1b[31m\x7f",
    "emoji": "🙂".encode(),
    "right to left": "\u202eabc".encode(),
    "percent": b"%",
    "bad escape": b"%zz",
    "escaped bytes": b"%FF",
    "escaped NUL": b"%00",
    "lower escape": b"BRK%2eB",
    "dollar": b"$JS",
    "quote": b"'\"\\",
    "brackets": b"<script>{{x}}",
    "65 characters": b"a" * 65,
    "600 characters": b"a" * 600,
    "4000 characters": b"a" * 4000,
    "4050 characters": b"a" * 4050,
    "4070 characters": b"a" * 4070,
}
LOG_SUBJECTS = (b"trades.%b", b"marks.%b", b"instruments.%b", b"collateral.%b", b"control.%b")
RECORDED_SUBJECTS = (
    b"signals.strategy.%b.X", b"signals.strategy.s.%b", b"risk.decision.%b", b"risk.alert.%b",
    b"orders.command.%b", b"orders.status.%b", b"fills.exchange.v.%b", b"fills.internal.%b",
    b"marketdata.ticker.%b", b"marketdata.candle.%b.1m",
)  # fmt: skip

HEADERS: dict[str, bytes] = {
    "invalid UTF-8": b"X: \xff\xfe\r\n",
    "invalid UTF-8 in a name": b"\xff: 1\r\n",
    "no colon": b"junk\r\n",
    "no name": b": value\r\n",
    "blank name": b" : value\r\n",
    "NUL": b"X: a\0b\r\n",
    "folded": b"X: a\r\n b\r\n",
    "twice": b"X: a\r\nX: b\r\n",
    "bare line end": b"X: a\nY: b\r\n",
    "long": b"X: " + b"y" * 30_000 + b"\r\n",
    "many": b"".join(b"X%d: y\r\n" % n for n in range(2000)),
    "odd traceparent": b"traceparent: 00-\xff-\0-zz\r\n",
    "sequence of its own": b"Nats-Sequence: 99999999999999999999\r\nNats-Subject: x\r\n",
    "time of its own": b"Nats-Time-Stamp: never\r\nNats-Stream: X\r\nNats-Last-Sequence: x\r\n",
    "pending of its own": b"Nats-Num-Pending: -1\r\nNats-UpTo-Sequence: 0\r\n",
    "status": b"Status: 503\r\nDescription: No Responders\r\n",
    "marker": b"Nats-Marker-Reason: MaxAge\r\nKV-Operation: PURGE\r\n",
    "rollup": b"Nats-Rollup: all\r\n",
    "lifetime": b"Nats-TTL: 1s\r\n",
    "counter": b"Nats-Incr: +1\r\n",
    "batch": b"Nats-Batch-Id: x\r\nNats-Batch-Sequence: 1\r\n",
    "schedule": b"Nats-Schedule: @at 2026-01-01T00:00:00Z\r\n",
    "empty id": b"Nats-Msg-Id: \r\n",
    "odd expectation": b"Nats-Expected-Last-Sequence: abc\r\n",
}


def odd_subjects() -> Iterator[Odd]:
    """Yield every odd token on every subject of the log."""
    for pattern in LOG_SUBJECTS:
        for name, token in TOKENS.items():
            yield Odd(name=f"{pattern.decode()} {name}", subject=pattern % token)
    for subject in (b"trades.a.b", b"trades", b"marks.a.b", b"control.rules.x", b"trades.0.a"):
        yield Odd(name=f"{subject.decode()}", subject=subject)


def odd_recorded() -> Iterator[Odd]:
    """Yield every odd token and body on recorded subjects."""
    for pattern in RECORDED_SUBJECTS:
        for name, token in TOKENS.items():
            yield Odd(name=f"{pattern.decode()} {name}", subject=pattern % token)
    for name, body in RAW_BODIES.items():
        yield Odd(name=f"recorded {name}", subject=b"signals.strategy.s.X", body=body)
    digits = b"[" + b",".join([b"1e131071"] * 2000) + b"]"
    for body in (b'{"x":%b}', b'{"event_id":"%b","event_type":"signal","payload":{"x":%b}}'):
        values = (digits,) if body.count(b"%b") == 1 else (str(uuid.uuid4()).encode(), digits)
        yield Odd(name="huge exponents", subject=b"signals.strategy.s.X", body=body % values)
    for name, value in _named(VALUES):
        linked = dict.fromkeys(("payload", "correlation_id", "causation_id", "metadata"), value)
        signal = {"event_id": str(uuid.uuid4()), "event_type": "signal_generated", **linked}
        yield Odd(name=f"signal {name}", subject=b"signals.strategy.s.X", body=encoded(signal))


def odd_headers() -> Iterator[Odd]:
    """Yield a valid event, and a tick, under every odd header."""
    for name, block in HEADERS.items():
        stream = account()
        headers = b"NATS/1.0\r\n" + block + b"\r\n"
        yield Odd(
            name=f"header {name}",
            subject=b"trades." + stream.encode(),
            body=encoded(envelope(stream)),
            headers=headers,
        )
        yield Odd(name=f"header {name}", subject=b"signals.strategy.s.X", headers=headers)
    for first in (b"NATS/1.0 503", b"NATS/1.0 100 Idle", b"NATS/9", b""):
        stream = account()
        yield Odd(
            name=f"first line {first!r}",
            subject=b"trades." + stream.encode(),
            body=encoded(envelope(stream)),
            headers=first + b"\r\n\r\n",
        )


def odd_bodies() -> Iterator[Odd]:
    """Yield bodies that are no event, on accounts and on tables."""
    for name, body in RAW_BODIES.items():
        for subject in (
            f"trades.{account()}",
            "marks.ODD",
            "instruments.ODD",
            "collateral.ODD",
            "control.rules",
        ):
            yield Odd(name=f"{subject} {name}", subject=subject.encode(), body=body)


def odd_envelopes() -> Iterator[Odd]:
    """Yield events with one field of the envelope replaced by every odd value."""
    fields = (*envelope("x"), "source_service", "user_id", "correlation_id", "causation_id",
              "metadata", "unknown")  # fmt: skip
    for field in fields:
        for name, value in _named(VALUES):
            yield _event(f"{field} {name}", {field: value})
    for time in TIMES:
        yield _event(f"time {time!r}", {"timestamp": time})
    for version in ("1.0.0.0", "999999999999.0.0", "1.0.0-beta", "v1", "1.-1", "2", "0"):
        yield _event(f"version {version}", {"schema_version": version})
    for number in (2**31, 2**53, 2**63, 2**64, 10**400, -(2**63)):
        yield _event(f"number {str(number)[:20]}", {"sequence_number": number})


def odd_payloads() -> Iterator[Odd]:
    """Yield account events, marks and instruments with one field of the payload odd."""
    for event_type, payload in _PAYLOADS.items():
        for field in payload:
            numeric = _is_number(payload[field])
            for name, value in _named((*VALUES, *(NUMBERS if numeric else ()))):
                changed = {"event_type": event_type, "payload": {**payload, field: value}}
                yield _event(f"{event_type}.{field} {name}", changed)
        yield _event(f"{event_type} with NUL beside", {
            "event_type": event_type, "payload": {**payload, "note": NUL}})  # fmt: skip
    for symbol in (NUL, "a" * 3000, "é", "%", "a b", "\u202e", "*", ">"):
        body = envelope("ODD", event_type="MarkPriceUpdated",
                        payload={"symbol": symbol, "price": "1"})  # fmt: skip
        yield Odd(name=f"mark of {symbol[:9]!r}", subject=b"marks.ODD", body=encoded(body))
    for number in NUMBERS:
        body = envelope("ODD", event_type="MarkPriceUpdated",
                        payload={"symbol": "ODD", "price": number})  # fmt: skip
        yield Odd(name=f"mark at {number[:9]!r}", subject=b"marks.ODD", body=encoded(body))


def repeated_fill() -> Iterator[Odd]:
    """Yield a fill with a NUL in an unknown field, 300 others, and the first fill again."""
    stream = account()
    for number in range(1, 303):
        fill = {**_VALID["payload"], "fill_id": f"f{number % 302}"}  # type: ignore[dict-item]
        if number == 302:
            fill["fill_id"] = "f1"
        if number == 1:
            fill["note"] = "\0"
        body = envelope(stream, sequence_number=number, payload=fill)
        yield Odd(name=f"fill {number}", subject=f"trades.{stream}".encode(), body=encoded(body))


def many_assets(currencies: int) -> Iterator[Odd]:
    """Yield deposits of so many currencies into one account."""
    stream = account()
    for number in range(1, currencies + 1):
        payload = {"amount": "1", "currency": f"C{number:05}"}
        body = envelope(stream, event_type="CashDeposited", sequence_number=number, payload=payload)
        yield Odd(name=f"asset {number}", subject=f"trades.{stream}".encode(), body=encoded(body))


def operators_on_trades() -> Iterator[Odd]:
    """Yield operators' events where trading services publish, right and wrong ones."""
    reason = {"actor": "the boss", "reason": "because"}
    for event_type, payload in (
        ("SequenceVoided", {"from": 1, "to": 5}),
        ("SequenceVoided", {"from": 1, "to": 10**30}),
        ("SequenceVoided", {"from": [], "to": {}}),
        ("EventDismissed", {"log_sequence": 1}),
        ("EventDismissed", {"log_sequence": "\0"}),
        ("StreamRetried", {}),
        ("RulesEnabled", {"rules_version": 99}),
    ):
        stream = account()
        body = envelope(stream, event_type=event_type, payload={**payload, **reason})
        del body["sequence_number"]
        yield Odd(name=event_type, subject=f"trades.{stream}".encode(), body=encoded(body))
        partition = f"repair.0.{stream}".encode()
        yield Odd(name=f"{event_type} on repair", subject=partition, body=encoded(body))


def odd_reports() -> Iterator[Odd]:
    """Yield statements about accounts that are none, too large or too odd to be compared."""
    whole: dict[str, Any] = {"source": "v", "as_of": "now", "assets": {}, "positions": []}
    held = {"symbol": "BTC-PERP", "size": "1"}
    many = {f"A{number}": "1" for number in range(3000)}
    odd: list[dict[str, Any]] = [
        *({**whole, name: value} for name in (*whole, "tolerance", "rates") for value in VALUES),
        *({**whole, "assets": {"USDT": value}} for value in (*VALUES, *NUMBERS)),
        *({**whole, "assets": {str(value): "1"}} for value in VALUES),
        *({**whole, "positions": [{**held, "size": value}]} for value in (*VALUES, *NUMBERS)),
        {**whole, "positions": [held, held]},
        {**whole, "positions": [{**held, "symbol": f"S{n}"} for n in range(1000)]},
        {**whole, "assets": many},
        {**whole, "assets": {"USDT": {"free": "9" * 18, "locked": "9" * 18, "borrowed": "1"}}},
    ]
    for place, payload in enumerate(odd):
        stream = account()
        body = envelope(stream, event_type="AccountReported", payload=payload)
        del body["sequence_number"]
        name = f"report {place}"
        yield Odd(name=name, subject=f"trades.{stream}".encode(), body=encoded(body))
    stream = account()
    body = envelope(stream, event_type="AccountReported", payload=whole)
    yield Odd(name="report 1", subject=f"trades.{stream}".encode(), body=encoded(body))


def what_only_psm_writes() -> Iterator[Odd]:
    """Yield messages into streams of PSM's own, and rules that nobody knows.

    A broker whose users are set up refuses most of them.
    """
    for subject in ("_psm.state.updated.3.x", "_psm.cursor.0", "psm.state.updated", "snapshots.0",
                    "snapshots.0.nobody", "_psmfleet.news", "$KV.psm-fleet.x", "ops.replay",
                    "psm.get.head", "psm.get.state", "health.log"):  # fmt: skip
        for body in (b"{}", b"\xff", b""):
            yield Odd(name=subject, subject=subject.encode(), body=body)


def rules_of_tomorrow() -> Iterator[Odd]:
    """Yield the order to judge by rules that no worker knows."""
    payload = {"rules_version": 99, "actor": "nobody", "reason": "fuzz"}
    body = envelope("rules", event_type="RulesEnabled", payload=payload)
    yield Odd(name="rules 99", subject=b"control.rules", body=encoded(body))


GROUPS: dict[str, Callable[[], Iterator[Odd]]] = {
    "bodies": odd_bodies,
    "headers": odd_headers,
    "operators on trades": operators_on_trades,
    "reports": odd_reports,
    "repeated fill": repeated_fill,
    "many assets": lambda: many_assets(600),
    "payloads": odd_payloads,
    "envelopes": odd_envelopes,
    "recorded": odd_recorded,
    "subjects": odd_subjects,
    "what only PSM writes": what_only_psm_writes,
    "rules of tomorrow": rules_of_tomorrow,
}
"""The corpus of the broker, the least harmful first."""

_PAYLOADS: dict[str, dict[str, Any]] = {
    "AccountOpened": {"currency": "USDT", "leverage_limit": "5"},
    "CashDeposited": {"amount": "1", "currency": "USDT", "reference": "r"},
    "TradeExecuted": {
        "symbol": "BTC-PERP", "side": "buy", "quantity": "1", "price": "100", "commission": "0.1",
        "commission_currency": "USDT", "order_id": "o", "fill_id": "f",
    },
    "TransferredIn": {"amount": "1", "transfer_id": "t", "counterparty": "c"},
    "OrderSubmitted": {
        "order_id": "o", "symbol": "BTC-PERP", "side": "buy", "type": "limit", "quantity": "1",
        "price": "100",
    },
    "FundingApplied": {"symbol": "BTC-PERP", "funding_payment": "1", "reference": "r"},
    "CashAdjusted": {"amount": "1", "reason": "r", "actor": "a"},
}  # fmt: skip


def _event(name: str, changed: dict[str, Any]) -> Odd:
    stream = account()
    return Odd(
        name=name,
        subject=f"trades.{stream}".encode(),
        body=encoded(envelope(stream, **changed)),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, str) and value.replace(".", "").isdigit()


def _named(values: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    return ((repr(value)[:24], value) for value in values)
