"""`psm risk halt|resume|groups|keys|rulebook`: who may trade, who decides, and what was said."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from psm.contracts.errors import ConfigError
from psm.contracts.rulebook_events import RULEBOOK_EVENTS, HaltMode, Right
from psm.risk.rulebook import Halt, slot_of
from psm.workers.cli.decide.history import history_rows, instant
from psm.workers.cli.decide.limits import read_object
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
from psm.workers.ops.keys import load_private, load_public, raw_public

groups = App(name="groups", help="Show and define the groups that one risk loop decides for.")
keys = App(name="keys", help="Show and define who may say what in the rulebook.")
rulebook = App(name="rulebook", help="Show what was said, and say anything else.")

_HISTORY = ("sequence", "at", "event_type", "scope", "actor", "outcome", "detail")


def halt(
    scope: ScopeName,
    /,
    *,
    mode: Annotated[
        HaltMode, Parameter(help="reducing: what only closes may pass; halted: only cancels.")
    ] = "halted",
    until: Annotated[str | None, Parameter(help="Over at this time: RFC 3339, UTC.")] = None,
    speaker: Speaker,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Stop a scope at once. One person is enough; going on again needs two.

    Halted, the engine asks whoever executes to cancel what is open there: `cancel_all`.
    """
    content = {**scoped(scope), "mode": mode, "until": until}
    return speak(speaker, "HaltSet", content, output=output)


def resume(
    scope: ScopeName,
    halts: Annotated[
        tuple[str, ...], Parameter(help="Hashes of halts or latches; needed where there are more.")
    ] = (),
    /,
    *,
    rebase_peak: Annotated[
        bool, Parameter(negative="", help="The drawdown counts from here on.")
    ] = False,
    speaker: Speaker,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Lift a halt, once a second person says the same, naming the same halt."""
    for one in halts:
        require_hash(one, "a halt or latch: psm risk halts and psm risk state show them")
    named = halts or (_only_halt(scope).hash,)
    contents = [{**scoped(scope), "halt_hash": one, "rebase_peak": rebase_peak} for one in named]
    return speak(speaker, "HaltLifted", *contents, output=output)


def halts(*, output: Output = DEFAULT_OUTPUT) -> None:
    """Show what is halted, since when and why."""
    rows = [
        {
            "scope": one.scope,
            "mode": one.mode,
            "code": one.code,
            "until": instant(one.until),
            "actor": one.actor,
            "reason": one.reason,
            "hash": one.hash,
        }
        for one in _halts()
    ]
    output.rows(rows, ("scope", "mode", "code", "until", "actor", "reason", "hash"))


@groups.default
def show_groups(*, output: Output = DEFAULT_OUTPUT) -> None:
    """Show every group, its members and the slot whose loop decides for it."""
    rows = [
        {
            "group": one.name,
            "slot": slot_of(one.name),
            "currency": one.currency,
            "parent": one.parent,
            "members": list(one.members),
            "sequence": one.sequence,
        }
        for one in load_rulebook().rulebook.groups.values()
    ]
    output.rows(rows, ("group", "slot", "currency", "parent", "members", "sequence"))


@groups.command(name="define")
def define_group(
    group: str,
    /,
    *,
    member: Annotated[
        tuple[str, ...], Parameter(help="Account; repeat it. It leaves the group it was in.")
    ] = (),
    currency: Annotated[str, Parameter(help="In which the group is valued.")],
    parent: Annotated[str | None, Parameter(help="Group whose limits it shares.")] = None,
    speaker: Speaker,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Define a group, once a second person says the same. All members are named each time."""
    content = {"group": group, "members": list(member), "currency": currency, "parent": parent}
    return speak(speaker, "GroupDefined", content, output=output)


@keys.default
def show_keys(*, output: Output = DEFAULT_OUTPUT) -> None:
    """Show whose keys may say what."""
    held = load_rulebook().rulebook.keys.held
    rows = [
        {"key_id": name, "holder": one.holder, "rights": list(one.rights)}
        for name, one in sorted(held.items())
    ]
    output.rows(rows, ("key_id", "holder", "rights"))


@keys.command(name="define")
def define_key(
    public_key: Annotated[Path, Parameter(help="Public key, a PEM file.")],
    /,
    *,
    holder: Annotated[str, Parameter(help="Whose it is, by pseudonym.")],
    right: Annotated[
        tuple[Right, ...],
        Parameter(help="propose, approve, halt or publish; repeat it. None: the key is void."),
    ] = (),
    speaker: Speaker,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Say whose a key is and what it may do, once a second person says the same.

    Each of the first two persons defines his own key, with it as --key and himself as
    --actor, which is the default then.
    """
    raw = raw_public(load_public(public_key))
    content = {"holder": holder, "public_key": raw.hex(), "rights": list(right)}
    if speaker.actor is None and raw_public(load_private(speaker.key).public_key()) == raw:
        speaker = replace(speaker, actor=holder)  # of his own key, which nobody knows yet
    return speak(speaker, "KeyDefined", content, output=output)


@rulebook.command
def say(
    event_type: Annotated[str, Parameter(help="Such as ListDefined; see docs/risk.md.")],
    file: Annotated[
        str,
        Parameter(
            allow_leading_hyphen=True,
            help="JSON object of its fields, but actor, reason, key_id and signature; - is "
            "standard input.",
        ),
    ],
    /,
    *,
    speaker: Speaker,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Say anything in the rulebook: lists, tags, sessions, days, overrides, strategies."""
    if event_type not in RULEBOOK_EVENTS:
        raise ConfigError(f"no event {event_type}; there are {', '.join(RULEBOOK_EVENTS)}")
    return speak(speaker, event_type, read_object(file), output=output)


@rulebook.command
def history(*, output: Output = DEFAULT_OUTPUT) -> None:
    """Show everything that was said, and what became of it; refusals, too."""
    found = load_rulebook()
    output.rows(history_rows(found), _HISTORY)
    output.note(f"rulebook {found.rulebook.sequence}, {found.rulebook.hash}")


def _halts() -> list[Halt]:
    clock = time.time_ns() // 1000
    by_scope = load_rulebook().rulebook.halts.of
    return [
        one for scope in sorted(by_scope) for one in by_scope[scope].values() if one.holds(clock)
    ]


def _only_halt(scope: str) -> Halt:
    parse_scope(scope)
    found = [one for one in _halts() if one.scope == scope]
    if not found:
        raise ConfigError(
            f"nobody halted {scope}; to lift a latch of the engine, name its hash, which "
            "psm risk state shows"
        )
    if len(found) > 1:
        listed = "\n".join(f"  {one.hash} {one.mode} {one.code}: {one.reason}" for one in found)
        raise ConfigError(f"{scope} has {len(found)} halts; name those to lift:\n{listed}")
    return found[0]
