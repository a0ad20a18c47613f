"""Every finding on the source is provoked for real, and what it says mends it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import psycopg
import pytest
from attached_database import SELECTION, Attached

from connector.change.selection import Role, Selection, TableSelection
from connector.finding import Severity
from connector.preflight.postgres import check_source

ERROR, WARNING = Severity.ERROR, Severity.WARNING


@dataclass(frozen=True)
class Case:
    """One thing that can be wrong: what brings it about, who does it, and what is then said."""

    name: str
    check: str
    severity: Severity
    says: str
    sql: str
    by: str = "owner"


CASES = [
    Case("no REPLICATION", "PG-04", ERROR, "it may not replicate", "ALTER ROLE emc_cdc NOREPLICATION", "postgres"),
    Case(
        "unbounded WAL", "PG-07", WARNING, "could fill the disk",
        "ALTER SYSTEM RESET max_slot_wal_keep_size;\nSELECT pg_reload_conf()", "postgres",
    ),
    Case(
        "unbounded WAL, neighbour", "PG-07", WARNING, "for these slots, too: neighbour",
        "SELECT pg_create_physical_replication_slot('neighbour');\n"
        "ALTER SYSTEM RESET max_slot_wal_keep_size;\nSELECT pg_reload_conf()", "postgres",
    ),
    Case("table renamed", "PG-10", ERROR, "there is no such table", "ALTER TABLE motcua.ho_so RENAME TO ho_so_1"),
    Case(
        "table moved", "PG-10", ERROR, "there is no such table",
        "CREATE SCHEMA luu_tru;\nGRANT USAGE ON SCHEMA luu_tru TO emc_cdc;\n"
        "ALTER TABLE motcua.thu_tuc SET SCHEMA luu_tru",
    ),
    Case(
        "unlogged", "PG-10", ERROR, "its changes are in no WAL",
        'ALTER PUBLICATION "emc cdc" DROP TABLE motcua.thu_tuc;\nALTER TABLE motcua.thu_tuc SET UNLOGGED',
    ),
    Case("no USAGE", "PG-11", ERROR, "emc_cdc may not use it", "REVOKE USAGE ON SCHEMA motcua FROM emc_cdc"),
    Case(
        "row level security", "PG-12", ERROR, "would hide rows",
        "ALTER TABLE motcua.ho_so ENABLE ROW LEVEL SECURITY",
    ),
    Case(
        "no primary key", "PG-13", ERROR, "UPDATE and DELETE would fail",
        "ALTER TABLE motcua.thanh_toan DROP CONSTRAINT thanh_toan_pkey",
    ),
    Case(
        "unique index only", "PG-13", ERROR, "UPDATE and DELETE would fail",
        "ALTER TABLE motcua.thanh_toan DROP CONSTRAINT thanh_toan_pkey;\n"
        'ALTER TABLE motcua.thanh_toan ADD CONSTRAINT "Một" UNIQUE (id);\n'
        "ALTER TABLE motcua.thanh_toan ALTER id SET NOT NULL",
    ),
    Case(
        "identity nothing", "PG-13", ERROR, "UPDATE and DELETE would fail",
        "ALTER TABLE motcua.ho_so REPLICA IDENTITY NOTHING",
    ),
    Case(
        "identity index dropped", "PG-13", ERROR, "UPDATE and DELETE would fail",
        "CREATE UNIQUE INDEX ma_1 ON motcua.thu_tuc (ma);\n"
        "ALTER TABLE motcua.thu_tuc REPLICA IDENTITY USING INDEX ma_1;\nDROP INDEX motcua.ma_1",
    ),
    Case(
        "deferrable key", "PG-13", ERROR, "its primary key is deferrable",
        "ALTER TABLE motcua.ho_so DROP CONSTRAINT ho_so_pkey;\n"
        "ALTER TABLE motcua.ho_so ADD PRIMARY KEY (id) DEFERRABLE",
    ),
    Case(
        "full identity without key", "PG-13", ERROR, "no primary key",
        "ALTER TABLE motcua.thanh_toan REPLICA IDENTITY FULL;\n"
        "ALTER TABLE motcua.thanh_toan DROP CONSTRAINT thanh_toan_pkey",
    ),
    Case("column renamed", "PG-14", ERROR, "there is no such column", "ALTER TABLE motcua.ho_so RENAME ma TO ma_1"),
    Case(
        "link renamed", "PG-14", ERROR, "which links it to its dossier",
        "ALTER TABLE motcua.thanh_toan RENAME ho_so_id TO hoso_id",
    ),
    Case(
        "column unreadable", "PG-15", ERROR, "may not read Trạng thái",
        'REVOKE SELECT ("Trạng thái") ON motcua.ho_so FROM emc_cdc',
    ),
    Case("table unreadable", "PG-15", ERROR, "may not read id, ma", "REVOKE ALL ON motcua.ho_so FROM emc_cdc;\n"
         'REVOKE SELECT (id, ma, "Trạng thái") ON motcua.ho_so FROM emc_cdc'),
    Case(
        "CREATEDB", "PG-04", WARNING, "it has CREATEROLE and CREATEDB", "ALTER ROLE emc_cdc CREATEDB CREATEROLE",
        "postgres",
    ),
    Case(
        "column too many", "PG-18", WARNING, "may also read ghi_chu",
        "GRANT SELECT (ghi_chu) ON motcua.ho_so TO emc_cdc",
    ),
    Case("whole table", "PG-18", WARNING, "may also read ghi_chu", "GRANT SELECT ON motcua.ho_so TO emc_cdc"),
    Case(
        "may write", "PG-18", WARNING, "may also read ghi_chu and INSERT, TRUNCATE rows",
        "GRANT INSERT, TRUNCATE, SELECT ON motcua.ho_so TO emc_cdc",
    ),
    Case(
        "wide dossier key", "PG-16", ERROR, "a dossier needs a key of one column",
        "ALTER TABLE motcua.ho_so DROP CONSTRAINT ho_so_pkey;\n"
        "ALTER TABLE motcua.ho_so ADD PRIMARY KEY (id, ma);\n"
        "ALTER TABLE motcua.ho_so ADD CONSTRAINT chi_mot UNIQUE (id)",
    ),
    Case("no publication", "PG-20", ERROR, "it does not exist", 'DROP PUBLICATION "emc cdc"'),
    Case(
        "no UPDATE published", "PG-21", ERROR, "leaves out update, truncate",
        "ALTER PUBLICATION \"emc cdc\" SET (publish = 'insert, delete')",
    ),
    Case(
        "table not published", "PG-22", ERROR, 'lacks "motcua"."thanh_toan"',
        'ALTER PUBLICATION "emc cdc" DROP TABLE motcua.thanh_toan',
    ),
    Case(
        "row filter", "PG-22", ERROR, "a row filter keeps rows of motcua.ho_so back",
        'ALTER PUBLICATION "emc cdc" SET TABLE motcua.ho_so WHERE (id > 5), motcua.thanh_toan, motcua.thu_tuc',
    ),
    Case(
        "column list too short", "PG-22", ERROR, "its column list of motcua.thu_tuc leaves out ten",
        'ALTER PUBLICATION "emc cdc" SET TABLE motcua.ho_so, motcua.thanh_toan, motcua.thu_tuc (ma)',
    ),
    Case(
        "column list", "PG-22", WARNING, "DROP COLUMN and ALTER TYPE of ma, ten fail",
        'ALTER PUBLICATION "emc cdc" SET TABLE motcua.ho_so, motcua.thanh_toan, motcua.thu_tuc (ma, ten)',
    ),
    Case(
        "one table more", "PG-23", WARNING, "does not name: public.khac",
        'CREATE TABLE public.khac (id int PRIMARY KEY);\nALTER PUBLICATION "emc cdc" ADD TABLE public.khac',
    ),
    Case(
        "one table more, without key", "PG-23", ERROR, "UPDATE fails now on public.khac",
        'CREATE TABLE public.khac (id int);\nALTER PUBLICATION "emc cdc" ADD TABLE public.khac',
    ),
    Case(
        "all tables", "PG-23", ERROR, "publishes all tables",
        'DROP PUBLICATION "emc cdc";\nCREATE PUBLICATION "emc cdc" FOR ALL TABLES', "postgres",
    ),
    Case(
        "whole schema", "PG-23", ERROR, "whole schemas (motcua)",
        'DROP PUBLICATION "emc cdc";\nCREATE PUBLICATION "emc cdc" FOR TABLES IN SCHEMA motcua', "postgres",
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_a_fault_is_found_and_its_mend_mends_it(attached: Attached, case: Case) -> None:
    """Each fault gives its finding, and after what the finding says nothing is left to be said."""
    assert attached.findings() == []
    if case.by == "owner":
        # PostgreSQL lets only superusers make tables in the schema public from 15 on.
        attached.by_dba("GRANT CREATE ON SCHEMA public TO owner")
    attached.run(case.sql, case.by)
    try:
        found = attached.findings(case.check)
        assert [(one.check, one.severity) for one in found] == [(case.check, case.severity)]
        assert case.says in found[0].what
        attached.mend(found[0])
        assert attached.findings(case.check) == []
        # One fault may show in two places, as a table that cannot be published is not published, either.
        for other in attached.findings():
            attached.mend(other)
        assert attached.findings() == []
    finally:
        attached.by_dba("ALTER ROLE emc_cdc REPLICATION NOBYPASSRLS NOCREATEDB NOCREATEROLE")
        if "neighbour" in case.sql:
            attached.by_dba("SELECT pg_drop_replication_slot('neighbour')")


def test_nothing_is_said_of_an_attached_database(attached: Attached) -> None:
    """On a database that is set up, every finding is OK and tells what was looked at, or what cannot be seen."""
    findings = check_source(attached.settings, attached.selection).findings
    assert {one.severity for one in findings} == {Severity.OK, Severity.UNKNOWN}
    assert {one.check for one in findings if one.severity is Severity.UNKNOWN} == {"PG-42", "PG-44"}
    assert [one.check for one in findings] == [
        "PG-01", "PG-40", "PG-02", "PG-03", "PG-04", "PG-05", "PG-06", "PG-07", "PG-08", "PG-41",
        "PG-10", "PG-10", "PG-10", "PG-20", "PG-25", "PG-26", "PG-18",
        "PG-30", "PG-33", "PG-09", "PG-32", "PG-43", "PG-42", "PG-44",
    ]  # fmt: skip
    assert "3 of 4 columns are captured, key id" in [one.what for one in findings]


@pytest.mark.parametrize("statement", ["UPDATE motcua.thanh_toan SET so_tien = 1", "DELETE FROM motcua.thanh_toan"])
def test_the_application_goes_on_after_the_mend_of_a_missing_key(attached: Attached, statement: str) -> None:
    """The finding is true: without identity a published table refuses UPDATE and DELETE, and with the mend no more."""
    attached.by_owner(
        "INSERT INTO motcua.thanh_toan VALUES (1, 1, 5);\n"
        "ALTER TABLE motcua.thanh_toan DROP CONSTRAINT thanh_toan_pkey;\n"
        "ALTER TABLE motcua.thanh_toan ADD PRIMARY KEY (id) DEFERRABLE"
    )
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        attached.by_owner(statement)
    for finding in attached.findings("PG-13"):
        attached.mend(finding)
    attached.by_owner(statement)


def test_included_columns_are_no_key(attached: Attached) -> None:
    """A primary key that carries other columns along is still a key of one column."""
    attached.by_owner(
        "ALTER TABLE motcua.ho_so DROP CONSTRAINT ho_so_pkey;\n"
        "ALTER TABLE motcua.ho_so ADD PRIMARY KEY (id) INCLUDE (ma, ghi_chu)"
    )
    assert attached.findings() == []


def test_a_view_is_refused(attached: Attached) -> None:
    """A view that the mapping names is told apart from a table that is not there."""
    attached.by_owner("CREATE VIEW motcua.xem AS SELECT * FROM motcua.thu_tuc")
    tables = (*SELECTION.tables[:2], replace(SELECTION.tables[2], name="xem"))
    attached.selection = Selection(tables)
    assert [one.what for one in attached.findings("PG-10")] == ["it is a view: PostgreSQL can publish tables only"]


def test_inheritance_is_refused(attached: Attached) -> None:
    """Rows of an inheriting table would arrive under its own name, so the parent is refused."""
    attached.by_owner("CREATE TABLE motcua.ho_so_cu (PRIMARY KEY (id)) INHERITS (motcua.ho_so)")
    assert "motcua.ho_so_cu" in attached.findings("PG-17")[0].what


@pytest.mark.every_server
def test_generated_columns_are_refused_or_published(attached: Attached) -> None:
    """A stored generated column is not in the stream, but for PostgreSQL 18 when the publication says so."""
    attached.by_owner("ALTER TABLE motcua.thu_tuc ADD ten_hoa text GENERATED ALWAYS AS (upper(ten)) STORED;\n"
                      "GRANT SELECT (ten_hoa) ON motcua.thu_tuc TO emc_cdc")  # fmt: skip
    tables = (*SELECTION.tables[:2], replace(SELECTION.tables[2], columns=("ma", "ten_hoa")))
    attached.selection = Selection(tables)
    attached.by_owner("REVOKE SELECT (ten) ON motcua.thu_tuc FROM emc_cdc")
    (found,) = attached.findings()
    assert found.check == "PG-14"
    assert "generated columns are not in the replication stream: ten_hoa" in found.what
    assert found.who == ("owner" if attached.version >= 18 else "operator")
    if found.who == "owner":
        attached.mend(found)
        assert attached.findings() == []


@pytest.mark.every_server
def test_full_identity_with_generated_columns(attached: Attached) -> None:
    """From PostgreSQL 18 on such a table refuses UPDATE once published; before it is told of nothing, and goes on."""
    attached.by_owner(
        """ALTER TABLE motcua.ho_so ADD ma_hoa text GENERATED ALWAYS AS (upper(ma)) STORED;
