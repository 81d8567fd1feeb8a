"""Who appended an event, as a service signs it."""

from __future__ import annotations

import hashlib
import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from psm.workers.access.policy import Principal
from psm.workers.access.vouched import Author, Signer, author_of, is_forged
from psm.workers.ops.keys import Keyring

KEY = Ed25519PrivateKey.generate()
RING = Keyring([KEY.public_key()])
HASH = hashlib.sha256(b"{}").digest()
AT = "2026-01-02T03:04:05.678Z"
SERVICE = Principal(
    id="svc/a", kind="service", roles=("ingest",), patterns=(), how="token", key="0"
)
PERSON = Principal(id="ada", kind="person", roles=("admin",), patterns=(), how="jwt", key="iss")


def header(principal: Principal = SERVICE) -> str:
    return Signer(KEY).header(principal, "trades.a", HASH, AT)


def test_a_signature_proves_one_event_of_one_principal() -> None:
    found = author_of(header(), "trades.a", HASH, RING)
    assert found == Author(principal="svc/a", door="http", at=AT)
    other = hashlib.sha256(b"[]").digest()
    boss = header().replace("svc/a", "boss")
    for text, subject, hashed in (
        (header(), "trades.b", HASH),
        (header(), "trades.a", other),
        (boss, "trades.a", HASH),
        (header().replace("2026", "2027"), "trades.a", HASH),
    ):
        found = author_of(text, subject, hashed, RING)
        assert found.principal is None
        assert found.door == "nats"
        assert is_forged(text, RING)
    unknown = author_of(header(), "trades.a", HASH, Keyring(()))
    assert (unknown.principal, unknown.claimed) == (None, "svc/a")
    assert not is_forged(header(), Keyring(()))


@pytest.mark.parametrize(
    "text", ["", ";", "v1;a;b;c;\u00e9", "v1;a;b;c;d;e", "a" * 9999, "v2;a;b;c;d"]
)
def test_what_is_no_header_of_ours_claims_at_most(text: str) -> None:
    found = author_of(text, "trades.a", HASH, RING)
    assert found.principal is None
    assert len(found.claimed or "") <= 128


def test_a_person_is_there_by_pseudonym() -> None:
    """One that is always the same here, and another one at another issuer or service."""
    name = author_of(header(PERSON), "trades.a", HASH, RING).principal
    assert name is not None
    assert re.fullmatch(r"u_[0-9a-f]{16}", name)
    assert header(PERSON) == header(PERSON)
    elsewhere = Ed25519PrivateKey.generate()
    assert name not in Signer(elsewhere).header(PERSON, "trades.a", HASH, AT)
