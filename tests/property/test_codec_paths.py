"""The fast look at numbers never accepts what the careful one refuses, nor the other way round."""

from __future__ import annotations

from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from psm.contracts import codec, number_look, payload_codec, registry
from psm.contracts.envelope import Envelope
from psm.contracts.errors import ContractError
from psm.contracts.events import FundingApplied, TradeExecuted
from psm.contracts.fields import Payload
from psm.contracts.payload_codec import PayloadCodec

TEXTS = st.one_of(
    st.text("0159.eE-+_ NaInf", max_size=24),
    st.sampled_from(["1_0", "_1", "1_", "-_1", "1._5", "1e5", "1e-18", "1.5e-18", "1e00001"]),
    st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
)
NUMBERS = st.one_of(TEXTS.map(lambda text: f'"{text}"'), TEXTS)
BLANKS = st.sampled_from(["", " ", "\t"])
TRADE, FUNDING = PayloadCodec(TradeExecuted), PayloadCodec(FundingApplied)


def judged(decoder: PayloadCodec, raw: bytes) -> Payload | tuple[str, str, str | None]:
    """Return what a payload is decoded to, or why it is refused."""
    try:
        return decoder.decode(raw)
    except ContractError as error:
        return error.reason, error.detail, error.field


@given(NUMBERS, NUMBERS, BLANKS, st.text(max_size=6))
def test_both_ways_to_check_numbers_agree(one: str, two: str, blank: str, other: str) -> None:
    """Whatever stands where a number belongs: same payload, or same refusal."""
    free = codec.encode(other).decode()
    trade = (
        f'{{"symbol":"X","side":"buy","quantity":{blank}{one}{blank},"price":{two},'
        f'"order_id":{blank}{free}}}'
    ).encode()
    funding = f'{{"symbol":{free},"funding_payment":{one},"funding_rate":{two}}}'.encode()
    for decoder, raw in ((TRADE, trade), (FUNDING, funding)):
        fast = judged(decoder, raw)
        with mock.patch.object(payload_codec, "look", return_value=number_look.SUSPICIOUS):
            careful = judged(decoder, raw)
        assert fast == careful


def test_remembered_codecs_follow_the_rules() -> None:
    """A codec that was looked up before is the one that a fresh look finds."""
    envelope = Envelope(
        event_id="00000000-0000-0000-0000-000000000001",
        event_type="TradeExecuted",
        stream_id="a",
        sequence_number=1,
        timestamp="2025-12-12T10:30:00Z",
        schema_version="1.0.0",
        payload=b"{}",
    )
    assert registry.account_codec_for(envelope, 1) is registry.account_codec_for(envelope, 1)
    assert registry.account_codec_for(envelope) is registry.codec_for(envelope)
