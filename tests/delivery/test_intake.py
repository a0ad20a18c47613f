"""Reading the log: in order, going on after it was away, and never from another log."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions
from delivery_story import DOSSIER, SERVICE, LoggedStory, create, dossier, service, settings_in, update
from plugins.kafka import KafkaBroker

from connector.change.decoding import ChangeDecoder
from connector.change.position import Position
from connector.delivery.intake import Failed, Intake, Place, Records, Trouble
from connector.errors import LogUnavailable
from connector.log.contract import Durability, Entry, LogReader, Record
from connector.log.embedded import EmbeddedWriter
from connector.log.opening import open_reader
from connector.settings import Settings

KEY = b'["motcua.ho_so","later"]'
_numbers = count(1)
START = {0: Place(0, None), 1: Place(0, None)}


@pytest.fixture
def connector(tmp_path: Path) -> Settings:
    return settings_in(tmp_path, "http://127.0.0.1:9/T")


@pytest.fixture
def log(connector: Settings) -> Iterator[LoggedStory]:
    log = LoggedStory(connector)
    yield log
    log.close()


class Reading:
    """An intake and what it handed over."""

    def __init__(
        self, connector: Settings, places: Mapping[int, Place], flaky: bool = False, halts: bool = True
    ) -> None:
        reader = open_reader(connector)
        self._reader = Flaky(reader) if flaky else reader
        self.taken: queue.SimpleQueue[Records | Trouble | Failed] = queue.SimpleQueue()
        self._intake = Intake(self._reader, self.taken.put, halts)
        for number, place in places.items():
            self._intake.read_on(number, place)
        self._intake.start()

    def next(self) -> Records | Trouble | Failed:
        item = self.taken.get(timeout=30)
        if isinstance(item, Records):
            self._intake.taken()
        return item

    def offsets(self, count: int) -> dict[int, list[int]]:
        """The offsets of the next `count` records, by partition."""
        found: dict[int, list[int]] = {0: [], 1: []}
        while sum(map(len, found.values())) < count:
            item = self.next()
            if isinstance(item, Records):
                for partition, changes in item.changes.items():
                    found[partition] += [offset for offset, _ in changes]
            else:
                assert isinstance(item, Trouble), item
        return found

    @property
    def places(self) -> dict[int, Place]:
        """Where a fold would be that has taken everything so far."""
        return dict(self._intake._places)

    def close(self) -> None:
        self._intake.stop()
        self._reader.close()


class Flaky:
    """A reader over a real log that is away every second time it is asked for records."""

    durability = Durability(True, "")

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self.partitions = reader.partitions
        self._asked = 0
        self.assign, self.ends, self.positions = reader.assign, reader.ends, reader.positions
        self.schema, self.close = reader.schema, reader.close
        self.complete_from, self.beginnings = reader.complete_from, reader.beginnings
        self.identity = reader.identity

    def poll(self, timeout: float, limit: int) -> list[Record]:
        self._asked += 1
        if self._asked % 2 == 0:
            raise LogUnavailable("read the log", "a broker", "gone", "bring it back")
        return self._reader.poll(timeout, 4)


def fill(log: LoggedStory) -> dict[int, list[int]]:
    """Twelve records in two partitions; their offsets."""
    log.snapshot((SERVICE, service(1)))
    for number in range(1, 7):
        log.transaction(create(DOSSIER, dossier(number)))
    placed = [log.partition_of(number) for number in range(1, 7)]
    return {partition: list(range(3 + placed.count(partition))) for partition in (0, 1)}


def place_at(connector: Settings, partition: int, offset: int) -> Place:
    """The place of a fold that has read an embedded log up to this offset."""
    reader = open_reader(connector)
    reader.assign({partition: offset - 1})
    record = reader.poll(1.0, 1)[0]
    position = ChangeDecoder(reader.schema).decode(record.key, record.value).position
    reader.close()
    return Place(offset, position)


def test_everything_is_read_in_order(connector: Settings, log: LoggedStory) -> None:
    """Each partition from its beginning, decoded."""
    expected = fill(log)
    reading = Reading(connector, START)
    assert reading.offsets(12) == expected
    reading.close()


def test_a_log_that_was_away_is_read_on(connector: Settings, log: LoggedStory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left out or read twice, and each time is told."""
    monkeypatch.setattr("connector.delivery.intake._PAUSE", 0.001)
    expected = fill(log)
    reading = Reading(connector, START, flaky=True)
    assert reading.offsets(12) == expected
    reading.close()


