"""Writes `deploy/rules.yml`: the chart's rules and alerts, for a Prometheus beside compose.

A part of `make docs`; tests/k8s/test_watchers.py asks whether they are those of the chart.
"""

from __future__ import annotations

import sys

import yaml
from scripts.made import ROOT, settle
from tests.k8s.tools import render

RULES = ROOT / "deploy" / "rules.yml"
_HEAD = "# Made by `make docs` of k8s/psm/rules.\n"


def rules() -> str:
    """Return the text of the file."""
    manifests = render("--set", "alerts.enabled=true,risk.enabled=true")
    (rule,) = [one for one in manifests if one["kind"] == "PrometheusRule"]
    groups = {"groups": rule["spec"]["groups"]}
    return _HEAD + yaml.safe_dump(groups, width=10_000, sort_keys=False)


if __name__ == "__main__":
    sys.exit(settle({RULES: rules()}, "the chart's"))
