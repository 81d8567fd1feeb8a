"""Documents of limits by scope: proposed, approved, in force."""

from __future__ import annotations

import msgspec

from psm.contracts.errors import ContractError
from psm.contracts.rulebook_events import LimitsApproved, LimitsProposed, LimitsRevoked
from psm.risk.limits import Limits, limits_of_document
from psm.risk.rulebook.answers import RefusedError, ScopedLimits, scope_text
from psm.risk.rulebook.keys import Keys, require_another
from psm.risk.rulebook.times import moment
from psm.risk.tightness import loosened


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A document of limits, whole.

    Attributes:
        hash: SHA-256 of the proposal's bytes, hex.
        valid_from, valid_until: half open; None: always.
    """

    scope: str
    limits: Limits
    version: int
    hash: str
    actor: str
    key_id: str
    valid_from: int | None
    valid_until: int | None

    def holds(self, clock: int) -> bool:
        """Return whether it is valid now."""
        return (self.valid_from is None or self.valid_from <= clock) and not self.ended(clock)

    def ended(self, clock: int) -> bool:
        """Return whether it was valid and never is again."""
        return self.valid_until is not None and self.valid_until <= clock


class Documents:
    """The documents of every scope.

    Attributes:
        proposed: newest proposal that waits for a second person, by scope.
        agreed: by scope, in the order in which they took effect; the newest that is valid holds.
    """

    def __init__(self) -> None:
        self.proposed: dict[str, Document] = {}
        self.agreed: dict[str, tuple[Document, ...]] = {}
        self._versions: dict[str, int] = {}

    def in_force(self, scope: str, clock: int) -> Document | None:
        """Return the document that holds: the newest of those that are valid."""
        for document in reversed(self.agreed.get(scope, ())):
            if document.holds(clock):
                return document
        return None

    def limits_of(self, scope: str, clock: int) -> ScopedLimits | None:
        """Return the limits in force of a scope."""
        found = self.in_force(scope, clock)
        if found is None:
            return None
        return ScopedLimits(
            scope=scope, limits=found.limits, version=found.version, hash=found.hash
        )

    def version_of(self, scope: str) -> int:
        """Return the version of the newest proposal of a scope, 0 without one."""
        return self._versions.get(scope, 0)

    def propose(self, event: LimitsProposed, hashed: str, clock: int) -> tuple[str, ...]:
        """Take a proposal; at once in force where nothing in it is looser than what holds.

        Returns:
            What is looser; then it waits.

        Raises:
            RefusedError: it is no document, not the next version, or never valid.
        """
        scope = scope_text(event.scope, event.id)
        document = _document(event, scope, hashed)
        following = self.version_of(scope) + 1
        if document.version != following:
            raise RefusedError("wrong_version", f"the next version of {scope} is {following}")
        if document.ended(clock):
            raise RefusedError("expired", f"valid_until {event.valid_until} has passed")
        self._versions[scope] = document.version
        looser = self._looser(document, clock)
        if looser:
            self.proposed[scope] = document
        else:
            self.proposed.pop(scope, None)
            self._agree(document)
        return looser

    def waiting(self, event: LimitsApproved, keys: Keys, clock: int) -> Document:
        """Return the proposal that an approval is for.

        Raises:
            RefusedError: it is not the newest of its scope, its proposer's own, or too late.
        """
        scope = scope_text(event.scope, event.id)
        document = self.proposed.get(scope)
        if document is None or document.hash != event.proposal_hash:
            raise RefusedError("stale_proposal", f"{scope} has no such proposal that waits")
        require_another(document.actor, document.key_id, event)
        if not keys.valid(document.key_id):
            raise RefusedError("void_key", f"the key of the proposer {document.actor} is void")
        if document.ended(clock):
            raise RefusedError("expired", "the proposal is valid no more")
        return document

    def approve(self, document: Document) -> None:
        """Put a proposal in force."""
        del self.proposed[document.scope]
        self._agree(document)

    def withdraw(self, event: LimitsRevoked) -> None:
        """Take a proposal back.

        Raises:
            RefusedError: it does not wait.
        """
        scope = scope_text(event.scope, event.id)
        document = self.proposed.get(scope)
        if document is None or document.hash != event.proposal_hash:
            raise RefusedError("stale_proposal", f"{scope} has no such proposal that waits")
        del self.proposed[scope]

    def require_some(self, scope: str) -> None:
        """Make sure that there is something to revoke.

        Raises:
            RefusedError: there is not.
        """
        if scope not in self.agreed:
            raise RefusedError("nothing_to_revoke", f"{scope} has no limits")

    def revoke(self, scope: str) -> None:
        """Leave a scope without limits, and without a proposal."""
        del self.agreed[scope]
        self.proposed.pop(scope, None)

    def _agree(self, document: Document) -> None:
        self.agreed[document.scope] = (*self.agreed.get(document.scope, ()), document)

    def _looser(self, document: Document, clock: int) -> tuple[str, ...]:
        """Return what is looser than any document that would hold without it, now or later."""
        found: list[str] = []
        for other in reversed(self.agreed.get(document.scope, ())):
            if other.ended(clock):
                continue
            found.extend(loosened(other.limits, document.limits))
            if document.valid_until is not None:
                found.append("valid_until")  # it would expire into a looser one
            if other.valid_until is None and other.holds(clock):
                break  # what is older never holds again
        return tuple(dict.fromkeys(found))


def _document(event: LimitsProposed, scope: str, hashed: str) -> Document:
    try:
        limits = limits_of_document(event.limits)
    except ContractError as error:
        raise RefusedError(error.reason, error.detail) from None
    begins = None if event.valid_from is None else moment(event.valid_from, "valid_from")
    ends = None if event.valid_until is None else moment(event.valid_until, "valid_until")
    if begins is not None and ends is not None and ends <= begins:
        raise RefusedError("invalid_payload", "valid_until must be after valid_from")
    return Document(
        scope=scope,
        limits=limits,
        version=event.version,
        hash=hashed,
        actor=event.actor,
        key_id=event.key_id,
        valid_from=begins,
        valid_until=ends,
    )
