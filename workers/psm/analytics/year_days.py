"""Days a year by which figures of daily returns are annual: 365, or 252 where markets rest."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from psm.analytics.closes import PERIODS
from psm.analytics.rows import Timeframe
from psm.contracts.errors import ConfigError
from psm.domain.money import scaled

DEFAULT = PERIODS["1d"]
_DAYS_MAX = 366
_NUMBERS = {str(days): days for days in range(1, _DAYS_MAX + 1)}


class YearDays(msgspec.Struct, frozen=True):
    """Days a year of accounts.

    Attributes:
        rules: name of an account, or with a star at its end the beginning of names, and their
            days; the first that fits counts. Others have 365.
    """

    rules: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, texts: Iterable[str]) -> YearDays:
        """Return what texts such as `equities_*=252` say.

        Raises:
            ConfigError: one says nothing of the kind.
        """
        rules = []
        for text in texts:
            name, _, days = text.strip().partition("=")
            if not name or "*" in name[:-1] or days not in _NUMBERS:
                raise ConfigError(
                    f"PSM_ANALYTICS_YEAR_DAYS: {text!r} is not account=days, of 1 to {_DAYS_MAX} "
                    "days, or the beginning of names and a star, such as equities_*=252"
                )
            rules.append((name, _NUMBERS[days]))
        return cls(tuple(rules))

    def of_account(self, account_id: str) -> int:
        """Return the days a year of an account."""
        for name, days in self.rules:
            if name == account_id or (name[-1] == "*" and account_id.startswith(name[:-1])):
                return days
        return DEFAULT

    def periods(self, timeframe: Timeframe, accounts: Iterable[str]) -> int:
        """Return buckets a year of accounts together; 365 days where theirs are not the same."""
        found = dict.fromkeys(map(self.of_account, accounts))
        days = next(iter(found)) if len(found) == 1 else DEFAULT
        if timeframe == "1w":
            return PERIODS[timeframe]
        return int(scaled(Decimal(PERIODS[timeframe]), Decimal(days), Decimal(DEFAULT)))


EVERY_DAY = YearDays()
"""Those of markets that never rest, for all accounts."""
