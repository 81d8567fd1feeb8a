"""Personal texts: clear, or sealed and then longer; whatever they are, money is booked."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support import domain
from tests.support.events import event, opened

from psm.contracts import codec, limits, registry
from psm.contracts.errors import ContractError
from psm.contracts.personal import is_sealed
from psm.domain.messages import Outcome

SCHEMA = registry.schemas()["TransferredIn/1.0.0.json"]
SHORT = "psm1.k-1." + "A" * 38
LONG = "psm1." + "k" * 32 + "." + "_" * 6000


def transfer(counterparty: str) -> dict[str, Any]:
    return {"amount": "5", "transfer_id": "t-1", "counterparty": counterparty}


def accepts(payload: dict[str, Any]) -> bool:
    """Return whether the codec takes the payload of a `TransferredIn`."""
    sent = event("TransferredIn", payload, 1)
    envelope = codec.decode_envelope(sent.data)
    try:
        registry.codec_for(envelope).decode(envelope.payload)
    except ContractError:
        return False
    return True


@pytest.mark.parametrize(
    "text",
    ["Ada", "x" * 128, SHORT, SHORT + "A" * 90, LONG, "psm1.", "psm1.k.tooshort", "psm1 x"],
    ids=len,
)
def test_a_transfer_is_booked_whatever_its_counterparty_looks_like(text: str) -> None:
    """Clear up to 128 bytes, sealed up to what sealing makes; what is neither form is clear."""
    log = domain.given(opened(1))
    assert log.when(event("TransferredIn", transfer(text), 2)).outcome is Outcome.APPLIED
    assert log.state()["cash"] == {"USDT": "5"}
    assert all(text.encode() not in update.data for update in log.updates)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 129,
        "é" * 65,
        LONG + "_",
        "psm1.k." + "A" * 6000 + "=",
        "psm1." + "k" * 33 + "." + "A" * 200,
        "psm2.k." + "A" * 200,
        SHORT + "A" * 200 + chr(10),
        "",
    ],
)
def test_clear_text_has_its_own_limit(text: str) -> None:
    """A sealed look does not make a long text sealed; the refusal names the field."""
    log = domain.given(opened(1))
    seen = log.when(event("TransferredIn", transfer(text), 2))
    assert (seen.outcome, seen.reason) == (Outcome.REFUSED, "invalid_payload")
    refusal = seen.payload("EventRefused")
    assert refusal["field"] == "payload.counterparty"
    assert refusal["detail"].endswith("text of 1 to 128 bytes, without NUL, or sealed")


@given(
    st.one_of(
        st.from_regex(r"psm1\.[A-Za-z0-9_-]{1,34}\.[A-Za-z0-9_=-]{30,200}", fullmatch=True),
        st.text(alphabet="psm1.k-_A=", max_size=200),
        st.integers(126, 131).map("a".__mul__),
    )
)
@example(SHORT)
@example(LONG)
def test_schema_and_codec_agree(text: str) -> None:
    """A producer can check with the schema alone what the fold will take."""
    if 0 < len(text) <= limits.KEY_BYTES or is_sealed(text):
        assert accepts(transfer(text))
    assert accepts(transfer(text)) == jsonschema_rs.is_valid(SCHEMA, transfer(text))


@pytest.mark.parametrize("name", ["transfer_id", "counterparty"])
def test_null_is_no_text(name: str) -> None:
    """Null means left out, which only a counterparty may be."""
    payload = {**transfer("Ada"), name: None}
    assert accepts(payload) == (name == "counterparty")
