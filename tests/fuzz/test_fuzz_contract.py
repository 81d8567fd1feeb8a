"""The API against its own description: what schemathesis makes of it, with and without credentials.

Requests that fit the description and such that do not, on every operation. No answer is an error
of ours; status, media type and body are as described; without credentials there is nothing to see.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.strategies import one_of
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.integration.test_http import Api, serving
from tests.support.events import deposit
from tests.support.feed import publish
from tests.support.psm_stream import Account
from tests.support.workbench import WAIT_S

from psm.adapters import postgres
from psm.workers.access.store import Tokens, TokenTable

# Hypothesis takes what the service draws meanwhile, in its own thread, for its own.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

Operation = APIOperation[Any, Any, Any, Any]

LONG = os.environ.get("PSM_TEST_FUZZ") == "long"
EXAMPLES = 60 if LONG else 5
ACCOUNT = "acc_001"
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OURS = {"no-owner", "no-risk-engine", "not-reached"}
"""Problems of 500 and above that must be here: no worker runs, and nothing is waited for."""

GOOD = 12
"""Operations that at least were answered well: what is known of one account leads to them."""

STRANGERS = {"no-credentials", "unknown-path", "wrong-method", "malformed-parameter"}
"""What a stranger may hear."""


@pytest.fixture
async def guarded(nats_url: str, postgres_dsn: str) -> AsyncIterator[tuple[Api, str]]:
    """A service that asks for tokens, with one account, and an administrator's token."""
    async with AsyncExitStack() as stack:
        pool = await postgres.open_pool(postgres_dsn, name="access")
        stack.callback(pool.terminate)
        table = TokenTable(pool, stale_s=600)
        await stack.enter_async_context(table.kept())
        api = await stack.enter_async_context(
            serving(nats_url, postgres_dsn, ingest=True, tokens=table)
        )
        await publish(api.nc, [deposit(n, "1", stream=ACCOUNT) for n in (1, 2)])
        await api.write(Account(ACCOUNT).deposit("10"))
        _, token = await Tokens(pool).create(
            principal="admin",
            kind="service",
            roles=("admin",),
            patterns=("*",),
            life=timedelta(days=1),
            created_by="test",
        )
        await table.read()
        yield api, token


async def test_answers_are_as_described(guarded: tuple[Api, str]) -> None:
    api, token = guarded
    found = await asyncio.to_thread(_ask_everything, api, token)
    assert not found, "\n".join(found)


async def test_strangers_see_nothing(guarded: tuple[Api, str]) -> None:
    api, _ = guarded
    found = await asyncio.to_thread(_ask_everything, api, None)
    assert not found, "\n".join(found)


def _ask_everything(api: Api, token: str | None) -> list[str]:
    """Return what is wrong with the answers to what schemathesis asks."""
    load_all_checks()
    base = str(api.client.base_url)
    schema = schemathesis.openapi.from_url(f"{base}/schema")
    wrong: list[str] = []
    answered: dict[str, set[int]] = {}
    for operation in _operations(schema):
        wrong += _ask(operation, base, token, answered)
    good = [label for label, statuses in answered.items() if {200, 201} & statuses]
    if token is not None and len(good) < GOOD:
        wrong.append(f"only {good} were answered well")
    return wrong


def _operations(schema: Any) -> Iterator[Operation]:
    for result in schema.get_all_operations():
        operation = result.ok()
        if LONG or not operation.path.startswith("/api/"):  # the same handlers
            yield operation


def _ask(
    operation: Operation,
    base: str,
    token: str | None,
    answered: dict[str, set[int]],
) -> list[str]:
    """Ask one operation; note which statuses came, and return what is wrong."""
    wrong: dict[str, None] = {}
    names = {parameter.name for parameter in operation.query}
    known = {"account_id": ACCOUNT} if "{account_id}" in operation.path else None
    strategies = [operation.as_strategy(mode) for mode in GenerationMode]
    if known:
        strategies.append(operation.as_strategy(path_parameters=known))

    @seed(10)
    @settings(
        max_examples=EXAMPLES * len(strategies),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=one_of(strategies))
    def ask(case: Case[Any]) -> None:
        if "timeout_s" in names:
            case.query = {**(case.query or {}), "timeout_s": 0}  # nothing comes, nobody waits
        if not LONG:
            case.query.pop("live", None)  # no worker is here, for which it waits
        sent = case.as_transport_kwargs(base_url=base)
        sent["headers"].pop("Authorization", None)  # it makes up one of its own
        if token is not None:
            sent["headers"]["Authorization"] = f"Bearer {token}"
        answer = requests.request(**sent, timeout=WAIT_S, allow_redirects=False)
        answered.setdefault(operation.label, set()).add(answer.status_code)
        told = f"{case.method} {str(answer.request.url)[:300]} {str(case.body)[:200]}: "
        told += f"{answer.status_code} {answer.text[:300]}"
        for problem in _judged(case, answer, token):
            wrong.setdefault(f"{problem}: {told}")

    ask()
    return list(wrong)[:3]


def _judged(case: Case[Any], answer: Any, token: str | None) -> Iterator[str]:
    kind = ""
    if answer.status_code >= 400:
        kind = answer.json()["type"].removeprefix("urn:psm:problem:")
    if answer.status_code >= 500 and kind not in OURS:
        yield "an error of ours"
    is_open = "security" not in case.operation.definition.raw
    if token is not None and kind == "no-credentials":
        yield "the token was not seen"
    if token is None and not is_open:
        if kind not in STRANGERS:
            yield "a stranger heard more than that"
        return
    try:
        case.validate_response(answer, checks=CHECKS)
    except FailureGroup as group:
        for one in group.exceptions:
            yield f"{type(one).__name__} {str(one)[:300]}"
