"""Rows of every kind of table: identities, partitions, names, encodings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from attached_source import DOSSIER, PAYMENT, Attached, fold_partition
from plugins.postgres import Database

from connector.change.record import Op
from connector.change.selection import Role, Selection, TableSelection
from connector.errors import SourceError


def stopped(attached: Attached, statements: str) -> SourceError:
    """The error with which capture gives up after the application's statements."""
    running = attached.start()
    try:
        running.until_streaming()
        attached.owner.execute(statements.encode())
        with pytest.raises(SourceError) as told:
            running.until(lambda: False, "capture stops")
    finally:
        running.end()
    return told.value


def attach(database: Database, directory: Path, tables: str, *selected: TableSelection) -> Attached:
    """A connector for other tables."""
    made = Attached(database, directory, tables)
    made.selection = Selection(selected)
    made.set_up()
    return made


def test_the_replica_identity_may_change_while_running(attached: Attached) -> None:
    """Default, full, the key's own index, nothing, default: the rows are known by the same key all the while."""
    change = """UPDATE "mot cua"."Hồ sơ" SET trang_thai = trang_thai || '+' WHERE id = 1"""
    identity = 'ALTER TABLE "mot cua"."Hồ sơ" REPLICA IDENTITY '
    with attached.capturing(selection=attached.selection):
        for kind in ("FULL", 'USING INDEX "Hồ sơ_pkey"', "DEFAULT"):
            attached.owner.execute(change.encode())
            attached.owner.execute((identity + kind).encode())
        attached.owner.execute(change.encode())
        attached.owner.execute((identity + "NOTHING").encode())
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            attached.owner.execute(change.encode())
        attached.owner.execute("""INSERT INTO "mot cua"."Hồ sơ" VALUES (900, 'M900', 'mới')""")
        attached.owner.execute((identity + "DEFAULT").encode())
        attached.owner.execute(change.encode())
    assert [change.op for change in attached.streamed(DOSSIER)].count(Op.UPDATE) == 5
    attached.assert_exact()


def test_another_key_stops_capture(attached: Attached) -> None:
    """An identity of other columns would lose track of rows: told while running and at the next start."""
    attached.owner.execute("""ALTER TABLE "mot cua".thanh_toan ADD ma text NOT NULL DEFAULT gen_random_uuid()""")
    attached.owner.execute("""CREATE UNIQUE INDEX theo_ma ON "mot cua".thanh_toan (ma)""")
    told = stopped(
        attached,
        """ALTER TABLE "mot cua".thanh_toan REPLICA IDENTITY USING INDEX theo_ma;
        UPDATE "mot cua".thanh_toan SET so_tien = 3 WHERE id = 1""",
    )
    assert "by (id)" in told.cause
    with attached.connect("postgres") as admin:
        admin.execute("""GRANT SELECT (ma) ON "mot cua".thanh_toan TO emc_cdc""")
    assert "by (id)" in attached.refused().cause


def test_an_index_identifies_rows(database: Database, tmp_path: Path) -> None:
    """A table whose owner chose a unique index instead of the primary key is known by the index's columns."""
    attached = attach(
        database,
        tmp_path,
        """CREATE TABLE ho_so (stt int PRIMARY KEY, ma text NOT NULL, trang_thai text);
        CREATE UNIQUE INDEX theo_ma ON ho_so (ma);
        ALTER TABLE ho_so REPLICA IDENTITY USING INDEX theo_ma;
        INSERT INTO ho_so VALUES (1, 'A', 'mới'), (2, 'B', 'mới')""",
        TableSelection("public", "ho_so", Role.DOSSIER, ("trang_thai",)),
    )
    with attached.capturing():
        attached.owner.execute("UPDATE ho_so SET trang_thai = 'xong' WHERE stt = 1")
        attached.owner.execute("UPDATE ho_so SET stt = 3 WHERE stt = 1")
        attached.owner.execute("UPDATE ho_so SET ma = 'C' WHERE ma = 'B'")
        attached.owner.execute("DELETE FROM ho_so WHERE ma = 'C'")
    told = sorted((c.position, c.op, c.key) for c in attached.streamed("public.ho_so"))
    assert [(op, key) for _, op, key in told] == [
        (Op.UPDATE, ("A",)), (Op.UPDATE, ("A",)), (Op.DELETE, ("B",)), (Op.CREATE, ("C",)), (Op.DELETE, ("C",)),
    ]  # fmt: skip
    attached.close()


