"""What the engine tells people is counted, and the runbook has a row for each code."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec
from prometheus_client.exposition import generate_latest

import psm.risk.engine
from psm.adapters import telemetry
from psm.adapters.risk_metrics import ALERT_CODES
from psm.risk.messages import RiskOutput


def told() -> set[tuple[str, str]]:
    """Return severity and code of every alert that the engine's source tells."""
    found = set()
    for path in Path(*psm.risk.engine.__path__).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                texts = [one.value for one in node.args if isinstance(one, ast.Constant)]
                if node.func.attr == "alert" and len(texts) >= 2:
                    found.add((str(texts[0]), str(texts[1])))
    return found


def test_every_warning_and_error_of_the_engine_is_counted() -> None:
    """No code is told that no metric has; what is only said for the record is not counted."""
    assert {code for severity, code in told() if severity != "info"} == {*ALERT_CODES}


def test_alerts_are_counted_by_code_from_the_first_one_on() -> None:
    """Each series is there before, as 0: else the first alert were no increase."""
    instruments = telemetry.setup("test", env="development")
    try:
        for code in ("state_stale", "state_stale", "memory"):
            payload = {"severity": "warning", "code": code}
            data = msgspec.json.encode({"event_type": "alert", "payload": payload})
            output = RiskOutput(kind="alert", key="warning", data=data)
            instruments.risk_metrics.record(output, None)
        instruments.risk_metrics.clusters(3600.0)
        lines = generate_latest(instruments.registry).decode().splitlines()
    finally:
        instruments.shutdown()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    counted = {
        code: value
        for code in (*ALERT_CODES, "memory")
        for name, value in values.items()
        if name.startswith("psm_risk_alerts_total{") and f'code="{code}"' in name
    }
    assert {code: float(value) for code, value in counted.items()} == {
        **dict.fromkeys(ALERT_CODES, 0.0),
        "state_stale": 2.0,
    }
    assert [float(v) for n, v in values.items() if n.startswith("psm_risk_clusters_age")] == [3600]
