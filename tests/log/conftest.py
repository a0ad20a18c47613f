"""The two backends as one fixture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from logs_under_test import Log, embedded_settings, kafka_settings


@pytest.fixture(params=["embedded", "kafka"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    """An empty log; the test runs once for each backend."""
    if request.param == "embedded":
        log = Log(embedded_settings(tmp_path / "made" / "changes.sqlite"))
    else:
        log = Log(kafka_settings(request.getfixturevalue("kafka").bootstrap))
    yield log
    for part in reversed(log.opened):
        part.close()


@pytest.fixture
def kafka_log(request: pytest.FixtureRequest) -> Iterator[Log]:
    """An empty log in Kafka."""
    log = Log(kafka_settings(request.getfixturevalue("kafka").bootstrap))
    yield log
    for part in reversed(log.opened):
        part.close()


@pytest.fixture
def embedded_log(tmp_path: Path) -> Iterator[Log]:
    """An empty embedded log."""
    log = Log(embedded_settings(tmp_path / "changes.sqlite"))
    yield log
    for part in reversed(log.opened):
        part.close()
