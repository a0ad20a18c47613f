"""Topics that are there already: what is refused, what is told, and that the commands told mend it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewPartitions, NewTopic
from logs_under_test import PARTITIONS, Log, entries, kafka_settings
from plugins.kafka import KafkaBroker
from plugins.kafka_tools import KafkaTools

from connector.errors import LogError, retryable
from connector.log.kafka_commands import Commands, more_replicas
from connector.log.kafka_rules import (
    Topic,
    judge_replicas,
    judge_settings,
    judge_transaction_log,
    limits,
    made_with,
)
from connector.log.opening import begun_with
from connector.settings import LARGEST_RECORD, KafkaSettings

SOUND = KafkaSettings(brokers="k1:9092,k2:9092")
THREE = Topic("log.changes", [[1, 2, 3], [2, 3, 1]], [3, 3], ready=True)


def create(log: Log, topic: str, partitions: int, **config: str) -> None:
    made = log.admin.create_topics([NewTopic(topic, partitions, 1, config=config)])
    made[topic].result(20)
    while topic not in log.admin.list_topics(timeout=20).topics:
        pass


def test_faults_are_told_at_once_and_their_commands_mend_them(kafka_log: Log, kafka_tools: KafkaTools) -> None:
    """What stops capture is one error with every command; Kafka's own tools take them as they stand there."""
    name = kafka_log.settings.name
    create(kafka_log, f"{name}.changes", PARTITIONS, **{
        "cleanup.policy": "delete", "min.compaction.lag.ms": "1209600000", "max.message.bytes": "100000",
    })  # fmt: skip
    create(kafka_log, f"{name}.schemas", 1, **{
        "cleanup.policy": "compact,delete", "max.message.bytes": "16777216",
    })  # fmt: skip
    with pytest.raises(LogError, match="2 faults") as caught:
        kafka_log.writer().open()
    assert not retryable(caught.value)
    for told in (
        f"{name}.changes: cleanup.policy is delete",
        f"{name}.schemas: cleanup.policy is compact,delete",
    ):
        assert told in caught.value.cause
    kafka_tools.run(caught.value.mend.splitlines())
    writer = kafka_log.writer()
    writer.open()
    writer.append(entries("0:a"))
    assert [(one.subject, one.cause.split(":")[0]) for one in writer.concerns] == [
        (f"{name}.changes", "max.message.bytes is 100000"),
    ]
    assert kafka_log.reader().concerns == writer.concerns
    kafka_tools.run([line for one in writer.concerns for line in one.mend])
    again = kafka_log.writer()
    again.open()
    assert again.concerns == ()


@pytest.mark.parametrize(
    ("setting", "value", "stops", "mended"),
    [
        ("cleanup.policy", "delete", True, "compact"),
        ("cleanup.policy", "compact,delete", True, "compact"),
        ("min.compaction.lag.ms", "86399999", True, "1209600000"),
        ("min.compaction.lag.ms", "86400000", False, "1209600000"),
        ("min.compaction.lag.ms", "1209599999", False, "1209600000"),
        ("min.insync.replicas", "4", True, "2"),
        ("min.insync.replicas", "1", False, "2"),
        ("max.message.bytes", "16777215", False, "16777216"),
        ("unclean.leader.election.enable", "true", False, "false"),
    ],
)
def test_each_setting_that_a_promise_rests_on(setting: str, value: str, stops: bool, mended: str) -> None:
    """One value that is wrong is one fault, which stops or is told, with the whole command."""
    sound = made_with(THREE.name, SOUND)
    assert judge_settings(THREE, sound, SOUND) == []
    (fault,) = judge_settings(THREE, sound | {setting: value}, SOUND)
    assert fault.what.startswith(f"{setting} is {value}: ")
    assert fault.stops is stops
    assert fault.durability is (setting in ("unclean.leader.election.enable", "min.insync.replicas") and not stops)
    assert fault.mend == (
        "kafka-configs.sh --bootstrap-server k1:9092,k2:9092 --alter --entity-type topics --entity-name log.changes"
        f" --add-config {setting}={mended}",
    )


def test_only_the_changes_wait_before_they_are_compacted() -> None:
    """A schema's record is never written anew, so it may be compacted at once; an old broker's silence is no fault."""
    schemas = replace(THREE, name="log.schemas")
    assert judge_settings(schemas, {"min.compaction.lag.ms": "0"}, SOUND) == []
    assert "min.compaction.lag.ms" not in made_with("log.schemas", SOUND)


@pytest.mark.parametrize(
    ("brokers", "lines"),
    [
        ([1, 2], ["have 3 brokers, and run `emc-cdc check` again; now there are 2"]),
        (
            [1, 2, 3, 4],
            [
                'echo \'{"version":1,"partitions":[{"topic":"log.changes","partition":0,"replicas":[2,1,3]},'
                '{"topic":"log.changes","partition":1,"replicas":[1,2,3]}]}\' > log.changes.json',
                "kafka-reassign-partitions.sh --bootstrap-server k1:9092,k2:9092"
                " --reassignment-json-file log.changes.json --execute",
            ],
        ),
    ],
)
def test_too_few_replicas_are_told_with_the_assignment(brokers: Sequence[int], lines: list[str]) -> None:
    """The command has every partition with the brokers it has and those that join; without brokers none can."""
    (fault,) = judge_replicas(replace(THREE, assignment=[[2], [1]]), brokers, SOUND)
    assert list(fault.mend) == lines
    assert (fault.stops, fault.durability) == (False, True)


def test_joining_brokers_are_spread() -> None:
    """Replicas that join are not all on the first broker, and nobody is there twice."""
    made = more_replicas([[1]] * 6, [1, 2, 3, 4, 5, 6], 3)
    assert all(len(set(replicas)) == 3 and replicas[0] == 1 for replicas in made)
    joined = [broker for replicas in made for broker in replicas[1:]]
    assert max(joined.count(broker) for broker in range(2, 7)) <= 4


