"""Answers that take long end with the right to them: waits, and streams of lines or events.

Who asked is judged again every `PING_S`, at once when tokens have changed, and at the end of a
token that an issuer signed. A wait then ends with 401. A stream ends with an event `revoked`, and
is broken off behind it, so that nobody takes it for whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from psm.adapters.tasks import end_all
from psm.workers.access.bearer import CredentialsError

_ENDED = "the token that this was asked with holds no more"
_LAST: Mapping[str, bytes] = {
    "application/x-ndjson": b'{"event":"revoked"}\n',
    "text/event-stream": b"event: revoked\ndata: {}\n\n",
}
"""Media type -> what a stream of it ends with."""

Ended = Callable[[], Awaitable[None]]
"""Returns when the right to an answer has ended."""


async def while_held(answer: Awaitable[Response], ended: Ended) -> Response:
    """Return an answer that is made, and sent, for as long as the right to it holds.

    Raises:
        CredentialsError: it ended before there was an answer.
    """
    answering, ending = asyncio.ensure_future(answer), asyncio.ensure_future(ended())
    try:
        await asyncio.wait((answering, ending), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise CredentialsError("bad-credentials", _ENDED)
        response = answering.result()
    finally:
        await end_all([answering, ending])
    return _Held(response, ended) if response.media_type in _LAST else response


class _Held(Response):
    """A stream that ends with the right to it."""

    def __init__(self, stream: Response, ended: Ended) -> None:
        super().__init__(media_type=stream.media_type)
        self._stream, self._ended = stream, ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, or its end."""
        began = False

        async def sending(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        streaming = asyncio.ensure_future(self._stream(scope, receive, sending))
        ending = asyncio.ensure_future(self._ended())
        try:
            await asyncio.wait((streaming, ending), return_when=asyncio.FIRST_COMPLETED)
            if streaming.done():
                streaming.result()
                return
        finally:
            await end_all([streaming, ending])
        if began:
            last = _LAST[str(self.media_type)]
            # No end behind it: the server closes what is not complete.
            await send({"type": "http.response.body", "body": last, "more_body": True})
