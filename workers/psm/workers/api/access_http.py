"""`GET /whoami`, and tokens over HTTP: who has them, new ones, and their end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from psm.workers.access.durations import duration
from psm.workers.access.issuers import AccessFile, Grant
from psm.workers.access.policy import (
    PolicyError,
    Principal,
    Resource,
    actions_of,
    checked,
    exceeds,
    patterns_cover,
)
from psm.workers.access.store import Tokens, UnknownTokenError
from psm.workers.access.tokens import TokenRecord
from psm.workers.api.guard import AccessGuard, ForbiddenError, Needs, principal_of
from psm.workers.api.parameters import Parameter, ParameterError, flag
from psm.workers.api.problems import problem

_JSON = "application/json"
_NO_STORE = {"Cache-Control": "no-store"}
_BODY_MAX = 64 * 1024

Handler = Callable[[Request], Awaitable[Response]]
Routes = list[tuple[str, Handler, Needs, tuple[Parameter, ...], list[str]]]

TOKENS_PARAMETERS = (
    Parameter(
        name="all",
        description="Those that ended, too.",
        schema={"type": "boolean", "default": False},
    ),
)
_WHO = Needs()
_TOKENS = Needs(action="token.create")
_REPORT = Needs(action="token.create", kind="account", path="account_id")


class NewToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token that is wanted.

    Attributes:
        patterns: such as `account:desk-*`, `symbol:BTC-*`; `*` for administrators and auditors.
        expires: such as `90d` or `12h`; at most 90 days.
    """

    principal: str
    roles: tuple[str, ...]
    patterns: tuple[str, ...] = ()
    kind: Literal["service", "person"] = "service"
    expires: str = "90d"


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the old token holds beside the new one."""

    overlap: str = "7d"


class ListedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token, without its secret, which nobody has but its owner."""

    id: str
    principal: str
    kind: str
    roles: tuple[str, ...]
    patterns: tuple[str, ...]
    created_by: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
    holds: bool


class MadeToken(ListedToken, frozen=True, kw_only=True):
    """A new token, told this once."""

    token: str


