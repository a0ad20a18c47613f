"""Findings that need a server of their own, because the mend restarts it or the server is set up badly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from attached_database import TABLES, Attached, attach
from plugins.postgres import bin_dir
from pydantic import SecretStr

from connector.demo.postgres import PostgresServer
from connector.finding import Finding, Severity
from connector.preflight.postgres import check_source

ANY_VERSION = 18


@contextmanager
def server_with(settings: Mapping[str, str]) -> Iterator[Attached]:
    """A private server with these settings, and the attached database on it."""
    with TemporaryDirectory() as home, PostgresServer(bin_dir(ANY_VERSION), Path(home) / "data", settings) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            for statement in (
                "CREATE ROLE owner LOGIN",
                "CREATE ROLE emc_cdc LOGIN REPLICATION",
                "CREATE DATABASE mot_cua OWNER owner",
            ):
                connection.execute(statement.encode())
        attached = Attached(server, "mot_cua")
        attached.by_dba("ALTER SYSTEM SET max_slot_wal_keep_size = '1000TB';\nSELECT pg_reload_conf()")
        attached.by_owner(TABLES)
        attach(attached)
        yield attached


@pytest.mark.parametrize(
    ("settings", "check", "says"),
    [
        ({"wal_level": "replica"}, "PG-03", "it is replica"),
        ({"max_wal_senders": "0"}, "PG-06", "all 0 are in use"),
    ],
)
def test_settings_that_a_restart_mends(settings: Mapping[str, str], check: str, says: str) -> None:
    """A setting that only a restart changes: the superuser's statement and the restart mend it."""
    with server_with(settings) as attached:
        (found,) = attached.findings()
        assert (found.check, found.severity, found.who) == (check, Severity.ERROR, "dba")
        assert says in found.what
        attached.mend(found)
        assert attached.findings() == []


def test_slots_run_out() -> None:
    """When others hold every slot, ours could not be made; with our own among them there is nothing to say."""
    with server_with({"max_replication_slots": "1"}) as attached:
        attached.by_dba("SELECT pg_create_physical_replication_slot('neighbour')")
        (found,) = attached.findings()
        assert found.check == "PG-05"
        attached.mend(found)
        assert attached.findings() == []
        attached.by_dba("ALTER SYSTEM SET max_replication_slots = 1;\nSELECT pg_drop_replication_slot('neighbour')")
        attached.server.stop()
        attached.server.start()
        attached.by_dba(f"SELECT pg_create_logical_replication_slot('{attached.settings.slot}', 'pgoutput')")
        assert attached.findings() == []


def test_a_pending_restart_is_told_in_both_directions() -> None:
    """A wal_level that waits for the restart is told, whether it is on its way to logical or away from it."""
    with server_with({"wal_level": "replica"}) as attached:
        attached.by_dba("ALTER SYSTEM SET wal_level = 'logical';\nSELECT pg_reload_conf()")
        (waiting,) = attached.findings()
        assert "waits for the restart" in waiting.what
        attached.mend(waiting)
        assert attached.findings() == []
        attached.by_dba("ALTER SYSTEM SET wal_level = 'replica';\nSELECT pg_reload_conf()")
        (leaving,) = attached.findings()
        assert (leaving.check, leaving.severity) == ("PG-03", Severity.WARNING)
        attached.mend(leaving)
        assert attached.findings() == []


@pytest.mark.parametrize(("name", "check"), [("max_replication_slots", "PG-05"), ("max_wal_senders", "PG-06")])
def test_a_number_that_waits_for_the_restart(name: str, check: str) -> None:
    """A changed number of slots or senders is told while it waits, and when none is free the restart is the mend."""
    with server_with({name: "1"}) as attached:
        attached.by_dba(f"ALTER SYSTEM SET {name} = 7;\nSELECT pg_reload_conf()")
        (waiting,) = attached.findings()
        assert (waiting.check, waiting.severity) == (check, Severity.WARNING)
        assert "another number than 1 after the next restart" in waiting.what
        attached.mend(waiting)
        assert attached.findings() == []


def test_slots_that_wait_for_the_restart() -> None:
    """All slots in use, and more of them set already: only the restart is left to be done."""
    with server_with({"max_replication_slots": "1"}) as attached:
        attached.by_dba("SELECT pg_create_physical_replication_slot('neighbour')")
        attached.by_dba("ALTER SYSTEM SET max_replication_slots = 7;\nSELECT pg_reload_conf()")
        (waiting,) = attached.findings()
        assert (waiting.check, waiting.severity) == ("PG-05", Severity.ERROR)
        assert "waits for the restart" in waiting.what
        attached.mend(waiting)
        assert attached.findings() == []


