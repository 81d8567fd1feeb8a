"""The determinism gate: two replays in unlike surroundings must give the same hashes.

Both runs are processes of their own (`run`) over the same spooled log. Their
fingerprints are compared message by message, and each event's hashes with the `StateUpdated` that
the live system published for it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec

from psm.contracts.errors import ConfigError
from psm.domain.market.slots import ValuationSlots
from psm.workers.proof.validation.published import PublishedHashes
from psm.workers.proof.validation.run import Failed, Print, ValidationRun

Progress = Callable[[int], None]
"""Told how many messages were compared."""

_FIELDS = (
    *("outcome", "reason", "sequence_number", "chain_hash", "ledger_hash", "state_hash"),
    *("touched", "accounts", "blocked", "resumed", "advances", "updates", "published"),
    *("event_hash", "subject", "stream_id", "log_sequence"),
)
"""In the order in which a difference is explained: what is nearest to the cause first."""


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What must not matter, as one run has it. `python` is the interpreter's path."""

    python: str
    hash_seed: str
    time_zone: str
    locale: str
    partitions: int
    batch: int
    snapshot_every: int
    precision: int

    def environment(self) -> dict[str, str]:
        """Return the environment of the run's process."""
        inherited = {n: v for n, v in os.environ.items() if n != "LANG" and not n.startswith("LC_")}
        return {
            **inherited,
            "PYTHONHASHSEED": self.hash_seed,
            "TZ": self.time_zone,
            "LC_ALL": self.locale,
        }


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """What is validated: a spooled log and what is fixed for its life."""

    spool: str
    partitions: int
    slots: ValuationSlots


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Which messages are compared: log sequences, or the sequence numbers of one account."""

    account: str | None = None
    first: int = 1
    last: int | None = None

    def covers(self, found: Print) -> bool:
        """Return whether a message is to be compared."""
        if self.account is None:
            number: int | None = found.log_sequence
        elif found.subject != f"trades.{self.account}":
            return False
        else:
            number = found.sequence_number
        if number is None:
            return self.first == 1 and self.last is None
        return self.first <= number and (self.last is None or number <= self.last)


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """Where two sides part: the first event, the first field, and what each side says.

    Attributes:
        between: `runs`, or `published`: the replay and what the live system published.
        field: path in the fingerprint, and in the account's state where it could be found.
    """

    between: str
    log_sequence: int
    subject: str
    sequence_number: int | None
    event_hash: str
    field: str
    expected: Any
    found: Any


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate found.

    Attributes:
        messages: folded by each run.
        compared: of these, in the selection.
        result_hash: SHA-256 over the compared fingerprints; the same log gives the same one.
        outcomes: how many messages had each.
        published: events whose published hashes were compared with the replay's.
        unpublished: events without a retained update; by the contract no problem.
    """

    messages: int
    compared: int
    result_hash: str
    outcomes: dict[str, int]
    published: int
    unpublished: int
    divergence: Divergence | None


def surroundings(log: Log, python: str | None = None) -> tuple[Surroundings, Surroundings]:
    """Return two surroundings that differ in everything; the first is the log's own."""
    own = Surroundings(
        python=sys.executable,
        hash_seed="0",
        time_zone="UTC0",
        locale="C",
        partitions=log.partitions,
        batch=1,
        snapshot_every=0,
        precision=28,
    )
    other = Surroundings(
        python=python or sys.executable,
        hash_seed="4242",
        time_zone="<+0545>-05:45",  # written out: needs no database of zones
        locale=_foreign_locale(),
        partitions=7 if log.partitions != 7 else 5,
        batch=257,
        snapshot_every=100,
        precision=5,
    )
    return own, other


