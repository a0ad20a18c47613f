"""The attached connector of this directory's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from attached_source import Attached
from plugins.postgres import Database


@pytest.fixture
def attached(database: Database, tmp_path: Path) -> Iterator[Attached]:
    """A connector that may start, and has not been started yet."""
    made = Attached(database, tmp_path)
    made.set_up()
    yield made
    made.close()
