"""Starts the stack, asks every panel and rule, makes alerts fire; see `make observe`."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from scripts.make_dashboards import BOARDS, expression
from scripts.observe.faults import FAULTS, note_audit
from scripts.observe.stack import Stack, Watchers, await_true, get
from tests.k8s.tools import render

WARM_S = 45.0
DATA_S = 90.0
FIRE_S = 120.0
CHART = (
    "alerts.enabled=true,risk.enabled=true,alerts.databaseBytes=100000000000,"
    "alerts.volumeClaims=nats-js-.*"
)


def main() -> int:
    """Run it all; 1 where a panel or rule has no data, or an alert does not fire."""
    for tool in ("prometheus", "prometheus-alertmanager"):
        if shutil.which(tool) is None:
            print(f"{tool} is missing: apt-get install prometheus prometheus-alertmanager")
            return 1
    (chart,) = [one for one in render("--set", CHART) if one["kind"] == "PrometheusRule"]
    groups: list[dict[str, Any]] = chart["spec"]["groups"]
    with tempfile.TemporaryDirectory(prefix="psm-observe-") as folder:
        stack, watchers = Stack(Path(folder)), Watchers(Path(folder))
        try:
            stack.start()
            targets = {name: port for name, (_, port) in stack.parts().items()}
            print(f"scraped: {', '.join(f'psm-{name}-0' for name in targets)}", flush=True)
            watchers.start(targets, _at_once(groups))
            with _reads(stack):
                note_audit(stack)
                time.sleep(WARM_S)
                asked, missing, empty = _panels(watchers)
                recorded, absent = _rules(watchers, groups)
                fired, silent = _fires(stack, watchers)
        finally:
            watchers.stop()
            stack.stop()
    alerts = sum("alert" in rule for group in groups for rule in group["rules"])
    counts = (
        f"{asked} queries of panels and {recorded} recorded rules asked, "
        f"{len(missing) + len(absent)} lack data, {empty} are empty while nothing happens; "
        f"{fired} of {alerts} alerts fired by planted causes, all by promtool"
    )
    print(counts)
    failures = [*missing, *absent, *silent]
    for text in failures:
        print(f"FAILED: {text}")
    return int(bool(failures))


def _at_once(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rules without waiting: how long they wait is for promtool, which has its own clock."""
    made = []
    for group in groups:
        rules = [{k: v for k, v in rule.items() if k != "for"} for rule in group["rules"]]
        for rule in rules:
            rule.pop("keep_firing_for", None)
        made.append({**group, "rules": rules})
    return made


@contextlib.contextmanager
def _reads(stack: Stack) -> Iterator[None]:
    """Read accounts over HTTP all the time, as people and dashboards do."""
    over = threading.Event()

    def read() -> None:
        paths = ("state/acc_001", "accounts", "risk/decisions?limit=5", "state/acc_002?live=true")
        while not over.wait(0.2):
            for path in paths:
                get(f"{stack.http}/psm/{path}")

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)


def _panels(watchers: Watchers) -> tuple[int, list[str], int]:
    """Print each panel and its values.

    Returns:
        How many queries were asked, those that lack data, and how many may lack it and do.
    """
    asked, missing, empty = 0, [], 0
    print(f"\n{'panel':58} {'lines':>5}  values")
    for name, (_, panels) in BOARDS.items():
        for panel in panels:
            for legend, text in panel.queries.items():
                expr = expression(text).replace("$namespace", "default").replace("$release", "psm")
                title = f"{name}: {panel.title}, {panel.unit} {legend}".strip()
                values = _asked(watchers, expr, 0.0 if panel.sparse else DATA_S)
                asked += 1
                shown = ", ".join(f"{value:.4g}" for value in values[:4])
                if not values:
                    shown = f"- ({panel.sparse})"
                    if panel.sparse:
                        empty += 1
                    else:
                        missing.append(title)
                print(f"{title:58.58} {len(values):5}  {shown}", flush=True)
    return asked, missing, empty


def _asked(watchers: Watchers, expr: str, most_s: float) -> list[float]:
    """Return the values of a query; waits for the first that is a number."""
    until = time.monotonic() + most_s
    while True:
        values = [value for value in watchers.query(expr) if value == value]
        if values or time.monotonic() > until:
            return values
        time.sleep(1)


def _rules(watchers: Watchers, groups: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """Print the value of each recorded rule; return how many, and those without data."""
    count, absent = 0, []
    # Nothing grows by the minute here: promtool has that case.
    sparse = {"psm:database:days_until_full", "psm:broker_store:days_until_full"}
    print(f"\n{'rule':58} {'lines':>5}  values")
    for group in groups:
        for rule in group["rules"]:
            if "record" not in rule:
                continue
            labels = ",".join(f'{k}="{v}"' for k, v in rule["labels"].items())
            values = _asked(watchers, f"{rule['record']}{{{labels}}}", DATA_S)
            count += 1
            title = f"{rule['record']} {rule['labels'].get('slo', '')}"
            title += f" {rule['labels'].get('quantile', '')}"
            if not values and rule["record"] not in sparse:
                absent.append(title)
            shown = ", ".join(f"{value:.4g}" for value in values[:4]) or "-"
            print(f"{title:58.58} {len(values):5}  {shown}", flush=True)
    _, body = get(f"{watchers.url}/api/v1/rules")
    broken = [
        f"{rule['name']}: {rule['lastError']}"
        for group in body["data"]["groups"]
        for rule in group["rules"]
        if rule["health"] != "ok"
    ]
    return count, [*absent, *broken]


def _fires(stack: Stack, watchers: Watchers) -> tuple[int, list[str]]:
    """Plant each cause; return how many alerts fired, and those that did not."""
    seen: set[str] = set()
    silent = []
    print(f"\n{'cause':46} {'alert':24} after")
    for fault in FAULTS:
        alerts = set(fault.alerts)
        # It must fire because of this, and not still, or since the start of the stack.
        await_true(partial(_are_silent, watchers, alerts), f"{fault.alerts} are silent", 180)
        watchers.told -= alerts
        with fault.planted(stack):
            for alert in fault.alerts:
                try:
                    took = await_true(partial(_is_told, watchers, alert), alert, FIRE_S)
                except TimeoutError:
                    silent.append(f"{alert} did not fire, or was not told: {fault.what}")
                    continue
                seen.add(alert)
                print(f"{fault.what:46} {alert:24} {took:.0f} s", flush=True)
        await_true(lambda: get(f"{stack.http}/health/ready")[0] == 200, "it is well again", 180)
    return len(seen), silent


def _are_silent(watchers: Watchers, alerts: set[str]) -> bool:
    return not alerts & watchers.firing()


def _is_told(watchers: Watchers, alert: str) -> bool:
    """Whether it fires, and Alertmanager told whoever is on call."""
    return alert in watchers.firing() and alert in watchers.told


if __name__ == "__main__":
    sys.exit(main())
