"""Capture on a real server: snapshot, stream, restart; what the log then holds."""

from __future__ import annotations

import string
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import psycopg
import pytest
from plugins.postgres import Database

from connector.change.decoding import ChangeDecoder
from connector.change.record import Change, Op
from connector.change.selection import Role, Selection, TableSelection
from connector.errors import SourceError
from connector.log.opening import open_reader, open_writer
from connector.observe import Hub, Observation, SourceConnected
from connector.preflight.setup import setup_statements
from connector.settings import Settings
from connector.source.capture import Capture

PARTITIONS = 3
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
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class Attached:
    """A connector on a fresh database, and the application's own connection."""

    def __init__(self, database: Database, directory: Path) -> None:
        self.database = database
        self.settings = Settings.model_validate(
            {
                "name": "thu",
                "source": {"dsn": database.dsn("emc_cdc"), "data": directory / "capture"},
                "log": {"partitions": PARTITIONS, "embedded": {"path": directory / "log.sqlite"}},
            }
        )
        self.owner = psycopg.connect(database.dsn("owner"), autocommit=True)
        self.owner.execute(TABLES)
        keys = {table.full_name: ["id"] for table in SELECTION.tables}
        for statement in setup_statements(self.settings.publication, "emc_cdc", SELECTION, keys, 150000):
            if statement.who == "owner":
                self.owner.execute(statement.sql.encode())

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Capture works inside the block, and has handed over everything at its end."""
        hub, stop, connected = Hub(), threading.Event(), threading.Event()

        def observe(observation: Observation) -> None:
            if isinstance(observation, SourceConnected):
                connected.set()

        hub.subscribe(observe)
        failures: list[BaseException] = []

        def run() -> None:
            try:
                Capture(
                    self.settings,
                    SELECTION,
                    lambda: open_writer(self.settings),
                    lambda: open_reader(self.settings),
                    hub,
                ).run(stop)
            except BaseException as error:
                failures.append(error)
                connected.set()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            assert connected.wait(30)
            if not failures:
                yield
                self.settle()
        finally:
            stop.set()
            thread.join(30)
        if failures:
            raise failures[0]

    def settle(self) -> None:
        """Wait until the slot has confirmed everything there is now."""
        with psycopg.connect(self.database.dsn("postgres"), autocommit=True) as admin:
            end = admin.execute("SELECT pg_current_wal_lsn()").fetchall()[0][0]
            query = "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name = %s"
            until(lambda: admin.execute(query, (end, self.settings.slot)).fetchall() == [(True,)], "the slot moves on")

    def records(self) -> list[list[Change]]:
        """The whole log, by partition."""
        reader = open_reader(self.settings)
        try:
            decoder = ChangeDecoder(reader.schema)
            reader.assign(dict.fromkeys(range(PARTITIONS), 0))
            found: list[list[Change]] = [[] for _ in range(PARTITIONS)]
            while records := reader.poll(0.2, 1000):
                for record in records:
                    found[record.partition].append(decoder.decode(record.key, record.value))
            return found
        finally:
            reader.close()


@pytest.fixture
def attached(database: Database, tmp_path: Path) -> Iterator[Attached]:
    """A connector that has not been started yet."""
    made = Attached(database, tmp_path)
    yield made
    made.owner.close()


def fold(records: list[list[Change]], table: str) -> dict[str, dict[str, object]]:
    """A table's rows as the log tells them."""
    rows: dict[str, dict[str, object]] = {}
    for partition in records:
        for change in partition:
            if change.table == table and change.op is not Op.TRUNCATE:
                if change.after is None:
                    rows.pop(change.key[0], None)
                else:
                    rows[change.key[0]] = change.after
    return rows


def test_snapshot_and_stream_meet(attached: Attached) -> None:
    """Every row is read once, changes follow in order, and only mapped columns are in the log."""
    with attached.capturing():
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'nhan', rieng_tu = 'x' WHERE id <= 5""")
        attached.owner.execute("""DELETE FROM "mot cua"."Hồ sơ" WHERE id = 30""")
        attached.owner.execute("""INSERT INTO "mot cua"."Hồ sơ" VALUES (31, 'M31', 'moi', NULL, 'y', 1)""")
    records = attached.records()
    expected = attached.owner.execute("""SELECT id, "Mã", trang_thai, noi_dung FROM "mot cua"."Hồ sơ" """).fetchall()
    found = fold(records, DOSSIER)
    assert sorted(tuple(row[name] for name in ("id", "Mã", "trang_thai", "noi_dung")) for row in found.values()) == (
        sorted(expected)
    )
    assert set(found["1"]) == {"id", "Mã", "trang_thai", "noi_dung"}
    for partition in records:
        streamed = [change.position for change in partition if change.op is not Op.READ and change.transaction]
        assert streamed == sorted(set(streamed))
        assert next(row for row in partition if row.table == UNIT).after == {"id": 1, "ten": 'Sở Tư pháp\t\\ "một"'}


def test_a_restart_adds_nothing_and_loses_nothing(attached: Attached) -> None:
    """Changes made while capture was away are in the log once."""
    with attached.capturing():
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'a'""")
    attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'b'""")
    with attached.capturing():
        pass
    with attached.capturing():
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'c'""")
    updates = [c for partition in attached.records() for c in partition if c.op is Op.UPDATE]
    assert len(updates) == 90
    assert len({(c.position, c.key) for c in updates}) == 90


