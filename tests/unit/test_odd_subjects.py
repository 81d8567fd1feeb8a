"""Messages whose subject is no UTF-8 on their way through spools, lines, bundles and anchors."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import pytest
from tests.support.events import START, deposit

from psm.adapters.jetstream import StoredMessage
from psm.contracts import subjects
from psm.domain.messages import LogMessage
from psm.workers.proof.anchors.anchor import leaf_of
from psm.workers.proof.validation.run import Spool, spooled
from psm.workers.replay import bundle
from psm.workers.replay.lines import LineError, LineFolder

RAW = b"trades.3.\xff\xfe"
SUBJECT = RAW.decode(errors="surrogateescape")


def test_spool_keeps_the_bytes(tmp_path: Path) -> None:
    """What a validation reads is what the log holds."""
    message = LogMessage(log_sequence=1, subject=SUBJECT, time=START, data=b"{}")
    path = tmp_path / "spool"
    with path.open("wb") as file:
        spooled(file, message)
    (batch,) = Spool(str(path)).batches(10)
    assert batch == [message]


def test_bundle_gives_the_same_fold() -> None:
    """A line has the subject in base64, is folded as live, and shows what can be shown."""
    partition = subjects.partition_of(SUBJECT.rpartition(".")[2], 16)
    subject = SUBJECT.replace(".3.", f".{partition}.")
    stored = StoredMessage(
        subject=subject, sequence=1, time_ns=START, data=deposit(1).data, headers=None
    )
    line = bundle._line(stored)
    assert "subject" not in json.loads(line)
    result = LineFolder(partitions=16).take(line)
    assert result is not None
    assert (result.outcome, result.reason) == ("rejected", "invalid_subject")
    assert result.subject == f"trades.{partition}.\\xff\\xfe"
    assert result.updates[0].subject.endswith("._invalid")


def test_line_whose_subject_is_no_base64_has_a_reason() -> None:
    """It is named as any other bad line."""
    data = b64encode(b"{}").decode()
    fields = {"subject_base64": "?", "time": 1, "log_sequence": 1, "data_base64": data}
    with pytest.raises(LineError, match="subject_base64"):
        LineFolder().take(json.dumps(fields).encode())


def test_anchor_covers_it() -> None:
    """Its leaf is taken over the bytes of the subject; two subjects give two leaves."""
    other = b"trades.3.\xff\xfd".decode(errors="surrogateescape")
    assert leaf_of(SUBJECT, b"{}") != leaf_of(other, b"{}")


def test_what_can_be_shown() -> None:
    """Any subject has a text that can be stored, and ordinary ones are their own."""
    assert subjects.printable("trades.acc_001") == "trades.acc_001"
    assert subjects.printable(SUBJECT) == r"trades.3.\xff\xfe"
    assert subjects.printable("trades.a\0b") == r"trades.a\x00b"
    subjects.printable(SUBJECT).encode()
