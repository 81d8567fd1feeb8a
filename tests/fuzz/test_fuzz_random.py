"""Random bytes, subjects, headers and JSON against real servers: nobody else is harmed.

A log cannot be purged, so a harmful input is not shrunk: what was published in its example is
printed. `make fuzz` draws other examples each time, and more of them.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.support.fuzzing import corpus
from tests.support.fuzzing.stage import Stage, Stages
from tests.support.fuzzing.wire import Odd

LONG = os.environ.get("PSM_TEST_FUZZ") == "long"
BOUNDED = settings(
    max_examples=400 if LONG else 12,
    derandomize=not LONG,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[*HealthCheck],
    print_blob=False,
)

# Blanks and line ends would be another command of the protocol.
_bytes_of_token = st.binary(min_size=1, max_size=80).map(
    lambda token: token.translate(None, b" \t\r\n") or b"x"
)
_tokens = st.one_of(
    st.sampled_from([*corpus.TOKENS.values()]), _bytes_of_token, st.text().map(str.encode)
).map(lambda token: token.translate(None, b" \t\r\n*>") or b"x")
_json = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.sampled_from(corpus.VALUES),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_types = st.sampled_from(
    ["TradeExecuted", "CashDeposited", "TradeBusted", "TradeAmended", "SplitApplied",
     "OrderSubmitted", "TransferredIn", "PositionAdjusted", "EventDismissed", "SequenceVoided",
     "AccountOpened", "DividendPaid", "LeverageChanged", "NobodyKnows"]
)  # fmt: skip
_fields = ("symbol", "side", "quantity", "price", "amount", "currency", "order_id", "fill_id",
           "ratio", "leverage", "type", "reason", "actor", "event_id", "log_sequence")  # fmt: skip
_texts = st.one_of(
    st.sampled_from(["buy", "BTC-PERP", "1", "100", "USDT", "o1", "f1"]),
    st.sampled_from(corpus.NUMBERS),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    _json,
)
_payloads = st.dictionaries(st.sampled_from(_fields), _texts, max_size=8)
_accounts = st.integers(1, 6).map(lambda n: f"random_{n}")


@st.composite
def _events(draw: st.DrawFn) -> Odd:
    """An event that is almost one, at one of its account's next places."""
    stream = draw(_accounts)
    event = corpus.envelope(
        stream,
        event_type=draw(_types),
        sequence_number=draw(st.integers(1, 12) | st.integers() | _json),
        payload=draw(_payloads),
    )
    event |= draw(st.dictionaries(st.sampled_from([*event]), _json, max_size=1))
    return Odd(name="event", subject=f"trades.{stream}".encode(), body=corpus.encoded(event))


@st.composite
def _messages(draw: st.DrawFn) -> Odd:
    """Anything on any subject of the log or of what is recorded."""
    pattern = draw(st.sampled_from((*corpus.LOG_SUBJECTS, *corpus.RECORDED_SUBJECTS)))
    body = draw(
        st.one_of(
            st.binary(max_size=300),
            st.sampled_from([*corpus.RAW_BODIES.values()]),
            _json.map(corpus.encoded),
            st.dictionaries(st.sampled_from([*corpus.envelope("x")]), _json).map(corpus.encoded),
        )
    )
    headers = draw(
        st.none()
        | st.sampled_from([*corpus.HEADERS.values()])
        | st.binary(max_size=60).map(lambda junk: b"X: " + junk + b"\r\n")
    )
    block = None if headers is None else b"NATS/1.0\r\n" + headers + b"\r\n"
    return Odd(name="any", subject=pattern % draw(_tokens), body=body, headers=block)


def _played(stages: Stages, work: Callable[[Stage], Coroutine[Any, Any, None]], shown: Any) -> None:
    """Do one example; name what was published if it harmed anybody."""
    stage = stages.stage()
    try:
        asyncio.run(_checked(stage, work))
    except AssertionError as error:
        pytest.fail(f"{error}\nafter {shown!r:.20000}")


async def _checked(stage: Stage, work: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
    await work(stage)
    await stage.check()


@BOUNDED
@given(messages=st.lists(_events(), min_size=20, max_size=80))
def _events_in_any_order(stages: Stages, messages: list[Odd]) -> None:
    async def feed(stage: Stage) -> None:
        await stage.feed(messages)

    _played(stages, feed, [odd.body for odd in messages])


@BOUNDED
@given(messages=st.lists(_messages(), min_size=20, max_size=80))
def _messages_of_any_kind(stages: Stages, messages: list[Odd]) -> None:
    async def feed(stage: Stage) -> None:
        await stage.feed(messages)

    _played(stages, feed, messages)


@BOUNDED
@given(
    bodies=st.lists(
        _json.map(corpus.encoded) | st.binary(max_size=200) | _events().map(lambda odd: odd.body),
        max_size=20,
    ),
    paths=st.lists(
        st.tuples(st.text(max_size=20), st.dictionaries(st.text(), st.text())), max_size=20
    ),
)
def _requests_of_any_kind(
    stages: Stages, bodies: list[bytes], paths: list[tuple[str, dict[str, str]]]
) -> None:
    async def ask(stage: Stage) -> None:
        for request in (*map(_post, bodies), *(_get(*path) for path in paths)):
            answer = await stage.http(request)
            # 504 says that a version did not come in time: the service is well.
            broken = answer.startswith(b"HTTP/1.1 5") and answer[9:12] != b"504"
            assert not broken, (request, answer[:500])

    _played(stages, ask, (bodies, paths))


def _post(body: bytes) -> bytes:
    return (
        b"POST /psm/events HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )


def _get(token: str, query: dict[str, str]) -> bytes:
    asked = "&".join(f"{quote(name)}={quote(text)}" for name, text in query.items())
    path = f"/psm/state/{quote(token, safe='')}?{asked}"
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()


@pytest.mark.parametrize(
    "play", [_events_in_any_order, _requests_of_any_kind, _messages_of_any_kind]
)
def test_random_input_harms_nobody_else(stages: Stages, play: Callable[[Stages], None]) -> None:
    """After each example everybody else moves."""
    play(stages)
    if LONG:
        asyncio.run(stages.stage().check_all())


def test_after_all_of_it_all_is_exact(stages: Stages) -> None:
    """Everything in PSM is what the log says, and the audit is clean."""
    asyncio.run(stages.stage().check_all())


def test_random_events_are_events() -> None:
    """What is drawn is near enough to an event for the fold to judge its payload."""
    seen = set()

    @settings(BOUNDED, max_examples=100)
    @given(_events())
    def draw(odd: Odd) -> None:
        event = json.loads(odd.body)
        seen.add(event["event_type"] if isinstance(event["event_type"], str) else "")

    draw()
    assert len(seen) > 8
