"""The real Debezium for the tests: its PostgreSQL connector in Kafka Connect standalone, from Maven's jars.

Contract: `Debezium` runs one worker with its connectors, which snapshot and stream the given tables into a running
broker, as JSON with schemas, with Debezium's defaults unless told otherwise. It listens on loopback only, keeps its
offsets in its directory, ends at the end of the `with` block and never outlives the test run. Jars that are not there
are an error, not a skip.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from psycopg.conninfo import conninfo_to_dict

from plugins.kafka import SMALL_JAVA, KafkaBroker

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0
STOP_SECONDS = 60.0

_WORKER = {
    "key.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "plugin.discovery": "service_load",
    "listeners": "http://127.0.0.1:0",
    "offset.flush.interval.ms": "1000",
}
_CONNECTOR = {
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "tasks.max": "1",
    "plugin.name": "pgoutput",
    "publication.autocreate.mode": "disabled",
    "snapshot.mode": "initial",
    "poll.interval.ms": "20",
    "provide.transaction.metadata": "true",
    # Debezium asks for one; the server trusts whoever reaches it.
    "database.password": "none",
}
WITHOUT_SCHEMAS = {
    f"{part}.converter{setting}": value
    for part in ("key", "value")
    for setting, value in (("", "org.apache.kafka.connect.json.JsonConverter"), (".schemas.enable", "false"))
}
"""A connector's settings for plain JSON."""
_LOG4J = """\
log4j.rootLogger=WARN, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %m (%c)%n
"""
# Waits for the end of its input, which comes when the test run dies; then ends the worker without asking.
_GUARD = 'read -r _; kill -KILL "$1"'


_KILLED = "Task is being killed"


class DebeziumFailed(Exception):
    """Debezium could not be had, or gave up; the text says why."""


def libraries() -> Path:
    """Where tests/install puts the jars. DebeziumFailed when they are not there."""
    directory = ROOT / ".cache/connect/libs"
    if not any(directory.glob("debezium-connector-postgres-*.jar")):
        raise DebeziumFailed(f"no Debezium in {directory}; install it: tests/install")
    return directory


class Debezium:
    """See the module's contract. connectors: topic prefix → settings beside the defaults; it also names the slot."""

    def __init__(
        self,
        directory: Path,
        broker: KafkaBroker,
        dsn: str,
        publication: str,
        tables: Sequence[str],
        connectors: Mapping[str, Mapping[str, str]],
        worker: Mapping[str, str] | None = None,
    ) -> None:
        """worker: settings of Connect's worker beside the defaults."""
        self.directory = directory
        self._broker = broker
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        database = conninfo_to_dict(dsn)
        settings = _WORKER | {
            "bootstrap.servers": broker.bootstrap,
            "offset.storage.file.filename": str(directory / "offsets"),
            **(worker or {}),
        }
        self._files = [_properties(directory / "worker.properties", settings)]
        for name, own in connectors.items():
            connector = _CONNECTOR | {
                "name": name,
                "topic.prefix": name,
                "slot.name": f"{name}_debezium",
                "publication.name": publication,
                "table.include.list": ",".join(tables),
                "topic.creation.default.replication.factor": "1",
                "topic.creation.default.partitions": "1",
                "database.hostname": str(database["host"]),
                "database.port": str(database["port"]),
                "database.user": str(database["user"]),
                "database.dbname": str(database["dbname"]),
                **own,
            }
            self._files.append(_properties(directory / f"{name}.properties", connector))
        (directory / "log4j.properties").write_text(_LOG4J, encoding="utf-8")

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start the worker, after `kill` too: then it goes on from the offsets that were last flushed."""
        java = ["java", *SMALL_JAVA, f"-Dlog4j.configuration=file:{self.directory}/log4j.properties"]
        java += ["-cp", f"{libraries()}/*", "org.apache.kafka.connect.cli.ConnectStandalone"]
        with (self.directory / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                [*java, *map(str, self._files)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                start_new_session=True,
            )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", str(self._process.pid)], stdin=subprocess.PIPE, start_new_session=True
        )

    def flushed(self, connectors: Collection[str]) -> bool:
        """Whether the offsets that would outlive a kill are after each connector's snapshot."""
        try:
            offsets = (self.directory / "offsets").read_bytes()
        except FileNotFoundError:
            return False
        named = all(f'"server":"{name}"'.encode() in offsets for name in connectors)
        return named and b'"last_snapshot_record":false' not in offsets

    def kill(self) -> None:
        """As the kernel kills it: what was produced since the last flush of offsets is produced again."""
        assert self._process is not None
        assert self._guard is not None
        self._process.kill()
        self._process.wait()
        self._end_guard()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._guard is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._end_guard()
        shutil.rmtree(self.directory / "offsets", ignore_errors=True)

    def _end_guard(self) -> None:
        """Before its input ends: it must not signal a process id that may be another's by now."""
        assert self._guard is not None
        assert self._guard.stdin is not None
        self._guard.kill()
        self._guard.stdin.close()
        self._guard.wait()

    def events(self, counts: Mapping[str, int]) -> dict[str, list[dict[str, Any]]]:
        """The values of each topic's records, from the first on, as soon as there are `counts` of them.

        Debezium promises each event at least once: one that it tells again, after a fault of its own, is left out.
        DebeziumFailed with the log's last lines when it ends or does not get so far.
        """
        consumer = Consumer(
            {"bootstrap.servers": self._broker.bootstrap, "group.id": "emc-cdc-tests", "enable.auto.commit": False}
        )
        found: dict[str, list[dict[str, Any]]] = {topic: [] for topic in counts}
        told: set[tuple[str, bytes | None, int, str]] = set()
        deadline = time.monotonic() + PATIENCE
        try:
            self._wait_for_topics(consumer, counts, deadline)
            consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING) for topic in counts])
            while any(len(found[topic]) < count for topic, count in counts.items()):
                self._check(deadline)
                message = consumer.poll(0.2)
                if message is None or message.error() is not None or message.value() is None:
                    continue
                topic, value = message.topic(), message.value()
                assert topic is not None
                assert value is not None
                event = json.loads(value)
                payload = event.get("payload", event)
                identity = (topic, message.key(), payload["source"]["lsn"], payload["op"])
                if identity not in told:
                    told.add(identity)
                    found[topic].append(event)
        finally:
            consumer.close()
        return found

    def _wait_for_topics(self, consumer: Consumer, topics: Mapping[str, int], deadline: float) -> None:
        assert self._process is not None
        while not set(topics) <= set(consumer.list_topics(timeout=10).topics):
            self._check(deadline)
            try:
                # Waiting for the process is the pause between attempts.
                self._process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue

    def _check(self, deadline: float) -> None:
        assert self._process is not None
        ended = self._process.poll()
        if ended is not None:
            raise DebeziumFailed(f"Debezium ended with {ended}\n{self.last_lines()}")
        if _KILLED in self.last_lines():
            raise DebeziumFailed(f"Debezium gave up\n{self.last_lines()}")
        if time.monotonic() > deadline:
            raise DebeziumFailed(f"Debezium did not get so far within {PATIENCE:.0f} s\n{self.last_lines()}")

    def last_lines(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join((self.directory / "output.log").read_text(errors="replace").splitlines()[-lines:])


def _properties(file: Path, values: Mapping[str, str]) -> Path:
    file.write_text("".join(f"{name}={value}\n" for name, value in values.items()), encoding="utf-8")
    os.chmod(file, 0o600)
    return file