def test_reading_goes_on_after_the_last_record(connector: Settings, log: LoggedStory) -> None:
    """The one before it is looked at again, not handed over."""
    expected = fill(log)
    reading = Reading(connector, {0: place_at(connector, 0, 4), 1: place_at(connector, 1, 3)})
    found = reading.offsets(12 - 7)
    assert found == {0: expected[0][4:], 1: expected[1][3:]}
    reading.close()


def test_a_log_that_was_made_anew_is_refused(connector: Settings, log: LoggedStory) -> None:
    """It is longer than ours was, so its offsets fit; what stands before ours does not."""
    fill(log)
    reading = Reading(connector, {0: place_at(connector, 0, 3), 1: Place(2, Position(1, 0x999, 0))})
    item = reading.next()
    while isinstance(item, Records):
        item = reading.next()
    assert isinstance(item, Failed)
    assert "another log" in item.error.cause
    reading.close()


def test_steps_that_were_compacted_unread_are_told(connector: Settings, log: LoggedStory) -> None:
    """Deliver was away for longer than every step is kept: it stops and says so; a new state and an operator go on."""
    expected = fill(log)
    place = place_at(connector, 0, 4)
    log.close()
    embedded = connector.log.embedded
    assert embedded is not None
    now = [time.time() + 3700]
    later = EmbeddedWriter(embedded.path, 2, embedded.compaction_lag, lambda: now[0])
    tails = later.open()
    for _ in range(2):
        later.append([Entry(1, KEY, tails[1])])
        now[0] += embedded.compaction_lag + 1
    later.close()
    behind = Reading(connector, {0: place, 1: Place(0, None)})
    item = behind.next()
    assert isinstance(item, Failed)
    assert "older than the log's compaction lag" in item.error.cause
    assert "delivery.after_compaction: continue" in item.error.mend
    behind.close()
    anew = Reading(connector, {1: Place(0, None)})
    assert anew.offsets(len(expected[1]) + 2)[1][: len(expected[1])] == expected[1]
    anew.close()
    told = Reading(connector, {0: place}, halts=False)
    assert told.offsets(len(expected[0]) - 4)[0] == expected[0][4:]
    told.close()


def in_kafka(directory: Path, kafka: KafkaBroker, name: str) -> Settings:
    """Settings of a connector whose log is in Kafka."""
    settings = settings_in(directory, "http://127.0.0.1:9/T").model_dump()
    brokers = {"brokers": kafka.bootstrap, "replication_factor": 1, "min_insync_replicas": 1}
    return Settings.model_validate(settings | {"name": name, "log": {"kafka": brokers, "partitions": 2}})


def test_an_old_log_of_which_all_was_read_is_gone_on_with(tmp_path: Path, kafka: KafkaBroker) -> None:
    """Nobody wrote for longer than the lag: only a commit's marker stands behind the last record."""
    settings = settings_in(tmp_path, "http://127.0.0.1:9/T").model_dump()
    brokers = {"brokers": kafka.bootstrap, "replication_factor": 1, "min_insync_replicas": 1}
    settings |= {"name": "intake-old", "log": {"kafka": brokers, "partitions": 2}}
    connector = Settings.model_validate(settings)
    log = LoggedStory(connector)
    fill(log)
    reading = Reading(connector, START)
    reading.offsets(12)
    reading.close()
    keep_for(kafka, "intake-old.changes", 1)
    reader = open_reader(connector)
    deadline = time.monotonic() + 30
    while reader.complete_from() != reader.ends():
        assert time.monotonic() < deadline, "the partition's leader has heard of its new configuration"
    reader.close()
    again = Reading(connector, reading.places)
    keep_for(kafka, "intake-old.changes", 14 * 86_400_000)
    log.transaction(update(SERVICE, service(1)))
    assert sum(map(len, again.offsets(2).values())) == 2
    again.close()
    log.close()


