"""`psm publish`: append events from a file or a pipe, one JSON object a line.

A line is an envelope, a flat 0.x draft, or `{"subject": ..., "data": ...}`. A bad line is named by
its number and does not stop the others. Doing it again is safe: what is there is found.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from psm.adapters.jetstream import connect
from psm.contracts import codec, recorded
from psm.contracts.drafts import draft_of
from psm.contracts.errors import ConflictError, ContractError
from psm.contracts.publisher import Publisher
from psm.contracts.subjects import LOG_HEADS, head_of
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output, Steps
from psm.workers.process.config import load_settings
from psm.workers.process.settings import Settings
from psm.workers.replay.lines import opened

# A file that is published twice must find its own events, however many an account has.
REMEMBER = 1_000_000
WINDOW = 64  # lines in flight
_SETTLE_S = 5.0
_INTERRUPTED = 130


class _Line(msgspec.Struct, frozen=True):
    """One line: where it was, what to publish, and where to if the line says so."""

    number: int
    body: bytes
    subject: str | None


class _Summary(msgspec.Struct):
    appended: int = 0
    recorded: int = 0
    duplicates: int = 0
    failed: int = 0

    def as_would_be(self) -> dict[str, int]:
        """Return what a dry run says; which lines are there already only the log knows."""
        return {
            "would_append": self.appended,
            "would_record": self.recorded,
            "failed": self.failed,
        }


def publish(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    fail_fast: Annotated[bool, Parameter(negative="")] = False,
    validate: Annotated[bool, Parameter(negative="--no-validate")] = True,
    allow_gaps: Annotated[bool, Parameter(negative="")] = False,
    assume_new: Annotated[bool, Parameter(negative="")] = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Append events from a file or a pipe; exit 1 if a line failed.

    Args:
        file: JSON lines, .gz too; `-` reads standard input.
        dry_run: Only check the lines.
        fail_fast: Stop at the first bad line.
        validate: Refuse payloads that the fold would refuse for their form.
        allow_gaps: Let a line bring a number that is not the next one.
        assume_new: Number accounts without an event from 1 although no worker answers; only for a
            log that never had one.
        output: How to print.
    """
    job = _Job(output, fail_fast=fail_fast, validate=validate)
    source = nullcontext(sys.stdin.buffer) if file == "-" else opened(Path(file))
    if dry_run:
        with source as lines, output.progress("check") as steps:
            job.check(lines, steps)
        output.document(job.summary.as_would_be())
        return int(job.summary.failed > 0)
    try:
        with source as lines, output.progress("publish") as steps:
            asyncio.run(
                job.publish(
                    lines, steps, load_settings(), allow_gaps=allow_gaps, assume_new=assume_new
                )
            )
    except KeyboardInterrupt:
        output.document(msgspec.structs.asdict(job.summary))
        output.note(_interrupted(job))
        return _INTERRUPTED
    output.document(msgspec.structs.asdict(job.summary))
    return int(job.summary.failed > 0)


def _interrupted(job: _Job) -> str:
    """Say what an interrupt left: everything is known but for what the broker did not answer."""
    text = f"interrupted: {job.summary.appended} went in"
    if job.unknown:
        text += f", of {job.unknown} more it is not known"
    return f"{text}; publishing the same again goes on where this ended"


class _Job:
    """One run over the lines of a file."""

    def __init__(self, output: Output, *, fail_fast: bool, validate: bool) -> None:
        self.summary = _Summary()
        self.unknown = 0
        self._output = output
        self._fail_fast = fail_fast
        self._validate = validate

    def check(self, lines: Iterable[bytes], steps: Steps) -> None:
        for number, text in _numbered(lines):
            try:
                line = _line(number, text)
                if line.subject is not None and _is_recorded(line):
                    if self._validate:
                        recorded.check(line.subject, line.body)
                    self.summary.recorded += 1
                else:
                    _matched(line, draft_of(line.body, validate=self._validate).subject)
                    self.summary.appended += 1
            except ContractError as error:
                if self._failed(number, error):
                    return
            steps.advance()

    async def publish(
        self,
        lines: Iterable[bytes],
        steps: Steps,
        settings: Settings,
        *,
        allow_gaps: bool,
        assume_new: bool,
    ) -> None:
        nc = await connect(**settings.nats_options(), name="psm-publish")
        try:
            publisher = Publisher(
                nc,
                validate=self._validate,
                allow_gaps=allow_gaps,
                remember=REMEMBER,
                assume_new=assume_new,
            )
            await self._publish_all(publisher, lines, steps)
        finally:
            await nc.close()

    async def _publish_all(
        self, publisher: Publisher, lines: Iterable[bytes], steps: Steps
    ) -> None:
        """Many lines at once; those of one stream keep their order, because its lock is fair."""
        window = 1 if self._fail_fast else WINDOW
        running: deque[asyncio.Task[bool]] = deque()
        try:
            for number, text in _numbered(lines):
                running.append(asyncio.create_task(self._attempt(publisher, number, text)))
                if len(running) >= window and await _first(running):
                    return
                steps.advance()
            while running:
                await _first(running)
        except asyncio.CancelledError:
            # What is under way is waited for, so that the count is true.
            _, late = await asyncio.wait(running, timeout=_SETTLE_S) if running else ((), ())
            self.unknown = len(late)
            raise
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _attempt(self, publisher: Publisher, number: int, text: bytes) -> bool:
        """Publish one line; return whether to stop."""
        try:
            await self._publish(publisher, _line(number, text))
        except (ContractError, ConflictError) as error:
            return self._failed(number, error)
        return False

    async def _publish(self, publisher: Publisher, line: _Line) -> None:
        if line.subject is not None and _is_recorded(line):
            await publisher.record(line.subject, line.body)
            self.summary.recorded += 1
            return
        if line.subject is not None:
            _matched(line, draft_of(line.body, validate=self._validate).subject)
        appended = await publisher.append(line.body)
        if appended.duplicate:
            self.summary.duplicates += 1
        else:
            self.summary.appended += 1

    def _failed(self, number: int, error: ContractError | ConflictError) -> bool:
        """Report a bad line; return whether to stop."""
        self.summary.failed += 1
        reason, field = getattr(error, "reason", None), getattr(error, "field", None)
        self._output.failure(f"line {number}: {error}", line=number, reason=reason, field=field)
        return self._fail_fast


async def _first(running: deque[asyncio.Task[bool]]) -> bool:
    """Wait for the first of the tasks and take it off; being cancelled leaves it running."""
    stop = await asyncio.shield(running[0])
    running.popleft()
    return stop


def _numbered(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines that are not empty, counted from 1 as an editor does."""
    for number, text in enumerate(lines, start=1):
        if body := text.strip():
            yield number, body


def _line(number: int, text: bytes) -> _Line:
    fields = codec.decode_untyped(text)
    if set(fields) != {"subject", "data"}:
        return _Line(number, text, None)
    subject = fields["subject"]
    if not isinstance(subject, str):
        raise ContractError("malformed_field", "subject must be a string", "subject")
    return _Line(number, bytes(codec.raw_fields(text)["data"]), subject)


def _is_recorded(line: _Line) -> bool:
    return line.subject is not None and head_of(line.subject) not in LOG_HEADS


def _matched(line: _Line, subject: str) -> None:
    if line.subject is not None and line.subject != subject:
        raise ContractError(
            "stream_mismatch",
            f"the event belongs on {subject}, the line says {line.subject}",
            "subject",
        )
