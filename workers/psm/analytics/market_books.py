"""The books of a stream of depth events, and what a view keeps of them.

A pure fold: the messages of the stream in their order, and nothing else, say what comes out.
However they are batched, the last row of each bucket is the same. Its clock is the time at which
the stream stored a message, and never goes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import msgspec

from psm.analytics.depth_events import decode_depth
from psm.analytics.order_book import PROFILES, Level, OrderBook, SavedBook, State, number, top_of
from psm.contracts import codec, limits
from psm.contracts.errors import ConfigError, ContractError
from psm.contracts.subjects import depth_place
from psm.domain.money import published_or_null, published_text

TOP_LEVELS = 20

_SECOND = 1_000_000
BUCKET = _SECOND // 10
"""Microseconds that share a row."""
SAVED_EVERY = 10 * _SECOND
"""Books that changed are saved whole when the clock passes a multiple of this."""
TRIMMED_EVERY = 60 * _SECOND
FORGOTTEN_AFTER = 7 * 24 * 3600 * _SECOND
"""A book without any event for so long is none any more: the stream holds no longer either."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Key = tuple[str, str]
"""Exchange and symbol."""


class VenueRules(msgspec.Struct, frozen=True, kw_only=True):
    """How the books of an exchange are kept.

    Attributes:
        profile: name in `PROFILES`.
        flag_checksums: a checksum that does not fit is counted, and the book stays synced.
    """

    profile: str = "generic"
    flag_checksums: bool = False


class MarketRules(msgspec.Struct, frozen=True, kw_only=True):
    """What decides the rows besides the messages.

    Attributes:
        venues: by exchange; one that is not named and is called like a profile has that profile,
            any other one the generic one.
        keep_s: rows older than this, by the stream's clock, go.
    """

    venues: Mapping[str, VenueRules] = {}
    keep_s: int = 3_600

    @classmethod
    def of(cls, venues: Iterable[str], keep_s: int) -> MarketRules:
        """Return rules from settings: `exchange=profile` or `exchange=profile:flag` each.

        Raises:
            ConfigError: one is not of that form, or names no profile.
        """
        found = {}
        for text in venues:
            exchange, _, rest = text.partition("=")
            profile, _, checksums = rest.partition(":")
            if not exchange or profile not in PROFILES or checksums not in ("", "resync", "flag"):
                raise ConfigError(
                    f"PSM_MARKET_VENUES: {text!r} is not exchange=profile or "
                    f"exchange=profile:flag; profiles are {', '.join(PROFILES)}"
                )
            found[exchange] = VenueRules(profile=profile, flag_checksums=checksums == "flag")
        return cls(venues=found, keep_s=keep_s)

    def of_exchange(self, exchange: str) -> VenueRules:
        """Return the rules of an exchange."""
        named = exchange if exchange in PROFILES else "generic"
        return self.venues.get(exchange, VenueRules(profile=named))


DEFAULT_RULES = MarketRules()


class BookRow(msgspec.Struct, frozen=True, kw_only=True):
    """A book at the end of a bucket, or as far as the bucket was read.

    Attributes:
        bucket: begin of the bucket, RFC 3339.
        since: when the book came into this state, or its last snapshot: nothing in a row depends on
            what was before that, so a stream that holds it gives the row again.
        market_sequence: of the last event in it, in the stream.
        bids, asks: the best levels, the best first, as the venue wrote them; none unless synced.
        bid_levels, ask_levels: how many there are in all.
        top_hash: SHA-256 of the levels in canonical form, hex; see `top_hash`.
        checksum_failures, unread: events since its last snapshot whose checksum did not fit, and
            that could not be read.
        forgotten: there is no such book any more.
    """

    exchange: str
    symbol: str
    bucket: str
    log_time: str
    state: State
    since: str
    market_sequence: int
    last_id: int | None = None
    bids: list[Level] = []
    asks: list[Level] = []
    bid_levels: int = 0
    ask_levels: int = 0
    mid: str | None = None
    spread: str | None = None
    microprice: str | None = None
    imbalance: str | None = None
    top_hash: str | None = None
    checksum_failures: int = 0
    unread: int = 0
    forgotten: bool = False


