"""One PSM for all of the fuzz suite, as long as nothing harms it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.fuzzing.stage import Stage, Stages


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    stages = Stages(tmp_path_factory.mktemp("fuzz"))
    yield stages
    stages.close()


@pytest.fixture
def stage(stages: Stages) -> Stage:
    """A running PSM that nothing has harmed so far."""
    return stages.stage()
