"""What only the log in Kafka has: transactions, topics, brokers that are away, and clients that are not ours."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic
from logs_under_test import PARTITIONS, Log, by_partition, entries, kafka_settings, poll_until_error
from other_client import KafkaConsumer
from other_client import TopicPartition as Place
from plugins.kafka import KafkaBroker

from connector.change.partitioner import partition_of
from connector.errors import LogError, LogUnavailable, retryable
from connector.log.contract import Entry
from connector.log.kafka import KafkaReader, KafkaWriter
from connector.log.kafka_access import CAPTURE
from connector.log.kafka_cluster import Cluster, Patience
from connector.log.kafka_topics import judge
from connector.settings import KafkaSettings

HASTY = Patience(connect=2, append=2)


def hasty(log: Log) -> tuple[KafkaWriter, KafkaReader]:
    """An open writer and a reader of all partitions, with little patience."""
    assert log.settings.log.kafka is not None
    writer = KafkaWriter(log.settings.name, PARTITIONS, log.settings.log.kafka, HASTY)
    log.opened.append(writer)
    writer.open()
    reader = KafkaReader(log.settings.name, log.settings.log.kafka, HASTY)
    log.opened.append(reader)
    reader.assign(dict.fromkeys(range(PARTITIONS), 0))
    return writer, reader


@pytest.mark.parametrize("unfinished", [1, 700])
def test_tails_pass_a_transaction_that_was_cut_off(kafka_log: Log, unfinished: int) -> None:
    """A crash in the middle of a transaction leaves records nobody may see; tails are the ones before it."""
    writer = kafka_log.writer()
    writer.open()
    writer.append(entries("0:a", "1:b"))
    writer.close()
    assert kafka_log.settings.log.kafka is not None
    crashed = Producer(
        {
            "bootstrap.servers": kafka_log.settings.log.kafka.brokers,
            "transactional.id": f"{kafka_log.settings.name}.capture",
        }
    )
    crashed.init_transactions(20)
    crashed.begin_transaction()
    for number in range(unfinished):
        crashed.produce(f"{kafka_log.settings.name}.changes", b"never", b"n-%d" % number, number % 2)
    assert crashed.flush(20) == 0
    writer = kafka_log.writer()
    assert writer.open() == {0: b"value a", 1: b"value b"}
    writer.append(entries("1:c"))
    assert by_partition(kafka_log.contents()) == {
        0: [(b"key a", b"value a")],
        1: [(b"key b", b"value b"), (b"key c", b"value c")],
    }


def test_another_client_finds_the_same_records(kafka_log: Log) -> None:
    """kafka-python, which shares no code with us, reads the same keys, values, partitions and offsets."""
    keys = [b"%d" % number for number in range(60)]
    writer = kafka_log.writer()
    writer.open()
    writer.append([Entry(partition_of(key, PARTITIONS), key, b"of " + key) for key in keys])
    ours = kafka_log.contents()
    assert kafka_log.settings.log.kafka is not None
    topic = f"{kafka_log.settings.name}.changes"
    consumer = KafkaConsumer(
        bootstrap_servers=kafka_log.settings.log.kafka.brokers,
        isolation_level="read_committed",
        consumer_timeout_ms=20_000,
    )
    try:
        consumer.assign([Place(topic, partition) for partition in range(PARTITIONS)])
        consumer.seek_to_beginning()
        theirs = [next(consumer) for _ in keys]
    finally:
        consumer.close()
    assert sorted((r.partition, r.offset, r.key, r.value) for r in theirs) == sorted(record[:4] for record in ours)
    assert {record.key for record in ours} == set(keys)


def test_the_documented_consumer_works(kafka_log: Log) -> None:
    """The consumer that docs/log.md shows reads the log as it stands there."""
    writer = kafka_log.writer()
    writer.open()
    schema = {"type": "record", "name": "Envelope", "fields": [{"name": "op", "type": "string"}]}
    header = b"\0" + writer.register(json.dumps(schema)).to_bytes(4, "big")
    writer.append([Entry(2, b'["motcua.ho_so","17"]', header + b"\x02c")])
    kafka_log.settle()
    page = (Path(__file__).parents[2] / "docs" / "log.md").read_text(encoding="utf-8")
    program = page.split("```python\n")[1].split("```")[0]
    assert kafka_log.settings.log.kafka is not None
    for placeholder, value in (
        ("kafka:9092", kafka_log.settings.log.kafka.brokers),
        ("mot-cua", kafka_log.settings.name),
    ):
        assert f'"{placeholder}"' in program
        program = program.replace(placeholder, value)
    program = program.replace("consumer_timeout_ms=5000", "consumer_timeout_ms=3000")
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "2 0 ['motcua.ho_so', '17'] c\n"


def test_topics_are_made_as_documented(kafka_log: Log) -> None:
    """The topics that open makes are compacted, the changes after 14 days, with the settings' replicas in sync."""
    kafka_log.writer().open()
    name = kafka_log.settings.name
    resources = [ConfigResource(ConfigResource.Type.TOPIC, f"{name}.{suffix}") for suffix in ("changes", "schemas")]
    futures = kafka_log.admin.describe_configs(resources)
    changes, schemas = ({k: e.value for k, e in futures[r].result().items()} for r in resources)
    for config in (changes, schemas):
        assert config["cleanup.policy"] == "compact"
        assert config["min.insync.replicas"] == "1"
        assert config["unclean.leader.election.enable"] == "false"
    assert changes["min.compaction.lag.ms"] == str(14 * 86_400_000)
    found = kafka_log.admin.list_topics(timeout=20).topics
    assert len(found[f"{name}.changes"].partitions) == PARTITIONS
    assert len(found[f"{name}.schemas"].partitions) == 1


