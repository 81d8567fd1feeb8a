"""`psm config`: what is set, whether it is right, and the documents made from the settings."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from psm.adapters.jetstream import roles_text
from psm.adapters.jetstream.nats_keys import KeyFolder
from psm.adapters.jetstream.roles import ROLES
from psm.contracts.errors import ConfigError
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.cli.shared.producers import Producers, producer_of
from psm.workers.process.config import settings_with_sources
from psm.workers.process.setting import About, written
from psm.workers.process.settings import about

app = App(name="config", help="Show, check and document the settings.")

_HEADINGS = {
    "nats": "NATS",
    "postgres": "PostgreSQL",
    "log": "Log",
    "worker": "Worker",
    "archive": "Event archive",
    "marks": "Marks",
    "market": "Order books",
    "risk": "Risk",
    "http": "Read API",
    "replays": "Replays",
    "telemetry": "Logs, metrics, traces",
}

_KEYWORDS = {"type", "enum", "minimum", "maximum", "pattern", "anyOf"}
# Set per process by whoever runs it: addresses, ports, files of mounted secrets.
_OF_A_PROCESS = {
    "nats_url",
    "nats_context",
    "nats_user",
    "nats_creds_file",
    "nats_nkey_seed_file",
    "nats_ca_file",
    "nats_cert_file",
    "nats_key_file",
    "worker_partitions",
    "marks",
    "http_host",
    "http_hosts",
    "http_trusted_proxies",
    "http_port",
    "ingest",
    "metrics_host",
    "metrics_port",
    "access_file",
    "http_principal_key_file",
    "http_principal_keys",
}


@app.command
def show(*, output: Output = DEFAULT_OUTPUT) -> None:
    """Show every setting, and where its value came from; secrets are blanked out."""
    settings, sources = settings_with_sources()
    public = settings.public()
    rows = (
        {
            "setting": field.env,
            "value": _shown(field, public[field.name]),
            "source": sources[field.name],
        }
        for field in about()
    )
    output.rows(rows, ("setting", "value", "source"))


@app.command
def check(*, output: Output = DEFAULT_OUTPUT) -> None:
    """Check the settings; exit 2 and name every problem if there is one."""
    _, sources = settings_with_sources()
    given = sum(source != "default" for source in sources.values())
    output.document({"ok": True, "settings": len(sources), "given": given})


@app.command
def env_example() -> None:
    """Print .env.example: every variable with its meaning and default."""
    print(render_env_example(), end="")


@app.command
def docs() -> None:
    """Print the reference page of all settings, in Markdown."""
    print(render_docs(), end="")


@app.command
def schema() -> None:
    """Print the JSON Schema of the settings by variable, as the Helm chart uses it."""
    print(msgspec.json.format(msgspec.json.encode(settings_schema()), indent=2).decode())


@app.command
def nats_users(
    *,
    table: Annotated[
        bool, Parameter(name="--table", negative="", help="As a Markdown table, to read.")
    ] = False,
    nkeys: Annotated[
        Path | None, Parameter(help="Folder of `psm nats-keys init`: keys instead of passwords.")
    ] = None,
    producer: Producers = (),
) -> None:
    """Print the NATS users of PSM and what each may do, to be included by a server's nats.conf.

    Their passwords are variables of the server's environment, such as NATS_WORKER_PASSWORD. With
    --nkeys each is known by the public half of its key, and there are no passwords.
    """
    if producer and table:
        raise ConfigError("--table shows the users that are always there: leave --producer out")
    if nkeys is not None:
        if producer:
            raise ConfigError(
                f"{nkeys} keeps keys and accounts of producers: run `psm nats-keys init {nkeys} "
                f"{' '.join(f'--producer {one}' for one in producer)}`, and leave --producer out"
            )
        print(KeyFolder(nkeys).config(), end="")
    else:
        roles = (*ROLES, *map(producer_of, producer))
        print(roles_text.render_table() if table else roles_text.render_config(roles), end="")


def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema of the settings that are neither secret nor a process's own."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            field.env: {
                "description": _sentence(field),
                **_schema(field),
            }
            for field in about()
            if not field.secret and field.name not in _OF_A_PROCESS
        },
    }


def _schema(field: About) -> dict[str, Any]:
    """Return what a value must be; a list is one text here, as in a variable."""
    if field.is_list:
        return {"type": "string"}
    return {k: v for k, v in msgspec.json.schema(field.type).items() if k in _KEYWORDS}


def render_env_example() -> str:
    """Return the text of `.env.example`."""
    lines = ["# Settings of PSM; copy to .env and change what differs. `psm config check` checks."]
    for group, fields in groupby(about(), key=lambda field: field.group):
        lines += ["", f"# --- {_HEADINGS[group]}"]
        for field in fields:
            lines += [f"# {_sentence(field)}", f"#{field.env}={field.default or ''}"]
    return "\n".join(lines) + "\n"


def render_docs() -> str:
    """Return the text of `docs/configuration.md`."""
    lines = [
        "# Configuration",
        "",
        "<!-- Made by `psm config docs`; edit workers/psm/workers/process/settings.py instead. -->",
        "",
        "Every process reads the same settings when it starts, and again, when they change, files",
        "of secrets, keys, certificates and people, and what can hold at once of `psm.toml` and",
        "`.env` ([how](security.md#replacing-what-is-secret-without-an-outage)). The first source",
        "that names a value wins: the flag of a command, the environment, `.env` (in the working",
        "folder, or where `PSM_ENV_FILE` points: `NAME=value` a line, of names below), `psm.toml`",
        "(in the working folder, or where `PSM_CONFIG_FILE` points; keys are these names in small",
        "letters, without `PSM_`), the `nats` CLI context named by `PSM_NATS_CONTEXT`, the",
        "addresses of a running `psm up` of the same user and the NATS user `owner` there, the",
        "default. A `psm up` counts only where no other NATS, NATS user or PostgreSQL is named;",
        "`psm env` prints where it is.",
        "",
        "All problems are reported at once, and an unknown `PSM_*` variable is one.",
        "Secrets never appear in logs, errors or `psm config show`; give them as a variable or,",
        "better, as a file: `<NAME>_FILE` names a file that holds the value.",
        "",
        "`psm config show` prints the values in force and where each came from.",
    ]
    for group, fields in groupby(about(), key=lambda field: field.group):
        lines += ["", f"## {_HEADINGS[group]}", "", "| variable | default | meaning |"]
        lines += ["|---|---|---|"]
        lines += [
            f"| `{field.env}`{' or `' + field.env + '_FILE`' if field.secret else ''} "
            f"| {f'`{field.default}`' if field.default else ''} | {_sentence(field)} |"
            for field in fields
        ]
    return "\n".join(lines) + "\n"


def _sentence(field: About) -> str:
    missing = [choice for choice in field.choices if choice not in field.help]
    return f"{field.help} One of {', '.join(field.choices)}." if missing else field.help


def _shown(field: About, value: object) -> object:
    return written(value) if field.name == "worker_partitions" else value
