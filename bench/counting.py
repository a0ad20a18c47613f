"""Reading back what a reader wrote, every record of it: nothing lost, nothing twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import closing

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from bench.sampling import BenchFailed
from bench.workload import Seen
from connector.change.decoding import ChangeDecoder
from connector.change.record import Op
from connector.log.opening import open_reader
from connector.settings import Settings

_POLL_SECONDS = 30.0

Found = tuple[str, str, Hashable]
"""Table, operation, and the change's position in the source, which no two changes share."""


def debezium_changes(brokers: str, topics: Sequence[str], partitions: int) -> Seen:
    """What Debezium wrote."""

    def read(_: bytes, value: bytes) -> Found:
        record = json.loads(value)
        source = record["source"]
        return f"{source['schema']}.{source['table']}", record["op"], source["lsn"]

    return _count(_records(brokers, topics, partitions), read)


def our_changes(settings: Settings, brokers: str, topic: str, partitions: int) -> Seen:
    """What we wrote, without markers."""
    with closing(open_reader(settings)) as schemas:
        decoder = ChangeDecoder(schemas.schema)

        def read(key: bytes, value: bytes) -> Found | None:
            change = decoder.decode(key, value)
            return None if change.op is Op.MESSAGE else (change.table, change.op.value, change.position)

        return _count(_records(brokers, [topic], partitions), read)


def _count(records: Iterator[tuple[bytes, bytes]], read: Callable[[bytes, bytes], Found | None]) -> Seen:
    seen: Seen = Counter()
    positions: set[Hashable] = set()
    for found in (read(key, value) for key, value in records):
        if found is not None:
            table, op, position = found
            seen[table, op] += 1
            positions.add(position)
    if len(positions) != seen.total():
        raise BenchFailed(f"{seen.total() - len(positions)} records are there twice")
    return seen


def _records(brokers: str, topics: Sequence[str], partitions: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of every committed record, up to the ends as they are now."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "bench",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    try:
        left = {(topic, number) for topic in topics for number in range(partitions)}
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for topic, number in left])
        while left:
            message = consumer.poll(_POLL_SECONDS)
            if message is None:
                raise BenchFailed(f"the topics could not be read to their ends: {sorted(left)}")
            error = message.error()
            if error is None:
                yield message.key() or b"", message.value() or b""
            elif error.code() == KafkaError._PARTITION_EOF:
                left.discard((str(message.topic()), message.partition() or 0))
            else:
                raise KafkaException(error)
    finally:
        consumer.close()