def test_a_partition_without_a_leader_yet_is_waited_for(kafka_log: Log) -> None:
    """librdkafka says it in a way of its own when the end of a partition is asked for, right after a broker's crash."""
    assert kafka_log.settings.log.kafka is not None
    no_leader = KafkaError(KafkaError._NOENT, "Failed to query partition leaders: No leaders found")
    cluster = Cluster(kafka_log.settings.log.kafka, HASTY, kafka_log.settings.name, CAPTURE)
    assert retryable(cluster.explain("ask", "topic", no_leader))


def test_a_topic_that_forgets_is_refused(kafka_log: Log) -> None:
    """A topic somebody made with retention would drop rows that are still true; the error has the command."""
    topic = f"{kafka_log.settings.name}.changes"
    made = kafka_log.admin.create_topics([NewTopic(topic, PARTITIONS, 1, config={"cleanup.policy": "delete"})])
    made[topic].result(20)
    with pytest.raises(LogError, match=r"cleanup\.policy is delete") as caught:
        kafka_log.writer().open()
    assert "kafka-configs.sh" in caught.value.mend


@pytest.mark.parametrize(
    ("asked", "cause"),
    [
        ({"replication_factor": 3, "min_insync_replicas": 2}, "has 1 brokers, replication_factor asks for 3"),
        ({"replication_factor": 1, "min_insync_replicas": 2}, "larger than replication_factor"),
    ],
)
def test_more_replicas_than_brokers_are_refused(kafka: KafkaBroker, asked: dict[str, int], cause: str) -> None:
    """Replicas the cluster cannot give are an error that names both settings."""
    log = Log(kafka_settings(kafka.bootstrap, **asked))
    with pytest.raises(LogError, match=cause) as caught:
        log.writer().open()
    assert "log.kafka.replication_factor" in caught.value.mend
    assert "log.kafka.min_insync_replicas" in caught.value.mend


@pytest.mark.parametrize(
    ("replicas", "in_sync", "unclean", "sound"),
    [(3, 2, False, True), (5, 3, False, True), (3, 1, False, False), (2, 2, False, False), (3, 2, True, False)],
)
def test_what_is_sound(replicas: int, in_sync: int, unclean: bool, sound: bool) -> None:
    """Three replicas, two in sync, no unclean election: less is not sound, and the words give the figures."""
    durability = judge(replicas, in_sync, unclean)
    assert durability.sound is sound
    assert f"replication factor {replicas}, min.insync.replicas {in_sync}" in durability.words


def deleted(kafka_log: Log) -> bool:
    """Delete the first records; False while the broker does not know yet that it may."""
    (future,) = kafka_log.admin.delete_records([TopicPartition(f"{kafka_log.settings.name}.changes", 0, 5)]).values()
    try:
        future.result(20)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.POLICY_VIOLATION:
            raise
        return False
    return True


def test_the_beginning_that_is_gone_is_told(kafka_log: Log) -> None:
    """When somebody deleted the first records, reading from the beginning is an error, never a jump."""
    writer = kafka_log.writer()
    writer.open()
    writer.append(entries(*(f"0:{number}" for number in range(10))))
    kafka_log.settle()
    configure(kafka_log, "cleanup.policy", "compact,delete")
    deadline = time.monotonic() + 30
    while not deleted(kafka_log):
        assert time.monotonic() < deadline, "the partition's leader has heard of its new configuration"
    reader = kafka_log.reader()
    reader.assign({0: 0})
    error = poll_until_error(reader)
    assert not retryable(error)
    assert "no longer holds" in error.cause


