"""Servers that come from another one: standbys, base backups, copies of the data directory.

Contract: every server is a `PostgresServer` of its own, ended by the caller's ExitStack. A standby follows through a
physical slot, `STANDBY_SLOT`, with hot_standby_feedback; its roles and databases are its primary's.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from connector.demo.postgres import PostgresServer
from plugins.postgres import Database, bin_dir

STANDBY_SLOT = "du_phong"
NAME = "mot_cua"


def private(stack: ExitStack, version: int, settings: Mapping[str, str] | None = None) -> Database:
    """A server of its own with the usual roles and one database of the owner's."""
    server = PostgresServer(bin_dir(version), home(stack) / "data", settings)
    stack.enter_context(server)
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        for statement in (
            "CREATE ROLE owner LOGIN",
            "CREATE ROLE emc_cdc LOGIN REPLICATION",
            f"CREATE DATABASE {NAME} OWNER owner",
            f"SELECT pg_create_physical_replication_slot('{STANDBY_SLOT}', true)",
        ):
            admin.execute(statement.encode())
    return Database(server, version, NAME)


def standby_of(stack: ExitStack, primary: Database, settings: Mapping[str, str] | None = None) -> Database:
    """A standby that follows the primary."""
    data = base_backup(stack, primary)
    (data / "standby.signal").touch()
    conninfo = f"{primary.server.dsn()} application_name={STANDBY_SLOT}"
    follow = {"primary_conninfo": conninfo, "primary_slot_name": STANDBY_SLOT, "hot_standby_feedback": "on"}
    server = PostgresServer(primary.server.bin_dir, data, {**follow, **(settings or {})})
    stack.enter_context(server)
    return Database(server, primary.version, primary.name)


def base_backup(stack: ExitStack, origin: Database) -> Path:
    """A data directory made by pg_basebackup, which leaves replication slots out."""
    data = home(stack) / "data"
    command = [str(origin.server.bin_dir / "pg_basebackup"), "-D", str(data), "-d", origin.server.dsn(), "-c", "fast"]
    subprocess.run([*command, "-X", "stream", "--no-sync"], check=True, capture_output=True)
    return data


def copy_of(stack: ExitStack, server: PostgresServer) -> Path:
    """The data directory of a server that is stopped, slots and all."""
    data = home(stack) / "data"
    shutil.copytree(server.data_dir, data, symlinks=True)
    return data


def put_back(server: PostgresServer, data: Path) -> None:
    """Restore a stopped server from a copy of its data directory."""
    shutil.rmtree(server.data_dir)
    shutil.copytree(data, server.data_dir, symlinks=True)


def promote(database: Database) -> None:
    """Make a standby the primary, and wait until it is."""
    with psycopg.connect(database.dsn("postgres"), autocommit=True) as admin:
        assert admin.execute("SELECT pg_promote(true, 60)").fetchone() == (True,)


def home(stack: ExitStack) -> Path:
    """A directory that the account which runs root's servers can reach."""
    return Path(stack.enter_context(TemporaryDirectory(prefix="emc-cdc-pg-")))