@pytest.mark.parametrize("lose_index", [False, True])
def test_an_unchanged_large_value_is_never_a_hole(attached: Attached, lose_index: bool) -> None:
    """A TOASTed value that a statement leaves alone stays in every record, after a restart and a lost index, too."""
    with attached.capturing():
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET noi_dung = %s WHERE id = 7""", (BIG,))
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x' WHERE id = 7""")
    if lose_index:
        for file in attached.settings.source.data.glob("thu.index.sqlite*"):
            file.unlink()
    with attached.capturing():
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'y' WHERE id = 7""")
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET id = 700 WHERE id = 7""")
    changes = [c for p in attached.records() for c in p if c.table == DOSSIER and c.key[0] in ("7", "700")]
    values = [c.after["noi_dung"] for c in changes if c.after is not None and c.op is not Op.READ]
    assert values == [BIG] * 4
    moved = {c.key: (c.op, c.position.sub) for c in changes[-2:]} | {
        c.key: (c.op, c.position.sub) for c in changes if c.key == ("700",)
    }
    assert moved[("700",)] == (Op.CREATE, 1)
    assert [c.op for c in changes if c.key == ("7",)][-1] is Op.DELETE


def test_children_follow_their_dossier(attached: Attached) -> None:
    """A child's delete finds its partition by the index; a moved child is gone here and new there."""
    with attached.capturing():
        attached.owner.execute("""UPDATE "mot cua".thanh_toan SET ho_so_id = 2 WHERE id = 1""")
        attached.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id = 3""")
        attached.owner.execute("""INSERT INTO "mot cua".thanh_toan VALUES (99, NULL, 1, '')""")
        attached.owner.execute("""TRUNCATE "mot cua".don_vi""")
    records = attached.records()
    where = {change.key: number for number, p in enumerate(records) for change in p if change.table == DOSSIER}
    for number, partition in enumerate(records):
        moved = [(c.op, c.position.sub) for c in partition if c.table == PAYMENT and c.key == ("1",) and c.transaction]
        expected = []
        if number == where[("1",)]:
            expected.append((Op.DELETE, 0))
        if number == where[("2",)]:
            expected.append((Op.CREATE, 1))
        assert moved == expected
        gone = [c for c in partition if c.table == PAYMENT and c.key == ("3",) and c.op is Op.DELETE]
        assert len(gone) == (number == where[("3",)])
        assert [c.key for c in partition if c.table == PAYMENT and c.key == ("99",)] == [("99",)]
        assert [c.op for c in partition if c.table == UNIT][-1] is Op.TRUNCATE


def test_a_transaction_s_last_record_is_marked(attached: Attached) -> None:
    """In every partition that a transaction touches, exactly its last record says so; savepoints leave no trace."""
    with attached.capturing(), attached.owner.transaction():
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x' WHERE id <= 10""")
        with attached.owner.transaction(force_rollback=True):
            attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'never'""")
        attached.owner.execute("""UPDATE "mot cua".thanh_toan SET so_tien = 2 WHERE id <= 10""")
    for partition in attached.records():
        marks = [change.last for change in partition if change.transaction]
        assert marks == [False] * (len(marks) - 1) + [True]
        assert not [c for c in partition if c.after and c.after.get("trang_thai") == "never"]


def test_an_idle_slot_moves_on(attached: Attached) -> None:
    """A busy neighbour table makes the slot retain nothing."""
    with attached.capturing():
        for _ in range(20):
            attached.owner.execute("""INSERT INTO "mot cua".nhat_ky (dong) SELECT 'x' FROM generate_series(1, 500)""")
        attached.settle()
    assert not [c for p in attached.records() for c in p if "nhat_ky" in c.table]


@pytest.mark.parametrize("lost", ["dropped", "recreated"])
def test_a_gap_is_never_skipped(attached: Attached, lost: str) -> None:
    """A slot that was dropped or made anew while we were away stops the start, which says why."""
    with attached.capturing():
        pass
    with psycopg.connect(attached.database.dsn("postgres"), autocommit=True) as admin:
        admin.execute("SELECT pg_drop_replication_slot(%s)", (attached.settings.slot,))
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'missed'""")
        if lost == "recreated":
            admin.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (attached.settings.slot,))
    expected = "does not exist any more" if lost == "dropped" else "moved on by somebody else"
    with pytest.raises(SourceError) as raised, attached.capturing():
        pass
    assert expected in raised.value.cause
    assert "pg_drop_replication_slot" in raised.value.mend
