"""From a request's credentials to the principal who sent them.

The credential stands in `Authorization: Bearer ...`, or is a certificate that a proxy passes on:
what is in an address gets into logs. Whoever tries out credentials is told to wait, by address and
by the id that was tried; those that open something always do.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

import msgspec

from psm.contracts.errors import PSMError
from psm.workers.access.certificates import ClientCertificates, ForeignCertificateError
from psm.workers.access.issuers import Assertions, ForeignTokenError
from psm.workers.access.policy import ANYBODY, Principal
from psm.workers.access.store import StaleAccessError, TokenTable
from psm.workers.access.tokens import parts_of
from psm.workers.ops.people import People

FAILURES_MAX = 20
FAILURES_S = 60.0
PING_S = 15.0
"""A long answer's right is looked at again this often, and whenever tokens changed."""
_REMEMBERED = 10_000

Refusal = Literal["no-credentials", "bad-credentials", "too-many-failures"]


class CredentialsError(PSMError):
    """Credentials that open nothing.

    Attributes:
        kind: of the refusal.
        retry_s: when to try again, where that is the matter.
    """

    def __init__(self, kind: Refusal, detail: str, retry_s: int | None = None) -> None:
        super().__init__(detail)
        self.kind: Refusal = kind
        self.retry_s = retry_s


class Failures:
    """Counts failed tries by whoever made them; the oldest are forgotten first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counted: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def check(self, who: str) -> None:
        """Refuse who failed too often of late.

        Raises:
            CredentialsError: it did.
        """
        since, count = self._counted.get(who, (0.0, 0))
        left = FAILURES_S - (self._clock() - since)
        if count >= FAILURES_MAX and left > 0:
            raise CredentialsError(
                "too-many-failures",
                f"{count} failed tries within a minute: wait, and check the token",
                int(left) + 1,
            )

    def add(self, who: str) -> None:
        """Count one more."""
        since, count = self._counted.pop(who, (self._clock(), 0))
        if self._clock() - since >= FAILURES_S:
            since, count = self._clock(), 0
        self._counted[who] = (since, count + 1)
        if len(self._counted) > _REMEMBERED:
            self._counted.popitem(last=False)


class Authenticator:
    """Recognises principals.

    Args:
        table: tokens that hold; None where access is not controlled: everybody may do everything.
        assertions: recognises tokens that others issue; None where nobody else does.
        people: whose pseudonym a token may be made out to.
        certificates: recognises those whom proxies vouch for; None where no proxy does.
    """

    def __init__(
        self,
        table: TokenTable | None,
        failures: Failures | None = None,
        assertions: Assertions | None = None,
        people: People | None = None,
        certificates: ClientCertificates | None = None,
    ) -> None:
        self._table = table
        self._certificates = certificates
        self._assertions = assertions
        self._people = people or People()
        self._failures = failures or Failures()

    def know(
        self,
        assertions: Assertions,
        people: People,
        certificates: ClientCertificates | None = None,
    ) -> None:
        """Recognise others from now on: whose tokens and certificates count, who somebody is."""
        self._assertions, self._people = assertions, people
        self._certificates = certificates

    @property
    def is_on(self) -> bool:
        """Whether anybody is asked for credentials."""
        return self._table is not None

    def principal(
        self, authorization: str | None, client: str, certificate: str | None = None
    ) -> Principal:
        """Return who asks: by their token, and only without one by their certificate.

        Args:
            authorization: the header; None without one.
            client: address.
            certificate: what a proxy passed on as the caller's; None where it came by none.

        Raises:
            CredentialsError: nobody that is known here.
            StaleAccessError: nobody knows any more who is.
        """
        if self._table is None:
            return ANYBODY
        if authorization is None and certificate is None:
            raise CredentialsError(
                "no-credentials",
                "send Authorization: Bearer TOKEN; `psm token create` makes one",
            )
        if authorization is None:
            return self._of_certificate(certificate or "", client)
        scheme, _, credential = authorization.partition(" ")
        text = credential.strip() if scheme.lower() == "bearer" else ""
        found = parts_of(text)
        return self._of_assertion(text, client) if found is None else self._of_token(*found, client)

    async def catch_up(self) -> None:
        """Take in what was done to the tokens here; where that fails, it comes with the poll."""
        if self._table is not None:
            with contextlib.suppress(PSMError):
                await self._table.read()

    def still_holds(self, principal: Principal) -> bool:
        """Return whether what a principal was recognised by holds still.

        Raises:
            StaleAccessError: nobody knows any more who is.
        """
        if self._table is None:
            return True
        if principal.how == "jwt" and not (
            self._assertions is not None and self._assertions.knows(principal.key)
        ):
            return False
        if principal.how == "proxy" and not (
            self._certificates is not None and self._certificates.knows(principal.id)
        ):
            return False
        if principal.how != "token":
            return principal.expires is None or time.time() < principal.expires
        return self._table.find(principal.key) is not None

    async def ended(self, principal: Principal) -> None:
        """Return once what a principal was recognised by holds no more, or nobody knows."""
        with contextlib.suppress(StaleAccessError):
            while self.still_holds(principal):
                wait_s = PING_S
                if principal.expires is not None:
                    wait_s = min(max(principal.expires - time.time(), 0.0) + 0.001, PING_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._changes()

    async def _changes(self) -> None:
        if self._table is None:
            await asyncio.Event().wait()
        else:
            await self._table.reading()

    def _of_assertion(self, text: str, client: str) -> Principal:
        try:
            if self._assertions is None or "." not in text:
                raise ForeignTokenError("the Authorization header holds no token of this service")
            return self._assertions.principal(text)
        except ForeignTokenError as error:
            raise self._failed(str(error), client) from error

    def _of_certificate(self, certificate: str, client: str) -> Principal:
        try:
            if self._certificates is None:
                raise ForeignCertificateError("certificates of callers open nothing here")
            return self._certificates.principal(certificate)
        except ForeignCertificateError as error:
            raise self._failed(str(error), client) from error

    def _of_token(self, token_id: str, secret: str, client: str) -> Principal:
        assert self._table is not None
        record = self._table.find(token_id)
        if record is None or not record.is_opened_by(secret):
            raise self._failed("the token is unknown, has expired or was revoked", client, token_id)
        self._table.use(token_id)
        found = record.principal_of()
        person = found.id if self._people.knows(found.id) else None
        return msgspec.structs.replace(found, person=person)

    def _failed(self, detail: str, *tried: str) -> CredentialsError:
        """Return what is said of credentials that open nothing; it counts for whoever tried.

        Only here: else whoever has an address in common with others, such as a proxy's, or knows
        the id of their token, could lock them out.

        Raises:
            CredentialsError: there were too many of them.
        """
        for one in tried:
            self._failures.check(one)
        for one in tried:
            self._failures.add(one)
        return CredentialsError("bad-credentials", detail)
