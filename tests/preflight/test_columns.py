"""`publish_columns`: what leaves the server, and which of the application's migrations a column list breaks."""

from __future__ import annotations

import psycopg
import pytest
from attached_database import Attached

from connector.finding import Severity
from connector.preflight.postgres import survey_source
from connector.preflight.setup import setup_statements

_LISTED = "SELECT tablename, attnames FROM pg_publication_tables WHERE pubname = 'emc cdc' ORDER BY 1"


@pytest.fixture
def mapped(attached: Attached) -> Attached:
    """Set up again with column lists."""
    attached.publish_columns = "mapped"
    set_up(attached)
    return attached


def set_up(attached: Attached) -> list[str]:
    """Run what setup prints as the owner."""
    statements = setup_statements(survey_source(attached.settings, attached.selection))
    for statement in statements:
        assert statement.who == "owner"
        attached.by_owner(statement.sql)
    return [statement.sql for statement in statements]


def test_setup_lists_mapped_columns_and_the_key(attached: Attached) -> None:
    """Check asks for the lists, setup makes them of the key, the link and the mapped columns, and is then content."""
    attached.publish_columns = "mapped"
    (found,) = attached.findings()
    assert (found.check, found.severity, found.who) == ("PG-25", Severity.WARNING, "owner")
    assert "motcua.ho_so has none" in found.what
    (statement,) = set_up(attached)
    assert found.mend == (statement,)
    assert attached.findings() == []
    assert attached.by_dba(_LISTED) == [
        ("ho_so", ["id", "ma", "Trạng thái"]),
        ("thanh_toan", ["id", "ho_so_id", "so_tien"]),
        ("thu_tuc", ["ma", "ten"]),
    ]
    assert set_up(attached) == []


def test_a_publication_is_made_with_its_lists(attached: Attached) -> None:
    """From nothing, one statement of setup makes the publication with its lists."""
    attached.publish_columns = "mapped"
    attached.by_owner('DROP PUBLICATION "emc cdc"')
    (statement,) = set_up(attached)
    assert '"motcua"."ho_so" ("id", "ma", "Trạng thái")' in statement
    assert attached.findings() == []


def test_evidence_of_what_leaves_the_server(attached: Attached) -> None:
    """Without lists the unmapped columns are counted, and whether the role may read them; with lists there are none."""
    (found,) = attached.told("PG-25")
    assert found.severity is Severity.OK
    assert found.what == (
        "8 columns are captured; 1 others of these tables are in the stream, dropped while decoding and never kept;"
        " emc_cdc may not read them"
    )
    attached.by_owner("GRANT SELECT (ghi_chu) ON motcua.ho_so TO emc_cdc")
    assert "may read some of them (PG-18)" in attached.told("PG-25")[0].what
    attached.publish_columns = "mapped"
    set_up(attached)
    assert attached.told("PG-25")[0].what == "nothing but the 8 mapped and key columns leaves the server"


@pytest.mark.parametrize(
    ("sql", "check", "says"),
    [
        ('(id, ma, "Trạng thái", ghi_chu)', "PG-25", "motcua.ho_so lists ghi_chu, too"),
        ("", "PG-25", "motcua.ho_so has none"),
        ("(id, ma)", "PG-22", "leaves out Trạng thái"),
    ],
    ids=["too long", "none", "too short"],
)  # fmt: skip
def test_another_list_is_found_and_set(mapped: Attached, sql: str, check: str, says: str) -> None:
    """A list that exceeds, lacks or is absent gives its finding; its mend, setup's too, sets what is mapped."""
    others = "motcua.thanh_toan (id, ho_so_id, so_tien), motcua.thu_tuc (ma, ten)"
    mapped.by_owner(f'ALTER PUBLICATION "emc cdc" SET TABLE motcua.ho_so {sql}, {others}')
    (found,) = mapped.findings()
    assert (found.check, found.who) == (check, "owner")
    assert says in found.what
    assert set(set_up(mapped)) == set(found.mend)
    assert mapped.findings() == []


