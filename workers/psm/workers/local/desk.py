"""The demo's risk desk: two officers with keys of their own, one group, and its limits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct
from nats.aio.client import Client

from psm.contracts.errors import ConfigError
from psm.workers.ops.keys import generate, load_private, load_public, raw_public
from psm.workers.risk.rulebook import RulebookReader, Saying, say

GROUP = "desk"
OFFICERS = ("ada", "bob")
_REASON = "the demo's desk"
_LIMITS = {
    "daily_loss_money": "100",
    "exposure_gross": "1.5",
    "leverage": "1",
    "max_order_notional": "25000",
    "open_orders_count": 10,
    "price_collar": "0.05",
    "mark_age": 60,
    "order_rate": 20,
}


class Officer(Struct, frozen=True, kw_only=True):
    """Somebody who may speak in the rulebook, and where his key is."""

    name: str
    key: Ed25519PrivateKey
    public: str


async def found_desk(nc: Client, keys: Path, account_id: str, currency: str) -> None:
    """Found the rulebook of a new log: keys, the group of one account, and its limits.

    What stands there already is left as it is.

    Args:
        nc: connection of a user that may write in the rulebook.
        keys: folder of the officers' keys, made where it is missing.
        account_id: member of the group.
        currency: of the group.

    Raises:
        ConfigError: something is refused.
        TransientError: the broker does not answer.
    """
    ada, bob = (_officer(keys / name) for name in OFFICERS)
    reader = RulebookReader(nc)
    await reader.read()
    if GROUP in reader.rulebook.groups:
        return

    async def said(officer: Officer, event_type: str, content: Mapping[str, Any]) -> None:
        saying = Saying(
            event_type=event_type,
            content=content,
            actor=officer.name,
            reason=_REASON,
            key=officer.key,
        )
        ruled = (await say(nc, reader, saying)).ruled
        if ruled.outcome == "refused":
            raise ConfigError(f"the demo's rulebook refuses {event_type}: {ruled.detail}")

    for one in (ada, bob):
        rights = ["propose", "approve", "halt"]
        key = {"holder": one.name, "public_key": one.public, "rights": rights}
        await said(one, "KeyDefined", key)
    group = {"group": GROUP, "members": [account_id], "currency": currency}
    for one in (ada, bob):
        await said(one, "GroupDefined", group)
    limits = {"scope": "group", "id": GROUP, "version": 1, "limits": _LIMITS}
    await said(ada, "LimitsProposed", limits)


def _officer(path: Path) -> Officer:
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        generate(path)
    public = raw_public(load_public(path.with_name(f"{path.name}.pub"))).hex()
    return Officer(name=path.name, key=load_private(path), public=public)
