"""Asking others over HTTP: never redirected, so that nothing goes where it was not sent."""

from __future__ import annotations

import urllib.request
from typing import Any


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def opener(*handlers: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    """Return an opener that takes a redirect for an error."""
    return urllib.request.build_opener(*handlers, _NoRedirect)
