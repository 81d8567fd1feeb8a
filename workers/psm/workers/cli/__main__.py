"""`python -m psm.workers.cli` is `psm`."""

from __future__ import annotations

from psm.workers.cli import main

raise SystemExit(main())
