"""A log on three brokers: what is sound, and what happens when one or two of them are away."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
from confluent_kafka.admin import NewTopic
from logs_under_test import PARTITIONS, Log, by_partition, entries, kafka_settings
from plugins.kafka_cluster import KafkaCluster
from plugins.kafka_tools import KafkaTools

from connector.errors import LogUnavailable
from connector.finding import Finding, Severity
from connector.log.contract import LogWriter
from connector.log.kafka import KafkaWriter
from connector.log.kafka_cluster import Patience
from connector.preflight.log import check_log

SECONDS = 120.0
HASTY = Patience(connect=10, append=5)


@pytest.fixture
def log(kafka_cluster: KafkaCluster) -> Iterator[Log]:
    """An empty log on the cluster, which asks for three replicas with two in sync."""
    log = Log(kafka_settings(kafka_cluster.bootstrap, replication_factor=3, min_insync_replicas=2))
    yield log
    for part in reversed(log.opened):
        part.close()


def append(log: Log, writer: LogWriter, text: str) -> LogWriter:
    """Append as capture does: with a new writer after a failure, whose tails tell whether it is there already."""
    deadline = monotonic() + SECONDS
    partition, word = int(text[0]), text[2:]
    while True:
        try:
            writer.append(entries(text))
        except LogUnavailable:
            assert monotonic() < deadline
            writer.close()
            writer, tails = log.open_when_it_can(SECONDS)
            if tails.get(partition) != b"value " + word.encode():
                continue
        return writer


def settled(log: Log, passing: tuple[Severity, ...] = (Severity.NOTE, Severity.ERROR)) -> list[Finding]:
    """What check finds once every broker knows the others and the topics: each hears of new ones in its own time."""
    deadline = monotonic() + SECONDS
    while True:
        found = check_log(log.settings)
        if not any(finding.severity in passing for finding in found):
            return found
        assert monotonic() < deadline, found


def told(log: Log, what: str) -> Any:
    """`concerns` or `durability` of a new reader, asked again while a broker does not know the topic yet."""
    deadline = monotonic() + SECONDS
    while True:
        try:
            return getattr(log.reader(), what)
        except LogUnavailable:
            assert monotonic() < deadline


def of(findings: list[Finding], check: str) -> list[Finding]:
    return [finding for finding in findings if finding.check == check]


def test_three_replicas_with_two_in_sync_are_sound(log: Log) -> None:
    """Nothing is to be mended before the topics are there, nor after; log and check say it in the same words."""
    before = settled(log, passing=(Severity.ERROR,))
    assert {finding.severity for finding in before} == {Severity.OK, Severity.NOTE}
    writer = log.writer()
    writer.open()
    assert writer.durability.sound
    assert "replication factor 3, min.insync.replicas 2: no change is lost" in writer.durability.words
    assert writer.concerns == ()
    after = settled(log)
    assert {finding.severity for finding in after} == {Severity.OK}
    assert [finding.check for finding in after] == ["LOG-01", "LOG-02", "LOG-03", "LOG-05", "LOG-06", "LOG-07"]
    assert of(after, "LOG-03")[0].what == writer.durability.words


def test_all_goes_on_without_one_broker(kafka_cluster: KafkaCluster, log: Log) -> None:
    """The leader of a partition is killed while capture appends: nothing is missing, doubled or out of order."""
    writer, _ = log.open_when_it_can()
    for number in range(3):
        writer = append(log, writer, f"0:before-{number}")
    kafka_cluster.leader(f"{log.settings.name}.changes", 0).kill()
    for number in range(3):
        writer = append(log, writer, f"0:without-{number}")
    found = settled(log, passing=(Severity.ERROR,))
    (reached,) = of(found, "LOG-01")
    assert (reached.severity, reached.mend) == (Severity.WARNING, ("start the brokers that are away",))
    assert "2 brokers reached" in reached.what
    (late,) = [one for one in of(found, "LOG-03") if one.subject.endswith(".changes")]
    assert "replicas that are away or behind" in late.what
    assert "--under-replicated-partitions" in late.mend[0]
    kafka_cluster.heal()
    writer = append(log, writer, "0:after")
    keys = [key.decode().removeprefix("key ") for key, _ in by_partition(log.contents())[0]]
    assert keys == [*(f"before-{n}" for n in range(3)), *(f"without-{n}" for n in range(3)), "after"]


def test_without_two_brokers_appends_end_and_nothing_is_lost(kafka_cluster: KafkaCluster, log: Log) -> None:
    """Too few replicas take an append: it is unavailable in bounded time; what was acknowledged is there afterwards."""
    assert log.settings.log.kafka is not None
    writer = KafkaWriter(log.settings.name, PARTITIONS, log.settings.log.kafka, HASTY)
    log.opened.append(writer)
    writer.open()
    for number in range(3):
        writer.append(entries(f"{number}:acknowledged"))
    for broker in kafka_cluster.brokers[:2]:
        broker.kill()
    with pytest.raises(LogUnavailable):
        writer.append(entries("0:unknown"))
    with pytest.raises(LogUnavailable):
        KafkaWriter(log.settings.name, PARTITIONS, log.settings.log.kafka, HASTY).open()
    kafka_cluster.heal()
    again, tails = log.open_when_it_can(SECONDS)
    assert tails[0] in (b"value acknowledged", b"value unknown")
    assert (tails[1], tails[2]) == (b"value acknowledged", b"value acknowledged")
    again.append(entries("0:after"))
    found = by_partition(log.contents())
    assert {found[number][0] for number in range(PARTITIONS)} == {(b"key acknowledged", b"value acknowledged")}
    assert found[0][-1] == (b"key after", b"value after")


def test_a_topic_with_one_replica_is_told_and_the_command_makes_it_sound(
    kafka_cluster: KafkaCluster, log: Log, kafka_tools: KafkaTools
) -> None:
    """Made by somebody with one replica: capture goes on and says so, and Kafka's command adds the others."""
    topic = f"{log.settings.name}.changes"
    config = {"cleanup.policy": "compact", "min.compaction.lag.ms": "1209600000", "max.message.bytes": "16777216"}
    log.admin.create_topics([NewTopic(topic, PARTITIONS, 1, config=config)])[topic].result(20)
    kafka_cluster.wait_until_in_sync()
    writer, _ = log.open_when_it_can()
    writer.append(entries("0:a"))
    assert [one.subject for one in writer.concerns] == [topic]
    assert "its replication factor is 1, log.kafka.replication_factor asks for 3" in writer.concerns[0].cause
    assert not writer.durability.sound
    (finding,) = of(settled(log), "LOG-03")
    assert (finding.severity, finding.who, finding.mend) == (Severity.WARNING, "kafka", writer.concerns[0].mend)
    kafka_tools.run(finding.mend)
    deadline = monotonic() + SECONDS
    while concerns := told(log, "concerns"):
        if "min.insync.replicas is 1" in concerns[0].cause:
            kafka_tools.run(concerns[0].mend)
        assert monotonic() < deadline, concerns
    kafka_cluster.wait_until_in_sync()
    # Another broker may answer, which has not heard of the new setting yet.
    while not (durability := told(log, "durability")).sound:
        assert monotonic() < deadline, durability
    assert by_partition(log.contents()) == {0: [(b"key a", b"value a")]}
