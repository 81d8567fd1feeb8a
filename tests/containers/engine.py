"""A container engine of the tests' own, and the images that compose.yaml and Dockerfile name."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.k8s.tools import ROOT

READY_S = 60.0
_STOP_S = 30.0
# Addresses that are for tests of networks, so that nobody's own are hidden.
_ADDRESSES = ("--bip=198.18.63.1/24", "--default-address-pool=base=198.18.64.0/18,size=24")
# Nothing of the machine is changed: no firewall rule, no forwarding.
_ALONE = ("--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false")


class Engine:
    """A running engine.

    Attributes:
        env: the environment in which its client and compose find it.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = dict(env)

    def docker(self, *arguments: str, timeout: float = 60.0) -> str:
        """Run the client; return what it says."""
        return said(["docker", *arguments], self.env, timeout)

    def build(self, tag: str, folder: Path) -> float:
        """Build an image of a folder with its Dockerfile; return the seconds that it took."""
        start = time.monotonic()
        self.docker("build", "--quiet", "--network=host", f"--tag={tag}", str(folder), timeout=900)
        return time.monotonic() - start


@contextmanager
def engine(programs: Path, images: Path) -> Iterator[Engine]:
    """Run an engine with the images; the folders are those that the scripts print.

    Where `DOCKER_HOST` is set, that one is taken as it is, with the images it has or finds.
    """
    env = {"PATH": f"{programs}:{os.environ['PATH']}", "DOCKER_BUILDKIT": "0", "HOME": "/nowhere"}
    if host := os.environ.get("DOCKER_HOST"):
        yield Engine({**env, "DOCKER_HOST": host})
        return
    with tempfile.TemporaryDirectory(prefix="psm-test-engine-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        running = Engine({**env, "DOCKER_HOST": f"unix://{folder}/socket"})
        had_bridge = Path("/sys/class/net/docker0").exists()
        try:
            with _daemon(programs, folder, env):
                _await(running, folder / "log")
                for image, tag in tags().items():
                    running.build(tag, images / image)
                yield running
        finally:
            left = folder / "exec" / "netns" / "default"  # The engine leaves it mounted.
            subprocess.run(["umount", str(left)], check=False)
            if not had_bridge:
                subprocess.run(["ip", "link", "delete", "docker0"], check=False)


def tags() -> dict[str, str]:
    """Return the names that compose.yaml gives to what is made here."""
    compose = (ROOT / "compose.yaml").read_text()
    found = re.findall(r"\$\{IMAGE_(\w+):-([^}]+)\}", compose)
    return {image.lower(): tag for image, tag in found if image != "PSM"}


def said(command: list[str], env: Mapping[str, str], timeout: float) -> str:
    """Run a command that must succeed; return what it prints."""
    done = subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


@contextmanager
def _daemon(programs: Path, folder: Path, env: Mapping[str, str]) -> Iterator[None]:
    libraries = {
        "LD_LIBRARY_PATH": str(programs / "lib"),
        "XTABLES_LIBDIR": str(programs / "lib" / "xtables"),
    }
    command = [
        *(str(programs / "dockerd"), f"--host=unix://{folder}/socket"),
        *(f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"),
        *("--storage-driver=overlay2", *_ALONE, *_ADDRESSES),
    ]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, env={**env, **libraries}, stdout=log, stderr=log) as process,
    ):
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _await(running: Engine, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            running.docker("version")
        except AssertionError:
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.1)
        else:
            return
