"""The page of a tear sheet: whole, in one file, asking nobody, readable without eyes."""

from __future__ import annotations

import re
from decimal import Decimal
from html.parser import HTMLParser

import msgspec
import pytest
from tests.support.tear_sheets import closed_trade, tear_sheet, walk

from psm.analytics.closes import BucketClose
from psm.domain.money import exact_text
from psm.workers.analytics.report.page import report_page
from psm.workers.analytics.report.tables import SHOWN_TRADES
from psm.workers.analytics.report.texts import data, money, percent

_VOID = {"meta", "link", "br", "hr", "img"}
_REQUESTS = re.compile(r"https?://|//[a-z]|url\(|@import|\bsrc=|<script|\bon[a-z]+=|javascript:")


class Page(HTMLParser):
    """What stands in a page; fails where tags are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(closes: list[BucketClose], trades: int = 0, **more: str) -> str:
    rows = [closed_trade(20_000 + number, str(number % 7 - 3)) for number in range(trades)]
    return report_page(tear_sheet(closes, rows, **more))


@pytest.mark.parametrize("days", [0, 1, 2, 3, 40, 900])
def test_page_is_whole_and_asks_nobody(days: int) -> None:
    text = page(walk(days), 30)
    assert not _REQUESTS.search(text)
    found = Page(text)
    assert found.all("html")[0] == {"lang": "en"}
    assert len(found.all("h1")) == 1
    ids = [given["id"] for _, given in found.tags if "id" in given]
    assert len(ids) == len(set(ids))
    policies = [given for given in found.all("meta") if given.get("http-equiv")]
    assert "default-src 'none'" in str(policies[0]["content"])


def test_charts_and_tables_say_what_they_are() -> None:
    found = Page(page(walk(60), 5))
    charts = found.all("svg")
    assert len(charts) == 6
    ids = {given.get("id") for _, given in found.tags}
    for chart in charts:
        assert chart["role"] == "img"
        assert set(str(chart["aria-labelledby"]).split()) <= ids
    assert len(found.all("table")) == len(found.all("caption"))
    assert all("scope" in given for given in found.all("th"))


def test_what_others_wrote_is_text() -> None:
    evil = '"><script>alert(1)</script>'
    text = page(walk(40), 3, symbol=evil, subject="a<b>")
    assert "<script" not in text
    assert "a&lt;b&gt;" in text
    assert not _REQUESTS.search(text.replace("&lt;script&gt;", ""))


def test_same_figures_give_the_same_bytes() -> None:
    assert page(walk(90), 12) == page(walk(90), 12)


def test_numbers_have_their_exact_digits_beside_them() -> None:
    figures = tear_sheet(walk(120))
    text = report_page(figures)
    for name in ("sharpe", "max_drawdown", "var_hist_95"):
        assert f'value="{exact_text(getattr(figures.metrics, name))}"' in text


def test_few_returns_are_said_to_be_few() -> None:
    assert "Fewer than 100 returns, 39" in page(walk(40))
    assert "Fewer than 100 returns" not in page(walk(200))
    assert "No bucket of this range is complete" in page(walk(1))


def test_ruin_has_no_ratios() -> None:
    closes = walk(10)
    closes[5] = msgspec.structs.replace(closes[5], nav=Decimal("-0.25"))
    text = page(closes)
    assert "fell to zero or below" in text
    Page(text)


def test_a_bucket_without_equity_is_a_gap() -> None:
    closes = walk(30)
    closes[10] = msgspec.structs.replace(closes[10], equity=None, nav=None, ret=None)
    text = page(closes)
    assert "could not be computed" in text
    assert text.count('<polyline class="line"') == 5  # equity and exposure in two, the unit


def test_very_many_trades_and_buckets_stay_readable() -> None:
    text = page(walk(5_000), SHOWN_TRADES + 1)
    assert f"The newest {SHOWN_TRADES} of {SHOWN_TRADES + 1}." in text
    assert len(text) < 1_500_000
    assert max(map(len, re.findall(r'points="([^"]*)"', text))) < 40_000


@pytest.mark.parametrize(
    ("value", "text"),
    [("0.01234", "1.23 %"), ("-0.00001", "0.00 %"), ("-0.5", "-50.00 %")],
)
def test_percent(value: str, text: str) -> None:
    assert percent(Decimal(value)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [("1234567.891", "1,234,567.89"), ("0.00001234", "0.00001234"), ("0", "0.00")],
)
def test_money(value: str, text: str) -> None:
    assert money(Decimal(value)) == text


def test_what_is_not_defined_is_no_zero() -> None:
    assert "not defined" in data(None, percent)
