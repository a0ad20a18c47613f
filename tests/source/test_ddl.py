"""Migrations of the application while capture runs: the right shape on both sides, and no silence."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal

import pytest
from attached_source import DOSSIER, PARTITIONS, PAYMENT, SELECTION, Attached, Running

from connector.change.selection import Selection
from connector.log.opening import open_reader
from connector.source.hold import Hold, read_hold
from connector.source.index import remembered

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


@pytest.mark.every_server
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


def held(running: Running, attached: Attached, subject: str) -> Hold:
    """Wait until capture holds because of `subject`; what it remembers of that."""

    def now() -> Hold | None:
        hold = read_hold(remembered(attached.settings.index))
        return hold if hold is not None and hold.subject.startswith(subject) else None

    running.until(lambda: now() is not None, "capture holds")
    hold = now()
    assert hold is not None
    return hold


def no_hold(attached: Attached) -> bool:
    return read_hold(remembered(attached.settings.index)) is None


PAID = """UPDATE "mot cua".thanh_toan SET {} WHERE id = {}"""
ALTER = 'ALTER TABLE "mot cua".thanh_toan '


def run(attached: Attached, *statements: str) -> None:
    for statement in statements:
        attached.owner.execute(statement.encode())


def test_a_mapped_column_renamed_away_and_back(attached: Attached) -> None:
    """Held without a loss, seen in what status reads, and gone on from by itself; the values of meanwhile are there."""
    with attached.capturing() as running:
        run(attached, PAID.format("so_tien = 7.5", 1), ALTER + "RENAME so_tien TO tien", PAID.format("tien = 8.5", 2))
        hold = held(running, attached, PAYMENT)
        assert "so_tien" in hold.cause
        # What had been committed before is there already.
        assert [change.key for change in attached.streamed(PAYMENT)] == [("1",)]
        run(attached, PAID.format("tien = 9.5", 1), ALTER + "RENAME tien TO so_tien", PAID.format("so_tien = 3", 3))
        attached.settle(running)
        assert no_hold(attached)
        assert not any(fault.fatal for fault in running.faults)
    told = sorted((change.key[0], change.after["so_tien"]) for change in attached.streamed(PAYMENT) if change.after)
    assert told == [("1", Decimal("7.50")), ("1", Decimal("9.50")), ("2", Decimal("8.50")), ("3", Decimal("3.00"))]
    attached.assert_exact()


def test_status_tells_of_the_hold(attached: Attached) -> None:
    """`emc-cdc status`, which is another process, shows what is held and how it ends; exit code 1 until it has."""
    config = attached.directory / "emc-cdc.yml"
    mapping = {"extends": "preset:one-stop-generic", "SiteId": 327}
    config.write_text(json.dumps(attached.written() | {"mapping": mapping}), encoding="utf-8")

    def status(*options: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "connector.cli", "status", "--config", str(config), *options]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stdout

    with attached.capturing() as running:
        run(attached, ALTER + "RENAME so_tien TO tien", PAID.format("tien = 8.5", 2))
        held(running, attached, PAYMENT)
        code, told = status("--json")
        assert code == 1
        assert json.loads(told)["source"]["held"]["subject"].startswith(PAYMENT)
        assert "tạm giữ từ" in status()[1]
        run(attached, ALTER + "RENAME tien TO so_tien")
        attached.settle(running)
        code, told = status("--json")
        assert json.loads(told)["source"]["held"] is None
        assert code == 0


def test_renamed_and_back_in_one_transaction(attached: Attached) -> None:
    """Rows under both names in one transaction: in the log once, in order."""
    with attached.capturing(), attached.owner.transaction():
        run(attached, PAID.format("so_tien = 7.5", 1), ALTER + "RENAME so_tien TO tien", PAID.format("tien = 8.5", 2))
        run(attached, ALTER + "RENAME tien TO so_tien", PAID.format("so_tien = 9.5", 3))
    told = [(change.key[0], change.after["so_tien"]) for change in attached.streamed(PAYMENT) if change.after]
    assert sorted(told) == [("1", Decimal("7.50")), ("2", Decimal("8.50")), ("3", Decimal("9.50"))]
    attached.assert_exact()


def test_renamed_away_and_back_while_capture_is_away(attached: Attached) -> None:
    """Told by the numbers of the columns, beside others that came, went and were renamed meanwhile."""
    with attached.capturing():
        pass
    run(attached, ALTER + "ADD tam int", ALTER + "RENAME so_tien TO tien", ALTER + "RENAME ghi_chu TO loi")
    run(attached, PAID.format("tien = 8.5, loi = 'x'", 2), ALTER + "DROP tam", ALTER + "ADD moi int DEFAULT 4")
    run(attached, ALTER + "RENAME loi TO ghi_chu", PAID.format("tien = 9.5, moi = 5", 1))
    run(attached, ALTER + "RENAME tien TO so_tien")
    with attached.capturing():
        pass
    told = sorted((change.key[0], change.after["so_tien"]) for change in attached.streamed(PAYMENT) if change.after)
    assert told == [("1", Decimal("9.50")), ("2", Decimal("8.50"))]
    attached.assert_exact()


def test_a_mapped_column_dropped_and_added_again(attached: Attached) -> None:
    """Held until it is there and may be read; what was changed meanwhile has no value, as it had none. Twice."""
    with attached.capturing() as running:
        for times in (1, 2):
            run(attached, ALTER + "DROP so_tien", PAID.format(f"ghi_chu = 'khong {times}'", 1))
            hold = held(running, attached, PAYMENT)
            assert "so_tien" in hold.cause
            run(attached, ALTER + "ADD so_tien numeric(12,2)")
            running.until(
                lambda: "may not read so_tien" in held(running, attached, PAYMENT).cause, "the grant is asked for"
            )
            run(attached, held(running, attached, PAYMENT).mend.removeprefix("as the tables' owner: "))
            run(attached, PAID.format(f"so_tien = {times}.5", 1))
            attached.settle(running)
            assert no_hold(attached)
    told = [change.after.get("so_tien", "none") for change in attached.streamed(PAYMENT) if change.after]
    assert told == ["none", Decimal("1.50"), "none", Decimal("2.50")]


def test_a_captured_table_renamed_away_and_back(attached: Attached) -> None:
    """Held, and gone on from by itself, with the rows of meanwhile."""
    with attached.capturing() as running:
        run(attached, ALTER + "RENAME TO thu_phi", 'UPDATE "mot cua".thu_phi SET so_tien = 8.5 WHERE id = 2')
        assert "thu_phi" in held(running, attached, PAYMENT).cause
        run(attached, 'ALTER TABLE "mot cua".thu_phi RENAME TO thanh_toan', PAID.format("so_tien = 9.5", 1))
    assert [(c.key[0], c.after["so_tien"]) for c in attached.streamed(PAYMENT) if c.after and c.key[0] == "2"] == [
        ("2", Decimal("8.50"))
    ]
    attached.assert_exact()


def test_a_capture_that_is_started_while_it_holds(attached: Attached) -> None:
    """A restart meanwhile changes nothing: it goes on holding, and goes on by itself."""
    with attached.capturing():
        pass
    run(attached, ALTER + "RENAME so_tien TO tien", PAID.format("tien = 8.5", 2))
    running = attached.start()
    try:
        assert "no such column" in held(running, attached, f"{PAYMENT}.so_tien").cause
        run(attached, ALTER + "RENAME tien TO so_tien")
        running.until_streaming()
        attached.settle(running)
    finally:
        running.end()
    attached.assert_exact()
    assert no_hold(attached)


@pytest.mark.parametrize("added_again", [False, True])
def test_a_column_out_of_the_publication_is_no_dropped_column(attached: Attached, added_again: bool) -> None:
    """Held while it is unlisted; its values of meanwhile are in no WAL record, so the tables are read anew."""
    publication = f"ALTER PUBLICATION {attached.settings.publication} "
    whole = publication + 'SET TABLE "mot cua"."Hồ sơ", "mot cua".thanh_toan, "mot cua".don_vi'
    attached.settings = attached.settings_with(on_gap="reread")
    with attached.capturing() as running:
        if added_again:
            run(attached, ALTER + "DROP so_tien", ALTER + "ADD so_tien numeric(12,2)")
            run(attached, 'GRANT SELECT (so_tien) ON "mot cua".thanh_toan TO emc_cdc', PAID.format("ho_so_id = 2", 1))
            attached.settle(running)
            sessions = running.sessions
            attached.ask("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots")
            running.until_streaming(sessions + 1)
            run(attached, PAID.format("ghi_chu = 'b'", 1))
            attached.settle(running)
        run(
            attached, whole.replace("thanh_toan", "thanh_toan (id, ho_so_id, ghi_chu)"), PAID.format("so_tien = 8.5", 2)
        )
        held(running, attached, "")
        run(attached, whole, PAID.format("so_tien = 9.5", 3))
        running.until(lambda: any("so_tien was not published" in fault.cause for fault in running.faults), "it is told")
        attached.settle(running)
    attached.assert_exact()
