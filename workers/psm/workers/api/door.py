"""The door of the HTTP API: what is refused before anybody looks at what it asks for.

A browser runs what any page tells it to, and reaches what this machine reaches. So a name that is
not ours is refused (a page may have pointed its own name at our address), a page of another origin
changes nothing, and a body that does not say what it is, is nothing. No answer ever carries an
`Access-Control-Allow-*`. What a proxy says of the client is believed of known proxies only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from psm.adapters.logs import get_logger
from psm.workers.api.problems import problem

SAFE_METHODS = ("GET", "HEAD")
_OWN_SITES = ("same-origin", "none")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_log = get_logger()

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Refusal = tuple[str, str]
"""Kind of the problem and its detail."""


class Proxies:
    """The proxies whose word about a client counts."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._networks: tuple[Network, ...] = tuple(map(ipaddress.ip_network, trusted))

    def trusts(self, address: str) -> bool:
        """Return whether an address is that of a trusted proxy."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    def client_of(self, peer: str, headers: Headers) -> str:
        """Return who asks: the right-most hop that is no trusted proxy.

        Args:
            peer: address of the other end of the connection.
            headers: of the request; `X-Forwarded-For` of a stranger is not looked at.
        """
        if not self.trusts(peer):
            return peer
        hops = ",".join(headers.getlist("x-forwarded-for")).split(",")
        for hop in reversed([hop.strip() for hop in hops if hop.strip()]):
            try:
                peer = str(ipaddress.ip_address(hop))
            except ValueError:
                return peer  # the last one that can be believed
            if not self.trusts(peer):
                return peer
        return peer


class Door:
    """Refuses requests by their headers alone; pure ASGI, so streaming is untouched.

    Args:
        app: what is behind it.
        hosts: names of this service beside those of loopback.
        proxies: whose word about a client counts.
        mtls_port: where nobody but they may ask; None: there is no such port.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Sequence[str] = (),
        proxies: Proxies | None = None,
        mtls_port: int | None = None,
    ) -> None:
        self._app, self._mtls_port = app, mtls_port
        self._hosts = frozenset(host.strip("[]").lower() for host in hosts)
        self._proxies = proxies or Proxies()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or hand it on with the address of its client."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        peer = scope["client"][0] if scope.get("client") else ""
        client = self._proxies.client_of(peer, headers)
        refused = self._stranger(scope, peer) or self._refusal(scope["method"], headers)
        if refused is None:
            scope["client"] = (client, 0)
            await self._app(scope, receive, send)
            return
        kind, detail = refused
        _log.warning("http.refused", kind=kind, detail=detail, client=client)
        # Nothing that follows on this connection is looked at: where a body ends may be in doubt.
        answer = problem(kind, detail, scope["path"], headers={"Connection": "close"})
        await answer(scope, receive, send)

    def _stranger(self, scope: Scope, peer: str) -> Refusal | None:
        is_theirs = self._mtls_port is not None and scope["server"][1] == self._mtls_port
        if not is_theirs or self._proxies.trusts(peer):
            return None
        return "unknown-proxy", "this port answers the proxies of PSM_HTTP_TRUSTED_PROXIES alone"

    def _refusal(self, method: str, headers: Headers) -> Refusal | None:
        given = headers.getlist("host")
        host = given[0] if len(given) == 1 else ""
        if not self._is_ours(host):
            detail = (
                f"this service is not called {host[:100]!r}; names other than localhost are "
                "listed in PSM_HTTP_HOSTS"
            )
            return "unknown-host", detail
        if method not in SAFE_METHODS and not _is_own_page(host, headers):
            return "foreign-origin", "a page of another origin can change nothing here"
        if "content-length" in headers and "transfer-encoding" in headers:
            detail = "of Content-Length and Transfer-Encoding a request has one: proxies may differ"
            return "malformed-request", detail
        if _has_body(headers) and not headers.get("content-type"):
            return "unsupported-media-type", "the body has no Content-Type; send application/json"
        return None

    def _is_ours(self, host: str) -> bool:
        name, _ = _name_and_port(host, "http")
        if name is None:
            return False
        try:
            return name in self._hosts or ipaddress.ip_address(name).is_loopback
        except ValueError:
            return name == "localhost"


def _is_own_page(host: str, headers: Headers) -> bool:
    """Return whether a request comes from a page of ours, or from no page at all."""
    if headers.get("sec-fetch-site", "none") not in _OWN_SITES:
        return False
    origins = headers.getlist("origin")
    if not origins:
        return True
    scheme, _, rest = origins[0].partition("://")
    if len(origins) > 1 or scheme not in _DEFAULT_PORTS:
        return False
    return _name_and_port(rest, scheme) == _name_and_port(host, scheme)


def _name_and_port(host: str, scheme: str) -> tuple[str | None, int | None]:
    """Return the parts of `name:port`; no name where it is no such text."""
    try:
        parts = urlsplit(f"//{host}")
        name, port = parts.hostname, parts.port
    except ValueError:
        return None, None
    if parts.netloc != host or "@" in host:  # it holds a path, a user or blanks
        return None, None
    return name, _DEFAULT_PORTS[scheme] if port is None else port


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
