"""Keys (nkeys) of the users of the broker, as files: one seed per user, for nobody else to read.

A folder holds `<role>.nk`, the seed with which a part connects, and while a key is being replaced
`<role>.next.nk`, which the broker takes already, or `<role>.old.nk`, which it takes still. The
broker's configuration has the public halves of all of them, `nats-users.conf`. A producer of some
accounts is a role of the folder alone: its `<role>.accounts` has `NAME=ACCOUNT,ACCOUNT`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

import nkeys

from psm.adapters.jetstream.roles import ROLES, Role, producer
from psm.adapters.jetstream.roles_text import render_config
from psm.adapters.secret_files import write_whole
from psm.contracts.errors import ConfigError

CONFIG = "nats-users.conf"
_ACCOUNTS = ".accounts"


class KeyFolder:
    """The folder of keys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def roles(self) -> list[Role]:
        """Return every role that may have a key here: those of PSM, and the folder's producers.

        Raises:
            ConfigError: a file of a producer cannot be used.
        """
        return [*ROLES, *map(_kept, sorted(self.folder.glob(f"*{_ACCOUNTS}")))]

    def keep(self, producer: Role, text: str) -> None:
        """Make a producer a role of this folder, or give it other accounts.

        Args:
            producer: the role.
            text: what it was made of, `NAME=ACCOUNT,ACCOUNT`.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self.folder / f"{producer.name}{_ACCOUNTS}", f"{text}\n".encode(), 0o644)

    def make(self, roles: list[str]) -> list[str]:
        """Make the keys that are missing, and the configuration; return the roles they are of.

        Raises:
            ConfigError: there is no such role, or the folder cannot be written.
        """
        known = {one.name for one in self.roles()}
        if unknown := [name for name in roles if name not in known]:
            raise ConfigError(
                f"there is no role {unknown[0]}; there are {', '.join(sorted(known))}"
            )
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = [name for name in roles if not self.seed(name).exists()]
        for name in made:
            write_whole(self.seed(name), _new_seed(), 0o600)
        self.write_config()
        return made

    def seed(self, role: str, which: str = "") -> Path:
        """Return the file of a role's seed: the present one, `next` or `old`."""
        return self.folder / (f"{role}.{which}.nk" if which else f"{role}.nk")

    def add(self, role: str) -> str:
        """Let the configuration take a second key of a role; return its public half."""
        if not self.seed(role).exists():
            raise ConfigError(f"{self.folder} has no key of {role}; `psm nats-keys init` makes it")
        if not self.seed(role, "next").exists() and not self.seed(role, "old").exists():
            write_whole(self.seed(role, "next"), _new_seed(), 0o600)
        self.write_config()
        which = "next" if self.seed(role, "next").exists() else ""
        return public_key(self.seed(role, which))

    def use(self, role: str) -> str:
        """Let the part connect with the second key from now on; return the old public key."""
        old, following = self.seed(role, "old"), self.seed(role, "next")
        if following.exists():
            write_whole(old, self.seed(role).read_bytes(), 0o600)
            following.replace(self.seed(role))
        return public_key(old)

    def remove_old(self, role: str) -> None:
        """Take the old key out of the configuration."""
        self.seed(role, "old").unlink(missing_ok=True)
        self.write_config()

    def public_keys(self) -> Mapping[str, list[str]]:
        """Return the public keys that the broker takes, by role."""
        kinds = ("", "next", "old")
        found = {
            one.name: [
                public_key(self.seed(one.name, kind))
                for kind in kinds
                if self.seed(one.name, kind).exists()
            ]
            for one in self.roles()
        }
        return {name: keys for name, keys in found.items() if keys}

    def config(self) -> str:
        """Return the users as configuration of the broker; only those that have a key.

        Raises:
            ConfigError: there is none.
        """
        keys = self.public_keys()
        if not keys:
            raise ConfigError(f"{self.folder} has no keys; `psm nats-keys init` makes them")
        return render_config([one for one in self.roles() if one.name in keys], keys)

    def write_config(self) -> None:
        """Write the configuration beside the keys."""
        write_whole(self.folder / CONFIG, self.config().encode(), 0o644)


def public_key(file: Path) -> str:
    """Return the public half of the seed in a file.

    Raises:
        ConfigError: there is none.
    """
    try:
        pair = nkeys.from_seed(bytearray(file.read_bytes().strip()))
    except (OSError, nkeys.NkeysError, ValueError) as error:
        raise ConfigError(f"{file} holds no seed of a key (nkey)") from error
    return str(pair.public_key.decode())


def _kept(file: Path) -> Role:
    try:
        found = producer(file.read_text("utf-8").strip())
    except (OSError, ValueError) as error:  # no UTF-8 is a ValueError, too
        raise ConfigError(f"{file} holds no NAME=ACCOUNT,ACCOUNT: {error}") from error
    if file.name != f"{found.name}{_ACCOUNTS}":
        raise ConfigError(f"{file} is of {found.name}: name it {found.name}{_ACCOUNTS}")
    return found


def _new_seed() -> bytes:
    seed: bytes = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)
    return bytes(seed) + b"\n"
