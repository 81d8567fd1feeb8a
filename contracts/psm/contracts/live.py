"""Live reads: an account as its owner's books have it now, at the marks of this moment.

Views say what was published, and of what only marks changed at most each slot. The worker that
folds an account's partition values it whenever it is asked: `psm.get.live`, `?live=1` over HTTP,
`psm state --live`. The answer is the document of the same read from the views, of one moment, with
`as_of`: two answers with the same `as_of.log_sequence` are the same bytes, whoever gave them.

The body of a request is the account id, or a `LiveQuestion` as JSON.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from psm.contracts import codec
from psm.contracts.errors import PSMError
from psm.contracts.subjects import STREAM_ID_RULE, is_stream_id

LIVE_SUBJECT = "psm.get.live"
"""Subject of the request."""

LIVE_WAIT_DEFAULT_MS = 5_000
LIVE_WAIT_MAX_MS = 30_000

LiveRead = Literal["state", "positions", "margin", "orders"]


class MalformedQuestionError(PSMError):
    """A request that is no live read, or one of no possible account."""


_Sequence = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=LIVE_WAIT_MAX_MS)]


class LiveQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A live read.

    Attributes:
        account_id: whose.
        read: which document.
        min_sequence: wait until the books have this version of the account.
        min_log_sequence: wait until the log is folded up to here; `as_of` is not lower then, so
            who names the one of the last answer gets no older one, of whatever account.
        timeout_ms: how long to wait for either at most.
    """

    account_id: str
    read: LiveRead = "state"
    min_sequence: _Sequence = 0
    min_log_sequence: _Sequence = 0
    timeout_ms: _Milliseconds = LIVE_WAIT_DEFAULT_MS

    @property
    def waits(self) -> bool:
        """Whether it may have to wait for the books."""
        return bool(self.min_sequence or self.min_log_sequence)


class AsOf(msgspec.Struct, frozen=True, kw_only=True):
    """Place of the log that figures are as of: a message, and its time in the log.

    Live it is the whole document's. In views, positions and assets that only marks moved may be
    older than their account: up to the slow period of the valuation clock; what is older than a
    slow and a middle one is unchanged since. Rows without one are as of the document's.

    Attributes:
        log_sequence: of the message.
        time: log time of the message there: RFC 3339 in UTC with microseconds.
    """

    log_sequence: int
    time: str


_decoder = msgspec.json.Decoder(LiveQuestion)


def question_of(body: bytes) -> LiveQuestion:
    """Return the question in a request.

    Raises:
        MalformedQuestionError: it is none, or of no possible account.
    """
    if body.lstrip()[:1] == b"{":
        try:
            question = _decoder.decode(body)
        except codec.INVALID_JSON as error:
            raise MalformedQuestionError(f"not a live read: {error}") from error
    else:
        question = LiveQuestion(account_id=body.decode("ascii", "replace"))
    if not is_stream_id(question.account_id):
        raise MalformedQuestionError(f"an account id is {STREAM_ID_RULE}")
    return question
