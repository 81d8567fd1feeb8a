"""`psm certs`: certificates of a house CA for NATS and PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from psm.adapters.house_certificates import LEAF_DAYS, House, Step
from psm.contracts.certificates import ServerCertificate, read_certificates
from psm.contracts.errors import ConfigError
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.cli.shared.told_ops import tell_ops

app = App(name="certs", help="Make, renew and show the certificates of NATS and PostgreSQL.")

_COLUMNS = ("file", "subject", "names", "expires", "days_left", "ok")
_LEAF = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_NEXT: dict[Step, str] = {
    "trust": "both CAs are trusted; let every server and client read ca.crt, then run it again",
    "leafs": "the leafs are of the new CA; let every server read its own, then run it again",
    "retire": "only the new CA is trusted; let every server and client read ca.crt",
}

Days = Annotated[int, Parameter(help="How long leafs hold.")]
Folder = Annotated[Path, Parameter(name="DIR")]


@app.command
def init(
    folder: Folder,
    *,
    leaf: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            consume_multiple=False,
            help="A server or client: nats-1, nats-1=nats,nats.example.com for more names, or "
            "desk=spiffe://desk.example/risk for a caller of the API.",
        ),
    ],
    days: Days = LEAF_DAYS,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Make a house CA, and for each leaf certificate and key; what is there already stays.

    A leaf is good for its name, localhost and 127.0.0.1. DIR/ca.crt is for clients, DIR/LEAF is
    what one server mounts: tls.crt, tls.key, ca.crt. Guard DIR/authority: its key signs for all.
    """
    house = House(folder)
    made = house.make(dict(map(_leaf, leaf)), days=_checked(days))
    output.document({"folder": str(folder), "made": made, "leafs": house.leafs()})
    return 0


@app.command
def renew(
    folder: Folder,
    *,
    authority: Annotated[
        bool, Parameter(negative="", help="Take the next of three steps to a new CA.")
    ] = False,
    days: Days = LEAF_DAYS,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Sign every leaf anew; with --authority replace the CA, too, in three runs.

    First both CAs are trusted, then the leafs are of the new one, then the old one is out. After
    each, all servers and clients read their files anew: `nats-server --signal reload`, for
    PostgreSQL pg_reload_conf(); ours do it by themselves when they connect.
    """
    house = House(folder)
    if authority:
        step = house.replace_authority(days=_checked(days))
        done: dict[str, Any] = {"step": step, "next": _NEXT[step]}
    else:
        done = {"renewed": house.renew(days=_checked(days))}
    output.document(done)
    tell_ops({"kind": "certificates", **done}, output)
    return 0


@app.command
def show(
    path: Annotated[Path, Parameter(name="DIR|FILE")],
    *,
    within: Annotated[int, Parameter(help="Exit 1 if one expires within so many days.")] = 14,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Show the certificates of a folder or a file, and how long they still hold."""
    now = datetime.now(UTC)
    rows = [_row(file, one, now, within) for file, one in _certificates(path)]
    output.rows(iter(rows), _COLUMNS)
    return int(not all(row["ok"] for row in rows))


def _leaf(text: str) -> tuple[str, tuple[str, ...]]:
    name, _, more = text.partition("=")
    names = tuple(part for part in more.split(",") if part)
    if not _LEAF.fullmatch(name) or name == "authority":
        raise ConfigError(f"--leaf {text}: expected a host name in small letters, such as nats-1")
    return name, names


def _checked(days: int) -> int:
    if days < 1:
        raise ConfigError("--days must be 1 or more")
    return days


def _certificates(path: Path) -> Iterator[tuple[str, ServerCertificate]]:
    """Yield the certificates there, each with the file that it stands in."""
    files = sorted({*path.glob("*.crt"), *path.glob("*/tls.crt")}) if path.is_dir() else [path]
    if not files:
        raise ConfigError(f"{path} holds no certificates; `psm certs init` makes them")
    for file in files:
        name = file.relative_to(path).as_posix() if path.is_dir() else str(file)
        try:
            for one in read_certificates(file.read_bytes()):
                yield name, one
        except (OSError, ValueError) as error:
            detail = getattr(error, "strerror", None) or "no certificate (PEM) is in it"
            raise ConfigError(f"{file} cannot be read: {detail}") from error


def _row(file: str, one: ServerCertificate, now: datetime, within: int) -> dict[str, Any]:
    left = (one.expires - now).days
    return {
        "file": file,
        "subject": one.subject,
        "issuer": one.issuer,
        "names": ", ".join(one.names),
        "not_before": one.not_before.isoformat().replace("+00:00", "Z"),
        "expires": one.expires.isoformat().replace("+00:00", "Z"),
        "days_left": left,
        "ok": one.not_before <= now and left >= within,
    }
