"""A connector attached to a fresh database: the tables, the least grants, capture, and what the log then holds.

Capture runs on a thread of the test (`Attached.start`, `Attached.capturing`) or as a process that can be killed
(`capture_process`). Every wait is for a condition and has a deadline.
"""

from __future__ import annotations

import json
import string
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import psycopg
from plugins.postgres import Database
from psycopg import sql

from connector.change.decoding import ChangeDecoder
from connector.change.record import SNAPSHOT_BEGIN, SNAPSHOT_END, Change, Op
from connector.change.selection import Role, Selection, TableSelection
from connector.errors import SourceError
from connector.log.contract import LogWriter
from connector.log.opening import open_reader, open_writer
from connector.observe import Fault, Hub, Observation, SlotProgress, SourceConnected, SourceDisconnected
from connector.preflight.postgres import survey_over
from connector.preflight.setup import setup_statements
from connector.settings import Settings
from connector.source.capture import Capture
from connector.source.index import remembered

PARTITIONS = 3
PATIENCE = 60.0
SELECTION = Selection(
    (
        TableSelection("mot cua", "Hồ sơ", Role.DOSSIER, ("Mã", "trang_thai", "noi_dung")),
        TableSelection("mot cua", "thanh_toan", Role.CHILD, ("so_tien",), "ho_so_id"),
        TableSelection("mot cua", "don_vi", Role.REFERENCE, ("ten",)),
    )
)
DOSSIER, PAYMENT, UNIT = (table.full_name for table in SELECTION.tables)
TABLES = """
CREATE SCHEMA "mot cua";
CREATE TABLE "mot cua"."Hồ sơ" (
    id bigint PRIMARY KEY, "Mã" text, trang_thai text, noi_dung text, rieng_tu text, khac int
);
CREATE TABLE "mot cua".thanh_toan (id bigint PRIMARY KEY, ho_so_id bigint, so_tien numeric(14,2), ghi_chu text);
CREATE TABLE "mot cua".don_vi (id int PRIMARY KEY, ten text);
CREATE TABLE "mot cua".nhat_ky (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, dong text);
INSERT INTO "mot cua".don_vi VALUES (1, E'Sở Tư pháp\\t\\\\ "một"');
INSERT INTO "mot cua"."Hồ sơ" SELECT g, 'M' || g, 'moi', NULL, 'bí mật', 0 FROM generate_series(1, 30) g;
INSERT INTO "mot cua".thanh_toan SELECT g, g, g * 1.5, '' FROM generate_series(1, 30) g;
"""
# Text that does not compress, so that PostgreSQL moves it out of the row.
BIG = "".join(Random(1).choices(string.ascii_letters + string.digits, k=100_000))


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class Running:
    """Capture on its own thread, with what it observed and how it ended."""

    def __init__(
        self,
        settings: Settings,
        selection: Selection = SELECTION,
        writer: Callable[[], LogWriter] | None = None,
        slot_timeout: float = 30.0,
    ) -> None:
        self.seen: list[Observation] = []
        self.failure: BaseException | None = None
        self._stop = threading.Event()
        hub = Hub()
        hub.subscribe(self.seen.append)
        self._capture = Capture(
            settings,
            selection,
            writer or (lambda: open_writer(settings)),
            lambda: open_reader(settings),
            hub,
            slot_timeout=slot_timeout,
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._capture.run(self._stop)
        except BaseException as error:
            self.failure = error

    @property
    def sessions(self) -> int:
        """How often streaming began."""
        return len([one for one in self.seen if isinstance(one, SourceConnected)])

    @property
    def disconnects(self) -> int:
        """How often a session ended."""
        return len([one for one in self.seen if isinstance(one, SourceDisconnected)])

    @property
    def feedbacks(self) -> list[SlotProgress]:
        """What the server was told."""
        return [one for one in self.seen if isinstance(one, SlotProgress)]

    @property
    def faults(self) -> list[Fault]:
        """What it met and went on from, or not."""
        return [one for one in self.seen if isinstance(one, Fault)]

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition; capture must not have given up before."""

        def met() -> bool:
            if self.failure is not None:
                raise self.failure
            return condition()

        until(met, what)

    def until_streaming(self, sessions: int = 1) -> None:
        """Wait until the `sessions`-th stream has begun. Raises what capture gave up for."""
        self.until(lambda: self.sessions >= sessions, "streaming")

    def end(self) -> None:
        """Stop in order, whatever had happened."""
        self._stop.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "capture stops"


class Attached:
    """A connector on a fresh database, and the application's own connection."""

    def __init__(self, database: Database, directory: Path, tables: str = TABLES) -> None:
        self.database = database
        self.decoded = database
        """Where capture connects to: a standby of the database, or what has taken its place."""
        self.dsn = ""
        """Where capture connects to instead, if not straight to `decoded`."""
        self.directory = directory
        self.selection = SELECTION
        self.name = "thu"
        self.log: dict[str, Any] = {"embedded": {"path": str(directory / "log.sqlite")}}
        self.settings = self.settings_with()
        self.owner = self.connect()
        self.owner.execute(tables.encode())

    def set_up(self, only: str = "") -> None:
        """Run what `emc-cdc setup` prints, each part as the one whom it names; or only one's part."""
        found = survey_over(self.owner, "emc_cdc", self.settings, self.selection)
        for statement in setup_statements(found):
            if only and statement.who != only:
                continue
            with self.connect("owner" if statement.who == "owner" else "postgres") as runner:
                runner.execute(statement.sql.encode())

    def written(self, **source: Any) -> dict[str, Any]:
        """The settings as they would stand in the file."""
        return {
            "name": self.name,
            "source": {
                "dsn": self.dsn or self.decoded.dsn("emc_cdc"),
                "data": str(self.directory / "capture"),
                "feedback_interval": 0.2,
                **source,
            },
            "log": {"partitions": PARTITIONS, **self.log},
        }

    def settings_with(self, **source: Any) -> Settings:
        """The settings, some of those of the source others."""
        return Settings.model_validate(self.written(**source))

    def connect(self, role: Any = "owner") -> psycopg.Connection:
        """Another connection of the application's, the superuser's or the connector's role."""
        return psycopg.connect(self.database.dsn(role), autocommit=True, client_encoding="utf8")

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """A superuser's question."""
        with self.connect("postgres") as admin:
            return admin.execute(query.encode(), values).fetchall()

    def close(self) -> None:
        self.owner.close()

    # -- capture -----------------------------------------------------------------------------------------------------

    def start(self, **how: Any) -> Running:
        """Capture on a thread; to be ended."""
        return Running(how.pop("settings", self.settings), how.pop("selection", self.selection), **how)

    @contextmanager
    def capturing(self, **how: Any) -> Iterator[Running]:
        """Capture works inside the block, and has handed over everything at its end. Raises what it gave up for."""
        running = self.start(**how)
        try:
            running.until_streaming()
            yield running
            self.settle(running)
        finally:
            running.end()
        if running.failure is not None:
            raise running.failure

    def refused(self, **how: Any) -> SourceError:
        """The error for which capture gives up."""
        running = self.start(**how)
        try:
            until(lambda: running.failure is not None, "capture gives up")
        finally:
            running.end()
        assert isinstance(running.failure, SourceError), running.failure
        # Whoever does not get as far as a session has nothing to observe.
        assert [fault.cause for fault in running.faults] in ([], [running.failure.cause])
        return running.failure

    @contextmanager
    def process(self, crash_after: int = 0, **source: Any) -> Iterator[subprocess.Popen[str]]:
        """Capture in a process of its own; see capture_process.py. It is killed at the end of the block."""
        program = Path(__file__).with_name("capture_process.py")
        command = [sys.executable, str(program), json.dumps(self.written(**source)), str(crash_after)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            # Whoever reads its lines must not wait for ever.
            deadline = threading.Timer(2 * PATIENCE, process.kill)
            deadline.start()
            try:
                yield process
            finally:
                deadline.cancel()
                process.kill()

    # -- what there is -----------------------------------------------------------------------------------------------

    def slot(self, column: str) -> Any:
        """A column of the slot's row in pg_replication_slots; None without a slot."""
        question = f"SELECT {column} FROM pg_replication_slots WHERE slot_name = %s"
        with psycopg.connect(self.decoded.dsn("postgres"), autocommit=True) as admin:
            found = admin.execute(question.encode(), (self.settings.slot,)).fetchall()
        return found[0][0] if found else None

    def settle(self, running: Running | None = None) -> None:
        """Wait until no snapshot is under way and the slot has confirmed everything there is now."""
        self.settle_stream(running)
        (until if running is None else running.until)(self.read, "the tables are read")

    def settle_stream(self, running: Running | None = None) -> None:
        """Wait until the slot has confirmed everything there is now, and needs no other."""
        end = self.ask("SELECT pg_current_wal_lsn()::text")[0][0]
        wait = until if running is None else running.until
        wait(lambda: bool(self.slot(f"confirmed_flush_lsn >= '{end}'")) and not self.gap(), "the slot moves on")

    def read(self) -> bool:
        """Whether the tables are read, and need not be read anew."""
        meta = remembered(self.settings.index)
        return meta.get("state") == "streaming" and not meta.get("snapshot") and not meta.get("gap")

    def gap(self) -> bool:
        """Whether the tables must be read anew, and have not begun to be."""
        meta = remembered(self.settings.index)
        return meta.get("state") == "streaming" and bool(meta.get("gap"))

    def records(self) -> list[list[Change]]:
        """The whole log, by partition."""
        reader = open_reader(self.settings)
        try:
            decoder = ChangeDecoder(reader.schema)
            ends = reader.ends()
            reader.assign(dict.fromkeys(range(PARTITIONS), 0))
            found: list[list[Change]] = [[] for _ in range(PARTITIONS)]
            while any(reader.positions()[partition] < end for partition, end in ends.items()):
                for record in reader.poll(1.0, 1000):
                    found[record.partition].append(decoder.decode(record.key, record.value))
            return found
        finally:
            reader.close()

    def streamed(self, table: str) -> list[Change]:
        """A table's records that are not reads, partition by partition."""
        return [c for partition in self.records() for c in partition if c.table == table and c.op is not Op.READ]

    def assert_exact(self) -> None:
        """The log tells exactly what the tables hold now, its positions rise, and nothing is in it twice."""
        records = self.records()
        for table in self.selection.tables:
            names = ("id", *table.columns, *([table.link] if table.link else []))
            columns = sql.SQL(", ").join(map(sql.Identifier, names))
            name = sql.Identifier(table.schema, table.name)
            with self.connect() as owner:
                expected = owner.execute(sql.SQL("SELECT {} FROM {}").format(columns, name)).fetchall()
            found = fold(records, table.full_name).values()
            assert sorted((tuple(row[column] for column in names) for row in found), key=repr) == (
                sorted(expected, key=repr)
            )
        for partition in records:
            assert_ordered(partition)


def assert_ordered(partition: list[Change]) -> None:
    """Positions never fall, those of the stream rise strictly, and only a transaction's last record is marked."""
    assert [c.position for c in partition] == sorted(c.position for c in partition)
    streamed = [change for change in partition if change.transaction]
    assert len({change.position for change in streamed}) == len(streamed)
    marked = [change.transaction for change in streamed if change.last]
    assert marked == list(dict.fromkeys(change.transaction for change in streamed))
    for change, following in zip(streamed, [*streamed, None][1:], strict=True):
        assert change.last == (following is None or following.transaction != change.transaction)


def assert_told_once(records: list[list[Change]]) -> None:
    """No change stands twice in a partition, not even under two epochs; for a log of one history of WAL."""
    for partition in records:
        told = [(change.transaction, *change.position[1:]) for change in partition if change.transaction]
        assert len(told) == len(set(told))


def fold(records: list[list[Change]], table: str) -> dict[str, dict[str, Any]]:
    """A table's rows as the log tells them, all partitions together."""
    found: dict[str, dict[str, Any]] = {}
    for rows in (fold_partition(partition, table) for partition in records):
        for key, row in rows.items():
            assert found.setdefault(key, row) == row, "the same row is told in two ways"
    return found


def fold_partition(partition: list[Change], table: str) -> dict[str, dict[str, Any]]:
    """A table's rows as one partition tells them."""
    rows: dict[str, dict[str, Any]] = {}
    unread: set[str] = set()
    for change in partition:
        if change.marker == SNAPSHOT_BEGIN:
            unread = set(rows) if table in json.loads(change.content)["tables"] else set()
        elif change.marker == SNAPSHOT_END:
            for key in unread:
                del rows[key]
            unread = set()
        if change.table != table:
            continue
        unread -= set(change.key[:1])
        if change.op is Op.TRUNCATE:
            rows.clear()
        elif change.after is None:
            rows.pop(change.key[0], None)
        else:
            rows[change.key[0]] = change.after
    return rows
