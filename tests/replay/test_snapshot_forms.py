"""Snapshots of every form that was ever written go on exactly as the log does."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.domain import Log, given
from tests.support.events import deposit
from tests.support.make_snapshots import FOLDER, RecordedBooks, folded, messages

from psm.contracts.errors import ContractError
from psm.domain import snapshot, snapshot_forms
from psm.domain.books import Books
from psm.domain.snapshot import dump_account, dump_checkpoint, load_account, load_checkpoint
from psm.workers.replay.lines import DEFAULT_PARTITIONS

FILES = sorted(FOLDER.glob("form_*/*.json"))


def loaded(recorded: RecordedBooks) -> Books:
    """Return the books that were saved."""
    books = Books(partitions=DEFAULT_PARTITIONS)
    books.position = recorded.log_sequence
    for one in recorded.saved:
        if one.account is None:
            books.market.restore(load_checkpoint(one.data).tables)
    for one in recorded.saved:
        if one.account is not None:
            books.restore(load_account(one.data)[0])
    return books


def read(path: Path) -> RecordedBooks:
    return msgspec.json.decode(path.read_bytes(), type=RecordedBooks)


def goes_on(recorded: RecordedBooks) -> None:
    """The tail of the log makes of what was saved what it makes of the log."""
    every = messages(recorded.log)
    straight = folded(every)
    tail = [message for message in every if message.log_sequence > recorded.log_sequence]
    again = Log(books=loaded(recorded))
    again.messages = {m.log_sequence: m for m in every[: len(every) - len(tail)]}
    for message in tail:
        again.take(message)
    assert again.hashes() == straight.hashes()
    published = [(u.subject, u.headers, u.data) for u in again.updates]
    expected = [(u.subject, u.headers, u.data) for u in straight.updates]
    assert published == expected[len(expected) - len(published) :]
    for stream_id, account in straight.books.accounts.items():
        mine = again.books.accounts[stream_id]
        position = straight.books.position
        assert dump_account(mine, position, b"") == dump_account(account, position, b"")


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_recorded_snapshot_goes_on_as_the_log_does(path: Path) -> None:
    """Of every form there ever was: what it holds, and what it publishes next."""
    goes_on(read(path))


def test_every_form_has_recorded_snapshots_and_a_converter() -> None:
    """A form is read as long as any is kept; so each but the newest has a converter."""
    forms = sorted(int(path.name.removeprefix("form_")) for path in FOLDER.iterdir())
    assert forms == list(range(1, snapshot.SNAPSHOT_FORM + 1))
    for converters in (snapshot_forms.ACCOUNTS, snapshot_forms.CHECKPOINTS):
        assert sorted(converters) == forms[:-1]


class AccountSnapshot2(snapshot.AccountSnapshot, frozen=True, kw_only=True):
    """An artificial form 2: it has one more field, and must have it."""

    form: int = 2
    depth: int


def to_account_2(saved: dict[str, Any]) -> dict[str, Any]:
    """Return the artificial form 2 of an account."""
    assert saved["form"] == 1
    return {**saved, "depth": len(saved["positions"])}


def to_checkpoint_2(saved: dict[str, Any]) -> dict[str, Any]:
    """Return the artificial form 2 of a checkpoint, which holds what form 1 does."""
    assert saved["form"] == 1
    return saved


@pytest.fixture
def form_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of tomorrow, to which snapshots of today are old ones."""
    monkeypatch.setattr(snapshot, "SNAPSHOT_FORM", 2)
    monkeypatch.setattr(snapshot, "_snapshots", msgspec.json.Decoder(AccountSnapshot2))
    monkeypatch.setattr(snapshot_forms, "ACCOUNTS", {1: to_account_2})
    monkeypatch.setattr(snapshot_forms, "CHECKPOINTS", {1: to_checkpoint_2})


@pytest.mark.usefixtures("form_2")
@pytest.mark.parametrize("path", FILES[-2:], ids=lambda p: p.stem)
def test_the_next_form_reads_the_one_before(path: Path) -> None:
    """Through its converter, and goes on as the log does."""
    recorded = read(path)
    saved = next(one for one in recorded.saved if one.account is not None)
    converted = load_account(saved.data)[1]
    assert isinstance(converted, AccountSnapshot2)
    assert (converted.form, converted.depth) == (2, len(converted.positions))
    table = next(one for one in recorded.saved if one.account is None)
    assert load_checkpoint(table.data).form == 2


@pytest.mark.parametrize("form", [0, 2, 3, None, "1"])
def test_a_form_from_which_nothing_leads_here_is_refused(form: object) -> None:
    """A newer one, an unknown one, none at all: never guessed."""
    log = given(deposit(1))
    for load, data in (
        (load_account, dump_account(log.account(), 1, b"")),
        (load_checkpoint, dump_checkpoint(log.books, 1, None)),
    ):
        fields = {**json.loads(zlib.decompress(data)), "form": form}
        with pytest.raises(ContractError, match="bad_snapshot"):
            load(zlib.compress(json.dumps(fields).encode()))


def test_a_converter_that_is_missing_between_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two forms on, with only one step there."""
    monkeypatch.setattr(snapshot, "SNAPSHOT_FORM", 3)
    monkeypatch.setattr(snapshot_forms, "ACCOUNTS", {2: dict})
    data = zlib.compress(zlib.decompress(dump_account(given(deposit(1)).account(), 1, b"")))
    old = json.loads(zlib.decompress(data)) | {"form": 1}
    with pytest.raises(ContractError, match="form 1 is not known here"):
        load_account(zlib.compress(json.dumps(old).encode()))
