"""Checks DBZ-01 to DBZ-04, and what the commands say, where the log is topics that Debezium writes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import yaml
from debezium.kafka_topics import Written
from plugins.kafka import KafkaBroker

from connector import pipeline
from connector.change.selection import Role, Selection, TableSelection
from connector.cli.guard import guard
from connector.cli.preview import preview
from connector.cli.report import report
from connector.cli.setup import setup
from connector.cli.snapshot import snapshot
from connector.cli.tail import tail
from connector.configuration import load
from connector.errors import ConnectorError
from connector.finding import Finding, Severity
from connector.observe import Hub
from connector.preflight.debezium import check_debezium
from connector.settings import Settings

SELECTION = Selection((TableSelection("motcua", "ho_so", Role.DOSSIER, ("id",)),))


def found(settings: Settings) -> dict[str, Finding]:
    return {finding.check: finding for finding in check_debezium(settings, SELECTION)}


def test_brokers_that_are_away() -> None:
    """It is told with the setting, and nothing else is asked."""
    log = {"kafka": {"brokers": "127.0.0.1:1"}, "debezium": {"prefix": "p"}}
    findings = found(Settings.model_validate({"name": "a", "log": log}))
    assert findings.keys() == {"DBZ-01"}
    assert findings["DBZ-01"].severity is Severity.ERROR


def test_topics_as_they_should_be_and_not(kafka: KafkaBroker) -> None:
    """A missing table's topic, missing or scattered transactions and short retention are told with their mends."""
    written = Written(kafka)
    settings = written.settings()
    findings = found(settings)
    assert findings["DBZ-02"].severity is Severity.WARNING
    assert "log.debezium.topics" in findings["DBZ-02"].mend[0]
    assert findings["DBZ-03"].severity is Severity.WARNING
    assert "provide.transaction.metadata" in findings["DBZ-03"].mend[0]
    written.make(written.dossiers)
    written.make(written.transactions, partitions=2)
    findings = found(settings)
    assert findings["DBZ-02"].severity is Severity.OK
    assert findings["DBZ-03"].severity is Severity.ERROR
    assert findings["DBZ-04"].severity is Severity.WARNING
    assert "168 h" in findings["DBZ-04"].what

    other = Written(kafka)
    other.make(other.dossiers, config={"cleanup.policy": "compact"})
    other.make(other.transactions)
    assert {finding.severity for finding in check_debezium(other.settings(), SELECTION)} == {Severity.OK}


def configuration(directory: Path, prefix: str, brokers: str) -> Path:
    """Of a connector without `source`."""
    settings = {
        "name": prefix,
        "log": {"kafka": {"brokers": brokers}, "debezium": {"prefix": prefix}},
        "mapping": {"extends": "preset:one-stop-generic", "SiteId": 327},
        "delivery": {"state": str(directory / "state")},
    }
    path = directory / "emc-cdc.yml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "command",
    [
        lambda path: pipeline.capture(load(path), Hub(), Event()),
        lambda path: pipeline.run(load(path), Hub(), Event()),
        lambda path: setup(path),
        lambda path: guard(path),
        lambda path: snapshot(path, everything=True),
        lambda path: preview(path),
        lambda path: report(path),
        lambda path: tail(path),
    ],
)
def test_commands_of_a_capture_are_refused(tmp_path: Path, command: Callable[[Path], None]) -> None:
    """Before anything is asked they say that Debezium is the capture, and what to run instead."""
    with pytest.raises(ConnectorError, match="Debezium") as caught:
        command(configuration(tmp_path, "p", "127.0.0.1:1"))
    assert "emc-cdc deliver" in caught.value.mend


def test_status_and_check(kafka: KafkaBroker, tmp_path: Path) -> None:
    """They look at the topics; nothing of a database of ours is asked."""
    written = Written(kafka)
    written.make(written.transactions)
    topic = f"{written.prefix}.motcua.ho_so"
    written.make(topic)
    for number in (1, 2, 3):
        written.write(topic, {"id": number}, {})
    path = configuration(tmp_path, written.prefix, kafka.bootstrap)
    code, status = run(path, "status")
    assert code == 0
    assert status["source"] == {"debezium": written.prefix}
    assert status["log"]["topics"] == [topic]
    assert status["log"]["records"] == 3
    _, checked = run(path, "check")
    assert {finding["check"][:3] for finding in checked["findings"]} == {"DBZ", "DIR", "EMC"}


def run(config: Path, command: str) -> tuple[int, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "connector.cli", command, "--json", "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
        cwd=config.parent,
    )
    assert not done.stderr
    return done.returncode, json.loads(done.stdout)
