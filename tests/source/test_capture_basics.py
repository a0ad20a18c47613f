"""Capture on a real server: snapshot, stream, restart; what the log then holds."""

from __future__ import annotations

import psycopg
import pytest
from attached_source import BIG, DOSSIER, PAYMENT, UNIT, Attached, fold

from connector.change.record import Op

pytestmark = pytest.mark.every_server


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


def test_an_idle_slot_moves_on_beside_a_busy_database(attached: Attached) -> None:
    """Another database of the same server makes the slot retain nothing, either."""
    with attached.capturing(), psycopg.connect(attached.database.server.dsn(), autocommit=True) as neighbour:
        neighbour.execute("CREATE TABLE hang_xom (dong text)")
        try:
            for _ in range(20):
                neighbour.execute("INSERT INTO hang_xom SELECT repeat('x', 1000) FROM generate_series(1, 500)")
            attached.settle()
        finally:
            neighbour.execute("DROP TABLE hang_xom")
    attached.assert_exact()