class BookSaved(msgspec.Struct, frozen=True, kw_only=True):
    """All of a book, as of before a message: who restores takes the stream from that message on.

    Attributes:
        market_sequence: of that message.
        saved: what `MarketBooks.restore` takes; empty of a book that was not saved yet.
        forgotten: there is no such book any more.
    """

    exchange: str
    symbol: str
    market_sequence: int
    log_time: str
    saved: str = ""
    forgotten: bool = False


class RowsTrimmed(msgspec.Struct, frozen=True, kw_only=True):
    """Buckets that begin before a time are kept no longer."""

    before: str
    log_time: str


MarketChange = BookRow | BookSaved | RowsTrimmed


class _Kept(msgspec.Struct, frozen=True):
    book: SavedBook
    time: int
    since: int
    sequence: int
    unread: int


class _Followed:
    """A book with its times."""

    def __init__(self, key: Key, venue: VenueRules, time: int) -> None:
        self.key = key
        self.book = OrderBook(PROFILES[venue.profile], flag_checksums=venue.flag_checksums)
        self.time = self.since = time
        self.sequence = 0
        self.unread = 0

    def take(self, sequence: int, time: int, data: bytes) -> None:
        before: State | None = self.book.state
        try:
            named = decode_depth(data)
            if named.exchange not in ("", self.key[0]) or named.symbol not in ("", self.key[1]):
                raise ContractError("stream_mismatch", "the subject names another book")
        except ContractError:
            self.unread += 1
            self.book.lose()
        else:
            self.book.take(named.event)
            if named.event.kind == "snapshot":
                self.unread, before = 0, None
        self.sequence, self.time = sequence, time
        if self.book.state != before:
            self.since = time

    def lose(self, time: int) -> None:
        self.book.lose()
        self.time = self.since = time

    def row(self) -> BookRow:
        exchange, symbol = self.key
        row = BookRow(
            exchange=exchange,
            symbol=symbol,
            bucket=moment(_floor(self.time, BUCKET)),
            log_time=moment(self.time),
            state=self.book.state,
            since=moment(self.since),
            market_sequence=self.sequence,
            last_id=self.book.last_id,
            checksum_failures=self.book.checksum_failures,
            unread=self.unread,
        )
        if self.book.state != "synced":
            return row
        figures = top_of(self.book)
        bids, asks = self.book.bids.best(TOP_LEVELS), self.book.asks.best(TOP_LEVELS)
        return msgspec.structs.replace(
            row,
            bids=bids,
            asks=asks,
            bid_levels=len(self.book.bids.prices),
            ask_levels=len(self.book.asks.prices),
            mid=published_or_null(figures.mid),
            spread=published_or_null(figures.spread),
            microprice=published_or_null(figures.microprice),
            imbalance=published_or_null(figures.imbalance),
            top_hash=top_hash(bids, asks),
        )

    def saved(self, sequence: int) -> BookSaved:
        kept = _Kept(self.book.saved(), self.time, self.since, self.sequence, self.unread)
        return BookSaved(
            exchange=self.key[0],
            symbol=self.key[1],
            market_sequence=sequence,
            log_time=moment(self.time),
            saved=codec.encode(kept).decode(),
        )

    def restore(self, text: str) -> None:
        kept = msgspec.json.decode(text, type=_Kept)
        self.book.restored(kept.book)
        self.time, self.since = kept.time, kept.since
        self.sequence, self.unread = kept.sequence, kept.unread


