#!/usr/bin/env bash
# Builds docker-compose once, from its sources, into the cache; prints where it is; with --cached only
# if it is there. Needs Go.
# `go install` refuses its go.mod, which leaves versions out: it is built as the tool of a module.
set -euo pipefail

version=v2.40.3
folder=${XDG_CACHE_HOME:-$HOME/.cache}/psm/compose-$version
program=$folder/docker-compose
if [[ ! -x $program ]]; then
  [[ ${1:-} != --cached ]] || exit 3
  command -v go >/dev/null || { echo "docker-compose is built with Go, which is not here" >&2; exit 1; }
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  cd "$work"
  go mod init compose >&2
  printf '//go:build tools\n\npackage tools\n\nimport _ "github.com/docker/compose/v2/cmd"\n' >tools.go
  go mod edit -require "github.com/docker/compose/v2@$version"
  source=$(go mod download -json "github.com/docker/compose/v2@$version" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  sed -n '/^exclude/,/^)/p' "$source/go.mod" >>go.mod
  cp "$source/go.sum" .
  go mod tidy >&2
  mkdir -p "$folder"
  CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$program.$$" github.com/docker/compose/v2/cmd >&2
  mv "$program.$$" "$program"
fi
echo "$program"
