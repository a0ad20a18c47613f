"""Writes one partition of a topic that stands beside the changes, such as `<name>.deliveries`.

Contract: one writer per partition at a time. `open` makes the topic where it is missing (as many partitions as the
changes, compacted), fences every earlier writer of the same partition, and only then reads its tail. An `append` is one
transaction: all of it becomes visible, in order, or none of it; it returns when that is durable. A fenced writer's
append raises LogFenced and adds nothing. A writer that failed is spent: a new one's tail tells what is there.
Used from one thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from connector.errors import LogError, LogFenced
from connector.log.contract import Entry
from connector.log.kafka_access import BESIDE
from connector.log.kafka_cluster import FENCED, Cluster, Patience
from connector.log.kafka_scan import last_values, read_to_end
from connector.log.kafka_schemas import id_of_text, read_schemas
from connector.log.kafka_topics import Topics, changes_topic, schemas_topic
from connector.log.kafka_transactions import TransactionalProducer
from connector.log.pair import Pair
from connector.log.registry import registry_of
from connector.settings import KafkaSettings


class KafkaTopicWriter:
    """See the module's contract. Also the store of `connector.log.deliveries` in Kafka."""

    shared = True

    def __init__(
        self,
        name: str,
        topic: str,
        partition: int,
        partitions: int,
        settings: KafkaSettings,
        patience: Patience | None = None,
    ) -> None:
        """topic: its full name; partitions: how many it has, as the changes have. Touches no network; `open` does.

        LogError for settings that cannot be used.
        """
        self.topic = topic
        self.partition = partition
        self._name = name
        self._partitions = partitions
        self._cluster = Cluster(settings, patience or Patience(), name, BESIDE)
        self._producer = TransactionalProducer(self._cluster, f"{topic}.{partition}", self._told)
        self._schemas: dict[int, str] = {}
        self._registry = registry_of(settings, topic, self._cluster.patience.connect)
        self._beginning = 0

    def open(self) -> bytes | None:
        """Fence earlier writers; the value of the last committed record of the partition, None when there is none.

        LogUnavailable when Kafka is away; LogError when the topic does not fit.
        """
        topics = Topics(self._cluster)
        topics.ensure_beside(self._name, self.topic, self._partitions)
        self._producer.open()
        try:
            group = f"{self._name}.reader"
            self._schemas = read_schemas(topics, self._cluster, self._name, group)
            bounds = {self.partition: topics.bounds(self.topic, self._partitions)[self.partition]}
            self._beginning = bounds[self.partition][0]
            tails = last_values(self._cluster, group, self.topic, bounds)
        except LogError:
            self.close()
            raise
        return tails.get(self.partition)

    def register(self, schema: str) -> int:
        """The id of an Avro schema (JSON text), for the wire format; the same text always has the same id. Durable."""
        number = id_of_text(schema) if self._registry is None else self._registry.register(schema)
        known = self._schemas.get(number)
        if known is None:
            entry = Entry(0, b"%d" % number, schema.encode())
            self._producer.write("register a schema", schemas_topic(self._name), [entry])
            self._schemas[number] = schema
        elif known != schema:
            raise LogError(
                "register a schema",
                schemas_topic(self._name),
                f"id {number} is taken by another schema of this log: records would be misread",
                "choose another name: (new topics, and a new snapshot fills them)",
            )
        return number

    def schema(self, schema_id: int) -> str:
        """The Avro schema that a record here was written with, as far as `open` has seen. LogError without it."""
        known = self._schemas.get(schema_id)
        if known is None:
            raise LogError(
                f"read {self.topic}",
                schemas_topic(self._name),
                f"there is no schema {schema_id}, but a record that names it",
                f"restore the schemas topic, or delete {self.topic} so that it is made anew",
            )
        return known

    def read(self) -> Iterator[Pair]:
        """Every committed record of the partition, oldest first; after `open`."""
        starts = {self.partition: self._beginning}
        for message in read_to_end(self._cluster, f"{self._name}.reader", self.topic, starts):
            yield Pair(message.key() or b"", message.value() or b"")

    def append(self, pairs: Iterable[Pair], committed: int | None = None) -> None:
        """Write in one transaction and wait until it is durable.

        committed: with it, move the offset of the group `<name>.deliver` in this partition of the changes there.
        LogFenced when a later writer has taken over; LogUnavailable (may be tried with a new writer) or LogError.
        """
        also = None if committed is None else lambda producer: self._commit(producer, committed)
        entries = (Entry(self.partition, key, value) for key, value in pairs)
        self._producer.write(f"append to {self.topic}", self.topic, entries, also)

    def _commit(self, producer: Producer, offset: int) -> None:
        place = TopicPartition(changes_topic(self._name), self.partition, offset)
        producer.send_offsets_to_transaction([place], self._group, self._cluster.patience.append)

    @cached_property
    def _group(self) -> object:
        """For those that commit only: publishing does not."""
        return _named(delivery_group(self._name))

    def close(self) -> None:
        """Release everything. Never raises. An open transaction is left to the next writer, or to its timeout."""
        self._producer.close()
        if self._registry is not None:
            self._registry.close()

    def _told(self, operation: str, error: KafkaError) -> LogError:
        if error.code() in FENCED:
            return LogFenced(
                operation,
                f"{self.topic}, partition {self.partition}",
                "fenced: a later process has taken over this partition, or this one stood still for too long",
                "nothing to do: the later one goes on where the records end",
            )
        return self._cluster.explain(operation, self.topic, error)


def _named(group: str) -> object:
    """A group as a transaction names it, from a client that connects to nobody.

    It asks its client's thread and keeps Python's lock meanwhile; a client whose brokers go away just then wants that
    lock to log it, and both wait for ever (confluent-kafka, as of 2.16).
    """
    client = Consumer({"group.id": group, "log_level": 0})
    try:
        return client.consumer_group_metadata()
    finally:
        client.close()


def delivery_group(name: str) -> str:
    """The consumer group whose committed offsets say how far deliver has folded the changes."""
    return f"{name}.deliver"
