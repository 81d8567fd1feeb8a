"""Asking others over HTTP: never redirected, so that nothing goes where it was not sent."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def opener(*handlers: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    """Return an opener that takes a redirect for an error."""
    return urllib.request.build_opener(*handlers, _NoRedirect)


def answered(
    request: urllib.request.Request | str, *, timeout_s: float, bytes_max: int
) -> tuple[int, bytes]:
    """Return status and body of an answer, whatever the status.

    Raises:
        OSError: nobody answers.
        ValueError: it is no address.
    """
    try:
        with opener().open(request, timeout=timeout_s) as answer:
            return answer.status, answer.read(bytes_max)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(bytes_max)
