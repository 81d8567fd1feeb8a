"""Settings: everything an operator may tune, in one struct that describes itself.

The configuration file, `.env.example`, the docs table, the chart and `psm config show` all
follow from the fields below. `config.py` fills the struct. No secret is ever part of a `repr`
or of `public()`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from psm.adapters.secret_files import FileSecret
from psm.adapters.tls import client_tls
from psm.analytics.market_books import MarketRules
from psm.analytics.year_days import YearDays
from psm.contracts.errors import ConfigError
from psm.domain.market.slots import ValuationSlots
from psm.workers.process.setting import About, public_value, written

_PORT = Meta(ge=0, le=65535)


def _about(group: str, text: str, *, env: str | None = None, secret: bool = False) -> Meta:
    return Meta(description=text, extra={"group": group, "env": env, "secret": secret})


class Settings(Struct, frozen=True, kw_only=True):
    """What one process of PSM needs to know. `about()` describes each field."""

    nats_url: Annotated[
        str,
        Meta(pattern=r"^(nats|tls|ws|wss)://"),
        _about("nats", "NATS servers, separated by commas.", env="NATS_URL"),
    ] = "nats://127.0.0.1:4222"
    nats_context: Annotated[
        str | None, _about("nats", "`nats` CLI context that supplies what is not set here.")
    ] = None
    nats_user: Annotated[str | None, _about("nats", "NATS user.")] = None
    nats_password: Annotated[str | None, _about("nats", "NATS password.", secret=True)] = None
    nats_token: Annotated[str | None, _about("nats", "NATS token.", secret=True)] = None
    nats_creds_file: Annotated[str | None, _about("nats", "Credentials file (JWT and seed).")] = (
        None
    )
    nats_nkey_seed_file: Annotated[str | None, _about("nats", "File with an nkey seed.")] = None
    nats_ca_file: Annotated[
        str | None, _about("nats", "CA bundle (PEM) that signs the servers' certificates.")
    ] = None
    nats_cert_file: Annotated[
        str | None, _about("nats", "Client certificate (PEM) for mutual TLS.")
    ] = None
    nats_key_file: Annotated[
        str | None, _about("nats", "Private key (PEM) of the client certificate.")
    ] = None
    nats_inbox_prefix: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9_$-]+(\.[A-Za-z0-9_$-]+)*$"),
        _about("nats", "Prefix of reply subjects; one per user where permissions are strict."),
    ] = "_INBOX"
    nats_monitoring_url: Annotated[
        str | None,
        _about(
            "nats",
            "Monitoring addresses of all NATS servers (`http://host:8222`), separated by commas; "
            "health then names what they say, such as a full disk.",
        ),
    ] = None
    postgres_dsn: Annotated[
        str | None,
        _about(
            "postgres",
            "PostgreSQL address, `postgresql://user:password@host:5432/name`.",
            env="POSTGRES_DSN",
            secret=True,
        ),
    ] = None
    postgres_pool_max: Annotated[
        int,
        Meta(ge=1, le=1000),
        _about("postgres", "Connections one process opens at most."),
    ] = 10
    partitions: Annotated[
        int,
        Meta(ge=1, le=1024),
        _about("log", "Virtual partitions; fixed for the life of a log."),
    ] = 16
    replicas: Annotated[
        Literal[1, 3, 5], _about("log", "Copies of each JetStream stream: 1, 3 or 5.")
    ] = 1
    valuation_fast_ms: Annotated[
        int,
        Meta(ge=1, le=3_600_000),
        _about(
            "log",
            "Accounts near liquidation publish what marks changed once in this time of the "
            "valuation clock; fixed for the life of a log.",
        ),
    ] = 1_000
    valuation_mid_ms: Annotated[
        int,
        Meta(ge=1, le=3_600_000),
        _about(
            "log",
            "... those whose equity moved by `PSM_VALUATION_MOVE_BPS` once in this; a multiple.",
        ),
    ] = 10_000
    valuation_slow_ms: Annotated[
        int,
        Meta(ge=1, le=3_600_000),
        _about("log", "... and all others, with their positions, once in this; a multiple again."),
    ] = 60_000
    valuation_move_bps: Annotated[
        int,
        Meta(ge=0, le=1_000_000),
        _about(
            "log",
            "Basis points of the published equity that are a move; 0: any change. Fixed likewise.",
        ),
    ] = 100
    worker_partitions: Annotated[
        tuple[int, ...],
        _about(
            "worker",
            "Partitions this worker runs whatever the others do, such as `0-7,9`; empty means "
            "its share of all.",
        ),
    ] = ()
    batch_messages: Annotated[
        int, Meta(ge=1, le=999), _about("worker", "Messages folded into one commit at most.")
    ] = 300
    snapshot_interval_s: Annotated[
        int, Meta(ge=1, le=86_400), _about("worker", "A changed account is saved this often.")
    ] = 60
    snapshot_events: Annotated[
        int,
        Meta(ge=1, le=1_000_000),
        _about("worker", "... or after this many of its events, whichever comes first."),
    ] = 100
    accounts_in_memory: Annotated[
        int,
        Meta(ge=0, le=10_000_000),
        _about(
            "worker",
            "Accounts a worker keeps in memory; beyond it those without position, order or trouble "
            "wait in their snapshots.",
        ),
    ] = 200_000
    heads_check: Annotated[
        bool,
        _about(
            "worker",
            "Whether a starting partition compares the log with what PostgreSQL remembers of it; "
            "needs `POSTGRES_DSN`.",
        ),
    ] = True
    archive_marketdata_interval_ms: Annotated[
        int,
        Meta(ge=0, le=86_400_000),
        _about(
            "archive",
            "Of each subject of MARKETDATA one message per interval is archived; 0 archives all.",
        ),
    ] = 0
    analytics: Annotated[
        bool,
        _about(
            "postgres",
            "Whether the views of analytics are kept; without them a projector has less to do.",
        ),
    ] = True
    analytics_year_days: Annotated[
        tuple[str, ...],
        _about(
            "postgres",
            "Days a year of accounts' annual figures, `account=days` each, separated by commas, "
            "such as `equities_*=252`: the first that fits, else 365.",
        ),
    ] = ()
    marks: Annotated[bool, _about("marks", "Whether `psm up` runs `psm marks` too.")] = False
    marks_interval_ms: Annotated[
        int,
        Meta(ge=10, le=3_600_000),
        _about("marks", "At most one mark per symbol in this time ..."),
    ] = 1000
    marks_move_bps: Annotated[
        int,
        Meta(ge=0, le=10_000),
        _about("marks", "... unless the price moved by so many basis points; 0 is never."),
    ] = 10
    market_venues: Annotated[
        tuple[str, ...],
        _about(
            "market",
            "How order books are kept, `exchange=profile` each, separated by commas: "
            "`binance_futures`, `binance_spot`, `kraken`, `generic`; `:flag` behind it: a checksum "
            "that does not fit is counted only. Others: by their name, else `generic`.",
        ),
    ] = ()
    market_keep_s: Annotated[
        int,
        Meta(ge=60, le=604_800),
        _about("market", "Rows of `orderbook_snapshot` are kept so long, by log time."),
    ] = 3_600
    risk: Annotated[bool, _about("risk", "Whether `psm up` runs `psm risk worker` too.")] = False
    risk_checkpoint_records: Annotated[
        int,
        Meta(ge=1, le=1_000_000),
        _about("risk", "A slot of the risk engine is saved after this many of its records ..."),
    ] = 2_000
    risk_renew_s: Annotated[
        int,
        Meta(ge=1, le=172_800),
        _about("risk", "... or after this long, before its owner record is too old."),
    ] = 86_400
    http_host: Annotated[str, _about("http", "Address the read API listens on.")] = "127.0.0.1"
    http_port: Annotated[
        int, _PORT, _about("http", "Port of the read API; 0 picks a free one.")
    ] = 8004
    http_hosts: Annotated[
        tuple[str, ...],
        _about(
            "http",
            "Names and addresses by which callers know the read API, without ports, separated by "
            "commas; those of loopback always count, any other `Host` is answered 421.",
        ),
    ] = ()
    http_trusted_proxies: Annotated[
        tuple[str, ...],
        _about(
            "http",
            "Addresses or networks of proxies that may say who the client is (`X-Forwarded-For`), "
            "separated by commas.",
        ),
    ] = ()
    http_auth: Annotated[
        Literal["on", "off"],
        _about(
            "http",
            "Whether callers need a token; off answers this machine alone, and is the default of "
            "`psm up` only.",
        ),
    ] = "on"
    http_mtls_port: Annotated[
        int, _PORT, _about("http", "Port for trusted proxies, with `Client-Cert`; 0 is off.")
    ] = 0
    http_client_ca_file: Annotated[
        str | None, _about("http", "CA bundle (PEM) of callers' certificates: mutual TLS.")
    ] = None
    http_principal_key_file: Annotated[
        str | None,
        _about("http", "Ed25519 key (PEM) that vouches for who appended; `psm anchor keygen`."),
    ] = None
    http_principal_keys: Annotated[
        tuple[str, ...],
        _about(
            "http",
            "Public keys (PEM files, separated by commas) of what vouched, now and before: by them "
            "the archive's reads and `psm audit` judge `Psm-Principal`.",
        ),
    ] = ()
    http_auth_stale_s: Annotated[
        int,
        Meta(ge=10, le=86_400),
        _about("http", "How long tokens count while PostgreSQL is away; then nobody is let in."),
    ] = 600
    http_mode_file: Annotated[
        str | None, _about("http", "File that says `open`, `read-only` or `drain`: maintenance.")
    ] = None
    http_connections: Annotated[
        int,
        Meta(ge=1, le=100_000),
        _about("http", "Open connections of one replica at most; requests beyond it get 503."),
    ] = 1000
    http_connections_per_address: Annotated[
        int,
        Meta(ge=1, le=100_000),
        _about("http", "Open connections from one address, trusted proxies apart, at most."),
    ] = 256
    ingest: Annotated[bool, _about("http", "Whether `POST /psm/events` may append to the log.")] = (
        False
    )
    metrics_host: Annotated[
        str, _about("telemetry", "Address of `/health/*` and `/metrics` (worker, projector).")
    ] = "127.0.0.1"
    metrics_port: Annotated[
        int, _PORT, _about("telemetry", "Port of `/health/*` and `/metrics`; 0 is off.")
    ] = 0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        _about("telemetry", "Least severe log lines to write."),
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "console"],
        _about("telemetry", "Log lines for machines, for people, or by whether a person looks."),
    ] = "auto"
    otlp_endpoint: Annotated[
        Annotated[str, Meta(pattern="^https?://")] | None,
        _about("telemetry", "OTLP/HTTP collector for traces and metrics; unset is off."),
    ] = None
    access_file: Annotated[
        str | None,
        _about(
            "http",
            "`access.toml`: issuers whose signed tokens count, and for what; the people of whom a "
            "second one approves replays and recoveries.",
        ),
    ] = None
    env: Annotated[
        Literal["development", "production"],
        _about("telemetry", "Production refuses embedded servers and crash points."),
    ] = "development"

    @property
    def valuation_slots(self) -> ValuationSlots:
        """When changed valuations are published; a ConfigError where periods do not fit."""
        return ValuationSlots(
            fast_ms=self.valuation_fast_ms,
            mid_ms=self.valuation_mid_ms,
            slow_ms=self.valuation_slow_ms,
            move_bps=self.valuation_move_bps,
        )

    @property
    def market_rules(self) -> MarketRules:
        """What decides the rows of order books; a ConfigError where `market_venues` is wrong."""
        return MarketRules.of(self.market_venues, self.market_keep_s)

    @property
    def year_days(self) -> YearDays:
        """Days a year of accounts; a ConfigError where `analytics_year_days` is wrong."""
        return YearDays.of(self.analytics_year_days)

    def public(self) -> dict[str, Any]:
        """Return every field with what is secret in it blanked out; safe to print and log."""
        return {field.name: public_value(field, getattr(self, field.name)) for field in about()}

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{k}={v!r}' for k, v in self.public().items())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return list(self.public().items())

    def require_postgres_dsn(self) -> str:
        """Return the PostgreSQL address; a ConfigError where none is set."""
        if self.postgres_dsn is None:
            raise ConfigError("POSTGRES_DSN is not set; this command needs PostgreSQL")
        return self.postgres_dsn

    def nats_files(self) -> list[Path | str]:
        """Return the files of who we are at NATS and whom we trust there."""
        secrets = (self.nats_password, self.nats_token)
        named = (
            *(self.nats_creds_file, self.nats_nkey_seed_file),
            *(self.nats_ca_file, self.nats_cert_file, self.nats_key_file),
        )
        in_files = [secret.path for secret in secrets if isinstance(secret, FileSecret)]
        return [*in_files, *filter(None, named)]

    def nats_options(self) -> dict[str, Any]:
        """Return what `nats.connect` is told of where and as whom; ConfigError for a bad file."""
        options: dict[str, Any] = {
            "servers": [url.strip() for url in self.nats_url.split(",")],
            "user": self.nats_user,
            "password": self.nats_password,
            "token": self.nats_token,
            "user_credentials": self.nats_creds_file,
            "nkeys_seed": self.nats_nkey_seed_file,
            "inbox_prefix": self.nats_inbox_prefix,
            "tls": client_tls(self.nats_ca_file, self.nats_cert_file, self.nats_key_file),
        }
        return {name: value for name, value in options.items() if value is not None}


@cache
def about() -> tuple[About, ...]:
    """Return the description of every setting, in the order of the struct."""
    hints = get_type_hints(Settings, include_extras=True)
    return tuple(
        _described(field.name, field.default, hints[field.name])
        for field in msgspec.structs.fields(Settings)
    )


def _described(name: str, default: Any, annotated: Any) -> About:
    plain, *metas = get_args(annotated)
    meta = next(m for m in metas if m.extra)
    return About(
        name=name,
        env=meta.extra["env"] or f"PSM_{name.upper()}",
        group=meta.extra["group"],
        help=meta.description,
        default=None if default in (None, ()) else written(default),
        secret=meta.extra["secret"],
        type=annotated,
        choices=tuple(map(str, get_args(plain))) if get_origin(plain) is Literal else (),
    )
