"""Bundles: a part of the log in a file, and the hashes it must give again anywhere, offline.

The lines are what `psm fold` reads, with the stored bytes, log sequences and times, so the result
equals the live one byte for byte. A manifest beside the file, `<file>.manifest.json`, says what the
log was and what came out of it.
"""

from __future__ import annotations

import gzip
import hashlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import IO, cast

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import StoredMessage
from psm.adapters.jetstream.streams import CANONICAL_FORM
from psm.contracts import subjects
from psm.contracts.errors import ConfigError
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.market.slots import ValuationSlots, slots_of
from psm.workers.history.timeline import read_ledger
from psm.workers.log.reader import last_log_sequence, read_stored
from psm.workers.log.refold import Progress
from psm.workers.log.shape import LogShape
from psm.workers.replay.lines import LineError, LineFolder, opened

FORMAT = 1


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """An account at the end of a bundle."""

    sequence_number: int
    chain_hash: str
    ledger_hash: str
    state_hash: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle is.

    Attributes:
        format: of the bundle.
        code_version: what wrote it.
        partitions, valuation_slots, canonical_form: of the log.
        account: whose events it has, with all that decides its state; None for the whole log.
        last_log_sequence: up to which the log counts.
        messages: lines.
        sha256: of the lines, uncompressed.
        heads: account -> what it was at the end.
    """

    format: int
    code_version: str
    partitions: int
    valuation_slots: str
    canonical_form: int
    account: str | None
    last_log_sequence: int
    messages: int
    sha256: str
    heads: dict[str, Head]


class Reproduction(msgspec.Struct, frozen=True, kw_only=True):
    """What folding a bundle gave.

    Attributes:
        messages: folded.
        heads: account -> what came out.
        differing: accounts whose head is not the manifest's, or is missing on either side.
    """

    messages: int
    heads: dict[str, Head]
    differing: list[str]


async def export_bundle(
    nc: Client,
    shape: LogShape,
    path: Path,
    *,
    account: str | None = None,
    last: int | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Write a bundle and its manifest; a file that exists is not overwritten.

    Args:
        nc: connection; only read.
        shape: of the log.
        path: of the file; with the ending .gz it is compressed.
        account: whose events; None for the whole log.
        last: log sequence to end with; None for all there is.
        progress: told how far the log is read.

    Raises:
        ConfigError: the file cannot be written.
        UnknownStreamError: the account has no event.
    """
    end = await last_log_sequence(nc)
    end = end if last is None else min(last, end)
    filters = [">"]
    if account is not None:
        ledger = await read_ledger(nc, shape, account)
        filters = subjects.stream_filters(account, shape.partitions, [*ledger.symbols])
    folder = _folder(shape.partitions, shape.slots)
    digest, count = hashlib.sha256(), 0
    with _writing(path) as file:
        async for batch in read_stored(nc, filters, 1, end):
            for message in batch:
                line = _line(message)
                digest.update(line)
                file.write(line)
                folder.take(line)
            count += len(batch)
            if progress is not None and batch:
                progress(batch[-1].sequence, end)
    manifest = Manifest(
        format=FORMAT,
        code_version=version("portfolio-state-manager"),
        partitions=shape.partitions,
        valuation_slots=str(shape.slots),
        canonical_form=CANONICAL_FORM,
        account=account,
        last_log_sequence=end,
        messages=count,
        sha256=digest.hexdigest(),
        heads=_heads(folder.books),
    )
    manifest_of(path).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    return manifest


def reproduce(path: Path, progress: Progress | None = None) -> Reproduction:
    """Fold a bundle without any server and compare with its manifest.

    Raises:
        ConfigError: file or manifest cannot be read, or they do not belong together.
    """
    manifest = read_manifest(path)
    folder = _folder(manifest.partitions, slots_of(manifest.valuation_slots))
    digest, count = hashlib.sha256(), 0
    with opened(path) as lines:
        for line in lines:
            digest.update(line)
            try:
                folder.take(line)
            except LineError as error:
                raise ConfigError(f"{path}: {error}") from error
            count += 1
            if progress is not None and count % 1000 == 0:
                progress(count, manifest.messages)
    if digest.hexdigest() != manifest.sha256:
        raise ConfigError(
            f"{path} is not the file its manifest describes: {count} lines with SHA-256 "
            f"{digest.hexdigest()}, expected {manifest.messages} with {manifest.sha256}"
        )
    heads = _heads(folder.books)
    differing = [
        account
        for account in sorted({**heads, **manifest.heads})
        if heads.get(account) != manifest.heads.get(account)
    ]
    return Reproduction(messages=count, heads=heads, differing=differing)


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of a bundle.

    Raises:
        ConfigError: it cannot be read, or is of a format that this version does not know.
    """
    file = manifest_of(path)
    try:
        manifest = msgspec.json.decode(file.read_bytes(), type=Manifest)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{file} is no manifest of a bundle: {error}") from error
    if (manifest.format, manifest.canonical_form) != (FORMAT, CANONICAL_FORM):
        raise ConfigError(
            f"{file}: format {manifest.format} with canonical form {manifest.canonical_form}; "
            f"this version reads {FORMAT} with {CANONICAL_FORM}"
        )
    return manifest


def manifest_of(path: Path) -> Path:
    """Return where the manifest of a bundle is."""
    return path.with_name(f"{path.name}.manifest.json")


def head_of(books: Books, account: Account) -> Head:
    """Return what identifies an account's state."""
    ledger_hash = account.ledger_hash()
    return Head(
        sequence_number=account.delivery.version,
        chain_hash=account.delivery.chain_hash.hex(),
        ledger_hash=ledger_hash.hex(),
        state_hash=account.valuation.hash(ledger_hash, account.value()).hex(),
    )


def _heads(books: Books) -> dict[str, Head]:
    return {stream: head_of(books, account) for stream, account in sorted(books.accounts.items())}


def _folder(partitions: int, slots: ValuationSlots) -> LineFolder:
    return LineFolder(
        partitions=partitions,
        slots=slots,
        emit="nothing",  # only the heads at the end count
    )


def _base64(raw: bytes) -> str:
    return b64encode(raw).decode()


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _line(message: StoredMessage) -> bytes:
    raw = subjects.token_bytes(message.subject)
    fields = {
        **({"subject": message.subject} if _is_utf8(raw) else {"subject_base64": _base64(raw)}),
        "time": message.time_ns,
        "log_sequence": message.sequence,
        "data_base64": _base64(message.data),
    }
    return msgspec.json.encode(fields) + b"\n"


@contextmanager
def _writing(path: Path) -> Iterator[IO[bytes]]:
    try:
        file = path.open("xb")
        try:
            with file:
                if path.suffix == ".gz":
                    # No time and no name inside: the same log gives the same bytes.
                    with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
                        yield cast("IO[bytes]", packed)
                else:
                    yield file
        except BaseException:
            path.unlink()  # a part would pass for the whole, and be in the way of the next one
            raise
    except FileExistsError as error:
        raise ConfigError(f"{path} exists; choose another name or remove it") from error
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