def test_a_dossier_s_new_key_takes_its_children_along(database: Database, tmp_path: Path) -> None:
    """ON UPDATE CASCADE moves them in the same transaction, after the dossier: each is gone there and new here."""
    attached = attach(
        database,
        tmp_path,
        """CREATE TABLE ho_so (id int PRIMARY KEY, trang_thai text);
        CREATE TABLE phi (id int PRIMARY KEY, ho_so int REFERENCES ho_so ON UPDATE CASCADE, so_tien int);
        INSERT INTO ho_so SELECT g, 'mới' FROM generate_series(1, 20) g;
        INSERT INTO phi SELECT g, g, 5 FROM generate_series(1, 20) g""",
        TableSelection("public", "ho_so", Role.DOSSIER, ("trang_thai",)),
        TableSelection("public", "phi", Role.CHILD, ("so_tien",), "ho_so"),
    )
    with attached.capturing():
        attached.owner.execute("UPDATE ho_so SET id = id + 100")
    for partition in attached.records():
        dossiers = set(fold_partition(partition, "public.ho_so"))
        assert {str(row["ho_so"]) for row in fold_partition(partition, "public.phi").values()} == dossiers
    moved = attached.streamed("public.phi")
    assert sorted(change.op.value for change in moved) == ["c"] * 20 + ["d"] * 20
    attached.assert_exact()
    attached.close()


PARTITIONED = """
CREATE TABLE ho_so (id int, nam int, trang_thai text, PRIMARY KEY (id, nam)) PARTITION BY RANGE (nam);
CREATE TABLE ho_so_2024 PARTITION OF ho_so FOR VALUES FROM (2024) TO (2025);
CREATE TABLE ho_so_2025 PARTITION OF ho_so FOR VALUES FROM (2025) TO (2026);
CREATE TABLE ho_so_2026 (nam int NOT NULL, ghi_chu text, trang_thai text, id int NOT NULL);
ALTER TABLE ho_so_2026 DROP ghi_chu, ADD PRIMARY KEY (id, nam);
INSERT INTO ho_so_2026 (id, nam, trang_thai) VALUES (50, 2026, 'cũ');
CREATE TABLE loai (id int PRIMARY KEY, ten text);
INSERT INTO ho_so VALUES (1, 2024, 'mới'), (2, 2025, 'mới')
"""


@pytest.fixture
def partitioned(database: Database, tmp_path: Path) -> Iterator[Attached]:
    """A partitioned table, one more that may become a partition, with its columns in another order."""
    made = attach(
        database,
        tmp_path,
        PARTITIONED,
        TableSelection("public", "loai", Role.DOSSIER, ("ten",)),
        TableSelection("public", "ho_so", Role.REFERENCE, ("trang_thai",)),
    )
    yield made
    made.close()


@pytest.mark.parametrize("root", ["true", "false"])
def test_a_partitioned_table_is_one_table(partitioned: Attached, root: str) -> None:
    """Whether the publication tells of the whole or of its parts; attached parts come in, detached ones go out."""
    with partitioned.capturing():
        partitioned.owner.execute(f"ALTER PUBLICATION emc_cdc_thu SET (publish_via_partition_root = {root})".encode())
        partitioned.owner.execute("INSERT INTO ho_so VALUES (3, 2024, 'mới')")
        partitioned.owner.execute("UPDATE ho_so SET nam = 2025, trang_thai = 'chuyển' WHERE id = 3")
        partitioned.owner.execute("ALTER TABLE ho_so ATTACH PARTITION ho_so_2026 FOR VALUES FROM (2026) TO (2027)")
        partitioned.owner.execute("UPDATE ho_so SET trang_thai = 'gắn vào' WHERE id = 50")
        partitioned.owner.execute("UPDATE ho_so_2024 SET trang_thai = 'trực tiếp' WHERE id = 1")
        partitioned.owner.execute("DELETE FROM ho_so WHERE id = 2")
        partitioned.owner.execute("CREATE TABLE ho_so_2027 PARTITION OF ho_so FOR VALUES FROM (2027) TO (2028)")
        partitioned.owner.execute("INSERT INTO ho_so VALUES (60, 2027, 'mới')")
        partitioned.settle()
        partitioned.owner.execute("ALTER TABLE ho_so DETACH PARTITION ho_so_2027")
        partitioned.owner.execute("UPDATE ho_so_2027 SET trang_thai = 'ngoài' WHERE id = 60")
        partitioned.owner.execute("ALTER TABLE ho_so ATTACH PARTITION ho_so_2027 FOR VALUES FROM (2027) TO (2028)")
        partitioned.owner.execute("UPDATE ho_so_2027 SET trang_thai = 'trở lại' WHERE id = 60")
    partitioned.assert_exact()
    assert {change.table for partition in partitioned.records() for change in partition} <= {
        "", "public.ho_so", "public.loai",
    }  # fmt: skip


