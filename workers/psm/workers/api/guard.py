"""Who may ask for what: every route says what it needs, and nothing is read before it is granted.

A foreign account is answered as an unknown one, by the same words and before anything is looked
up: neither the answer nor its time tells that it is there.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from psm.adapters.logs import get_logger
from psm.adapters.metrics import Metrics
from psm.contracts.errors import PSMError
from psm.workers.access.bearer import Authenticator, CredentialsError
from psm.workers.access.certificates import HEADER
from psm.workers.access.digest import Digests
from psm.workers.access.policy import (
    CLUSTER,
    ROLES,
    Action,
    Principal,
    Resource,
    ResourceKind,
    covers,
    may,
)
from psm.workers.api.parameters import ParameterError
from psm.workers.api.problems import problem

ALWAYS_TOLD: frozenset[Action] = frozenset(
    ("append", "append.market", "append.record", "replay", "export", "read.past", "admin",
     "token.create")
)  # fmt: skip
"""Actions whose grant is a log line, too; a refusal always is one."""

_PROXY_HEADERS = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto")
_OF_THE_PAST = ("at", "at_sequence", "known_at")
_log = get_logger()


class ForbiddenError(PSMError):
    """A right that the principal does not have; the text names it."""


class ForeignError(PSMError):
    """A resource that the principal may not know of."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(f"{resource.kind} {resource.name} is not for this principal")
        self.resource = resource


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What a route needs.

    Attributes:
        action: the right; None: to be known here is enough, and the handler asks for more.
        kind: of the resource; None where the handler itself looks which it is, or shows only what
            the principal may know of.
        path: parameter of the path that names it: one, several by commas, or `group:NAME`.
        past: the right where the question is about the past.
    """

    action: Action | None = None
    kind: ResourceKind | None = None
    path: str = ""
    past: Action | None = None

    def action_of(self, request: Request) -> Action | None:
        """Return the right that this request needs."""
        asks_past = any(name in request.query_params for name in _OF_THE_PAST)
        return self.past if self.past is not None and asks_past else self.action

    def resources_of(self, request: Request) -> list[Resource]:
        """Return what this request is about, as far as its path says; empty where it does not."""
        if self.kind is None:
            return []
        if self.kind == "cluster":
            return [CLUSTER]
        named: str = request.path_params[self.path]
        if self.kind != "account":
            return [Resource(self.kind, named)]
        if named.startswith("group:"):
            return [Resource("group", named.removeprefix("group:"))]
        return [Resource("account", name) for name in named.split(",")]


class AccessGuard:
    """Judges requests.

    Args:
        authenticator: recognises principals.
        metrics: where refusals, and what is always told, are counted.
        digests: where they are counted by principal.
        mtls_port: where proxies say by which certificate a caller came; None: nowhere.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        metrics: Metrics,
        digests: Digests | None = None,
        mtls_port: int | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._metrics = metrics
        self._digests = digests or Digests()
        self._mtls_port = mtls_port

    @property
    def is_on(self) -> bool:
        """Whether anybody is asked for credentials."""
        return self._authenticator.is_on

    def recognise(self, request: Request) -> Principal:
        """Return who asks; also kept for `principal_of`.

        Raises:
            CredentialsError: nobody that is known here.
            ForbiddenError: access is off, and a proxy stands between.
            ParameterError: a token stands in the address.
        """
        if not self.is_on and any(name in request.headers for name in _PROXY_HEADERS):
            raise ForbiddenError(
                "access control is off (PSM_HTTP_AUTH=off), so this service answers this machine "
                "alone and no proxy; set PSM_HTTP_AUTH=on"
            )
        if "token" in request.query_params:
            raise ParameterError(
                "a token in an address gets into logs, so it counts for nothing: revoke this one, "
                "and send Authorization: Bearer TOKEN"
            )
        client = request.client.host if request.client else ""
        given = request.headers.getlist("authorization")
        # Of several a proxy between may have judged another one than we would: none counts.
        together = ", ".join(given) if given else None
        certificate = self._passed_on(request)
        principal = self._authenticator.principal(together, client, certificate)
        request.state.principal = principal
        request.state.guard = self
        return principal

    def _passed_on(self, request: Request) -> str | None:
        """Return the certificate that a proxy says a caller came by; the door lets only proxies in.

        Raises:
            CredentialsError: somebody else says so, or two of them do.
        """
        given = request.headers.getlist(HEADER)
        if self._mtls_port is None or not given:
            return None
        if request.scope["server"][1] != self._mtls_port:
            raise CredentialsError(
                "bad-credentials", "Client-Cert is believed on PSM_HTTP_MTLS_PORT alone, of proxies"
            )
        if len(given) > 1:
            raise CredentialsError(
                "bad-credentials", "Client-Cert is there twice; the proxy must replace the caller's"
            )
        return given[0]

    def known(self, request: Request) -> Principal | None:
        """Return who asks an open route; None: somebody who is not known here."""
        try:
            return self.recognise(request)
        except PSMError:
            return None

    def admit(self, request: Request, needs: Needs) -> None:
        """Let a request pass to its handler.

        Raises:
            CredentialsError: nobody that is known here.
            ForbiddenError, ForeignError: it may not.
        """
        self.recognise(request)
        action = needs.action_of(request)
        if action is None:
            return
        found = needs.resources_of(request)
        for resource in found:
            self.require(request, action, resource)
        if not found:
            self.require(request, action, None)

    def require(self, request: Request, action: Action, resource: Resource | None) -> None:
        """Make sure that who asks may do this; without a resource: to anything at all.

        Raises:
            ForbiddenError, ForeignError: it may not.
        """
        principal = principal_of(request)
        if not may(principal, action):
            having = ", ".join(role for role, actions in ROLES.items() if action in actions)
            raise ForbiddenError(f"this needs the right {action}, which these roles have: {having}")
        if resource is not None and not covers(principal, resource):
            if resource.kind in ("account", "group"):
                raise ForeignError(resource)
            raise ForbiddenError(
                f"{action} of {resource.kind} {resource.name} is not covered by the patterns of "
                "this principal; see GET /whoami"
            )
        if self.is_on and action in ALWAYS_TOLD:
            named = None if resource is None else f"{resource.kind}:{resource.name}"
            self.tell("http.granted", principal, action, resource=named)
            first = "bootstrap" in principal.roles  # whose use somebody should know of
            self._metrics.granted("token.bootstrap" if first else action)

    def tell(self, event: str, principal: Principal, what: str, **more: str | None) -> None:
        """Keep what a principal did: a line of the log, and a count of the digest."""
        _log.info(event, action=what, principal=principal.id, key=principal.key, **more)
        self._digests.add(_named(principal), what)

    async def catch_up(self) -> None:
        """Know of a token that was made or ended here, before its maker is answered."""
        await self._authenticator.catch_up()

    async def ended(self, principal: Principal) -> None:
        """Return once a principal would not be recognised again: for answers that take long."""
        await self._authenticator.ended(principal)

    def refused(self, request: Request, reason: str) -> None:
        """Tell of a request that was refused, and count it."""
        principal: Principal | None = getattr(request.state, "principal", None)
        self._metrics.denied(reason)
        self._digests.add(_named(principal) if principal else None, reason)
        _log.warning(
            "http.denied",
            reason=reason,
            method=request.method,
            path=request.url.path,
            client=request.client.host if request.client else "",
            principal=principal.id if principal else None,
            key=principal.key if principal else None,
        )


