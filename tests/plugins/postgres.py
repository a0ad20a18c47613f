"""Real PostgreSQL servers for the tests: every version in turn, and a fresh database for every test.

Contract: a test that asks for `postgres` or `database` runs on one of the versions of `--pg`, always the same one, so
that each version has its share of the tests; with `--full`, or marked `every_server` because servers differ in what
it shows, it runs once for each. A server starts at its first use and ends after the last test of its version, so
that at most one of them runs. Its databases share two roles beside the superuser `postgres`: `owner`, whose database
it is, and `emc_cdc`, which may log in and replicate and nothing else. There are no passwords. A server that is not
there is an error that names the command which installs it, never a skip.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal
from zlib import crc32

import psycopg
import pytest
from psycopg import sql

from connector.demo.postgres import WHEEL_DIRECTORIES, PostgresServer, debian_bin_dir, wheel_bin_dir
from connector.errors import ConnectorError

Role = Literal["owner", "emc_cdc", "postgres"]

VERSIONS = "15,16,18"

_ROLES = ("CREATE ROLE owner LOGIN", "CREATE ROLE emc_cdc LOGIN REPLICATION")
# A slot in use cannot be dropped; its user is asked to leave first, and waited for.
_END_USERS = """
SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots
WHERE database = %s AND active_pid IS NOT NULL"""
_DROP_SLOTS = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s"

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Database:
    """A database of its own on a server shared with other tests."""

    server: PostgresServer
    version: int
    name: str

    def dsn(self, role: Role = "owner") -> str:
        """A libpq connection string to this database as one of the three roles."""
        return self.server.dsn(role, self.name)


def bin_dir(version: int) -> Path:
    """The programs of a major version, from the wheel or from Debian. ConnectorError when they are not there."""
    return wheel_bin_dir(version) if version in WHEEL_DIRECTORIES else debian_bin_dir(version)


def server_version(server: PostgresServer) -> int:
    """The major version of a server."""
    return int((server.data_dir / "PG_VERSION").read_text(encoding="ascii"))


def versions(config: pytest.Config) -> list[int]:
    """The major versions of `--pg`. UsageError for anything but numbers."""
    text: str = config.getoption("--pg")
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise pytest.UsageError(f"--pg takes major versions as {VERSIONS}, not {text!r}") from None


def chosen(test: str, among: list[int], *, everywhere: bool) -> list[int]:
    """The versions that a test runs on: all, or the one that its name falls to, in every process and on any machine."""
    return among if everywhere else [among[crc32(test.encode()) % len(among)]]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("emc-cdc")
    group.addoption("--pg", default=VERSIONS, help=f"PostgreSQL versions to run on (default: {VERSIONS})")
    group.addoption("--full", action="store_true", help="run every test on every version of --pg")


def pytest_report_header(config: pytest.Config) -> list[str]:
    return [f"PostgreSQL: {', '.join(_described(version) for version in versions(config))}"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "postgres" not in metafunc.fixturenames:
        return
    wanted = versions(metafunc.config)
    marked = metafunc.definition.get_closest_marker("every_server") is not None
    wanted = chosen(metafunc.definition.nodeid, wanted, everywhere=marked or metafunc.config.getoption("--full"))
    ids = [f"pg{version}" for version in wanted]
    metafunc.parametrize("postgres", wanted, ids=ids, indirect=True, scope="session")


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A server of one of the versions, with the two roles."""
    try:
        programs = bin_dir(request.param)
    except ConnectorError as error:
        pytest.fail(str(error), pytrace=False)
    # Not tmp_path: pytest closes it to the unprivileged user that root's server runs as.
    with (
        TemporaryDirectory(prefix="emc-cdc-pg-") as home,
        PostgresServer(programs, Path(home) / "data") as server,
    ):
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            for statement in _ROLES:
                connection.execute(statement)
        yield server


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[Database]:
    """An empty database that `owner` owns; afterwards it is dropped with its slots and whoever uses them."""
    made = Database(postgres, server_version(postgres), f"test_{next(_numbers)}")
    name = sql.Identifier(made.name)
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER owner").format(name))
    yield made
    if not postgres.running:
        postgres.start()
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(_END_USERS, [made.name])
        connection.execute(_DROP_SLOTS, [made.name])
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def _described(version: int) -> str:
    """The full version, as the server itself tells it."""
    try:
        command = [str(bin_dir(version) / "postgres"), "--version"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[2]
    except (ConnectorError, OSError, subprocess.CalledProcessError):
        return f"{version} (not installed)"
