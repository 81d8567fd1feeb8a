"""The service's own description: OpenAPI 3.1, made from the structs that it answers with."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import msgspec

from psm.contracts.envelope import MAX_BODY_BYTES
from psm.contracts.publisher import Appended
from psm.workers.api.documents import (
    MarginDocument,
    OrdersDocument,
    PositionsDocument,
    StateDocument,
)
from psm.workers.api.health import HealthReport
from psm.workers.api.openapi_archive import STRUCTS, archive_paths
from psm.workers.api.past_http import NDJSON
from psm.workers.api.problems import MEDIA_TYPE, TITLES, Problem
from psm.workers.api.reads import WAIT_DEFAULT_S, WAIT_MAX_S
from psm.workers.past.account_replay import Step
from psm.workers.past.verify import Verification

_DOCUMENTS: dict[str, tuple[type[msgspec.Struct], str]] = {
    "state": (StateDocument, "The whole account: balances, margin, positions and hashes."),
    "positions": (PositionsDocument, "All positions of an account."),
    "margin": (MarginDocument, "The margin figures of an account."),
    "orders": (OrdersDocument, "The open orders of an account, and those that ended last."),
}
_SCHEMAS = "#/components/schemas/"
_READ_PROBLEMS = (
    "malformed-account-id",
    "malformed-parameter",
    "unknown-account",
    "no-such-state",
    "unavailable",
    "not-reached",
)
_PAST_PROBLEMS = (
    "malformed-account-id",
    "malformed-parameter",
    "unknown-account",
    "no-such-state",
    "unavailable",
)
_APPEND_PROBLEMS = (
    "invalid-json",
    "ingest-off",
    "operators-only",
    "conflict",
    "body-too-large",
    "unsupported-media-type",
    "invalid-event",
    "unavailable",
)


_NUMBER = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
_TIME = {"type": "string", "format": "date-time"}
_ACCOUNT = {
    "name": "account_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
}


def _query(
    name: str, description: str, schema: dict[str, Any], *, required: bool = False
) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "description": description,
        "required": required,
        "schema": schema,
    }


_LOG_TIME = _query(
    "log_time",
    "Times are the log's (what was known then), not the events'.",
    {"type": "boolean", "default": False},
)


def openapi() -> bytes:
    """Return the document as JSON."""
    structs = [struct for struct, _ in _DOCUMENTS.values()]
    structs += [Appended, HealthReport, Problem, Verification, Step, *STRUCTS]
    _, components = msgspec.json.schema_components(structs, ref_template=_SCHEMAS + "{name}")
    paths: dict[str, Any] = {}
    for prefix in ("/psm", "/api/psm"):
        for name, (struct, summary) in _DOCUMENTS.items():
            paths[f"{prefix}/{name}/{{account_id}}"] = {
                "get": _read(f"{prefix}/{name}", struct, summary)
            }
        paths[f"{prefix}/verify/{{account_id}}"] = _verify(f"{prefix}/verify")
        paths[f"{prefix}/replay/{{account_id}}"] = _replay(f"{prefix}/replay")
        paths[f"{prefix}/events"] = {"post": _append(f"{prefix}/events")}
    paths |= archive_paths(_content, _problems)
    paths |= {
        "/health/live": _plain("Whether the process runs.", "live"),
        "/health/ready": _health("Whether it can answer truthfully.", "ready"),
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
        "paths": paths,
        "components": {"schemas": components},
    }
    return msgspec.json.encode(document)


def _read(path: str, struct: type[msgspec.Struct], summary: str) -> dict[str, Any]:
    etag = {"ETag": {"description": "Version and state hash.", "schema": {"type": "string"}}}
    return {
        "operationId": _name("get", path),
        "summary": summary,
        "parameters": [
            _ACCOUNT,
            _query("at_sequence", "The past: after the event of this number.", _NUMBER),
            _query("at", "The past: before the first event later than this time.", _TIME),
            _LOG_TIME,
            {
                "name": "min_sequence",
                "in": "query",
                "description": "Wait until the view has this version of the account.",
                "schema": _NUMBER,
            },
            {
                "name": "timeout_s",
                "in": "query",
                "description": "How long to wait for it at most.",
                "schema": {
                    "type": "number",
                    "minimum": 0,
                    "maximum": WAIT_MAX_S,
                    "default": WAIT_DEFAULT_S,
                },
            },
            {
                "name": "If-None-Match",
                "in": "header",
                "description": "An ETag that the caller has.",
                "schema": {"type": "string"},
            },
        ],
        "responses": {
            "200": {"description": "The document.", "headers": etag, **_content(struct)},
            "304": {"description": "The caller has it already.", "headers": etag},
            **_problems(_READ_PROBLEMS),
        },
    }


def _verify(path: str) -> dict[str, Any]:
    parameters = [
        _ACCOUNT,
        _query("sequence", "After the event of this number.", _NUMBER, required=True),
        _query(
            "ledger_hash",
            "The hash that the caller kept.",
            {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"},
            required=True,
        ),
    ]
    return {
        "get": {
            "operationId": _name("get", path),
            "summary": "Whether the log still gives the ledger hash that the caller kept.",
            "parameters": parameters,
            "responses": {
                "200": {"description": "The comparison.", **_content(Verification)},
                **_problems(_PAST_PROBLEMS),
            },
        }
    }


def _replay(path: str) -> dict[str, Any]:
    parameters = [
        _ACCOUNT,
        _query("from_sequence", "First number.", _NUMBER),
        _query("to_sequence", "Last number.", _NUMBER),
        _query("from", "Begin with the first event not earlier than this time.", _TIME),
        _query("to", "End before the first event later than this time.", _TIME),
        _LOG_TIME,
    ]
    return {
        "get": {
            "operationId": _name("get", path),
            "summary": "The account after each of its events, one document a line.",
            "parameters": parameters,
            "responses": {
                "200": {"description": "The steps.", **_content(Step, NDJSON)},
                **_problems(_PAST_PROBLEMS),
            },
        }
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
    answers = {
        "200": {"description": "Ready.", **_content(HealthReport)},
        "503": {"description": "Not ready.", **_content(HealthReport)},
    }
    return {"get": {"operationId": name, "summary": summary, "responses": answers}}


def _plain(summary: str, name: str, media_type: str = "application/json") -> dict[str, Any]:
    kind = "object" if media_type == "application/json" else "string"
    content = {media_type: {"schema": {"type": kind}}}
    answers = {"200": {"description": summary, "content": content}}
    return {"get": {"operationId": name, "summary": summary, "responses": answers}}


def _problems(kinds: tuple[str, ...]) -> dict[str, Any]:
    by_status: dict[str, list[str]] = {}
    for kind in kinds:
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
