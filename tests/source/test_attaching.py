"""What must be right before capture starts: each fault is one error, and what it says mends it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from attached_source import SELECTION, Attached
from plugins.postgres import Database

from connector.change.selection import Selection
from connector.errors import SourceError


@dataclass(frozen=True, slots=True)
class Case:
    """sql: what brings the fault about, run by `who`; says: a part of the cause."""

    name: str
    sql: str
    says: str
    who: str = "owner"


CASES = [
    Case(
        "missing publication",
        "DROP PUBLICATION emc_cdc_thu",
        "it does not exist",
    ),
    Case(
        "publication lacks a table",
        'ALTER PUBLICATION emc_cdc_thu DROP TABLE "mot cua"."Hồ sơ"',
        'it lacks "mot cua"."Hồ sơ"',
    ),
    Case(
        "row level security",
        'ALTER TABLE "mot cua"."Hồ sơ" ENABLE ROW LEVEL SECURITY',
        "row level security would hide rows",
    ),
    Case("no REPLICATION", "ALTER ROLE emc_cdc NOREPLICATION", "may not replicate", who="postgres"),
    Case(
        "no SELECT",
        'REVOKE SELECT ("Mã") ON "mot cua"."Hồ sơ" FROM emc_cdc',
        "may not read Mã",
    ),
    Case("no USAGE", 'REVOKE USAGE ON SCHEMA "mot cua" FROM emc_cdc', "emc_cdc may not use it"),
    Case(
        "no primary key",
        'ALTER TABLE "mot cua".thanh_toan DROP CONSTRAINT thanh_toan_pkey',
        "no usable replica identity",
    ),
    Case(
        "deferrable primary key",
        'ALTER TABLE "mot cua".thanh_toan DROP CONSTRAINT thanh_toan_pkey;'
        ' ALTER TABLE "mot cua".thanh_toan ADD PRIMARY KEY (id) DEFERRABLE',
        "its primary key is deferrable",
    ),
    Case(
        "row filter",
        'ALTER PUBLICATION emc_cdc_thu SET TABLE "mot cua"."Hồ sơ" WHERE (id > 5), "mot cua".thanh_toan,'
        ' "mot cua".don_vi',
        "a row filter keeps rows",
    ),
    Case(
        "DELETE not published",
        "ALTER PUBLICATION emc_cdc_thu SET (publish = 'insert, update, truncate')",
        "it leaves out delete",
    ),
    Case(
        "replica identity nothing",
        'ALTER TABLE "mot cua".thanh_toan REPLICA IDENTITY NOTHING',
        "no usable replica identity",
    ),
]


@pytest.fixture
def mended(attached: Attached) -> Iterator[Attached]:
    """A connector whose role is as it was afterwards: roles are shared with other tests."""
    yield attached
    attached_role = "ALTER ROLE emc_cdc WITH LOGIN REPLICATION NOBYPASSRLS"
    with attached.connect("postgres") as admin:
        admin.execute(attached_role)


def apply(attached: Attached, error: SourceError) -> None:
    """Run the SQL of a mend as the one whom it names."""
    statements = re.findall(r"(?:ALTER|CREATE|GRANT) [^;]*;", error.mend)
    assert statements, error.mend
    assert not re.search(r"[<…]", "".join(statements)), "a statement that can be copied"
    with attached.connect("postgres" if "superuser" in error.mend else "owner") as runner:
        for statement in statements:
            runner.execute(statement.encode())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_an_error_says_mends_it(mended: Attached, case: Case) -> None:
    """Provoked, told once, mended as told: the next start works."""
    with mended.connect(case.who) as runner:
        runner.execute(case.sql.encode())
    refused = mended.refused()
    assert case.says in refused.cause
    assert mended.slot("slot_name") is None
    apply(mended, refused)
    with mended.capturing():
        pass
    mended.assert_exact()


def test_several_faults_are_told_and_mended_at_once(mended: Attached) -> None:
    """What stands in the way is told whole, with each mend once, and all of them can be run."""
    mended.owner.execute(
        'REVOKE SELECT ("Mã") ON "mot cua"."Hồ sơ" FROM emc_cdc;'
        ' ALTER PUBLICATION emc_cdc_thu SET TABLE "mot cua"."Hồ sơ" WHERE (id > 5), "mot cua".thanh_toan'
    )
    refused = mended.refused()
    assert refused.cause.startswith("3 things stand in the way\n")
    assert len(refused.mend.splitlines()) == 2, "one statement mends both faults of the publication"
    apply(mended, refused)
    with mended.capturing():
        pass
    mended.assert_exact()


def test_columns_that_a_key_only_carries_along_are_no_key(attached: Attached) -> None:
    """A primary key with INCLUDE columns is a dossier's key of one column, for capture as for check."""
    attached.owner.execute(
        'ALTER TABLE "mot cua"."Hồ sơ" DROP CONSTRAINT "Hồ sơ_pkey";'
        ' ALTER TABLE "mot cua"."Hồ sơ" ADD PRIMARY KEY (id) INCLUDE ("Mã", rieng_tu)'
    )
    with attached.capturing():
        attached.owner.execute('UPDATE "mot cua"."Hồ sơ" SET trang_thai = 1 WHERE id = 3')
    attached.assert_exact()


