"""The users of the broker as text: configuration of a NATS server, and a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psm.adapters.jetstream.roles import ROLES, Role

_ANSWERS = '        allow_responses: { max: 1, expires: "1m" }'


def render_config(
    roles: Sequence[Role] = ROLES, keys: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Return the users as configuration of a NATS server.

    Args:
        roles: which of them.
        keys: public keys (nkeys) by role, each of which is the role; without it they have passwords
            from the server's environment.
    """
    lines = [
        "# Made by `psm config nats-users`; edit workers/psm/adapters/jetstream/roles.py instead.",
        "# docs/security.md has the same as a table."
        if keys
        else "# Passwords come from the environment. docs/security.md has the same as a table.",
        "authorization {",
        "  users: [",
    ]
    for one in roles:
        who = [f"      nkey: {key} # {one.name}" for key in keys[one.name]] if keys else None
        for said in who or [f"      user: {one.name}\n      password: ${one.password_variable}"]:
            lines += [
                "    {",
                said,
                "      permissions: {",
                "        publish: [",
                *(f'          "{subject}"' for subject in one.may_publish()),
                "        ]",
                f"        subscribe: {{ allow: [{_quoted(one.may_subscribe())}]{_denied(one)} }}",
                *([_ANSWERS] if one.answers else []),
                "      }",
                "    }",
            ]
    return "\n".join([*lines, "  ]", "}"]) + "\n"


def render_table() -> str:
    """Return the users as a Markdown table."""
    lines = [
        "| user | for | publishes | subscribes | reads | JetStream API |",
        "|---|---|---|---|---|---|",
    ]
    for one in ROLES:
        heard = _marked(one.subscribe)
        if one.unheard:
            heard += f", never {_marked(one.unheard)}"
        reads = [
            _marked(one.scans),
            *([f"single messages of {_marked(one.gets)}"] if one.gets else []),
            *([f"consumers it was given of {_marked(one.follows)}"] if one.follows else []),
        ]
        makes = "creates and updates the streams of PSM" if one.makes else ""
        answers = "answers to requests" if one.answers else ""
        cells = (
            f"`{one.name}`",
            one.about,
            ", ".join(filter(None, (_marked(one.publish), answers))),
            heard,
            ", ".join(filter(None, reads)),
            ", ".join(filter(None, (makes, _marked(one.api)))),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _marked(texts: tuple[str, ...]) -> str:
    return ", ".join(f"`{text}`" for text in texts)


def _quoted(subjects: list[str]) -> str:
    return ", ".join(f'"{subject}"' for subject in subjects)


def _denied(one: Role) -> str:
    return f", deny: [{_quoted(list(one.unheard))}]" if one.unheard else ""
