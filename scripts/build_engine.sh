#!/usr/bin/env bash
# Unpack Debian's container engine once and print the directory of its programs; with --cached only
# if it is there.
# Unpacked and not installed: that starts no service, makes no group, and leaves the firewall alone.
# iptables, with its libraries in lib, is for the rules inside of containers that lead to names.
set -euo pipefail

packages=(docker.io containerd runc iptables libip4tc2 libip6tc2 libxtables12 libmnl0 libnftnl11
  libnfnetlink0 libnetfilter-conntrack3)
release=$(. /etc/os-release && echo "$ID-$VERSION_ID")
cache="${XDG_CACHE_HOME:-$HOME/.cache}/psm/engine-$release"

if [[ ! -x $cache/dockerd ]]; then
  [[ ${1:-} != --cached ]] || exit 3
  command -v apt-get >/dev/null || { echo "the engine is made of Debian packages; there is no apt-get" >&2; exit 3; }
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  (
    cd "$work"
    mkdir out
    apt-get download -o APT::Sandbox::User=root "${packages[@]}"
    for package in ./*.deb; do
      dpkg -x "$package" out
    done
  ) >&2
  mkdir -p "$cache"
  mkdir -p "$cache/lib"
  cp -a "$work"/out/usr/lib/*-linux-gnu*/. "$cache/lib/"
  cp "$work/out/usr/sbin/xtables-nft-multi" "$cache/iptables"
  cp "$work/out/usr/sbin/xtables-nft-multi" "$cache/ip6tables"
  for program in "$work"/out/usr/{bin/{docker,docker-init,containerd,containerd-shim-runc-v2},sbin/{docker-proxy,runc,dockerd}}; do
    mv "$program" "$cache/"  # dockerd is last: it says that all are there.
  done
fi
echo "$cache"
