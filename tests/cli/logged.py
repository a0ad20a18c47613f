"""A small story in a log of either backend, with the configuration file of a connector that reads it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from delivery.delivery_story import MAPPING, LoggedStory

from connector.log.contract import Record
from connector.log.opening import open_reader
from connector.settings import Settings

PARTITIONS = 2


class Logged:
    """brokers: of Kafka; None for an embedded log; form: of its records."""

    def __init__(self, directory: Path, brokers: str | None, form: str = "avro") -> None:
        self.directory = directory
        log: dict[str, Any] = {"partitions": PARTITIONS, "embedded": {"path": str(directory / "log.sqlite")}}
        if brokers is not None:
            kafka = {"brokers": brokers, "replication_factor": 1, "min_insync_replicas": 1}
            log = {"partitions": PARTITIONS, "kafka": kafka}
        log["format"] = form
        written = {
            "name": f"tail-{uuid4().hex[:8]}",
            "source": {"dsn": "host=127.0.0.1 port=9 dbname=x user=y"},
            "log": log,
            "delivery": {"state": str(directory / "state")},
        }
        self.settings = Settings.model_validate(written)
        self.config = directory / "emc-cdc.yml"
        self.config.write_text(yaml.safe_dump(written | yaml.safe_load(MAPPING), allow_unicode=True), encoding="utf-8")
        self.story = LoggedStory(self.settings)

    def records(self, expected: int) -> list[Record]:
        """Everything in the log, once so many records can be read: Kafka shows them a little after the append."""
        reader = open_reader(self.settings)
        try:
            reader.assign(dict.fromkeys(range(PARTITIONS), 0))
            records: list[Record] = []
            for _ in range(200):
                if len(records) >= expected:
                    return records
                records += reader.poll(0.2, 1000)
        finally:
            reader.close()
        raise AssertionError(f"{len(records)} of {expected} records came")

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "connector.cli", *arguments, "--config", str(self.config)]

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """A command that ends with this exit code and no traceback."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=120, check=False)
        assert "Traceback" not in done.stderr
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def lines(self, *arguments: str) -> Sequence[str]:
        return self.run("tail", *arguments).stdout.splitlines()
