"""Public keys of issuers: from a file, or over https, kept for a while.

Nobody waits for them: they are read beside the requests, every ten minutes, and a minute after they
were read where a token names one that is not among them: its issuer has a new one. An issuer that
is away is believed by the keys it had, for a day.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import urllib.error
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from psm.adapters.http_client import opener
from psm.adapters.logs import get_logger
from psm.adapters.tasks import end_all
from psm.contracts.errors import ConfigError
from psm.workers.access.issuers import Issuer

REFRESH_S = 600.0
STALE_S = 86_400.0
AGAIN_S = 60.0
"""However many tokens name keys that nobody knows, an issuer is not asked more often."""
_BYTES_MAX = 64 * 1024
_TIMEOUT_S = 3.0
_log = get_logger()


class IssuerKeys:
    """The keys of one issuer."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._keys = KeySet([])
        self._read_at: float | None = None
        self._missed = asyncio.Event()

    def __call__(self) -> KeySet:
        """Return the keys that count now: none where they are too old."""
        if self._read_at is None or time.monotonic() - self._read_at > STALE_S:
            return KeySet([])
        return self._keys

    def missed(self) -> None:
        """Take note that a token names a key that is not among them: read them again soon."""
        self._missed.set()

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep the keys up to date while the context is open.

        Raises:
            ConfigError: the file of keys cannot be used.
        """
        if self._issuer.jwks_file is not None:
            await self.read()
        task = asyncio.create_task(self._refresh())
        try:
            yield
        finally:
            await end_all([task])

    async def read(self) -> None:
        """Read the keys anew.

        Raises:
            ConfigError: they cannot be read, or are none.
        """
        data = await asyncio.to_thread(self._bytes)
        try:
            keys = KeySet.import_key_set(msgspec.json.decode(data))
        except (msgspec.MsgspecError, JoseError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"the keys of {self._issuer.iss} are no JWK set") from error
        self._keys, self._read_at = keys, time.monotonic()

    def _bytes(self) -> bytes:
        issuer = self._issuer
        try:
            if issuer.jwks_file is not None:
                return Path(issuer.jwks_file).read_bytes()
            with opener().open(str(issuer.jwks_url), timeout=_TIMEOUT_S) as answer:
                data: bytes = answer.read(_BYTES_MAX + 1)
        except (OSError, urllib.error.URLError, TimeoutError) as error:
            raise ConfigError(f"the keys of {issuer.iss} cannot be read: {error}") from error
        if len(data) > _BYTES_MAX:
            raise ConfigError(f"the keys of {issuer.iss} are more than {_BYTES_MAX} bytes")
        return data

    async def _refresh(self) -> None:
        while True:
            try:
                self._missed.clear()
                await self.read()
            except ConfigError as error:
                _log.warning("access.keys_not_read", issuer=self._issuer.iss, detail=str(error))
                self._missed.set()
            await asyncio.sleep(AGAIN_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S - AGAIN_S):
                    await self._missed.wait()
