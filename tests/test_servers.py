"""The servers that the other tests stand on are real, fresh and left clean."""

from __future__ import annotations

import psycopg
import pytest
from plugins.postgres import CONNECTOR, Database, drop, programs

from connector.demo.postgres import PostgresServer
from connector.errors import ConnectorError


def one(dsn: str, question: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(question.encode()).fetchall()[0][0]


def test_the_roles_have_no_more_than_they_should(database: Database) -> None:
    """Neither the owner nor the connector is a superuser, and only the connector may replicate."""
    rights = "SELECT (rolsuper, rolreplication, rolcreaterole, rolbypassrls)::text FROM pg_roles WHERE rolname = user"
    assert one(database.owner, rights) == "(f,f,f,f)"
    assert one(database.connector, rights) == "(f,t,f,f)"
    with psycopg.connect(database.owner) as connection:
        connection.execute("CREATE TABLE made (id int PRIMARY KEY)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege), psycopg.connect(database.connector) as connection:
        connection.execute("SELECT * FROM made")


def test_a_database_goes_with_everything_that_holds_it(postgres: PostgresServer) -> None:
    """Slots, open connections and prepared transactions do not keep a test's database alive."""
    database = Database(postgres, "held")
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE held OWNER owner")
    with psycopg.connect(database.superuser, autocommit=True) as holder:
        holder.execute("SELECT pg_create_logical_replication_slot('held', 'pgoutput')")
        drop(database)
        with pytest.raises(psycopg.OperationalError):
            holder.execute("SELECT 1")
    assert one(postgres.dsn(), "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'held'") == 0
    assert one(postgres.dsn(), "SELECT count(*) FROM pg_database WHERE datname = 'held'") == 0


def test_every_database_is_new(database: Database) -> None:
    """Nothing is left of the tests before."""
    assert one(database.superuser, "SELECT count(*) FROM pg_class WHERE relname = 'made'") == 0
    assert one(database.superuser, "SELECT count(*) FROM pg_database WHERE datname LIKE 'test\\_%'") == 1


@pytest.mark.heavy
def test_a_server_comes_back_for_the_next_test(postgres: PostgresServer) -> None:
    """After a crash roles and port are the same."""
    postgres.restart("immediate")
    assert one(postgres.dsn(CONNECTOR), "SELECT current_user") == CONNECTOR


def test_an_unknown_version_is_an_error() -> None:
    """There is no silent choice of another server."""
    with pytest.raises(ConnectorError, match="version 14"):
        programs(14)
