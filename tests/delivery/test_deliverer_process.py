"""Delivery as a process: killed in the middle, started twice, begun on files that are lost or damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
from deliver_process import DeliverProcess, accepted, deliver_process, eventually
from delivery_story import DOSSIER, PAYMENT, SERVICE, LoggedStory, code, create, dossier, payment, service, settings_in
from delivery_story import update as updated
from emc.simulator_process import RunningSimulator

from connector.delivery.directory import partition_path
from connector.delivery.status import ambiguous_attempts, status
from connector.settings import Settings

DOSSIERS = range(1, 61)


def delivered(settings: Settings) -> int:
    return sum(partition.delivered for partition in status(settings))


def write_lives(log: LoggedStory) -> None:
    for number in DOSSIERS:
        log.transaction(create(DOSSIER, dossier(number)))
    for number in DOSSIERS:
        log.transaction(updated(DOSSIER, dossier(number, "dang_xu_ly")))
    for number in DOSSIERS:
        log.transaction(updated(DOSSIER, dossier(number, "da_tra")), create(PAYMENT, payment(number, number)))


def without_repeats(statuses: list[int]) -> list[int]:
    """Each run of the same status once."""
    return [status for at, status in enumerate(statuses) if at == 0 or statuses[at - 1] != status]


def test_killed_in_the_middle_of_pushes(
    tmp_path: Path, simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """Several kills while answers are slow: nothing is lost, order is kept, and every repeat is on record."""
    settings = settings_in(tmp_path, simulator.api)
    log = LoggedStory(settings)
    log.snapshot((SERVICE, service(1)))
    write_lives(log)
    log.close()
    simulator.set_faults(client, {"kind": "delay", "seconds": 0.05}, {"kind": "drop_answer", "rate": 0.05})

    def arrived() -> int:
        return sum(map(len, accepted(simulator, client, before).values()))

    for kill in range(3):
        enough = 25 * (kill + 1)
        with deliver_process(settings, tmp_path) as running:
            eventually(lambda: arrived() >= enough)  # noqa: B023 - called in this round only
            running.kill()
    simulator.set_faults(client)
    with deliver_process(settings, tmp_path) as running:
        eventually(lambda: delivered(settings) == 3 * len(DOSSIERS))
        assert running.end() == 0
    found = accepted(simulator, client, before)
    assert {number: without_repeats(statuses) for number, statuses in found.items()} == {
        code(number): [1, 2, 3] for number in DOSSIERS
    }
    repeats = sum(len(statuses) - 3 for statuses in found.values())
    on_record = {(one.code, one.status): one.times for one in ambiguous_attempts(settings)}
    assert 0 < repeats <= sum(on_record.values())
    for number, statuses in found.items():
        for told in (1, 2, 3):
            assert statuses.count(told) - 1 <= on_record.get((number, told), 0)


def test_a_stop_waits_for_what_is_in_flight(
    tmp_path: Path, simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """Nothing of an orderly end is ambiguous, and the next start repeats nothing."""
    settings = settings_in(tmp_path, simulator.api)
    log = LoggedStory(settings)
    log.snapshot((SERVICE, service(1)))
    write_lives(log)
    log.close()
    simulator.set_faults(client, {"kind": "delay", "seconds": 0.2})
    with deliver_process(settings, tmp_path) as running:
        eventually(lambda: bool(accepted(simulator, client, before)))
        assert running.end() == 0
    assert ambiguous_attempts(settings) == []
    simulator.set_faults(client)
    with deliver_process(settings, tmp_path) as running:
        eventually(lambda: delivered(settings) == 3 * len(DOSSIERS))
        assert running.end() == 0
    assert accepted(simulator, client, before) == {code(number): [1, 2, 3] for number in DOSSIERS}


def begun(tmp_path: Path, simulator: RunningSimulator) -> Settings:
    """A directory in which one dossier was told."""
    settings = settings_in(tmp_path, simulator.api)
    log = LoggedStory(settings)
    log.snapshot((SERVICE, service(1)))
    log.transaction(create(DOSSIER, dossier(1)))
    log.close()
    with deliver_process(settings, tmp_path) as running:
        eventually(lambda: delivered(settings) == 1)
        assert running.end() == 0
    return settings


def refused(running: DeliverProcess) -> str:
    """What it says when it ends by itself: for a person, never a traceback."""
    code = running.ended()
    told = running.lines.read_text(encoding="utf-8")
    assert code == 2, told
    assert "Traceback" not in told
    return " ".join(told.split())


def test_a_second_process_is_refused(tmp_path: Path, simulator: RunningSimulator) -> None:
    """The first goes on undisturbed; when it is killed, the next may begin."""
    settings = begun(tmp_path, simulator)
    (tmp_path / "second").mkdir()
    with deliver_process(settings, tmp_path) as first:
        eventually(lambda: (settings.delivery.state / "demo.lock").read_text() == str(first.process.pid))
        with deliver_process(settings, tmp_path / "second") as second:
            assert f"pid {first.process.pid}" in refused(second)
        assert first.process.poll() is None
        first.kill()
    with deliver_process(settings, tmp_path) as third:
        eventually(lambda: (settings.delivery.state / "demo.lock").read_text() == str(third.process.pid))
        assert third.end() == 0


def test_a_lost_file_is_made_anew(
    tmp_path: Path, simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """What EMC is owed stood in it, and is recorded beside the log; so is what EMC has heard."""
    settings = begun(tmp_path, simulator)
    for number in range(settings.log.partitions):
        partition_path(settings.delivery.state, settings.name, number).unlink()
    with deliver_process(settings, tmp_path) as running:
        goes_on(settings)
        eventually(lambda: accepted(simulator, client, before) == {code(1): [1, 2]})
        assert running.end() == 0


def goes_on(settings: Settings) -> None:
    """The dossier of `begun` is worked on."""
    log = LoggedStory(settings)
    log.story.lsn += 0x10000
    log.transaction(updated(DOSSIER, dossier(1, "dang_xu_ly")))
    log.close()


def test_a_file_that_is_lost_with_its_record_is_not_begun_anew(tmp_path: Path, simulator: RunningSimulator) -> None:
    """The operator decides, and a restored copy goes on."""
    settings = begun(tmp_path, simulator)
    lost = partition_path(settings.delivery.state, settings.name, 1)
    shutil.move(lost, tmp_path / "copy")
    for file in tmp_path.glob("log.sqlite.deliveries*"):
        file.unlink()
    with deliver_process(settings, tmp_path) as running:
        assert "restore it from a backup" in refused(running)
    assert not lost.exists()
    shutil.move(tmp_path / "copy", lost)
    with deliver_process(settings, tmp_path) as running:
        eventually(lambda: (settings.delivery.state / "demo.lock").read_text() == str(running.process.pid))
        assert running.end() == 0


def test_a_damaged_file_is_put_aside(
    tmp_path: Path, simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """It is named, kept, and made anew; EMC hears nothing twice."""
    settings = begun(tmp_path, simulator)
    damaged = [partition_path(settings.delivery.state, settings.name, number) for number in range(2)]
    for file in damaged:
        file.write_bytes(b"no database" * 1000)
    with deliver_process(settings, tmp_path) as running:
        goes_on(settings)
        eventually(lambda: accepted(simulator, client, before) == {code(1): [1, 2]})
        assert running.end() == 0
    told = running.lines.read_text(encoding="utf-8")
    for file in damaged:
        assert file.name in told
        [kept] = [each for each in file.parent.glob(f"{file.name}.aside-*") if each.suffix not in ("-wal", "-shm")]
        assert kept.read_bytes() == b"no database" * 1000


def test_a_log_that_was_begun_anew_is_refused(tmp_path: Path, simulator: RunningSimulator) -> None:
    """The state is further than that log: going on would pass over what it holds."""
    settings = begun(tmp_path, simulator)
    for file in tmp_path.glob("log.sqlite*"):
        file.unlink()
    LoggedStory(settings).close()
    with deliver_process(settings, tmp_path) as running:
        assert "not the log that was read before" in refused(running)
