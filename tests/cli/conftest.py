"""A log of each backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from logged import Logged


@pytest.fixture(params=["embedded", "kafka"])
def logged(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Logged]:
    """An empty log; the test runs once for each backend."""
    logged = Logged(tmp_path, request.getfixturevalue("kafka").bootstrap if request.param == "kafka" else None)
    yield logged
    logged.story.close()


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Logged]:
    """An empty embedded log, for what does not depend on the backend."""
    logged = Logged(tmp_path, None)
    yield logged
    logged.story.close()
