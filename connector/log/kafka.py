"""The change log in Apache Kafka (brokers 2.5 and later).

Contract: connector.log.contract. An append is one Kafka transaction with acks=all; its fencing is the
`transactional.id` `<name>.capture`: `open` calls `init_transactions` before it reads the tails, which ends an older
writer's transaction and makes its broker refuse whatever it still sends. A failed append ends the writer.
Schema ids come from `<name>.schemas`, or from a registry; then the registry's ids stand in that topic, too, before the
first record that uses them, so that records written under either are read alike, also while the registry is away.
Readers read committed, from offsets they are given, and stop with LogError where the log does not hold them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from connector.errors import LogError, LogUnavailable
from connector.log.contract import Concern, Durability, Entry, Record
from connector.log.kafka_access import CAPTURE, DELIVER
from connector.log.kafka_cluster import Cluster, Deadline, Patience
from connector.log.kafka_outage import Outage
from connector.log.kafka_scan import last_values
from connector.log.kafka_schemas import own_id, read_schemas
from connector.log.kafka_topics import Topics, changes_topic, schemas_topic
from connector.log.kafka_transactions import TransactionalProducer
from connector.log.registry import registry_of
from connector.settings import KafkaSettings

_FETCH_WAIT_MS: Final = 500
"""How long the broker holds an unanswered fetch; it answers at once when a transaction commits."""


class KafkaWriter:
    """The one writer of a log in Kafka."""

    def __init__(self, name: str, partitions: int, settings: KafkaSettings, patience: Patience | None = None) -> None:
        """LogError for settings that cannot be used. Touches no network; `open` does."""
        self.partitions = partitions
        self._name = name
        self._topic = changes_topic(name)
        self._cluster = Cluster(settings, patience or Patience(), name, CAPTURE)
        self._producer = TransactionalProducer(self._cluster, f"{name}.capture", self._told)
        self._schemas: dict[int, str] = {}
        self._registry = registry_of(settings, self._topic, self._cluster.patience.connect)
        self.concerns: tuple[Concern, ...] = ()

    @cached_property
    def durability(self) -> Durability:
        """See the contract."""
        return Topics(self._cluster).durability(self._name)

    def open(self) -> Mapping[int, bytes]:
        """See the contract. LogUnavailable when Kafka is away; LogError when topics or settings do not fit."""
        topics = Topics(self._cluster)
        self.concerns = topics.ensure(self._name, self.partitions)
        self._producer.open()
        try:
            group = f"{self._name}.capture"
            self._schemas = read_schemas(topics, self._cluster, self._name, group)
            topics.require_in_sync(self._topic)
            topics.require_settled(self._topic, self.partitions)
            return last_values(self._cluster, group, self._topic, topics.bounds(self._topic, self.partitions))
        except LogError:
            self.close()
            raise

    def register(self, schema: str) -> int:
        """See the contract. The caller is the one writer, so the next free number is ours."""
        number = own_id(schema, self._schemas) if self._registry is None else self._registry.register(schema)
        known = self._schemas.get(number)
        if known is None:
            self._producer.write(
                "register a schema", schemas_topic(self._name), [Entry(0, b"%d" % number, schema.encode())]
            )
            self._schemas[number] = schema
        elif known != schema:
            raise LogError(
                "register a schema",
                schemas_topic(self._name),
                f"the registry gives id {number}, which another schema of this log has: records would be misread",
                "choose another name: (new topics, and a new snapshot fills them), or take log.kafka.registry away",
            )
        return number

    def append(self, entries: Sequence[Entry]) -> None:
        """See the contract."""
        if entries:
            self._producer.write("append to the log", self._topic, entries)

    def close(self) -> None:
        """See the contract. An open transaction is left to the next writer, or to its timeout."""
        self._producer.close()
        if self._registry is not None:
            self._registry.close()

    def _told(self, operation: str, error: KafkaError) -> LogError:
        return self._cluster.explain(operation, self._topic, error)


class KafkaReader:
    """Reads a log in Kafka."""

    def __init__(self, name: str, settings: KafkaSettings, patience: Patience | None = None) -> None:
        """Connect. LogUnavailable when Kafka is away or capture has not made the topic yet."""
        self._name = name
        self._topic = changes_topic(name)
        self._cluster = Cluster(settings, patience or Patience(), name, DELIVER)
        self._topics = Topics(self._cluster)
        topic = self._topics.find([self._topic]).get(self._topic)
        if topic is None:
            raise LogUnavailable(
                "read the log",
                self._topic,
                "there is no such topic yet",
                "start `emc-cdc capture`, which makes it; check name: and log.kafka.brokers if it runs already",
            )
        self.partitions = topic.partitions
        self.identity = self._topics.identity(self._topic)
        self._consumer: Consumer = self._cluster.consumer(f"{name}.reader", _FETCH_WAIT_MS)
        self._starts: dict[int, int] = {}
        self._reached: dict[int, int] = {}
        self._failure: LogError | None = None
        self._outage = Outage(self._cluster, self._consumer, self._topic, "read the log", self._topic)
        self._schemas: dict[int, str] = {}
        self._registry = registry_of(settings, self._topic, self._cluster.patience.connect)

    @cached_property
    def durability(self) -> Durability:
        """See the contract."""
        return self._topics.durability(self._name)

    @property
    def concerns(self) -> tuple[Concern, ...]:
        """See the contract."""
        return self._topics.concerns(self._name)

    def assign(self, offsets: Mapping[int, int]) -> None:
        """See the contract."""
        unknown = [partition for partition in offsets if not 0 <= partition < self.partitions]
        if unknown:
            raise LogError(
                "read the log",
                self._topic,
                f"it has no partition {unknown[0]}, only 0 to {self.partitions - 1}",
                f"set log.partitions to {self.partitions}",
            )
        self._starts = dict(offsets)
        self._reached = {}
        self._failure = None
        self._consumer.assign([TopicPartition(self._topic, p, offset) for p, offset in offsets.items()])

    def poll(self, timeout: float, limit: int) -> list[Record]:
        """See the contract. LogUnavailable when no broker answered for `Patience.connect`."""
        deadline = Deadline(timeout)
        while True:
            if self._failure is not None:
                raise self._failure
            message = self._consumer.poll(deadline.left())
            if message is not None:
                records = self._take(message)
                if limit > 1:
                    # `consume` alone would wait for the last of `limit` records.
                    for each in self._consumer.consume(limit - 1, 0):
                        records += self._take(each)
                if records:
                    self._outage.over()
                    return records
            if deadline.left() == 0 and self._failure is None:
                self._outage.look()
                return []

    def _take(self, message: Message) -> list[Record]:
        error = message.error()
        if error is None:
            return [Record(*_place(message), message.key() or b"", message.value() or b"")]
        if error.code() == KafkaError._PARTITION_EOF:
            partition, offset = _place(message)
            self._reached[partition] = offset
        elif not error.retriable() and error.code() != KafkaError._ALL_BROKERS_DOWN:
            # Kept for the next poll: records of this one are already out of librdkafka's hands.
            subject = f"{self._topic}, partition {message.partition()}"
            self._failure = self._cluster.explain("read the log", subject, error)
        return []

    def ends(self) -> Mapping[int, int]:
        """See the contract: the last stable offsets. One request to each broker.

        LogError when partitions were added meanwhile: their records would never be read.
        """
        self._topics.same_partitions(self._name, self.partitions)
        return self._topics.ends(self._topic, self.partitions)

    def beginnings(self) -> Mapping[int, int]:
        """See the contract. One request to each broker."""
        return self._topics.beginnings(self._topic, self.partitions)

    def complete_from(self) -> Mapping[int, int]:
        """See the contract: what is younger than the topic's `min.compaction.lag.ms`, by the records' own times."""
        return self._topics.complete_from(self._topic, self.partitions)

    def tails(self) -> Mapping[int, bytes]:
        """See the contract."""
        bounds = self._topics.bounds(self._topic, self.partitions)
        return last_values(self._cluster, f"{self._name}.reader", self._topic, bounds)

    def positions(self) -> Mapping[int, int]:
        """See the contract."""
        places = self._consumer.position([TopicPartition(self._topic, p) for p in self._starts])
        return {
            place.partition: max(place.offset, self._starts[place.partition], self._reached.get(place.partition, 0))
            for place in places
        }

    def schema(self, schema_id: int) -> str:
        """See the contract. An id not seen before costs one reading of the schemas topic, which is short."""
        if schema_id not in self._schemas:
            self._schemas = read_schemas(self._topics, self._cluster, self._name, f"{self._name}.reader")
        known = self._schemas.get(schema_id)
        if known is None and self._registry is not None:
            known = self._registry.schema(schema_id)
        if known is None:
            raise LogError(
                "read the log",
                schemas_topic(self._name),
                f"there is no schema {schema_id}, but a record that names it",
                "the schemas topic was emptied or belongs to another log: restore it, or choose another name: and"
                " take a new snapshot",
            )
        return known

    def close(self) -> None:
        """See the contract."""
        if self._registry is not None:
            self._registry.close()
        with suppress(KafkaException, RuntimeError):
            self._consumer.close()


def _place(message: Message) -> tuple[int, int]:
    """Partition and offset, which every record and every end of a partition has."""
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    return partition, offset
