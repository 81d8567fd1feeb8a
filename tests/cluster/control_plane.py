"""The control plane of Kubernetes, started for tests: etcd, API server, controllers, scheduler."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

READY_S = 120.0
_TOKEN = "of-the-tests"
_STOP_S = 20.0


class ApiServer:
    """An API server, as its administrator reaches it.

    Attributes:
        url: its address.
        kubeconfig: file with which programs reach it.
    """

    def __init__(self, url: str, certificate: Path, kubeconfig: Path) -> None:
        self.url = url
        self.kubeconfig = kubeconfig
        self._certificate = certificate
        self._tls: ssl.SSLContext | None = None
        cluster = {"server": url, "certificate-authority": str(certificate)}
        kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "test", "cluster": cluster}],
                    "users": [{"name": "test", "user": {"token": _TOKEN}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                    "current-context": "test",
                }
            )
        )

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return the answer to a request; None where the object is gone or has changed."""
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=str(self._certificate))
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        request = urllib.request.Request(
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {_TOKEN}", "Content-Type": kind},
        )
        try:
            with urllib.request.urlopen(request, timeout=30, context=self._tls) as answer:
                data = answer.read()
        except urllib.error.HTTPError as error:
            if error.code in (404, 409):
                return None
            raise AssertionError(f"{method} {path}: {error.read()!r}") from error
        return json.loads(data) if data.startswith(b"{") else data

    def is_ready(self) -> bool:
        """Return whether it answers that it is."""
        try:
            return bool(self.ask("GET", "/readyz") == b"ok")
        except (OSError, AssertionError):
            return False


@contextmanager
def control_plane(programs: Path, folder: Path) -> Iterator[ApiServer]:
    """Run a control plane in `folder`; `programs` holds what scripts/build_kubernetes.sh made."""
    etcd, peer, secure = _ports(3)
    key = folder / "accounts.pem"
    key.write_bytes(
        rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    (folder / "tokens.csv").write_text(f"{_TOKEN},admin,1,system:masters\n")
    certificate = folder / "certs" / "apiserver.crt"
    server = ApiServer(f"https://127.0.0.1:{secure}", certificate, folder / "kubeconfig")
    with ExitStack() as stack:
        stack.enter_context(_running(folder, _etcd(folder, etcd, peer)))
        stack.enter_context(_running(folder, _api_server(programs, folder, etcd, secure)))
        deadline = time.monotonic() + READY_S
        while not (certificate.exists() and server.is_ready()):
            assert time.monotonic() < deadline, (folder / "kube-apiserver.log").read_text()[-3000:]
            time.sleep(0.1)
        config = f"--kubeconfig={server.kubeconfig}"
        alone = ("--leader-elect=false", "--secure-port=0")
        controllers = [
            *(str(programs / "kube-controller-manager"), config, *alone),
            f"--service-account-private-key-file={key}",
            f"--root-ca-file={certificate}",
            # The nodes of these tests do not report; nobody shall find them dead.
            "--controllers=*,-node-lifecycle-controller",
        ]
        stack.enter_context(_running(folder, controllers))
        stack.enter_context(_running(folder, [str(programs / "kube-scheduler"), config, *alone]))
        yield server


def _etcd(folder: Path, client: int, peer: int) -> list[str]:
    program = shutil.which("etcd")
    assert program is not None, "etcd is not installed: apt-get install etcd-server"
    return [
        *(program, f"--data-dir={folder / 'etcd'}", "--unsafe-no-fsync"),
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
    ]


def _api_server(programs: Path, folder: Path, etcd: int, secure: int) -> list[str]:
    return [
        str(programs / "kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        f"--cert-dir={folder / 'certs'}",
        *("--bind-address=127.0.0.1", f"--secure-port={secure}"),
        *(f"--token-auth-file={folder / 'tokens.csv'}", "--authorization-mode=RBAC"),
        f"--service-account-key-file={folder / 'accounts.pem'}",
        f"--service-account-signing-key-file={folder / 'accounts.pem'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        *("--service-cluster-ip-range=198.18.32.0/24", "--endpoint-reconciler-type=none"),
        "--disable-admission-plugins=TaintNodesByCondition",
    ]


@contextmanager
def _running(folder: Path, command: list[str]) -> Iterator[None]:
    log = folder / f"{Path(command[0]).name}.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"PATH": os.defpath, "ETCD_UNSUPPORTED_ARCH": ""},
        ) as process,
    ):
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found
