"""The real `nats` command line, as operators use it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

BUILD = "scripts/build_nats_cli.sh"


def nats_cli() -> str:
    """Return where the `nats` command line is.

    From `PSM_TEST_NATS_CLI`, the PATH, or the cache that `scripts/build_nats_cli.sh` fills.

    Raises:
        AssertionError: it is nowhere. What operators use must be tested with what they use.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    built = sorted(cache.glob("psm/nats-cli-*/nats"))
    places = [os.environ.get("PSM_TEST_NATS_CLI"), shutil.which("nats"), *map(str, built[-1:])]
    for place in places:
        if place:
            assert os.access(place, os.X_OK), f"{place} is no program"
            return place
    raise AssertionError(
        f"the nats command line is missing: run {BUILD} (needs Go), or set "
        "PSM_TEST_NATS_CLI to where it is"
    )
