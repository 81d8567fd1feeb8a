#!/usr/bin/env bash
# Build the real `nats` command line once and print where it is.
# `go install` of the nested module path is refused by some module proxies; a build inside a
# module that requires the repository's root is not.
set -euo pipefail

version=v0.4.0
cache="${XDG_CACHE_HOME:-$HOME/.cache}/psm/nats-cli-$version"
binary="$cache/nats"

if [[ ! -x $binary ]]; then
  command -v go >/dev/null || { echo "no Go toolchain: the nats CLI cannot be built" >&2; exit 3; }
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  (
    cd "$work"
    go mod init psm-nats-cli
    go mod edit -require="github.com/nats-io/natscli@$version"
    CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags '-s -w' -o nats github.com/nats-io/natscli/nats
  ) >&2
  mkdir -p "$cache"
  mv "$work/nats" "$binary.$$"
  mv "$binary.$$" "$binary"
fi
echo "$binary"
