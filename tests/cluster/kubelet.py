"""Three nodes without containers: every pod runs, those of jobs succeed, images `broken` fail."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.control_plane import ApiServer

NODES = ("node-1", "node-2", "node-3")
EVERY_S = 0.1
_AT = "2026-01-01T00:00:00Z"
_ROOM = {"cpu": "64", "memory": "256Gi", "pods": "500"}


class Kubelet:
    """What the pods of all nodes seem to do.

    Attributes:
        fewest: component -> how many of its pods were ready at once, at the least, since `watch`.
    """

    def __init__(self, server: ApiServer) -> None:
        self.fewest: dict[str, int] = {}
        self._server = server
        for name in NODES:
            node = {"metadata": {"name": name}, "kind": "Node", "apiVersion": "v1"}
            server.ask("POST", "/api/v1/nodes", node)
            ready = [{"type": "Ready", "status": "True", "reason": "test", "message": "test"}]
            status = {"conditions": ready, "capacity": _ROOM, "allocatable": _ROOM}
            server.ask("PATCH", f"/api/v1/nodes/{name}/status", {"status": status})

    def watch(self) -> None:
        """Forget how few there were."""
        self.fewest = {}

    def look(self) -> None:
        """Do once what is to be done."""
        ready: Counter[str] = Counter()
        for pod in self._server.ask("GET", "/api/v1/pods")["items"]:
            status = pod["status"]
            if "deletionTimestamp" in pod["metadata"]:
                self._server.ask("DELETE", f"{_path(pod)}?gracePeriodSeconds=0")
            elif "nodeName" in pod["spec"] and status["phase"] == "Pending":
                self._server.ask("PATCH", f"{_path(pod)}/status", {"status": _status(pod)})
            elif status["phase"] == "Running":
                ready[pod["metadata"]["labels"]["app.kubernetes.io/component"]] += 1
        for component in {*ready, *self.fewest}:
            now = ready[component]
            self.fewest[component] = min(self.fewest.get(component, now), now)


def _path(pod: dict[str, Any]) -> str:
    about = pod["metadata"]
    return f"/api/v1/namespaces/{about['namespace']}/pods/{about['name']}"


def _status(pod: dict[str, Any]) -> dict[str, Any]:
    ends = pod["spec"]["restartPolicy"] != "Always"
    broken = any(c["image"].endswith(":broken") for c in pod["spec"]["containers"])
    if broken and not ends:
        return {}
    ended = {"terminated": {"exitCode": int(broken), "startedAt": _AT, "finishedAt": _AT}}
    return {
        "phase": ("Failed" if broken else "Succeeded") if ends else "Running",
        "podIP": "198.18.1.1",
        "podIPs": [{"ip": "198.18.1.1"}],
        "startTime": _AT,
        "conditions": [
            {"type": kind, "status": str(not ends), "lastTransitionTime": _AT}
            for kind in ("Initialized", "ContainersReady", "Ready")
        ],
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": not ends,
                "started": not ends,
                "restartCount": 0,
                "state": ended if ends else {"running": {"startedAt": _AT}},
            }
            for container in pod["spec"]["containers"]
        ],
    }


@contextmanager
def kubelet(server: ApiServer) -> Iterator[Kubelet]:
    """Let the nodes do their work during the block."""
    nodes, ended = Kubelet(server), threading.Event()

    def work() -> None:
        while not ended.wait(EVERY_S):
            nodes.look()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield nodes
    finally:
        ended.set()
        thread.join()
