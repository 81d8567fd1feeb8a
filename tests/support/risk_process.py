"""`psm risk worker` as a program of its own, on the smallest engine."""

from __future__ import annotations

import asyncio
import sys

from tests.support.risk_ledger import LedgerSlot

from psm.workers.cli.run.risk_worker import run
from psm.workers.process.config import load_settings

if __name__ == "__main__":
    sys.exit(asyncio.run(run(load_settings(find_up=False), LedgerSlot)))
