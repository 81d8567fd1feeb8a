"""The service's own description: OpenAPI 3.1, made from the structs that it answers with."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from psm.contracts.envelope import MAX_BODY_BYTES
from psm.contracts.publisher import Appended
from psm.workers.api.access_http import ACCESS_STRUCTS
from psm.workers.api.analytics_documents import ANALYTICS_STRUCTS
from psm.workers.api.analytics_http import analytics_paths
from psm.workers.api.documents import (
    AccountsDocument,
    MarginDocument,
    OrdersDocument,
    PositionsDocument,
    ReconciliationDocument,
    StateDocument,
)
from psm.workers.api.health import HealthReport, Readiness
from psm.workers.api.history_http import NDJSON
from psm.workers.api.market_http import BookDocument, market_paths
from psm.workers.api.openapi_access import BEARER, access_paths, with_security
from psm.workers.api.openapi_archive import STRUCTS, archive_paths
from psm.workers.api.parameters import (
    ACCOUNTS_PARAMETERS,
    READ_PARAMETERS,
    RECONCILIATION_PARAMETERS,
    REPLAY_PARAMETERS,
    VERIFY_PARAMETERS,
    Parameter,
)
from psm.workers.api.problems import MEDIA_TYPE, TITLES, Problem
from psm.workers.api.refusals_http import refusals_path
from psm.workers.api.risk_http import risk_path
from psm.workers.api.risk_views_http import RISK_STRUCTS, risk_view_paths
from psm.workers.archive.refusals import RefusalPage
from psm.workers.history.verify import Verification
from psm.workers.replay.account import Step

_DOCUMENTS: dict[str, tuple[type[msgspec.Struct], str]] = {
    "state": (StateDocument, "The whole account: balances, margin, positions and hashes."),
    "positions": (PositionsDocument, "All positions of an account."),
    "margin": (MarginDocument, "The margin figures of an account."),
    "orders": (OrdersDocument, "The open orders of an account, and those that ended last."),
}
_SCHEMAS = "#/components/schemas/"
_ALWAYS = ("malformed-request", "malformed-parameter", "request-timeout", "unknown-host")
"""What any request may be answered, whatever it asks for."""

_READ_PROBLEMS = (
    "malformed-account-id",
    "unknown-account",
    "no-such-state",
    "too-many-folds",
    "unavailable",
    "not-reached",
    "view-stale",
    "no-owner",
    "too-many-live-reads",
    "document-too-large",
)
_PAST_PROBLEMS = (
    "malformed-account-id",
    "unknown-account",
    "no-such-state",
    "too-many-folds",
    "unavailable",
)
_APPEND_PROBLEMS = (
    "invalid-json",
    "foreign-origin",
    "ingest-off",
    "operators-only",
    "conflict",
    "body-too-large",
    "unsupported-media-type",
    "invalid-event",
    "unavailable",
    "read-only",
)


_ACCOUNT = {
    "name": "account_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
}


_ETAG = {"ETag": {"description": "Version and state hash.", "schema": {"type": "string"}}}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "An ETag that the caller has.",
    "schema": {"type": "string"},
}


_STRUCTS: tuple[type[msgspec.Struct], ...] = (
    *(struct for struct, _ in _DOCUMENTS.values()),
    *(AccountsDocument, Appended, HealthReport, Readiness, Problem, Verification, Step),
    *(RefusalPage, ReconciliationDocument, *STRUCTS, *RISK_STRUCTS, BookDocument),
    *ANALYTICS_STRUCTS,
    *ACCESS_STRUCTS,
)


def openapi() -> bytes:
    """Return the document as JSON."""
    _, components = msgspec.json.schema_components(_STRUCTS, ref_template=_SCHEMAS + "{name}")
    paths: dict[str, Any] = {}
    for prefix in ("/psm", "/api/psm"):
        for name, (struct, summary) in _DOCUMENTS.items():
            paths[f"{prefix}/{name}/{{account_id}}"] = {
                "get": _read(f"{prefix}/{name}", struct, summary)
            }
        paths[f"{prefix}/reconciliation/{{account_id}}"] = {
            "get": _reconciliation(f"{prefix}/reconciliation")
        }
        paths[f"{prefix}/accounts"] = {"get": _accounts(f"{prefix}/accounts")}
        paths[f"{prefix}/verify/{{account_id}}"] = {"get": _verify(f"{prefix}/verify")}
        paths[f"{prefix}/replay/{{account_id}}"] = {"get": _replay(f"{prefix}/replay")}
        paths[f"{prefix}/refusals"] = refusals_path(
            _name("get", f"{prefix}/refusals"), _content, _problems
        )
        paths[f"{prefix}/events"] = {"post": _append(f"{prefix}/events")}
        path = f"{prefix}/risk/check"
        paths[path] = risk_path(_name("post", path), _problems)
        paths |= risk_view_paths(prefix, _name, _content, _problems)
        paths |= analytics_paths(prefix, _name, _content, _problems)
    paths |= market_paths(_name, _content, _problems)
    paths |= archive_paths(_content, _problems)
    paths |= access_paths(_content, _problems)
    paths |= {
        "/health/live": _plain("Whether the process is well in itself.", "live"),
        "/health/ready": _health("Whether all of its doors are open.", "ready"),
        "/health/ready/reads": _health("Whether reads can answer.", "readyReads"),
        "/health/ready/ingest": _health("Whether events can be appended.", "readyIngest"),
        "/health": _health("The same.", "health"),
        "/metrics": _plain("Metrics for Prometheus.", "metrics", "text/plain"),
        "/schema": _plain("This document.", "schema"),
    }
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Portfolio & State Manager",
            "version": version("portfolio-state-manager"),
            "description": "Decimals are strings in canonical form. Errors are problem details.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": with_security(paths, _problems),
        "components": {"schemas": components, "securitySchemes": BEARER},
    }
    return msgspec.json.encode(document)


def _queries(parameters: Sequence[Parameter]) -> list[dict[str, Any]]:
    return [parameter.document() for parameter in parameters]


def _read(path: str, struct: type[msgspec.Struct], summary: str) -> dict[str, Any]:
    return {
        "operationId": _name("get", path),
        "summary": summary,
        "parameters": [_ACCOUNT, *_queries(READ_PARAMETERS), _IF_NONE_MATCH],
        "responses": {
            "200": {"description": "The document.", "headers": _ETAG, **_content(struct)},
            "304": {"description": "The caller has it already.", "headers": _ETAG},
            **_problems(_READ_PROBLEMS),
        },
    }


def _reconciliation(path: str) -> dict[str, Any]:
    etag = {"ETag": {"description": "Place of the report.", "schema": {"type": "string"}}}
    return {
        "operationId": _name("get", path),
        "summary": "How the last report about an account compares with its books.",
        "parameters": [_ACCOUNT, *_queries(RECONCILIATION_PARAMETERS), _IF_NONE_MATCH],
        "responses": {
            "200": {
                "description": "The answer.",
                "headers": etag,
                **_content(ReconciliationDocument),
            },
            "304": {"description": "The caller has it already.", "headers": etag},
            **_problems(("malformed-account-id", "no-report", "unavailable")),
        },
    }


def _accounts(path: str) -> dict[str, Any]:
    link = {"Link": {"description": "The next page, if any.", "schema": {"type": "string"}}}
    return {
        "operationId": _name("get", path),
        "summary": "Accounts, the most troubled first.",
        "parameters": [*_queries(ACCOUNTS_PARAMETERS), _IF_NONE_MATCH],
        "responses": {
            "200": {
                "description": "A page.",
                "headers": _ETAG | link,
                **_content(AccountsDocument),
            },
            "304": {"description": "The caller has it already.", "headers": _ETAG},
            **_problems(("unavailable",)),
        },
    }


def _verify(path: str) -> dict[str, Any]:
    return {
        "operationId": _name("get", path),
        "summary": "Whether the log still gives the ledger hash that the caller kept.",
        "parameters": [_ACCOUNT, *_queries(VERIFY_PARAMETERS)],
        "responses": {
            "200": {"description": "The comparison.", **_content(Verification)},
            **_problems(_PAST_PROBLEMS),
        },
    }


def _replay(path: str) -> dict[str, Any]:
    return {
        "operationId": _name("get", path),
        "summary": "The account after each of its events, one document a line.",
        "parameters": [_ACCOUNT, *_queries(REPLAY_PARAMETERS)],
        "responses": {
            "200": {"description": "The steps.", **_content(Step, NDJSON)},
            **_problems(_PAST_PROBLEMS),
        },
    }


def _append(path: str) -> dict[str, Any]:
    return {
        "operationId": _name("post", path),
        "summary": "Append an event; the number is assigned where it has none.",
        "requestBody": {
            "required": True,
            "description": f"An envelope or a flat draft, at most {MAX_BODY_BYTES} bytes.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        "responses": {
            "200": {"description": "The log has it already.", **_content(Appended)},
            "201": {"description": "Appended.", **_content(Appended)},
            **_problems(_APPEND_PROBLEMS),
        },
    }


def _health(summary: str, name: str) -> dict[str, Any]:
    # A stranger hears the first word of the report, and nothing else.
    either = {"anyOf": [{"$ref": f"{_SCHEMAS}{one.__name__}"} for one in (HealthReport, Readiness)]}
    content = {"application/json": {"schema": either}}
    answers = {
        "200": {"description": "Ready.", "content": content},
        "503": {"description": "Not ready.", "content": content},
        **_problems(()),
    }
    return {"get": {"operationId": name, "summary": summary, "responses": answers}}


def _plain(summary: str, name: str, media_type: str = "application/json") -> dict[str, Any]:
    kind = "object" if media_type == "application/json" else "string"
    content = {media_type: {"schema": {"type": kind}}}
    answers = {"200": {"description": summary, "content": content}, **_problems(())}
    return {"get": {"operationId": name, "summary": summary, "responses": answers}}


def _problems(kinds: tuple[str, ...]) -> dict[str, Any]:
    by_status: dict[str, list[str]] = {}
    for kind in (*_ALWAYS, *kinds):
        status, title = TITLES[kind]
        by_status.setdefault(str(status), []).append(title)
    return {
        status: {"description": "; ".join(titles) + ".", **_content(Problem, MEDIA_TYPE)}
        for status, titles in by_status.items()
    }


def _content(struct: type[msgspec.Struct], media_type: str = "application/json") -> dict[str, Any]:
    return {"content": {media_type: {"schema": {"$ref": _SCHEMAS + struct.__name__}}}}


def _name(method: str, path: str) -> str:
    first, *rest = path.strip("/").split("/")
    return method + "".join(part.capitalize() for part in (first, *rest))
