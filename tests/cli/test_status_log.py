"""`emc-cdc status` tells what the log's promises rest on, and what weakens them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from logged import Logged
from plugins.kafka import KafkaBroker


@pytest.fixture
def in_kafka(tmp_path: Path, kafka: KafkaBroker) -> Iterator[Logged]:
    """A log in Kafka whose topic somebody has altered."""
    logged = Logged(tmp_path, kafka.bootstrap)
    topic = ConfigResource(
        ConfigResource.Type.TOPIC,
        f"{logged.settings.name}.changes",
        incremental_configs=[ConfigEntry("max.message.bytes", "100000", incremental_operation=AlterConfigOpType.SET)],
    )
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    admin.incremental_alter_configs([topic])[topic].result(20)
    yield logged
    logged.story.close()


def test_what_weakens_the_log_is_shown_with_its_command(in_kafka: Logged, kafka: KafkaBroker) -> None:
    """As JSON and in words: how durable the log is, what is not as it should be, and the whole command."""
    topic = f"{in_kafka.settings.name}.changes"
    log = json.loads(in_kafka.run("status", "--json", code=1).stdout)["log"]
    assert log["sound"] is False
    command = (
        f"kafka-configs.sh --bootstrap-server {kafka.bootstrap} --alter --entity-type topics --entity-name {topic}"
        " --add-config max.message.bytes=16777216"
    )
    assert log["concerns"] == [
        {"subject": topic, "cause": "max.message.bytes is 100000: a larger row stops capture", "mend": [command]}
    ]
    assert command in in_kafka.run("status", code=1).stdout
