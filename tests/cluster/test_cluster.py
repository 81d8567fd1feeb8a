"""The chart in front of a real API server: `make cluster` builds one and runs this.

Nothing runs in the pods; whether their images start is the affair of the tests of containers.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.control_plane import ApiServer, control_plane
from tests.cluster.kubelet import Kubelet, kubelet
from tests.k8s.test_chart import EVERYTHING, ONE_USER
from tests.k8s.tools import CHART, PLAIN, render, tool

PARTS = ("api", "worker", "projector", "analytics", "archive")
OBSERVED = (
    *EVERYTHING,
    "--set",
    "alerts.enabled=true,podMonitor.enabled=true,worker.autoscaling.enabled=true",
    "--set",
    "nats.auth.secretPerPart=true,postgres.secretPerPart=true,api.autoscaling.enabled=true",
)
VALUES = {"default": (), "everything": OBSERVED, "one user": ONE_USER, "no jobs": (
    "--set", "jobs.enabled=false,networkPolicy.enabled=false,analytics.enabled=false"
)}  # fmt: skip
KINDS = {
    "PodMonitor": ("monitoring.coreos.com", "v1", "podmonitors"),
    "PrometheusRule": ("monitoring.coreos.com", "v1", "prometheusrules"),
    "ScaledObject": ("keda.sh", "v1alpha1", "scaledobjects"),
}
SPACE = "money"
WAIT_S = 240
COMMAND_S = 280


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server with a namespace under the restricted Pod Security standard."""
    programs = os.environ.get("PSM_TEST_KUBERNETES")
    assert programs, "PSM_TEST_KUBERNETES names no control plane; run `make cluster`"
    with control_plane(Path(programs), tmp_path_factory.mktemp("cluster")) as server:
        for kind, (group, version, plural) in KINDS.items():
            _post(server, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", _crd(
                kind, group, version, plural
            ))  # fmt: skip
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        labels["pod-security.kubernetes.io/warn"] = "restricted"
        space = {"metadata": {"name": SPACE, "labels": labels}}
        _post(server, "/api/v1/namespaces", space)
        until(lambda: server.ask("GET", f"/api/v1/namespaces/{SPACE}/serviceaccounts/default"))
        until(lambda: all(server.ask("GET", f"/apis/{g}/{v}") for g, v, _ in KINDS.values()))
        yield server


@pytest.fixture(scope="module")
def nodes(server: ApiServer) -> Iterator[Kubelet]:
    """Nodes that run what is scheduled to them."""
    with kubelet(server) as running:
        yield running


@pytest.fixture(scope="module")
def installed(server: ApiServer, nodes: Kubelet) -> ApiServer:
    """The chart, installed as release `psm`."""
    done = helm(server, "install", *chart("one"))
    assert done.returncode == 0, done.stderr
    return server


@pytest.mark.parametrize("values", VALUES)
def test_the_api_server_takes_every_manifest(
    server: ApiServer, values: str, tmp_path: Path
) -> None:
    """Server-side apply accepts it all, and restricted Pod Security has nothing to warn of."""
    file = tmp_path / "rendered.json"
    manifests = render("--namespace", SPACE, *VALUES[values])
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))
    dry = ("apply", "--server-side", "--dry-run=server", "--filename", str(file))
    done = kubectl(server, *dry)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "serverside-applied" in done.stdout


def test_a_pod_that_gives_up_no_rights_is_refused(server: ApiServer, nodes: Kubelet) -> None:
    """So what the standard lets through is what it looked at."""
    pod = {"containers": [{"name": "a", "image": "a"}]}
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        server.ask(
            "POST", f"/api/v1/namespaces/{SPACE}/pods", {"metadata": {"name": "a"}, "spec": pod}
        )


def test_install_upgrade_test_and_rollback(installed: ApiServer) -> None:
    """Each waits until everything is available: hooks first, then pods that replace each other."""
    assert set(images(installed).values()) == {"portfolio-state-manager:one"}
    for command in (
        ("upgrade", *chart("two")),
        ("test", "psm"),
        ("rollback", "psm", "1", "--wait", f"--timeout={WAIT_S}s"),
    ):
        done = helm(installed, *command)
        assert done.returncode == 0, done.stderr
        tag = {"rollback": "one"}.get(command[0], "two")
        assert set(images(installed).values()) == {f"portfolio-state-manager:{tag}"}


