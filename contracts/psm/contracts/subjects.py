"""Names on the wire: subjects, tokens, partitions and stream ids.

A producer publishes `trades.<stream_id>`; the broker stores it as
`trades.<partition>.<stream_id>`. Operators' tools publish `repair.<partition>.<stream_id>` and
compute the partition themselves: who may repair is a right of its own. Updates are published to
`_psm.<kind>.<verb>.<p>.<id>`, stored as `psm.<kind>.<verb>.<p>.<id>` and republished as
`psm.<kind>.<verb>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from psm.contracts import limits
from psm.contracts.errors import ContractError

TRADES, PSM, SNAPSHOTS, OPS = "TRADES", "PSM", "SNAPSHOTS", "OPS"
MARKETDATA, SIGNALS, RISK = "MARKETDATA", "SIGNALS", "RISK"
ORDERS, FILLS = "ORDERS", "FILLS"
HEALTH, RULEBOOK = "HEALTH", "RULEBOOK"
"""Names of streams: log, updates, snapshots, operations, what is recorded, health, rules."""
HEALTH_LOG = "health.log"
"""Subject of the canary: a write beside the log that shows whether the broker takes any."""

STREAM_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{limits.STREAM_ID_BYTES}}}")
STREAM_ID_RULE = f"1 to {limits.STREAM_ID_BYTES} letters, digits, _ or -"
TOKEN = re.compile(rf"[!-)+\-/-=?-~]{{1,{limits.TOKEN_BYTES}}}")  # all of ASCII but controls " .*>"
TOKEN_RULE = f"1 to {limits.TOKEN_BYTES} printable ASCII characters, none of them blank . * >"

OF_STREAMS = ("trades", "repair")
"""First tokens of the subjects of the log that belong to one stream: events, and repairs."""
REPAIRS = "repair."
"""Begin of the subjects of operators' events."""
OF_MARKET = ("marks", "instruments", "collateral")
"""First tokens of those that are of a symbol or an asset."""
OF_ALL = (*OF_MARKET, "control")
"""First tokens of those that every partition reads."""
LOG_HEADS = (*OF_STREAMS, *OF_ALL)
"""First tokens of the subjects of the log."""

_FILTERS_MAX = 100
_FNV_OFFSET = 0x811C9DC5
_FNV_PRIME = 0x01000193
# What NATS forbids or treats specially in a token, and `%` itself so that decoding is exact.
_UNSAFE = re.compile(r"[^A-Za-z0-9_\-+=:@!~,;]")
_ENCODED = re.compile(r"%([0-9A-F]{2})")


@lru_cache(maxsize=65536)
def is_token(text: str) -> bool:
    """Return whether `text` may be the free token of any subject: an account, an encoded symbol."""
    return TOKEN.fullmatch(text) is not None


def check_subject(subject: str) -> None:
    """Make sure that a message can be published to a subject, and that a client can show it.

    Raises:
        ContractError: it has an empty token, one that is no token, or is too long.
    """
    if len(subject) > limits.SUBJECT_BYTES or not all(map(is_token, subject.split("."))):
        raise ContractError(
            "invalid_subject",
            f"a subject is tokens of printable ASCII with a point between them, "
            f"at most {limits.SUBJECT_BYTES} bytes",
            "subject",
        )


def token_bytes(token: str) -> bytes:
    """Return a token as it stood in the subject, also where that was no UTF-8."""
    return token.encode(errors="surrogateescape")


def printable(subject: str) -> str:
    """Return a subject as text that can be stored and shown, whatever bytes it was made of."""
    return token_bytes(subject).decode(errors="backslashreplace").replace("\0", "\\x00")


@lru_cache(maxsize=65536)
def is_stream_id(text: str) -> bool:
    """Return whether `text` may name a stream."""
    return STREAM_ID.fullmatch(text) is not None


def head_of(subject: str) -> str:
    """Return the first token of a subject."""
    return subject.partition(".")[0]


@lru_cache(maxsize=65536)
def log_subject(subject: str) -> tuple[str, str]:
    """Return (kind, token) of a subject of the log: `trades` and the stream, `marks` and a symbol.

    `trades.7.acc_001` and `trades.acc_001` give the same; an operator's event gives `repair` and
    the stream.
    """
    kind, _, rest = subject.partition(".")
    return kind, rest.rpartition(".")[2]


def published(stored: str) -> str:
    """Return the subject a producer publishes to: without the partition the broker put in."""
    head, _, rest = stored.partition(".")
    return f"{head}.{rest.partition('.')[2]}" if head == "trades" else stored


def expression_of(pattern: str) -> str:
    """Return the regular expression, of Python and of PostgreSQL, of a pattern of subjects."""
    tokens = {"*": "[^.]+", ">": ".+"}
    return "^" + r"\.".join(tokens.get(one) or re.escape(one) for one in pattern.split(".")) + "$"


