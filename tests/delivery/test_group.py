"""Several deliver processes share the partitions of a log in Kafka; they come, go, die and stand still."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from time import monotonic

import httpx
import pytest
from confluent_kafka.admin import AdminClient
from deliver_process import DeliverProcess, accepted, deliver_process, eventually
from delivery_story import (
    DOSSIER,
    LIFE,
    LoggedStory,
    code,
    create,
    dossier,
    kafka_settings_in,
    lives,
    update,
)
from emc.simulator_process import RunningSimulator
from plugins.kafka import KafkaBroker

from connector.delivery.status import ambiguous_attempts, status
from connector.log.kafka_topic_writer import delivery_group
from connector.settings import Settings

PARTITIONS = 4
SESSION = 6000
"""The shortest that a broker allows by default, milliseconds."""


@pytest.fixture
def settings(tmp_path: Path, simulator: RunningSimulator, kafka: KafkaBroker) -> Settings:
    found = kafka_settings_in(tmp_path, simulator.api, kafka.bootstrap, PARTITIONS, max_in_flight=8)
    assert found.log.kafka is not None
    group = {"session.timeout.ms": SESSION, "max.poll.interval.ms": SESSION, "heartbeat.interval.ms": 1000}
    kafka_settings = found.log.kafka.model_copy(update={"settings": group})
    return found.model_copy(update={"log": found.log.model_copy(update={"kafka": kafka_settings})})


class Machines:
    """Deliver processes with a directory each."""

    def __init__(self, settings: Settings, directory: Path, stack: ExitStack) -> None:
        self._settings = settings
        self._directory = directory
        self._stack = stack
        self.running: dict[int, DeliverProcess] = {}
        assert settings.log.kafka is not None
        self._admin = AdminClient({"bootstrap.servers": settings.log.kafka.brokers, "log_level": 0})

    def settings_of(self, number: int) -> Settings:
        state = self._directory / f"machine-{number}" / "state"
        return self._settings.model_copy(
            update={"delivery": self._settings.delivery.model_copy(update={"state": state})}
        )

    def start(self, number: int) -> DeliverProcess:
        directory = self._directory / f"machine-{number}"
        directory.mkdir(exist_ok=True)
        process = self._stack.enter_context(deliver_process(self.settings_of(number), directory))
        self.running[number] = process
        return process

    def owners(self) -> dict[int, list[int]]:
        """Which member of the group has which partitions, in any order of members."""
        group = delivery_group(self._settings.name)
        described = self._admin.describe_consumer_groups([group])[group].result(30)
        return {
            at: sorted(place.partition for place in member.assignment.topic_partitions)
            for at, member in enumerate(described.members)
        }

    def members(self) -> set[str]:
        group = delivery_group(self._settings.name)
        return {member.member_id for member in self._admin.describe_consumer_groups([group])[group].result(30).members}

    def shared_by(self, count: int) -> bool:
        """Whether so many processes have all partitions, each some."""
        found = self.owners()
        all_of_them = sorted(number for owned in found.values() for number in owned)
        return len(found) == count and all(found.values()) and all_of_them == list(range(PARTITIONS))

    def waiting(self) -> int:
        """Events that are still to be accepted, on the machines that have the partitions."""
        found = [each for number in self.running for each in status(self.settings_of(number))]
        return sum(each.waiting for each in found if not each.elsewhere)

    def ambiguous(self) -> dict[tuple[str, int], int]:
        """Attempts on record that EMC may have taken, as the machines that ever had the dossier count them."""
        found: dict[tuple[str, int], int] = {}
        for directory in self._directory.glob("machine-*"):
            for one in ambiguous_attempts(self.settings_of(int(directory.name.split("-")[1]))):
                found[one.code, one.status] = max(one.times, found.get((one.code, one.status), 0))
        return found


@pytest.fixture
def machines(settings: Settings, tmp_path: Path) -> Iterator[Machines]:
    with ExitStack() as stack:
        yield Machines(settings, tmp_path, stack)


def arrived(simulator: RunningSimulator, client: httpx.Client, before: int) -> int:
    """Events that EMC has, each counted once."""
    return sum(len(set(statuses)) for statuses in accepted(simulator, client, before).values())


def in_order_and_counted(found: dict[str, list[int]], numbers: range, counted: dict[tuple[str, int], int]) -> None:
    """Every life is whole and in order; what came twice stands on record."""
    assert {number: list(dict.fromkeys(statuses)) for number, statuses in found.items()} == {
        code(number): LIFE for number in numbers
    }
    for number, statuses in found.items():
        assert statuses == sorted(statuses)
        for told in LIFE:
            assert statuses.count(told) - 1 <= counted.get((number, told), 0), (number, statuses)


def test_processes_come_and_go_in_order(
    settings: Settings,
    log: LoggedStory,
    machines: Machines,
    simulator: RunningSimulator,
    client: httpx.Client,
    before: int,
) -> None:
    """Three share the partitions; as they leave one after the other the rest take over; EMC hears nothing twice."""
    simulator.set_faults(client, {"kind": "delay", "seconds": 0.02})
    machines.start(1)
    eventually(lambda: machines.shared_by(1))
    lives(log, *range(1, 31))
    machines.start(2)
    machines.start(3)
    eventually(lambda: machines.shared_by(3))
    lives(log, *range(31, 61))
    eventually(lambda: arrived(simulator, client, before) > 120)
    assert machines.running[1].end() == 0
    lives(log, *range(61, 91))
    eventually(lambda: machines.shared_by(2))
    assert machines.running[3].end() == 0
    eventually(lambda: arrived(simulator, client, before) == 270)
    assert machines.running[2].end() == 0
    assert accepted(simulator, client, before) == {code(number): LIFE for number in range(1, 91)}
    held = [each for each in status(machines.settings_of(2)) if not each.elsewhere]
    assert [each.partition for each in held] == list(range(PARTITIONS))


def test_killed_and_stopped_at_random(
    request: pytest.FixtureRequest,
    settings: Settings,
    log: LoggedStory,
    machines: Machines,
    simulator: RunningSimulator,
    client: httpx.Client,
    before: int,
) -> None:
    """Under load, some answers lost: kills, also in the middle of a rebalance, and processes that stand still."""
    random = Random(7)
    rounds = 12 if request.config.getoption("--full") else 4
    numbers = range(1, 1 + 15 * (rounds + 1))
    simulator.set_faults(client, {"kind": "delay", "seconds": 0.03}, {"kind": "drop_answer", "rate": 0.03})
    for number in (1, 2, 3):
        machines.start(number)
    eventually(lambda: machines.shared_by(3))
    done = threading.Event()

    def work() -> None:
        for number in numbers:
            log.transaction(create(DOSSIER, dossier(number)))
            log.transaction(update(DOSSIER, dossier(number, "dang_xu_ly")))
            log.transaction(update(DOSSIER, dossier(number, "da_tra")))
        done.set()

    working = threading.Thread(target=work)
    working.start()
    try:
        for step in range(rounds):
            enough = arrived(simulator, client, before) + 10
            eventually(lambda: arrived(simulator, client, before) >= enough or done.is_set())  # noqa: B023
            victim = random.choice(sorted(machines.running))
            process = machines.running[victim]
            if step % 2:
                process.process.send_signal(signal.SIGSTOP)
                eventually(lambda: machines.shared_by(2))
                process.process.send_signal(signal.SIGCONT)
            else:
                process.kill()
                machines.start(victim)
                if step == 2:  # in the middle of what follows from that
                    other = random.choice(sorted(set(machines.running) - {victim}))
                    machines.running[other].kill()
                    machines.start(other)
            eventually(lambda: machines.shared_by(3))
    finally:
        working.join()
    simulator.set_faults(client)
    eventually(lambda: arrived(simulator, client, before) == 3 * len(numbers), 120)
    eventually(lambda: not machines.waiting())
    for process in machines.running.values():
        assert process.end() == 0, process.lines.read_text(encoding="utf-8")
    in_order_and_counted(accepted(simulator, client, before), numbers, machines.ambiguous())


def test_an_emc_that_hangs_is_no_reason_to_leave(
    settings: Settings,
    log: LoggedStory,
    machines: Machines,
    simulator: RunningSimulator,
    client: httpx.Client,
    before: int,
) -> None:
    """Pushes hang for longer than max.poll.interval.ms: the members stay, and nobody's partitions move."""
    for number in (1, 2):
        machines.start(number)
    eventually(lambda: machines.shared_by(2))
    members, owners = machines.members(), machines.owners()
    simulator.set_faults(client, {"kind": "delay", "seconds": 9})
    began = monotonic()
    lives(log, *range(1, 5))
    eventually(lambda: arrived(simulator, client, before) >= 4)
    assert monotonic() - began > SESSION / 1000
    assert (machines.members(), machines.owners()) == (members, owners)
    simulator.set_faults(client)
    eventually(lambda: arrived(simulator, client, before) == 12)
    for process in machines.running.values():
        assert process.end() == 0
    assert machines.ambiguous() == {}


def test_two_of_one_name_are_told(settings: Settings, log: LoggedStory, machines: Machines) -> None:
    """Cloned machines: the later one goes on, the earlier one ends and says why."""
    first = machines.start(1)
    eventually(lambda: machines.shared_by(1))
    lock = machines.settings_of(1).delivery.state / f"{settings.name}.lock"
    lock.unlink()  # as on another machine, where nobody holds it
    second = machines.start(1)
    assert first.ended() == 2
    told = " ".join(first.lines.read_text(encoding="utf-8").split())
    assert "Traceback" not in told
    assert "same name, " in told
    eventually(lambda: machines.shared_by(1))
    assert second.end() == 0
