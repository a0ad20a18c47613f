"""Brokers die, stand still and restart under load: by another's eyes no change is lost, doubled or out of order."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import psycopg
import pytest
from attached_source import until
from captured_ledger import CaptureProcess, Ledgered
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from ledger_load import Load, Writer
from plugins.kafka import KafkaBroker
from plugins.kafka_cluster import KafkaCluster
from plugins.postgres import Database

KILLS, ALL_KILLS = 3, 50
STILL, ALL_STILL = 1, 3
STILL_SECONDS = 45.0
"""How long a broker stands still with `--full`: longer than an append may take."""


@pytest.fixture
def ledgered(database: Database, tmp_path: Path, kafka: KafkaBroker) -> Iterator[Ledgered]:
    """A connector on the run's broker whose tables are read."""
    made = Ledgered(database, tmp_path, kafka.bootstrap)
    made.attach()
    yield made
    made.close()


@pytest.fixture
def replicated(database: Database, tmp_path: Path, kafka_cluster: KafkaCluster) -> Iterator[Ledgered]:
    """A connector on the run's cluster, as it is to be run: three replicas, two in sync."""
    made = Ledgered(database, tmp_path, kafka_cluster.bootstrap, replication_factor=3, min_insync_replicas=2)
    made.attach()
    yield made
    made.close()


def rounds(config: pytest.Config, few: int, all_of_them: int) -> int:
    return all_of_them if config.getoption("--full") else few


def more(load: Load, transactions: int) -> None:
    """Let the load go on for so many transactions."""
    goal = load.transactions + transactions
    until(lambda: load.transactions >= goal, "the load goes on")


def huge(ledgered: Ledgered, random: Random) -> None:
    """A transaction that takes several appends."""
    with psycopg.connect(ledgered.owner, autocommit=True) as own:
        Writer(own, random).huge()


def judge(ledgered: Ledgered, capture: CaptureProcess, load: Load, what: str) -> None:
    """Nothing is wrong with what is in the log at the end of it all, and capture never gave up."""
    load.stop()
    verdict = ledgered.verdict()
    capture.end()
    sys.stderr.write(f"{what}, {load.transactions} transactions: {verdict.figures}\n")
    assert verdict.findings == ()
    assert "Traceback" not in capture.text


def test_the_broker_is_killed_again_and_again(
    ledgered: Ledgered, kafka: KafkaBroker, pytestconfig: pytest.Config
) -> None:
    """SIGKILL at any moment under load, now and then before what was missed is caught up with."""
    kills = rounds(pytestconfig, KILLS, ALL_KILLS)
    random = Random(4)
    began = time.monotonic()
    with ledgered.capture() as capture, ledgered.load() as load:
        capture.until_said("streaming")
        for kill in range(kills):
            if kill % 2:
                huge(ledgered, random)
            more(load, random.randint(1, 100))
            kafka.kill()
            more(load, 30)
            kafka.start()
            if random.random() < 0.5:
                ledgered.caught_up()
        judge(ledgered, capture, load, f"{kills} kills in {time.monotonic() - began:.0f} s")


def test_the_broker_stands_still(ledgered: Ledgered, kafka: KafkaBroker, pytestconfig: pytest.Config) -> None:
    """It takes connections and answers nothing for longer than the log is waited for, and goes on as if nothing was.

    With --full for 45 s, which is longer than an append may take, again and again.
    """
    full = pytestconfig.getoption("--full")
    stops = rounds(pytestconfig, STILL, ALL_STILL)
    with ledgered.capture(stall_timeout=10.0 if full else 1.0) as capture, ledgered.load() as load:
        capture.until_said("streaming")
        for number in range(stops):
            more(load, 50)
            kafka.pause()
            began = time.monotonic()
            try:
                huge(ledgered, Random(number))
                capture.until_said("it has taken nothing for", number + 1)
                if full:
                    until(lambda at=began + STILL_SECONDS: time.monotonic() >= at, "the time passes")  # type: ignore[misc]
            finally:
                kafka.resume()
            ledgered.caught_up()
        judge(ledgered, capture, load, f"stood still {stops} times")


def test_all_brokers_restart(replicated: Ledgered, kafka_cluster: KafkaCluster, pytestconfig: pytest.Config) -> None:
    """All die at once, with --full after each of them alone, a leader first: order per key is kept."""
    full = pytestconfig.getoption("--full")
    random = Random(6)
    with replicated.capture() as capture, replicated.load() as load:
        capture.until_said("streaming")
        for number in range(rounds(pytestconfig, 1, 3)):
            leader = kafka_cluster.leader(replicated.topic, number)
            order = [leader, *(broker for broker in kafka_cluster.brokers if broker is not leader)]
            for broker in order if full else []:
                huge(replicated, random)
                broker.kill()
                more(load, 30)
                kafka_cluster.heal()
            huge(replicated, random)
            for broker in order:
                broker.kill()
            more(load, 30)
            kafka_cluster.heal()
            replicated.caught_up()
        judge(replicated, capture, load, "all brokers restarted")


def test_too_few_replicas_in_sync(
    replicated: Ledgered, kafka_cluster: KafkaCluster, pytestconfig: pytest.Config
) -> None:
    """A broker is away and the topic wants all three in sync: nothing is taken, and it is said; then all of it is.

    With --full only: Kafka takes its time to notice. What is said is tested in tests/log/test_kafka_tails.py.
    """
    if not pytestconfig.getoption("--full"):
        return
    entry = ConfigEntry("min.insync.replicas", "3", incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ConfigResource.Type.TOPIC, replicated.topic, incremental_configs=[entry])
    with replicated.capture(stall_timeout=2.0) as capture, replicated.load() as load:
        capture.until_said("streaming")
        admin = AdminClient({"bootstrap.servers": replicated.brokers, "log_level": 0})
        admin.incremental_alter_configs([topic])[topic].result(20)
        kafka_cluster.brokers[2].kill()
        capture.until_said("replicas in sync: 2, and min.insync.replicas is 3: nothing is taken")
        kafka_cluster.heal()
        judge(replicated, capture, load, "too few replicas in sync")
