"""The log does not hold what is to be read next, or is another log: deliver stops and says so, and never jumps."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from deliver_process import deliver_process, eventually
from delivery_story import DOSSIER, SERVICE, LoggedStory, Step, create, dossier, service, settings_in, update
from emc.simulator_process import RunningSimulator
from plugins.kafka import KafkaBroker
from test_deliverer_process import delivered, refused

from connector.delivery.status import status
from connector.settings import Settings

_numbers = count(1)
TOLD = 6


@dataclass(frozen=True, slots=True)
class Told:
    """A log in Kafka of which deliver has read everything, and told of `TOLD` dossiers."""

    settings: Settings
    directory: Path
    admin: AdminClient

    @property
    def topic(self) -> str:
        return f"{self.settings.name}.changes"

    def offsets(self) -> list[int]:
        return [partition.offset for partition in status(self.settings)]

    def add(self, first: int, dossiers: int, *beside: Step) -> None:
        """More dossiers, in a log that is made if it is not there, each with more steps before it."""
        log = LoggedStory(self.settings)
        if first == 1:
            log.snapshot((SERVICE, service(1)))
        for number in range(first, first + dossiers):
            log.transaction(*beside, create(DOSSIER, dossier(number)))
        log.close()

    def make_anew(self, dossiers: int) -> None:
        """Somebody deletes both topics; capture makes them again and tells of so many dossiers at other places."""
        for future in self.admin.delete_topics([self.topic, f"{self.settings.name}.schemas"]).values():
            future.result(20)
        eventually(lambda: self.topic not in self.admin.list_topics(timeout=20).topics)
        self.add(1, dossiers, update(SERVICE, service(1)))

    def cut_off(self, partition: int, before: int) -> None:
        """Delete the records before an offset, as retention does."""
        entry = ConfigEntry("cleanup.policy", "compact,delete", incremental_operation=AlterConfigOpType.SET)
        topic = ConfigResource(ConfigResource.Type.TOPIC, self.topic, incremental_configs=[entry])
        self.admin.incremental_alter_configs([topic])[topic].result(20)
        deadline = time.monotonic() + 30
        while not self._deleted(partition, before):
            assert time.monotonic() < deadline, "the partition's leader has heard of its new configuration"

    def _deleted(self, partition: int, before: int) -> bool:
        (future,) = self.admin.delete_records([TopicPartition(self.topic, partition, before)]).values()
        try:
            future.result(20)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.POLICY_VIOLATION:
                raise
            return False
        return True

    def stopped(self, words: str, partitions: Sequence[int] = (0, 1)) -> None:
        """Deliver stops with these words, and has not moved on in these partitions."""
        before = self.offsets()
        with deliver_process(self.settings, self.directory) as running:
            assert words in refused(running)
        after = self.offsets()
        assert [after[number] for number in partitions] == [before[number] for number in partitions]


@pytest.fixture
def told(tmp_path: Path, kafka: KafkaBroker, simulator: RunningSimulator) -> Told:
    settings = settings_in(tmp_path, simulator.api).model_dump()
    brokers = {"brokers": kafka.bootstrap, "replication_factor": 1, "min_insync_replicas": 1}
    settings |= {"name": f"offsets-{os.getpid()}-{next(_numbers)}", "log": {"kafka": brokers, "partitions": 2}}
    made = Told(
        Settings.model_validate(settings), tmp_path, AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    )
    made.add(1, TOLD)
    with deliver_process(made.settings, tmp_path) as running:
        eventually(lambda: delivered(made.settings) == TOLD)
        assert running.end() == 0
    return made


def test_the_log_was_cut_off(told: Told) -> None:
    """Retention took what was not read yet: deliver does not go on behind it, not even where it may skip steps."""
    at = told.offsets()[0]
    told.add(TOLD + 1, 40)
    told.cut_off(0, at + 4)
    told.stopped(f"partition 0, record {at}")
    delivery = told.settings.delivery.model_copy(update={"after_compaction": "continue"})
    skipping = replace(told, settings=told.settings.model_copy(update={"delivery": delivery}))
    skipping.stopped("no longer holds what was to be read next", partitions=[0])


def test_the_log_is_shorter(told: Told) -> None:
    """The topic was made anew and ends before the place to go on from."""
    told.make_anew(0)
    told.stopped("no longer holds what was to be read next")


def test_the_log_is_another(told: Told) -> None:
    """The topic was made anew and is longer: what stands before the place is not what was read there."""
    told.make_anew(60)
    told.stopped("this is another log, or it was made anew")
