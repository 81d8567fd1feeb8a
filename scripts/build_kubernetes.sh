#!/usr/bin/env bash
# Build the control plane of Kubernetes once and print the directory of its three programs; with
# --cached only if they are there.
# The module of Kubernetes replaces its staging modules by folders, so it is required by an own
# module that replaces each of them by its published version.
set -euo pipefail

version=1.34.4
cache="${XDG_CACHE_HOME:-$HOME/.cache}/psm/kubernetes-v$version"
programs=(kube-apiserver kube-controller-manager kube-scheduler)

if [[ ! -x $cache/kube-scheduler ]]; then
  [[ ${1:-} != --cached ]] || exit 3
  command -v go >/dev/null || { echo "no Go toolchain: Kubernetes cannot be built" >&2; exit 3; }
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  (
    cd "$work"
    go mod init psm-kubernetes
    go mod edit -require="k8s.io/kubernetes@v$version"
    source=$(go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/.*"GoMod": "\(.*\)",/\1/p')
    sed -n 's,^\t\(k8s.io/[a-z-]*\) => ./staging/.*,\1,p' "$source" | while read -r staged; do
      go mod edit -replace="$staged=$staged@v0.${version#1.}"
    done
    printf '//go:build tools\n\npackage tools\n\nimport (\n' >tools.go
    printf '\t_ "k8s.io/kubernetes/cmd/%s"\n' "${programs[@]}" >>tools.go
    echo ')' >>tools.go
    go mod tidy
    stamp=k8s.io/component-base/version  # What the server says it is; helm compares it.
    minor=${version#1.}
    flags="-s -w -X $stamp.gitVersion=v$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%.*}"
    CGO_ENABLED=0 go build -trimpath -ldflags "$flags" -o out/ "${programs[@]/#/k8s.io/kubernetes/cmd/}"
  ) >&2
  mkdir -p "$cache"
  for program in "${programs[@]}"; do  # The scheduler is last: it says that all are there.
    mv "$work/out/$program" "$cache/$program.$$"
    mv "$cache/$program.$$" "$cache/$program"
  done
fi
echo "$cache"
