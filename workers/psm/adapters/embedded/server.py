"""The life of an embedded server, whichever it is: started, waited for, stopped, killed."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from typing import ClassVar

from psm.adapters.embedded.process import Child
from psm.contracts.errors import ConfigError


class EmbeddedServer(ABC):
    """A server that this process supervises.

    Attributes:
        name: what messages call it.
        stop_signal: asks it to end cleanly.
        stop_s: how long that may take.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    stop_s: ClassVar[float]
    _child: Child | None = None

    @abstractmethod
    async def start(self) -> None:
        """Start the server and return when it answers."""

    @property
    def pid(self) -> int:
        """Process id of the server started last."""
        if self._child is None:
            raise ConfigError(f"the {self.name} was not started")
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """True while the process runs."""
        return self._child is not None and self._child.returncode is None

    async def wait(self) -> None:
        """Return when the server is not running, for whatever reason."""
        if self._child is not None:
            await self._child.wait()

    async def stop(self) -> None:
        """Stop the server cleanly; nothing happens if it is not running."""
        if self._child is not None:
            await self._child.stop(self.stop_signal, self.stop_s)

    async def kill(self) -> None:
        """End the server as a crash would (SIGKILL)."""
        if self._child is not None:
            await self._child.kill()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
