"""Settings: sources, checks and silence about secrets."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from psm.contracts.errors import ConfigError
from psm.workers.cli.itself.config import settings_schema
from psm.workers.process.config import Settings, load_settings, partitions_of, settings_with_sources
from psm.workers.process.running import Announcement, announced
from psm.workers.process.settings import about

SECRET = "s3cr3t-hunter2"
DSN = f"postgresql://psm:{SECRET}@db/psm"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def problems(env: dict[str, str], toml: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(env, toml)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_defaults_suit_one_machine() -> None:
    """Without any source the settings are complete, local and closed."""
    settings = load_settings({})
    assert settings == Settings()
    assert settings.worker_partitions == ()
    assert settings.http_host == settings.metrics_host == "127.0.0.1"
    assert not settings.ingest


def test_environment_is_converted() -> None:
    """Text becomes the type of the field."""
    settings = load_settings(
        {
            "NATS_URL": "nats://a:4222,nats://b:4222",
            "POSTGRES_DSN": DSN,
            "PSM_REPLICAS": "3",
            "PSM_INGEST": "true",
            "PSM_WORKER_PARTITIONS": "0-2, 9",
            "PSM_HTTP_HOSTS": "psm.example, ::1,10.1.2.3,",
            "PSM_HTTP_TRUSTED_PROXIES": "10.0.0.0/8",
            "PSM_HTTP_PRINCIPAL_KEYS": "a.pub, b.pub",
            "PSM_OTLP_ENDPOINT": "",
            "PSM_TEST_ANYTHING": "1",
            "PSM_CRASH_POINT": "worker.after_fold",
            "OTHER": "x",
        }
    )
    assert settings.replicas == 3
    assert settings.ingest is True
    assert settings.worker_partitions == (0, 1, 2, 9)
    assert settings.http_hosts == ("psm.example", "::1", "10.1.2.3")
    assert settings.http_trusted_proxies == ("10.0.0.0/8",)
    assert settings.http_principal_keys == ("a.pub", "b.pub")
    assert settings.otlp_endpoint is None
    assert settings.require_postgres_dsn() == DSN
    assert settings.nats_options() == {
        "servers": ["nats://a:4222", "nats://b:4222"],
        "inbox_prefix": "_INBOX",
    }


def test_all_problems_come_at_once() -> None:
    """Somebody who made four mistakes needs one attempt to see them."""
    found = problems(
        {
            "PSM_HTTP_PROT": "1",
            "PSM_HTTP_PORT": "99999",
            "PSM_INGEST": "maybe",
            "PSM_REPLICAS": "2",
            "NATS_URL": "http://x",
        }
    )
    assert found == [
        "PSM_HTTP_PROT is not a setting; did you mean PSM_HTTP_PORT?",
        "NATS_URL: expected `str` matching regex '^(nats|tls|ws|wss)://'",
        "PSM_REPLICAS: expected one of 1, 3, 5",
        "PSM_HTTP_PORT: expected `int` <= 65535",
        "PSM_INGEST: expected true or false",
    ]


def test_values_of_environment_win_over_the_file(tmp_path: Path) -> None:
    """The environment is nearer to the process than a file, a file than the default."""
    toml = tmp_path / "psm.toml"
    toml.write_text('http_port = 1\nmetrics_port = 2\nworker_partitions = "3"\n')
    settings, sources = settings_with_sources({"PSM_HTTP_PORT": "9"})
    assert (settings.http_port, settings.metrics_port) == (9, 2)
    assert settings.worker_partitions == (3,)
    assert sources["http_port"] == "PSM_HTTP_PORT"
    assert sources["metrics_port"] == "psm.toml"
    assert sources["log_level"] == "default"
    other = tmp_path / "other.toml"
    other.write_text("metrics_port = 7")
    assert load_settings({"PSM_CONFIG_FILE": str(other)}).metrics_port == 7


def test_file_is_checked_like_the_environment(tmp_path: Path) -> None:
    """Unknown keys, wrong types and secrets in psm.toml are refused."""
    toml = tmp_path / "psm.toml"
    toml.write_text(f'htp_port = 1\nmetrics_port = "x"\npostgres_dsn = "{DSN}"\n')
    assert problems({}, toml) == [
        f"{toml}: htp_port is not a setting; did you mean http_port?",
        f"{toml}: postgres_dsn is secret; use POSTGRES_DSN or POSTGRES_DSN_FILE",
        f"{toml}: metrics_port: expected `int`, got `str`",
    ]
    toml.write_text("= 1")
    assert problems({}, toml)[0].startswith(str(toml))
    assert "No such file" in problems({}, tmp_path / "absent.toml")[0]


def test_secrets_come_from_files(tmp_path: Path) -> None:
    """`<NAME>_FILE` reads a mounted secret, without its trailing newline."""
    dsn, password = tmp_path / "dsn", tmp_path / "password"
    dsn.write_text(DSN + "\n")
    password.write_text(SECRET)
    env = {
        "POSTGRES_DSN_FILE": str(dsn),
        "PSM_NATS_USER": "psm",
        "PSM_NATS_PASSWORD_FILE": str(password),
    }
    settings = load_settings(env)
    assert settings.postgres_dsn == DSN
    assert settings.nats_password == SECRET
    assert problems(env | {"POSTGRES_DSN": DSN}) == [
        "POSTGRES_DSN and POSTGRES_DSN_FILE are both set; keep one"
    ]
    dsn.write_text(" \n")
    assert problems(env) == [f"POSTGRES_DSN_FILE: {dsn} is empty"]
    dsn.write_bytes(b"\xff\xfe")
    assert problems(env) == [f"POSTGRES_DSN_FILE: {dsn} is not text"]
    assert "No such file" in problems({"POSTGRES_DSN_FILE": str(tmp_path / "absent")})[0]
    assert "PSM_NATS_USER_FILE is not a setting" in problems({"PSM_NATS_USER_FILE": "x"})[0]


def test_nats_cli_context_fills_what_is_missing(tmp_path: Path) -> None:
    """A context supplies address and identity; what is set here wins, identity as a whole."""
    folder = tmp_path / "nats" / "context"
    folder.mkdir(parents=True)
    context = {"url": "nats://far:4222", "user": "ops", "password": SECRET, "ca": "~/ca.pem"}
    (folder / "prod.json").write_text(json.dumps(context))
    env = {"XDG_CONFIG_HOME": str(tmp_path), "PSM_NATS_CONTEXT": "prod"}
    settings, sources = settings_with_sources(env)
    assert settings.nats_url == "nats://far:4222"
    assert (settings.nats_user, settings.nats_password) == ("ops", SECRET)
    assert settings.nats_ca_file == str(Path("~/ca.pem").expanduser())
    assert sources["nats_url"] == "context prod"
    mine = load_settings(env | {"PSM_NATS_TOKEN": "t", "NATS_URL": "nats://near:4222"})
    assert (mine.nats_url, mine.nats_user, mine.nats_token) == ("nats://near:4222", None, "t")
    assert "cannot read" in problems(env | {"PSM_NATS_CONTEXT": "absent"})[0]
    (folder / "bad.json").write_text("{")
    assert "is not JSON" in problems(env | {"PSM_NATS_CONTEXT": "bad"})[0]
    assert "expected the name" in problems(env | {"PSM_NATS_CONTEXT": "../x"})[0]


def test_contradictions_are_named() -> None:
    """Values that are fine alone and wrong together are refused."""
    assert problems({"PSM_PARTITIONS": "4", "PSM_WORKER_PARTITIONS": "2-4"}) == [
        "PSM_WORKER_PARTITIONS names partition 4, but there are 4 (0 to 3)"
    ]
    assert problems({"PSM_HTTP_HOSTS": "psm.example, https://x"}) == [
        "PSM_HTTP_HOSTS: https://x is no host; give names or addresses without scheme and port"
    ]
    assert "10.0.0.1/8" in problems({"PSM_HTTP_TRUSTED_PROXIES": "::1,10.0.0.1/8"})[0]
    assert problems({"PSM_NATS_USER": "x"}) == [
        "PSM_NATS_USER and PSM_NATS_PASSWORD need each other"
    ]
    assert problems({"PSM_NATS_TOKEN": "x", "PSM_NATS_CREDS_FILE": "y"}) == [
        "PSM_NATS_TOKEN and PSM_NATS_CREDS_FILE are both set; keep one"
    ]


def test_every_list_is_read_from_a_variable() -> None:
    """With commas between its values; the chart has it as one text."""
    lists = [field for field in about() if field.is_list]
    assert len(lists) > 4
    values = {
        "PSM_WORKER_PARTITIONS": "0-2",
        "PSM_MARKET_VENUES": "kraken=kraken, binance=binance_spot:flag",
        "PSM_ANALYTICS_YEAR_DAYS": "equities_*=252,desk_7=250",
        "PSM_HTTP_HOSTS": "psm.example,10.1.2.3",
        "PSM_HTTP_TRUSTED_PROXIES": "10.0.0.1,10.0.0.2",
    }
    settings = load_settings(values)
    for field in lists:
        if field.env in values:
            assert len(getattr(settings, field.name)) > 1, field.env
    assert settings.year_days.of_account("equities_a") == 252
    schema = settings_schema()["properties"]
    assert {name: schema[name]["type"] for name in values if name in schema} == {
        "PSM_MARKET_VENUES": "string",
        "PSM_ANALYTICS_YEAR_DAYS": "string",
    }


def test_lists_that_say_nothing_are_all_told_at_once() -> None:
    """Before anything is started with them."""
    venues, days = problems({"PSM_MARKET_VENUES": "x=y", "PSM_ANALYTICS_YEAR_DAYS": "a=400"})
    assert venues.startswith("PSM_MARKET_VENUES: 'x=y' is not exchange=profile or")
    assert days.startswith("PSM_ANALYTICS_YEAR_DAYS: 'a=400' is not account=days, of 1 to 366")


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "3-1", "1,,2", "1-2-3", "99999"])
def test_bad_partition_lists_are_refused(text: str) -> None:
    """Only ascending ranges and numbers make a list of partitions."""
    with pytest.raises(ConfigError, match=r"expected partitions|runs backwards"):
        partitions_of(text)


def test_secrets_are_never_shown() -> None:
    """Neither repr, nor rich, nor public values, nor error texts contain a secret."""
    settings = load_settings(
        {
            "POSTGRES_DSN": DSN,
            "PSM_NATS_USER": "psm",
            "PSM_NATS_PASSWORD": SECRET,
            "NATS_URL": f"nats://u:{SECRET}@h:4222,nats://{SECRET}@h2:4222",
        }
    )
    rich = io.StringIO()
    Console(file=rich, width=10_000).print(settings)
    for shown in (repr(settings), str(settings), str(settings.public()), rich.getvalue()):
        assert SECRET not in shown
        assert "***@h2:4222" in shown
    open_fields = [f for f in about() if not f.secret and f.name != "nats_context"]
    everything_wrong = {field.env: f"\x00{SECRET}" for field in open_fields} | {
        "POSTGRES_DSN": SECRET,
        "POSTGRES_DSN_FILE": "/nowhere",
        "PSM_X": SECRET,
    }
    assert SECRET not in " ".join(problems(everything_wrong))


def test_missing_database_is_said_clearly() -> None:
    """A command that needs PostgreSQL names the variable."""
    with pytest.raises(ConfigError, match="POSTGRES_DSN is not set"):
        load_settings({}).require_postgres_dsn()


def test_unusable_certificate_is_said_clearly(tmp_path: Path) -> None:
    """A CA that cannot be read is a configuration error, not a stack trace."""
    settings = load_settings({"PSM_NATS_CA_FILE": str(tmp_path / "absent.pem")})
    with pytest.raises(ConfigError, match="PSM_NATS_CA_FILE"):
        settings.nats_options()


def test_every_setting_is_described() -> None:
    """Names are unique, helps are sentences, secrets have no default."""
    assert len({field.env for field in about()}) == len(about())
    for field in about():
        assert field.help.endswith((".", "off."))
        assert field.env in {"NATS_URL", "POSTGRES_DSN"} or field.env.startswith("PSM_")
        assert field.default is None or not field.secret


@pytest.mark.parametrize(
    "url", ["nats://", "nats://:4222", "nats://a:77777", "nats://[::1", "nats://a,", "nats://a:b"]
)
def test_address_without_a_server_is_named_not_shown(url: str) -> None:
    """A URL that names no server is found before anything connects, and its password stays."""
    (problem,) = problems({"NATS_URL": url})
    assert "NATS_URL: address" in problem
    (problem,) = problems({"NATS_URL": f"nats://psm:{SECRET}@"})
    assert SECRET not in problem


def test_env_file_is_read(tmp_path: Path) -> None:
    """Ours alone, as shells and compose write it; the environment wins; the source is told."""
    (tmp_path / ".env").write_text(
        "# settings\nexport NATS_URL=nats://a:4222\nPSM_REPLICAS = 3 # copies\n\n"
        'PSM_NATS_PASSWORD=\'p # "w\'\nPSM_NATS_USER="psm"\nOTHER stuff $(rm -rf)\n'
        f"POSTGRES_DSN={DSN}#1\nPSM_PARTITIONS=4\nPSM_OTLP_ENDPOINT=\n"
    )
    settings, sources = settings_with_sources({"PSM_PARTITIONS": "8"})
    assert settings.nats_url == "nats://a:4222"
    assert settings.replicas == 3
    assert settings.nats_password == 'p # "w'
    assert settings.postgres_dsn == f"{DSN}#1"
    assert settings.partitions == 8
    assert sources["replicas"] == "PSM_REPLICAS in .env"
    assert sources["partitions"] == "PSM_PARTITIONS"


def test_env_file_problems_are_named_without_values(tmp_path: Path) -> None:
    """A misspelt name, a line that assigns nothing, what only the environment may say."""
    file = tmp_path / ".env"
    for text, said in (
        (f"PSM_REPLICSA={SECRET}", "did you mean PSM_REPLICAS"),
        (f"A=1\nPSM_NATS_PASSWORD '{SECRET}", "line 2: expected PSM_NATS_PASSWORD=value"),
        ("PSM_ACTOR=me", "PSM_ACTOR in .env has no effect"),
        (f"PSM_REPLICAS={SECRET}", "PSM_REPLICAS in .env"),
    ):
        file.write_text(text)
        found = " ".join(problems({}))
        assert said in found
        assert SECRET not in found
    assert "cannot be read" in problems({"PSM_ENV_FILE": str(tmp_path / "none")})[0]


def test_running_up_counts_only_where_no_other_server_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two servers of different systems are never mixed."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    env = {"XDG_STATE_HOME": str(tmp_path)}
    up = Announcement(
        nats_url="nats://127.0.0.1:9",
        postgres_dsn=DSN,
        http_url="",
        data_dir="",
        partitions=4,
        pid=1,
    )
    with announced(up):
        settings, sources = settings_with_sources(env)
        assert (settings.nats_url, settings.postgres_dsn) == (up.nats_url, DSN)
        assert settings.partitions == 4
        assert load_settings(env, find_up=False) == Settings()
        assert sources["nats_url"] == "psm up 1"
        assert load_settings({**env, "NATS_URL": up.nats_url}).postgres_dsn == DSN
        assert load_settings({**env, "PSM_PARTITIONS": "8"}).partitions == 8
        for other in (
            {"NATS_URL": "nats://b:1"},
            {"POSTGRES_DSN": "postgresql://other/psm"},
            {"NATS_URL": up.nats_url, "POSTGRES_DSN": "postgresql://other/psm"},
            {"PSM_NATS_TOKEN": "t"},
            {"PSM_ENV": "production"},
        ):
            there = load_settings({**env, **other})
            assert there.postgres_dsn != DSN
            assert there.partitions == 16


def test_commands_of_its_user_are_the_owner_of_a_running_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password is read from its file; who says who he is, is nobody else."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    env = {"XDG_STATE_HOME": str(tmp_path)}
    password = tmp_path / "owner"
    password.write_text(SECRET)
    up = Announcement(
        nats_url="nats://127.0.0.1:9",
        postgres_dsn=DSN,
        http_url="",
        data_dir="",
        partitions=4,
        pid=1,
        operator={
            "PSM_NATS_USER": "owner",
            "PSM_NATS_PASSWORD_FILE": str(password),
            "PSM_NATS_INBOX_PREFIX": "_INBOX.owner",
        },
    )
    with announced(up):
        for given in ({}, {"NATS_URL": up.nats_url}):
            found = load_settings({**env, **given})
            assert (found.nats_user, found.nats_password) == ("owner", SECRET)
            assert found.nats_inbox_prefix == "_INBOX.owner"
        for other in (
            {"NATS_URL": "nats://b:1"},
            {"NATS_URL": up.nats_url, "PSM_NATS_TOKEN": "t"},
            {"NATS_URL": up.nats_url, "PSM_NATS_INBOX_PREFIX": "_INBOX.me"},
        ):
            assert load_settings({**env, **other}).nats_user is None
        password.unlink()
        assert "PSM_NATS_PASSWORD_FILE" in problems(env)[0]


def test_certificates_of_callers_need_a_port_proxies_and_what_they_are_worth() -> None:
    whole = {
        "PSM_HTTP_CLIENT_CA_FILE": "ca.crt",
        "PSM_HTTP_MTLS_PORT": "8005",
        "PSM_HTTP_TRUSTED_PROXIES": "10.0.0.7/32",
        "PSM_ACCESS_FILE": "access.toml",
    }
    assert load_settings(whole).http_mtls_port == 8005
    for name in whole:
        left = {other: value for other, value in whole.items() if other != name}
        assert name in problems(left)[0]
    assert "PSM_HTTP_AUTH=on" in problems({**whole, "PSM_HTTP_AUTH": "off"})[0]
