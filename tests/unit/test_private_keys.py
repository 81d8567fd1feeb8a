"""Who may read a private key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from psm.contracts.errors import ConfigError
from psm.workers.ops import keys


@pytest.mark.parametrize(("mode", "taken"), [(0o640, True), (0o660, False), (0o644, False)])
def test_a_file_of_root_may_be_given_to_a_group(
    mode: int, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret in a pod is root's, and readable by the pod's group; nobody else may have more."""
    file = tmp_path / "key"
    keys.generate(file)
    file.chmod(mode)
    monkeypatch.setattr(Path, "stat", lambda _: os.stat_result((0o100000 | mode, *[0] * 9)))
    monkeypatch.setattr(os, "geteuid", lambda: 10001)
    if taken:
        keys.load_private(file)
    else:
        with pytest.raises(ConfigError, match="may be read by others"):
            keys.load_private(file)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(ConfigError, match="may be read by others"):
        keys.load_private(file)
