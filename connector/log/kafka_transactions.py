"""A transactional producer: what it writes in one call is there as a whole or not at all, and nobody else writes.

Contract: `open` fences every earlier producer of the same `transactional.id`, ends its transaction, and only then
returns. `write` returns when everything is committed by all replicas in sync. What fails ends the producer (`failure`
tells why, again and again); a new one begins with what is there. Used from one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer

from connector.errors import LogError, LogUnavailable
from connector.log.contract import Entry
from connector.log.kafka_cluster import Cluster, error_of

_ABORT: Final = 2.0
"""Seconds given to the abort of a failed append; if it fails too, the next writer's `open` aborts it."""

Explain = Callable[[str, KafkaError], LogError]
"""(operation, what Kafka says) → the error to be told."""


class TransactionalProducer:
    """See the module's contract."""

    def __init__(self, cluster: Cluster, transactional_id: str, explain: Explain) -> None:
        """Touches no network; `open` does."""
        self._cluster = cluster
        self._transactional_id = transactional_id
        self._explain = explain
        self._producer: Producer | None = None
        self._failure: LogError | None = None

    def open(self) -> None:
        """Fence earlier producers. LogUnavailable when Kafka is away."""
        producer = self._producer = self._cluster.producer(self._transactional_id)
        try:
            producer.init_transactions(self._cluster.patience.connect)
        except KafkaException as error:
            raise self._spent("fence earlier writers", error) from error

    def write(
        self, operation: str, topic: str, entries: Iterable[Entry], also: Callable[[Producer], None] | None = None
    ) -> None:
        """Write in one transaction. also: what else belongs to it. Raises LogUnavailable or LogError.

        An empty value is a tombstone.
        """
        producer = self._producer
        if producer is None:
            raise self._failure or LogUnavailable(operation, topic, "this writer is not open", "open a writer")
        # A failed delivery makes the transaction fail its commit, so no report is asked for record by record.
        try:
            producer.begin_transaction()
            produce = producer.produce
            for partition, key, value in entries:
                try:
                    produce(topic, value or None, key, partition)
                except BufferError:
                    self._make_room(producer, topic, Entry(partition, key, value))
            if also is not None:
                also(producer)
            producer.commit_transaction(self._cluster.patience.append)
        except KafkaException as error:
            raise self._spent(operation, error) from error

    def _make_room(self, producer: Producer, topic: str, entry: Entry) -> None:
        """Produce once the client's queue has room; bounded, because every queued message times out."""
        while True:
            producer.poll(0.01)
            with suppress(BufferError):
                producer.produce(topic, entry.value or None, entry.key, entry.partition)
                return

    def _spent(self, operation: str, exception: KafkaException) -> LogError:
        """End this producer; the error that tells why."""
        error = error_of(exception)
        producer = self._producer
        if producer is not None:
            try:
                producer.poll(0)
            except KafkaException as fatal:
                # From which no client recovers, as being fenced: it outweighs what the step itself met.
                error = error_of(fatal)
            if error.txn_requires_abort():
                with suppress(KafkaException):
                    producer.abort_transaction(_ABORT)
        self.close()
        self._failure = self._explain(operation, error)
        return self._failure

    def close(self) -> None:
        """Never raises. An open transaction is left to the next producer, or to its timeout."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaException, RuntimeError):
                producer.purge()
                producer.flush(0)
