"""What is said of the clusters of a day follows from closes alone."""

from __future__ import annotations

import random
from decimal import Decimal

import msgspec
import pytest

from psm.contracts.rulebook_events import ClustersDefined
from psm.risk.cluster_event import CLOSES, clusters_content, renamed
from psm.risk.clusters import Closes

SIGNED = {"actor": "p", "reason": "test", "key_id": "0" * 16, "signature": "0" * 128}


def closes(seed: int = 1, days: int = CLOSES, gap: int = 0) -> Closes:
    """Return closes of two pairs that move together, one of its own, one of few days."""
    dice = random.Random(seed)
    prices: dict[str, list[Decimal | None]] = {name: [] for name in "ABCDE"}
    level = dict.fromkeys("ABCDE", 100.0)
    for day in range(days):
        first, second = dice.gauss(0, 0.02), dice.gauss(0, 0.02)
        for name, move in zip("ABCDE", (first, first, second, second, 0.0), strict=True):
            level[name] *= 1 + move + dice.gauss(0, 0.002)
            missing = (name == "E" and day < days - 30) or (name == "B" and 5 < day <= 5 + gap)
            prices[name].append(None if missing else Decimal(f"{level[name]:.2f}"))
    return Closes(
        tuple(f"2026-{1 + day // 28:02d}-{1 + day % 28:02d}" for day in range(days)), prices
    )


def test_it_is_an_event() -> None:
    """Of the schema, with texts of at most 18 decimals; who has few days is unclassified."""
    content = clusters_content(closes(), 3, {}, "C")
    event = msgspec.convert({**content, **SIGNED}, ClustersDefined, strict=False)
    assert (event.version, event.as_of_day, event.window) == (3, "2026-04-07", 90)
    assert content["clusters"] == {"A": ["A", "B"], "C": ["C", "D"], "unclassified": ["E"]}
    assert content["beta"]["C"] == "1"
    assert len(event.symbols) == 5
    assert all(len(text.partition(".")[2]) <= 18 for text in content["sigma"].values())


def test_same_closes_same_bytes_in_any_order() -> None:
    """And another close, another hash."""
    one = closes()
    turned = Closes(one.days, dict(reversed(list(one.prices.items()))))
    first, again = clusters_content(one, 1, {}), clusters_content(turned, 1, {})
    assert msgspec.json.encode(first) == msgspec.json.encode(again)
    other = clusters_content(closes(2), 1, {})
    assert other["returns_hash"] != first["returns_hash"]
    assert other["matrix_hash"] != first["matrix_hash"]


def test_three_missing_days_repeat_the_price() -> None:
    """A fourth one is missing for all."""
    content = clusters_content(closes(gap=3), 1, {})
    assert content["clusters"]["A"] == ["A", "B"]
    assert content["returns_hash"] != clusters_content(closes(gap=4), 1, {})["returns_hash"]


@pytest.mark.parametrize(
    ("clusters", "before", "expected"),
    [
        ({"A": ["A", "B"]}, {}, {"A": ("A", "B")}),
        ({"A": ["A", "B"]}, {"B": ["B", "C"]}, {"B": ("A", "B")}),
        ({"A": ["A", "B"]}, {"B": ["B", "C", "D"]}, {"A": ("A", "B")}),
        ({"A": ["A", "B"], "C": ["C"]}, {"B": ["A", "B", "C"]}, {"B": ("A", "B"), "C": ("C",)}),
        # Two of which half stayed: the larger part, then the smaller name.
        ({"A": ["A", "B", "C"]}, {"B": ["A", "B"], "C": ["C"]}, {"B": ("A", "B", "C")}),
        ({"A": ["A", "B"]}, {"A": ["A"], "B": ["B"]}, {"A": ("A", "B")}),
        # The name that it would have is another's by now.
        ({"A": ["A", "B"], "C": ["C"]}, {"A": ["C"]}, {"A": ("C",), "B": ("A", "B")}),
        ({"A": ["A"], "C": ["C"]}, {"A": ["C"]}, {"A": ("C",), "A'": ("A",)}),
        ({"A": ["A"]}, {"unclassified": ["A"]}, {"A": ("A",)}),
    ],
)
def test_a_cluster_keeps_its_name(
    clusters: dict[str, list[str]],
    before: dict[str, list[str]],
    expected: dict[str, tuple[str, ...]],
) -> None:
    """While at least half of the members that it had are in it."""
    assert renamed(clusters, before) == expected
