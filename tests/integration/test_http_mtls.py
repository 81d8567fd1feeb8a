"""Callers with certificates behind a proxy that ends TLS, and what others make of its header."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.test_http import EVENT, Api, serving
from tests.support.mtls_proxy import Writes, by_nginx, by_rfc_9440, mtls_proxy
from tests.support.psm_stream import Account
from tests.support.workbench import WAIT_S

from psm.adapters import postgres
from psm.adapters.house_certificates import House
from psm.workers.access.certificates import ClientCertificates
from psm.workers.access.issuers import CertificateGrant
from psm.workers.access.store import Tokens, TokenTable

OWN, FOREIGN = "desk-1", "other-1"
DESK = "spiffe://desk.example/risk"
GRANTS = (CertificateGrant(uri=DESK, roles=("viewer",), patterns=("account:desk-*",)),)
LEAFS = {"proxy": (), "desk": (DESK,), "nobody": ("spiffe://desk.example/x",), "plain": ()}
PATH = f"/psm/state/{OWN}"


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two CAs with the same names, of which the service knows the first."""
    folders = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("theirs")
    for folder in folders:
        House(folder).make(LEAFS)
    return folders


@pytest.fixture
async def api(
    nats_url: str, postgres_dsn: str, houses: tuple[Path, Path]
) -> AsyncIterator[tuple[Api, str]]:
    """The service behind trusted proxies of this machine, and a viewer's token."""
    pool = await postgres.open_pool(postgres_dsn, name="access")
    table = TokenTable(pool, stale_s=600)
    certificates = ClientCertificates(GRANTS, houses[0] / "ca.crt")
    async with (
        table.kept(),
        serving(
            nats_url,
            postgres_dsn,
            ingest=True,
            tokens=table,
            proxies=("127.0.0.1/32",),
            certificates=certificates,
        ) as api,
    ):
        await api.write(Account(OWN).deposit("10"), Account(FOREIGN).deposit("20"))
        _, token = await Tokens(pool).create(
            principal="svc/token",
            kind="service",
            roles=("viewer",),
            patterns=("account:desk-*",),
            life=timedelta(days=1),
            created_by="test",
        )
        await table.read()
        yield api, token
    pool.terminate()


def _context(trusts: Path, house: Path, leaf: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(trusts / "ca.crt"))
    if leaf is not None:
        context.load_cert_chain(house / leaf / "tls.crt", house / leaf / "tls.key")
    return context


async def _get(port: int, context: ssl.SSLContext, path: str, **more: Any) -> httpx.Response:
    base = f"https://localhost:{port}"
    async with httpx.AsyncClient(base_url=base, verify=context, timeout=WAIT_S) as client:
        return await client.request(more.pop("method", "GET"), path, **more)


@pytest.mark.parametrize("writes", [by_rfc_9440, by_nginx])
async def test_a_caller_is_who_their_certificate_names(
    api: tuple[Api, str], houses: tuple[Path, Path], writes: Writes
) -> None:
    """By the URI of a certificate that the proxy saw, with roles and patterns of the file."""
    service, token = api
    ours = houses[0]
    async with mtls_proxy(service.mtls_port, ours, "proxy", writes=writes) as port:
        desk = _context(ours, ours, "desk")
        who = (await _get(port, desk, "/whoami")).json()
        assert (who["id"], who["how"], who["roles"]) == (DESK, "proxy", ["viewer"])
        assert who["expires_at"]
        assert (await _get(port, desk, PATH)).status_code == 200
        assert (await _get(port, desk, f"/psm/state/{FOREIGN}")).status_code == 404
        more = {"method": "POST", "json": {**EVENT, "stream_id": OWN}}
        assert (await _get(port, desk, "/psm/events", **more)).status_code == 403
        # The proxy takes off what the caller says of itself.
        forged = {"Client-Cert": by_rfc_9440(b"x")}
        assert (await _get(port, desk, PATH, headers=forged)).status_code == 200
        # A token is what the caller shows by itself, so it alone counts; a wrong one counts, too.
        asked = {"Authorization": f"Bearer {token}"}
        assert (await _get(port, desk, "/whoami", headers=asked)).json()["id"] == "svc/token"
        asked = {"Authorization": f"Bearer {token[:-1]}"}
        assert (await _get(port, desk, PATH, headers=asked)).status_code == 401


async def test_certificates_that_open_nothing(
    api: tuple[Api, str], houses: tuple[Path, Path]
) -> None:
    """Of nobody in the file, without a URI, none, and of another CA, also by a proxy that lets
    anything pass.
    """
    service, _ = api
    ours, theirs = houses
    async with mtls_proxy(service.mtls_port, ours, "proxy") as port:
        for leaf, says in (("nobody", "grants nothing here"), ("plain", "names 0 URIs")):
            answer = await _get(port, _context(ours, ours, leaf), PATH)
            assert answer.status_code == 401
            assert says in answer.json()["detail"]
        for context in (_context(ours, ours, None), _context(ours, theirs, "desk")):
            with pytest.raises((httpx.TransportError, ssl.SSLError)):
                await _get(port, context, PATH)
    async with mtls_proxy(service.mtls_port, ours, "proxy", verify=False) as port:
        answer = await _get(port, _context(ours, ours, None), PATH)
        assert answer.status_code == 401
        assert "send Authorization" in answer.json()["detail"]
    # This proxy would take certificates of anybody; the service does not.
    shown = ssl.PEM_cert_to_DER_cert((theirs / "desk" / "tls.crt").read_text())
    base = f"http://127.0.0.1:{service.mtls_port}"
    async with httpx.AsyncClient(base_url=base, timeout=WAIT_S) as proxy:
        answer = await proxy.get(PATH, headers={"Client-Cert": by_rfc_9440(shown)})
        assert answer.status_code == 401
        assert "does not count" in answer.json()["detail"]


async def test_a_forged_header_is_refused(api: tuple[Api, str], houses: tuple[Path, Path]) -> None:
    """Certificates are no secret: who knows one and is no proxy on the proxies' port is nobody."""
    service, token = api
    shown = ssl.PEM_cert_to_DER_cert((houses[0] / "desk" / "tls.crt").read_text())
    header = {"Client-Cert": by_rfc_9440(shown)}
    for headers in (header, {**header, "Authorization": f"Bearer {token}"}):
        answer = await service.client.get(PATH, headers=headers)
        assert answer.status_code == 401
        assert "PSM_HTTP_MTLS_PORT alone" in answer.json()["detail"]
    base = f"http://127.0.0.1:{service.mtls_port}"
    async with httpx.AsyncClient(base_url=base, timeout=WAIT_S) as proxy:
        assert (await proxy.get(PATH, headers=header)).status_code == 200
        twice = [("Client-Cert", by_rfc_9440(shown))] * 2
        assert (await proxy.get(PATH, headers=twice)).status_code == 401
        for text in ("", ":", "::", ":!:", "x", "%", ":" + "A" * 20_000 + ":", by_nginx(shown) * 2):
            answer = await proxy.get(PATH, headers={"Client-Cert": text})
            assert answer.status_code == 401, text
            assert answer.json()["detail"].startswith("Client-Cert holds no certificate"), text
    transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")  # no proxy that is trusted
    async with httpx.AsyncClient(base_url=base, transport=transport) as stranger:
        for path in (PATH, "/health/live"):
            answer = await stranger.get(path, headers={**header, "X-Forwarded-For": "127.0.0.1"})
            assert answer.status_code == 403
            assert answer.json()["type"] == "urn:psm:problem:unknown-proxy"
