"""An account of the log as an importer needs it: what it has, what comes next, what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from nats.aio.client import Client

from psm.adapters import postgres
from psm.contracts.codec import decode_envelope
from psm.contracts.errors import ConfigError, ConflictError, ContractError
from psm.domain.account import Account
from psm.domain.messages import LogMessage, Outcome, Placement
from psm.projections.archive.keys import BusinessKey, business_key
from psm.projections.sql import load
from psm.workers.imports.facts import VenueInstrument
from psm.workers.imports.known import Known
from psm.workers.imports.rows import micros
from psm.workers.log.reader import last_log_sequence
from psm.workers.log.refold import Progress, refold_stream
from psm.workers.log.shape import LogShape

_QUERIES = load("psm.projections.archive", "reads")


class AccountLog:
    """One account's part of the log, folded without marks; `read` takes what came since.

    Attributes:
        account: its name.
        known: identities of its events.
        last_time_us: the latest time that one of its booked events has; None before the first.
    """

    def __init__(self, nc: Client, shape: LogShape, account: str) -> None:
        """Nothing is read yet."""
        self.account = account
        self.books = shape.books()
        self.known = Known()
        self.last_time_us: int | None = None
        self._nc = nc
        self._keys: dict[int, BusinessKey | None] = {}

    async def read(self, progress: Progress | None = None) -> None:
        """Take all that the log has by now.

        Raises:
            ConflictError: the account waits for a number or for an operator.
        """
        last = await last_log_sequence(self._nc)
        async for replayed in refold_stream(
            self._nc,
            self.books,
            self.account,
            last,
            marks=(),
            emit="nothing",
            progress=progress,
        ):
            if replayed.message.stream_id == self.account:
                self._keys[replayed.message.log_sequence] = _key_of(replayed.message)
            for placement in replayed.result.placements:
                if placement.stream_id == self.account:
                    self._take(placement)
        self._check()

    async def read_archive(self, pool: postgres.Pool) -> None:
        """Take the identities that the archive has, of events that left the log too."""
        async with postgres.acquired(pool) as connection:
            for row in await connection.fetch(_QUERIES["event_ids_of"], self.account):
                self.known.add(row["event_id"], None)
            for row in await connection.fetch(_QUERIES["keys_of"], self.account):
                key = BusinessKey(kind=row["kind"], key=row["key"], symbol=row["symbol"])
                self.known.add(None, key)

    @property
    def next_number(self) -> int:
        """The number that the next event gets."""
        return 1 if self._state is None else self._state.delivery.version + 1

    @property
    def currency(self) -> str | None:
        """The account's currency; None before it was opened."""
        return None if self._state is None else self._state.ledger.currency

    @property
    def instruments(self) -> dict[str, VenueInstrument]:
        """What the log defines, by symbol."""
        return {
            symbol: VenueInstrument(
                symbol=symbol,
                kind=defined.kind,
                base=defined.base,
                quote=defined.quote,
                settle=defined.settle,
                multiplier=defined.multiplier,
            )
            for symbol, defined in self.books.market.instruments.items()
        }

    @property
    def _state(self) -> Account | None:
        return self.books.accounts.get(self.account)

    def _take(self, placement: Placement) -> None:
        """Take an event that got its place; the venue's name counts only where it was booked."""
        key = self._keys.pop(placement.log_sequence, None)
        applied = placement.outcome is Outcome.APPLIED
        self.known.add(placement.event_id, key if applied else None)
        self.known.currency = self.currency
        if applied:
            time = micros(datetime.fromisoformat(placement.timestamp))
            self.last_time_us = max(time, self.last_time_us or 0)

    def _check(self) -> None:
        status = "open" if self._state is None else self._state.delivery.status
        if status != "open":
            raise ConflictError(
                f"account {self.account} is {status}, and what is appended would wait behind that: "
                "see `psm dlq list`"
            )


def check_currency(log: AccountLog, opened: str | None) -> str:
    """Return the currency of the account, as it is or as it will be opened.

    Raises:
        ConfigError: it does not exist and is not to be opened, or exists in another currency.
    """
    if log.currency is None and opened is None:
        raise ConfigError(
            f"there is no account {log.account}: append its AccountOpened first, or give its "
            "currency with --open"
        )
    if log.currency is not None and opened not in (None, log.currency):
        raise ConfigError(f"account {log.account} is in {log.currency}, not in {opened}")
    return log.currency or str(opened)


def conflicts(
    said: Mapping[str, VenueInstrument], defined: Mapping[str, VenueInstrument]
) -> dict[str, VenueInstrument]:
    """Return the instruments that the log defines in another way than the files say."""
    return {
        symbol: instrument
        for symbol, instrument in said.items()
        for known in [defined.get(symbol)]
        if known is not None and _form(known) != _form(instrument)
    }


def _form(instrument: VenueInstrument) -> tuple[str, str, str, str, Decimal]:
    return (
        instrument.kind,
        instrument.base,
        instrument.quote,
        instrument.settle,
        instrument.multiplier,
    )


def _key_of(message: LogMessage) -> BusinessKey | None:
    try:
        return business_key(decode_envelope(message.data).event_type, message.data)
    except ContractError:
        return None
