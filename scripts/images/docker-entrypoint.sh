#!/bin/sh
# The entry point of the PostgreSQL image that scripts/build_images.sh makes: as much of that of the
# published image as compose.yaml and the tests rely on: `postgres [-c name=value ...]` makes the
# database where there is none, and serves it as another user; other commands are run as they are.
set -eu
[ "$1" = postgres ] || exec "$@"
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA"
  chown -R postgres:postgres "$PGDATA" /var/run/postgresql
  chmod 0700 "$PGDATA"
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  user=${POSTGRES_USER:-postgres}
  printf '%s\n' "${POSTGRES_PASSWORD:?}" >/tmp/password
  initdb --username "$user" --pwfile /tmp/password --auth-local trust --auth-host scram-sha-256 --encoding UTF8 --locale C.UTF-8
  rm /tmp/password
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
  pg_ctl --wait --options '-c listen_addresses=' start
  psql --quiet --username "$user" --dbname postgres --command "CREATE DATABASE \"${POSTGRES_DB:-$user}\""
  pg_ctl --wait stop
fi
exec "$@"