class MarketBooks:
    """Every book of the stream. Feed it every message once, in order."""

    def __init__(self, rules: MarketRules) -> None:
        self._rules = rules
        self._books: dict[Key, _Followed] = {}
        self._changed: dict[Key, None] = {}
        self._unsaved: dict[Key, None] = {}
        self._clock = 0

    def restore(self, saved: Iterable[BookSaved]) -> int:
        """Take what was saved; return the sequence from which on all messages must be taken.

        All that changed is saved at once, so nothing that is needed stands before the newest. A
        book that was not saved has all its messages behind that.
        """
        newest = 0
        for one in saved:
            followed = self._follow((one.exchange, one.symbol))
            if not one.saved:
                followed.time = _microseconds(one.log_time)
                continue
            followed.restore(one.saved)
            self._clock = max(self._clock, followed.time)
            newest = max(newest, one.market_sequence)
        return newest

    def lose(self) -> None:
        """Know that messages are missing: every book waits for its next snapshot."""
        for key, followed in self._books.items():
            followed.lose(max(self._clock, followed.time))
            self._changed[key] = None

    def take(self, sequence: int, time: int, subject: str, data: bytes) -> list[MarketChange]:
        """Take a message; return what is to be written of what was before it.

        Args:
            sequence: in the stream.
            time: when the stream stored it, microseconds since 1970.
            subject: as stored; one that names no book is passed over.
            data: its bytes; what cannot be read is a change that is missing.
        """
        key = depth_place(subject)
        if key is None or not _is_name(key):
            return []
        changes = self._turn(sequence, time)
        followed = self._follow(key)
        if key in self._changed and _crossed(followed.time, self._clock, BUCKET):
            changes.append(followed.row())
        followed.take(sequence, self._clock, data)
        self._changed[key] = self._unsaved[key] = None
        return changes

    def settle(self) -> list[MarketChange]:
        """Return the rows of the books that changed; their buckets may go on."""
        rows: list[MarketChange] = [self._books[key].row() for key in self._changed]
        self._changed = {}
        return rows

    def _follow(self, key: Key) -> _Followed:
        followed = self._books.get(key)
        if followed is None:
            followed = _Followed(key, self._rules.of_exchange(key[0]), self._clock)
            self._books[key] = followed
        return followed

    def _turn(self, sequence: int, time: int) -> list[MarketChange]:
        """Move the clock; return what is due as of before a message."""
        before, self._clock = self._clock, max(self._clock, time)
        changes: list[MarketChange] = []
        if not before:
            return changes
        if _crossed(before, self._clock, SAVED_EVERY):
            changes.extend(self._books[key].saved(sequence) for key in self._unsaved)
            self._unsaved = {}
        if _crossed(before, self._clock, TRIMMED_EVERY):
            changes.extend(self._forget(sequence))
            begin = _floor(self._clock, TRIMMED_EVERY) - int(self._rules.keep_s) * 1_000_000
            changes.append(RowsTrimmed(before=moment(begin), log_time=moment(self._clock)))
        return changes

    def _forget(self, sequence: int) -> list[MarketChange]:
        """Let go of the books of which nothing came for long."""
        gone = [
            followed
            for followed in self._books.values()
            if int(self._clock) - followed.time > FORGOTTEN_AFTER
        ]
        changes: list[MarketChange] = []
        for followed in gone:
            del self._books[followed.key]
            row = followed.row()
            if self._changed.pop(followed.key, followed) is None:
                changes.append(row)
            changes.append(msgspec.structs.replace(row, forgotten=True))
            changes.append(
                BookSaved(
                    exchange=row.exchange,
                    symbol=row.symbol,
                    market_sequence=sequence,
                    log_time=row.log_time,
                    forgotten=True,
                )
            )
        return changes


def top_hash(bids: list[Level], asks: list[Level]) -> str:
    """Return SHA-256 of levels in canonical form, hex.

    It is over JSON without blanks, {"asks":[[price,quantity],...],"bids":[...]}, numbers without
    needless zeros: two who follow a book agree whatever form their venue's numbers have.
    """
    form = {"asks": [_plain(level) for level in asks], "bids": [_plain(level) for level in bids]}
    return sha256(codec.encode(form)).hexdigest()


def moment(time: int) -> str:
    """Return microseconds since 1970 as RFC 3339, in UTC."""
    at = _EPOCH + timedelta(microseconds=time)
    return f"{at.isoformat(timespec='microseconds').removesuffix('+00:00')}Z"


def _floor(time: int, length: int) -> int:
    """Return the begin of the span of a length in which a time lies."""
    return int(time) - int(time) % length


def _crossed(before: int, after: int, length: int) -> bool:
    """Return whether two times lie in different spans."""
    return _floor(before, length) != _floor(after, length)


def _microseconds(moment: str) -> int:
    return (datetime.fromisoformat(moment) - _EPOCH) // timedelta(microseconds=1)


def _plain(level: Level) -> Level:
    return published_text(number(level[0])), published_text(number(level[1]))


def _is_name(key: Key) -> bool:
    exchange, symbol = key
    return (
        bool(exchange and symbol)
        and codec.is_text(exchange, limits.KEY_BYTES)
        and codec.is_text(symbol, limits.SYMBOL_BYTES)
    )
