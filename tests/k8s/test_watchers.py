"""What watches compose: Prometheus, Alertmanager and collector are configured for what there is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from scripts.make_rules import RULES, rules
from tests.k8s.tools import ROOT

DEPLOY = ROOT / "deploy"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def test_rules_of_compose_are_those_of_the_chart() -> None:
    """Made of them by `make docs`."""
    assert RULES.read_text("utf-8") == rules()


@pytest.mark.prometheus
@pytest.mark.parametrize(
    ("tool", "command", "file"),
    [
        ("promtool", ("check", "config"), "prometheus.yml"),
        ("promtool", ("check", "rules"), "rules.yml"),
        ("amtool", ("check-config",), "alertmanager.yml"),
    ],
)
def test_the_servers_own_tools_accept_their_files(
    tool: str, command: tuple[str, ...], file: str
) -> None:
    found = shutil.which(tool)
    assert found, f"{tool} is missing: apt-get install prometheus prometheus-alertmanager"
    done = subprocess.run(
        [found, *command, str(DEPLOY / file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_asks_every_part_that_tells_metrics() -> None:
    """Whoever has a metrics port in compose is a target, named as of the release."""
    services = read(ROOT / "compose.yaml")["services"]
    ports = {
        f"{name}:{service['environment']['PSM_METRICS_PORT']}"
        for name, service in services.items()
        if isinstance(service.get("environment"), dict)
        and "PSM_METRICS_PORT" in service["environment"]
    }
    jobs = {job["job_name"]: job for job in read(DEPLOY / "prometheus.yml")["scrape_configs"]}
    (own,) = jobs["psm"]["static_configs"]
    assert set(own["targets"]) == ports
    (named,) = jobs["psm"]["relabel_configs"]
    assert (own["labels"], named["target_label"]) == ({"namespace": "default"}, "pod")
    assert named["replacement"].startswith("psm-")


def test_profile_of_compose_starts_them_with_these_files() -> None:
    """Each reads its file where its command says, and is where the others look for it."""
    services = read(ROOT / "compose.yaml")["services"]
    files = {"prometheus": "prometheus.yml", "alertmanager": "alertmanager.yml"}
    for name, file in {**files, "collector": "collector.yaml"}.items():
        service = services[name]
        inside = {volume.split(":")[0]: volume.split(":")[1] for volume in service["volumes"]}
        assert any(inside[f"./deploy/{file}"] in word for word in service["command"])
    config = read(DEPLOY / "prometheus.yml")
    (managers,) = config["alerting"]["alertmanagers"]
    assert managers["static_configs"] == [{"targets": ["alertmanager:9093"]}]
    assert config["rule_files"] == ["rules.yml"]
    assert "./deploy/rules.yml:/etc/prometheus/rules.yml:ro" in services["prometheus"]["volumes"]
    protocols = read(DEPLOY / "collector.yaml")["receivers"]["otlp"]["protocols"]
    assert protocols["http"]["endpoint"].endswith(":4318")


def test_collector_takes_in_and_gives_out() -> None:
    """Each pipeline is made of what is defined; Prometheus asks where metrics are given out."""
    file = read(DEPLOY / "collector.yaml")
    used: dict[str, set[str]] = {}
    for pipeline in file["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            used.setdefault(kind, set()).update(names)
    assert used == {kind: set(file[kind]) for kind in ("receivers", "processors", "exporters")}
    given_out = file["exporters"]["prometheus"]["endpoint"].rpartition(":")[2]
    jobs = {job["job_name"]: job for job in read(DEPLOY / "prometheus.yml")["scrape_configs"]}
    assert jobs["collector"]["static_configs"] == [{"targets": [f"collector:{given_out}"]}]