INSERT INTO motcua.ho_so (id, ma) VALUES (1, 'a');
ALTER TABLE motcua.ho_so REPLICA IDENTITY FULL"""
    )
    change = "UPDATE motcua.ho_so SET ghi_chu = 'x'"
    if attached.version >= 18:
        (found,) = attached.findings()
        assert (found.check, found.severity, found.who) == ("PG-13", ERROR, "owner")
        assert "generated columns that are not published" in found.what
        with pytest.raises(psycopg.errors.InvalidColumnReference):
            attached.by_owner(change)
        attached.by_owner("ALTER PUBLICATION \"emc cdc\" SET (publish_generated_columns = 'stored')")
        assert attached.findings() == []
        attached.by_owner("ALTER PUBLICATION \"emc cdc\" SET (publish_generated_columns = 'none')")
        attached.mend(found)
    assert attached.findings() == []
    attached.by_owner(change)


def test_what_comes_through_others_is_only_told(attached: Attached) -> None:
    """What the role may do through PUBLIC is a note without a mend: taking it away could stop the application."""
    attached.by_owner("GRANT SELECT, UPDATE ON motcua.ho_so TO PUBLIC")
    (found,) = attached.told("PG-18")
    assert (found.severity, found.mend) == (Severity.NOTE, ())
    assert "may also read ghi_chu and UPDATE rows" in found.what
    assert "through PUBLIC" in found.what


def test_the_owner_is_too_much(attached: Attached) -> None:
    """Running as the tables' owner is warned of, table by table."""
    attached.by_dba("ALTER ROLE owner REPLICATION")
    try:
        attached.role = "owner"
        found = attached.findings()
        assert [(one.check, one.severity) for one in found] == [("PG-18", WARNING)] * 3
        assert "owner owns it" in found[0].what
    finally:
        attached.by_dba("ALTER ROLE owner NOREPLICATION")


