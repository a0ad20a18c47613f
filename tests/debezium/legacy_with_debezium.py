"""The legacy application on a database that a real Debezium reads, and deliver processes on Debezium's topics."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
import yaml
from demo.legacy_run import ROOT, command, legacy
from emc.simulator_process import RunningSimulator

from connector.configuration import load
from connector.delivery.status import PartitionStatus, status
from connector.demo import oracle

PATIENCE = 120.0
TABLES = tuple(f"motcua.{table}" for table in oracle.CAPTURED)
PUBLICATION = "debezium"
OLD = 20


def install(dsn: str) -> None:
    """The application with old dossiers, and what Debezium needs of the database."""
    legacy(dsn, "--prepare", "--load", str(OLD))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE {', '.join(TABLES)}")


def start_lives(dsn: str, dossiers: int, rate: float) -> subprocess.Popen[bytes]:
    """The application at work, until so many dossiers have come to their ends."""
    arguments = command(dsn, "--dossiers", str(dossiers), "--seed", "5", "--rate", str(rate))
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL)


def eventually(condition: Callable[[], bool], told: Callable[[], str]) -> None:
    """Look at other processes until the condition holds."""
    deadline = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, told()
        pause.wait(0.1)


class Delivery:
    """`emc-cdc deliver` on one connector's topics, with a simulated EMC of its own; may be killed and started again."""

    def __init__(self, directory: Path, brokers: str, prefix: str, emc: RunningSimulator, **debezium: Any) -> None:
        directory.mkdir()
        self.lines = directory / "deliver.log"
        self.config = directory / "emc-cdc.yml"
        self.emc = emc
        self._process: subprocess.Popen[bytes] | None = None
        kafka = {"brokers": brokers, "replication_factor": 1, "min_insync_replicas": 1}
        written = {
            "name": prefix,
            "log": {"kafka": kafka, "debezium": {"prefix": prefix, "settle": 1.0, **debezium}},
            "mapping": {"extends": "preset:one-stop-generic", "SiteId": oracle.SITE_ID},
            "emc": {"url": emc.api},
            "delivery": {"state": str(directory / "state"), "retry": {"initial": 0.05, "maximum": 0.5}},
            "console": None,
        }
        self.config.write_text(yaml.safe_dump(written), encoding="utf-8")
        self.settings = load(self.config).settings

    def start(self) -> None:
        with self.lines.open("a", encoding="utf-8") as lines:
            arguments = [sys.executable, "-m", "connector.cli", "deliver", "--config", str(self.config)]
            self._process = subprocess.Popen(arguments, cwd=ROOT, stdout=lines, stderr=subprocess.STDOUT)

    def kill(self) -> None:
        """As the kernel kills it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def told(self) -> str:
        return self.lines.read_text(encoding="utf-8")[-3000:]

    def look(self) -> PartitionStatus | None:
        found = status(self.settings)
        return found[0] if found else None

    def attached(self) -> bool:
        """What was there before is known, and the stream is judged from now on."""
        assert self._process is not None
        assert self._process.poll() is None, self.told()
        found = self.look()
        return found is not None and found.offset > 0 and not found.reading

    def verdict(self, dsn: str, since: int, client: httpx.Client) -> oracle.Verdict:
        """What has arrived, compared with what the database alone says was due."""
        arrivals = [
            oracle.Arrival(one["parameters"], one["at"])
            for one in self.emc.received(client)
            if one["verdict"] == "accepted"
        ]
        return oracle.verdict(oracle.expected(dsn, since), arrivals)
