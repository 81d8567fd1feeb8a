"""The certificate of a rebuilt view: from what it was made, what it held before and holds now.

It stands in the record of operations (`ops.journal`), in its hash chain, and is signed by whoever
rebuilt, so that the two say the same of who accepted which differences.
"""

from __future__ import annotations

import hashlib

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.aio.client import Client

from psm.contracts.codec import canonical_bytes
from psm.contracts.errors import LogDamagedError
from psm.projections.projection import Projection
from psm.projections.schema.shadow import TableHash
from psm.workers.ops.journal import StoredRecord, recorded
from psm.workers.ops.keys import Keyring, key_id
from psm.workers.process.crash_points import crash_point
from psm.workers.projector.rebuild import Rebuild, RebuildReport

KIND = "views rebuild"
VERSION = 1
_DOMAIN = b"psm-views-rebuild\n"
"""In front of what is signed: a signature for anything else is none for a certificate."""


class MadeUpTo(msgspec.Struct, frozen=True, kw_only=True):
    """Where a partition of the source ended: everything from its begin to there was read.

    Attributes:
        stream_sequence: of the last message in the source's stream.
        event_hash: SHA-256 of its bytes, hex.
        log_sequence: of the log; 0 where the source has none.
    """

    partition: int
    stream_sequence: int
    event_hash: str
    log_sequence: int


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A signed statement about one rebuild.

    Attributes:
        version: of this form.
        run_id: of the records that it stands in.
        projection, projection_version: that was rebuilt.
        js_stream: that it follows.
        made_up_to: by partition.
        before, after: the live tables, and the rebuilt ones.
        compared: False where the two could not be brought to one position.
        diverged: partitions whose live view came from another log.
        rows_differ: rows in which they differ.
        swapped: whether the rebuilt ones are the live ones now.
        accepted_by: who accepted the differences, by pseudonym; None where there were none, or
            nobody did.
        key_id: of the key that signed; empty: nobody did.
        signature: Ed25519 over the other fields, hex.
    """

    version: int = VERSION
    run_id: str
    projection: str
    projection_version: int
    js_stream: str
    made_up_to: list[MadeUpTo]
    before: list[TableHash]
    after: list[TableHash]
    compared: bool
    diverged: list[str]
    rows_differ: int
    swapped: bool
    accepted_by: str | None
    key_id: str = ""
    signature: str = ""

    def signed_bytes(self) -> bytes:
        """Return what the signature is made over: canonical JSON without the signature."""
        fields = msgspec.to_builtins(self)
        del fields["signature"]
        return _DOMAIN + canonical_bytes(fields)

    def signed(self, key: Ed25519PrivateKey) -> Certificate:
        """Return it, signed."""
        named = msgspec.structs.replace(self, key_id=key_id(key.public_key()))
        return msgspec.structs.replace(named, signature=key.sign(named.signed_bytes()).hex())

    def is_signed_by(self, keys: Keyring) -> bool:
        """Return whether a known key signed exactly this."""
        try:
            signature = bytes.fromhex(self.signature)
        except ValueError:
            return False
        return keys.verifies(self.key_id, signature, self.signed_bytes())


def certificate_of(
    report: RebuildReport, projection: Projection, *, run_id: str, actor: str
) -> Certificate:
    """Return the certificate of a rebuild, not signed yet."""
    wrong = bool(report.rows_differ or report.diverged or not report.compared)
    return Certificate(
        run_id=run_id,
        projection=projection.name,
        projection_version=projection.version,
        js_stream=projection.source.js_stream,
        made_up_to=[
            MadeUpTo(
                partition=at.partition,
                stream_sequence=at.stream_sequence,
                event_hash=at.event_hash,
                log_sequence=at.log_sequence,
            )
            for at in report.boundaries
        ],
        before=report.before,
        after=report.after,
        compared=report.compared,
        diverged=report.diverged,
        rows_differ=report.rows_differ,
        swapped=report.swapped,
        accepted_by=actor if wrong and report.swapped else None,
    )


async def certified(
    nc: Client,
    rebuild: Rebuild,
    projection: Projection,
    key: Ed25519PrivateKey | None,
    *,
    actor: str,
    reason: str,
    accept_differences: bool,
) -> tuple[RebuildReport, Certificate]:
    """Rebuild a view, and leave its certificate in the record of operations.

    The record is begun before and ended after. One that is killed between has a beginning alone,
    whatever became of the view: `without_certificate` finds it.

    Raises:
        ConfigError, LogDamagedError, TransientError: as `Rebuild.run`; or the record cannot be
            written.
    """
    what = {
        "kind": KIND,
        "projection": projection.name,
        "projection_version": projection.version,
        "accept_differences": accept_differences,
    }
    async with recorded(nc, what, actor=actor, reason=reason) as run:
        report = await rebuild.run(accept_differences=accept_differences)
        crash_point("rebuild.after_swap")
        certificate = certificate_of(report, projection, run_id=run.run_id, actor=actor)
        if key is not None:
            certificate = certificate.signed(key)
        run.result = msgspec.to_builtins(certificate)
        run.result_hash = hashlib.sha256(canonical_bytes(run.result)).hexdigest()
    return report, certificate


def certificates(records: list[StoredRecord]) -> list[tuple[StoredRecord, Certificate]]:
    """Return the certificates among records, each with the record that holds it.

    Raises:
        LogDamagedError: one is not of its record, or cannot be read.
    """
    found = []
    for stored in records:
        record = stored.record
        if record.what.get("kind") != KIND or record.result is None:
            continue
        try:
            certificate = msgspec.convert(record.result, Certificate)
        except msgspec.ValidationError as error:
            where = f"OPS: record {stored.sequence}"
            raise LogDamagedError(f"{where} holds no certificate: {error}") from error
        if certificate.run_id != record.run_id:
            raise LogDamagedError(f"OPS: record {stored.sequence} holds another run's certificate")
        found.append((stored, certificate))
    return found


def without_certificate(records: list[StoredRecord]) -> list[StoredRecord]:
    """Return where rebuilds began that left no certificate, and of which none of the view follows.

    Such a rebuild is still at work, failed, or was killed; it may have swapped the view or not.
    The certificate of a later one says of every row what it held before, so it makes up for it.
    """
    pending: dict[str, StoredRecord] = {}
    for stored in records:
        record = stored.record
        if record.what.get("kind") != KIND:
            continue
        if record.kind == "begun":
            pending[record.run_id] = stored
        elif record.outcome == "failed":
            pending.pop(record.run_id, None)  # said so, and its swap was rolled back
        elif record.result is not None:
            view = record.what.get("projection")
            pending = {
                run: begun
                for run, begun in pending.items()
                if begun.record.what.get("projection") != view
            }
    return list(pending.values())
