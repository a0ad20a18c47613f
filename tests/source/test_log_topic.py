"""What somebody does to the log's topic in Kafka: capture never puts a dossier beside its own history, and tells."""

from __future__ import annotations

import os
from typing import Any

import pytest
from attached_source import Attached, until
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
)
from plugins.kafka import KafkaBroker

from connector.errors import ConnectorError, LogError

END_STREAMING = "SELECT pg_terminate_backend(pid) FROM pg_stat_replication"


@pytest.fixture
def admin(kafka: KafkaBroker) -> AdminClient:
    """Kafka's administrator."""
    return AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})


def use_kafka(attached: Attached, kafka: KafkaBroker, name: str, partitions: int = 2) -> str:
    """Have the log in Kafka, with so many partitions by the settings; the topic of the changes."""
    attached.name = f"{name}-{os.getpid()}-{attached.database.version}"
    log: dict[str, Any] = {"brokers": kafka.bootstrap, "replication_factor": 1, "min_insync_replicas": 1}
    attached.log = {"kafka": log, "partitions": partitions}
    attached.settings = attached.settings_with()
    return f"{attached.name}.changes"


def ended(attached: Attached) -> ConnectorError:
    """What a capture that is started now ends with."""
    running = attached.start()
    try:
        until(lambda: running.failure is not None, "capture gives up")
    finally:
        running.end()
    assert isinstance(running.failure, LogError), running.failure
    return running.failure


def test_added_partitions_stop_capture_whatever_the_settings_say(
    attached: Attached, kafka: KafkaBroker, admin: AdminClient
) -> None:
    """One that runs goes on as before; the next start refuses, also when log.partitions was raised as well."""
    topic = use_kafka(attached, kafka, "added")
    attached.set_up()
    with attached.capturing():
        admin.create_partitions([NewPartitions(topic, 3)])[topic].result(20)
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x' WHERE id = 7""")
    assert "the topic has 3 partitions, the settings say 2" in ended(attached).cause
    use_kafka(attached, kafka, "added", partitions=3)
    error = ended(attached)
    assert "has 3 partitions and was begun with 2" in error.cause
    assert "another name:" in error.mend


def test_what_weakens_the_log_is_told_once(attached: Attached, kafka: KafkaBroker, admin: AdminClient) -> None:
    """Over several sessions of one capture, with the command; it goes on all the same."""
    topic = use_kafka(attached, kafka, "weaker")
    attached.set_up()
    with attached.capturing():
        pass
    resource = ConfigResource(
        ConfigResource.Type.TOPIC,
        topic,
        incremental_configs=[ConfigEntry("max.message.bytes", "100000", incremental_operation=AlterConfigOpType.SET)],
    )
    admin.incremental_alter_configs([resource])[resource].result(20)
    with attached.capturing() as running:
        attached.ask(END_STREAMING)
        running.until_streaming(sessions=2)
    told = [fault for fault in running.faults if fault.subject == topic]
    assert [fault.cause for fault in told] == ["max.message.bytes is 100000: a larger row stops capture"]
    assert not told[0].fatal
    assert told[0].mend.startswith("kafka-configs.sh")
