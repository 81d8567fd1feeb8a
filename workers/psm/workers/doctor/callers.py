"""What callers of the API are recognised by, and who vouches for them, as the settings name it."""

from __future__ import annotations

import shlex
from pathlib import Path

from psm.contracts.errors import ConfigError
from psm.workers.access.issuers import access_of
from psm.workers.access.vouched import vouching
from psm.workers.doctor.finding import Diagnosis, fault, fine
from psm.workers.doctor.place import Installation


async def callers(place: Installation) -> list[Diagnosis]:
    """Whether `psm serve` finds what its settings name of callers, or refuses to start."""
    return [*_open(place), *_unvouched(place), *_issuers(place)] or [
        fine("callers", "what they are recognised by can be read")
    ]


def _open(place: Installation) -> list[Diagnosis]:
    if (place.settings.http_auth, place.settings.env) != ("off", "production"):
        return []
    why = "PSM_HTTP_AUTH=off is refused with PSM_ENV=production"
    return [fault("callers", why, place.given.unsetting("PSM_HTTP_AUTH"))]


def _unvouched(place: Installation) -> list[Diagnosis]:
    own = place.settings.http_principal_key_file
    try:
        vouching(own, place.settings.http_principal_keys)
    except ConfigError as error:
        return [fault("callers", str(error), _vouching_again(place, own))]
    return []


def _vouching_again(place: Installation, own: str | None) -> str:
    if own is None:
        return place.given.unsetting("PSM_HTTP_PRINCIPAL_KEYS")
    if not Path(own).exists():
        return f"psm anchor keygen {shlex.quote(own)}"
    return place.given.setting("PSM_HTTP_PRINCIPAL_KEYS", f"{own}.pub")


def _issuers(place: Installation) -> list[Diagnosis]:
    file = place.settings.access_file
    try:
        named = [Path(one.jwks_file) for one in access_of(file).issuer if one.jwks_file]
    except ConfigError:
        return []  # `approvers` tells it
    return [
        fault(
            "callers",
            f"{file} names {path} for keys of an issuer, which is not there",
            f"$EDITOR {shlex.quote(str(file))}",
        )
        for path in named
        if not path.is_file()
    ]
