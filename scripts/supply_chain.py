"""What the image is made of: licence notices of its packages, and a bill of materials.

`python -m scripts.supply_chain notices` writes THIRD_PARTY.md, `--check` fails where it is not as
it would be written, or where a package of a lock has no hash; `sbom` prints a CycloneDX document.

Packages, versions and hashes are those of `requirements/runtime.txt`; licences are what the
installed packages say of themselves, so the virtual environment must be of the locks.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parent.parent
LOCKS = ROOT / "requirements"
NOTICES = ROOT / "THIRD_PARTY.md"
_PACKAGE = re.compile(
    r"^([A-Za-z0-9._-]+)(?:\[[\w,]+\])?==([^\s;\\]+)((?:[^\n]*\\\n)*[^\n]*)", re.MULTILINE
)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_TEXT = re.compile(r"(LICEN[CS]E|NOTICE|COPYING)", re.IGNORECASE)
_NAMESPACE = uuid.UUID("0e7a1a52-6f43-4f0c-9a52-6a1a3b1de015")

# What these packages say in words that are no SPDX expression.
_SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2 License": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
}

_HEAD = """\
# Third parties

<!-- Made by `make notices` from requirements/runtime.txt and the packages' own files. -->

The image holds these packages, unchanged, under these licences. Their texts stand below, each once.

| package | version | licence | texts |
|---|---|---|---|
"""


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """One package of a lock.

    Attributes:
        hashes: SHA-256 of each file that may be installed.
    """

    name: str
    version: str
    hashes: tuple[str, ...]

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"


def locked(lock: Path) -> list[Package]:
    """Return the packages of a lock, ascending."""
    return [
        Package(name=name.lower(), version=version, hashes=tuple(_HASH.findall(rest)))
        for name, version, rest in _PACKAGE.findall(lock.read_text("utf-8"))
    ]


def licence_of(package: Package) -> str:
    """Return a package's licence as an SPDX expression.

    Raises:
        ValueError: it says none that is known, or another version is installed.
    """
    installed = importlib.metadata.distribution(package.name)
    if installed.version != package.version:
        raise ValueError(f"{package.name} {installed.version} is installed; run `make setup`")
    said = installed.metadata.json
    if expression := said.get("license_expression"):
        return str(expression)
    classifiers = [
        text.rpartition("::")[2].strip()
        for text in said.get("classifier", ())
        if text.startswith("License")
    ]
    for text in (str(said.get("license", "")), *classifiers):
        if text in _SPDX or re.fullmatch(r"[A-Za-z0-9.-]+", text):
            return _SPDX.get(text, text)
    raise ValueError(f"{package.name}: its licence is not known: {said.get('license')!r}")


def texts_of(package: Package) -> list[str]:
    """Return the licence texts and notices that a package brings."""
    files = importlib.metadata.distribution(package.name).files or []
    return [
        Path(str(file.locate())).read_text("utf-8").strip().replace("\r\n", "\n")
        for file in sorted(files, key=str)
        if ".dist-info" in str(file) and _TEXT.search(file.name)
    ]


def notices() -> str:
    """Return the page of notices."""
    texts: dict[str, int] = {}
    rows = []
    for package in locked(LOCKS / "runtime.txt"):
        numbers = [str(texts.setdefault(text, len(texts) + 1)) for text in texts_of(package)]
        row = (package.name, package.version, licence_of(package), ", ".join(numbers) or "-")
        rows.append(f"| {' | '.join(row)} |\n")
    shown = (f"\n## {number}\n\n```text\n{text}\n```\n" for text, number in texts.items())
    return _HEAD + "".join(rows) + "".join(shown)


def sbom() -> dict[str, Any]:
    """Return the bill of materials of the image's packages, CycloneDX 1.6; the same every time."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    version = project["version"]
    purl = f"pkg:pypi/{project['name']}@{version}"
    packages = locked(LOCKS / "runtime.txt")
    content = hashlib.sha256((LOCKS / "runtime.txt").read_bytes()).hexdigest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, version + content)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": purl,
                "name": project["name"],
                "version": version,
                "purl": purl,
                "licenses": [{"expression": "Apache-2.0"}],
            }
        },
        "components": [_component(package) for package in packages],
        "dependencies": [{"ref": purl, "dependsOn": [package.purl for package in packages]}],
    }


def _component(package: Package) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
        "licenses": [{"expression": licence_of(package)}],
        "externalReferences": [
            {
                "type": "distribution",
                "url": f"https://pypi.org/project/{package.name}/{package.version}/",
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
            for digest in package.hashes
        ],
    }


def unhashed() -> list[str]:
    """Return the packages of all locks that anybody could exchange."""
    return [
        f"{lock.name}: {package.name}"
        for lock in sorted(LOCKS.glob("*.txt"))
        for package in locked(lock)
        if not package.hashes
    ]


def main(arguments: list[str]) -> int:
    """Write, print or check; return 1 where something is not as it must be."""
    if arguments == ["notices"]:
        NOTICES.write_text(notices(), "utf-8")
        return 0
    if arguments == ["sbom"]:
        print(json.dumps(sbom(), indent=2))
        return 0
    if arguments != ["--check"]:
        print(__doc__, file=sys.stderr)
        return 2
    wrong = [f"{name} has no hash" for name in unhashed()]
    if not NOTICES.exists() or NOTICES.read_text("utf-8") != notices():
        wrong.append(f"{NOTICES.name} is not what the packages say: run `make notices`")
    for text in wrong:
        print(f"supply chain: {text}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
