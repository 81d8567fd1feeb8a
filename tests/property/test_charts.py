"""Charts of any values: a picture that can be drawn, with every point inside of it."""

from __future__ import annotations

import re
from decimal import Decimal
from xml.etree import ElementTree as ET

from hypothesis import example, given
from hypothesis import strategies as st

from psm.workers.analytics.report.svg import HEIGHT, WIDTH, LineChart, line_chart
from psm.workers.analytics.report.texts import money

AMOUNTS = st.decimals(Decimal(-(10**18)), Decimal(10**18), places=18)
NEAR = st.builds(
    lambda value, steps: [value + step * Decimal("1e-18") for step in steps],
    AMOUNTS,
    st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=5),
)


@given(st.lists(AMOUNTS | st.none(), max_size=9) | NEAR, st.none() | AMOUNTS)
@example([Decimal(10**18), Decimal(10**18) + 1], None)
@example([Decimal(25000), Decimal("24999.999998")], None)
@example([Decimal(0), Decimal("1E-18")], Decimal(0))
def test_a_line_is_drawn_of_whatever_there_is(
    values: list[Decimal | None], base: Decimal | None
) -> None:
    points = [(f"2026-01-0{number % 9 + 1}", value) for number, value in enumerate(values)]
    chart = LineChart(key="k", title="T", summary="S", points=points, shown=money, base=base)
    drawn = ET.fromstring(line_chart(chart))
    if not any(value is not None for value in values):
        assert drawn.tag == "p"
        return
    for line in drawn.iter("polyline"):
        for x, y in re.findall(r"([^ ,]+),([^ ,]+)", line.attrib["points"]):
            assert 0 <= float(x) <= WIDTH
            assert 0 <= float(y) <= HEIGHT


def test_labels_have_room() -> None:
    """Cents are left out where no level has any; what is longer still is narrowed, never cut."""
    values = [Decimal(100_000_000), Decimal(140_000_000)]
    assert _labels(values) == [
        ("100,000,000", None), ("110,000,000", None), ("120,000,000", None),
        ("130,000,000", None), ("140,000,000", None),
    ]  # fmt: skip
    assert _labels([value * 10_000 for value in values])[0] == ("1,000,000,000,000", "66.0")
    assert ("0.25", None) in _labels([Decimal(0), Decimal(1)])


def _labels(values: list[Decimal]) -> list[tuple[str | None, str | None]]:
    points = [("2026-01-01", value) for value in values]
    chart = LineChart(key="k", title="T", summary="S", points=points, shown=money)
    texts = ET.fromstring(line_chart(chart)).iter("text")
    return [(text.text, text.get("textLength")) for text in texts if text.get("class") == "y"]
