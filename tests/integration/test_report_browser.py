"""The tear sheet in a real browser: nothing on the console, nothing asked, something to see."""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, async_playwright
from tests.integration.test_http_browser import ARGUMENTS, CHROMIUM
from tests.support.tear_sheets import closed_trade, tear_sheet, walk

from psm.workers.analytics.report.page import report_page

pytestmark = pytest.mark.chromium


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    file = tmp_path / "acc_001.html"
    trades = [closed_trade(20_000 + number, str(number % 5 - 2)) for number in range(40)]
    file.write_text(report_page(tear_sheet(walk(400), trades)), "utf-8")
    return file


@pytest.fixture(params=["light", "dark"])
async def context(request: pytest.FixtureRequest) -> AsyncIterator[BrowserContext]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield await browser.new_context(color_scheme=request.param)
        await browser.close()


async def test_page_opens_without_errors_and_without_a_request(
    context: BrowserContext, sheet: Path
) -> None:
    page = await context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(sheet.as_uri(), wait_until="networkidle")
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [sheet.as_uri()]
    assert await page.title() == "acc_001: tear sheet"
    lines = page.locator("svg polyline")
    assert await lines.count() >= 5
    for index in range(await page.locator("svg").count()):
        box = await page.locator("svg").nth(index).bounding_box()
        assert box is not None
        assert box["width"] > 500
        assert box["height"] > 100
    wide = await page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert wide is False


async def test_page_is_not_blank(context: BrowserContext, sheet: Path) -> None:
    """In light and dark, on a telephone, and on paper."""
    page = await context.new_page()
    await page.goto(sheet.as_uri())
    assert colours(await page.screenshot()) > 50
    await page.set_viewport_size({"width": 390, "height": 844})
    assert colours(await page.screenshot()) > 50
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth") is True
    paper = await page.pdf(format="A4")
    assert paper.startswith(b"%PDF")
    assert paper.count(b"/Type /Page\n") + paper.count(b"/Type /Page ") >= 2


def colours(png: bytes) -> int:
    """Return how many colours a screenshot has, by its bytes after unpacking."""
    data, place = b"", 8
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        if png[place + 4 : place + 8] == b"IDAT":
            data += png[place + 8 : place + 8 + length]
        place += length + 12
    raw = zlib.decompress(data)
    return len({raw[start : start + 3] for start in range(0, len(raw), 97)})
