"""`setup --undo`: nothing of ours is left, nothing of anybody else's is touched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from attached_database import Attached

from connector.errors import SourceError
from connector.preflight.postgres import survey_over
from connector.preflight.setup import Statement
from connector.preflight.undo import undo_statements
from connector.source.connection import replicate
from connector.source.slot import start_streaming

_OURS = """
SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE slot_name = %(slot)s
UNION ALL SELECT 'publication ' || pubname FROM pg_publication
UNION ALL SELECT 'column ' || attname FROM pg_attribute, aclexplode(attacl) x WHERE x.grantee = %(role)s::regrole
UNION ALL SELECT 'schema ' || nspname FROM pg_namespace, aclexplode(nspacl) x WHERE x.grantee = %(role)s::regrole
"""


def statements(attached: Attached, *, drop_role: bool = False) -> list[Statement]:
    """What is to be run, as the owner sees it."""
    with psycopg.connect(attached.server.dsn(attached.owner, attached.database)) as connection:
        found = survey_over(connection, attached.role, attached.settings, attached.selection)
    return undo_statements(found, drop_role=drop_role)


def run(attached: Attached, wanted: list[Statement]) -> None:
    """Each statement as the one whom it names."""
    for statement in wanted:
        with psycopg.connect(
            attached.server.dsn(statement.role or "postgres", attached.database), autocommit=True
        ) as connection:
            connection.execute(statement.sql.encode())


def left(attached: Attached) -> set[str]:
    """What there is of ours in the database."""
    with psycopg.connect(attached.server.dsn("postgres", attached.database)) as admin:
        rows = admin.execute(_OURS, {"slot": attached.settings.slot, "role": attached.role}).fetchall()
    return {str(row[0]) for row in rows}


def make_slot(attached: Attached) -> None:
    """As capture's first start does."""
    attached.run(f"SELECT pg_create_logical_replication_slot('{attached.settings.slot}', 'pgoutput')", attached.role)


@contextmanager
def streaming(attached: Attached) -> Iterator[int]:
    """A connection that streams from the slot, as capture does; the server process that serves it."""
    connection = replicate(attached.settings.source, attached.version * 10000)
    try:
        start_streaming(connection, attached.settings.slot, attached.settings.publication, attached.version * 10000)
        yield connection.backend_pid
    finally:
        connection.finish()


def test_all_of_it_is_taken_back(attached: Attached) -> None:
    """Slot, publication and every grant go, also those of a mapping of before; afterwards nothing is left to do."""
    attached.by_owner("GRANT SELECT (ghi_chu) ON motcua.ho_so TO emc_cdc")
    make_slot(attached)
    assert len(left(attached)) > 8
    wanted = statements(attached)
    assert [one.who for one in wanted[:2]] == ["operator", "owner"]
    run(attached, wanted)
    assert left(attached) == set()
    assert statements(attached) == []


def test_it_refuses_while_a_capture_streams(attached: Attached) -> None:
    """The slot in use is told with its server process, and when it is free the same command works."""
    make_slot(attached)
    with streaming(attached) as pid:
        with pytest.raises(SourceError) as refused:
            statements(attached)
        assert f"server process {pid}" in refused.value.cause
        attached.by_dba(f"SELECT pg_terminate_backend({pid}, 10000)")
    run(attached, statements(attached))
    assert left(attached) == set()


def test_a_slot_that_is_not_ours_is_left_alone(attached: Attached) -> None:
    """A physical slot of our name is somebody else's: everything goes but it."""
    attached.by_dba(f"SELECT pg_create_physical_replication_slot('{attached.settings.slot}')")
    run(attached, statements(attached))
    assert left(attached) == {f"slot {attached.settings.slot}"}
    attached.by_dba(f"SELECT pg_drop_replication_slot('{attached.settings.slot}')")


def test_the_role_goes_where_it_is_wanted(attached: Attached) -> None:
    """With the role, too: after the owner's part nothing holds it any more, and a superuser drops it."""
    attached.role = f"rieng_{attached.database}"
    attached.by_dba(f"CREATE ROLE {attached.role} LOGIN REPLICATION BYPASSRLS")
    attached.by_owner(
        f"GRANT USAGE ON SCHEMA motcua TO {attached.role};\nGRANT SELECT (id) ON motcua.ho_so TO {attached.role}"
    )
    assert statements(attached)[-1].sql.startswith((f'ALTER ROLE "{attached.role}" NOBYPASSRLS', "-- "))
    wanted = statements(attached, drop_role=True)
    assert f'DROP ROLE "{attached.role}";' in [one.sql for one in wanted if one.who == "dba"]
    run(attached, wanted)
    assert attached.by_dba(f"SELECT count(*) FROM pg_roles WHERE rolname = '{attached.role}'") == [(0,)]


def test_what_others_may_use_is_only_told(attached: Attached) -> None:
    """Rights on whole tables keep their schema's USAGE; CREATE and wal_level are remarks that run nothing."""
    attached.by_dba(f"ALTER DATABASE {attached.database} OWNER TO postgres")
    attached.by_dba(f"GRANT CREATE ON DATABASE {attached.database} TO owner")
    attached.by_owner("CREATE TABLE motcua.bao_cao (id int);\nGRANT INSERT ON motcua.bao_cao TO emc_cdc")
    wanted = statements(attached)
    assert f'-- REVOKE CREATE ON DATABASE "{attached.database}" FROM "owner";' in [one.sql for one in wanted]
    run(attached, wanted)
    assert left(attached) == {"schema motcua"}
    created = attached.by_dba("SELECT has_database_privilege('owner', current_database(), 'CREATE')")
    assert created == [(True,)]


def test_a_publication_of_a_superuser_is_a_superusers_to_drop(attached: Attached) -> None:
    """Whoever made it drops it: where that is no owner of the tables, it is the superuser's part."""
    attached.by_dba('ALTER PUBLICATION "emc cdc" OWNER TO postgres')
    dropping = [one for one in statements(attached) if one.sql.startswith("DROP PUBLICATION")]
    assert [(one.who, one.role) for one in dropping] == [("dba", "")]
    run(attached, statements(attached))
    assert left(attached) == set()