def _named(principal: Principal) -> str:
    """Return what is kept of a name: of a person the pseudonym, where there is one."""
    return principal.person or principal.id


DENIALS: tuple[type[PSMError], ...] = (CredentialsError, ForbiddenError, ForeignError)
"""What `denial` answers."""


def principal_of(request: Request) -> Principal:
    """Return who asks; only where a route has let the request pass."""
    principal: Principal = request.state.principal
    return principal


def asker_of(request: Request) -> str | None:
    """Return the id of who asks, by which shares are counted; None where access is off."""
    principal = principal_of(request)
    return None if principal.how == "off" else principal.id


def denial(guard: AccessGuard) -> Callable[[Request, Exception], Response]:
    """Return the answer to a request that was refused."""

    def answer(request: Request, error: Exception) -> Response:
        path = request.url.path
        if isinstance(error, CredentialsError):
            guard.refused(request, error.kind)
            headers = {"WWW-Authenticate": 'Bearer realm="psm"'}
            if error.retry_s is not None:
                headers = {"Retry-After": str(error.retry_s)}
            return problem(error.kind, str(error), path, headers=headers)
        if isinstance(error, ForeignError):
            guard.refused(request, "foreign-resource")
            name = error.resource.name
            if error.resource.kind == "group":
                return problem("unknown-group", f"there is no group {name[:64]}", path)
            return problem("unknown-account", f"no event of account {name} is known", path)
        guard.refused(request, "not-allowed")
        return problem("not-allowed", str(error), path)

    return answer
