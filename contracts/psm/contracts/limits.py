"""Limits at the border of PSM: what may enter, how large it may be, and who says so.

Each is a name of its own here and a line of `LIMITS`, from which `docs/limits.md` is made. They are
chosen so that what the fold accepts, every later stage can hold: NATS subjects, columns and indexes
of PostgreSQL, one message of the stream `PSM`. What the fold judges by is the same on every machine
and in any year, so such a limit changes only with new rules.

A new limit is a constant, and a line in the table.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Consequence = Literal[
    "rejected", "refused", "blocks", "published on _invalid", "422", "413", "not stored", "not sent"
]
"""Consequence of exceeding a limit: an outcome of the fold, or the answer of a door."""


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the page of limits.

    Attributes:
        about: what is limited.
        value: the most that is allowed.
        unit: of the value.
        effect: what happens beyond it.
        why: reason for this number.
    """

    about: str
    value: int
    unit: str
    effect: tuple[Consequence, ...]
    why: str


# --- bodies ---------------------------------------------------------------------------------------

BODY_BYTES = 64 * 1024
DEPTH = 64

# --- names on the wire ----------------------------------------------------------------------------

STREAM_ID_BYTES = 64
TOKEN_BYTES = 256
SUBJECT_BYTES = 512
CONTROL_LINE_BYTES = 4096
LOG_MESSAGE_BYTES = BODY_BYTES + 4 * 1024
INVALID_TOKEN = "_invalid"  # noqa: S105 - part of a subject
"""Stands in the subject of a refusal for a token that no subject can have."""

# --- envelope -------------------------------------------------------------------------------------

EVENT_TYPE_BYTES = 128
ENVELOPE_TEXT_BYTES = 256
SEQUENCE_NUMBER = 2**63 - 1
VERSION_DIGITS = 6

# --- payloads -------------------------------------------------------------------------------------

DIGITS = 18
NUMBER_BYTES = 64
EXPONENT_DIGITS = 4
INTEGER = SEQUENCE_NUMBER
SYMBOL_BYTES = 64
CURRENCY_BYTES = 32
KEY_BYTES = 128
IDENTIFIER_CHARACTERS = 128
TEXT_BYTES = 1024
SEALED_BYTES = 5 + 32 + 1 + 6000
REPORT_NAMES = 2000
RATES = 32

# --- state of an account --------------------------------------------------------------------------

UPDATE_BYTES = 256 * 1024
ASSETS = 500
ALIASES = 500
POSITIONS = 2000
OPEN_ORDERS = 10_000
IDENTIFIER_BYTES = 1024 * 1024

# --- places of a stream ---------------------------------------------------------------------------

PLACES_AHEAD = 100_000
PARKED_EVENTS = 1000
VOIDED_NUMBERS = 10_000
REMEMBERED = 256
MARKS_REFOLDED = 1_000_000

_REJECTED: tuple[Consequence, ...] = ("rejected", "422")
_REFUSED: tuple[Consequence, ...] = ("refused", "422")

