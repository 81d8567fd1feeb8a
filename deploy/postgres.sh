#!/bin/sh
# PostgreSQL with the certificate of the house, which must be its own: a key of another user is
# fatal to it. `postgres.sh start` begins, `postgres.sh reload` takes a renewed certificate.
set -eu
own=/var/run/postgresql-tls
mkdir -p "$own"
install -o postgres -g postgres -m 0600 /certs/postgres/tls.key "$own/tls.key"
install -o postgres -g postgres -m 0644 /certs/postgres/tls.crt "$own/tls.crt"
install -o postgres -g postgres -m 0644 /certs/ca.crt "$own/ca.crt"
case $1 in
  start)
    exec docker-entrypoint.sh postgres -c hba_file=/etc/psm/pg_hba.conf -c ssl=on \
      -c ssl_cert_file="$own/tls.crt" -c ssl_key_file="$own/tls.key" -c ssl_ca_file="$own/ca.crt" \
      -c ssl_min_protocol_version=TLSv1.3
    ;;
  reload) kill -HUP 1 ;;
esac
