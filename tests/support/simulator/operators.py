"""Operators of a world: they look at what stopped, and repair it, or try in vain."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import count

from tests.support.events import Sent, dismissed, retried, rules, voided

from psm.domain.account import Account
from psm.domain.books import Books


class Operators:
    """Makes operator events from what the log says by now; each has an id of its own."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._number = count(1)
        self._said: list[Sent] = []

    def attempt(self, books: Sequence[Books]) -> Sent | None:
        """Return something that helps, that does not, or that was said before; None to wait."""
        dice = self._dice
        accounts = [account for each in books for account in each.accounts.values()]
        if not accounts:
            return None
        stopped = [account for account in accounts if account.delivery.status != "open"]
        draw = dice.random()
        if draw < 0.25 and self._said:
            return dice.choice(self._said)
        if draw < 0.45:
            sent = self._aimless(dice.choice(accounts))
        elif stopped:
            sent = self._repair(dice.choice(stopped), partly=dice.random() < 0.3)
        else:
            return None
        self._said.append(sent)
        return sent

    def repairs(self, books: Iterable[Books]) -> list[Sent]:
        """Return what each stream that stopped needs next."""
        accounts = [account for each in books for account in each.accounts.values()]
        return [self._repair(account) for account in accounts if account.delivery.status != "open"]

    def _repair(self, account: Account, *, partly: bool = False) -> Sent:
        more = {"stream": account.stream_id, "salt": f"/{next(self._number)}"}
        blocked, missing = account.delivery.blocked, account.delivery.version + 1
        if blocked is None or not blocked.is_next:
            last = missing if partly else min(account.delivery.parked) - 1
            return voided(missing, last, **more)
        if not partly:
            return dismissed(blocked.log_sequence, **more)
        return rules(2) if self._dice.random() < 0.3 else retried(**more)

    def _aimless(self, account: Account) -> Sent:
        dice = self._dice
        more = {"stream": account.stream_id, "salt": f"/{next(self._number)}"}
        match dice.choice(["dismissed", "voided", "retried", "rules"]):
            case "dismissed":
                return dismissed(dice.randint(1, 100), **more)
            case "voided":
                first = account.delivery.version + dice.randint(0, 2)
                return voided(first, first + dice.randint(-1, 3), **more)
            case "retried":
                return retried(**more)
            case _:
                return rules(2)
