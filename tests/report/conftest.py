"""A legacy database of four hundred dossiers, and a log of each backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.logged import Logged
from plugins.postgres import Database
from reported_database import Reported


@pytest.fixture
def reported(database: Database, tmp_path: Path) -> Iterator[Reported]:
    """All of them sound."""
    made = Reported(database, tmp_path, 400)
    yield made
    made.close()


@pytest.fixture(params=["embedded", "kafka"])
def logged(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Logged]:
    """An empty log; the test runs once for each backend."""
    made = Logged(tmp_path, request.getfixturevalue("kafka").bootstrap if request.param == "kafka" else None)
    yield made
    made.story.close()
