"""The embedded log keeps of old records the last of each key, and of young ones all."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector.log.contract import Entry, Record
from connector.log.embedded import EmbeddedReader, EmbeddedWriter
from connector.log.embedded_deliveries import EmbeddedDeliveries, deliveries_file
from connector.log.pair import Pair

DAY = 86_400.0
LAG = 14 * DAY
PARTITIONS = 2


@dataclass
class Clock:
    """Seconds since the epoch, moved by the test."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Compacted:
    """A log whose clock the test moves."""

    path: Path
    clock: Clock = field(default_factory=Clock)
    writer: EmbeddedWriter | None = None

    def open(self) -> EmbeddedWriter:
        """A new writer, after the one before it."""
        self.close()
        writer = self.writer = EmbeddedWriter(self.path, PARTITIONS, LAG, self.clock)
        writer.open()
        return writer

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()

    def records(self, start: int = 0) -> list[Record]:
        """What is there, from an offset on in each partition that is so long."""
        reader = EmbeddedReader(self.path)
        try:
            reader.assign({partition: min(start, end) for partition, end in reader.ends().items()})
            found: list[Record] = []
            while batch := reader.poll(0, 1000):
                found += batch
            return found
        finally:
            reader.close()

    def complete_from(self) -> dict[int, int]:
        reader = EmbeddedReader(self.path)
        try:
            return dict(reader.complete_from())
        finally:
            reader.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Compacted]:
    log = Compacted(tmp_path / "log.sqlite")
    log.open()
    yield log
    log.close()


def put(log: Compacted, *told: str) -> None:
    """Append `key=value` to partition 0, each in an append of its own."""
    assert log.writer is not None
    for each in told:
        key, _, value = each.partition("=")
        log.writer.append([Entry(0, key.encode(), value.encode())])


def shown(log: Compacted) -> list[str]:
    return [f"{record.key.decode()}={record.value.decode()}" for record in log.records() if record.partition == 0]


def test_what_is_old_and_superseded_goes(log: Compacted) -> None:
    """Of the old records of a key the last stays; young ones all do, also those that supersede an old one."""
    put(log, "a=1", "b=1", "a=2", "c=1")
    log.clock.now += 3700
    put(log, "a=3")
    log.clock.now += LAG
    put(log, "a=4", "a=5")
    assert shown(log) == ["b=1", "c=1", "a=3", "a=4", "a=5"]


def test_nothing_young_goes(log: Compacted) -> None:
    """One second less than the lag, and everything is there."""
    put(log, "a=1", "a=2")
    log.clock.now += LAG - 1
    put(log, "a=3")
    assert shown(log) == ["a=1", "a=2", "a=3"]
    assert log.complete_from() == {0: 0, 1: 0}


def test_nothing_goes_that_deliver_has_not_folded(log: Compacted) -> None:
    """However old it is; once it is folded, it goes. Of a record of deliveries that cannot be read nothing is known."""
    put(log, "a=1", "b=1", "a=2", "c=1")
    store = EmbeddedDeliveries(log.path, 0)
    store.open()
    store.append([Pair(b"head", b"1")], 2)
    log.clock.now += LAG + 7300
    put(log, "a=3")
    assert shown(log) == ["a=1", "b=1", "a=2", "c=1", "a=3"]
    store.append([Pair(b"head", b"2")], 4)
    store.close()
    damaged = deliveries_file(log.path)
    kept = damaged.read_bytes()
    for file in damaged.parent.glob(f"{damaged.name}-*"):
        file.unlink()
    damaged.write_bytes(b"no database" * 1000)
    log.clock.now += 3700
    put(log, "d=1")
    assert shown(log) == ["a=1", "b=1", "a=2", "c=1", "a=3", "d=1"]
    damaged.write_bytes(kept)
    log.clock.now += 3700
    put(log, "e=1")
    assert shown(log) == ["b=1", "a=2", "c=1", "a=3", "d=1", "e=1"]


def test_offsets_keep_their_numbers(log: Compacted) -> None:
    """What stays stands where it stood, and what comes goes on after the last."""
    put(log, "a=1", "b=1", "a=2")
    log.clock.now += LAG + 3700
    put(log, "b=2")
    log.open()
    put(log, "b=3")
    assert [(record.offset, record.key) for record in log.records()] == [(1, b"b"), (2, b"a"), (3, b"b"), (4, b"b")]
    assert log.complete_from() == {0: 3, 1: 0}


def test_a_clock_that_was_set_back_stops_nothing(log: Compacted) -> None:
    """What was appended while the clock was a year ahead is as young as what comes after, and grows old like it."""
    log.clock.now += 365 * DAY
    put(log, "a=1", "a=2")
    log.clock.now -= 365 * DAY
    put(log, "a=3")
    log.clock.now += LAG - 3700
    put(log, "a=4")
    assert shown(log) == ["a=1", "a=2", "a=3", "a=4"]
    log.open()
    log.clock.now += 2 * LAG
    put(log, "a=5")
    assert shown(log) == ["a=4", "a=5"]