LIMITS: dict[str, tuple[Limit, ...]] = {
    "Bodies": (
        Limit(
            about="body of a message",
            value=BODY_BYTES,
            unit="bytes",
            effect=("rejected", "413"),
            why="an event is a fact, not a document; the log takes 4 KiB of headers beside it",
        ),
        Limit(
            about="message of the log, with its headers",
            value=LOG_MESSAGE_BYTES,
            unit="bytes",
            effect=("not stored",),
            why="the body, and room for traces and ids; the stream `TRADES` takes no more",
        ),
        Limit(
            about="nesting of objects and lists, of unknown fields too",
            value=DEPTH,
            unit="levels",
            effect=_REJECTED,
            why="deeper, it would depend on the stack of a machine whether a body can be read",
        ),
    ),
    "Names on the wire": (
        Limit(
            about="`stream_id` of an account: letters, digits, `_`, `-`",
            value=STREAM_ID_BYTES,
            unit="bytes",
            effect=_REJECTED,
            why="it is a token of subjects and a key of every table",
        ),
        Limit(
            about="token of a symbol: printable ASCII without blank, `.`, `*`, `>`",
            value=TOKEN_BYTES,
            unit="bytes",
            effect=("rejected", "published on _invalid"),
            why="the percent-encoded form of the longest symbol fits",
        ),
        Limit(
            about="subject of an update",
            value=SUBJECT_BYTES,
            unit="bytes",
            effect=("published on _invalid",),
            why="a control line of NATS has 4 096 bytes, with reply and sizes",
        ),
        Limit(
            about="line of a message on the wire: subject, reply, sizes",
            value=CONTROL_LINE_BYTES,
            unit="bytes",
            effect=("not sent",),
            why="for a longer one the broker closes the connection",
        ),
    ),
    "Envelope": (
        Limit(
            about="`event_type`",
            value=EVENT_TYPE_BYTES,
            unit="bytes",
            effect=_REJECTED,
            why="it stands in updates, tables and labels",
        ),
        Limit(
            about="`correlation_id`, `causation_id`, `source_service`, `user_id`",
            value=ENVELOPE_TEXT_BYTES,
            unit="bytes",
            effect=_REJECTED,
            why="an index of PostgreSQL takes 2 704 bytes a row",
        ),
        Limit(
            about="`sequence_number`",
            value=SEQUENCE_NUMBER,
            unit="",
            effect=_REJECTED,
            why="`bigint` of PostgreSQL",
        ),
        Limit(
            about="digits of each part of `schema_version`",
            value=VERSION_DIGITS,
            unit="digits",
            effect=_REJECTED,
            why="more says nothing",
        ),
    ),
    "Fields of payloads": (
        Limit(
            about="digits of a decimal on each side of the point",
            value=DIGITS,
            unit="digits",
            effect=_REFUSED,
            why="sums and products of such numbers are exact in 100 digits",
        ),
        Limit(
            about="text of a decimal",
            value=NUMBER_BYTES,
            unit="bytes",
            effect=_REFUSED,
            why="18 digits, a point, 18 digits, an exponent and zeros in front",
        ),
        Limit(
            about="digits of an exponent",
            value=EXPONENT_DIGITS,
            unit="digits",
            effect=_REFUSED,
            why="no number in range needs more; parsers differ beyond",
        ),
        Limit(
            about="integers",
            value=INTEGER,
            unit="",
            effect=_REFUSED,
            why="`bigint` of PostgreSQL",
        ),
        Limit(
            about="`symbol`",
            value=SYMBOL_BYTES,
            unit="bytes",
            effect=_REFUSED,
            why="percent-encoded, three times as long, it is a token of subjects",
        ),
        Limit(
            about="currencies",
            value=CURRENCY_BYTES,
            unit="bytes",
            effect=_REFUSED,
            why="a name of cash, repeated in every state",
        ),
        Limit(
            about="ids: `order_id`, `fill_id`, `reference`, `transfer_id` and the like",
            value=IDENTIFIER_CHARACTERS,
            unit="characters",
            effect=_REFUSED,
            why="keys of tables and indexes; hashes and signatures of chains have up to 88",
        ),
        Limit(
            about="other names: `strategy_id`, `time_in_force`, `counterparty` and the like",
            value=KEY_BYTES,
            unit="bytes",
            effect=_REFUSED,
            why="keys of tables and indexes",
        ),
        Limit(
            about="text for people, such as `reason`; `actor`",
            value=TEXT_BYTES,
            unit="bytes",
            effect=_REFUSED,
            why="a sentence",
        ),
        Limit(
            about="sealed text, in place of a clear `actor`, `reason` or `counterparty`",
            value=SEALED_BYTES,
            unit="bytes",
            effect=_REFUSED,
            why="what sealing makes of the longest clear text; one that is no sealed text is clear",
        ),
        Limit(
            about="`rates` that an event states",
            value=RATES,
            unit="rates",
            effect=_REFUSED,
            why="an event moves a few assets; each of them is kept with it",
        ),
        Limit(
            about="assets, or tolerances, in one `AccountReported`",
            value=REPORT_NAMES,
            unit="names",
            effect=("rejected",),
            why="more than an account can hold",
        ),
    ),
    "State of an account": (
        Limit(
            about="update that is published",
            value=UPDATE_BYTES,
            unit="bytes",
            effect=(),
            why="follows from what is below; a batch has room for several",
        ),
        Limit(
            about="currencies that it ever had cash in",
            value=ASSETS,
            unit="assets",
            effect=("blocks",),
            why="each stands in every `StateUpdated`, with up to 320 bytes",
        ),
        Limit(
            about="currencies that it owes by `BorrowChanged`",
            value=ASSETS,
            unit="assets",
            effect=("blocks",),
            why="each stands in every `StateUpdated`",
        ),
        Limit(
            about="old symbols that mean another one by `SymbolChanged`",
            value=ALIASES,
            unit="symbols",
            effect=("blocks",),
            why="each is saved with the account, and looked up in every event",
        ),
        Limit(
            about="positions that are not flat",
            value=POSITIONS,
            unit="positions",
            effect=("blocks",),
            why="each is valued, saved and shown with the account",
        ),
        Limit(
            about="orders that may still fill",
            value=OPEN_ORDERS,
            unit="orders",
            effect=("blocks",),
            why="each is saved and shown with the account",
        ),
        Limit(
            about="their names together, as JSON",
            value=IDENTIFIER_BYTES,
            unit="bytes",
            effect=("blocks",),
            why="all of them stand in one document",
        ),
    ),
    "Marks": (
        Limit(
            about="accounts that one core values, by the marks of a second",
            value=100_000,
            unit="values",
            effect=(),
            why="7 µs each; 100 000 accounts that all need a rate are as many at each of its marks",
        ),
        Limit(
            about="step of the valuation clock between two marks, by default",
            value=10_000,
            unit="ms",
            effect=(),
            why="neither a silence nor a leader whose time is wrong publishes everything at once",
        ),
        Limit(
            about="closes of minutes that wait in an account or a position, by default",
            value=8,
            unit="closes",
            effect=(),
            why="a slow slot tells them; it comes after six marks, however long between them",
        ),
    ),
    "Places of a stream": (
        Limit(
            about="how far a `sequence_number` is ahead of its account",
            value=PLACES_AHEAD,
            unit="numbers",
            effect=("rejected",),
            why="a wrong number must not open a gap that nobody closes",
        ),
        Limit(
            about="events that wait for a missing number",
            value=PARKED_EVENTS,
            unit="events",
            effect=("blocks",),
            why="each is in the state; later ones are held in the log",
        ),
        Limit(
            about="numbers that one `SequenceVoided` takes",
            value=VOIDED_NUMBERS,
            unit="numbers",
            effect=("refused",),
            why="an operator's slip stays a small one",
        ),
        Limit(
            about="events, operators' events, fills and references that an account remembers, each",
            value=REMEMBERED,
            unit="identities",
            effect=(),
            why="16 bytes each; an older repeat is found by the archive",
        ),
        Limit(
            about="marks that a correction folds again",
            value=MARKS_REFOLDED,
            unit="marks",
            effect=(),
            why="beyond it the peak stays, flagged `peak_not_restated`",
        ),
    ),
}
"""Heading -> lines of the page, in order."""