def test_a_partition_emptied_by_itself_is_not_taken_for_the_whole(partitioned: Attached) -> None:
    """Which rows were in it nobody knows: capture says so, and the tables are read anew."""
    partitioned.settings = partitioned.settings_with(on_gap="reread")
    publication = "ALTER PUBLICATION emc_cdc_thu SET (publish_via_partition_root = {})"
    with partitioned.capturing() as running:
        partitioned.owner.execute(publication.format("false").encode())
        partitioned.owner.execute("INSERT INTO ho_so VALUES (9, 2024, 'mới'); TRUNCATE ho_so_2024")
        running.until(lambda: any("TRUNCATE" in fault.cause for fault in running.faults), "it is told")
        partitioned.owner.execute(publication.format("true").encode())
    partitioned.assert_exact()


def test_truncate_with_everything(attached: Attached) -> None:
    """Several tables, CASCADE, RESTART IDENTITY: one TRUNCATE of each captured table in every partition."""
    attached.owner.execute(
        """ALTER TABLE "mot cua".thanh_toan ADD FOREIGN KEY (ho_so_id) REFERENCES "mot cua"."Hồ sơ" """
    )
    with attached.capturing():
        attached.owner.execute("""TRUNCATE "mot cua"."Hồ sơ", "mot cua".nhat_ky RESTART IDENTITY CASCADE""")
        attached.owner.execute("""INSERT INTO "mot cua"."Hồ sơ" VALUES (1, 'M1', 'lại')""")
    for partition in attached.records():
        told = [change.table for change in partition if change.op is Op.TRUNCATE]
        assert sorted(told) == [DOSSIER, PAYMENT]
    attached.assert_exact()


NAMES = ("Sở Tư pháp.một", 'Bảng "hồ sơ".x', "Cột, 'nháy' \"kép\" \\ và.chấm")


def test_names_of_every_kind(database: Database, tmp_path: Path) -> None:
    """Vietnamese, mixed case, spaces, dots, quotes, backslashes: a name is what it is, in SQL, keys and messages."""
    schema, table, column = NAMES
    quoted = [psycopg.sql.Identifier(name).as_string(None) for name in NAMES]
    attached = attach(
        database,
        tmp_path,
        f"""CREATE SCHEMA {quoted[0]};
        CREATE TABLE {quoted[0]}.{quoted[1]} (id int PRIMARY KEY, {quoted[2]} text, "KHÁC" int);
        INSERT INTO {quoted[0]}.{quoted[1]} VALUES (1, 'trước', 1)""",
        TableSelection(schema, table, Role.DOSSIER, (column,)),
    )
    with attached.capturing():
        attached.owner.execute(f"""UPDATE {quoted[0]}.{quoted[1]} SET {quoted[2]} = 'đổi "x" \\ y'""".encode())
        attached.owner.execute(f"INSERT INTO {quoted[0]}.{quoted[1]} VALUES (2, 'thêm', 1)".encode())
        attached.owner.execute(f"DELETE FROM {quoted[0]}.{quoted[1]} WHERE id = 2".encode())
    attached.assert_exact()
    assert len(attached.streamed(f"{schema}.{table}")) == 3
    attached.close()


@pytest.mark.parametrize(
    ("encoding", "text"),
    # In WIN1258 the letters ă â đ ê ô ơ ư are whole, and the five tones stand behind them.
    [("WIN1258", "Đă\u0323ng Thi\u0323 Hươ\u0300ng, 5₫"), ("LATIN1", "Hô sinh, São Tomé")],
    ids=["WIN1258", "LATIN1"],
)
def test_a_database_of_another_encoding(database: Database, tmp_path: Path, encoding: str, text: str) -> None:
    """Text and names of an old server become UTF-8, in the snapshot as in the stream."""
    name = f"{database.name}_{encoding.lower()}"
    with psycopg.connect(database.dsn("postgres"), autocommit=True) as admin:
        admin.execute(
            f"CREATE DATABASE {name} OWNER owner ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0".encode()
        )
    other = Database(database.server, database.version, name)
    attached = attach(
        other,
        tmp_path,
        """CREATE TABLE "Dô xê" (id int PRIMARY KEY, "tên" text)""",
        TableSelection("public", "Dô xê", Role.DOSSIER, ("tên",)),
    )
    attached.owner.execute("""INSERT INTO "Dô xê" VALUES (1, %s)""", (text,))
    with attached.capturing():
        attached.owner.execute("""INSERT INTO "Dô xê" VALUES (2, %s)""", (text + "!",))
        attached.owner.execute("""UPDATE "Dô xê" SET "tên" = "tên" || '?' WHERE id = 1""")
    attached.assert_exact()
    rows = {
        key: row for partition in attached.records() for key, row in fold_partition(partition, "public.Dô xê").items()
    }
    assert rows == {"1": {"id": 1, "tên": text + "?"}, "2": {"id": 2, "tên": text + "!"}}
    attached.ask("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", name)
    attached.close()
    with psycopg.connect(database.dsn("postgres"), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
