"""The doctor finds what is wrong on real servers, and what it prints mends it."""

from __future__ import annotations

import json
import shlex
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tests.support.running import psm_here, run
from tests.support.servers import server_folder

from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import connect
from psm.adapters.jetstream.api import call
from psm.adapters.jetstream.facts import user_facts
from psm.adapters.jetstream.roles import role
from psm.adapters.jetstream.streams_apply import apply
from psm.workers.cli import main
from psm.workers.doctor.broker import lacking
from psm.workers.doctor.examine import CHECKS
from psm.workers.process.config import load_settings

PARTITIONS = 4
ROUNDS = 4


@pytest.fixture
async def broker() -> AsyncIterator[EmbeddedNats]:
    """A server with a user for each part, as where PSM is deployed."""
    with server_folder("doctor") as folder:
        async with EmbeddedNats(folder, permissions=True) as server:
            yield server


class Patient:
    """An installation of its own: a `.env` here, and what it names."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.env = folder / ".env"
        self._capsys = capsys

    def write(self, **variables: str) -> None:
        self.env.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
        self.env.chmod(0o600)

    async def looked(self, *checks: str) -> tuple[int, list[dict[str, Any]]]:
        """Return exit code and findings of the doctor."""
        self._capsys.readouterr()
        code = await psm_here("doctor", *checks, "-o", "json", "-q")
        return code, json.loads(self._capsys.readouterr().out)

    async def mend(self, command: str) -> None:
        """Run what the doctor printed, as it stands."""
        first, *arguments = shlex.split(command)
        if first == "psm":
            assert await psm_here(*arguments) == 0, command
        else:
            run(["bash", "-c", command])


@pytest.fixture
def patient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Patient:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PSM_ENV_FILE", str(tmp_path / ".env"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # the `psm up` of another test is not here
    return Patient(tmp_path, capsys)


async def test_ten_faults_are_found_and_mended_by_what_is_printed(
    broker: EmbeddedNats, postgres_dsn: str, patient: Patient
) -> None:
    """Those that hide others first; then the doctor has nothing more to say."""
    right = {
        "NATS_URL": broker.url,
        "POSTGRES_DSN": postgres_dsn,
        "PSM_NATS_MONITORING_URL": broker.monitoring_url,
        "PSM_PARTITIONS": str(PARTITIONS),
        **broker.settings_of("owner"),
    }
    nc = await connect(**load_settings(right, find_up=False).nats_options(), name="test")
    await apply(nc, load_settings(right, find_up=False))
    patient.write(**right)
    await patient.mend("psm migrate up --roles")
    assert (await patient.looked())[0] == 0

    wrong = {
        **right,
        "PSM_HTTP_PROT": "8005",  # 1: a slip of the finger
        "PSM_REPLICAS": "2",  # 2: a value that cannot be
        "PSM_NATS_TOKEN": "t0ken",  # 3: two ways to say who we are
        "PSM_PARTITIONS": "8",  # 4: not what the log was made with
        "PSM_NATS_INBOX_PREFIX": "_INBOX",  # 5: where this user hears nothing
    }
    patient.write(**wrong)
    patient.env.chmod(0o644)  # 6: with passwords in it
    await call(nc, "STREAM.DELETE.OPS")  # 7
    health = (await call(nc, "STREAM.INFO.HEALTH"))["config"]
    await call(nc, "STREAM.UPDATE.HEALTH", {**health, "max_age": 3_600_000_000_000})  # 8: forgets
    await nc.close()
    database = await asyncpg.connect(postgres_dsn)
    await database.execute("REVOKE INSERT ON balances_view FROM psm_views_writer")  # 9
    await database.execute("DROP SCHEMA access CASCADE")  # 10: an older release's schema
    await database.execute("DELETE FROM schema_migrations WHERE name LIKE '0012%'")
    await database.close()

    planted = {
        ("settings", "PSM_HTTP_PROT is not"),
        ("settings", "PSM_REPLICAS"),
        ("settings", "PSM_NATS_TOKEN are both set"),
        ("log", "partitions 4"),
        ("inbox", "_INBOX.owner"),
        ("files", "644"),
        ("streams", "OPS: the stream does not exist"),
        ("streams", "HEALTH: max_age"),
        ("roles", "psm_views_writer: may not INSERT balances_view"),
        ("migrations", "0012_access.sql"),
    }
    found: set[tuple[str, str]] = set()
    for _ in range(ROUNDS):
        code, findings = await patient.looked()
        faults = [one for one in findings if one["ok"] is False]
        assert code == bool(faults)
        found |= {
            (check, text)
            for check, text in planted
            for one in faults
            if one["check"] == check and text in one["why"]
        }
        for command in dict.fromkeys(one["command"] for one in faults):
            await patient.mend(command)
    assert found == planted
    code, findings = await patient.looked()
    assert code == 0
    # The disk is that of a `psm up`, and none runs here.
    assert {one["check"] for one in findings if one["ok"] is not True} == {"disk"}


async def test_half_of_it_away(patient: Patient, postgres_dsn: str) -> None:
    """What is away is one fault; what hangs on it is unseen; the rest is looked at."""
    patient.write(NATS_URL="nats://127.0.0.1:1", POSTGRES_DSN=postgres_dsn)
    code, findings = await patient.looked()
    of = {one["check"]: one for one in findings}
    assert code == 1
    assert [name for name, one in of.items() if one["ok"] is False] == ["broker"]
    assert of["broker"]["command"] == "psm up"
    assert of["streams"]["ok"] is None
    assert "127.0.0.1:1" in of["streams"]["why"]
    assert of["migrations"]["ok"] is True
    assert set(of) == {check.name for check in CHECKS}

    patient.write(NATS_URL="nats://127.0.0.1:1", POSTGRES_DSN="postgresql://a:b@127.0.0.1:1/c")
    code, findings = await patient.looked()
    assert {one["check"] for one in findings if one["ok"] is False} == {"broker", "database"}
    patient.env.write_text("PSM_REPLICAS = = 3\n")
    code, (finding,) = await patient.looked("settings")
    assert (code, finding["ok"]) == (1, False)
    assert "PSM_REPLICAS" in finding["why"]


@pytest.mark.postgres_tls  # whoever has that server has psql
async def test_a_database_that_is_set_to_take_no_writes(
    patient: Patient, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is printed mends it, although it is itself a write."""
    monkeypatch.setenv("POSTGRES_DSN", postgres_dsn)
    name = postgres_dsn.rpartition("/")[2]
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    await connection.close()
    patient.write()
    code, (finding,) = await patient.looked("database")
    assert (code, "take no writes" in finding["why"]) == (1, True)
    await patient.mend(finding["command"])
    assert (await patient.looked("database"))[0] == 0


