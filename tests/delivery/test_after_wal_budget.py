"""The whole way of cases.md: the log is away, wal_budget passes, the slot goes; later EMC hears what it missed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
from deliver_process import PATIENCE, accepted, delivering, eventually
from delivery_story import code, plan, settings_in
from emc.simulator_process import RunningSimulator
from plugins.log import Around
from plugins.postgres import Database

from connector.delivery.status import status
from connector.errors import LogUnavailable
from connector.log.contract import Entry, LogWriter
from connector.log.opening import open_reader, open_writer
from connector.observe import EventDue, Fault, Hub, Observation, PushAnswered, SourceConnected
from connector.preflight.postgres import survey_over
from connector.preflight.setup import setup_statements
from connector.settings import Settings
from connector.source.capture import Capture

TABLES = """
CREATE SCHEMA m;
CREATE TABLE m.ho_so (
    id bigint PRIMARY KEY, ma text, trang_thai text, tiep_nhan bool, thu_tuc_id bigint, tai_khoan text
);
CREATE TABLE m.thanh_toan (id bigint PRIMARY KEY, ho_so_id bigint, trang_thai text, hinh_thuc text);
CREATE TABLE m.thu_tuc (id bigint PRIMARY KEY, ma text, ten text);
INSERT INTO m.thu_tuc VALUES (1, '2.000001', 'Cấp đổi');
"""
CREATE = "INSERT INTO m.ho_so VALUES (%s, %s, %s, true, 1, 'QG-1')"
MOVE = "UPDATE m.ho_so SET trang_thai = %s WHERE id = %s"


class Away:
    """The real log, which takes nothing while it is away."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.away = threading.Event()

    def writer(self) -> LogWriter:
        """A writer of it."""
        return _Writer(self, open_writer(self._settings))

    def require(self) -> None:
        """LogUnavailable while it is away."""
        if self.away.is_set():
            raise LogUnavailable("write to the change log", "the log", "it is away", "bring it back")


class _Writer(Around):
    def __init__(self, log: Away, writer: LogWriter) -> None:
        super().__init__(writer)
        self._log = log

    def open(self) -> Mapping[int, bytes]:
        self._log.require()
        return super().open()

    def register(self, schema: str) -> int:
        self._log.require()
        return super().register(schema)

    def append(self, entries: Sequence[Entry]) -> None:
        self._log.require()
        super().append(entries)


@contextmanager
def capturing(settings: Settings, log: Away) -> Iterator[list[Observation]]:
    """Capture while the block runs; what it tells."""
    seen: list[Observation] = []
    hub, stop = Hub(), threading.Event()
    hub.subscribe(seen.append)
    capture = Capture(settings, plan().selection, log.writer, lambda: open_reader(settings), hub)
    thread = threading.Thread(target=capture.run, args=(stop,), name="capture under test")
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join(PATIENCE)
    assert not thread.is_alive()


def test_what_was_missed_is_recovered(
    database: Database, tmp_path: Path, simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """Only what changed while there was no slot is told, in order, and flagged; what did not change is not told."""
    settings = settings_in(tmp_path, simulator.api)
    source = {
        "dsn": database.dsn("emc_cdc"),
        "data": tmp_path / "capture",
        "feedback_interval": 0.2,
        "stall_timeout": 1.0,
        "wal_budget": "40MB",
        "on_wal_budget": "drop_slot",
    }
    settings = Settings.model_validate({**settings.model_dump(exclude={"source"}), "source": source})
    with psycopg.connect(database.dsn("owner"), autocommit=True) as owner:
        owner.execute(TABLES.encode())
        for statement in setup_statements(survey_over(owner, "emc_cdc", settings, plan().selection)):
            owner.execute(statement.sql.encode())
        owner.execute(CREATE, (1, code(1), "dang_xu_ly"))
        log = Away(settings)
        with capturing(settings, log) as seen:
            eventually(lambda: any(isinstance(one, SourceConnected) for one in seen))
            with delivering(settings) as run:
                for number in (2, 3):
                    owner.execute(CREATE, (number, code(number), "moi"))
                run.until(lambda: len(run.of(PushAnswered)) == 2)
                log.away.set()
                owner.execute(MOVE, ("da_tra", 2))
                for number in range(4):
                    owner.execute(f"CREATE TABLE m.nhat_ky_{number} ()".encode())
                    admin(database, "SELECT pg_switch_wal()")
                slot = "SELECT 1 FROM pg_replication_slots WHERE slot_name = 'emc_cdc_demo'"
                eventually(lambda: admin(database, slot) == [])
                owner.execute(CREATE, (4, code(4), "da_tra"))
                log.away.clear()
                run.until(lambda: len(run.of(PushAnswered)) >= 5)
                owner.execute(MOVE, ("da_tra", 3))
                run.until(lambda: len(run.of(PushAnswered)) >= 6)
    assert accepted(simulator, client, before) == {code(2): [1, 3], code(3): [1, 3], code(4): [1, 3]}
    recovered = [(each.code, each.status) for each in run.of(EventDue) if each.recovered]
    assert sorted(recovered) == [(code(2), 3), (code(4), 1), (code(4), 3)]
    assert sum(partition.recovered for partition in status(settings)) == 3
    assert not any(one.fatal for one in seen if isinstance(one, Fault))


def admin(database: Database, query: str) -> list[tuple[object, ...]]:
    """A superuser's question."""
    with psycopg.connect(database.dsn("postgres"), autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()