def test_much_is_cleaned_a_little_at_a_time(log: Compacted) -> None:
    """No append looks at more than some hundred old records, and a few appends get through ten thousand."""
    assert log.writer is not None
    log.writer.append([Entry(0, b"%d" % (number % 50), b"x") for number in range(10_000)])
    log.clock.now += LAG + 3700
    before = log.complete_from()[0]
    for _ in range(200):
        put(log, "young=1")
        after = log.complete_from()[0]
        assert after - before <= 110
        before = after
    assert before == 10_000
    assert len(log.records()) == 50 + 200


def test_the_file_stops_growing(log: Compacted) -> None:
    """The same rows change for a year: the file is as large as a month of it, not as the year."""
    assert log.writer is not None
    sizes = []
    for _ in range(365):
        log.clock.now += DAY
        log.writer.append([Entry(0, b"row %d" % number, os.urandom(1500)) for number in range(50)])
        with sqlite3.connect(log.path) as looking:
            looking.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        looking.close()
        sizes.append(log.path.stat().st_size)
    assert sizes[-1] <= 1.1 * sizes[60]


def test_an_older_file_is_brought_up(log: Compacted) -> None:
    """A file of format 1 is read as it is, and compacted once a writer has opened it and time has passed."""
    put(log, "a=1", "a=2")
    log.close()
    with sqlite3.connect(log.path) as older:
        for table in ("marks", "cleaned", "kept"):
            older.execute(f"DROP TABLE {table}")
        older.execute("UPDATE meta SET value = 1 WHERE name = 'format'")
    older.close()
    assert shown(log) == ["a=1", "a=2"]
    assert log.complete_from() == {0: 0, 1: 0}
    log.open()
    put(log, "a=3")
    log.clock.now += LAG + 3700
    put(log, "a=4")
    assert shown(log) == ["a=3", "a=4"]


KILLED = """
import sys
from pathlib import Path
from connector.log.contract import Entry
from connector.log.embedded import EmbeddedWriter
clock = iter(range(1_700_000_000, 10**10, 3600))
writer = EmbeddedWriter(Path(sys.argv[1]), 2, 14 * 86_400, lambda: next(clock))
writer.open()
print("open", flush=True)
number = 0
while True:
    number += 1
    writer.append([Entry(number % 2, b"%d" % (number % 7), b"%d" % number)])
    print(number, flush=True)
"""


def test_a_death_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    """Killed while it appends and compacts: what was appended last of each key is there, and all that is young."""
    path = tmp_path / "log.sqlite"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        last = 0
        for line in process.stdout:
            last = 0 if line.startswith("open") else int(line)
            if last == 2000:
                process.send_signal(signal.SIGKILL)
                break
        last = max([last, *(int(line) for line in process.stdout)])
    found = [int(record.value) for record in Compacted(path).records()]
    newest = {number % 7 + 7 * (number % 2): number for number in range(1, last + 1)}
    assert set(newest.values()) <= set(found)
    assert set(range(last - 14 * 24 + 2, last + 1)) <= set(found)
    assert len(found) < last / 2


steps = st.lists(
    st.one_of(
        st.lists(st.tuples(st.integers(0, 1), st.sampled_from("abcd")), min_size=1, max_size=6),
        st.sampled_from([60.0, 3700.0, 5 * DAY, LAG, -DAY]),
        st.just("reopen"),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_every_reading_ends_at_the_same_rows(tmp_path_factory: pytest.TempPathFactory, steps: list[object]) -> None:
    """From any offset the last value of each key is the whole log's, and from `complete_from` on nothing is missing."""
    log = Compacted(tmp_path_factory.mktemp("log") / "log.sqlite")
    writer = log.open()
    whole: list[Record] = []
    ends = [0, 0]
    for step in steps:
        match step:
            case float(seconds):
                log.clock.now += seconds
            case "reopen":
                writer = log.open()
            case list(batch):
                entries = []
                for partition, key in batch:
                    entries.append(Entry(partition, key.encode(), b"%d" % len(whole)))
                    whole.append(Record(partition, ends[partition], key.encode(), b"%d" % len(whole)))
                    ends[partition] += 1
                writer.append(entries)
    complete = log.complete_from()
    for start in range(max(ends) + 1):
        told = [record for record in whole if record.offset >= start]
        found = log.records(start)
        assert {(r.partition, r.key): r for r in found} == {(r.partition, r.key): r for r in told}
        assert {r for r in found if r.offset >= complete[r.partition]} == {
            r for r in told if r.offset >= complete[r.partition]
        }
    log.close()