def last_token(subject: str) -> str:
    """Return what a subject ends with: an account, an encoded symbol, a partition."""
    return subject.rpartition(".")[2]


@lru_cache(maxsize=65536)
def encode_token(text: str) -> str:
    """Return `text` as one subject token, percent-encoded where NATS forbids a character.

    `BRK.B` becomes `BRK%2EB`. Bytes are those of UTF-8, hex digits are upper case.
    """
    return _UNSAFE.sub(lambda m: "".join(f"%{b:02X}" for b in m[0].encode()), text)


@lru_cache(maxsize=65536)
def decode_token(token: str) -> str:
    """Return the text that `encode_token` made `token` from.

    Raises:
        ValueError: `token` is not the encoding of any text.
    """
    raw = _ENCODED.sub(lambda m: chr(int(m[1], 16)), token).encode("latin-1")
    text = raw.decode()
    if encode_token(text) != token:
        raise ValueError(f"{token!r} is not an encoded token")
    return text


@lru_cache(maxsize=262144)
def partition_of(token: str, partitions: int) -> int:
    """Return the partition the broker gives `token`: FNV-1a (32 bit) modulo `partitions`.

    Bytes that are no UTF-8 stand in `token` as `surrogateescape` decodes them.
    """
    return fnv1a(token) % partitions


def fnv1a(token: str) -> int:
    """Return FNV-1a (32 bit) of a token's bytes, as the broker sees them."""
    value = _FNV_OFFSET
    for byte in token_bytes(token):
        value = ((value ^ byte) * _FNV_PRIME) & 0xFFFFFFFF
    return value


def trades(stream_id: str) -> str:
    """Return the subject to which a producer publishes this account's events."""
    return f"trades.{stream_id}"


def stored(kind: str, stream_id: str, partitions: int) -> str:
    """Return the subject under which the log keeps what is a stream's: `trades` or `repair`."""
    return f"{kind}.{partition_of(stream_id, partitions)}.{stream_id}"


def stored_trades(stream_id: str, partitions: int) -> str:
    """Return the subject under which the log keeps this account's events."""
    return stored("trades", stream_id, partitions)


def repair(stream_id: str, partitions: int) -> str:
    """Return the subject of operators' events about a stream: published and stored alike."""
    return stored("repair", stream_id, partitions)


def stream_subjects(stream_id: str, partitions: int) -> list[str]:
    """Return the log subjects that belong to one stream, as stored: its events, its repairs."""
    return [stored_trades(stream_id, partitions), repair(stream_id, partitions)]


def either_of_stream(stream_id: str, partition: int) -> str:
    """Return the one pattern that matches both, for requests that take a single subject.

    Nothing else of the log has three tokens.
    """
    return f"*.{partition}.{stream_id}"


def partition_filters(partition: int) -> list[str]:
    """Return the log subjects that one partition reads; they do not overlap."""
    own = [f"{head}.{partition}.*" for head in OF_STREAMS]
    return [*own, *(f"{head}.*" for head in OF_ALL)]


def stream_filters(
    stream_id: str, partitions: int, marks: Sequence[str] | None = None
) -> list[str]:
    """Return the log subjects that decide the state of one account, and no other account's.

    Args:
        stream_id: the account.
        partitions: of the log.
        marks: symbols whose marks are wanted; None for all. Many are asked for as all, because
            the broker reads long lists of subjects slowly.
    """
    wanted = ["marks.*"]
    if marks is not None and len(marks) <= _FILTERS_MAX:
        wanted = [f"marks.{encode_token(symbol)}" for symbol in marks]
    others = [f"{head}.*" for head in OF_ALL if head != "marks"]
    return [*stream_subjects(stream_id, partitions), *wanted, *others]


def update(kind: str, partition: int, stream_id: str) -> str:
    """Return the durable subject of an update; `kind` is such as `position.updated`."""
    return f"psm.{kind}.{partition}.{stream_id}"


def update_place(durable: str) -> tuple[str, int, str]:
    """Return (kind such as `position.updated`, partition, stream) of an update's subject.

    Raises:
        ValueError: it is no subject of an update.
    """
    _, noun, verb, partition, stream_id = durable.split(".", 4)
    return f"{noun}.{verb}", int(partition), stream_id


def cursor(partition: int) -> str:
    """Return the durable subject of a partition's commit cursor."""
    return f"psm.cursor.{partition}"


def checkpoint(partition: int) -> str:
    """Return the subject of a partition's checkpoint."""
    return f"snapshots.{partition}"


def snapshot(partition: int, stream_id: str) -> str:
    """Return the subject of one account's snapshots."""
    return f"snapshots.{partition}.{stream_id}"


def entrance(durable: str) -> str:
    """Return the private subject to publish to, so that `durable` is what the stream stores."""
    return f"_{durable}"


