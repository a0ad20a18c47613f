"""Delivery over Kafka when the machine is lost: another one goes on from what was recorded there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition
from deliver_process import accepted, deliver_process, delivering, eventually
from delivery_story import LIFE, LoggedStory, code, kafka_settings_in, lives
from emc.simulator_process import RunningSimulator
from plugins.kafka import KafkaBroker

from connector.delivery.status import ambiguous_attempts, status
from connector.log.deliveries import deliveries_of
from connector.log.kafka_topic_writer import delivery_group
from connector.log.kafka_topics import changes_topic
from connector.observe import Fault, PartitionReleased, PushAnswered, StateRebuilt
from connector.settings import Settings

NUMBERS = range(1, 41)


@pytest.fixture
def settings(tmp_path: Path, simulator: RunningSimulator, kafka: KafkaBroker) -> Settings:
    return kafka_settings_in(tmp_path, simulator.api, kafka.bootstrap)


def delivered(settings: Settings) -> int:
    return sum(partition.delivered for partition in status(settings))


def committed(settings: Settings) -> list[int]:
    """The offsets of the group, as any tool of Kafka's shows them."""
    assert settings.log.kafka is not None
    group = {"bootstrap.servers": settings.log.kafka.brokers, "group.id": delivery_group(settings.name)}
    consumer = Consumer(group)
    topic = changes_topic(settings.name)
    found = consumer.committed([TopicPartition(topic, number) for number in range(settings.log.partitions)], 30)
    consumer.close()
    return [place.offset for place in found]


@contextmanager
def rejected(simulator: RunningSimulator, client: httpx.Client, number: int) -> Iterator[None]:
    """EMC rejects one dossier's events while the block runs."""
    simulator.set_faults(client, {"kind": "status", "status": 400, "match": code(number)})
    yield
    simulator.set_faults(client)


def test_another_machine_goes_on(
    tmp_path: Path, settings: Settings, log: LoggedStory, simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """Killed in the middle of pushes, its disk gone, three times: nothing lost, in order, every repeat on record."""
    lives(log, *NUMBERS)
    simulator.set_faults(client, {"kind": "delay", "seconds": 0.05})
    repeats: dict[tuple[str, int], int] = {}
    for kill in range(3):
        enough = 25 * (kill + 1)
        with deliver_process(settings, tmp_path) as running:
            eventually(lambda: sum(map(len, accepted(simulator, client, before).values())) >= enough)  # noqa: B023
            running.kill()
        shutil.rmtree(settings.delivery.state)
    simulator.set_faults(client)
    with deliver_process(settings, tmp_path) as running:
        eventually(lambda: delivered(settings) == 3 * len(NUMBERS))
        assert running.end() == 0
    for one in ambiguous_attempts(settings):
        repeats[one.code, one.status] = one.times
    found = accepted(simulator, client, before)
    assert {number: list(dict.fromkeys(statuses)) for number, statuses in found.items()} == {
        code(number): LIFE for number in NUMBERS
    }
    for number, statuses in found.items():
        assert statuses == sorted(statuses)
        for told in LIFE:
            assert statuses.count(told) - 1 <= repeats.get((number, told), 0)


def test_a_parked_dossier_outlives_its_machine(
    settings: Settings, log: LoggedStory, simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """It does not hold the committed offset; on the next machine it is parked as it was, and nothing is told again."""
    with rejected(simulator, client, 2):
        with delivering(settings) as run:
            lives(log, 1, 2, 3)
            run.until(lambda: sum(seen.outcome == "delivered" for seen in run.of(PushAnswered)) == 6)
            eventually(lambda: any(partition.parked for partition in status(settings)))
        parked = [each for partition in status(settings) for each in partition.parked]
    assert committed(settings) == [partition.offset for partition in status(settings)]
    shutil.rmtree(settings.delivery.state)
    with delivering(settings) as run:
        lives(log, 4)
        run.until(lambda: sum(seen.outcome == "delivered" for seen in run.of(PushAnswered)) == 3)
        assert {seen.partition for seen in run.of(StateRebuilt)} == {0, 1}
    assert [each for partition in status(settings) for each in partition.parked] == parked
    assert accepted(simulator, client, before) == {code(number): LIFE for number in (1, 3, 4)}


def test_nothing_is_sent_that_is_not_recorded(
    settings: Settings,
    log: LoggedStory,
    kafka: KafkaBroker,
    simulator: RunningSimulator,
    client: httpx.Client,
    before: int,
) -> None:
    """While Kafka is away another machine could not know of a push: it waits on disk, which is told, and goes later."""
    simulator.set_faults(client, {"kind": "status", "status": 503})
    with delivering(settings) as run:
        lives(log, 1)
        run.until(lambda: bool(run.of(PushAnswered)))
        kafka.kill()
        try:
            simulator.set_faults(client)
            run.until(lambda: any("record" in seen.operation or "append" in seen.operation for seen in run.of(Fault)))
            told = len(run.of(PushAnswered))
        finally:
            kafka.start()
        run.until(lambda: sum(seen.outcome == "delivered" for seen in run.of(PushAnswered)) == 3)
        assert told <= len(run.of(PushAnswered)) - 3
    assert accepted(simulator, client, before) == {code(1): LIFE}


def test_a_fence_that_no_owner_made_is_overcome(
    settings: Settings, log: LoggedStory, simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """As a broker that has crashed makes one: the group says that the partitions are ours, so they are taken again."""
    with delivering(settings) as run:
        lives(log, 1, 2, 3)
        run.until(lambda: sum(seen.outcome == "delivered" for seen in run.of(PushAnswered)) == 9)
        for number in range(settings.log.partitions):
            with closing(deliveries_of(settings, number)) as other:
                other.open()
        lives(log, 4, 5, 6)
        run.until(lambda: sum(seen.outcome == "delivered" for seen in run.of(PushAnswered)) == 18)
        assert {seen.partition for seen in run.of(PartitionReleased)} == {0, 1}
    assert accepted(simulator, client, before) == {code(number): LIFE for number in range(1, 7)}
