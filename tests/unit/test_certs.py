"""`psm certs`: a house CA and its leafs as files, and how they are replaced."""

from __future__ import annotations

import json
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from psm.adapters.house_certificates import Authority, House
from psm.contracts.certificates import read_certificate, refused
from psm.workers.cli import main


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "certs")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    """Return exit code and document of a command, or the text of its error."""
    code = main([*map(str, arguments), "-o", "json"])
    said = capsys.readouterr()
    return code, json.loads(said.out or said.err)


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    """Let two ends speak to each other without a network."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
    assert ends == []


def test_init_makes_what_is_missing(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    """Private keys are private; a second run adds a leaf and leaves the others."""
    command = ("certs", "init", house.folder, "--leaf", "nats-1=broker.example,10.0.0.7")
    assert run(capsys, *command)[1]["made"] == ["nats-1"]
    first = (house.folder / "nats-1" / "tls.crt").read_bytes()
    assert run(capsys, *command, "--leaf", "postgres")[1]["made"] == ["postgres"]
    assert (house.folder / "nats-1" / "tls.crt").read_bytes() == first
    names = read_certificate(first).names
    assert names == ("nats-1", "localhost", "broker.example", "127.0.0.1", "10.0.0.7")
    private = {
        path.relative_to(house.folder).as_posix()
        for path in house.folder.rglob("*")
        if path.is_file() and stat.S_IMODE(path.stat().st_mode) == 0o600
    }
    assert private == {"authority/ca.pem", "nats-1/tls.key", "postgres/tls.key"}
    assert stat.S_IMODE((house.folder / "authority").stat().st_mode) == 0o700


@pytest.mark.parametrize("leaf", ["authority", "../x", "Nats", "a b", ""])
def test_odd_names_are_refused(leaf: str, house: House, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, "certs", "init", house.folder, "--leaf", leaf)
    assert code == 2
    assert "expected a host name" in said["error"]


def test_strict_clients_take_them(house: House) -> None:
    """Everything that Python 3.13 asks of a certificate is there; another name is refused."""
    house.make({"nats-1": ()})
    leaf = house.folder / "nats-1"
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(leaf / "tls.crt", leaf / "tls.key")
    client = ssl.create_default_context(cafile=str(house.folder / "ca.crt"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    for name in ("nats-1", "localhost", "127.0.0.1"):
        handshake(client, server, name)
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        handshake(client, server, "elsewhere")
    refusal = refused(caught.value, ca="CA", address="NATS_URL")
    assert refusal is not None
    assert "NATS_URL must name the server" in refusal.why


def test_authority_is_replaced_in_three_steps(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    """Leafs are trusted at each step by who has read the step before, and by who has read this."""
    house.make({"nats-1": (), "postgres": ("db.example",)})
    trusted, leafs = [], []
    for step in ("start", "trust", "leafs", "retire"):
        if step != "start":
            code, said = run(capsys, "certs", "renew", house.folder, "--authority")
            assert (code, said["step"]) == (0, step)
        trusted.append(x509.load_pem_x509_certificates((house.folder / "ca.crt").read_bytes()))
        leafs.append(
            x509.load_pem_x509_certificate((house.folder / "postgres" / "tls.crt").read_bytes())
        )
        assert (house.folder / "postgres" / "ca.crt").read_bytes() == (
            house.folder / "ca.crt"
        ).read_bytes()
        if step == "trust":
            code, said = run(capsys, "certs", "renew", house.folder)
            assert code == 2
            assert "being replaced" in said["error"]
    assert [len(bundle) for bundle in trusted] == [1, 2, 2, 1]
    assert trusted[0] != trusted[3]
    for number in range(3):
        for bundle in trusted[number : number + 2]:
            for leaf in leafs[number : number + 2]:
                assert any(leaf.issuer == ca.subject for ca in bundle)
    assert "db.example" in read_certificate((house.folder / "postgres/tls.crt").read_bytes()).names


def test_renewed_leafs_keep_names_and_ca(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    house.make({"nats-1": ("broker.example",)}, days=3)
    before = read_certificate((house.folder / "nats-1" / "tls.crt").read_bytes())
    code, rows = run(capsys, "certs", "show", house.folder)
    assert code == 1
    assert [(row["file"], row["ok"]) for row in rows] == [
        ("ca.crt", True),
        ("nats-1/tls.crt", False),
    ]
    assert run(capsys, "certs", "renew", house.folder)[1] == {"renewed": ["nats-1"]}
    code, rows = run(capsys, "certs", "show", house.folder / "nats-1" / "tls.crt")
    assert code == 0
    assert rows[0]["days_left"] in {364, 365}
    after = read_certificate((house.folder / "nats-1" / "tls.crt").read_bytes())
    assert (after.names, after.issuer) == (before.names, before.issuer)
    key = load_pem_private_key((house.folder / "nats-1" / "tls.key").read_bytes(), None)
    assert key is not None


def test_leaf_never_outlives_its_ca() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    certificate, _ = Authority.new(now, days=10).leaf("a", ("a",), now, days=300)
    assert read_certificate(certificate).expires == now + timedelta(days=10)


def test_what_is_no_certificate_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.crt").write_text("nothing")
    assert "no certificate" in run(capsys, "certs", "show", tmp_path / "x.crt")[1]["error"]
    assert "No such file" in run(capsys, "certs", "show", tmp_path / "absent.crt")[1]["error"]
    assert "psm certs init" in run(capsys, "certs", "renew", tmp_path / "empty")[1]["error"]
