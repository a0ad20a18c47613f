"""`setup`: what it prints is enough, is the least, and can be run again."""

from __future__ import annotations

import psycopg
import pytest
from attached_database import SELECTION, TABLES, Attached
from plugins.postgres import Database

from connector.change.selection import Role, Selection, TableSelection
from connector.errors import SourceError
from connector.preflight.postgres import survey_over, survey_source
from connector.preflight.setup import Statement, setup_statements


@pytest.fixture
def bare(database: Database) -> Attached:
    """The application's tables, and nothing of ours."""
    made = Attached(database.server, database.name)
    made.by_dba("ALTER SYSTEM SET max_slot_wal_keep_size = '1000TB';\nSELECT pg_reload_conf()")
    made.by_owner(TABLES)
    return made


def statements(bare: Attached) -> list[Statement]:
    return setup_statements(survey_source(bare.settings, bare.selection))


def run(bare: Attached, wanted: list[Statement]) -> None:
    for statement in wanted:
        role = {"owner": statement.role, "dba": "postgres"}[statement.who]
        with psycopg.connect(bare.server.dsn(role, bare.database), autocommit=True) as connection:
            connection.execute(statement.sql.encode())


def test_the_owner_sets_up_alone(bare: Attached) -> None:
    """With a role that may replicate, the owner's statements are enough: check has nothing to say, nor has setup."""
    wanted = statements(bare)
    assert {(one.who, one.role) for one in wanted} == {("owner", "owner")}
    run(bare, wanted)
    assert bare.findings() == []
    assert statements(bare) == []


def test_the_least_is_granted(bare: Attached) -> None:
    """After setup the runtime role reads mapped and key columns, no other column and no other table."""
    bare.by_owner("CREATE TABLE motcua.khac (id int PRIMARY KEY)")
    run(bare, statements(bare))
    bare.run('SELECT id, ma, "Trạng thái" FROM motcua.ho_so', "emc_cdc")
    for refused in ("SELECT ghi_chu FROM motcua.ho_so", "SELECT id FROM motcua.khac", "DELETE FROM motcua.ho_so"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            bare.run(refused, "emc_cdc")


def test_names_that_need_quotes(bare: Attached) -> None:
    """Vietnamese, mixed-case and hostile names come through as they are."""
    bare.by_owner(
        'CREATE SCHEMA "Một cửa";\n'
        'CREATE TABLE "Một cửa"."Hồ sơ; DROP TABLE x" ("Mã ""số""" text PRIMARY KEY, "ORDER" int)'
    )
    bare.selection = Selection(
        (*SELECTION.tables[1:], TableSelection("Một cửa", "Hồ sơ; DROP TABLE x", Role.DOSSIER, ("ORDER",)))
    )
    run(bare, statements(bare))
    assert bare.findings() == []


def test_it_goes_on_where_it_was_left(bare: Attached) -> None:
    """A publication that lacks a table and a grant that lacks a column are completed, not made again."""
    run(bare, statements(bare))
    bare.by_owner(
        'ALTER PUBLICATION "emc cdc" DROP TABLE motcua.thu_tuc;\nREVOKE SELECT (ten) ON motcua.thu_tuc FROM emc_cdc'
    )
    left = [statement.sql for statement in statements(bare)]
    assert left == [
        'ALTER PUBLICATION "emc cdc" ADD TABLE "motcua"."thu_tuc";',
        'GRANT SELECT ("ma", "ten") ON "motcua"."thu_tuc" TO "emc_cdc";',
    ]
    run(bare, statements(bare))
    assert bare.findings() == []


def test_a_role_that_is_not_there_yet(bare: Attached) -> None:
    """Seen by the owner, setup begins with the superuser's CREATE ROLE, and leads to the same end."""
    bare.role = f"moi_{bare.database}"
    with psycopg.connect(bare.server.dsn("owner", bare.database)) as connection:
        wanted = setup_statements(survey_over(connection, bare.role, bare.settings, bare.selection))
    assert (wanted[0].sql, wanted[0].who) == (f'CREATE ROLE "{bare.role}" LOGIN REPLICATION;', "dba")
    run(bare, wanted)
    assert bare.findings() == []
    bare.by_dba(f"DROP OWNED BY {bare.role};\nDROP ROLE {bare.role}")


def test_two_owners(bare: Attached) -> None:
    """Tables of several owners: the publication is the superuser's to make, each grant its owner's."""
    other = f"khac_{bare.database}"
    bare.by_dba(f"CREATE ROLE {other} LOGIN;\nGRANT USAGE ON SCHEMA motcua TO {other}")
    bare.by_dba(f"ALTER TABLE motcua.thu_tuc OWNER TO {other}")
    wanted = statements(bare)
    assert {(one.who, one.role) for one in wanted} == {("dba", ""), ("owner", "owner"), ("owner", other)}
    run(bare, wanted)
    assert bare.findings() == []
    bare.by_dba(f"ALTER TABLE motcua.thu_tuc OWNER TO owner;\nDROP OWNED BY {other};\nDROP ROLE {other}")


def test_what_a_superuser_must_do(bare: Attached) -> None:
    """A role without REPLICATION, row level security and an owner without CREATE come first, for the superuser."""
    bare.by_owner("ALTER TABLE motcua.ho_so ENABLE ROW LEVEL SECURITY")
    bare.by_dba(f"ALTER DATABASE {bare.database} OWNER TO postgres;\nALTER ROLE emc_cdc NOREPLICATION")
    try:
        wanted = statements(bare)
        assert [one.who for one in wanted[:4]] == ["dba", "dba", "dba", "owner"]
        run(bare, wanted)
        assert bare.findings() == []
    finally:
        bare.by_dba("ALTER ROLE emc_cdc REPLICATION NOBYPASSRLS")


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        ("DROP TABLE motcua.thu_tuc", "motcua.thu_tuc"),
        ("ALTER TABLE motcua.ho_so DROP CONSTRAINT ho_so_pkey", "motcua.ho_so"),
        ("ALTER TABLE motcua.ho_so DROP ma", "motcua.ho_so.ma"),
    ],
)
def test_what_it_will_not_mend(bare: Attached, change: str, subject: str) -> None:
    """A missing table, column or identity is refused with its mend: publishing anyway would harm the application."""
    bare.by_owner(change)
    with pytest.raises(SourceError) as refused:
        statements(bare)
    assert refused.value.subject == subject
    assert refused.value.mend