def test_a_failed_hook_leaves_what_runs(installed: ApiServer, nodes: Kubelet) -> None:
    """The old pods go on without a gap, and the next upgrade works as if nothing had been."""
    before = images(installed)
    nodes.watch()
    done = helm(installed, "upgrade", *chart("broken"), "--set", "jobs.deadlineSeconds=10")
    assert done.returncode != 0
    assert "pre-upgrade hooks failed" in done.stderr
    assert images(installed) == before
    assert min(nodes.fewest[part] for part in PARTS) == 2
    done = helm(installed, "upgrade", *chart("three"))
    assert done.returncode == 0, done.stderr
    assert set(images(installed).values()) == {"portfolio-state-manager:three"}


def test_a_drained_node_takes_no_part_away(installed: ApiServer, nodes: Kubelet) -> None:
    """Evictions wait for the disruption budgets: of each part one pod is ready all the time."""
    for node in ("node-1", "node-2"):
        nodes.watch()
        done = kubectl(
            installed, "drain", node, "--delete-emptydir-data", "--ignore-daemonsets",
            f"--timeout={WAIT_S}s",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert min(nodes.fewest[part] for part in PARTS) >= 1
    for node in ("node-1", "node-2"):
        assert kubectl(installed, "uncordon", node).returncode == 0


def test_what_was_scaled_is_upgraded(installed: ApiServer) -> None:
    """Whoever scales owns the number: an upgrade neither fails on it nor takes it back."""
    scaled = ("--set", "worker.autoscaling.enabled=true")
    done = helm(installed, "upgrade", *chart("four"), *scaled)
    assert done.returncode == 0, done.stderr
    done = kubectl(
        installed, "scale", "deployment/psm-worker", "--replicas=4", "--namespace", SPACE
    )
    assert done.returncode == 0, done.stderr
    done = helm(installed, "upgrade", *chart("five"), *scaled)
    assert done.returncode == 0, done.stderr
    worker = deployments(installed)["psm-worker"]
    assert worker["spec"]["replicas"] == worker["status"]["availableReplicas"] == 4


def chart(tag: str) -> tuple[str, ...]:
    """Return the arguments that install or upgrade with an image of this tag."""
    postgres = ("--set", "postgres.existingSecret=psm-postgres", *PLAIN)
    image = ("--set-string", f"image.tag={tag}")
    return ("psm", str(CHART), "--wait", f"--timeout={WAIT_S}s", *postgres, *image)


def helm(server: ApiServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the real helm in front of the server."""
    return _run("helm", server, *arguments, "--namespace", SPACE)


def kubectl(server: ApiServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the real kubectl in front of the server."""
    return _run("kubectl", server, *arguments)


def deployments(server: ApiServer) -> dict[str, dict[str, Any]]:
    """Return the Deployments by name."""
    found = server.ask("GET", f"/apis/apps/v1/namespaces/{SPACE}/deployments")["items"]
    return {one["metadata"]["name"]: one for one in found}


def images(server: ApiServer) -> dict[str, str]:
    """Return the image of each Deployment."""
    return {
        name: one["spec"]["template"]["spec"]["containers"][0]["image"]
        for name, one in deployments(server).items()
    }


def until(seen: Any) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + WAIT_S
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _run(program: str, server: ApiServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    home = server.kubeconfig.parent
    return subprocess.run(
        [str(tool(program)), *arguments],
        env={"PATH": os.defpath, "HOME": str(home), "KUBECONFIG": str(server.kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_S,
    )


def _crd(kind: str, group: str, version: str, plural: str) -> dict[str, Any]:
    """Return a definition that takes anything of this kind."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True}
    return {
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [{**served, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def _post(server: ApiServer, path: str, body: dict[str, Any]) -> None:
    assert server.ask("POST", path, json.loads(json.dumps(body))) is not None