async def test_a_table_that_is_gone_although_its_migration_is_applied(
    patient: Patient, postgres_dsn: str
) -> None:
    """All else would say that the schema is not up to date, and migrating that it is."""
    patient.write(POSTGRES_DSN=postgres_dsn)
    await patient.mend("psm migrate up")
    assert (await patient.looked("migrations"))[0] == 0
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("DROP TABLE current_state_quarantine")
    await connection.close()
    code, (finding,) = await patient.looked("migrations")
    assert (code, "current_state_quarantine: dropped" in finding["why"]) == (1, True)
    assert "--table=current_state_quarantine BACKUP" in finding["command"]


async def test_tokens_grow_old(patient: Patient, postgres_dsn: str) -> None:
    """At 75 days they are to be renewed, at 90 they are a fault."""
    patient.write(NATS_URL="nats://127.0.0.1:1", POSTGRES_DSN=postgres_dsn)
    database = await asyncpg.connect(postgres_dsn)
    for number, days in enumerate((1, 80, 91)):
        await database.execute(
            "INSERT INTO access.tokens (id, secret_sha256, principal, kind, roles, patterns, "
            "created_by, created_at, expires_at) VALUES ($1, $2, 'svc/x', 'service', '{viewer}', "
            "'{*}', 'test', now() - make_interval(days => $3), now() + interval '1 day')",
            f"token00{number}",
            bytes(32),
            days,
        )
    await database.close()
    code, findings = await patient.looked("tokens")
    assert code == 1
    assert [(one["ok"], one["command"]) for one in findings] == [
        (False, "psm token revoke token002"),
        (True, "psm token rotate token001"),
    ]


async def test_production_asks_for_more(
    patient: Patient, postgres_dsn: str, nats_url: str, tmp_path: Path
) -> None:
    """Two people with keys; what nobody can look at from here is unseen."""
    access = tmp_path / "access.toml"
    for name in ("ann", "bob"):
        await psm_here("anchor", "keygen", str(tmp_path / name))
        with access.open("a") as file:
            file.write(f'[[person]]\nid = "u_{name}"\nkeys = ["{name}.pub"]\n')
    told = {"NATS_URL": nats_url, "POSTGRES_DSN": postgres_dsn, "PSM_ENV": "production"}
    patient.write(**told)
    code, (finding,) = await patient.looked("approvers")
    assert (code, finding["ok"]) == (1, False)
    patient.write(**told, PSM_ACCESS_FILE=str(access))
    code, findings = await patient.looked("approvers", "sync_interval", "jetstream")
    assert {one["check"]: one["ok"] for one in findings} == {
        "approvers": True,
        "sync_interval": None,  # the monitoring port is not known
        "jetstream": True,
    }
    access.write_text("")
    assert (await patient.looked("approvers"))[0] == 1


