"""What pages of other origins can do to a service on loopback, in a real browser."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Page, async_playwright
from tests.integration.test_http import EVENT, Api, serving
from tests.support.psm_stream import Account
from tests.support.workbench import until_answer

from psm.adapters.jetstream.reads import stream_info

CHROMIUM = os.environ.get("PSM_TEST_CHROMIUM") or shutil.which("chromium") or "chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # What a resolver of an attacker says, without one.
    "--host-resolver-rules=MAP evil.example 127.0.0.1, MAP rebound.example 127.0.0.1",
]
BODY = json.dumps(EVENT)

pytestmark = pytest.mark.chromium


@pytest.fixture
async def api(nats_url: str, postgres_dsn: str) -> AsyncIterator[Api]:
    async with serving(nats_url, postgres_dsn, ingest=True) as api:
        yield api


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield await browser.new_page()
        await browser.close()


@asynccontextmanager
async def evil_site() -> AsyncIterator[str]:
    """Serve an empty page under a name of its own."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<p>hello"
        )
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://evil.example:{server.sockets[0].getsockname()[1]}/"


async def stored(api: Api) -> int:
    """Return the log sequence of the last message, 0 for none."""
    info = await stream_info(api.nc, "TRADES")
    return info.last_sequence


ATTACKS = {
    "blob": "(url, body) => fetch(url, {method: 'POST', mode: 'no-cors', body: new Blob([body])})",
    "text": "(url, body) => fetch(url, {method: 'POST', mode: 'no-cors', body})",
    "json": """(url, body) => fetch(url, {
        method: 'POST', body, headers: {'Content-Type': 'application/json'}})""",
    "beacon": "async (url, body) => navigator.sendBeacon(url, new Blob([body]))",
    "form": """(url, body) => new Promise(done => {
        const form = document.createElement('form'), frame = document.createElement('iframe');
        const field = document.createElement('input');
        [frame.name, form.target, form.method] = ['f', 'f', 'post'];
        [form.enctype, form.action] = ['text/plain', url];
        [field.name, field.value] = [body.slice(0, -1) + ', "x": "', '"}'];
        form.append(field);
        document.body.append(frame, form);
        frame.onload = () => done('sent');
        form.submit();
    })""",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_foreign_page_appends_nothing(api: Api, page: Page, attack: str) -> None:
    """However it sends an event: as a blob, a text, JSON, a beacon or a form."""
    url = str(api.client.base_url.join("/psm/events"))
    run = f"([url, body]) => ({attack})(url, body).catch(error => String(error))"
    async with evil_site() as site:
        await page.goto(site)
        await page.evaluate(run, [url, BODY])
        await until_answer(
            lambda: api.client.get("/metrics"), lambda a: 'status="403"' in a.text, "it is refused"
        )
    assert await stored(api) == 0


async def test_foreign_page_sees_nothing(api: Api, page: Page) -> None:
    """It may ask, but the browser does not show it the answer."""
    await api.write(Account("acc_001").deposit())
    url = str(api.client.base_url.join("/psm/state/acc_001"))
    async with evil_site() as site:
        await page.goto(site)
        told = await page.evaluate(
            "url => fetch(url).then(a => a.text()).catch(error => String(error))", url
        )
    assert told == "TypeError: Failed to fetch"


async def test_rebound_name_is_another_service(api: Api, page: Page) -> None:
    """A name of the attacker that points here is the same origin as its page, and is refused."""
    await api.write(Account("acc_001").deposit())
    port = api.client.base_url.port
    shown = await page.goto(f"http://rebound.example:{port}/psm/state/acc_001")
    assert shown is not None
    assert shown.status == 421
    assert "1000" not in await shown.text()
    post = """body => fetch('/psm/events', {
        method: 'POST', body, headers: {'Content-Type': 'application/json'}}).then(a => a.status)"""
    assert await page.evaluate(post, BODY) == 421
    assert await stored(api) == 0


async def test_own_page_may_do_both(api: Api, page: Page) -> None:
    await page.goto(str(api.client.base_url.join("/health/live")))
    post = """body => fetch('/psm/events', {
        method: 'POST', body, headers: {'Content-Type': 'application/json'}}).then(a => a.status)"""
    assert await page.evaluate(post, BODY) == 201
    assert await stored(api) == 1
