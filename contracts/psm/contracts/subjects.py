"""Names on the wire: subjects, tokens, partitions and stream ids.

A producer publishes `trades.<stream_id>`; the broker stores it as
`trades.<partition>.<stream_id>`. Updates are published to `_psm.<kind>.<verb>.<p>.<id>`,
stored as `psm.<kind>.<verb>.<p>.<id>` and republished as `psm.<kind>.<verb>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

STREAM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
STREAM_ID_RULE = "1 to 64 letters, digits, _ or -"

_FILTERS_MAX = 100
_FNV_OFFSET = 0x811C9DC5
_FNV_PRIME = 0x01000193
# What NATS forbids or treats specially in a token, and `%` itself so that decoding is exact.
_UNSAFE = re.compile(r"[^A-Za-z0-9_\-+=:@!~,;]")
_ENCODED = re.compile(r"%([0-9A-F]{2})")


@lru_cache(maxsize=65536)
def is_stream_id(text: str) -> bool:
    """Return whether `text` may name a stream."""
    return STREAM_ID.fullmatch(text) is not None


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
    """Return the partition the broker gives `token`: FNV-1a (32 bit) modulo `partitions`."""
    value = _FNV_OFFSET
    for byte in token.encode():
        value = ((value ^ byte) * _FNV_PRIME) & 0xFFFFFFFF
    return value % partitions


def trades(stream_id: str) -> str:
    """Return the subject to which a producer publishes this account's events."""
    return f"trades.{stream_id}"


def stored_trades(stream_id: str, partitions: int) -> str:
    """Return the subject under which the log keeps this account's events."""
    return f"trades.{partition_of(stream_id, partitions)}.{stream_id}"


def partition_filters(partition: int) -> list[str]:
    """Return the log subjects that one partition reads; they do not overlap."""
    return [f"trades.{partition}.*", "marks.*", "instruments.*", "control.*"]


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
    return [stored_trades(stream_id, partitions), *wanted, "instruments.*", "control.*"]


def update(kind: str, partition: int, stream_id: str) -> str:
    """Return the durable subject of an update; `kind` is such as `position.updated`."""
    return f"psm.{kind}.{partition}.{stream_id}"


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


# --- recorded subjects: kept for audit and replay, never folded ----------------------------------


def ticker(symbol: str) -> str:
    """Return the subject of a symbol's ticks."""
    return f"marketdata.ticker.{encode_token(symbol)}"


def candle(symbol: str, timeframe: str) -> str:
    """Return the subject of a symbol's candles."""
    return f"marketdata.candle.{encode_token(symbol)}.{encode_token(timeframe)}"


def signal(strategy_id: str, symbol: str) -> str:
    """Return the subject of a strategy's signals."""
    return f"signals.strategy.{encode_token(strategy_id)}.{encode_token(symbol)}"


def risk_decision(account_id: str) -> str:
    """Return the subject of the risk decisions of an account."""
    return f"risk.decision.{encode_token(account_id)}"


def risk_alert(severity: str) -> str:
    """Return the subject of alerts."""
    return f"risk.alert.{encode_token(severity)}"


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
