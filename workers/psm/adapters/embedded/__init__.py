"""NATS and PostgreSQL from their own binaries, started, watched and stopped by this process.

For one machine: a first look, development, tests. Both listen on loopback only, keep their state
in one data folder, are ready in about a second and end with the process that started them,
however it ends. Production runs servers of its own; there these refuse to start.

    async with EmbeddedServers(Path("data")) as servers:
        print(servers.nats_url, servers.postgres_dsn)
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from psm.adapters.embedded.folder import DataFolder
from psm.adapters.embedded.nats import EmbeddedNats
from psm.adapters.embedded.postgres import EmbeddedPostgres
from psm.adapters.embedded.process import Child, refuse_in_production

__all__ = [
    "Child",
    "DataFolder",
    "EmbeddedNats",
    "EmbeddedPostgres",
    "EmbeddedServers",
    "refuse_in_production",
]


class EmbeddedServers:
    """Both servers on one data folder, which no other process may use meanwhile."""

    def __init__(
        self,
        data_dir: Path,
        *,
        nats_port: int = 0,
        postgres_port: int = 0,
        sync: bool = True,
        permissions: bool = True,
    ) -> None:
        """Describe the servers; nothing is started yet.

        Args:
            data_dir: folder of all their state; made when missing, refused when not ours.
            nats_port: port on loopback; 0 chooses a free one.
            postgres_port: port on loopback; 0 chooses a free one.
            sync: write to disk before acknowledging. False is for experiments only.
            permissions: see `EmbeddedNats`.
        """
        self._data_dir = data_dir
        self._ports = nats_port, postgres_port
        self._sync = sync
        self._permissions = permissions
        self._folder: DataFolder | None = None
        self.nats: EmbeddedNats
        self.postgres: EmbeddedPostgres

    @property
    def nats_url(self) -> str:
        """Address of NATS. Known once started."""
        return self.nats.url

    @property
    def postgres_dsn(self) -> str:
        """Address and credentials of PostgreSQL. Known once started."""
        return self.postgres.dsn

    async def start(self) -> None:
        """Take the folder and start both servers; return when both answer.

        Raises:
            ConfigError: production, folder in use or unusable, port taken, not installed.
            TransientError: a server does not answer.
        """
        refuse_in_production()
        folder = self._folder = DataFolder.claim(self._data_dir)
        nats_port, postgres_port = self._ports
        self.nats = EmbeddedNats(
            folder.path / "nats",
            port=nats_port,
            sync=self._sync,
            lease=folder.lease,
            permissions=self._permissions,
        )
        self.postgres = EmbeddedPostgres(
            folder.path / "postgres", port=postgres_port, sync=self._sync, lease=folder.lease
        )
        results = await asyncio.gather(
            self.nats.start(), self.postgres.start(), return_exceptions=True
        )
        problems = [result for result in results if isinstance(result, BaseException)]
        if problems:
            await self.stop()
            raise problems[0]

    async def stop(self) -> None:
        """Stop both servers and give the folder back."""
        if self._folder is None:
            return
        try:
            await asyncio.gather(self.nats.stop(), self.postgres.stop())
        finally:
            self._folder.release()
            self._folder = None

    async def __aenter__(self) -> EmbeddedServers:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
