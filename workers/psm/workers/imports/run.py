"""One import: read, leave out what is known, append the rest, compare.

Nothing is appended before every file was read without an error. Each event is appended under the
number that follows what was read of the account; whoever was faster makes that a conflict, and then
what came is read first. So an import that was killed anywhere is repeated, and ends as one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

import msgspec
from nats.aio.client import Client

from psm.adapters import postgres
from psm.contracts import subjects
from psm.contracts.codec import encode
from psm.contracts.drafts import draft_of
from psm.contracts.errors import ConfigError, ConflictError, PSMError
from psm.contracts.publisher import Publisher
from psm.contracts.registry import SCHEMA_VERSION
from psm.contracts.subjects import encode_token
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.messages import LogMessage, NeedHistory
from psm.projections.people import owner_pseudonym, pseudonyms
from psm.workers.imports.account import AccountLog, check_currency, conflicts
from psm.workers.imports.comparison import ImportComparison, compare_files
from psm.workers.imports.facts import Found, VenueFact, VenueInstrument
from psm.workers.imports.plan import (
    SERVICE,
    ImportPlan,
    Owner,
    Planned,
    opening_event,
    ordered,
    plan,
    report_event,
)
from psm.workers.imports.rows import rfc3339
from psm.workers.log.need_history import fold_with_history
from psm.workers.log.reader import read_history
from psm.workers.log.shape import LogShape
from psm.workers.process.crash_points import crash_point

Stage = Callable[[str, int, int], None]
"""Told what is going on, how much is done of it, and how much there is."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What an import is to do.

    Attributes:
        account: of the log.
        venue: of the files.
        late: whether events may be older than the account's last one.
        currency: to open the account in, where it does not exist.
        define: whether to publish the instruments that the log lacks.
        dry_run: whether to append nothing.
    """

    account: str
    venue: str
    late: bool = False
    currency: str | None = None
    define: bool = False
    dry_run: bool = False


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of an import.

    Attributes:
        plan: what was, or would be, appended.
        appended: how many events were.
        instruments: payloads of definitions that were, or would be, published.
        comparison: of the account behind it with what the files report.
    """

    plan: ImportPlan
    appended: int
    instruments: list[dict[str, Any]]
    comparison: ImportComparison


