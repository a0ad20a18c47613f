"""The topic of events over processes that are killed and a broker that is killed, while the legacy system works on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from deliver_process import accepted, deliver_process, eventually
from delivery_story import (
    DOSSIER,
    LIFE,
    PAYMENT,
    SERVICE,
    LoggedStory,
    code,
    create,
    dossier,
    kafka_settings_in,
    payment,
    service,
)
from delivery_story import update as updated
from emc.simulator_process import RunningSimulator
from plugins.kafka import KafkaBroker
from published_events import events, ids, ledger, statuses

from connector.delivery.status import status
from connector.settings import Settings

EACH = 20
"""Dossiers of one round."""


def judged(settings: Settings) -> int:
    """Events in the ledger; none is parked here."""
    return sum(partition.waiting + partition.delivered for partition in status(settings))


@contextmanager
def working(log: LoggedStory, numbers: range) -> Iterator[None]:
    """The lives of these dossiers, transaction by transaction, while the block runs; all are in the log after it."""

    def work() -> None:
        story = log.story
        for number in numbers:
            log.insist(story.transaction(create(DOSSIER, dossier(number))))
        for number in numbers:
            log.insist(story.transaction(updated(DOSSIER, dossier(number, "dang_xu_ly"))))
        for number in numbers:
            paid = create(PAYMENT, payment(number, number))
            log.insist(story.transaction(updated(DOSSIER, dossier(number, "da_tra")), paid))

    thread = threading.Thread(target=work, name="legacy system")
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_kills_and_a_crash_of_kafka_make_no_difference(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    kafka: KafkaBroker,
    simulator: RunningSimulator,
    client: httpx.Client,
    before: int,
) -> None:
    """Each judgement is in the topic once, in order; it is what the ledger has, and what EMC got but for repeats."""
    rounds = 24 if request.config.getoption("--full") else 2
    settings = kafka_settings_in(tmp_path, simulator.api, kafka.bootstrap)
    log = LoggedStory(settings)
    log.snapshot((SERVICE, service(1)))
    simulator.set_faults(client, {"kind": "drop_answer", "rate": 0.05})
    for number in range(rounds):
        dossiers = range(1 + number * EACH, 1 + (number + 1) * EACH)
        with deliver_process(settings, tmp_path) as running:
            eventually(lambda: (settings.delivery.state / f"{settings.name}.lock").exists())
            eventually(lambda: judged(settings) >= 3 * (dossiers.start - 1))  # noqa: B023 - in this round only
            with working(log, dossiers):
                somewhere = 3 * (dossiers.start - 1) + 1 + number * 7 % (3 * EACH - 5)
                eventually(lambda: judged(settings) >= somewhere)  # noqa: B023
                if number % 8 == 1:
                    kafka.kill()
                    kafka.start()
                    eventually(lambda: judged(settings) == 3 * (dossiers.stop - 1), 180)  # noqa: B023
                running.kill()
    log.close()
    total = 3 * rounds * EACH
    simulator.set_faults(client)
    with deliver_process(settings, tmp_path) as running:
        lock = settings.delivery.state / f"{settings.name}.lock"
        eventually(lambda: lock.read_text() == str(running.process.pid))
        eventually(lambda: sum(partition.delivered for partition in status(settings)) == total)
        eventually(lambda: len(ids(settings)) >= total)
        assert running.end() == 0
    assert events(settings) == ledger(settings)
    assert len(set(ids(settings))) == total
    told = statuses(settings)
    assert told == {code(number): LIFE for number in range(1, 1 + rounds * EACH)}
    for number, got in accepted(simulator, client, before).items():
        assert list(dict.fromkeys(got)) == told[number]
