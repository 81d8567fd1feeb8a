"""`psm version`: what is installed, for bug reports."""

from __future__ import annotations

import platform
from importlib.metadata import version as installed

from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output

_LIBRARIES = ("nats-py", "asyncpg", "msgspec", "opentelemetry-sdk")


def version(*, output: Output = DEFAULT_OUTPUT) -> None:
    """Show the versions of PSM, Python and the libraries that touch money or wire."""
    output.document(
        {
            "psm": installed("portfolio-state-manager"),
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            **{name: installed(name) for name in _LIBRARIES},
        }
    )
