"""Every alert fires by promtool, has its page, and is about one release alone; every panel asks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from scripts.metrics import exposed_names
from tests.k8s.tools import CHART, ROOT, render

CASES: dict[str, dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parent / "alert_cases.yaml").read_text("utf-8")
)
ALL = (
    "alerts.enabled=true,risk.enabled=true,alerts.databaseBytes=100000000000,"
    "alerts.volumeClaims=nats-js-.*,dashboards.enabled=true,scheduled.audit.enabled=true,"
    "scheduled.replicaAudit.enabled=true,scheduled.anchors.enabled=true,"
    "scheduled.anchors.existingClaim=anchors,scheduled.anchors.existingSecret=sign"
)
ILL, WELL = 0, 1
ABSENT = "_x"


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    return render("--set", ALL)


@pytest.fixture(scope="module")
def groups(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    (rule,) = [one for one in manifests if one["kind"] == "PrometheusRule"]
    found: list[dict[str, Any]] = rule["spec"]["groups"]
    return found


def rules_of(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [rule for group in groups for rule in group["rules"]]


def alerts_of(groups: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules_of(groups) if "alert" in rule}


def series(case: dict[str, Any], namespace: str, how: int) -> list[dict[str, str]]:
    """The series of a case as those of one release, in one condition."""
    made = []
    for name, values in case["series"].items():
        labels = f'namespace="{namespace}",pod="psm-worker-0"'
        metric, own = name.rstrip("}").split("{", 1)
        full = f"{metric}{{{','.join(filter(None, (own, labels)))}}}"
        made.append({"series": full, "values": values[how]})
    return made


def batches() -> list[list[str]]:
    """The alerts in groups that share no metric and end at about the same time: one test each."""
    made: list[tuple[bool, set[str], list[str]]] = []
    for alert, case in CASES.items():
        metrics = {name.partition("{")[0] for name in case["series"]}
        slow = case["at"] in {"50m", "70m"}
        for is_slow, taken, alerts in made:
            if is_slow == slow and not taken & metrics:
                taken |= metrics
                alerts.append(alert)
                break
        else:
            made.append((slow, metrics, [alert]))
    return [alerts for _, _, alerts in made]


def unit_test(alerts: list[str]) -> dict[str, Any]:
    """A promtool test: of two releases, beside each other, one is ill and one is well."""
    questions = []
    for alert in alerts:
        for namespace, firing in (("default", True), ("other", False)):
            chosen = f'alertname="{alert}",alertstate="firing",namespace="{namespace}"'
            expected = [{"labels": "{}", "value": 1}] if firing else []
            at = CASES[alert]["at"]
            question = f"max(ALERTS{{{chosen}}})"
            questions.append({"expr": question, "eval_time": at, "exp_samples": expected})
    return {
        "name": ", ".join(alerts),
        "interval": "1m",
        "input_series": [
            one
            for alert in alerts
            for namespace, how in (("default", ILL), ("other", WELL))
            for one in series(CASES[alert], namespace, how)
        ],
        "promql_expr_test": questions,
    }


def of_both(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rules of two releases in one Prometheus."""
    text = yaml.safe_dump(groups)
    other = text.replace('namespace="default"', 'namespace="other"')
    other = other.replace("namespace: default", "namespace: other").replace("name: psm", "name: o")
    return [*groups, *yaml.safe_load(other)]


@pytest.mark.prometheus
def test_every_alert_fires_and_another_release_hides_or_starts_none(
    groups: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The ill one of two releases has the alert, the one that is well has none."""
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: apt-get install prometheus"
    assert CASES.keys() == alerts_of(groups).keys(), "each alert has a case, and only alerts do"
    rules = {"groups": of_both(groups)}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules, width=10_000))
    tests = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [unit_test(alerts) for alerts in batches()],
    }
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests, width=10_000))
    done = subprocess.run(
        [promtool, "test", "rules", str(tmp_path / "tests.yaml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-6000:]


def test_every_alert_has_its_page(groups: list[dict[str, Any]]) -> None:
    """Whoever is woken finds a page of the alert's name that says what to do; no page is left."""
    pages = {
        path.stem: path.read_text("utf-8") for path in (ROOT / "docs/runbooks").glob("Psm*.md")
    }
    alerts = alerts_of(groups)
    loki = alerts_of(yaml.safe_load((ROOT / "deploy/loki-rules.yaml").read_text("utf-8"))["groups"])
    assert pages.keys() == alerts.keys() | loki.keys()
    for name, rule in {**alerts, **loki}.items():
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert name in loki or rule["keep_firing_for"]
        assert pages[name].startswith(f"# {name}\n")
        for part in ("## What it means", "## What to do"):
            assert part in pages[name], name


def test_alerts_and_panels_ask_for_metrics_that_exist(
    groups: list[dict[str, Any]], manifests: list[dict[str, Any]]
) -> None:
    """What rules and dashboards ask for is what processes tell, or another rule."""
    rules = rules_of(groups)
    known = exposed_names() | {rule["record"] for rule in rules if "record" in rule}
    asked = {name: rule["expr"] for rule in rules for name in named(rule["expr"])}
    for board in boards(manifests).values():
        asked |= {name: expr for _, expr in queries(board) for name in named(expr)}
    assert {name: expr for name, expr in asked.items() if name not in known} == {}


def test_rules_are_about_this_release_alone(groups: list[dict[str, Any]]) -> None:
    """A healthy release beside it hides nothing: each figure is named with its release."""
    for rule in rules_of(groups):
        # `by` and `on` name labels and windows stand behind; every metric has a selector.
        found = re.findall(r"\b((?:psm[_:]|process_)[a-z_:0-9]+)(\{[^}]*\})?", rule["expr"])
        cluster = re.search("kubelet_volume|kube_(cron)?job_", rule["expr"])
        assert found or cluster or rule["expr"].startswith("vector("), rule
        for name, labels in found:
            own = 'release="psm"' if ":" in name else 'pod=~"psm-.*"'
            assert f'namespace="default", {own}' in labels, rule
        assert rule["labels"]["release"] == "psm"
        assert rule["labels"]["namespace"] == "default"


def named(expr: str) -> set[str]:
    """The metrics of ours, and of processes, that an expression asks for."""
    return set(re.findall(r"\b((?:psm[_:]|process_)[a-z_:0-9]+)\{", expr))


def boards(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    (config,) = [
        one
        for one in manifests
        if one["kind"] == "ConfigMap" and one["metadata"]["name"] == "psm-dashboards"
    ]
    return {name: json.loads(text) for name, text in config["data"].items()}


def queries(board: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (panel["title"], target["expr"])
        for panel in board["panels"]
        for target in panel.get("targets", [])
    ]


def test_dashboards_are_what_their_definition_says(manifests: list[dict[str, Any]]) -> None:
    """Five of them, in the chart; each with its release chosen, and no panel without a question."""
    found = boards(manifests)
    files = {path.name for path in (CHART / "dashboards").glob("*.json")}
    assert found.keys() == files
    assert {"overview.json", "partition.json", "projection.json", "risk.json"} < files
    for name, board in found.items():
        assert board["uid"] == f"psm-{name.removesuffix('.json')}"
        asked = queries(board)
        assert asked
        assert all("$namespace" in expr and "$release" in expr for _, expr in asked), name