def rulebook(scope: str, name: str) -> str:
    """Return the subject of rules about a scope, or of a table, by its name."""
    return f"rulebook.{scope}.{encode_token(name)}"


# --- recorded subjects: kept for audit and replay, never folded ----------------------------------


def ticker(symbol: str) -> str:
    """Return the subject of a symbol's ticks."""
    return f"marketdata.ticker.{encode_token(symbol)}"


def candle(symbol: str, timeframe: str) -> str:
    """Return the subject of a symbol's candles."""
    return f"marketdata.candle.{encode_token(symbol)}.{encode_token(timeframe)}"


def depth(exchange: str, symbol: str) -> str:
    """Return the subject of snapshots of an order book and of changes to it."""
    return f"marketdata.depth.{encode_token(exchange)}.{encode_token(symbol)}"


ALL_DEPTH = "marketdata.depth.*.*"
"""Pattern of the subjects of all order books."""


@lru_cache(maxsize=65536)
def depth_place(subject: str) -> tuple[str, str] | None:
    """Return exchange and symbol whose book a subject is about; None of another subject."""
    try:
        head, kind, exchange, symbol = subject.split(".")
        place = decode_token(exchange), decode_token(symbol)
    except ValueError:
        return None
    return place if (head, kind) == ("marketdata", "depth") else None


def signal(strategy_id: str, symbol: str) -> str:
    """Return the subject of a strategy's signals."""
    return f"signals.strategy.{encode_token(strategy_id)}.{encode_token(symbol)}"


def risk_decision(account_id: str) -> str:
    """Return the subject of the risk decisions of an account."""
    return f"risk.decision.{encode_token(account_id)}"


def risk_alert(severity: str) -> str:
    """Return the subject of alerts."""
    return f"risk.alert.{encode_token(severity)}"


def risk_halt(scope: str) -> str:
    """Return the subject of what the risk engine halted in a scope."""
    return f"risk.halt.{encode_token(scope)}"


def risk_release(account_id: str) -> str:
    """Return the subject of an account that its group gave up."""
    return f"risk.release.{encode_token(account_id)}"


def order_command(account_id: str) -> str:
    """Return the subject of an account's orders to execution."""
    return f"orders.command.{encode_token(account_id)}"


def order_status(order_id: str) -> str:
    """Return the subject of what the venue says of an order."""
    return f"orders.status.{encode_token(order_id)}"


def exchange_fill(exchange: str, symbol: str) -> str:
    """Return the subject of fills as an exchange reported them."""
    return f"fills.exchange.{encode_token(exchange)}.{encode_token(symbol)}"


def internal_fill(order_id: str) -> str:
    """Return the subject of what an order's fills did to the position."""
    return f"fills.internal.{encode_token(order_id)}"


# --- records of the risk engine: published to `_risk.>`, stored as `risk.<kind>.<slot>.<key>` -----

RISK_KINDS = ("decision", "alert", "halt", "release")
"""Kinds of records that a slot's chain is made of."""
_RECORD = "risk.kind.slot.key"

RISK_CHECK = "psm.risk.check"
"""Where one asks for a decision; its answer comes when the decision is stored."""


def risk_record(kind: str, slot: int, key: str) -> str:
    """Return the durable subject of a record; `key` is an account, a severity, a scope.

    The broker republishes it as `psm.risk.<kind>.<key>` when it is stored.
    """
    return f"risk.{kind}.{slot}.{encode_token(key)}"


def risk_republished(kind: str, key: str) -> str:
    """Return the subject on which a record is heard once it is stored."""
    return f"psm.risk.{kind}.{encode_token(key)}"


def risk_owner(slot: int) -> str:
    """Return the durable subject of a slot's owner records: each record of the slot expects it."""
    return f"risk.owner.{slot}.record"


def risk_checkpoint(slot: int, part: int) -> str:
    """Return the durable subject of a part of a checkpoint that is too large for its record."""
    return f"risk.owner.{slot}.checkpoint.{part}"


def risk_slot(slot: int) -> str:
    """Return the pattern of everything stored of one slot."""
    return f"risk.*.{slot}.>"


def risk_kind(stored_subject: str) -> str:
    """Return what a stored record is: `decision`, `alert`, `halt`, `release`, `owner`."""
    return stored_subject.split(".", 2)[1]


def is_risk_record(stored_subject: str) -> bool:
    """Return whether this is a record of a slot's chain, and not an owner's or what others say."""
    tokens = stored_subject.split(".")
    return len(tokens) == len(_RECORD.split(".")) and tokens[1] in RISK_KINDS


def risk_known(slot: int) -> str:
    """Return the subject of SNAPSHOTS that remembers for ever that a slot was owned."""
    return f"snapshots.risk.{slot}"
