"""The log and the directories: an embedded log on real disks, Kafka with the run's broker."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from plugins.kafka import KafkaBroker
from plugins.registry import registry_server

from connector.finding import Finding, Severity
from connector.log.opening import open_writer
from connector.preflight.log import check_directories, check_log
from connector.settings import Settings


def settings(log: dict[str, Any], **more: Any) -> Settings:
    return Settings.model_validate({"name": "kiem-tra", "source": {"dsn": "host=x"}, "log": log, **more})


def embedded(path: Path, partitions: int = 4) -> Settings:
    return settings({"embedded": {"path": str(path)}, "partitions": partitions})


def by_check(findings: list[Finding]) -> dict[str, Severity]:
    return {one.check: one.severity for one in findings}


def test_a_log_that_is_yet_to_be_made(tmp_path: Path) -> None:
    """Before the first start the disk is looked at, and nothing is made."""
    findings = check_log(embedded(tmp_path / "a" / "b" / "log.sqlite"))
    assert by_check(findings) == {"LOG-01": Severity.OK, "LOG-02": Severity.NOTE, "LOG-03": Severity.OK}
    assert "SQLite with synchronous=FULL" in findings[2].what
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_is_there(tmp_path: Path) -> None:
    """A log that fits is in order; with another number of partitions in the settings it is an error with the line."""
    configured = embedded(tmp_path / "log.sqlite")
    writer = open_writer(configured)
    writer.open()
    writer.close()
    assert by_check(check_log(configured)) == {
        "LOG-01": Severity.OK, "LOG-02": Severity.OK, "LOG-03": Severity.OK,
    }  # fmt: skip
    other = check_log(embedded(tmp_path / "log.sqlite", partitions=8))
    assert by_check(other)["LOG-02"] is Severity.ERROR
    assert other[1].mend[0].startswith("log.partitions: 4")


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    """Another program's database in the log's place is an error, and stays what it is."""
    path = tmp_path / "log.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    before = path.read_bytes()
    findings = check_log(embedded(path))
    assert by_check(findings) == {"LOG-01": Severity.OK, "LOG-02": Severity.ERROR}
    assert path.read_bytes() == before


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    """A file where a directory should be, and a system directory: one finding each with the setting's name."""
    (tmp_path / "file").write_text("x", encoding="ascii")
    for place in (tmp_path / "file" / "log.sqlite", Path("/proc/emc-cdc/log.sqlite")):
        (found,) = check_log(embedded(place))
        assert (found.check, found.severity) == ("LOG-01", Severity.ERROR)
        assert "log.embedded.path" in found.mend[0]
    configured = settings({}, delivery={"state": str(tmp_path / "file" / "x")})
    configured = configured.model_copy(
        update={"source": configured.source.model_copy(update={"data": tmp_path / "data"})}
    )
    data, state = check_directories(configured)
    assert (data.severity, state.severity) == (Severity.OK, Severity.ERROR)
    assert "delivery.state" in state.mend[0]


def kafka_settings(brokers: str, **more: Any) -> Settings:
    return settings({"kafka": {"brokers": brokers, "replication_factor": 1, "min_insync_replicas": 1, **more}})


def test_kafka_that_answers(kafka: KafkaBroker) -> None:
    """One broker for a trial: reached, no topic yet, and durability in plain words."""
    findings = check_log(kafka_settings(kafka.bootstrap))
    assert by_check(findings) == {
        "LOG-01": Severity.OK, "LOG-02": Severity.NOTE, "LOG-03": Severity.WARNING,
        "LOG-06": Severity.OK, "LOG-07": Severity.OK,
    }  # fmt: skip
    assert "the loss of one disk can lose changes" in findings[2].what


@pytest.mark.parametrize(
    ("asked", "says", "mend"),
    [
        ({"replication_factor": 3}, "1 broker reached", "log.kafka.replication_factor: 1"),
        ({"min_insync_replicas": 2}, "is more than replication_factor", "log.kafka.min_insync_replicas: 1"),
    ],
)
def test_kafka_with_too_few_brokers(kafka: KafkaBroker, asked: dict[str, int], says: str, mend: str) -> None:
    """More replicas than brokers, or than replicas: an error with the line to write."""
    (found,) = check_log(kafka_settings(kafka.bootstrap, **asked))
    assert (found.check, found.severity) == ("LOG-01", Severity.ERROR)
    assert says in found.what
    assert found.mend[0].startswith(mend)


def test_kafka_that_is_away() -> None:
    """Nobody at the address: one finding with the setting's name, in bounded time."""
    (found,) = check_log(kafka_settings("127.0.0.1:1"))
    assert (found.check, found.severity) == ("LOG-01", Severity.ERROR)
    assert "log.kafka.brokers" in found.mend[0]


def test_a_schema_registry_is_asked(kafka: KafkaBroker) -> None:
    """One that answers is shown with its compatibility level; one that does not, or is none, stands in the way."""
    with registry_server() as registry:
        asked = {"brokers": kafka.bootstrap, "replication_factor": 1, "min_insync_replicas": 1}
        configured = settings({"kafka": {**asked, "registry": {"url": registry.url}}})
        found = check_log(configured)[-1]
        assert (found.check, found.severity) == ("LOG-04", Severity.OK)
        assert "BACKWARD" in found.what
        registry.always = 404
        found = check_log(configured)[-1]
        assert (found.check, found.severity) == ("LOG-04", Severity.ERROR)
        assert "log.kafka.registry.url" in found.mend[0]
    assert check_log(configured)[-1].severity is Severity.ERROR
