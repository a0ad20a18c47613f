"""Kafka takes a batch no further in the middle: the producer ends, the slot keeps the place, everything comes again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import psycopg
import pytest
from captured_ledger import Ledgered
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from ledger_load import Writer
from plugins.kafka import KafkaBroker
from plugins.postgres import Database


@pytest.fixture
def ledgered(database: Database, tmp_path: Path, kafka: KafkaBroker) -> Iterator[Ledgered]:
    """A connector on the run's broker whose tables are read."""
    made = Ledgered(database, tmp_path, kafka.bootstrap)
    made.attach()
    yield made
    made.close()


def alter(ledgered: Ledgered, name: str, value: str) -> None:
    """Set the topic's configuration, as somebody with kafka-configs.sh does."""
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ConfigResource.Type.TOPIC, ledgered.topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": ledgered.brokers, "log_level": 0})
    admin.incremental_alter_configs([topic])[topic].result(20)


def test_a_record_that_became_too_large(ledgered: Ledgered) -> None:
    """max.message.bytes was lowered: capture stops and says the mend; after it, the next start replays from the slot.

    What was at the broker of the transaction until then is seen by nobody.
    """
    with ledgered.capture() as capture, ledgered.load() as load:
        capture.until_said("streaming")
        alter(ledgered, "max.message.bytes", "3000")
        with psycopg.connect(ledgered.owner, autocommit=True) as own:
            Writer(own, Random(3)).huge()
        assert capture.ended() == 2, capture.text
        assert "too large" in capture.text
        assert "--add-config max.message.bytes=16777216" in capture.text
        alter(ledgered, "max.message.bytes", "16777216")
        with ledgered.capture() as again:
            again.until_said("streaming")
            load.stop()
            assert ledgered.verdict().findings == ()
            again.end()
