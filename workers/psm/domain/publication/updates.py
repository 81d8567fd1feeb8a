"""Updates of one log message: deterministic ids, order and bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import UNSET, UnsetType, to_builtins

from psm.contracts import updates
from psm.contracts.codec import encode, encode_fields, json_text
from psm.contracts.envelope import Envelope
from psm.contracts.errors import ContractError
from psm.contracts.fields import Payload
from psm.contracts.limits import INVALID_TOKEN
from psm.contracts.reconciliation import ReconciliationReported
from psm.contracts.reports import AccountReported
from psm.contracts.subjects import is_token, partition_of, token_bytes
from psm.contracts.update_fields import Cause
from psm.contracts.updates import KIND_OF, KINDS, UpdateEnvelope, UpdatePayload
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.ledger.orders import Order
from psm.domain.ledger.positions import PositionStep
from psm.domain.messages import Emit, LogMessage, Published, StateHashes, Update
from psm.domain.publication.applied import applied_event
from psm.domain.publication.asset_figures import AssetStep, asset_update
from psm.domain.publication.closes import account_close, position_close
from psm.domain.publication.due import DueUpdates
from psm.domain.publication.figures import (
    margin_figures,
    order_figures,
    position_update,
    published_margin,
    state_figures,
)
from psm.domain.publication.log_times import log_time
from psm.domain.publication.margin import warning_figures
from psm.domain.publication.update_ids import update_id
from psm.domain.reconciliation import DIFFERENCES_MAX, THROUGH_NOT_LAST, Comparison
from psm.domain.valuation.state import Crossing
from psm.domain.valuation.valuation import Valuation

_Rendered = tuple[str, str, int, str, bytes, int]
"""Kind, stream, partition, id, bytes and number of an update."""
_Head = Callable[[Account, Valuation, tuple[str, ...]], str | dict[str, Any]]


class UpdateWriter:
    """Collects the updates of one log message.

    `caused_by` names the event whose effect follows: the message's own, or one it released.
    """

    def __init__(self, books: Books, message: LogMessage, cause: Cause, emit: Emit) -> None:
        self._books = books
        self._message = message
        self._cause = cause
        self._emit = emit
        self._ordinals: dict[str, int] = {}
        self._previous: dict[str, int] = {}
        self._rendered: list[_Rendered] = []
        self._causation: str | UnsetType = UNSET
        self._correlation: str | UnsetType = UNSET
        self._event_log_sequence: int | UnsetType = UNSET
        self.payloads: list[Published] = []
        self.hashes: list[StateHashes] = []
        self.wanted = emit in ("updates", "unhashed", "payloads")
        self._head: _Head = self._common if emit == "payloads" else self._common_json

    def caused_by(self, envelope: Envelope | None, event_log_sequence: int | None = None) -> None:
        """Name the event whose effect is emitted next, and where it stood if that was earlier."""
        self._causation = UNSET if envelope is None else envelope.event_id
        correlation = None if envelope is None else envelope.correlation_id
        self._correlation = UNSET if correlation is None else correlation
        self._event_log_sequence = UNSET if event_log_sequence is None else event_log_sequence

    def caused_by_market(self) -> None:
        """Say of what follows that the market caused it, and no event of the account's own."""
        self._cause = "mark"

    def account(
        self,
        account: Account,
        *,
        orders: Sequence[Order] = (),
        assets: Sequence[AssetStep] = (),
        steps: Sequence[PositionStep] = (),
        crossed: Sequence[Crossing] = (),
        flags: tuple[str, ...] = (),
        refusal: tuple[Envelope, ContractError] | None = None,
        event: Payload | None = None,
        due: DueUpdates | None = None,
    ) -> None:
        """Publish an account: orders, assets, positions, margin, warnings, refusal, state.

        Positions are those of `steps`, assets those of `assets`; at a slot, of both what is due.
        """
        if due is not None:
            steps, assets = due.steps(account), [AssetStep(a, "marked") for a in due.assets]
        self._books.tell_close(account)
        self._note(account)
        if not self.wanted:
            self._mark_as_published(account)
            self._books.published(account, steps, [one.asset for one in assets])
            return
        valuation = account.value()
        head = self._head(account, valuation, flags)
        for order in sorted(orders, key=lambda order: order.order_id):
            self._append(account, head, "OrderUpdated", order_figures(order))
        self._holdings(account, head, assets, steps)
        margin = margin_figures(valuation, account.ledger.leverage_limit)
        published = tuple(margin.values())
        if published != published_margin(account):
            account.valuation.mark_published(published)
            self._append(account, head, "MarginUpdated", margin)
        for crossing in crossed:
            self._append(account, head, "MarginWarning", warning_figures(account, crossing, margin))
        if refusal is not None:
            self.refusal(account.stream_id, account, "refused", *refusal)
        figures = state_figures(account, valuation, margin, hashed=self._emit != "unhashed")
        if event is not None:
            figures[updates.OF_THE_EVENT] = applied_event(event)
        if account.unpublished.closes:
            figures[updates.CLOSED] = list(map(account_close, account.unpublished.closes))
        self._append(account, head, "StateUpdated", figures)
        self._books.published(account, steps, [one.asset for one in assets])

    def _holdings(
        self,
        account: Account,
        head: str | dict[str, Any],
        assets: Sequence[AssetStep],
        steps: Sequence[PositionStep],
    ) -> None:
        """Publish assets, and positions by key; closes go with the first update of each."""
        for asset in assets:
            self._append(account, head, "PositionUpdated", asset_update(account, asset))
        closes = dict(account.unpublished.position_closes)
        for step in sorted(steps, key=_key) if len(steps) > 1 else steps:
            fields = position_update(account, step.position, step.change)
            own = closes.pop(step.position.key, None) if closes else None
            if own is not None:
                fields[updates.CLOSED] = list(map(position_close, own))
            self._append(account, head, "PositionUpdated", fields)

    def _mark_as_published(self, account: Account) -> None:
        """Record that this state was published, without rendering it."""
        ledger, state, prices = account.ledger, account.valuation, account.prices
        state.mark_published_silently(ledger, prices)
        if self._emit == "hashes":
            valuation = state.value(ledger, prices)
            ledger_hash = account.ledger_hash()
            self.hashes.append(
                StateHashes(
                    stream_id=account.stream_id,
                    sequence_number=account.delivery.version,
                    chain_hash=account.delivery.chain_hash,
                    ledger_hash=ledger_hash,
                    state_hash=state.hash(ledger_hash, valuation),
                )
            )

    def refusal(
        self,
        stream_id: str,
        account: Account | None,
        outcome: str,
        envelope: Envelope | None,
        error: ContractError,
    ) -> None:
        """Publish an event that changed nothing, and why.

        What came on a subject whose token can be no token of an update's subject is published as
        that of `_invalid`, with the token's hash, by the partition that has it.
        """
        self._note(account)
        if not self.wanted:
            return
        delivery = account.delivery if account else None
        hashed = delivery.event_hash if delivery else None
        partition = partition_of(stream_id, self._books.partitions)
        token_hash: str | UnsetType = UNSET
        if not is_token(stream_id):
            token_hash = hashlib.sha256(token_bytes(stream_id)).hexdigest()
            stream_id = INVALID_TOKEN
        payload = updates.EventRefused(
            account_id=stream_id,
            log_sequence=self._message.log_sequence,
            event_log_sequence=self._event_log_sequence,
            cause=self._cause,
            event_hash=hashed.hex() if hashed else None,
            chain_hash=delivery.chain_hash.hex() if delivery else None,
            flags=(),
            outcome=outcome,  # type: ignore[arg-type]
            reason=error.reason,
            detail=error.detail,
            field=error.field if error.field is not None else UNSET,
            event_id=envelope.event_id if envelope else UNSET,
            event_type=envelope.event_type if envelope else UNSET,
            sequence_number=_or_unset(envelope.sequence_number) if envelope else UNSET,
            token_hash=token_hash,
        )
        self._append_struct(stream_id, delivery.version if delivery else 0, payload, partition)

    def blocked(self, account: Account, reason: str, detail: str) -> None:
        """Publish that a stream waits."""
        self._note(account)
        if not self.wanted:
            return
        payload = updates.StreamBlocked(
            **self._common(account, account.value(), ()),
            reason=reason,
            expected_sequence=account.delivery.version + 1,
            detail=detail,
        )
        self._append_struct(account.stream_id, account.delivery.version, payload)

    def resumed(self, account: Account, first: int) -> None:
        """Publish that a stream goes on; `first` is the number that released it."""
        self._note(account)
        if not self.wanted:
            return
        payload = updates.StreamResumed(
            **self._common(account, account.value(), ()),
            from_sequence=first,
            to_sequence=account.delivery.version,
        )
        self._append_struct(account.stream_id, account.delivery.version, payload)

    def reconciliation(
        self,
        account: Account,
        envelope: Envelope,
        report: AccountReported,
        comparison: Comparison | None,
    ) -> None:
        """Publish how a report compares with the books; None: they are not where it is."""
        self._note(self._books.accounts.get(account.stream_id))
        if not self.wanted:
            return
        differences = comparison.differences if comparison else ()
        ledger_hash, valuation = account.ledger_hash(), account.value()
        payload = ReconciliationReported(
            **self._common(account, valuation, ()),
            status=account.delivery.status,
            currency=account.ledger.currency,
            ledger_hash=ledger_hash.hex(),
            state_hash=account.valuation.hash(ledger_hash, valuation).hex(),
            event_id=envelope.event_id,
            as_of=report.as_of,
            through=report.through,
            matches=comparison.matches if comparison else None,
            reason=None if comparison else THROUGH_NOT_LAST,
            differences=differences[:DIFFERENCES_MAX],
            differences_total=len(differences),
            not_compared=comparison.not_compared if comparison else (),
        )
        self._append_struct(account.stream_id, account.delivery.version, payload)

    def _common(
        self, account: Account, valuation: Valuation, flags: tuple[str, ...]
    ) -> dict[str, Any]:
        """Return what all payloads of an account have in common."""
        delivery = account.delivery
        common = {
            "account_id": account.stream_id,
            "sequence_number": delivery.version,
            "log_sequence": self._message.log_sequence,
            "event_log_sequence": self._event_log_sequence,
            "cause": self._cause,
            "event_hash": delivery.event_hash.hex() if delivery.event_hash else None,
            "chain_hash": delivery.chain_hash.hex(),
            "flags": [*_all_flags(valuation, flags)],
        }
        if self._event_log_sequence is UNSET:
            del common["event_log_sequence"]
        return common

    def _common_json(self, account: Account, valuation: Valuation, flags: tuple[str, ...]) -> str:
        """Return what all updates of an account have in common, from `stream_id` on, as JSON."""
        stream_id, delivery = account.stream_id, account.delivery
        version = delivery.version
        correlation = causation = original = ""
        if self._correlation is not UNSET:
            correlation = f',"correlation_id":{json_text(self._correlation)}'
        if self._causation is not UNSET:
            causation = f',"causation_id":"{self._causation}"'
        if self._event_log_sequence is not UNSET:
            original = f',"event_log_sequence":{self._event_log_sequence}'
        event_hash = f'"{delivery.event_hash.hex()}"' if delivery.event_hash else "null"
        all_flags = _all_flags(valuation, flags)
        return (
            f'","stream_id":"{stream_id}","sequence_number":{version}'
            f',"timestamp":"{log_time(self._message.time)}"'
            f',"schema_version":"{updates.SCHEMA_VERSION}"'
            f',"source_service":"psm","user_id":"psm"{correlation}{causation}'
            f',"payload":{{"account_id":"{stream_id}","sequence_number":{version}'
            f',"log_sequence":{self._message.log_sequence}{original}'
            f',"cause":"{self._cause}","event_hash":{event_hash}'
            f',"chain_hash":"{delivery.chain_hash.hex()}"'
            f',"flags":{encode(all_flags).decode() if all_flags else "[]"},'
        )

    def _append(
        self,
        account: Account,
        head: str | dict[str, Any],
        event_type: str,
        fields: dict[str, Any],
    ) -> None:
        """Add an update whose bytes are written out: a struct would be filled and read again."""
        kind, stream_id = KIND_OF[event_type], account.stream_id
        if isinstance(head, dict):
            payload = {**head, **fields}
            self.payloads.append(Published(kind=kind, stream_id=stream_id, payload=payload))
            return
        event_id = self._next_id(stream_id)
        start = f'{{"event_id":"{event_id}","event_type":"{event_type}{head}'
        data = b"".join((start.encode(), encode_fields(fields)[1:], b"}"))
        self._append_rendered(kind, stream_id, event_id, data)

    def _append_struct(
        self, stream_id: str, version: int, payload: UpdatePayload, partition: int | None = None
    ) -> None:
        kind = KINDS[type(payload)]
        if self._emit == "payloads":
            values = to_builtins(payload)
            self.payloads.append(Published(kind=kind, stream_id=stream_id, payload=values))
            return
        event_id = self._next_id(stream_id)
        envelope = UpdateEnvelope(
            event_id=event_id,
            event_type=type(payload).__name__,
            stream_id=stream_id,
            sequence_number=version,
            timestamp=log_time(self._message.time),
            correlation_id=self._correlation,
            causation_id=self._causation,
            payload=payload,
        )
        self._append_rendered(kind, stream_id, event_id, encode(envelope), partition)

    def _next_id(self, stream_id: str) -> str:
        ordinal = self._ordinals.get(stream_id, 0)
        self._ordinals[stream_id] = ordinal + 1
        return update_id(self._message.log_sequence, stream_id, ordinal)

    def _append_rendered(
        self, kind: str, stream_id: str, event_id: str, data: bytes, partition: int | None = None
    ) -> None:
        if partition is None:
            partition = partition_of(stream_id, self._books.partitions)
        number = self._ordinals[stream_id]
        self._rendered.append((kind, stream_id, partition, event_id, data, number))

    def finished(self) -> list[Update]:
        """Return the updates of the whole message: each knows how many there are of its account."""
        if not self._rendered:
            return []
        at, counts, previous = self._message.log_sequence, self._ordinals, self._previous
        return [
            Update(
                kind=kind,
                stream_id=stream_id,
                partition=partition,
                event_id=event_id,
                data=data,
                log_sequence=at,
                number=number,
                count=counts[stream_id],
                previous=previous.get(stream_id),
            )
            for kind, stream_id, partition, event_id, data, number in self._rendered
        ]

    def _note(self, account: Account | None) -> None:
        """Note that the message publishes something of an account, whether or not it is wanted."""
        if account is not None and account.delivery.updated_at != self._message.log_sequence:
            before = account.delivery.note_update(self._message.log_sequence)
            self._previous[account.stream_id] = before


def _all_flags(valuation: Valuation, flags: tuple[str, ...]) -> tuple[str, ...]:
    state = valuation.flags
    return tuple(sorted(dict.fromkeys((*state, *flags)))) if flags else state


def _key(step: PositionStep) -> str:
    return step.position.key


def _or_unset(value: int | None) -> int | UnsetType:
    return UNSET if value is None else value