def test_the_brokers_own_limits() -> None:
    """Less than our transactions take stops; less than our records take, or fewer copies of the commits, is told."""
    transaction, request = limits(60_000)
    assert transaction.fault(7, "60000") is None
    assert transaction.fault(7, None) is None
    fault = transaction.fault(7, "59999")
    assert fault is not None
    assert fault.stops
    assert fault.mend[0].startswith("transaction.max.timeout.ms=60000  # in server.properties of broker 7")
    fault = request.fault(7, str(LARGEST_RECORD))
    assert fault is not None
    assert not fault.stops
    alone = Topic("__transaction_state", [[1], [1]], [1, 1], ready=True)
    replicas, in_sync = judge_transaction_log(alone, 1, [1, 2, 3], SOUND)
    assert '"replicas":[1,2,3]' in replicas.mend[0]
    assert "min.insync.replicas=2" in in_sync.mend[0]
    assert (
        judge_transaction_log(alone, 1, [1], KafkaSettings(brokers="k", replication_factor=1, min_insync_replicas=1))
        == []
    )


@pytest.mark.parametrize(
    ("settings", "principal"),
    [
        ({}, "User:ANONYMOUS"),
        ({"security.protocol": "SASL_SSL", "sasl.username": "một cửa"}, "'User:một cửa'"),
        ({"security.protocol": "sasl_plaintext", "sasl.username": "capture"}, "User:capture"),
        (
            {"security.protocol": "SSL", "ssl.certificate.location": "e c.pem"},
            "\"User:$(openssl x509 -in 'e c.pem' -noout -subject -nameopt RFC2253,-esc_msb | sed 's/^subject= *//')\"",
        ),
    ],
)
def test_commands_name_our_user(settings: Mapping[str, str], principal: str) -> None:
    """A grant is for the user that the settings log in as, and asks for the administrator's file where one logs in."""
    commands = Commands(KafkaSettings(brokers="k:9", settings=dict(settings)))
    config = " --command-config admin.properties" if settings else ""
    assert commands.grant("--topic log.changes", ("Read", "Write")) == (
        f"kafka-acls.sh --bootstrap-server k:9{config} --add --allow-principal {principal} --operation Read --operation"
        " Write --topic log.changes"
    )


@pytest.mark.parametrize("there", [2, 5])
def test_another_number_of_partitions_is_refused_with_the_way_out(kafka_log: Log, there: int) -> None:
    """Fewer or more than the settings say: which number fits, and what to do where partitions were added."""
    create(
        kafka_log,
        f"{kafka_log.settings.name}.changes",
        there,
        **{"cleanup.policy": "compact", "min.compaction.lag.ms": "1209600000"},
    )
    with pytest.raises(LogError, match=f"has {there} partitions, the settings say {PARTITIONS}") as caught:
        kafka_log.writer().open()
    assert f"set log.partitions to {there}" in caught.value.mend
    assert "another name:" in caught.value.mend
    assert "new snapshot" in caught.value.mend


def test_partitions_added_while_the_log_is_read_end_the_reading(kafka: KafkaBroker, kafka_log: Log) -> None:
    """A record in a partition that nobody reads is never passed over in silence; capture is refused the topic, too."""
    writer = kafka_log.writer()
    writer.open()
    writer.append(entries("0:a", "1:b", "2:c"))
    kafka_log.settle()
    reader = kafka_log.reader()
    reader.assign(dict.fromkeys(range(PARTITIONS), 0))
    assert sum(reader.ends().values()) > 0
    topic = f"{kafka_log.settings.name}.changes"
    kafka_log.admin.create_partitions([NewPartitions(topic, PARTITIONS + 1)])[topic].result(20)
    other = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    other.produce(topic, b"theirs", b"key", PARTITIONS)
    other.flush(20)
    with pytest.raises(LogError, match=f"had {PARTITIONS} partitions and has {PARTITIONS + 1} now") as caught:
        reader.ends()
    assert not retryable(caught.value)
    assert "another name:" in caught.value.mend
    with pytest.raises(LogError, match=f"has {PARTITIONS + 1} partitions, the settings say {PARTITIONS}"):
        kafka_log.writer().open()


def test_settings_that_follow_added_partitions_are_refused() -> None:
    """log.partitions raised along with the topic: a partition without any record beside others tells of it."""
    begun_with(3, {})
    begun_with(3, {0: b"", 1: b"", 2: b""})
    with pytest.raises(LogError, match="has 3 partitions and was begun with 2") as caught:
        begun_with(3, {0: b"", 1: b""})
    assert "another name:" in caught.value.mend


def test_compression_is_the_operators(kafka: KafkaBroker) -> None:
    """Each compression that librdkafka knows is on the broker's disk as asked for, and is read again."""
    for number, codec in enumerate(("none", "gzip", "snappy", "lz4", "zstd")):
        log = Log(kafka_settings(kafka.bootstrap, settings={"compression.type": codec}))
        writer = log.writer()
        writer.open()
        text = "a" * 2000
        writer.append(entries(f"0:{text}"))
        assert [record.key for record in log.contents()] == [f"key {text}".encode()]
        segment = kafka.directory / "data" / f"{log.settings.name}.changes-0" / f"{0:020}.log"
        # A record batch (v2): base offset 8 bytes, length 4, leader epoch 4, magic 1, CRC 4, then the attributes.
        attributes = int.from_bytes(segment.read_bytes()[21:23], "big")
        assert attributes & 0b111 == number, codec
        for part in reversed(log.opened):
            part.close()