@pytest.mark.parametrize(
    ("migration", "then"),
    [
        ("ALTER TABLE motcua.thu_tuc DROP COLUMN ten", None),
        ("ALTER TABLE motcua.thu_tuc ALTER COLUMN ten TYPE varchar(300)", None),
        ("ALTER TABLE motcua.ho_so REPLICA IDENTITY FULL", "UPDATE motcua.ho_so SET ghi_chu = 'x'"),
        ("ALTER TABLE motcua.ho_so DROP CONSTRAINT ho_so_pkey;\n"
         "ALTER TABLE motcua.ho_so ALTER ghi_chu SET NOT NULL;\nALTER TABLE motcua.ho_so ADD PRIMARY KEY (id, ghi_chu)",
         "UPDATE motcua.ho_so SET \"Trạng thái\" = 7"),
    ],
    ids=["drop column", "alter type", "full", "wider key"],
)  # fmt: skip
def test_migrations_that_a_list_breaks_are_named_before(mapped: Attached, migration: str, then: str | None) -> None:
    """Each migration that check names does fail, or makes the UPDATE fail; after what check says it goes through."""
    mapped.by_owner("INSERT INTO motcua.ho_so VALUES (1, 'a', 1, 'x')")
    (named,) = mapped.told("PG-27")
    assert named.severity is Severity.NOTE
    for words in ("DROP COLUMN", "ALTER TYPE", "motcua.thu_tuc (ma, ten)", "REPLICA IDENTITY FULL", "a key with a"):
        assert words in named.what
    failing = migration if then is None else then
    if then is not None:
        mapped.by_owner(migration)
    with pytest.raises(psycopg.Error, match=r"cannot (drop|alter type of|update)"):
        mapped.by_owner(failing)
    mapped.mend(named)
    mapped.by_owner(failing)


def test_full_identity_is_published_whole(mapped: Attached) -> None:
    """REPLICA IDENTITY FULL under a list fails UPDATE now: an error; setup publishes it whole, and check says so."""
    mapped.by_owner("ALTER TABLE motcua.ho_so REPLICA IDENTITY FULL")
    broken, against = mapped.findings()
    assert (broken.check, broken.severity) == ("PG-22", Severity.ERROR)
    assert "UPDATE and DELETE fail now" in broken.what
    assert (against.check, against.severity) == ("PG-27", Severity.WARNING)
    set_up(mapped)
    mapped.by_owner("UPDATE motcua.ho_so SET ghi_chu = 'x'")
    (against,) = mapped.findings()
    mapped.mend(against)
    set_up(mapped)
    assert mapped.findings() == []


def test_a_wider_key_is_an_error_at_once(mapped: Attached) -> None:
    """A key with a column that is not listed makes UPDATE fail; check says so, and its statement mends it."""
    mapped.by_owner(
        """ALTER TABLE motcua.thanh_toan ADD lan int NOT NULL DEFAULT 1;
ALTER TABLE motcua.thanh_toan DROP CONSTRAINT thanh_toan_pkey;
ALTER TABLE motcua.thanh_toan ADD PRIMARY KEY (id, lan);
INSERT INTO motcua.thanh_toan VALUES (1, 1, 1)"""
    )
    change = "UPDATE motcua.thanh_toan SET so_tien = 2"
    with pytest.raises(psycopg.Error, match="cannot update"):
        mapped.by_owner(change)
    (found,) = mapped.findings("PG-22")
    assert (found.severity, "UPDATE and DELETE fail now" in found.what) == (Severity.ERROR, True)
    mapped.mend(found)
    mapped.by_owner(change)


def test_a_list_that_nobody_asked_for_is_in_the_way(attached: Attached) -> None:
    """With publish_columns: all, a list is warned of with the migrations that it breaks, and setup leaves it alone."""
    attached.by_owner('ALTER PUBLICATION "emc cdc" SET TABLE motcua.ho_so, motcua.thanh_toan, motcua.thu_tuc (ma, ten)')
    (found,) = attached.findings()
    with pytest.raises(psycopg.Error, match="cannot drop"):
        attached.by_owner("ALTER TABLE motcua.thu_tuc DROP COLUMN ten")
    assert "DROP COLUMN and ALTER TYPE of ma, ten fail" in found.what
    assert set_up(attached) == []
    attached.mend(found)
    attached.by_owner("ALTER TABLE motcua.thu_tuc DROP COLUMN ten")
