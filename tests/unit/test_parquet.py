"""Parquet where there is no room for it; what is in it is compared on real servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from psm.workers.analytics.parquet import ParquetWriter


def test_full_disk_is_an_error_of_the_system() -> None:
    """Not a panic of the library that makes the bytes."""
    writer = ParquetWriter(Path("/dev/full"), [("account_id", "text"), ("fills", "int8")])
    writer.put([["acc_001", 3], ["acc_002", None]])
    with pytest.raises(OSError, match="No space left"):
        writer.finish()