def keep_for(kafka: KafkaBroker, topic: str, milliseconds: int) -> None:
    """Change the topic's compaction lag, as its administrator would."""
    entry = ConfigEntry("min.compaction.lag.ms", str(milliseconds), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    client = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    client.incremental_alter_configs([resource])[resource].result(20)


def test_a_log_in_kafka_is_read_on(tmp_path: Path, kafka: KafkaBroker) -> None:
    """Its offsets have gaps where transactions were committed; nothing is left out, read twice or mistaken."""
    connector = in_kafka(tmp_path, kafka, "intake-test")
    log = LoggedStory(connector)
    fill(log)
    reading = Reading(connector, START)
    first = reading.offsets(12)
    reading.close()
    log.transaction(update(DOSSIER, dossier(1, "dang_xu_ly")), update(SERVICE, service(1)))
    again = Reading(connector, reading.places)
    second = again.offsets(3)
    again.close()
    for partition in (0, 1):
        assert second[partition][0] > first[partition][-1] + 1
    assert sorted(map(len, second.values())) == [1, 2]
    foreign = {number: Place(place.offset, Position(1, 1, 1)) for number, place in reading.places.items()}
    refused = Reading(connector, foreign)
    assert isinstance(refused.next(), Failed)
    refused.close()
    log.close()


@pytest.mark.parametrize("same", [True, False])
def test_compaction_took_the_record_before(tmp_path: Path, kafka: KafkaBroker, same: bool) -> None:
    """Where there is no record any more by which the log is known again, it has to be the one of that identity."""
    connector = in_kafka(tmp_path, kafka, f"intake-{os.getpid()}-{next(_numbers)}")
    log = LoggedStory(connector)
    fill(log)
    reading = Reading(connector, START)
    offsets = reading.offsets(12)
    reading.close()
    log.transaction(update(SERVICE, service(1)))
    # Before each of the two new records stands a commit's marker: reading from there finds no record, either.
    places = {number: Place(found[-1] + 2, Position(1, 1, 1), same) for number, found in offsets.items()}
    again = Reading(connector, places)
    if same:
        assert again.offsets(2) == {number: [place.offset] for number, place in places.items()}
    else:
        refused = again.next()
        assert isinstance(refused, Failed)
        assert "another log" in refused.error.cause
    again.close()
    log.close()


def test_a_topic_made_anew_has_another_identity(tmp_path: Path, kafka: KafkaBroker) -> None:
    """The same for every reader of a topic; another after it was deleted and made again under its name."""
    connector = in_kafka(tmp_path, kafka, f"intake-{os.getpid()}-{next(_numbers)}")
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    topic = f"{connector.name}.changes"
    identities = []
    for _ in range(2):
        LoggedStory(connector).close()
        readers = [open_reader(connector) for _ in range(2)]
        identities.append({reader.identity for reader in readers})
        for reader in readers:
            reader.close()
        admin.delete_topics([topic])[topic].result(20)
        while topic in admin.list_topics(timeout=20).topics:
            pass
    (first,), (second,) = identities
    assert first
    assert second
    assert first != second


def test_partitions_added_while_a_log_is_read_end_the_reading(tmp_path: Path, kafka: KafkaBroker) -> None:
    """What is in them would never be read: the reading ends for good, and the way out is told."""
    connector = in_kafka(tmp_path, kafka, "intake-added")
    log = LoggedStory(connector)
    fill(log)
    reading = Reading(connector, START)
    reading.offsets(12)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    admin.create_partitions([NewPartitions("intake-added.changes", 3)])["intake-added.changes"].result(20)
    ended = reading.next()
    assert isinstance(ended, Failed)
    assert "had 2 partitions and has 3 now" in ended.error.cause
    assert "another name:" in ended.error.mend
    reading.close()
    log.close()
