"""The paths of access in the service's description of itself, and how callers say who they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from psm.workers.api.access_http import (
    TOKENS_PARAMETERS,
    AccessReport,
    ListedToken,
    MadeToken,
    NewToken,
    Rotation,
    TokenList,
    WhoAmI,
)

Content = Callable[[type[msgspec.Struct]], dict[str, Any]]
Problems = Callable[[tuple[str, ...]], dict[str, Any]]

DENIED = ("no-credentials", "bad-credentials", "not-allowed", "too-many-failures")
"""Problems of any route that is not open."""

BEARER = {"bearer": {"type": "http", "scheme": "bearer"}}
SECURED: list[dict[str, list[str]]] = [{"bearer": []}]
OPEN = ("/health", "/health/live", "/health/ready", "/schema")
_TEXT = {"type": "string"}


def with_security(paths: dict[str, Any], problems: Problems) -> dict[str, Any]:
    """Return the paths; each but the open ones needs a token, and may be refused."""
    for path, operations in paths.items():
        if path in OPEN or path.startswith("/health/ready/"):
            continue
        for operation in operations.values():
            operation["security"] = SECURED
            operation["responses"] = {**problems((*DENIED,)), **operation["responses"]}
    return paths


def access_paths(content: Content, problems: Problems) -> dict[str, Any]:
    """Return the paths; `content` and `problems` make the answers."""
    return {
        path: {
            one.method: {
                "operationId": one.name,
                "summary": one.summary,
                "parameters": [*one.parameters, *_named(path)],
                "responses": {
                    one.status: {"description": one.summary, **content(one.answer)},
                    **problems(one.problems),
                },
                **({} if one.body is None else {"requestBody": content(one.body)}),
            }
            for one in operations
        }
        for path, operations in _OPERATIONS.items()
    }


def _named(path: str) -> list[dict[str, Any]]:
    name = path.partition("{")[2].partition("}")[0]
    return [{"name": name, "in": "path", "required": True, "schema": _TEXT}] if name else []


class _Operation(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    summary: str
    answer: type[msgspec.Struct]
    method: str = "get"
    status: str = "200"
    problems: tuple[str, ...] = ("access-off", "unavailable")
    parameters: tuple[dict[str, Any], ...] = ()
    body: type[msgspec.Struct] | None = None


_OPERATIONS: dict[str, tuple[_Operation, ...]] = {
    "/whoami": (_Operation(name="whoAmI", summary="Who asks.", answer=WhoAmI, problems=()),),
    "/access/report/{account_id}": (
        _Operation(
            name="getAccessReport",
            summary="Who may see an account.",
            answer=AccessReport,
            problems=("unknown-account", "access-off", "unavailable"),
        ),
    ),
    "/access/tokens": (
        _Operation(
            name="listTokens",
            summary="Tokens, without their secrets.",
            answer=TokenList,
            parameters=tuple(parameter.document() for parameter in TOKENS_PARAMETERS),
        ),
        _Operation(
            name="createToken",
            summary="A new token.",
            method="post",
            status="201",
            answer=MadeToken,
            body=NewToken,
            problems=("malformed-token", "access-off", "unavailable"),
        ),
    ),
    "/access/tokens/{token_id}": (
        _Operation(
            name="revokeToken",
            summary="The token, which holds no more.",
            method="delete",
            answer=ListedToken,
            problems=("unknown-token", "access-off", "unavailable"),
        ),
    ),
    "/access/tokens/{token_id}/rotate": (
        _Operation(
            name="rotateToken",
            summary="A new token with the same rights.",
            method="post",
            status="201",
            answer=MadeToken,
            body=Rotation,
            problems=("unknown-token", "malformed-token", "access-off", "unavailable"),
        ),
    ),
}
