"""Query parameters: one that means nothing is never ignored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.integration.test_http import Api, serving
from tests.support.events import deposit
from tests.support.feed import publish


@pytest.fixture
async def api(nats_url: str, postgres_dsn: str) -> AsyncIterator[Api]:
    async with serving(nats_url, postgres_dsn, ingest=True) as api:
        await publish(api.nc, [deposit(1, "1"), deposit(2, "1"), deposit(3, "1")])
        yield api


async def test_unknown_parameters_are_refused_everywhere(api: Api) -> None:
    """Whoever misspelt a parameter is not told the present; every route of the description."""
    paths: dict[str, Any] = (await api.client.get("/schema")).json()["paths"]
    for path, operations in paths.items():
        concrete = path.replace("{account_id}", "acc_001")
        concrete = concrete.replace("{event_id}", "1").replace("{correlation_id}", "1")
        for method, operation in operations.items():
            found = await api.problem(concrete + "?foo=1", 400, method=method.upper())
            assert found["type"] == "urn:psm:problem:malformed-parameter"
            assert found["detail"].startswith("'foo' is not a parameter here")
            known = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
            for name in known:
                assert name in found["detail"], "the description names what the route takes"
            if not known:
                assert "there are none" in found["detail"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("at_seqence=1", "'at_seqence' is not a parameter here; did you mean at_sequence?"),
        ("min_sequense=1", "did you mean min_sequence?"),
        ("At=2025-12-12T10:30:00Z", "did you mean at?"),
        ("token=psm_x", "a token in an address gets into logs"),
        ("log_time=true", "log_time has no effect without at"),
        ("at_sequence=1&log_time=true", "log_time has no effect without at"),
        ("timeout_s=1", "timeout_s has no effect without min_sequence"),
        ("at_sequence=1&at_sequence=2", "at_sequence is given more than once"),
        ("at_sequence=1&at=2025-12-12T10:30:00Z", "not both"),
        ("at_sequence=" + "9" * 5000, "at_sequence must be an integer"),
        ("at_sequence=" + "0" * 4999 + "1", "at_sequence must be an integer"),
        ("at_sequence=", "at_sequence must be an integer"),
        ("at=", "at must be a UTC time"),
        ("at=2025-12-12T10:30:00Z&log_time=yes", "log_time must be true or false"),
        ("%00=1", "is not a parameter here"),
    ],
)
async def test_what_means_nothing_is_said(api: Api, query: str, told: str) -> None:
    for path in ("/psm/state/acc_001", "/api/psm/orders/acc_001"):
        assert told in (await api.problem(f"{path}?{query}", 400))["detail"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("from_sequence=3&to_sequence=2", "that is no range"),
        ("from=2025-12-12T10:30:00Z&to=2025-12-11T10:30:00Z", "that is no range"),
        ("log_time=true", "log_time has no effect without from or to"),
        ("form=2025-12-12T10:30:00Z", "did you mean from?"),
    ],
)
async def test_replays_of_nothing_are_refused(api: Api, query: str, told: str) -> None:
    assert told in (await api.problem(f"/psm/replay/acc_001?{query}", 400))["detail"]


async def test_replay_of_nobody_is_no_empty_list(api: Api) -> None:
    for query in ("", "?from_sequence=2", "?to=2000-01-01T00:00:00Z"):
        found = await api.problem(f"/psm/replay/nobody{query}", 404)
        assert found["type"] == "urn:psm:problem:unknown-account"
    answer = await api.client.get("/psm/replay/acc_001?from_sequence=4")
    assert (answer.status_code, answer.text) == (200, ""), "somebody, but not yet"


async def test_verification_needs_both(api: Api) -> None:
    for query, name in ((f"ledger_hash={'0' * 64}", "sequence"), ("sequence=1", "ledger_hash")):
        found = await api.problem(f"/psm/verify/acc_001?{query}", 400)
        assert found["detail"].startswith(f"{name} is missing")