def test_partitions_are_published_as_one(attached: Attached) -> None:
    """A partitioned table needs publish_via_partition_root, and an identity on every partition."""
    attached.by_owner(
        """CREATE TABLE motcua.nhat_ky (id bigint, ngay date, PRIMARY KEY (id, ngay)) PARTITION BY RANGE (ngay);
CREATE TABLE motcua.nhat_ky_1 PARTITION OF motcua.nhat_ky FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE motcua.nhat_ky_2 PARTITION OF motcua.nhat_ky DEFAULT;
GRANT SELECT (id, ngay) ON motcua.nhat_ky TO emc_cdc;
ALTER PUBLICATION "emc cdc" ADD TABLE motcua.nhat_ky"""
    )
    attached.selection = Selection(
        (*SELECTION.tables, TableSelection("motcua", "nhat_ky", Role.CHILD, ("ngay",), link="id"))
    )
    assert attached.findings() == []
    attached.by_owner('ALTER PUBLICATION "emc cdc" SET (publish_via_partition_root = false)')
    attached.by_owner("ALTER TABLE motcua.nhat_ky_2 REPLICA IDENTITY NOTHING")
    found = attached.findings()
    assert [one.check for one in found] == ["PG-13", "PG-24"]
    assert "nhat_ky_2" in found[0].what
    for one in found:
        attached.mend(one)
    assert attached.findings() == []


