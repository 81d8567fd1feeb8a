"""`psm login` and `psm context`: which service reading commands ask, and as whom."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from psm.contracts.errors import ConfigError
from psm.workers.access.tokens import parts_of
from psm.workers.cli.shared.contexts import (
    Context,
    keep_context,
    keep_token,
    read_contexts,
    use_context,
)
from psm.workers.cli.shared.http import asked_service
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output

app = App(name="context", help="Choose which service is asked over HTTP, and as whom.")

Url = Annotated[str, Parameter(help="Such as https://psm.example.")]


def login(
    url: Annotated[str, Parameter(name="URL", help="Such as https://psm.example.")],
    /,
    *,
    name: Annotated[str, Parameter(help="Of the context that is made.")] = "default",
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Keep a token for a service, after asking it who that is; reading commands then ask it.

    The token is read from the terminal, unseen, or from standard input.
    """
    token = (getpass.getpass("token: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    if parts_of(token) is None and token.count(".") != 2:
        raise ConfigError("that is no token: psm_..., as `psm token create` shows it")
    who = asked_service(url, token).ask("GET", "/whoami")
    file = keep_token(name, token)
    keep_context(name, Context(url=url.rstrip("/"), token_file=str(file)))
    output.document({"context": name, "url": url, **who})
    return 0


@app.command
def add(
    name: Annotated[str, Parameter(name="NAME")],
    /,
    *,
    url: Url,
    token_file: Annotated[Path | None, Parameter(help="File that holds the token.")] = None,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Add a service by name, or change it, and use it."""
    asked_service(url, None)
    file = None if token_file is None else str(token_file.absolute())  # used from anywhere
    keep_context(name, Context(url=url.rstrip("/"), token_file=file))
    return list_contexts(output=output)


@app.command
def use(
    name: Annotated[str | None, Parameter(name="NAME")] = None,
    /,
    *,
    none: Annotated[
        bool, Parameter(negative="", help="None: commands read NATS and PostgreSQL again.")
    ] = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Ask this service from now on, or none."""
    if (name is None) is not none:
        raise ConfigError("give the name of a context, or --none")
    use_context(name)
    return list_contexts(output=output)


@app.command(name="list")
def list_contexts(*, output: Output = DEFAULT_OUTPUT) -> int:
    """List the services that can be asked by name; no token is shown."""
    found = read_contexts()
    rows = [
        {
            "current": "*" if name == found.current else "",
            "name": name,
            "url": one.url,
            "token_file": one.token_file,
        }
        for name, one in sorted(found.named.items())
    ]
    output.rows(rows, ("current", "name", "url", "token_file"))
    return 0
