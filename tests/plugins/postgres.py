"""Real PostgreSQL servers for the tests: 15 from Debian, 16 and 18 from the wheel, one of each for the whole run.

Contract: a test that asks for `postgres` or `database` runs once for every version of `--pg`; marked `heavy`, on one
version only, unless `--full`. A server starts at its first use and every test may stop or crash it, as long as it is
running again afterwards. A `database` is fresh, and is dropped after the test together with its slots, whoever still
holds them. A server that is not installed is an error that names the command, never a skip.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from connector.demo.postgres import PostgresServer, debian_bin_dir, wheel_bin_dir
from connector.errors import ConnectorError

SUPERUSER = "postgres"
OWNER = "owner"
CONNECTOR = "emc_cdc"

_SOURCES = {15: debian_bin_dir, 16: wheel_bin_dir, 18: wheel_bin_dir}
_HEAVY = 16
_DROP_SECONDS = 30.0
_numbers = count(1)

# Nobody but the owner may make tables; the connector has what the documentation tells operators to grant, and no more.
_ROLES = f"""
CREATE ROLE {OWNER} LOGIN NOSUPERUSER;
CREATE ROLE {CONNECTOR} LOGIN REPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
"""
_END_SLOT_HOLDERS = """
SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = %s AND active_pid IS NOT NULL"""
_DROP_SLOTS = """
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s AND active_pid IS NULL"""
_SLOTS = "SELECT count(*) FROM pg_replication_slots WHERE database = %s"
_PREPARED = "SELECT gid FROM pg_prepared_xacts WHERE database = %s"


@dataclass(frozen=True, slots=True)
class Database:
    """An empty database of one test. It belongs to `owner`; the connector's role has nothing in it but CONNECT."""

    server: PostgresServer
    name: str

    @property
    def superuser(self) -> str:
        """DSN of the superuser, for what an administrator would do."""
        return self.server.dsn(SUPERUSER, self.name)

    @property
    def owner(self) -> str:
        """DSN of the role that owns the tables: the legacy application's, not a superuser."""
        return self.server.dsn(OWNER, self.name)

    @property
    def connector(self) -> str:
        """DSN of the role `emc_cdc`: LOGIN and REPLICATION only."""
        return self.server.dsn(CONNECTOR, self.name)


def programs(version: int) -> Path:
    """The programs of a major version. ConnectorError with the command that installs them."""
    if version not in _SOURCES:
        raise ConnectorError(
            "find PostgreSQL", f"version {version}", "no source is known", f"choose among {sorted(_SOURCES)}"
        )
    return _SOURCES[version](version)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("emc-cdc")
    group.addoption(
        "--pg",
        default=os.environ.get("EMC_CDC_PG") or ",".join(map(str, _SOURCES)),
        metavar="VERSIONS",
        help="major versions of PostgreSQL to test on, with commas (default: all, or EMC_CDC_PG)",
    )
    group.addoption("--full", action="store_true", help="run the heavy tests on every version of PostgreSQL too")


def pytest_report_header(config: pytest.Config) -> list[str]:
    return [f"PostgreSQL {version}: {_described(version)}" for version in _versions(config)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "postgres" not in metafunc.fixturenames:
        return
    versions = _versions(metafunc.config)
    if metafunc.definition.get_closest_marker("heavy") and not metafunc.config.getoption("full"):
        versions = [_HEAVY] if _HEAVY in versions else versions[:1]
    ids = [f"pg{version}" for version in versions]
    metafunc.parametrize("postgres", versions, indirect=True, scope="session", ids=ids)


@pytest.fixture(scope="session")
def postgres_servers() -> Iterator[dict[int, PostgresServer]]:
    """The servers that have been used so far, by version."""
    servers: dict[int, PostgresServer] = {}
    yield servers
    for server in servers.values():
        server.remove()


@pytest.fixture(scope="session")
def postgres(
    request: pytest.FixtureRequest,
    postgres_servers: dict[int, PostgresServer],
    tmp_path_factory: pytest.TempPathFactory,
) -> PostgresServer:
    """A running server of the version at hand, with the roles `owner` and `emc_cdc`."""
    version: int = request.param
    if version not in postgres_servers:
        try:
            directory = programs(version)
        except ConnectorError as error:
            pytest.fail(f"{error}; install it: {error.mend}", pytrace=False)
        server = PostgresServer(directory, tmp_path_factory.mktemp(f"pg{version}-") / "data")
        postgres_servers[version] = server.__enter__()
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(_ROLES.encode())
    return postgres_servers[version]


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[Database]:
    """A fresh database on every version."""
    database = Database(postgres, f"test_{next(_numbers)}")
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database.name), sql.Identifier(OWNER))
        )
    yield database
    drop(database)


def drop(database: Database) -> None:
    """Drop a database, ending whatever uses it: slots, connections, prepared transactions."""
    with psycopg.connect(database.superuser, autocommit=True) as connection:
        for (prepared,) in connection.execute(_PREPARED, (database.name,)).fetchall():
            connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(prepared))
    with psycopg.connect(database.server.dsn(), autocommit=True) as connection:
        deadline = time.monotonic() + _DROP_SECONDS
        while connection.execute(_SLOTS, (database.name,)).fetchall() != [(0,)]:
            assert time.monotonic() < deadline, "a replication slot of the test cannot be dropped"
            connection.execute(_END_SLOT_HOLDERS, (database.name,))
            try:
                connection.execute(_DROP_SLOTS, (database.name,))
            except psycopg.errors.ObjectInUse:
                continue  # somebody took it between the two statements
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database.name)))


def _versions(config: pytest.Config) -> list[int]:
    wanted: str = config.getoption("pg")
    try:
        versions = [int(version) for version in wanted.split(",")]
    except ValueError:
        raise pytest.UsageError(f"--pg takes versions with commas, such as 15,18; not {wanted!r}") from None
    if unknown := sorted(set(versions) - set(_SOURCES)):
        raise pytest.UsageError(f"--pg knows {sorted(_SOURCES)}, not {unknown}")
    return versions


def _described(version: int) -> str:
    try:
        directory = programs(version)
    except ConnectorError as error:
        return f"NOT INSTALLED: {error.mend}"
    said = subprocess.run([directory / "postgres", "--version"], capture_output=True, text=True, check=True)
    return said.stdout.strip().rpartition(") ")[2]
