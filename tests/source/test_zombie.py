"""Capture is hit in the middle of an append to Kafka: killed there, or stopped while another takes over."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random

import psycopg
import pytest
from captured_ledger import Ledgered
from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
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


def ends(ledgered: Ledgered, isolation: IsolationLevel) -> dict[int, int]:
    """The ends of the partitions as readers of this kind see them."""
    admin = AdminClient({"bootstrap.servers": ledgered.brokers, "log_level": 0})
    asked = {TopicPartition(ledgered.topic, number): OffsetSpec.latest() for number in range(3)}
    futures = admin.list_offsets(asked, isolation_level=isolation)
    return {place.partition: future.result(20).offset for place, future in futures.items()}


def half_written(ledgered: Ledgered) -> None:
    """Several partitions hold records that nobody may see."""
    seen, there = ends(ledgered, IsolationLevel.READ_COMMITTED), ends(ledgered, IsolationLevel.READ_UNCOMMITTED)
    assert sum(there[number] > seen[number] for number in there) > 1


def huge(ledgered: Ledgered, seed: int = 9) -> None:
    """One transaction of thousands of rows for every partition."""
    with psycopg.connect(ledgered.owner, autocommit=True) as own:
        Writer(own, Random(seed)).huge(6000)


@pytest.mark.parametrize("append", [1, 2])
def test_killed_in_the_middle_of_an_append(ledgered: Ledgered, append: int) -> None:
    """In a transaction's first append, or when an earlier one of it is durable: each record is written once.

    Records of several partitions are at the broker by then, and nobody ever sees them.
    """
    with ledgered.capture(fault=f"KILL-{append}") as first, ledgered.load() as load:
        first.until_said("streaming")
        huge(ledgered)
        assert first.ended() == -signal.SIGKILL
        half_written(ledgered)
        with ledgered.capture() as second:
            second.until_said("streaming")
            huge(ledgered, 10)
            load.stop()
            assert ledgered.verdict().findings == ()


def test_stopped_in_the_middle_of_an_append(ledgered: Ledgered) -> None:
    """Another capture takes over; the first, resumed, is fenced, adds nothing, says so and ends."""
    with ledgered.capture(fault="STOP-1") as first, ledgered.load() as load:
        first.until_said("streaming")
        huge(ledgered)
        first.until_halfway()
        first.until_stopped()
        half_written(ledgered)
        with ledgered.capture("second") as second:
            second.until_said("streaming")
            ledgered.caught_up()
            first.send(signal.SIGCONT)
            assert first.ended() == 2, first.text
            assert "fenced: a later capture has taken over this log" in first.text
            assert "Traceback" not in first.text
            huge(ledgered, 11)
            load.stop()
            verdict = ledgered.verdict()
            second.end()
    assert verdict.findings == ()
