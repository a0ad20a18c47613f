"""Where deliver's state is recorded, so that it outlives the machine: `<name>.deliveries`, or a file beside the log.

Contract, held by both backends and by tests/log/test_deliveries.py: a partition is a sequence of records of which the
last one of every key counts; an empty value takes the key away. `open` fences every earlier store of the same
partition before it returns the last record; after that an older store's `append` raises LogFenced and adds nothing. An
`append` is there as a whole or not at all, in order, together with `committed`: the offset in the changes up to which
this state has folded. It is durable on return. What failed is spent: a new store's `open` tells what is there.
Used from one thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from connector.log.embedded_deliveries import EmbeddedDeliveries
from connector.log.kafka_topic_writer import KafkaTopicWriter
from connector.log.pair import Pair
from connector.settings import EmbeddedSettings, Settings

SUFFIX: Final = ".deliveries"


class Deliveries(Protocol):
    """One partition. shared: other machines may take it over."""

    shared: bool

    def open(self) -> bytes | None:
        """Fence who had it before; the last record's value, None where there is none. LogUnavailable or LogError."""

    def read(self) -> Iterator[Pair]:
        """Every record that is there, oldest first; keys may come again. After `open`."""

    def append(self, pairs: Iterable[Pair], committed: int | None = None) -> None:
        """Write all of it and wait until it is durable. LogFenced, LogUnavailable or LogError."""

    def close(self) -> None:
        """Release everything. Never raises."""


def deliveries_of(settings: Settings, partition: int) -> Deliveries:
    """The store of a partition, not opened. Not for a log of Debezium's, which has no offset to commit."""
    assert settings.log.debezium is None
    if settings.log.kafka is not None:
        topic = deliveries_topic(settings.name)
        return KafkaTopicWriter(settings.name, topic, partition, settings.log.partitions, settings.log.kafka)
    embedded = settings.log.embedded or EmbeddedSettings()
    return EmbeddedDeliveries(embedded.path, partition)


def deliveries_topic(name: str) -> str:
    """The topic's full name."""
    return f"{name}{SUFFIX}"