class TokenList(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens, the oldest first."""

    tokens: list[ListedToken]


class WhoAmI(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, as this service sees it.

    Attributes:
        actions: what its roles may do.
        how: by what it was recognised; `off` where access is not controlled.
    """

    id: str
    kind: str
    roles: tuple[str, ...]
    patterns: tuple[str, ...]
    actions: tuple[str, ...]
    how: str
    key: str
    expires_at: datetime | None


class Sees(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who may see an account.

    Attributes:
        how: by a `token`, by a signed one of an `issuer`, or by a `certificate`.
        key: id of the token, or name of the issuer; empty of certificates.
        principal: whom the token or the certificate stands for, or the value of the issuer's claim.
    """

    how: Literal["token", "issuer", "certificate"]
    key: str
    principal: str
    roles: tuple[str, ...]
    patterns: tuple[str, ...]
    actions: tuple[str, ...]
    expires_at: datetime | None = None


class AccessReport(msgspec.Struct, frozen=True, kw_only=True):
    """Who may see an account over HTTP, by tokens that hold and what `access.toml` grants."""

    account_id: str
    sees: list[Sees]


ACCESS_STRUCTS = (WhoAmI, TokenList, ListedToken, MadeToken, AccessReport, NewToken, Rotation)


def access_routes(tokens: Tokens | None, access: Callable[[], AccessFile]) -> Routes:
    """Return path, handler, needs, query parameters and methods of each route about access."""

    async def whoami(request: Request) -> Response:
        return _answer(_described(principal_of(request)))

    async def listed(request: Request) -> Response:
        if tokens is None:
            return _off(request)
        found = await tokens.listed(every=flag(request, "all"))
        who = principal_of(request)
        shown = [one for one in found if one.id == who.key or not _beyond(who, one)]
        return _answer(TokenList(tokens=[_listed(one) for one in shown]))

    async def create(request: Request) -> Response:
        return _off(request) if tokens is None else await _create(request, tokens)

    async def one(request: Request) -> Response:
        if tokens is None:
            return _off(request)
        token_id = request.path_params["token_id"]
        try:
            _within(principal_of(request), await tokens.one(token_id))
            ended = await tokens.revoke(token_id)
        except UnknownTokenError as error:
            return problem("unknown-token", str(error), request.url.path)
        await _guard(request).catch_up()
        return _answer(_listed(ended))

    async def rotate(request: Request) -> Response:
        if tokens is None:
            return _off(request)
        return await _rotate(request, tokens)

    async def report(request: Request) -> Response:
        if tokens is None:
            return _off(request)
        return await _report(request, tokens, access())

    return [
        ("/whoami", whoami, _WHO, (), ["GET"]),
        ("/access/report/{account_id}", report, _REPORT, (), ["GET"]),
        ("/access/tokens", listed, _TOKENS, TOKENS_PARAMETERS, ["GET"]),
        ("/access/tokens", create, _TOKENS, (), ["POST"]),
        ("/access/tokens/{token_id}", one, _TOKENS, (), ["DELETE"]),
        ("/access/tokens/{token_id}/rotate", rotate, _TOKENS, (), ["POST"]),
    ]


async def _report(request: Request, tokens: Tokens, access: AccessFile) -> Response:
    account_id = request.path_params["account_id"]
    found = [_by_token(record) for record in await tokens.listed(every=False)]
    found += [
        _by_grant("issuer", issuer.iss, value, grant)
        for issuer in access.issuer
        for value, grant in issuer.grants.items()
    ]
    found += [_by_grant("certificate", "", grant.uri, grant) for grant in access.certificate]
    wanted = Resource("account", account_id)
    # By what else they see, whoever may know of this account need not know.
    seen = [
        msgspec.structs.replace(one, patterns=by)
        for one in found
        if (by := tuple(text for text in one.patterns if patterns_cover((text,), wanted)))
    ]
    return _answer(AccessReport(account_id=account_id, sees=seen))


async def _create(request: Request, tokens: Tokens) -> Response:
    giver, path = principal_of(request), request.url.path
    try:
        wanted = msgspec.json.decode(await _body(request), type=NewToken)
        await _check_name(giver, wanted.principal, tokens)
        record, token = await tokens.create(
            principal=wanted.principal,
            kind=wanted.kind,
            roles=_given(giver, wanted),
            patterns=wanted.patterns,
            life=duration(wanted.expires),
            created_by=giver.person or giver.id,
        )
    except (msgspec.MsgspecError, RecursionError, PolicyError) as error:
        return problem("malformed-token", str(error), path)
    await _guard(request).catch_up()
    return _answer(_made(record, token), 201)


async def _rotate(request: Request, tokens: Tokens) -> Response:
    giver, path = principal_of(request), request.url.path
    token_id = request.path_params["token_id"]
    try:
        asked = msgspec.json.decode(await _body(request) or b"{}", type=Rotation)
        _within(giver, await tokens.one(token_id))
        record, token = await tokens.rotate(
            token_id, overlap=duration(asked.overlap), created_by=giver.person or giver.id
        )
    except UnknownTokenError as error:
        return problem("unknown-token", str(error), path)
    except (msgspec.MsgspecError, RecursionError, PolicyError) as error:
        return problem("malformed-token", str(error), path)
    await _guard(request).catch_up()
    return _answer(_made(record, token), 201)


def _guard(request: Request) -> AccessGuard:
    guard: AccessGuard = request.state.guard
    return guard


async def _check_name(giver: Principal, principal_id: str, tokens: Tokens) -> None:
    """Refuse to make a token for whoever may do more: what is signed and recorded names them."""
    for one in await tokens.listed(every=False):
        if one.principal == principal_id and (beyond := _beyond(giver, one)):
            raise ForbiddenError(f"{principal_id} has more than whoever asks: {beyond}")


def _given(giver: Principal, wanted: NewToken) -> tuple[str, ...]:
    """Return the roles that are wanted, where the giver has all of these rights itself."""
    _, roles, patterns = checked(wanted.principal, wanted.roles, wanted.patterns)
    beyond = exceeds(giver, roles, patterns)
    if beyond is not None:
        raise ForbiddenError(f"nobody gives more than they have: {beyond}")
    return roles


def _within(giver: Principal, record: TokenRecord) -> None:
    if beyond := _beyond(giver, record):
        raise ForbiddenError(f"nobody ends or renews more than they have: {beyond}")


def _beyond(giver: Principal, record: TokenRecord) -> str | None:
    return exceeds(giver, record.roles, record.patterns)


def _described(principal: Principal) -> WhoAmI:
    expires = principal.expires
    return WhoAmI(
        id=principal.id,
        kind=principal.kind,
        roles=principal.roles,
        patterns=principal.patterns,
        actions=actions_of(principal.roles),
        how=principal.how,
        key=principal.key,
        expires_at=None if expires is None else datetime.fromtimestamp(expires, UTC),
    )


def _by_token(record: TokenRecord) -> Sees:
    return Sees(
        how="token",
        key=record.id,
        principal=record.principal,
        roles=record.roles,
        patterns=record.patterns,
        actions=actions_of(record.roles),
        expires_at=record.expires_at.astimezone(UTC),
    )


def _by_grant(how: Literal["issuer", "certificate"], key: str, value: str, grant: Grant) -> Sees:
    _, roles, patterns = checked("x", grant.roles, grant.patterns)
    return Sees(
        how=how,
        key=key,
        principal=value,
        roles=roles,
        patterns=patterns,
        actions=actions_of(roles),
    )


def _listed(record: TokenRecord) -> ListedToken:
    return ListedToken(**record.shown(datetime.now(UTC)))


def _made(record: TokenRecord, token: str) -> MadeToken:
    return MadeToken(**record.shown(datetime.now(UTC)), token=token)


async def _body(request: Request) -> bytes:
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > _BODY_MAX:
        raise ParameterError(f"the body has at most {_BODY_MAX} bytes, and says how many")
    return await request.body()


def _off(request: Request) -> Response:
    detail = "anybody may do everything here; PSM_HTTP_AUTH=on, or psm up --auth, asks for tokens"
    return problem("access-off", detail, request.url.path)


def _answer(document: msgspec.Struct, status: int = 200) -> Response:
    body = msgspec.json.encode(document)
    return Response(body, status_code=status, media_type=_JSON, headers=_NO_STORE)
