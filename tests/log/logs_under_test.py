"""A log of either backend with what a test needs to know of it, a writer in a child process, and ways to compare."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from time import monotonic

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from connector.errors import LogError, LogUnavailable
from connector.log.contract import Entry, LogReader, LogWriter, Record
from connector.log.opening import open_reader, open_writer
from connector.settings import Settings

PARTITIONS = 3
_numbers = count(1)


@dataclass
class Log:
    """An empty log of one backend. Everything it opens is closed after the test."""

    settings: Settings
    opened: list[LogWriter | LogReader] = field(default_factory=list)

    @property
    def is_kafka(self) -> bool:
        return self.settings.log.kafka is not None

    def writer(self, partitions: int | None = None) -> LogWriter:
        settings = self.settings
        if partitions is not None:
            settings = settings.model_copy(update={"log": settings.log.model_copy(update={"partitions": partitions})})
        writer = open_writer(settings)
        self.opened.append(writer)
        return writer

    def open_when_it_can(self, seconds: float = 40) -> tuple[LogWriter, Mapping[int, bytes]]:
        """A new writer and its tails, tried again while the log is unavailable, as capture does."""
        deadline = monotonic() + seconds
        while True:
            writer = self.writer()
            try:
                return writer, writer.open()
            except LogUnavailable:
                assert monotonic() < deadline

    def reader(self) -> LogReader:
        reader = open_reader(self.settings)
        self.opened.append(reader)
        return reader

    @cached_property
    def admin(self) -> AdminClient:
        """A client of the test's own."""
        assert self.settings.log.kafka is not None
        return AdminClient({"bootstrap.servers": self.settings.log.kafka.brokers, "log_level": 0})

    def let_a_second_writer_in(self) -> None:
        """Kafka fences; the embedded log's lock has to be lost first."""
        if self.settings.log.embedded is not None:
            Path(f"{self.settings.log.embedded.path}.lock").unlink()

    def settle(self) -> None:
        """Wait until what was appended can be read: Kafka marks a committed transaction after it has answered."""
        if self.settings.log.kafka is None:
            return
        topic = f"{self.settings.name}.changes"
        latest = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in range(PARTITIONS)}
        deadline = monotonic() + 20
        while True:
            stable, written = (
                {place.partition: future.result().offset for place, future in futures.items()}
                for futures in (
                    self.admin.list_offsets(latest, isolation_level=IsolationLevel.READ_COMMITTED),
                    self.admin.list_offsets(latest, isolation_level=IsolationLevel.READ_UNCOMMITTED),
                )
            )
            if stable == written:
                return
            assert monotonic() < deadline, "a transaction stays open"

    def contents(self, offsets: dict[int, int] | None = None) -> list[Record]:
        """Everything committed from `offsets` (the beginning) on, up to the end as it is now."""
        self.settle()
        reader = self.reader()
        reader.assign(offsets if offsets is not None else dict.fromkeys(range(reader.partitions), 0))
        return read_up(reader)

    def child(self) -> Child:
        return Child(self.settings)


class Child:
    """A writer in a process of its own (child_writer.py); it obeys one line at a time."""

    def __init__(self, settings: Settings) -> None:
        raw = settings.model_dump(mode="json") | {"source": {"dsn": ""}}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("child_writer.py")), json.dumps(raw)],
            cwd=Path(__file__).parents[2],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdout.close()
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def read_up(reader: LogReader, seconds: float = 20) -> list[Record]:
    """What `reader` hands out until its positions are the ends of its partitions."""
    records: list[Record] = []
    ends = reader.ends()
    deadline = monotonic() + seconds
    while any(position < ends[partition] for partition, position in reader.positions().items()):
        assert monotonic() < deadline, "the reader does not reach the end"
        records += reader.poll(0.2, 1000)
    return records


def kafka_settings(brokers: str, name: str | None = None, **more: object) -> Settings:
    """Settings of a new log on a single broker."""
    return Settings.model_validate(
        {
            "name": name or f"log-{os.getpid()}-{next(_numbers)}",
            "source": {"dsn": ""},
            "log": {
                "kafka": {"brokers": brokers, "replication_factor": 1, "min_insync_replicas": 1} | more,
                "partitions": PARTITIONS,
            },
        }
    )


def embedded_settings(path: Path) -> Settings:
    """Settings of a log in a file."""
    return Settings.model_validate(
        {
            "name": "log",
            "source": {"dsn": ""},
            "log": {"embedded": {"path": path}, "partitions": PARTITIONS},
        }
    )


def entries(*texts: str) -> list[Entry]:
    """`"1:a"` is a record for partition 1 with key and value made of `a`."""
    made = []
    for text in texts:
        partition, _, word = text.partition(":")
        made.append(Entry(int(partition), b"key " + word.encode(), b"value " + word.encode()))
    return made


def by_partition(records: list[Record]) -> dict[int, list[tuple[bytes, bytes]]]:
    """Keys and values, partition by partition."""
    found: dict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
    for record in records:
        found[record.partition].append((record.key, record.value))
    return dict(found)


def poll_until_error(reader: LogReader, seconds: float = 20) -> LogError:
    """The error that `poll` ends with."""
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        try:
            assert not reader.poll(0.2, 10)
        except LogError as error:
            return error
    raise AssertionError("poll raised nothing")
