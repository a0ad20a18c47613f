"""The consumer that docs/events.md shows runs as it stands there."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from deliver_process import delivering, eventually
from delivery_story import (
    DOSSIER,
    SERVICE,
    LoggedStory,
    Story,
    code,
    create,
    dossier,
    kafka_settings_in,
    service,
)
from delivery_story import update as updated
from emc.simulator_process import RunningSimulator
from plugins.kafka import KafkaBroker
from published_events import ids

from connector.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "events.md"


class Example:
    """The program in a directory of its own, as a process that may be killed; `lines` is all that it ever wrote."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self._directory = directory
        self._output = directory / "output.txt"
        self._program = PAGE.read_text("utf-8").split("```python\n")[1].split("```")[0]
        assert settings.log.kafka is not None
        for placeholder, value in (("kafka:9092", settings.log.kafka.brokers), ("mot-cua", settings.name)):
            assert f'"{placeholder}"' in self._program
            self._program = self._program.replace(placeholder, value)

    @contextmanager
    def running(self, group: str) -> Iterator[subprocess.Popen[bytes]]:
        program = self._program.replace('"sms"', f'"{group}"')
        with self._output.open("a") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", program], cwd=self._directory, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def has_told(self, count: int) -> bool:
        """So many messages, and it has noted them: what is killed before repeats the last one."""
        if not (self._directory / "sent.sqlite").exists():
            return False
        with closing(sqlite3.connect(self._directory / "sent.sqlite")) as db:
            made = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'sent'").fetchone()
            return made is not None and db.execute("SELECT count(*) FROM sent").fetchone()[0] >= count

    @property
    def lines(self) -> list[str]:
        return self._output.read_text("utf-8").splitlines()


def test_the_documented_consumer_tells_each_citizen_once(
    tmp_path: Path, simulator: RunningSimulator, kafka: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order per dossier, nothing that is old; after a kill, and read again from the beginning, nothing twice."""
    settings = kafka_settings_in(tmp_path, simulator.api, kafka.bootstrap)
    example = Example(tmp_path, settings)
    log = LoggedStory(settings)
    log.snapshot((SERVICE, service(1)))
    log.transaction(create(DOSSIER, dossier(1)))
    monkeypatch.setattr(Story, "time_us", property(lambda _: int(time.time() * 1e6)))
    with delivering(settings):
        log.transaction(updated(DOSSIER, dossier(1, "dang_xu_ly")))
        log.transaction(create(DOSSIER, dossier(2)))
        eventually(lambda: len(ids(settings)) == 3)
        with example.running("sms") as program:
            eventually(lambda: example.has_told(2))
            program.kill()
        log.transaction(updated(DOSSIER, dossier(2, "dang_xu_ly")))
        # Each in a group of its own, so that nobody waits until a dead one's session is over.
        with example.running("another") as program:
            eventually(lambda: example.has_told(3))
            program.kill()
        log.transaction(updated(DOSSIER, dossier(2, "da_tra")))
        with example.running("a third"):
            eventually(lambda: example.has_told(4))
    log.close()
    assert [line for line in example.lines if code(1) in line] == [f"QG-1: Hồ sơ {code(1)} đang được xử lý."]
    assert [line for line in example.lines if code(2) in line] == [
        f"QG-2: Hồ sơ {code(2)} {what}." for what in ("đã được tiếp nhận", "đang được xử lý", "đã có kết quả")
    ]
    assert len(example.lines) == 4
