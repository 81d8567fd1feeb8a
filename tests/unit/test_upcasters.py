"""The flat 0.x draft."""

from __future__ import annotations

import msgspec
import pytest
from tests.support.events import SAMPLES

from psm.contracts import codec, registry
from psm.contracts.errors import ContractError
from psm.contracts.upcasters import is_flat, upcast_flat


def test_stored_drafts_upcast_to_readable_events() -> None:
    """Every sample draft becomes a 1.0.0 event with the same id and the same numbers."""
    for line in SAMPLES[2:]:
        fields = codec.decode_untyped(line)
        assert is_flat(fields)
        event = {**upcast_flat(fields), "sequence_number": 3}
        envelope = codec.decode_envelope(codec.encode(event))
        assert envelope.event_id == fields["event_id"]
        assert envelope.stream_id == fields["account_id"]
        payload = registry.account_codec_for(envelope).decode(envelope.payload)
        assert getattr(payload, "symbol") == fields["symbol"]  # noqa: B009 - a union
    assert msgspec.json.decode(envelope.payload)["funding_payment"] == "-0.042"


@pytest.mark.parametrize(
    ("side", "result"), [("long", "buy"), ("short", "sell"), ("buy", "buy"), ("sell", "sell")]
)
def test_sides_are_translated(side: str, result: str) -> None:
    """Long means buy, short means sell."""
    fields = {**codec.decode_untyped(SAMPLES[2]), "side": side}
    assert upcast_flat(fields)["payload"]["side"] == result


@pytest.mark.parametrize("side", ["flat", "", None, "LONG"])
def test_other_sides_are_refused(side: str | None) -> None:
    """Nothing is guessed."""
    fields = {**codec.decode_untyped(SAMPLES[2]), "side": side}
    with pytest.raises(ContractError, match="unknown_side"):
        upcast_flat(fields)


def test_literal_text_of_numbers_survives() -> None:
    """`42500.00` stays `42500.00`, an integer becomes its text."""
    fields = codec.decode_untyped(SAMPLES[2].replace(b'"quantity":0.2', b'"quantity":2'))
    payload = upcast_flat(fields)["payload"]
    assert (payload["price"], payload["quantity"]) == ("42500.00", "2")


def test_a_numbered_or_wrapped_event_is_no_draft() -> None:
    """Only the flat form without a number is one."""
    fields = codec.decode_untyped(SAMPLES[2])
    assert not is_flat({**fields, "sequence_number": 1})
    assert not is_flat({**fields, "payload": {}})
    assert not is_flat({**fields, "event_type": "CashDeposited"})
    assert not is_flat(codec.decode_untyped(SAMPLES[0]))
