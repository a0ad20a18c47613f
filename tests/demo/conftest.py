"""One private server for this directory, and databases with the legacy application's schema on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from legacy_run import ROOT, Run, legacy

from connector.demo.oracle import last_action
from connector.demo.postgres import PostgresServer, wheel_bin_dir


@pytest.fixture(scope="session")
def demo_server() -> Iterator[PostgresServer]:
    with TemporaryDirectory() as home, PostgresServer(wheel_bin_dir(18), Path(home) / "data") as server:
        yield server


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory for a server. Not tmp_path: another pytest of root's would close it to the server's user."""
    with TemporaryDirectory() as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def legacy_database(demo_server: PostgresServer) -> Callable[[str, int], str]:
    """Makes a database with the application installed and so many old dossiers; returns its DSN."""

    def make(name: str, load: int) -> str:
        with psycopg.connect(demo_server.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        dsn = demo_server.dsn(dbname=name)
        legacy(dsn, "--prepare", "--load", str(load))
        return dsn

    return make


@pytest.fixture(scope="session")
def run(legacy_database: Callable[[str, int], str]) -> Run:
    """300 lives beside 300 old dossiers, on four connections, as fast as they go."""
    dsn = legacy_database("lived", 300)
    since = last_action(dsn)
    return Run(dsn, since, json.loads(legacy(dsn, "--dossiers", "300", "--seed", "7")))


@pytest.fixture
def repository() -> Path:
    return ROOT
