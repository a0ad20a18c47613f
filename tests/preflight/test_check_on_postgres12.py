"""`check` on PostgreSQL 12, which knows neither a bound for WAL nor column lists nor pg_stat_wal."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from attached_database import TABLES, Attached, attach

from connector.demo.postgres import PostgresServer
from connector.finding import Severity

PROGRAMS = Path(__file__).parents[2] / ".cache/postgres12/bin"


def test_every_question_is_one_that_version_12_answers() -> None:
    """Nothing fails for what it does not know; the missing bound is a warning, asked-for column lists are another."""
    if not (PROGRAMS / "postgres").exists():
        pytest.fail(f"no PostgreSQL 12 in {PROGRAMS}; install it: tests/install", pytrace=False)
    with (
        TemporaryDirectory(prefix="emc-cdc-pg-") as home,
        PostgresServer(PROGRAMS, Path(home) / "data") as server,
    ):
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            admin.execute("CREATE ROLE owner LOGIN")
            admin.execute("CREATE ROLE emc_cdc LOGIN REPLICATION")
            admin.execute("CREATE DATABASE old OWNER owner")
        old = Attached(server, "old")
        old.by_owner(TABLES)
        attach(old)
        old.by_owner("CREATE TABLE motcua.khac (id int);\nCREATE PUBLICATION khac FOR TABLE motcua.khac")
        assert [(one.check, one.severity) for one in old.findings()] == [
            ("PG-07", Severity.WARNING),
            ("PG-26", Severity.WARNING),
        ]
        old.publish_columns = "mapped"
        (found,) = old.findings("PG-25")
        assert (found.severity, found.who) == (Severity.WARNING, "operator")
        assert "PostgreSQL 12 has no column lists" in found.what
        assert found.mend == ("source.publish_columns: all",)
