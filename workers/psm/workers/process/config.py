"""Reading the settings from all their sources into `Settings`.

The first source that names a value wins: environment (`POSTGRES_DSN`, `NATS_URL`, `PSM_*`;
`<NAME>_FILE` for secrets), `.env`, `psm.toml`, the `nats` CLI context named by
`PSM_NATS_CONTEXT`, a running `psm up` of this user, the default. All problems are reported in one
`ConfigError`, and a `PSM_*` nobody knows is one of them: a misspelt limit must not silently become
the default. Error texts never contain a value of a secret.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from psm.adapters.secret_files import FileSecret
from psm.contracts.errors import ConfigError
from psm.workers.process.env_file import ENV_FILE, read_env_file
from psm.workers.process.running import find_running
from psm.workers.process.setting import About
from psm.workers.process.settings import Settings, about

__all__ = [
    "KNOWN_ELSEWHERE",
    "Settings",
    "about",
    "load_settings",
    "settings_files",
    "settings_with_sources",
]

CONFIG_FILE = "PSM_CONFIG_FILE"
KNOWN_ELSEWHERE = frozenset(
    {
        *(CONFIG_FILE, ENV_FILE, "PSM_ACTOR", "PSM_CRASH_POINT", "PSM_REPLAY_MODE"),
        # Of commands that ask the service over HTTP, and of the first token that there is.
        *("PSM_URL", "PSM_TOKEN", "PSM_TOKEN_FILE", "PSM_HTTP_BOOTSTRAP_TOKEN_FILE"),
    }
)
"""Variables that PSM reads, but that are no setting."""

_TEST_PREFIX = "PSM_TEST_"
_SECRET_BYTES_MAX = 64 * 1024
_PARTITIONS = re.compile(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*")
_HOST = re.compile(r"[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?")
_CONTEXT_KEYS = {
    "url": "nats_url",
    "user": "nats_user",
    "password": "nats_password",
    "token": "nats_token",
    "creds": "nats_creds_file",
    "nkey": "nats_nkey_seed_file",
    "ca": "nats_ca_file",
    "cert": "nats_cert_file",
    "key": "nats_key_file",
    "inbox_prefix": "nats_inbox_prefix",
}
# The ways to say who we are exclude each other: a context must not add a second one.
_IDENTITIES = frozenset(
    {"nats_user", "nats_password", "nats_token", "nats_creds_file", "nats_nkey_seed_file"}
)

_ELSEWHERE = _IDENTITIES | {"nats_inbox_prefix", "nats_context", "nats_ca_file", "nats_cert_file"}

Found = dict[str, tuple[Any, str]]
"""Value and where it was found, per field of `Settings`."""


def load_settings(
    env: Mapping[str, str] | None = None, toml: Path | None = None, *, find_up: bool = True
) -> Settings:
    """Return the settings of this process.

    Args:
        env: variables to read; the process environment by default.
        toml: file to read; by default what `PSM_CONFIG_FILE` names, else `psm.toml` here if any.
        find_up: whether a running `psm up` is a source; not for another one beside it.

    Raises:
        ConfigError: with every problem found, one a line.
    """
    return settings_with_sources(env, toml, find_up=find_up)[0]


def settings_with_sources(
    env: Mapping[str, str] | None = None, toml: Path | None = None, *, find_up: bool = True
) -> tuple[Settings, dict[str, str]]:
    """Return the settings, and for each field where its value came from.

    Raises:
        ConfigError: with every problem found, one a line.
    """
    env = os.environ if env is None else env
    problems: list[str] = []
    found = _from_toml(_toml_path(env, toml), problems)
    found |= _from_env_file(env, problems)
    found |= _from_env(env, problems)
    if "nats_context" in found:
        found = _from_context(found, env, problems) | found
    if find_up:
        found = _from_running(found, env, problems) | found
    values = {f.name: _converted(f, *found[f.name], problems) for f in about() if f.name in found}
    if not problems:
        settings = Settings(**values)
        problems += _contradictions(settings)
    if problems:
        raise ConfigError("the settings have problems:\n" + "\n".join(f"  {p}" for p in problems))
    return settings, {f.name: found[f.name][1] if f.name in found else "default" for f in about()}


def settings_files() -> tuple[Path, ...]:
    """Return the files from which this process has settings: `psm.toml` and `.env`, if any."""
    named = (_toml_path(os.environ, None), Path(os.environ.get(ENV_FILE) or ".env"))
    return tuple(path for path in named if path is not None and path.is_file())


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))


def partitions_of(text: str) -> tuple[int, ...]:
    """Return the partitions that `text`, such as `0-7,9`, names: ascending, each once.

    Raises:
        ConfigError: `text` is not such a list.
    """
    compact = text.replace(" ", "")
    if not _PARTITIONS.fullmatch(compact):
        raise ConfigError("expected partitions such as `0-7,9`")
    chosen: set[int] = set()
    for part in compact.split(","):
        first, _, last = part.partition("-")
        if int(last or first) < int(first):
            raise ConfigError(f"the range {part} runs backwards")
        chosen.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(chosen))


def _from_env_file(env: Mapping[str, str], problems: list[str]) -> Found:
    """Return what `.env` says; its names and problems are those of the environment."""
    try:
        path, values = read_env_file(env)
    except ConfigError as error:
        problems.append(str(error))
        return {}
    problems += [
        f"{name} in {path} has no effect; set it in the environment"
        for name in sorted(KNOWN_ELSEWHERE & values.keys())
    ]
    return {
        field: (value, f"{source} in {path}")
        for field, (value, source) in _from_env(values, problems).items()
    }


def _from_running(found: Found, env: Mapping[str, str], problems: list[str]) -> Found:
    """Return where the running `psm up` is, and who its user is there.

    Nothing if another server is named, even one of two, or another user.
    """
    if found.get("env", ("", ""))[0] == "production":
        return {}
    if not _ELSEWHERE.isdisjoint(found) or (up := find_running(env)) is None:
        return {}
    said = {
        "nats_url": up.nats_url,
        "postgres_dsn": up.postgres_dsn,
        "partitions": str(up.partitions),
    }
    if up.nats_monitoring_url:
        said["nats_monitoring_url"] = up.nats_monitoring_url
    addresses = ("nats_url", "postgres_dsn")
    if any(name in found and found[name][0] != said[name] for name in addresses):
        return {}
    said |= {name: value for name, (value, _) in _from_env(up.operator, problems).items()}
    return {name: (value, f"psm up {up.pid}") for name, value in said.items()}


_LISTS: dict[str, Callable[[str], tuple[Any, ...]]] = {"worker_partitions": partitions_of}
"""Settings that are lists of something else than texts -> how one is read from a variable."""


def _from_env(env: Mapping[str, str], problems: list[str]) -> Found:
    found: Found = {}
    known = set(KNOWN_ELSEWHERE)
    for field in about():
        known.add(field.env)
        value = env.get(field.env) or None  # empty means unset: compose and charts write it so
        if value is not None:
            found[field.name] = (value, field.env)
        if not field.secret:
            continue
        by_file = f"{field.env}_FILE"
        known.add(by_file)
        if not env.get(by_file):
            continue
        if value is not None:
            problems.append(f"{field.env} and {by_file} are both set; keep one")
        elif (secret := _secret(by_file, Path(env[by_file]), problems)) is not None:
            found[field.name] = (secret, by_file)
    problems += [
        f"{name} is not a setting{_hint(name, known)}"
        for name in sorted(env)
        if name.startswith("PSM_") and name not in known and not name.startswith(_TEST_PREFIX)
    ]
    return found


def _secret(name: str, path: Path, problems: list[str]) -> str | None:
    try:
        with path.open("rb") as file:
            data = file.read(_SECRET_BYTES_MAX + 1)
        text = data.decode().strip()
    except OSError as error:
        problems.append(f"{name}: cannot read {path}: {error.strerror}")
    except UnicodeDecodeError:
        problems.append(f"{name}: {path} is not text")
    else:
        if text and len(data) <= _SECRET_BYTES_MAX:
            return FileSecret.of(text, path)
        problems.append(f"{name}: {path} is {'too large' if text else 'empty'}")
    return None


def _toml_path(env: Mapping[str, str], toml: Path | None) -> Path | None:
    if toml is not None:
        return toml
    if env.get(CONFIG_FILE):
        return Path(env[CONFIG_FILE])
    here = Path("psm.toml")
    return here if here.is_file() else None


def _from_toml(path: Path | None, problems: list[str]) -> Found:
    if path is None:
        return {}
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path}: cannot be read: {getattr(error, 'strerror', 'not text')}")
        return {}
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path}: {error}")
        return {}
    fields = {field.name: field for field in about()}
    found: Found = {}
    for name, value in table.items():
        field = fields.get(name)
        if field is None:
            problems.append(f"{path}: {name} is not a setting{_hint(name, set(fields))}")
        elif field.secret:
            problems.append(f"{path}: {name} is secret; use {field.env} or {field.env}_FILE")
        else:
            found[name] = (value, str(path))
    return found


def _from_context(found: Found, env: Mapping[str, str], problems: list[str]) -> Found:
    name, source = found["nats_context"]
    home = Path(env.get("XDG_CONFIG_HOME") or Path(env.get("HOME") or "~").expanduser() / ".config")
    path = home / "nats" / "context" / f"{name}.json"
    if not isinstance(name, str) or "/" in name:
        problems.append(f"{source}: expected the name of a `nats` CLI context")
        return {}
    try:
        context = json.loads(path.read_bytes())
    except OSError as error:
        problems.append(f"{source}: cannot read {path}: {error.strerror}")
        return {}
    except ValueError:
        problems.append(f"{source}: {path} is not JSON")
        return {}
    own_identity = not _IDENTITIES.isdisjoint(found)
    return {
        field: (_expanded(field, context[key]), f"context {name}")
        for key, field in _CONTEXT_KEYS.items()
        if context.get(key) and not (own_identity and field in _IDENTITIES)
    }


def _expanded(field: str, value: str) -> str:
    return str(Path(value).expanduser()) if field.endswith("_file") else value


def _converted(field: About, value: Any, source: str, problems: list[str]) -> Any:
    if field.choices and str(value) not in field.choices:
        problems.append(f"{_at(field, source)}: expected one of {', '.join(field.choices)}")
        return None
    try:
        if field.is_list and isinstance(value, str):
            value = _LISTS.get(field.name, _names)(value)
        return msgspec.convert(value, field.type, strict=False)
    except msgspec.ValidationError as error:
        # msgspec names types, bounds and patterns here, never the value.
        expected = "expected true or false" if "`bool`" in str(error) else _lowered(str(error))
        problems.append(f"{_at(field, source)}: {expected}")
    except ConfigError as error:
        problems.append(f"{_at(field, source)}: {error}")
    return None


def _at(field: About, source: str) -> str:
    return source if source.startswith(field.env) else f"{source}: {field.name}"


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def _mtls_problems(settings: Settings) -> list[str]:
    """Return what certificates of callers need and do not have."""
    if settings.http_client_ca_file is None:
        missing = ["PSM_HTTP_MTLS_PORT needs PSM_HTTP_CLIENT_CA_FILE"]
        return missing if settings.http_mtls_port else []
    needs = {
        "PSM_HTTP_MTLS_PORT": settings.http_mtls_port,
        "PSM_HTTP_TRUSTED_PROXIES": settings.http_trusted_proxies,
        "PSM_ACCESS_FILE": settings.access_file,
        "PSM_HTTP_AUTH=on": settings.http_auth == "on",
    }
    return [f"PSM_HTTP_CLIENT_CA_FILE needs {name}" for name, given in needs.items() if not given]


def _unreadable(settings: Settings) -> list[str]:
    """Return what is wrong with lists whose parts say something."""
    problems = []
    for said in ("market_rules", "year_days"):
        try:
            getattr(settings, said)
        except ConfigError as error:
            problems.append(str(error))
    return problems


def _contradictions(settings: Settings) -> list[str]:
    problems = _unreadable(settings)
    last = max(settings.worker_partitions, default=0)
    if last >= settings.partitions:
        problems.append(
            f"PSM_WORKER_PARTITIONS names partition {last}, but there are "
            f"{settings.partitions} (0 to {settings.partitions - 1})"
        )
    if (settings.nats_user is None) != (settings.nats_password is None):
        problems.append("PSM_NATS_USER and PSM_NATS_PASSWORD need each other")
    for network in settings.http_trusted_proxies:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            problems.append(f"PSM_HTTP_TRUSTED_PROXIES: {error}")
    if beyond := [host for host in settings.http_hosts if not _HOST.fullmatch(host)]:
        problems.append(
            f"PSM_HTTP_HOSTS: {beyond[0]} is no host; give names or addresses without scheme and "
            "port"
        )
    identities = {
        "PSM_NATS_USER": settings.nats_user,
        "PSM_NATS_TOKEN": settings.nats_token,
        "PSM_NATS_CREDS_FILE": settings.nats_creds_file,
        "PSM_NATS_NKEY_SEED_FILE": settings.nats_nkey_seed_file,
    }
    chosen = [name for name, value in identities.items() if value is not None]
    if len(chosen) > 1:
        problems.append(f"{' and '.join(chosen)} are both set; keep one")
    problems += _unusable_addresses(settings.nats_url)
    problems += _mtls_problems(settings)
    if settings.nats_key_file is not None and settings.nats_cert_file is None:
        problems.append("PSM_NATS_KEY_FILE needs PSM_NATS_CERT_FILE")
    return problems


def _unusable_addresses(urls: str) -> list[str]:
    """Return what is wrong with addresses of NATS; they may hold a password, so none is told."""
    problems = []
    for number, url in enumerate(urls.split(","), start=1):
        text = url.strip()
        try:
            parts = urlsplit(text if "://" in text else f"nats://{text}")
            usable = bool(parts.hostname) and parts.port != 0
        except ValueError:  # no port, or brackets that do not match
            usable = False
        if not usable:
            problems.append(
                f"NATS_URL: address {number} has no host, or a port that cannot be; "
                "expected one such as nats://127.0.0.1:4222"
            )
    return problems


def _hint(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""