def test_what_may_have_been_compacted_is_known_by_its_age(kafka_log: Log) -> None:
    """With a lag of a millisecond everything may have been; the place to go on from is then the end."""
    writer = kafka_log.writer()
    writer.open()
    writer.append(entries("0:a", "0:b"))
    kafka_log.settle()
    configure(kafka_log, "min.compaction.lag.ms", "1")
    reader = kafka_log.reader()
    deadline = time.monotonic() + 30
    while reader.complete_from() != reader.ends():
        assert time.monotonic() < deadline, "the partition's leader has heard of its new configuration"


def configure(log: Log, name: str, value: str) -> None:
    """Change a setting of the topic, as its administrator would."""
    topic = ConfigResource(
        ConfigResource.Type.TOPIC,
        f"{log.settings.name}.changes",
        incremental_configs=[ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)],
    )
    log.admin.incremental_alter_configs([topic])[topic].result(20)


def test_a_record_too_large_for_the_topic_is_told(kafka_log: Log) -> None:
    """A record larger than any batch may be is an error that says so."""
    writer = kafka_log.writer()
    writer.open()
    with pytest.raises(LogError, match="too large") as caught:
        writer.append([Entry(0, b"k", bytes(17 * 1024 * 1024))])
    assert not retryable(caught.value)
    assert kafka_log.writer().open() == {}


@pytest.mark.parametrize("bound", [{"queue.buffering.max.messages": 50}, {"queue.buffering.max.kbytes": 2}])
def test_an_append_larger_than_the_clients_queue_passes(kafka: KafkaBroker, bound: dict[str, int]) -> None:
    """An append of more records, or more bytes, than librdkafka queues waits for room and is complete."""
    log = Log(kafka_settings(kafka.bootstrap, settings=bound))
    writer = log.writer()
    writer.open()
    writer.append(entries(*(f"{number % PARTITIONS}:{number}" for number in range(2000))))
    found = by_partition(log.contents())
    for partition in range(PARTITIONS):
        assert [int(key[4:]) for key, _ in found[partition]] == list(range(partition, 2000, PARTITIONS))
    for part in reversed(log.opened):
        part.close()


def test_no_broker_at_all_is_told_in_time(capfd: pytest.CaptureFixture[str]) -> None:
    """With nobody at the address both sides give up within their patience, name it, and print nothing."""
    settings = KafkaSettings(brokers="127.0.0.1:9")
    hasty = Patience(connect=1, append=1)
    for attempt in (lambda: KafkaWriter("log", 1, settings, hasty).open(), lambda: KafkaReader("log", settings, hasty)):
        with pytest.raises(LogUnavailable, match="refused") as caught:
            attempt()
        assert "127.0.0.1:9" in caught.value.mend
    assert capfd.readouterr().err == ""


def test_a_broker_that_stands_still_is_told_in_time(kafka: KafkaBroker, kafka_log: Log) -> None:
    """A broker that takes connections and answers nothing makes append and poll fail in bounded time."""
    writer, reader = hasty(kafka_log)
    writer.append(entries("0:a"))
    assert len(reader.poll(20, 10)) == 1
    kafka.pause()
    try:
        with pytest.raises(LogUnavailable):
            writer.append(entries("0:b"))
        assert isinstance(poll_until_error(reader, 40), LogUnavailable)
        with pytest.raises(LogUnavailable):
            reader.ends()
    finally:
        kafka.resume()
    again, tails = kafka_log.open_when_it_can()
    assert tails in ({0: b"value a"}, {0: b"value b"})
    again.append(entries("0:c"))
    assert by_partition(kafka_log.contents())[0][-1] == (b"key c", b"value c")


def test_a_killed_broker_is_told_and_comes_back(
    kafka: KafkaBroker, kafka_log: Log, capfd: pytest.CaptureFixture[str]
) -> None:
    """Kill -9 of the broker: append and poll say LogUnavailable; what was acknowledged is there afterwards."""
    writer, reader = hasty(kafka_log)
    writer.append(entries("0:a", "1:b"))
    kafka.kill()
    try:
        with pytest.raises(LogUnavailable):
            writer.append(entries("0:c"))
        while True:
            try:
                reader.poll(0.2, 10)
            except LogUnavailable:
                break
        assert capfd.readouterr().err == ""
    finally:
        kafka.start()
    _, tails = kafka_log.open_when_it_can()
    assert tails in ({0: b"value a", 1: b"value b"}, {0: b"value c", 1: b"value b"})
    found = by_partition(kafka_log.contents())
    assert found[0][0] == (b"key a", b"value a")
    assert found[1] == [(b"key b", b"value b")]
