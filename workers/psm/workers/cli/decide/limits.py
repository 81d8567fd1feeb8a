"""`psm risk limits`: documents of limits, proposed by one person and approved by another."""

from __future__ import annotations

import difflib
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from psm.contracts import codec
from psm.contracts.errors import ConfigError, ContractError
from psm.domain.money import exact_text
from psm.risk.limits import Limits, limits_of_document
from psm.risk.rulebook import Document
from psm.risk.tightness import loosened
from psm.workers.cli.decide.history import history_rows, instant
from psm.workers.cli.decide.saying import (
    ScopeName,
    Speaker,
    load_rulebook,
    parse_scope,
    require_hash,
    scoped,
    speak,
)
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output

app = App(name="limits", help="Show, propose and approve limits; what loosens needs two persons.")

_SHOWN = ("scope", "version", "status", "limits", "valid_from", "valid_until", "hash")
_DIFFERENCES = ("limit", "before", "after", "looser")

ProposalHash = Annotated[str, Parameter(help="SHA-256 of the proposal, as `show` prints it.")]


LimitsFile = Annotated[
    str,
    Parameter(allow_leading_hyphen=True, help="JSON object of limits; - is standard input."),
]


@app.command
def show(
    scope: Annotated[str | None, Parameter(help="Of this scope; all if not given.")] = None,
    /,
    *,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Show the limits that hold, those that will, and what waits for a second person."""
    rulebook = load_rulebook().rulebook
    clock = time.time_ns() // 1000
    documents = rulebook.documents
    scopes = sorted({*documents.agreed, *documents.proposed})
    rows = []
    for name in scopes if scope is None else [_text(scope)]:
        for document in documents.agreed.get(name, ()):
            holds = documents.in_force(name, clock) is document
            if holds or (document.valid_from is not None and document.valid_from > clock):
                rows.append(_row(document, "in force" if holds else "scheduled"))
        if name in documents.proposed:
            rows.append(_row(documents.proposed[name], "proposed"))
    output.rows(rows, _SHOWN)
    output.note(f"rulebook {rulebook.sequence}, {rulebook.hash}")


@app.command
def propose(
    scope: ScopeName,
    file: LimitsFile,
    /,
    *,
    valid_from: Annotated[str | None, Parameter(help="RFC 3339, UTC.")] = None,
    valid_until: Annotated[str | None, Parameter(help="RFC 3339, UTC; half open.")] = None,
    speaker: Speaker,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Propose limits: a JSON object, the whole document. What only tightens holds at once."""
    values = read_object(file)
    _checked(values)
    version = load_rulebook().rulebook.documents.version_of(_text(scope)) + 1
    content = {
        **scoped(scope),
        "version": version,
        "limits": values,
        "valid_from": valid_from,
        "valid_until": valid_until,
    }
    return speak(speaker, "LimitsProposed", content, output=output)


@app.command
def approve(
    scope: ScopeName,
    proposal: ProposalHash,
    /,
    *,
    speaker: Speaker,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Approve the newest proposal of a scope, which another person made with another key."""
    require_hash(proposal, "a proposal: psm risk limits show tells it")
    content = {**scoped(scope), "proposal_hash": proposal}
    return speak(speaker, "LimitsApproved", content, output=output)


@app.command
def revoke(
    scope: ScopeName,
    /,
    *,
    proposal: Annotated[
        str | None, Parameter(help="Withdraw this proposal instead, by its hash.")
    ] = None,
    speaker: Speaker,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Leave a scope without limits, once a second person says the same."""
    if proposal is not None:
        require_hash(proposal, "a proposal: psm risk limits show tells it")
    content = {**scoped(scope), "proposal_hash": proposal}
    return speak(speaker, "LimitsRevoked", content, output=output)


@app.command
def diff(
    scope: ScopeName,
    file: LimitsFile | None = None,
    /,
    *,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Show what would change: limits in force against the newest proposal, or against a file."""
    documents, name = load_rulebook().rulebook.documents, _text(scope)
    held = documents.in_force(name, time.time_ns() // 1000)
    before = Limits() if held is None else held.limits
    if file is not None:
        after = _checked(read_object(file))
    elif name in documents.proposed:
        after = documents.proposed[name].limits
    else:
        raise ConfigError(f"nothing is proposed for {name}; name a file to compare with")
    looser = loosened(before, after)
    old, new = limit_values(before), limit_values(after)
    rows = [
        {
            "limit": limit,
            "before": old.get(limit),
            "after": new.get(limit),
            "looser": limit in looser,
        }
        for limit in Limits.__struct_fields__
        if old.get(limit) != new.get(limit)
    ]
    output.rows(rows, _DIFFERENCES)
    output.note(
        f"looser, so another person must approve: {', '.join(looser)}"
        if looser
        else "nothing is looser: it holds as soon as it is proposed"
    )


@app.command
def history(
    scope: Annotated[str | None, Parameter(help="Of this scope; all if not given.")] = None,
    /,
    *,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Show who proposed, approved and revoked which limits, and what became of it."""
    wanted = None if scope is None else _text(scope)
    rows = history_rows(load_rulebook(), ("Limits",), wanted)
    output.rows(rows, ("sequence", "at", "event_type", "scope", "actor", "outcome", "detail"))


def read_object(file: str) -> dict[str, Any]:
    """Return the JSON object in a file, numbers with a point as their text; - is standard input.

    Raises:
        ConfigError: it cannot be read, or holds no object.
    """
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return codec.decode_untyped(data)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except ContractError as error:
        raise ConfigError(f"{file} holds no JSON object") from error


def limit_values(limits: Limits) -> dict[str, Any]:
    """Return the limits that are set, as a document has them."""
    return {
        name: _plain(value) for name, value in msgspec.structs.asdict(limits).items()
        if value != getattr(Limits(), name)
    }  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: exact_text(one) for name, one in value.items()}
    return value if isinstance(value, str | int) else exact_text(value)


def _checked(values: dict[str, Any]) -> Limits:
    try:
        return limits_of_document(values)
    except ContractError as error:
        name = (error.field or "").partition(".")[2]
        near = difflib.get_close_matches(name, Limits.__struct_fields__, n=1)
        if error.reason == "unknown_limit" and near:
            text = f'there is no limit "{name}"; did you mean "{near[0]}"?'
            raise ConfigError(text) from None
        raise ConfigError(error.detail) from None


def _text(scope: str) -> str:
    parse_scope(scope)
    return scope


def _row(document: Document, status: str) -> dict[str, Any]:
    return {
        "scope": document.scope,
        "version": document.version,
        "status": status,
        "limits": limit_values(document.limits),
        "valid_from": instant(document.valid_from),
        "valid_until": instant(document.valid_until),
        "actor": document.actor,
        "hash": document.hash,
    }
