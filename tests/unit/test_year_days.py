"""Days a year: of accounts, of groups, of buckets."""

from __future__ import annotations

import pytest

from psm.analytics.year_days import YearDays
from psm.contracts.errors import ConfigError

DAYS = YearDays.of((" equities_*=252", "equities_crypto=365", "desk_7=250", "equities*=260"))


@pytest.mark.parametrize(
    ("account", "days"),
    [
        ("equities_a", 252),
        ("equities_crypto", 252),  # the first that fits counts
        ("equities", 260),
        ("desk_7", 250),
        ("desk_77", 365),
        ("acc_001", 365),
    ],
)
def test_the_first_that_fits_counts(account: str, days: int) -> None:
    """Names are whole, or begin so."""
    assert DAYS.of_account(account) == days


def test_buckets_a_year_follow_the_days() -> None:
    """Weeks have no days of rest; of several accounts the default where theirs differ."""
    assert DAYS.periods("1d", ["equities_a", "equities_b"]) == 252
    assert DAYS.periods("1h", ["equities_a"]) == 252 * 24
    assert DAYS.periods("1m", ["equities_a"]) == 252 * 1_440
    assert DAYS.periods("1w", ["equities_a"]) == 52
    assert DAYS.periods("1d", ["equities_a", "acc_001"]) == 365
    assert YearDays().periods("5m", ["acc_001"]) == 105_120


@pytest.mark.parametrize("text", ["", "a", "=252", "a=", "a=0", "a=367", "a*b=252", "a=-1", "a=²"])
def test_what_says_nothing_is_refused(text: str) -> None:
    """With the text, and what one looks like."""
    with pytest.raises(ConfigError, match=r"equities_\*=252"):
        YearDays.of((text,))
