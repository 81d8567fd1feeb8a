"""What of settings, files and versions must be so; nothing here asks a server but one for rules."""

from __future__ import annotations

import shlex
import shutil
import stat
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec

from psm.adapters.jetstream import last_for
from psm.contracts.certificates import read_certificates
from psm.contracts.errors import ConfigError
from psm.contracts.subjects import TRADES
from psm.contracts.updates import SCHEMA_VERSION
from psm.domain.books import RULES_VERSION
from psm.workers.access.issuers import access_of, people_of
from psm.workers.doctor.broker import certificate, renewing
from psm.workers.doctor.finding import Diagnosis, fault, fine, soon, unseen
from psm.workers.doctor.place import Installation
from psm.workers.fleet.report import fleet_report
from psm.workers.process.running import find_running

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_DISK_FULL, _DISK_FILLING = 0.05, 0.15
_RULES = "control.rules"
_TWO = 2  # people
_SECRET_FILES = (
    "nats_creds_file",
    "nats_nkey_seed_file",
    "nats_key_file",
    "http_principal_key_file",
)
_CERTIFICATES = ("nats_ca_file", "nats_cert_file", "http_client_ca_file")
_LOOPBACK = ("127.0.0.1", "localhost", "::1", "", None)
_PRIVATE = ("verify-full", "verify-ca", "require")


async def settings(place: Installation) -> list[Diagnosis]:
    """Whether every variable is a setting, and none contradicts another."""
    given = place.given
    wrong = [fault("settings", problem, given.command_for(problem)) for problem in given.problems]
    return wrong or [fine("settings", "all known, none contradicts another")]


async def files(place: Installation) -> list[Diagnosis]:
    """Whether nobody else reads the files that hold secrets."""
    named = [getattr(place.settings, name) for name in _SECRET_FILES]
    found = [Path(name) for name in named if name]
    if place.given.env_file is not None and place.given.env_file_has_secrets:
        found = [*found, place.given.env_file]
    open_to_others = [path for path in found if path.is_file() and _mode(path) & _OTHERS]
    return [
        fault(
            "files",
            f"{path} holds a secret, and its mode {_mode(path):o} lets others read it",
            f"chmod 600 {shlex.quote(str(path))}",
        )
        for path in open_to_others
    ] or [fine("files", f"{len(found)} files with secrets, read by nobody else")]


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def certificates(place: Installation) -> list[Diagnosis]:
    """Whether the certificates of the settings can be read, and hold."""
    try:
        ends = certificate_ends(place)
    except ConfigError as error:
        return [fault("certificates", str(error), "psm certs init certs --leaf nats")]
    found = [
        certificate("certificates", f"{file}: its", at, place.now, renewing(file))
        for file, at in ends.items()
    ]
    return found or [fine("certificates", "none is set")]


def certificate_ends(place: Installation) -> dict[str, datetime]:
    """Return until when the certificates of the settings hold, by file.

    Raises:
        ConfigError: one cannot be read.
    """
    files = [getattr(place.settings, name) for name in _CERTIFICATES]
    return {file: _ends(Path(file)) for file in files if file is not None}


def _ends(file: Path) -> datetime:
    """Return when the first of the certificates in a file ends."""
    try:
        found = read_certificates(file.read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it holds no certificate"
        raise ConfigError(f"{file}: {reason}") from error
    return min(one.expires for one in found)


async def tls_database(place: Installation) -> list[Diagnosis]:
    """Whether the line to a PostgreSQL elsewhere is private."""
    dsn = place.settings.postgres_dsn
    if dsn is None:
        return [unseen("tls_database", "POSTGRES_DSN is not set")]
    parts = urlsplit(dsn)
    mode = parse_qs(parts.query).get("sslmode", ["prefer"])[0]
    if parts.hostname in _LOOPBACK or mode == "verify-full":
        return [fine("tls_database", f"sslmode={mode} to {parts.hostname or 'this machine'}")]
    why = f"sslmode={mode} to {parts.hostname}: it does not prove who answers"
    command = 'export POSTGRES_DSN="$POSTGRES_DSN?sslmode=verify-full&sslrootcert=ca.pem"'
    if place.settings.env == "production" and mode not in _PRIVATE:
        return [fault("tls_database", why, command)]
    return [soon("tls_database", why, command)]


async def approvers(place: Installation) -> list[Diagnosis]:
    """Whether a second person can approve what production asks two for."""
    file = place.settings.access_file
    edit = f"$EDITOR {shlex.quote(file or 'access.toml')}"
    try:
        people_of(file)
        signers = [person.id for person in access_of(file).person if person.keys]
    except ConfigError as error:
        return [fault("approvers", str(error), edit)]
    if len(signers) >= _TWO:
        return [fine("approvers", f"{len(signers)} people have keys")]
    if place.settings.env != "production":
        return [fine("approvers", "none are asked for outside of production")]
    why = f"{len(signers)} people have keys: a second one must approve replays and recoveries"
    if file is None:
        return [fault("approvers", why, place.given.setting("PSM_ACCESS_FILE", "access.toml"))]
    return [fault("approvers", why, edit)]


async def versions(place: Installation) -> list[Diagnosis]:
    """Whether this version knows the rules of the log, and the workers are of one version."""
    ours = version("portfolio-state-manager")
    last = await last_for(place.nc, TRADES, _RULES)
    enabled = _enabled(last.data) if last else 1
    if enabled > RULES_VERSION:
        return [
            fault(
                "versions",
                f"the log has rules {enabled}, this version knows up to {RULES_VERSION}",
                "pip install --upgrade portfolio-state-manager",
            )
        ]
    running = sorted({member.version for member in (await fleet_report(place.nc)).members})
    about = f"psm {ours}, updates {SCHEMA_VERSION}, rules {enabled} of {RULES_VERSION}"
    if running and running != [ours]:
        return [soon("versions", f"{about}; workers run {', '.join(running)}", "psm fleet")]
    return [fine("versions", about)]


class _Payload(msgspec.Struct):
    rules_version: int = 1


class _Rules(msgspec.Struct):
    payload: _Payload = msgspec.field(default_factory=_Payload)


def _enabled(data: bytes) -> int:
    try:
        return msgspec.json.decode(data, type=_Rules).payload.rules_version
    except msgspec.MsgspecError:
        return 1


async def disk(place: Installation) -> list[Diagnosis]:
    """Whether the disk of a `psm up` here has room."""
    up = find_running(place.given.env)
    if up is None:
        return [unseen("disk", "no `psm up` runs here; see disk_broker for the servers")]
    usage = shutil.disk_usage(up.data_dir)
    left = usage.free / usage.total
    why = f"{usage.free / 2**30:.1f} GiB, {left:.0%} of the disk of {up.data_dir}, are free"
    command = f"du -xh --max-depth 2 {shlex.quote(up.data_dir)}"
    if left < _DISK_FULL:
        return [fault("disk", why, command)]
    return [soon("disk", why, command) if left < _DISK_FILLING else fine("disk", why)]