def test_an_inheriting_table_is_refused(attached: Attached) -> None:
    """Rows of a child table by inheritance would arrive under its name, and be missed."""
    attached.owner.execute('CREATE TABLE "mot cua".cu (PRIMARY KEY (id)) INHERITS ("mot cua"."Hồ sơ")')
    assert "other tables inherit from it" in attached.refused().cause


def test_a_generated_column_is_refused_unless_published(attached: Attached) -> None:
    """A stored generated column is in the snapshot but not in the stream, but for 18 where the publication says so."""
    attached.owner.execute(
        'ALTER TABLE "mot cua".don_vi ADD ten_hoa text GENERATED ALWAYS AS (upper(ten)) STORED;'
        ' GRANT SELECT (ten_hoa) ON "mot cua".don_vi TO emc_cdc'
    )
    with_generated = (*SELECTION.tables[:2], replace(SELECTION.tables[2], columns=("ten", "ten_hoa")))
    attached.selection = Selection(with_generated)
    refused = attached.refused(selection=attached.selection)
    assert "generated columns are not in the replication stream: ten_hoa" in refused.cause


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (replace(SELECTION.tables[1], name="thanh_toán"), "mapping: write mot cua.thanh_toan"),
        (replace(SELECTION.tables[1], columns=("so_tienn",)), "mapping: write so_tien"),
        (replace(SELECTION.tables[1], link="ho_so"), "mapping: write ho_so_id"),
    ],
    ids=["table", "column", "link"],
)
def test_a_wrong_name_is_told_with_the_nearest(attached: Attached, wrong: object, says: str) -> None:
    """A mapping that names what is not there: the error offers what is."""
    tables = (SELECTION.tables[0], wrong, SELECTION.tables[2])
    refused = attached.refused(selection=Selection(tables))  # type: ignore[arg-type]
    assert "there is no such" in refused.cause
    assert says in refused.mend
    assert attached.slot("slot_name") is None


def test_a_mapping_that_needs_more_than_the_log_holds(attached: Attached) -> None:
    """A column mapped later is not in the rows that were read: the start says so instead of leaving holes."""
    narrow = Selection((replace(SELECTION.tables[0], columns=("Mã",)), *SELECTION.tables[1:]))
    with attached.capturing(selection=narrow):
        pass
    refused = attached.refused()
    assert "mot cua.Hồ sơ.noi_dung" in refused.cause
    with attached.capturing(selection=narrow):
        pass


def test_wal_level_is_told_and_mended(database: Database, tmp_path: Path) -> None:
    """A server that writes no decodable WAL: the superuser's statement and one restart mend it."""
    server = database.server
    server.settings["wal_level"] = "replica"
    try:
        server.restart()
        attached = Attached(database, tmp_path)
        attached.set_up(only="owner")
        refused = attached.refused()
        assert refused.subject == "wal_level"
        apply(attached, refused)
        attached.close()
        server.restart()
        attached.owner = attached.connect()
        with attached.capturing():
            pass
        attached.assert_exact()
        attached.close()
        with attached.connect("postgres") as admin:
            admin.execute("ALTER SYSTEM RESET wal_level")
    finally:
        del server.settings["wal_level"]
        server.restart()


def test_a_dsn_that_leads_nowhere_holds_no_secret(attached: Attached) -> None:
    """A wrong database, role or line is one error, which never repeats the connection string."""
    secret = "mat-khau-bi-mat"
    port = attached.database.server.port
    for dsn in (
        f"host=127.0.0.1 port={port} user=emc_cdc dbname=khong_co password={secret}",
        f"host=127.0.0.1 port={port} user=khong_co dbname={attached.database.name} password={secret}",
        f"not a connection string {secret}",
    ):
        refused = attached.refused(settings=attached.settings_with(dsn=dsn))
        assert secret not in f"{refused} {refused.mend}"
        assert "source.dsn" in f"{refused.subject} {refused.mend}"
