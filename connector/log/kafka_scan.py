"""Short readings of what a topic holds now: the last record of every partition, or everything from an offset on.

Offsets on Kafka have holes: every transaction ends in a marker, an aborted one leaves records that nobody may see,
and compaction takes records away. So the last record is looked for backwards, in windows that grow fourfold, until
one is found or the beginning is reached; all partitions at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from confluent_kafka import KafkaError, Message, TopicPartition

from connector.log.kafka_cluster import Cluster, Deadline

_FIRST_WINDOW: Final = 64
_FETCH_WAIT_MS: Final = 5
"""A reading ends when the broker says that there is no more; it says so after this wait, in milliseconds."""
_BATCH: Final = 10_000


def last_values(cluster: Cluster, group: str, topic: str, bounds: Mapping[int, tuple[int, int]]) -> dict[int, bytes]:
    """The value of the last committed record of every partition that has one.

    `bounds`: first and last stable offset of every partition.
    """
    found: dict[int, bytes] = {}
    window = _FIRST_WINDOW
    wanted = {partition: first for partition, (first, end) in bounds.items() if first < end}
    while wanted:
        starts = {partition: max(first, bounds[partition][1] - window) for partition, first in wanted.items()}
        for message in read_to_end(cluster, group, topic, starts):
            found[message.partition() or 0] = message.value() or b""
        wanted = {
            partition: first
            for partition, first in wanted.items()
            if partition not in found and starts[partition] > first
        }
        window *= 4
    return found


def read_to_end(cluster: Cluster, group: str, topic: str, starts: Mapping[int, int]) -> Iterator[Message]:
    """Every committed record from `starts` on, up to the end as it is now.

    LogUnavailable when nothing comes for `Patience.connect`.
    """
    consumer = cluster.consumer(group, _FETCH_WAIT_MS)
    try:
        consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in starts.items()])
        unfinished = set(starts)
        deadline = Deadline(cluster.patience.connect)
        while unfinished:
            message = consumer.poll(min(0.5, deadline.left()))
            if message is None:
                if deadline.left() == 0:
                    raise cluster.unavailable("read the log", topic, "no answer")
                continue
            deadline = Deadline(cluster.patience.connect)
            for each in (message, *consumer.consume(_BATCH, 0)):
                error = each.error()
                if error is None:
                    yield each
                elif error.code() == KafkaError._PARTITION_EOF:
                    unfinished.discard(each.partition())
                elif not error.retriable() and error.code() != KafkaError._ALL_BROKERS_DOWN:
                    raise cluster.explain("read the log", f"{topic}, partition {each.partition()}", error)
    finally:
        consumer.close()