@pytest.mark.parametrize(
    ("encoding", "says"), [("UTF8", "encoding UTF8"), ("LATIN1", "encoding LATIN1: PostgreSQL converts it")]
)
def test_other_encodings_are_converted(encoding: str, says: str) -> None:
    """Text in any other encoding comes to us as UTF-8; the finding says so."""
    with server_with({}) as attached:
        attached.by_dba(
            f"CREATE DATABASE cu OWNER owner ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
        old = Attached(attached.server, "cu")
        (found,) = old.told("PG-08")
        assert (found.severity, found.what.startswith(says)) == (Severity.OK, True)


def test_the_mends_in_their_order_are_enough() -> None:
    """A database with faults of every part: what the findings say, run once from first to last, mends it all."""
    with server_with({"wal_level": "replica", "max_replication_slots": "1"}) as attached:
        attached.by_dba("SELECT pg_create_physical_replication_slot('neighbour')")
        attached.by_owner(
            """DROP PUBLICATION "emc cdc";
REVOKE USAGE ON SCHEMA motcua FROM emc_cdc;
REVOKE SELECT (id, ma, "Trạng thái") ON motcua.ho_so FROM emc_cdc;
GRANT SELECT, INSERT ON motcua.thanh_toan TO emc_cdc;
ALTER TABLE motcua.ho_so ENABLE ROW LEVEL SECURITY;
ALTER TABLE motcua.thanh_toan REPLICA IDENTITY NOTHING;
CREATE TABLE motcua.khac (id int);
CREATE PUBLICATION khac FOR TABLE motcua.khac"""
        )
        attached.by_dba(
            """ALTER DATABASE mot_cua OWNER TO postgres;
ALTER ROLE emc_cdc NOREPLICATION CREATEDB;
ALTER SYSTEM RESET max_slot_wal_keep_size;
SELECT pg_reload_conf()"""
        )
        first = attached.findings()
        assert len({one.check for one in first}) >= 10
        for one in first:
            attached.mend(one)
        # Whether 50 GB are enough is another question, which a young server's rate answers in one way or the other.
        assert [one for one in attached.findings() if one.check != "PG-09"] == []


def test_a_database_without_encoding_is_warned_of() -> None:
    """SQL_ASCII converts nothing, so text that is not UTF-8 could come."""
    with server_with({}) as attached:
        attached.by_dba(
            "CREATE DATABASE cu OWNER owner ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
        old = Attached(attached.server, "cu")
        old.by_owner(TABLES)
        attach(old)
        (found,) = old.findings()
        assert (found.check, found.severity) == ("PG-08", Severity.WARNING)


def test_what_cannot_be_reached_is_one_finding() -> None:
    """Wrong password, database, role, port, host or no connection string at all: one finding with its mend each."""
    with server_with({}) as attached:
        hba = attached.server.data_dir / "pg_hba.conf"
        text = hba.read_text(encoding="utf-8")
        hba.write_text(f"host all khoa 127.0.0.1/32 scram-sha-256\n{text}", encoding="utf-8")
        attached.by_dba("CREATE ROLE khoa LOGIN PASSWORD 'dung';\nSELECT pg_reload_conf()")
        port = attached.server.port
        good = f"host=127.0.0.1 port={port} user=emc_cdc dbname=mot_cua"
        expected = {
            f"host=127.0.0.1 port={port} user=khoa dbname=mot_cua password=bi-mat-sai": "check user and password",
            good.replace("mot_cua", "mot_cua_2"): "check dbname and user",
            good.replace("emc_cdc", "emc_cdc_2"): "check dbname and user",
            good.replace(str(port), "1"): "check host and port",
            good.replace("127.0.0.1", "khong-co.invalid"): "check the host name",
            "mot_cua": "write `host=",
        }
        for dsn, mend in expected.items():
            (found,) = _findings_over(attached, dsn)
            assert (found.check, found.severity) == ("PG-01", Severity.ERROR), dsn
            assert mend in found.mend[0], dsn
            assert "bi-mat-sai" not in found.what + found.mend[0]


def test_a_lock_does_not_hang_the_check() -> None:
    """A migration that locks the catalog makes one finding after the timeout, and the check ends."""
    with server_with({}) as attached, psycopg.connect(attached.server.dsn("postgres", "mot_cua")) as migration:
        migration.execute("LOCK TABLE pg_class IN ACCESS EXCLUSIVE MODE")
        (found,) = _findings_over(attached, None, lock_timeout=0.2, statement_timeout=2.0)
        assert found.check == "PG-01"
        assert found.severity is Severity.ERROR


def _findings_over(attached: Attached, dsn: str | None, **source: float) -> list[Finding]:
    settings = attached.settings
    changed = {"dsn": settings.source.dsn if dsn is None else SecretStr(dsn), **source}
    altered = settings.model_copy(update={"source": settings.source.model_copy(update=changed)})
    return check_source(altered, attached.selection).findings
