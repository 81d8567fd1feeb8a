"""What `access.toml` says while a service runs: read again when it, or a file it names, changes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from psm.workers.access.bearer import Authenticator
from psm.workers.access.certificates import ClientCertificates
from psm.workers.access.issuers import AccessFile, Assertions, read_access_file
from psm.workers.access.key_sets import IssuerKeys


class FollowedAccess:
    """Issuers with their keys, and people, as the file says now.

    Attributes:
        said: by the file, when it was read last.
    """

    def __init__(
        self, path: Path, recognises: Authenticator, client_ca: Path | None = None
    ) -> None:
        """Read nothing yet.

        Args:
            path: of `access.toml`.
            recognises: is told of issuers, people and owners of certificates.
            client_ca: bundle of what signs these; None: certificates open nothing.
        """
        self.said = AccessFile()
        self._path, self._recognises, self._client_ca = path, recognises, client_ca
        self._open = contextlib.AsyncExitStack()

    def files(self) -> Iterator[Path]:
        """Yield the file and those that it names."""
        yield self._path
        if self._client_ca is not None:
            yield self._client_ca
        for issuer in self.said.issuer:
            if issuer.jwks_file is not None:
                yield Path(issuer.jwks_file)
        for person in self.said.person:
            for key in person.keys:
                if not key.lstrip().startswith("-----BEGIN"):
                    yield self._path.parent / key

    async def take(self) -> None:
        """Read all of them; it holds for the next request.

        Raises:
            ConfigError: one cannot be used; what held before goes on.
        """
        said = read_access_file(self._path)
        people = said.people(self._path)
        certificates = None
        if self._client_ca is not None:
            certificates = ClientCertificates(said.certificate, self._client_ca)
        known = {}
        async with contextlib.AsyncExitStack() as fresh:
            for issuer in said.issuer:
                keys = IssuerKeys(issuer)
                await fresh.enter_async_context(keys.kept())
                known[issuer.iss] = (issuer, keys)
            before, self._open = self._open, fresh.pop_all()
        self.said = said
        self._recognises.know(Assertions(known, people=people), people, certificates)
        await before.aclose()

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Read them, and keep the issuers' keys up to date while the context is open.

        Raises:
            ConfigError: one cannot be used.
        """
        await self.take()
        try:
            yield
        finally:
            await self._open.aclose()
