"""JetStream API errors as PSM's own, grouped by what the caller does next.

Every error that the broker answered keeps its `err_code`; a caller that must tell 10071 from
10164 looks there. What was not answered at all is `UnknownOutcomeError`: stored or not, not one
knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psm.contracts.errors import (
    ConfigError,
    ConflictError,
    InvariantError,
    PSMError,
    TransientError,
)

WRONG_LAST_SEQUENCE = 10071
WRITE_IN_FLIGHT = 10164
ID_IN_PROCESS = 10158
BATCH_DUPLICATE = 10201
BATCH_INCOMPLETE = 10176
TOO_MANY_BATCHES = 10210
BATCH_TOO_LARGE = 10199
BATCH_UNSUPPORTED_HEADER = 10177
BATCH_DISABLED = 10174
STREAM_NOT_FOUND = 10059
NO_MESSAGE = 10037

_CONFLICTS = frozenset({WRONG_LAST_SEQUENCE, WRITE_IN_FLIGHT, BATCH_DUPLICATE})
_RETRY = frozenset({ID_IN_PROCESS, BATCH_INCOMPLETE, TOO_MANY_BATCHES})
_BUGS = frozenset({BATCH_TOO_LARGE, BATCH_UNSUPPORTED_HEADER})
# Account limits, no resources, no storage, store failed: an operator makes room, and then it works.
_FULL = frozenset({10002, 10023, 10047, 10077})
_SERVER_ERROR = 500


class UnknownOutcomeError(TransientError):
    """A write got no answer: it may be stored, now or later. Read before writing again."""


class ApiError(PSMError):
    """The broker answered with an error.

    Attributes:
        err_code: JetStream's own code, such as 10071.
        description: the broker's text.
    """

    def __init__(self, what: str, err_code: int, description: str) -> None:
        super().__init__(f"{what}: {description} ({err_code})")
        self.err_code = err_code
        self.description = description


class ApiConflictError(ApiError, ConflictError):
    """10071, 10164 or 10201: another write came first, or is in flight. Nothing was stored."""


class ApiTransientError(ApiError, TransientError):
    """The broker cannot serve it now; nothing of this request was stored."""


class StoreFullError(ApiTransientError):
    """The broker has no room; nothing of this request was stored. It works again with room."""

    def __init__(self, what: str, err_code: int, description: str) -> None:
        super().__init__(what, err_code, f"{description}; the broker has no room, make some")


class ApiConfigError(ApiError, ConfigError):
    """The broker will refuse this until settings or resources change."""


class StreamNotFoundError(ApiConfigError):
    """The stream does not exist."""


class ApiInvariantError(ApiError, InvariantError):
    """A request PSM must never send."""


class PermissionRefusedError(ConfigError):
    """The broker's permissions do not let this user publish or subscribe to a subject."""

    def __init__(self, action: str, subject: str) -> None:
        super().__init__(
            f"the NATS user may not {action} {subject}: use a user whose permissions have it, or "
            "give it to this one (docs/security.md has the table)"
        )
        self.subject = subject


class UnsendableError(InvariantError):
    """A message that the broker would answer by closing the connection. It was not sent."""


def api_error(error: Mapping[str, Any], what: str) -> ApiError:
    """Return the PSM error for an `error` object of the JetStream API.

    Args:
        error: `{"code", "err_code", "description"}` as the broker sent it.
        what: the operation, for the text: `publish to psm.cursor.3`.
    """
    err_code = int(error.get("err_code", 0))
    description = str(error.get("description", "no description"))
    return _kind(err_code, int(error.get("code", 0)))(what, err_code, description)


def _kind(err_code: int, status: int) -> type[ApiError]:
    if err_code in _CONFLICTS:
        return ApiConflictError
    if err_code in _RETRY:
        return ApiTransientError
    if err_code in _BUGS:
        return ApiInvariantError
    if err_code == STREAM_NOT_FOUND:
        return StreamNotFoundError
    if err_code in _FULL:
        return StoreFullError
    return ApiTransientError if status >= _SERVER_ERROR else ApiConfigError
