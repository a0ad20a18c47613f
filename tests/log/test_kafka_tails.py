"""A writer in Kafka begins only where it can see its own last records, and where something would be taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
from logs_under_test import PARTITIONS, Log, by_partition, entries

from connector.errors import LogError, LogUnavailable, retryable
from connector.log.contract import Entry
from connector.log.kafka import KafkaWriter
from connector.log.kafka_access import CAPTURE
from connector.log.kafka_cluster import Cluster, Patience
from connector.log.kafka_topics import Topics
from connector.settings import KafkaSettings

HASTY = Patience(connect=2, append=10)


def foreign(log: Log) -> Producer:
    """Somebody else's producer that has a transaction open on partition 0."""
    assert log.settings.log.kafka is not None
    brokers = log.settings.log.kafka.brokers
    producer = Producer({"bootstrap.servers": brokers, "transactional.id": f"{log.settings.name}.other"})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(f"{log.settings.name}.changes", b"theirs", b"k", 0)
    assert producer.flush(20) == 0
    return producer


class Endless(Sequence[Entry]):
    """Entries that come until the producer takes no more; after the first of them `action` is called."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action

    def __len__(self) -> int:
        return 1

    def __getitem__(self, at: int) -> Entry:  # type: ignore[override]
        return Entry(0, b"k", b"%d" % at)

    def __iter__(self) -> Iterator[Entry]:
        yield self[0]
        self._action()
        for at in count(1):
            yield self[at]
            time.sleep(0.01)


def test_fenced_while_it_appends(kafka_log: Log) -> None:
    """The client raises a fatal error wherever it is asked next; the fencing is told, as an error of the log."""
    first = kafka_log.writer()
    first.open()
    first.append(entries("0:a"))
    second = kafka_log.writer()
    with pytest.raises(LogError, match="fenced") as caught:
        first.append(Endless(second.open))
    assert not retryable(caught.value)
    assert by_partition(kafka_log.contents()) == {0: [(b"key a", b"value a")]}


def test_too_few_replicas_in_sync_are_told(kafka_log: Log) -> None:
    """Kafka's client only tries again and again; whoever opens the log hears how many there are, and of how many."""
    kafka_log.writer().open()
    topic = f"{kafka_log.settings.name}.changes"
    entry = ConfigEntry("min.insync.replicas", "2", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    kafka_log.admin.incremental_alter_configs([resource])[resource].result(20)
    assert kafka_log.settings.log.kafka is not None
    topics = Topics(Cluster(kafka_log.settings.log.kafka, HASTY, kafka_log.settings.name, CAPTURE))
    deadline = time.monotonic() + 30
    while topics.config(topic)["min.insync.replicas"] != "2":
        assert time.monotonic() < deadline, "the broker knows its new configuration"
    with pytest.raises(LogUnavailable, match=r"in sync: 1, and min\.insync\.replicas is 2") as caught:
        topics.require_in_sync(topic)
    assert "kafka-topics.sh" in caught.value.mend


@pytest.mark.parametrize(
    "said", [KafkaError._NOENT, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART]
)
def test_partitions_without_a_leader_are_waited_for(kafka_log: Log, monkeypatch: pytest.MonkeyPatch, said: int) -> None:
    """What Kafka says of a broker that has just come back, or a topic just made, is no reason to give up at once."""
    kafka_log.writer().open()
    assert kafka_log.settings.log.kafka is not None
    topics = Topics(Cluster(kafka_log.settings.log.kafka, Patience(connect=20), kafka_log.settings.name, CAPTURE))
    real, left = topics._admin.list_offsets, [2]

    def leaderless(*asked: Any, **how: Any) -> dict[TopicPartition, Future[Any]]:
        futures: dict[TopicPartition, Future[Any]] = real(*asked, **how)
        if left[0]:
            left[0] -= 1
            for future in futures.values():
                future.exception(20)
            futures = {place: Future() for place in futures}
            for future in futures.values():
                future.set_exception(KafkaException(KafkaError(said, "no leader")))
        return futures

    monkeypatch.setattr(topics, "_admin", SimpleNamespace(list_offsets=leaderless, poll=topics._admin.poll))
    assert topics.ends(f"{kafka_log.settings.name}.changes", PARTITIONS) == dict.fromkeys(range(PARTITIONS), 0)
    assert left == [0]


@pytest.mark.parametrize("name", ["_DESTROY_BROKER", "_NOENT", "_UNKNOWN_BROKER", "UNKNOWN_TOPIC_ID", "_TRANSPORT"])
def test_a_broker_that_comes_and_goes_is_waited_for(name: str) -> None:
    """What librdkafka says of brokers that were killed and came back, as the kills have shown it, passes by itself."""
    cluster = Cluster(KafkaSettings(brokers="127.0.0.1:9"), HASTY, "log", CAPTURE)
    assert retryable(cluster.explain("look for the topic", "t.changes", KafkaError(getattr(KafkaError, name))))


def test_tails_are_never_those_before_somebody_else_s_transaction(kafka_log: Log) -> None:
    """Behind an open transaction of another producer our own last record is not seen: opening waits for its end."""
    first = kafka_log.writer()
    first.open()
    first.append(entries("0:a", "1:a"))
    other = foreign(kafka_log)
    first.append(entries("0:b"))
    first.close()
    assert kafka_log.settings.log.kafka is not None
    hasty = KafkaWriter(kafka_log.settings.name, PARTITIONS, kafka_log.settings.log.kafka, HASTY)
    kafka_log.opened.append(hasty)
    with pytest.raises(LogUnavailable, match="another producer has a transaction open") as caught:
        hasty.open()
    assert "partition 0" in caught.value.subject
    assert "kafka-transactions.sh" in caught.value.mend
    other.abort_transaction(20)
    assert kafka_log.writer().open() == {0: b"value b", 1: b"value a"}
