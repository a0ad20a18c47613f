"""Migrations of the application while capture runs: the right shape on both sides, and no silence."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from attached_source import DOSSIER, PARTITIONS, PAYMENT, SELECTION, Attached

from connector.change.selection import Selection
from connector.errors import SourceError
from connector.log.opening import open_reader

TOUCH = """UPDATE "mot cua"."Hồ sơ" SET trang_thai = trang_thai || '+' WHERE id = 1"""
PAY = """UPDATE "mot cua".thanh_toan SET ghi_chu = ghi_chu || '+' WHERE id = 1"""


GENERATED = "GENERATED ALWAYS AS (upper(trang_thai)) STORED"


def schema_ids(attached: Attached, table: str) -> list[int]:
    """The schemas of a table's streamed records in the order written, each as often as it was changed."""
    reader = open_reader(attached.settings)
    found: list[int] = []
    try:
        ends = reader.ends()
        reader.assign(dict.fromkeys(range(PARTITIONS), 0))
        while any(reader.positions()[partition] < end for partition, end in ends.items()):
            for record in reader.poll(1.0, 1000):
                if json.loads(record.key)[0] == table:
                    found.append(int.from_bytes(record.value[1:5], "big"))
    finally:
        reader.close()
    return [one for one, before in zip(found, [0, *found], strict=False) if one != before]


def test_columns_nobody_mapped_come_and_go(attached: Attached) -> None:
    """ADD, DROP, RENAME and ALTER TYPE of other columns change neither rows nor schema."""
    with attached.capturing():
        for statement in (
            "ADD COLUMN moi int DEFAULT 5",
            "DROP COLUMN khac",
            "RENAME COLUMN rieng_tu TO noi_bo",
            "ALTER COLUMN moi TYPE text",
            "ADD COLUMN luc timestamptz DEFAULT clock_timestamp()",
        ):
            attached.owner.execute(TOUCH)
            attached.owner.execute(f'ALTER TABLE "mot cua"."Hồ sơ" {statement}'.encode())
        attached.owner.execute(TOUCH)
    told = [change.after for change in attached.streamed(DOSSIER)]
    assert told == [{"id": 1, "Mã": "M1", "trang_thai": "moi" + "+" * times, "noi_dung": None} for times in range(1, 7)]
    assert len(schema_ids(attached, DOSSIER)) == 1
    attached.assert_exact()


def test_a_mapped_column_s_new_type_is_a_new_schema(attached: Attached) -> None:
    """Before and after the migration, also within one transaction, values are what they were and are."""
    with attached.capturing(), attached.owner.transaction():
        attached.owner.execute("""UPDATE "mot cua".thanh_toan SET so_tien = 0.25 WHERE id = 1""")
        attached.owner.execute("""ALTER TABLE "mot cua".thanh_toan ALTER so_tien TYPE numeric(20,4)""")
        attached.owner.execute("""UPDATE "mot cua".thanh_toan SET so_tien = 0.3125 WHERE id = 1""")
        attached.owner.execute("""ALTER TABLE "mot cua".thanh_toan ALTER so_tien TYPE text""")
        attached.owner.execute("""UPDATE "mot cua".thanh_toan SET so_tien = 'miễn phí' WHERE id = 1""")
    told = [change.after["so_tien"] for change in attached.streamed(PAYMENT) if change.after is not None]
    assert told == [Decimal("0.25"), Decimal("0.3125"), "miễn phí"]
    assert len(set(schema_ids(attached, PAYMENT))) == 3


@pytest.mark.parametrize(
    "statement",
    [
        'VACUUM FULL "mot cua".thanh_toan',
        'CLUSTER "mot cua".thanh_toan USING thanh_toan_pkey',
        'ALTER TABLE "mot cua".thanh_toan ALTER id TYPE int',
        'ALTER TABLE "mot cua".thanh_toan ADD luc timestamptz DEFAULT clock_timestamp()',
    ],
)
def test_a_table_that_is_written_anew_tells_nothing(attached: Attached, statement: str) -> None:
    """PostgreSQL copies the rows; nobody changed them."""
    with attached.capturing():
        attached.owner.execute(statement.encode())
        attached.owner.execute(PAY)
    assert [change.key for change in attached.streamed(PAYMENT)] == [("1",)]
    attached.assert_exact()


