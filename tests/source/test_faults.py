"""PostgreSQL goes away, comes back, or is not what it was: capture goes on, or says why it must not."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import psycopg
import pytest
from attached_source import DOSSIER, TABLES, Attached, until
from psycopg import sql

from connector.change.record import Op
from connector.demo.postgres import PostgresServer


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_comes_back_is_gone_on_with(attached: Attached, mode: Literal["fast", "immediate"]) -> None:
    """Stopped in the middle of the stream and started again: nothing is lost or doubled, nobody has to help."""
    with attached.capturing() as running:
        # Durable even over a crash of a server that does not wait for its disk: the stop comes after.
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'a'""")
        attached.owner.execute("""INSERT INTO "mot cua"."Hồ sơ" SELECT g FROM generate_series(1001, 3000) g""")
        attached.database.server.restart(mode)
        running.until_streaming(2)
        with attached.connect() as owner:
            owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'b' WHERE id <= 30""")
    attached.assert_exact()
    ops = [change.op for change in attached.streamed(DOSSIER)]
    assert (ops.count(Op.CREATE), ops.count(Op.UPDATE)) == (2000, 60)
    assert running.faults
    assert not any(fault.fatal for fault in running.faults)


def test_a_connection_that_is_cut_is_made_again(attached: Attached) -> None:
    """The walsender is terminated: the next session goes on."""
    with attached.capturing() as running:
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'a'""")
        attached.ask("SELECT pg_terminate_backend(%s)", attached.slot("active_pid"))
        running.until_streaming(2)
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'b'""")
    attached.assert_exact()
    assert len(attached.streamed(DOSSIER)) == 60


def test_a_slot_of_somebody_else_is_left_alone(attached: Attached) -> None:
    """A slot of our name that neither index nor log knows: the start stops; after its mend it attaches."""
    attached.ask("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", attached.settings.slot)
    refused = attached.refused()
    assert "neither this connector's index nor its log knows of it" in refused.cause
    attached.ask(f"SELECT pg_drop_replication_slot('{attached.settings.slot}')")
    assert f"SELECT pg_drop_replication_slot('{attached.settings.slot}');" in refused.mend
    with attached.capturing():
        pass
    attached.assert_exact()


def test_another_cluster_is_not_taken_for_ours(attached: Attached) -> None:
    """The same name of database, tables and slot on another server: the start stops, and its slot stays as it is."""
    with attached.capturing():
        pass
    name = attached.ask("SELECT current_database()")[0][0]
    with (
        TemporaryDirectory(prefix="emc-cdc-pg-") as home,
        PostgresServer(attached.database.server.bin_dir, Path(home) / "data") as server,
    ):
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            admin.execute("CREATE ROLE emc_cdc LOGIN REPLICATION SUPERUSER")
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        with psycopg.connect(server.dsn("postgres", name), autocommit=True) as admin:
            admin.execute(TABLES.encode())
            admin.execute(
                f'CREATE PUBLICATION "{attached.settings.publication}" FOR TABLE '
                '"mot cua"."Hồ sơ", "mot cua".thanh_toan, "mot cua".don_vi'.encode()
            )
            admin.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (attached.settings.slot,))
        refused = attached.refused(settings=attached.settings_with(dsn=server.dsn("emc_cdc", name)))
        assert "another server" in refused.cause
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            assert admin.execute("SELECT slot_name FROM pg_replication_slots").fetchall() == [(attached.settings.slot,)]
    with attached.capturing():
        pass
    attached.assert_exact()


def test_two_captures_do_not_share_a_directory(attached: Attached) -> None:
    """The second on the same data directory is told so at once, and disturbs nobody."""
    with attached.capturing():
        assert "another capture uses this directory" in attached.refused().cause
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x'""")
    until(lambda: attached.slot("active") is False, "the slot is free")
    attached.assert_exact()
