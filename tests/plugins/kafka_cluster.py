"""A real Kafka cluster for the tests: three KRaft nodes, each broker and controller, shared by the whole run.

Contract: `kafka_cluster` starts it at its first use. A test may stop, kill or pause any of its brokers and leave them
so: after the test whoever is away is started again, and all replicas are waited for. Ports and data stay the same.
Two brokers of three are a majority: with two away the last one has no controller, nothing is decided, and it does not
obey `stop` (its leaving would have to be decided): `kill` it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from plugins.kafka import BrokerFailed, KafkaBroker, Quorum, libraries

BROKERS = 3
SYNC_SECONDS = 180.0

_JAVA = ("-Xmx256m", "-Xms48m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")

# Kafka's own topics outlive one broker, as the log's do. A busy machine must not look like a dead broker at once.
_PROPERTIES = """\
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
default.replication.factor=3
broker.session.timeout.ms=4000
controlled.shutdown.max.retries=1
"""


class KafkaCluster:
    """Three brokers, `brokers[0]` to `brokers[2]`, of which each can be stopped, killed or paused by itself.

    Not for use from several threads. As a context manager it starts and ends them.
    """

    def __init__(self, directory: Path, libs: Path | None = None) -> None:
        self.directory = directory.absolute()
        quorum = Quorum.new(BROKERS)
        libs = libs or libraries()
        self.brokers = tuple(
            KafkaBroker(self.directory / f"node-{node}", libs, _JAVA, quorum=quorum, node=node, more=_PROPERTIES)
            for node in range(1, BROKERS + 1)
        )

    @property
    def bootstrap(self) -> str:
        """The addresses of all brokers for a client's `bootstrap.servers`."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    def heal(self) -> None:
        """Resume and start whoever is away, and return when every replica of every topic is in sync."""
        for broker in self.brokers:
            if broker.running:
                broker.resume()
            # One alone is no majority: all are launched before any is waited for.
            broker.launch()
        for broker in self.brokers:
            broker.wait_until_ready()
        self.wait_until_in_sync()

    def wait_until_in_sync(self) -> None:
        """Return when all brokers are there, and every partition has its leader and all its replicas in sync."""
        client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        deadline = time.monotonic() + SYNC_SECONDS
        while True:
            try:
                found = client.list_topics(timeout=10)
            except KafkaException as error:
                late = str(error)
            else:
                behind = sorted({
                    f"{topic}/{number}"
                    for topic, described in found.topics.items()
                    for number, partition in described.partitions.items()
                    if partition.leader < 0 or len(partition.isrs) < len(partition.replicas)
                })  # fmt: skip
                if len(found.brokers) == BROKERS and not behind:
                    return
                late = f"brokers {sorted(found.brokers)}, not in sync {behind}"
            if time.monotonic() > deadline:
                ends = "\n".join(broker.last_lines() for broker in self.brokers)
                raise BrokerFailed(f"the cluster is not in sync after {SYNC_SECONDS:.0f} s: {late}\n{ends}")
            # Replication has no signal to wait for; asking costs one request.
            time.sleep(0.1)

    def leader(self, topic: str, partition: int, other_than: KafkaBroker | None = None) -> KafkaBroker:
        """The broker that leads a partition, once there is one, other than the one given."""
        client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        deadline = time.monotonic() + SYNC_SECONDS
        while True:
            with suppress(KafkaException):
                described = client.list_topics(topic, timeout=10).topics[topic].partitions.get(partition)
                leader = None if described is None or described.leader < 0 else self.brokers[described.leader - 1]
                if leader is not None and leader is not other_than:
                    return leader
            if time.monotonic() > deadline:
                raise BrokerFailed(f"nobody leads {topic}/{partition}")
            time.sleep(0.1)

    def __enter__(self) -> KafkaCluster:
        try:
            self.heal()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for broker in self.brokers:
            broker.kill()


@pytest.fixture(scope="session")
def _kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with KafkaCluster(tmp_path_factory.mktemp("kafka-cluster")) as cluster:
        yield cluster
    shutil.rmtree(cluster.directory, ignore_errors=True)


@pytest.fixture
def kafka_cluster(_kafka_cluster: KafkaCluster) -> Iterator[KafkaCluster]:
    """The run's cluster, whole; whatever a test does to its brokers is mended after it."""
    yield _kafka_cluster
    _kafka_cluster.heal()
