"""A topic beside the changes: fenced per partition, whole appends, offsets that move with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer, TopicPartition
from logs_under_test import PARTITIONS, Log

from connector.errors import LogError, LogFenced, LogUnavailable
from connector.log.kafka_schemas import FIRST_MADE_ID, FIRST_OWN_ID
from connector.log.kafka_topic_writer import KafkaTopicWriter, delivery_group
from connector.log.pair import Pair

Open = Callable[[int], KafkaTopicWriter]
SCHEMA = json.dumps({"type": "record", "name": "Beside", "fields": []})


@pytest.fixture
def writer_of(kafka_log: Log) -> Iterator[Open]:
    """Makes writers of `<name>.deliveries`, not opened; they are closed after the test."""
    made: list[KafkaTopicWriter] = []

    def make(partition: int) -> KafkaTopicWriter:
        name, kafka = kafka_log.settings.name, kafka_log.settings.log.kafka
        assert kafka is not None
        made.append(KafkaTopicWriter(name, f"{name}.deliveries", partition, PARTITIONS, kafka))
        return made[-1]

    yield make
    for writer in made:
        writer.close()


def contents(log: Log, partition: int) -> list[tuple[bytes, bytes]]:
    """What a consumer that reads committed sees, up to the end."""
    assert log.settings.log.kafka is not None
    consumer = Consumer(
        {
            "bootstrap.servers": log.settings.log.kafka.brokers,
            "group.id": "test",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    consumer.assign([TopicPartition(f"{log.settings.name}.deliveries", partition, 0)])
    found = []
    while True:
        message = consumer.poll(30)
        assert message is not None
        if message.error() is not None:
            consumer.close()
            return found
        found.append((message.key() or b"", message.value() or b""))


def test_a_later_writer_fences_the_earlier_one_of_its_partition_only(kafka_log: Log, writer_of: Open) -> None:
    """The tail is the last record of the partition; the fenced one adds nothing; another partition's goes on."""
    first, other = writer_of(1), writer_of(2)
    assert first.open() is None
    assert other.open() is None
    first.append([Pair(b"a", b"1"), Pair(b"b", b"2")])
    second = writer_of(1)
    assert second.open() == b"2"
    with pytest.raises(LogFenced):
        first.append([Pair(b"a", b"3")])
    with pytest.raises(LogFenced):
        first.append([Pair(b"a", b"4")])
    other.append([Pair(b"c", b"5")])
    second.append([Pair(b"a", b"6")])
    assert contents(kafka_log, 1) == [(b"a", b"1"), (b"b", b"2"), (b"a", b"6")]
    assert contents(kafka_log, 2) == [(b"c", b"5")]


def test_the_group_s_offset_moves_with_the_records(kafka_log: Log, writer_of: Open) -> None:
    """Any tool that shows the lag of a group sees how far deliver is; a fenced writer does not move it back."""
    kafka_log.writer().open()
    writer = writer_of(1)
    writer.open()
    writer.append([Pair(b"a", b"1")], committed=7)
    second = writer_of(1)
    second.open()
    second.append([], committed=9)
    with pytest.raises(LogFenced):
        writer.append([Pair(b"a", b"2")], committed=8)
    assert kafka_log.settings.log.kafka is not None
    consumer = Consumer(
        {
            "bootstrap.servers": kafka_log.settings.log.kafka.brokers,
            "group.id": delivery_group(kafka_log.settings.name),
        }
    )
    [place] = consumer.committed([TopicPartition(f"{kafka_log.settings.name}.changes", 1)], 30)
    consumer.close()
    assert place.offset == 9


def test_writers_of_several_partitions_give_a_schema_one_id(kafka_log: Log, writer_of: Open) -> None:
    """Without asking each other; readers of the log know it, and capture's own ids do not run into it."""
    capture = kafka_log.writer()
    capture.open()
    writers = [writer_of(partition) for partition in range(PARTITIONS)]
    for writer in writers:
        writer.open()
    ids = {writer.register(SCHEMA) for writer in writers}
    assert len(ids) == 1
    assert min(ids) >= FIRST_MADE_ID
    kafka_log.settle()
    assert kafka_log.reader().schema(ids.pop()) == SCHEMA
    capture.close()
    later = kafka_log.writer()
    later.open()
    assert later.register('"string"') == FIRST_OWN_ID


def test_what_is_not_open_says_so(writer_of: Open) -> None:
    """A defect of the caller is told, not sent."""
    with pytest.raises(LogUnavailable, match="not open"):
        writer_of(0).append([Pair(b"a", b"1")])


def test_a_topic_that_does_not_fit_is_refused(kafka_log: Log, writer_of: Open) -> None:
    """Outcomes of a partition stand in the partition of the same number."""
    name, kafka = kafka_log.settings.name, kafka_log.settings.log.kafka
    assert kafka is not None
    writer_of(0).open()
    with pytest.raises(LogError, match=f"has {PARTITIONS} partitions"):
        KafkaTopicWriter(name, f"{name}.deliveries", 0, PARTITIONS + 1, kafka).open()