def validate(
    log: Log,
    pair: tuple[Surroundings, Surroundings],
    selection: Compared,
    published: PublishedHashes | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Run both replays and compare them up to the first divergence.

    Raises:
        ConfigError: a run's interpreter cannot be started, or lacks PSM.
    """
    digest, outcomes = hashlib.sha256(), Counter[str]()
    messages = compared = 0
    divergence = None
    with ExitStack() as stack:
        left, right = (stack.enter_context(_running(log, one)) for one in pair)
        for one, other in zip(left, right, strict=True):
            messages += 1
            if progress is not None:
                progress(1)
            divergence = _failure(one, other)
            if divergence is not None:
                break
            assert isinstance(one, Print)
            assert isinstance(other, Print)
            if not selection.covers(one):
                if published is not None:
                    published.skip(one)
                continue
            compared += 1
            outcomes[one.outcome] += 1
            digest.update(msgspec.json.encode(one))
            divergence = _difference(one, other)
            if divergence is None and published is not None:
                divergence = _against(published, one)
            if divergence is not None:
                break
    if divergence is None and published is not None:
        divergence = _left_over(published)
    if divergence is not None and divergence.between == "runs":
        divergence = _explained(log, pair, divergence)
    return Verdict(
        messages=messages,
        compared=compared,
        result_hash=digest.hexdigest(),
        outcomes=dict(sorted(outcomes.items())),
        published=published.matched if published else 0,
        unpublished=published.absent if published else 0,
        divergence=divergence,
    )


# --- the runs ---------------------------------------------------------------------------------


@contextmanager
def _running(
    log: Log, one: Surroundings, detail: int | None = None
) -> Iterator[Iterator[Print | Failed]]:
    run = ValidationRun(
        spool=log.spool,
        partitions=one.partitions,
        slots=log.slots,
        batch=one.batch,
        snapshot_every=one.snapshot_every,
        precision=one.precision,
        detail=detail,
    )
    command = [
        one.python,
        "-m",
        "psm.workers.proof.validation.run",
        msgspec.json.encode(run).decode(),
    ]
    try:
        process = subprocess.Popen(  # noqa: S603 - the interpreter the operator named
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=one.environment()
        )
    except OSError as error:
        raise ConfigError(f"cannot run {one.python}: {error.strerror}") from error
    with process:
        try:
            yield _answers(process, one)
        finally:
            process.kill()


def _answers(process: subprocess.Popen[bytes], one: Surroundings) -> Iterator[Print | Failed]:
    assert process.stdout is not None
    assert process.stderr is not None
    prints, failures = msgspec.json.Decoder(Print), msgspec.json.Decoder(Failed)
    for line in process.stdout:
        yield failures.decode(line) if line.startswith(b'{"kind":"failed"') else prints.decode(line)
    if process.wait() != 0:
        said = process.stderr.read().decode(errors="replace").strip().splitlines()
        raise ConfigError(
            f"the replay under {one.python} stopped: {said[-1] if said else process.returncode}; "
            "is this version of PSM installed for that interpreter?"
        )


@functools.cache
def _foreign_locale() -> str:
    """Return an installed locale that is unlike C, at best one with a decimal comma."""
    try:
        listed = subprocess.run(
            ["locale", "-a"],  # noqa: S607 - a standard tool
            capture_output=True,
            text=True,
            check=False,
        ).stdout.split()
    except OSError:
        return "C"
    comma = [name for name in listed if name.startswith(("de_", "fr_", "ru_", "tr_"))]
    return next(iter([*comma, *(n for n in listed if n.lower() in ("c.utf8", "c.utf-8"))]), "C")


# --- comparing --------------------------------------------------------------------------------


def _failure(one: Print | Failed, other: Print | Failed) -> Divergence | None:
    """Return what is wrong when a run failed; both failing alike is a problem too."""
    if isinstance(one, Print) and isinstance(other, Print):
        return None
    failed = one if isinstance(one, Failed) else other
    said = [x.error if isinstance(x, Failed) else x.outcome for x in (one, other)]
    return Divergence(
        between="runs",
        log_sequence=failed.log_sequence,
        subject=failed.subject,
        sequence_number=None,
        event_hash="",
        field="error",
        expected=said[0],
        found=said[1],
    )


def _difference(one: Print, other: Print) -> Divergence | None:
    if one == other:
        return None
    for name in _FIELDS:
        expected, found = getattr(one, name), getattr(other, name)
        if expected != found:
            return _divergence("runs", one, name, expected, found)
    raise AssertionError("prints differ in a field that is not compared")


def _against(published: PublishedHashes, one: Print) -> Divergence | None:
    wrong = published.compare(one)
    if wrong is None:
        return None
    return _divergence("published", one, wrong.field, wrong.published, wrong.replayed)


def _left_over(published: PublishedHashes) -> Divergence | None:
    """Return the first update that the live system published and the log does not explain."""
    extra = published.unexplained()
    if extra is None:
        return None
    return Divergence(
        between="published",
        log_sequence=extra.log_sequence,
        subject=f"trades.{extra.stream_id}",
        sequence_number=extra.sequence_number,
        event_hash="",
        field="sequence_number",
        expected=extra.sequence_number,
        found=None,
    )


def _divergence(between: str, at: Print, field: str, expected: Any, found: Any) -> Divergence:
    return Divergence(
        between=between,
        log_sequence=at.log_sequence,
        subject=at.subject,
        sequence_number=at.sequence_number,
        event_hash=at.event_hash,
        field=field,
        expected=expected,
        found=found,
    )


def _explained(
    log: Log, pair: tuple[Surroundings, Surroundings], divergence: Divergence
) -> Divergence:
    """Replay up to the event once more and name the field of the state behind a hash.

    What differs from run to run by chance may not differ the second time: then the field of the
    fingerprint has to do.
    """
    if divergence.field == "error":
        return divergence
    states = []
    for one in pair:
        with _running(log, one, detail=divergence.log_sequence) as prints:
            last: Print | Failed | None = None
            for last in prints:  # noqa: B007 - only the last one is wanted
                pass
            states.append(last.states if isinstance(last, Print) else None)
    difference = _first_difference(states[0], states[1], "")
    if difference is None:
        return divergence
    path, expected, found = difference
    return msgspec.structs.replace(
        divergence, field=f"{divergence.field}: {path}", expected=expected, found=found
    )


def _first_difference(expected: Any, found: Any, path: str) -> tuple[str, Any, Any] | None:
    """Return the first path where two documents differ; hashes only where nothing else does."""
    if not (isinstance(expected, dict) and isinstance(found, dict)):
        return None if expected == found else (path, expected, found)
    names = sorted({**expected, **found}, key=lambda name: (name.endswith("_hash"), name))
    for name in names:
        inner = _first_difference(
            expected.get(name), found.get(name), f"{path}.{name}" if path else name
        )
        if inner is not None:
            return inner
    return None
