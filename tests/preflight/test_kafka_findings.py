"""A log in Kafka as `check` sees it: topics, the brokers' limits, and rights, each with the line that mends it."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from plugins.kafka import KafkaBroker
from plugins.kafka_secure import PASSWORD, SecureKafka

from connector.errors import LogError
from connector.finding import Finding, Severity
from connector.log.kafka import KafkaWriter
from connector.preflight.kafka import check_kafka
from connector.settings import KafkaSettings

_numbers = count(1)


@pytest.fixture
def name() -> str:
    """A log that is not there yet."""
    return f"found-{os.getpid()}-{next(_numbers)}"


def alone(brokers: str, **settings: str) -> KafkaSettings:
    """A log on one broker."""
    return KafkaSettings.model_validate({
        "brokers": brokers, "replication_factor": 1, "min_insync_replicas": 1, "settings": settings,
    })  # fmt: skip


def of(findings: list[Finding], check: str) -> list[Finding]:
    return [finding for finding in findings if finding.check == check]


def create(brokers: str, topic: str, partitions: int, **config: str) -> None:
    """A topic that somebody made before us."""
    admin = AdminClient({"bootstrap.servers": brokers, "log_level": 0})
    admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result(20)
    while topic not in admin.list_topics(timeout=20).topics:
        pass


def test_all_that_is_wrong_with_topics_is_found_at_once(kafka: KafkaBroker, name: str) -> None:
    """What capture would refuse is an error, what weakens a promise a warning, with way out and command."""
    create(kafka.bootstrap, f"{name}.changes", 3, **{"cleanup.policy": "delete", "max.message.bytes": "1000"})
    create(kafka.bootstrap, f"{name}.schemas", 1, **{"cleanup.policy": "compact", "max.message.bytes": "16777216"})
    found = check_kafka(name, 4, alone(kafka.bootstrap))
    partitions, policy, lag = of(found, "LOG-02")
    assert {one.severity for one in (partitions, policy, lag)} == {Severity.ERROR}
    assert "has 3 partitions, the settings say 4" in partitions.what
    assert partitions.who == "operator"
    assert "set log.partitions to 3" in partitions.mend[0]
    assert policy.what.startswith("cleanup.policy is delete")
    assert lag.what.startswith("min.compaction.lag.ms is 0")
    for one in (policy, lag):
        assert one.who == "kafka"
        assert one.mend[0].startswith(f"kafka-configs.sh --bootstrap-server {kafka.bootstrap} --alter")
    (size,) = of(found, "LOG-05")
    assert (size.severity, size.subject) == (Severity.WARNING, f"{name}.changes")
    assert size.what.startswith("max.message.bytes is 1000")
    with pytest.raises(LogError, match="3 faults"):
        KafkaWriter(name, 4, alone(kafka.bootstrap)).open()


def test_topics_that_capture_made_are_in_order(kafka: KafkaBroker, name: str) -> None:
    """Nothing is to be mended but that one broker is one disk."""
    writer = KafkaWriter(name, 2, alone(kafka.bootstrap))
    writer.open()
    writer.close()
    found = check_kafka(name, 2, alone(kafka.bootstrap))
    assert [(one.check, one.severity) for one in found] == [
        ("LOG-01", Severity.OK),
        ("LOG-02", Severity.OK),
        ("LOG-03", Severity.WARNING),
        ("LOG-05", Severity.OK),
        ("LOG-06", Severity.OK),
        ("LOG-07", Severity.OK),
    ]


def test_brokers_that_allow_for_too_little(tmp_path: Path, name: str) -> None:
    """Transactions shorter than ours stop capture, requests smaller than our records are told."""
    limits = "transaction.max.timeout.ms=30000\nsocket.request.max.bytes=20000000"
    with KafkaBroker(tmp_path / "kafka", more=limits) as broker:
        transactions, requests = of(check_kafka(name, 2, alone(broker.bootstrap)), "LOG-06")
        assert (transactions.severity, requests.severity) == (Severity.ERROR, Severity.WARNING)
        assert transactions.what.startswith("transaction.max.timeout.ms is 30000")
        assert transactions.mend[0].startswith("transaction.max.timeout.ms=60000  # in server.properties of broker 1")
        assert requests.what.startswith("socket.request.max.bytes is 20000000")
        with pytest.raises(LogError, match="allow no transaction of 60000 ms") as caught:
            KafkaWriter(name, 2, alone(broker.bootstrap)).open()
        assert "transaction.max.timeout.ms=60000" in caught.value.mend


def by_password(kafka: SecureKafka) -> KafkaSettings:
    """As the user capture."""
    return alone(kafka.login, **{
        "security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "capture",
        "sasl.password": PASSWORD, "ssl.ca.location": str(kafka.authority),
    })  # fmt: skip


def test_settings_that_are_not_shown_are_not_called_right(secure_kafka: SecureKafka, name: str) -> None:
    """Without DescribeConfigs on a topic: what it is set to is unknown, and the command shows it."""
    for topic in (f"{name}.changes", f"{name}.schemas"):
        create(secure_kafka.broker.bootstrap, topic, 1, **{"cleanup.policy": "compact"})
        secure_kafka.grant("User:capture", "topic", topic, "describe", "read", "write")
    found = check_kafka(name, 1, by_password(secure_kafka))
    (settings,) = of(found, "LOG-05")
    assert settings.severity is Severity.UNKNOWN
    assert settings.mend[1].endswith(f"--describe --all --entity-type topics --entity-name {name}.schemas")
    assert of(found, "LOG-03")[0].severity is Severity.UNKNOWN
    lacking = [one.what for one in of(found, "LOG-07") if one.subject == f"{name}.changes"]
    assert lacking == [f"{user}'s user (User:capture) may not DescribeConfigs" for user in ("capture", "deliver")]


def test_the_rights_that_are_missing_are_named(secure_kafka: SecureKafka, name: str) -> None:
    """Without any: every line at once; with capture's: in order, but for what cannot be asked. No topic is made."""
    asked = by_password(secure_kafka)
    (denied,) = of(check_kafka(name, 2, asked), "LOG-07")
    assert (denied.severity, denied.who) == (Severity.ERROR, "kafka")
    assert [line.split(" ")[-2:] for line in denied.mend] == [
        ["--topic", f"{name}.changes"],
        ["--topic", f"{name}.schemas"],
        ["--group", f"{name}.capture"],
        ["--transactional-id", f"{name}.capture"],
    ]
    for topic in ("changes", "schemas"):
        secure_kafka.grant("User:capture", "topic", f"{name}.{topic}", "describe", "describe_configs", "read", "write")
    secure_kafka.grant("User:capture", "group", f"{name}.capture", "describe")
    no_create, group, *_ = of(check_kafka(name, 2, asked), "LOG-07")
    assert (no_create.severity, group.severity) == (Severity.ERROR, Severity.ERROR)
    assert "--operation Create" in no_create.mend[0]
    for topic in ("changes", "schemas"):
        secure_kafka.grant("User:capture", "topic", f"{name}.{topic}", "create")
    found = check_kafka(name, 2, asked)
    assert [(one.check, one.severity) for one in found if one.severity not in (Severity.OK, Severity.WARNING)] == [
        ("LOG-02", Severity.NOTE),  # there are no topics yet
        ("LOG-06", Severity.UNKNOWN),  # who may not see the brokers' settings is told what to look for
        ("LOG-07", Severity.NOTE),  # deliver may be another user
        ("LOG-07", Severity.UNKNOWN),
        ("LOG-07", Severity.UNKNOWN),
    ]
    beside = of(found, "LOG-07")[-1]
    assert beside.subject == f"{name}.deliveries, {name}.emc-events"
    assert [line.split(" ")[-2:] for line in beside.mend] == [
        ["--topic", f"{name}.deliveries"],
        ["--topic", f"{name}.emc-events"],
        ["--topic", f"{name}.schemas"],
        ["--resource-pattern-type", "prefixed"],
        ["--resource-pattern-type", "prefixed"],
        ["--group", f"{name}.deliver"],
    ]
    (limits,) = of(found, "LOG-06")
    assert "transaction.max.timeout.ms at least 60000" in limits.what
    assert "--describe --all --entity-type brokers" in limits.mend[0]
    assert f"{name}.changes" not in secure_kafka.admin.list_topics(timeout=20).topics
