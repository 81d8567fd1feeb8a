"""Certificates of callers: when they count, and when what signs them changes."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from tests.support.mtls_proxy import by_rfc_9440

from psm.adapters.house_certificates import LEAF_DAYS, House
from psm.contracts.certificates import read_certificate
from psm.contracts.errors import ConfigError
from psm.workers.access.bearer import Authenticator, CredentialsError
from psm.workers.access.certificates import ClientCertificates, ForeignCertificateError
from psm.workers.access.following import FollowedAccess
from psm.workers.access.issuers import CertificateGrant, read_access_file
from psm.workers.access.policy import Principal
from psm.workers.access.store import TokenTable

DESK = "spiffe://desk.example/risk"
GRANTS = (CertificateGrant(uri=DESK, roles=("viewer",), patterns=("account:desk-*",)),)


def shown(folder: Path, leaf: str = "desk") -> str:
    return by_rfc_9440(ssl.PEM_cert_to_DER_cert((folder / leaf / "tls.crt").read_text()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    House(tmp_path / "house").make({"desk": (DESK,)})
    return tmp_path / "house"


@pytest.mark.parametrize("days", [-1, LEAF_DAYS + 1])
def test_a_certificate_counts_in_its_time_alone(folder: Path, days: int) -> None:
    at = datetime.now(UTC) + timedelta(days=days)
    certificates = ClientCertificates(GRANTS, folder / "ca.crt", now=lambda: at)
    with pytest.raises(ForeignCertificateError, match="does not count"):
        certificates.principal(shown(folder))


async def test_what_signs_and_who_owns_may_be_replaced(folder: Path, tmp_path: Path) -> None:
    """Both CAs count between the steps; whose entry is gone is out, also in the midst of it."""
    file, house = tmp_path / "access.toml", House(folder)
    entry = f"[[certificate]]\nuri='{DESK}'\nroles=['viewer']\n"
    file.write_text(entry)
    recognises = Authenticator(cast("TokenTable", object()))
    access = FollowedAccess(file, recognises, folder / "ca.crt")
    assert folder / "ca.crt" in access.files()
    old = shown(folder)

    async def who(certificate: str) -> Principal:
        await access.take()
        return recognises.principal(None, "", certificate)

    assert (await who(old)).id == DESK
    house.replace_authority()
    house.replace_authority()
    new = shown(folder)
    assert (await who(old)).key != (await who(new)).key
    assert read_certificate((folder / "desk" / "tls.crt").read_bytes()).names[-1] == DESK
    house.replace_authority()
    principal = await who(new)
    with pytest.raises(CredentialsError, match="does not count"):
        await who(old)
    assert recognises.still_holds(principal)
    file.write_text("")
    await access.take()
    assert not recognises.still_holds(principal)
    file.write_text(entry)
    (folder / "ca.crt").write_text("nothing")
    with pytest.raises(ConfigError, match="PSM_HTTP_CLIENT_CA_FILE"):
        await access.take()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("uri='a b'\nroles=['viewer']\n", "names no principal"),
        ("uri='a'\nroles=['root']\n", "'root' is no role"),
        ("uri='a'\nroles=['bootstrap']\n", "nobody is given the role bootstrap"),
        ("uri='a'\nroles=['viewer']\npatterns=['*']\n", "for admin and auditor only"),
        ("uri='a'\nroles=['viewer']\n[[certificate]]\nuri='a'\nroles=['risk']\n", "have one uri"),
        ("uri='a'\nroles=['viewer']\nkind='person'\n", "unknown field"),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "access.toml"
    file.write_text(f"[[certificate]]\n{text}")
    with pytest.raises(ConfigError, match=says):
        read_access_file(file)