def test_migrations_while_capture_is_away(attached: Attached) -> None:
    """What is read later is decoded as it was at its time."""
    with attached.capturing():
        pass
    attached.owner.execute("""UPDATE "mot cua".thanh_toan SET so_tien = 7.5 WHERE id = 1""")
    attached.owner.execute(
        """ALTER TABLE "mot cua".thanh_toan DROP ghi_chu, ADD moi int DEFAULT 3, ALTER so_tien TYPE numeric(20,3)"""
    )
    attached.owner.execute("""UPDATE "mot cua".thanh_toan SET so_tien = 8.125 WHERE id = 2""")
    with attached.capturing():
        attached.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id = 3""")
    assert {change.key[0]: change.after and change.after["so_tien"] for change in attached.streamed(PAYMENT)} == {
        "1": Decimal("7.5"), "2": Decimal("8.125"), "3": None,
    }  # fmt: skip


@pytest.mark.parametrize("statement", ["RENAME so_tien TO tien", "DROP so_tien"])
def test_a_mapped_column_that_disappears_is_told(attached: Attached, statement: str) -> None:
    """Capture stops before the first row that lacks it; the slot keeps the place, and the column is named."""
    running = attached.start()
    try:
        running.until_streaming()
        attached.owner.execute("""UPDATE "mot cua".thanh_toan SET so_tien = 7.5 WHERE id = 1""")
        attached.owner.execute(f'ALTER TABLE "mot cua".thanh_toan {statement}'.encode())
        attached.owner.execute("""UPDATE "mot cua".thanh_toan SET ho_so_id = 1 WHERE id = 2""")
        with pytest.raises(SourceError, match="so_tien"):
            running.until(lambda: False, "capture stops")
    finally:
        running.end()
    assert "so_tien" in f"{attached.refused()}"
    assert attached.slot("active") is False
    assert [change.key for change in attached.streamed(PAYMENT)] == [("1",)]


def test_generated_columns_nobody_mapped(attached: Attached) -> None:
    """Stored ones are as other columns that are not mapped."""
    attached.owner.execute(f'ALTER TABLE "mot cua"."Hồ sơ" ADD hoa text {GENERATED}'.encode())
    with attached.capturing():
        attached.owner.execute(TOUCH)
        attached.owner.execute("""INSERT INTO "mot cua"."Hồ sơ" VALUES (50, 'M50', 'a')""")
    assert [sorted(change.after or {}) for change in attached.streamed(DOSSIER)] == [
        ["Mã", "id", "noi_dung", "trang_thai"]
    ] * 2
    attached.assert_exact()


def test_a_generated_column_that_is_mapped(attached: Attached) -> None:
    """Refused while it would be missing in the stream; from 18 on the mend publishes it, and it is as any other."""
    attached.owner.execute(f'ALTER TABLE "mot cua"."Hồ sơ" ADD hoa text {GENERATED}'.encode())
    with attached.connect("owner") as owner:
        owner.execute("""GRANT SELECT (hoa) ON "mot cua"."Hồ sơ" TO emc_cdc""")
    dossiers = replace(SELECTION.tables[0], columns=(*SELECTION.tables[0].columns, "hoa"))
    attached.selection = Selection((dossiers, *SELECTION.tables[1:]))
    refused = attached.refused(selection=attached.selection)
    assert "generated columns are not in the replication stream: hoa" in refused.cause
    if attached.database.version < 18:
        assert refused.mend == "mapping: use the columns that they are computed from"
        return
    attached.owner.execute(refused.mend.removeprefix("as the tables' owner: ").encode())
    with attached.capturing(selection=attached.selection):
        attached.owner.execute(TOUCH)
    assert [change.after and change.after["hoa"] for change in attached.streamed(DOSSIER)] == ["MOI+"]
    attached.assert_exact()