async def test_certificates_and_files(patient: Patient, tmp_path: Path) -> None:
    """One that ends soon, one that is none, and a key that others read."""
    house = tmp_path / "house"
    (house / "authority").mkdir(parents=True)
    (house / "nats").mkdir()
    for days, ok in ((10, False), (20, True), (60, True)):
        certificate, key = self_signed(days)
        (house / "nats" / "tls.crt").write_bytes(certificate)
        (house / "nats" / "tls.key").write_bytes(key)
        patient.write(
            PSM_NATS_CA_FILE=str(house / "nats" / "tls.crt"),
            PSM_NATS_CERT_FILE=str(house / "nats" / "tls.crt"),
            PSM_NATS_KEY_FILE=str(house / "nats" / "tls.key"),
        )
        (house / "nats" / "tls.key").chmod(0o600 if ok else 0o640)
        code, findings = await patient.looked("certificates", "files")
        of = {one["check"]: one for one in findings}
        assert (code, of["certificates"]["ok"], of["files"]["ok"]) == (int(not ok), ok, ok)
        assert of["certificates"]["command"] == (f"psm certs renew {house}" if days < 30 else "")
        if not ok:
            await patient.mend(of["files"]["command"])
            assert (await patient.looked("files"))[0] == 0
    (house / "nats" / "tls.crt").write_text("nothing")
    code, findings = await patient.looked("certificates")
    assert (code, "no certificate" in findings[0]["why"]) == (1, True)


async def test_what_keeps_the_api_from_starting(patient: Patient, tmp_path: Path) -> None:
    """Keys and issuers of callers that are not there, and nobody asked who he is; each mended."""
    key, access = tmp_path / "own", tmp_path / "access.toml"
    access.write_text(
        "[[issuer]]\niss='x'\naudience='a'\nalgorithms=['RS256']\n"
        f"jwks_file='{tmp_path / 'keys.json'}'\n"
    )
    patient.write(
        PSM_ENV="production",
        PSM_HTTP_AUTH="off",
        PSM_HTTP_PRINCIPAL_KEY_FILE=str(key),
        PSM_ACCESS_FILE=str(access),
    )
    seen: list[str] = []
    for _ in range(ROUNDS):
        _, findings = await patient.looked("callers")
        for fault in [one for one in findings if one["ok"] is False]:
            seen.append(fault["why"])
            if fault["command"].startswith("$EDITOR"):
                (tmp_path / "keys.json").write_text('{"keys":[]}')
            else:
                await patient.mend(fault["command"])
    assert [text[:30] for text in seen] == [
        "PSM_HTTP_AUTH=off is refused w",
        f"cannot read {key}"[:30],
        f"{access} names"[:30],
        "PSM_HTTP_PRINCIPAL_KEYS does n",
    ]
    assert (await patient.looked("callers", "files"))[0] == 0


async def test_a_certificate_is_renewed_by_what_is_printed(
    patient: Patient, tmp_path: Path
) -> None:
    """Of the house's own CA."""
    house = tmp_path / "house"
    await patient.mend(f"psm certs init {house} --leaf api --days 10")
    patient.write(
        PSM_NATS_CA_FILE=str(house / "ca.crt"),
        PSM_NATS_CERT_FILE=str(house / "api" / "tls.crt"),
        PSM_NATS_KEY_FILE=str(house / "api" / "tls.key"),
    )
    code, findings = await patient.looked("certificates")
    (wrong,) = [one for one in findings if one["ok"] is False]
    assert (code, "api/tls.crt" in wrong["why"]) == (1, True)
    await patient.mend(wrong["command"])
    code, findings = await patient.looked("certificates")
    assert (code, [one["ok"] for one in findings]) == (0, [True, True])


def self_signed(days: int) -> tuple[bytes, bytes]:
    """Return a certificate that holds so many days and an hour, and its key."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nats")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days, hours=1))
        .sign(key, None)
    )
    return built.public_bytes(Encoding.PEM), key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


async def test_a_user_that_may_too_little(broker: EmbeddedNats) -> None:
    """What the broker says of our user is compared with what its role needs."""
    operator = role("operator")
    settings = load_settings({"NATS_URL": broker.url, **broker.settings_of("operator")})
    nc = await connect(**settings.nats_options(), name="test")
    try:
        facts = await user_facts(nc)
    finally:
        await nc.close()
    assert facts.user == "operator"
    assert lacking(operator, facts) == []
    fewer = msgspec.structs.replace(facts, publish=facts.publish[1:] if facts.publish else ())
    assert len(lacking(operator, fewer)) == 1


def test_an_unknown_check_and_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong name is an error, not silence."""
    assert main(["doctor", "nonsense"]) == 2
    assert "psm doctor --list" in capsys.readouterr().err
    assert main(["doctor", "--list"]) == 0
    assert "sync_interval" in capsys.readouterr().out
    assert main(["check", "PsmViewLagging"]) == 3
    assert "`psm check view_lag` asks for its own, --prometheus URL" in capsys.readouterr().out
