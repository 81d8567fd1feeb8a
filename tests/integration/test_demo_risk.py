"""The demo's desk as its user meets it: refused, closed all the same, and lifted by two persons."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.support.running import READY_S, psm, started

T = TypeVar("T")
ACCOUNT, DESK = "acc_desk", "group:desk"
LATCH_S = 120.0


class User:
    """Somebody in another terminal: commands find the demo, as they find `psm up`."""

    def __init__(self, folder: Path) -> None:
        self.environment = {"XDG_STATE_HOME": str(folder / "state")}
        self.data = folder / "data"

    def risk(self, *arguments: str, code: int | None = 0) -> Any:
        """Return what `psm risk` prints; None where it fails."""
        done = psm("risk", *arguments, "-o", "json", environment=self.environment, check=False)
        assert code in (None, done.returncode), done.stderr
        return json.loads(done.stdout) if done.returncode == 0 else None

    def latch(self) -> dict[str, Any] | None:
        """Return what is latched."""
        found = self.risk("state", DESK, "--kind", "latch", code=None)
        return found[0] if found else None

    def lift(self, latch: str, who: str, code: int = 0) -> Any:
        """Say with one's key that a latch is to be lifted."""
        key = str(self.data / "keys" / who)
        return self.risk("resume", DESK, latch, "--key", key, "--reason", "seen", code=code)

    def ask(self, side: str, *, dry_run: bool) -> dict[str, Any]:
        """Ask over HTTP; return the decision."""
        lines = psm("env", environment=self.environment).stdout.splitlines()
        (url,) = (line.partition("=")[2] for line in lines if "HTTP_URL" in line)
        order = {
            "account_id": ACCOUNT,
            "order_id": f"mine-{side}",
            "symbol": "BTC-PERP",
            "side": side,
            "type": "market",
            "quantity": "0.001",
        }
        body = json.dumps({"dry_run": dry_run, "order": order}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/psm/risk/check", body, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)["payload"]
        return found


@pytest.mark.timeout(400)
def test_risk_refuses_until_two_persons_lift_it(tmp_path: Path) -> None:
    """The walk of docs/risk.md, "See it refuse"."""
    user = User(tmp_path)
    options = ("--data-dir", str(user.data), "--accounts", "1", "--rate", "5")
    with started(tmp_path, "demo", *options, environment=user.environment) as demo:
        held = within(LATCH_S, user.latch, "the loss of the day is latched")
        assert (held["code"], held["mode"]) == ("daily_loss", "reducing")

        refused = user.ask("buy", dry_run=True)
        assert refused["decision"] == "rejected"
        by_name = {one["name"]: one for one in refused["checks"]}
        assert [name for name, one in by_name.items() if not one["passed"]] == [
            "mode",
            "daily_loss",
        ]
        assert (by_name["daily_loss"]["limit"], by_name["daily_loss"]["detail"]) == (
            "-100",
            "latched",
        )
        assert {"leverage", "exposure_gross", "max_order_notional", "mark_age"} <= set(by_name)
        assert user.ask("sell", dry_run=False)["decision"] == "approved"
        assert user.risk("decisions", ACCOUNT, "--decision", "rejected", "--check", "daily_loss")

        assert user.lift(held["hash"], "ada")["reason"] == "four_eyes"
        user.lift(held["hash"], "ada", code=1)
        assert user.lift(held["hash"], "bob")["outcome"] == "applied"
        within(READY_S, lambda: gone(user.latch(), held), "the latch is lifted")
        demo.process.send_signal(signal.SIGINT)
        output, _ = demo.process.communicate(timeout=READY_S)
        assert demo.process.returncode == 0
        assert demo.left_over() == []
    assert "LATCH" in output
    assert "closes, although" in output


def gone(now: dict[str, Any] | None, before: dict[str, Any]) -> bool:
    return now is None or now["hash"] != before["hash"]


def within(seconds: float, found: Callable[[], T | None], what: str) -> T:
    """Return what is found as soon as it is there."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)
    return answer
