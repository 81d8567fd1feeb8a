"""Golden logs: what was seen after every message when they were made."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import msgspec

from psm.domain.books import Books
from psm.domain.publication.figures import state_document

FOLDER = Path(__file__).parent
COMPARED = (
    "sequence_number",
    "status",
    "cash",
    "equity",
    "realized_pnl",
    "margin_initial",
    "margin_maintenance",
    "drawdown",
    "chain_hash",
    "ledger_hash",
    "state_hash",
)
"""Fields of an account that are kept, plain figures first: they explain a differing hash."""


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """One message, and what is known of every account after it (by account; changes only)."""

    subject: str
    time: int
    data: str
    seen: dict[str, dict[str, Any]]


def observed(books: Books) -> dict[str, dict[str, Any]]:
    """Return what a golden log keeps of every account."""
    documents = {s: state_document(books, a) for s, a in sorted(books.accounts.items())}
    return {s: {name: d[name] for name in COMPARED} for s, d in documents.items()}


def read(path: Path) -> list[Golden]:
    """Return the lines of a golden log."""
    decoder = msgspec.json.Decoder(Golden)
    return [decoder.decode(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
