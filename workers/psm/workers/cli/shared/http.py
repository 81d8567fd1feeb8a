"""Commands that ask the service over HTTP: where it is, with which token, and its problems."""

from __future__ import annotations

import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from psm.adapters.http_client import opener
from psm.contracts.errors import ConfigError, PSMError, TransientError
from psm.workers.cli.shared.contexts import read_contexts
from psm.workers.process.running import find_running

URL, TOKEN, TOKEN_FILE = "PSM_URL", "PSM_TOKEN", "PSM_TOKEN_FILE"
_DEFAULT_URL = "http://127.0.0.1:8004"
_TIMEOUT_S = 30.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


NOT_OVER_HTTP: Mapping[str, str] = {
    "diff": "it compares two states that it folds itself, as no answer holds them whole",
    "explain ACCOUNT FIELD": "it follows a figure through every event of the log",
    "report": "it draws every bucket and every trade of its range, which come by pages only",
    "stats": "it counts the whole archive, of whomever it is",
    "tail": "it hears what is published, which nobody filters by patterns",
}
"""Commands that read, and that no service answers -> why."""


class ServiceRefusedError(PSMError):
    """What the service says to a request that it does not answer.

    Attributes:
        kind: of the problem, such as `unknown-account`; empty where the answer is none.
    """

    def __init__(self, detail: str, kind: str = "") -> None:
        super().__init__(detail)
        self.kind = kind


class _Rows(msgspec.Struct, frozen=True):
    rows: list[Any]
    next: str | None = None


class AskedService(msgspec.Struct, frozen=True, kw_only=True):
    """A service to ask; its token is never shown."""

    url: str
    token: str | None

    def __repr__(self) -> str:
        return f"AskedService(url={self.url!r})"

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return what the service answers, decoded.

        Raises:
            ServiceRefusedError: a problem; the text says what to do.
            TransientError: nobody answers.
        """
        return msgspec.json.decode(self._answer(method, path, body))

    def read(self, path: str, **query: str | int | None) -> bytes:
        """Return what the service answers to a reading question; raises as `ask`.

        Args:
            path: with the names in it quoted.
            query: None is left out.
        """
        asked = {name: value for name, value in query.items() if value is not None}
        return self._answer("GET", f"{path}?{urlencode(asked)}" if asked else path, None)

    def document(self, path: str, **query: str | int | None) -> dict[str, Any]:
        """Return what the service answers to a reading question, decoded; as `read`."""
        found: dict[str, Any] = msgspec.json.decode(self.read(path, **query))
        return found

    def rows(self, path: str, **query: str | int | None) -> tuple[list[Any], str | None]:
        """Return the rows of a page and where the next one begins; as `read`."""
        page = msgspec.json.decode(self.read(path, **query), type=_Rows)
        return page.rows, page.next

    def _answer(self, method: str, path: str, body: Mapping[str, Any] | None) -> bytes:
        headers = {"Accept": "application/json", "User-Agent": "psm"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = msgspec.json.encode(body)
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(  # noqa: S310 - checked: http or https
            f"{self.url}{path}", data=data, method=method, headers=headers
        )
        try:
            with opener(urllib.request.ProxyHandler({})).open(
                request, timeout=_TIMEOUT_S
            ) as answer:
                found: bytes = answer.read()
                return found
        except urllib.error.HTTPError as error:
            raise _refused(error) from error
        except (urllib.error.URLError, OSError, TimeoutError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise ConfigError(f"{self.url}: {reason.verify_message}") from error
            raise TransientError(
                f"{self.url} does not answer ({reason}); is {URL} right?"
            ) from error


def service() -> AskedService:
    """Return the service that the environment names, or a context, else the running `psm up`.

    Raises:
        ConfigError: an address or a token cannot be used.
    """
    named = remote()
    if named is not None:
        return named
    running = find_running(os.environ)
    if running is None:
        return asked_service(_DEFAULT_URL, _given_token())
    return asked_service(running.http_url, _given_token() or running.admin_token)


def remote() -> AskedService | None:
    """Return the service that PSM_URL or a context names; None where neither does.

    Commands that read ask it, if there is one, so that what a token may see holds for them; else
    they are an operator's tools, and read NATS and PostgreSQL themselves.

    Raises:
        ConfigError: an address or a token cannot be used.
    """
    url = os.environ.get(URL)
    if url:
        running = find_running(os.environ)
        own = running.admin_token if running is not None and url == running.http_url else None
        return asked_service(url, _given_token() or own)
    context = read_contexts().chosen()
    if context is None:
        return None
    kept = None if context.token_file is None else _token_in(context.token_file)
    return asked_service(context.url, _given_token() or kept)


def not_over_http(command: str) -> None:
    """Refuse a command of `NOT_OVER_HTTP` where a service is to be asked.

    Silently reading NATS and PostgreSQL instead would show what the token may not see.

    Raises:
        ConfigError: PSM_URL or a context names a service.
    """
    if remote() is not None:
        raise ConfigError(
            f"psm {command} is not answered over HTTP: {NOT_OVER_HTTP[command]}; without PSM_URL "
            "and a context in use (psm context use --none) it reads NATS and PostgreSQL itself"
        )


def asked_service(url: str, token: str | None) -> AskedService:
    """Return a service at an address, asked with a token.

    Raises:
        ConfigError: it is no address, or the token would go there in the clear.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{URL} must be http://host:port or https://host, not {url[:64]!r}")
    if token is not None and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ConfigError(f"a token is not sent to {parts.hostname} in the clear: use https")
    return AskedService(url=url.rstrip("/"), token=token)


def _given_token() -> str | None:
    named = os.environ.get(TOKEN_FILE)
    return _token_in(named) if named else os.environ.get(TOKEN)


def _token_in(file: str) -> str:
    try:
        return Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{TOKEN_FILE}: {file} cannot be read") from error


def _refused(error: urllib.error.HTTPError) -> ServiceRefusedError:
    """Return a problem with its title and detail."""
    kind = ""
    try:
        body = msgspec.json.decode(error.read(), type=dict[str, Any])
        text = f"{body['title']}: {body['detail']}"
        kind = f"{body['type']}".removeprefix("urn:psm:problem:")
    except (msgspec.MsgspecError, KeyError, OSError):
        text = f"the service answered {error.code}"
    if error.code == 401:
        text += f"; {TOKEN_FILE} names the file with your token"
    return ServiceRefusedError(text, kind)
