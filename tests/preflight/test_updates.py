"""Publications of others that make the application's UPDATE fail: each is found, and its mend lets it go on."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
import pytest
from attached_database import Attached

from connector.finding import Severity

_KEYED = "CREATE TABLE motcua.khac (id int PRIMARY KEY, x int)"
_KEYLESS = "CREATE TABLE motcua.khac (id int, x int)"


@dataclass(frozen=True)
class Case:
    """A table `khac` and another's publication; `since`: the first version that refuses; `mend`: what it says."""

    name: str
    sql: str
    says: str
    mend: str
    since: int = 15
    by: str = "owner"


CASES = [
    Case(
        "no key", f"{_KEYLESS};\nCREATE PUBLICATION khac FOR TABLE motcua.khac",
        "UPDATE and DELETE fail: the table has no replica identity", "REPLICA IDENTITY FULL;",
    ),
    Case(
        "no key, updates only", f"{_KEYLESS};\nCREATE PUBLICATION khac FOR TABLE motcua.khac WITH (publish = 'update')",
        "UPDATE fail: the table has no replica identity", "REPLICA IDENTITY FULL;",
    ),
    Case(
        "all tables",
        f"{_KEYLESS};\nALTER TABLE motcua.khac OWNER TO owner;\nCREATE PUBLICATION khac FOR ALL TABLES",
        "the table has no replica identity", "REPLICA IDENTITY FULL;", by="postgres",
    ),
    Case(
        "identity nothing",
        f"{_KEYED};\nALTER TABLE motcua.khac REPLICA IDENTITY NOTHING;\nCREATE PUBLICATION khac FOR TABLE motcua.khac",
        "the table has no replica identity", "REPLICA IDENTITY DEFAULT;",
    ),
    Case(
        "list without key", f"{_KEYED};\nCREATE PUBLICATION khac FOR TABLE motcua.khac (x)",
        "leaves out id of the identity", 'ADD TABLE "motcua"."khac" ("x", "id");',
    ),
    Case(
        "list and full",
        f"{_KEYED};\nALTER TABLE motcua.khac REPLICA IDENTITY FULL;\n"
        "CREATE PUBLICATION khac FOR TABLE motcua.khac (id, x)",
        "REPLICA IDENTITY FULL with a column list", "REPLICA IDENTITY DEFAULT;",
    ),
    Case(
        "list and full, no key",
        f"{_KEYLESS};\nALTER TABLE motcua.khac REPLICA IDENTITY FULL;\n"
        "CREATE PUBLICATION khac FOR TABLE motcua.khac (id) WHERE (x > 5)",
        "REPLICA IDENTITY FULL with a column list", 'ADD TABLE "motcua"."khac" WHERE (x > 5);',
    ),
    Case(
        "row filter", f"{_KEYED};\nCREATE PUBLICATION khac FOR TABLE motcua.khac WHERE (x > 5)",
        "its row filter asks for x", "REPLICA IDENTITY FULL;",
    ),
    Case(
        "row filter and list", f"{_KEYED};\nCREATE PUBLICATION khac FOR TABLE motcua.khac (id, x) WHERE (x > 5)",
        "its row filter asks for x", 'DROP TABLE "motcua"."khac";',
    ),
    Case(
        "partition",
        "CREATE TABLE motcua.cha (id int PRIMARY KEY, x int) PARTITION BY RANGE (id);\n"
        "CREATE TABLE motcua.khac PARTITION OF motcua.cha DEFAULT;\n"
        "ALTER TABLE motcua.khac REPLICA IDENTITY NOTHING;\n"
        "CREATE PUBLICATION khac FOR TABLE motcua.cha WITH (publish_via_partition_root = true)",
        "the table has no replica identity", "REPLICA IDENTITY DEFAULT;",
    ),
    Case(
        "full and generated",
        f"{_KEYED};\nALTER TABLE motcua.khac ADD y int GENERATED ALWAYS AS (x + 1) STORED;\n"
        "ALTER TABLE motcua.khac REPLICA IDENTITY FULL;\nCREATE PUBLICATION khac FOR TABLE motcua.khac",
        "are not published: y", "REPLICA IDENTITY DEFAULT;", since=18,
    ),
    Case(
        "full and generated, no key",
        f"{_KEYLESS};\nALTER TABLE motcua.khac ADD y int GENERATED ALWAYS AS (x + 1) STORED;\n"
        "ALTER TABLE motcua.khac REPLICA IDENTITY FULL;\nCREATE PUBLICATION khac FOR TABLE motcua.khac",
        "are not published: y", "SET (publish_generated_columns = stored);", since=18,
    ),
    Case(
        "generated key",
        "CREATE TABLE motcua.khac (x int, id int GENERATED ALWAYS AS (x) STORED PRIMARY KEY);\n"
        "CREATE PUBLICATION khac FOR TABLE motcua.khac",
        "are not published: id", "SET (publish_generated_columns = stored);", since=18,
    ),
]  # fmt: skip


@pytest.mark.every_server
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_an_update_that_fails_is_found(attached: Attached, case: Case) -> None:
    """The finding is true (the UPDATE fails), and after its mend the UPDATE goes on; older servers are not accused."""
    attached.run(case.sql, case.by)
    attached.by_owner("INSERT INTO motcua.khac (x) VALUES (1)" if "ALWAYS AS (x) " in case.sql
                      else "INSERT INTO motcua.khac (id, x) VALUES (1, 1)")  # fmt: skip
    if attached.version >= case.since:
        with pytest.raises(psycopg.Error, match="cannot update table"):
            attached.by_owner("UPDATE motcua.khac SET x = 2")
        (found,) = attached.findings()
        assert (found.check, found.severity, found.subject) == ("PG-26", Severity.WARNING, "motcua.khac")
        assert case.says in found.what
        assert "publication khac" in found.what
        assert any(case.mend in line for line in found.mend)
        attached.mend(found)
    assert attached.findings() == []
    attached.by_owner("UPDATE motcua.khac SET x = 2")


@pytest.mark.every_server
def test_a_virtual_column_under_full(attached: Attached) -> None:
    """A virtual generated column (18) is never published: without a key to fall back on the table must leave."""
    if attached.version < 18:
        assert attached.told("PG-26")[0].severity is Severity.OK
        return
    attached.by_owner(
        """CREATE TABLE motcua.khac (id int, x int, y int GENERATED ALWAYS AS (x + 1) VIRTUAL);
ALTER TABLE motcua.khac REPLICA IDENTITY FULL;
INSERT INTO motcua.khac VALUES (1, 1);
CREATE PUBLICATION khac FOR TABLE motcua.khac"""
    )
    (found,) = attached.findings()
    assert 'DROP TABLE "motcua"."khac";' in found.mend[0]
    attached.mend(found)
    attached.by_owner("UPDATE motcua.khac SET x = 2")


def test_others_that_do_no_harm_are_counted(attached: Attached) -> None:
    """A publication of others that is sound is told as such."""
    attached.by_owner(f"{_KEYED};\nCREATE PUBLICATION khac FOR TABLE motcua.khac")
    (found,) = attached.told("PG-26")
    assert (found.severity, found.what) == (
        Severity.OK,
        "no UPDATE or DELETE fails because of the 1 other publications",
    )
