"""`psm publish`: append events from a file or a pipe, one JSON object a line.

A line is an envelope, a flat 0.x draft, or `{"subject": ..., "data": ...}`. A bad line is named by
its number and does not stop the others. Doing it again is safe: what is there is found.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated

import msgspec
from cyclopts import Parameter

from psm.adapters.jetstream import connect
from psm.contracts import codec, recorded
from psm.contracts.drafts import draft_of
from psm.contracts.errors import ConfigError, ConflictError, ContractError
from psm.contracts.publisher import Publisher
from psm.workers.cli.output import DEFAULT_OUTPUT, Output, Steps
from psm.workers.config import load_settings
from psm.workers.settings import Settings

# A file that is published twice must find its own events, however many an account has.
REMEMBER = 1_000_000
WINDOW = 64  # lines in flight
_LOG_SUBJECTS = ("trades", "marks", "instruments", "control")


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


def publish(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    fail_fast: Annotated[bool, Parameter(negative="")] = False,
    validate: Annotated[bool, Parameter(negative="--no-validate")] = True,
    allow_gaps: Annotated[bool, Parameter(negative="")] = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Append events from a file or a pipe; exit 1 if a line failed.

    Args:
        file: JSON lines; `-` reads standard input.
        dry_run: Only check the lines.
        fail_fast: Stop at the first bad line.
        validate: Refuse payloads that the fold would refuse for their form.
        allow_gaps: Let a line bring a number that is not the next one.
        output: How to print.
    """
    job = _Job(output, fail_fast=fail_fast, validate=validate)
    with _opened(file) as lines, output.progress("publish") as steps:
        if dry_run:
            job.check(lines, steps)
        else:
            asyncio.run(job.publish(lines, steps, load_settings(), allow_gaps=allow_gaps))
    output.document(msgspec.structs.asdict(job.summary))
    return int(job.summary.failed > 0)


class _Job:
    """One run over the lines of a file."""

    def __init__(self, output: Output, *, fail_fast: bool, validate: bool) -> None:
        self.summary = _Summary()
        self._output = output
        self._fail_fast = fail_fast
        self._validate = validate

    def check(self, lines: IO[bytes], steps: Steps) -> None:
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
        self, lines: IO[bytes], steps: Steps, settings: Settings, *, allow_gaps: bool
    ) -> None:
        nc = await connect(**settings.nats_options(), name="psm-publish")
        try:
            publisher = Publisher(
                nc, validate=self._validate, allow_gaps=allow_gaps, remember=REMEMBER
            )
            await self._publish_all(publisher, lines, steps)
        finally:
            await nc.close()

    async def _publish_all(self, publisher: Publisher, lines: IO[bytes], steps: Steps) -> None:
        """Many lines at once; those of one stream keep their order, because its lock is fair."""
        window = 1 if self._fail_fast else WINDOW
        running: deque[asyncio.Task[bool]] = deque()
        try:
            for number, text in _numbered(lines):
                running.append(asyncio.create_task(self._attempt(publisher, number, text)))
                if len(running) >= window and await running.popleft():
                    return
                steps.advance()
            while running:
                await running.popleft()
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
        print(f"line {number}: {error}", file=sys.stderr)
        return self._fail_fast


def _opened(file: str) -> IO[bytes]:
    if file == "-":
        return sys.stdin.buffer
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error


def _numbered(lines: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines that are not empty, counted from 1 as an editor does."""
    for number, text in enumerate(lines, start=1):
        if body := text.strip():
            yield number, body


def _line(number: int, text: bytes) -> _Line:
    fields = codec.decode_untyped(text)
    if set(fields) != {"subject", "data"}:
        return _Line(number, text, None)
    try:
        parts = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        subject = msgspec.json.decode(parts["subject"], type=str)
    except msgspec.DecodeError as error:
        raise ContractError("malformed_field", "subject must be a string", "subject") from error
    return _Line(number, bytes(parts["data"]), subject)


def _is_recorded(line: _Line) -> bool:
    return line.subject is not None and line.subject.split(".")[0] not in _LOG_SUBJECTS


def _matched(line: _Line, subject: str) -> None:
    if line.subject is not None and line.subject != subject:
        raise ContractError(
            "stream_mismatch",
            f"the event belongs on {subject}, the line says {line.subject}",
            "subject",
        )