def test_a_superuser_is_too_much(attached: Attached) -> None:
    """Running as a superuser is warned of; the least-privilege role that is proposed instead is enough."""
    attached.role = "postgres"
    (found,) = attached.findings("PG-04")
    assert found.severity is WARNING
    assert found.mend[0].startswith("CREATE ROLE emc_cdc LOGIN REPLICATION;")
    attached.role = "emc_cdc"
    assert attached.findings() == []


def test_an_owner_without_create_is_told_first(attached: Attached) -> None:
    """Where the owner may not make publications, the superuser's grant stands before the owner's statement."""
    attached.by_owner('DROP PUBLICATION "emc cdc"')
    attached.by_dba(f"ALTER DATABASE {attached.database} OWNER TO postgres")
    first, second = attached.findings()
    assert (first.who, second.who) == ("dba", "owner")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        attached.mend(second)
    attached.mend(first)
    attached.mend(second)
    assert attached.findings() == []


def test_slot_states(attached: Attached) -> None:
    """A slot is fine when absent, waiting or active; one of another plugin or database is left alone."""
    name = attached.settings.slot
    attached.run(f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')", "postgres")
    assert attached.findings() == []
    attached.by_owner('DROP PUBLICATION "emc cdc"')
    absent, older = attached.findings()
    assert "older than the publication" in older.what
    attached.mend(absent)
    attached.mend(older)
    assert attached.findings() == []
    attached.run(f"SELECT pg_create_physical_replication_slot('{name}')", "postgres")
    (foreign,) = attached.findings()
    assert (foreign.check, foreign.who) == ("PG-30", "operator")
    assert "a physical slot" in foreign.what
    assert foreign.mend[0].startswith("source.slot:")
    attached.slot = "another_name"
    assert attached.findings() == []
    attached.by_dba(f"SELECT pg_drop_replication_slot('{name}')")


def test_a_slot_of_another_database_is_left_alone(attached: Attached) -> None:
    """Slots are the whole cluster's: one of a neighbour database is told as such."""
    with psycopg.connect(attached.server.dsn(), autocommit=True) as neighbour:
        neighbour.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [attached.settings.slot])
        try:
            assert "on database postgres" in attached.findings("PG-30")[0].what
        finally:
            neighbour.execute("SELECT pg_drop_replication_slot(%s)", [attached.settings.slot])


def test_an_invalidated_slot_is_told(attached: Attached) -> None:
    """When max_slot_wal_keep_size took the slot's WAL, the finding says so and names the way back."""
    name = attached.settings.slot
    attached.run(f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')", "postgres")
    attached.by_dba("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB';\nSELECT pg_reload_conf()")
    for _ in range(4):
        attached.by_dba("SELECT pg_logical_emit_message(false, 'x', repeat('x', 4000000));\nSELECT pg_switch_wal()")
    attached.by_dba("CHECKPOINT")
    (found,) = attached.findings("PG-30")
    assert "max_slot_wal_keep_size" in found.what
    attached.mend(found)
    assert attached.findings("PG-30") == []