class Importer:
    """Brings what files say into one account of a log."""

    def __init__(
        self, nc: Client, pool: postgres.Pool, shape: LogShape, asked: Asked, stage: Stage
    ) -> None:
        """Nothing is read yet."""
        self._nc, self._pool, self._shape = nc, pool, shape
        self._asked, self._stage = asked, stage
        self._log = AccountLog(nc, shape, asked.account)

    async def run(self, found: Found) -> Imported:
        """Import what files say.

        Raises:
            ConfigError: the account, an instrument or an option is missing.
            ConflictError: the account is not as the files presume.
            ContractError: an event would be refused for its form.
        """
        await self._log.read(lambda at, last: self._stage("read the account", at, last))
        await self._log.read_archive(self._pool)
        currency = check_currency(self._log, self._asked.currency or found.currency)
        instruments = self._instruments(found)
        owner, pseudonym_of = await self._owner(found, currency)
        planned = plan(found.facts, owner, self._log.known, instruments, pseudonym_of)
        opening = self._opening(owner, planned)
        self._check(planned)
        new = [*opening, *planned.new]
        definitions = self._missing(found, instruments, new)
        for event in (*map(definition, definitions), *(one.event for one in new)):
            draft_of(encode(event))  # nothing is appended if one would be refused for its form
        facts = ordered(found.facts, owner)
        if self._asked.dry_run:
            account = await self._account_after(definitions, new)
            compared = self._compared(found, facts, account)
            return Imported(plan=planned, appended=0, instruments=definitions, comparison=compared)
        async with Publisher(self._nc) as publisher:
            await self._define(publisher, definitions)
            appended = await self._append(publisher, new)
            await self._log.read()
            compared = self._compared(found, facts, self._account(self._log.books))
            await self._report(publisher, compared, owner)
        return Imported(
            plan=planned,
            appended=appended,
            instruments=definitions,
            comparison=compared,
        )

    def _instruments(self, found: Found) -> dict[str, VenueInstrument]:
        """Return what is defined and what files say; the log counts."""
        defined = self._log.instruments
        other = conflicts(found.instruments, defined)
        for symbol, said in other.items():
            known = defined[symbol]
            raise ConflictError(
                f"{symbol} is defined as {known.kind} of {known.base} in {known.quote}, and the "
                f"files say {said.kind} of {said.base} in {said.quote}: a symbol is one instrument"
            )
        for symbol, place in found.undefined.items():
            if symbol not in defined and symbol not in found.instruments:
                raise ConfigError(
                    f"{place}: {symbol} is not defined, and only the venue knows what it is: add "
                    "its file of instruments, or publish its InstrumentDefined"
                )
        return {**found.instruments, **defined}

    async def _owner(self, found: Found, currency: str) -> tuple[Owner, Callable[[str], str]]:
        """Return whose facts they are, and what stands for foreign identities.

        A dry run leaves nothing: pseudonyms that it made are forgotten.
        """
        if len(found.owners) > 1:
            raise ConfigError(
                f"the files are of {len(found.owners)} accounts of the venue: import each into an "
                "account of its own"
            )
        identity = next(iter(found.owners), None)
        foreign = {name for fact in found.facts for name in fact.person.values()}
        venue, account = self._asked.venue, self._asked.account
        async with postgres.acquired(self._pool) as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                own = await owner_pseudonym(connection, venue, account, identity)
                others = await pseudonyms(connection, venue, foreign)
            except PSMError:
                await transaction.rollback()
                raise
            if self._asked.dry_run:
                await transaction.rollback()
            else:
                await transaction.commit()
        owner = Owner(account=account, venue=venue, pseudonym=own, currency=currency)
        return owner, lambda name: str(others[name])

    def _opening(self, owner: Owner, planned: ImportPlan) -> list[Planned]:
        if self._log.currency is not None or not planned.new:
            return []
        first = planned.new[0].fact
        return [opening_event(owner, first.time_us, first.place)]

    def _check(self, planned: ImportPlan) -> None:
        """Refuse facts from before the account's last event, unless that is wanted."""
        last = self._log.last_time_us
        if self._asked.late or last is None:
            return
        late = [one.fact for one in planned.new if one.fact.time_us < last]
        if late:
            raise ConflictError(
                f"{len(late)} of {len(planned.new)} new records are older than the account's last "
                f"event of {rfc3339(last)}, the first at {late[0].place} of "
                f"{rfc3339(late[0].time_us)}: --late books them behind it"
            )

    def _missing(
        self, found: Found, instruments: Mapping[str, VenueInstrument], new: Sequence[Planned]
    ) -> list[dict[str, Any]]:
        """Return the definitions that the new events need and the log lacks."""
        defined = self._log.instruments
        used = {one.fact.payload["symbol"] for one in new if "symbol" in one.fact.payload}
        lacking = [instruments[name].payload() for name in sorted(used) if name not in defined]
        if lacking and not self._asked.define and not self._asked.dry_run:
            names = ", ".join(payload["symbol"] for payload in lacking)
            raise ConfigError(
                f"the log has no InstrumentDefined of {names}: publish them, or let this import do "
                "it with --define-instruments; --dry-run shows them"
            )
        return lacking

    async def _define(self, publisher: Publisher, definitions: Sequence[dict[str, Any]]) -> None:
        for payload in definitions:
            event = definition(payload)
            number = self._instrument_number(event["stream_id"])
            await publisher.append(event, sequence_number=number)

    async def _append(self, publisher: Publisher, new: Sequence[Planned]) -> int:
        """Append what is new, one after the other, each under its number."""
        appended, position = 0, self._log.books.position
        number = self._log.next_number
        for done, one in enumerate(new):
            self._stage("append", done, len(new))
            while self._log.known.already(one.event["event_id"], one.key) is None:
                try:
                    await publisher.append(one.event, sequence_number=number)
                except ConflictError:
                    # Somebody else appended: what came may be this very fact.
                    await self._log.read()
                    if self._log.books.position == position:
                        raise
                    position, number = self._log.books.position, self._log.next_number
                    continue
                self._log.known.add(one.event["event_id"], one.key)
                appended, number = appended + 1, number + 1
                crash_point("importer.after_append")
        self._stage("append", len(new), len(new))
        return appended

    def _instrument_number(self, token: str) -> int:
        return self._log.books.market.numbers.get(f"instruments.{token}", 0) + 1

    def _compared(
        self, found: Found, facts: Mapping[str, VenueFact], account: Account | None
    ) -> ImportComparison:
        last = self._log.last_time_us
        return compare_files(found, facts, account, self._asked.venue, last)

    async def _report(self, publisher: Publisher, compared: ImportComparison, owner: Owner) -> None:
        """Append what the venue reports, where its files tell all of it: it is watched then."""
        if compared.report is not None:
            await publisher.append(report_event(owner, compared.report))

    def _account(self, books: Books) -> Account | None:
        return books.accounts.get(self._asked.account)

    async def _account_after(
        self, definitions: Sequence[dict[str, Any]], new: Sequence[Planned]
    ) -> Account | None:
        """Return the account as it would be, folded in memory behind what the log has."""
        books = self._log.books
        ahead: dict[int, LogMessage] = {}

        async def read(wanted: NeedHistory) -> dict[int, LogMessage]:
            stored = await read_history(self._nc, books.partitions, wanted)
            mine = {n: m for n, m in ahead.items() if wanted.holds(m, books.partitions)}
            return {**stored, **mine}

        events = [definition(payload) for payload in definitions]
        numbered = [
            *((event, self._instrument_number(event["stream_id"])) for event in events),
            *((one.event, number) for number, one in enumerate(new, self._log.next_number)),
        ]
        for done, (event, number) in enumerate(numbered):
            message = self._message(event, number)
            ahead[message.log_sequence] = message
            await fold_with_history(books, message, read, "nothing")
            if done % 100 == 0:
                self._stage("try it in memory", done, len(numbered))
                await asyncio.sleep(0)
        return self._account(books)

    def _message(self, event: Mapping[str, Any], number: int) -> LogMessage:
        draft = draft_of(encode(event))
        kind, token = subjects.log_subject(draft.subject)
        subject = draft.subject
        if kind == "trades":
            subject = f"trades.{subjects.partition_of(token, self._shape.partitions)}.{token}"
        return LogMessage(
            log_sequence=self._log.books.position + 1,
            subject=subject,
            time=self._log.books.market.clock or 0,
            data=draft.with_number(number),
        )


def definition(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event that defines an instrument, the same for whoever defines it so."""
    symbol = payload["symbol"]
    named = uuid5(_INSTRUMENTS, encode(dict(payload)).decode())
    return {
        "event_id": str(named),
        "event_type": "InstrumentDefined",
        "stream_id": encode_token(symbol),
        "timestamp": _DEFINED_AT,
        "schema_version": SCHEMA_VERSION,
        "source_service": SERVICE,
        "payload": payload,
    }


_INSTRUMENTS = UUID("6f0c5b1e-52f4-5a27-9d53-5a1f0f6d7c11")
_DEFINED_AT = "1970-01-01T00:00:00Z"
