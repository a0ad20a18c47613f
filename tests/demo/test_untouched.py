"""The legacy application with and without the connector: no statement fails in either, and the rows are the same.

One worker of the application makes a run of the same seed the same run, so that two databases of one server can be
compared row by row; only times, and what is made of them, are left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest
import yaml
from legacy_run import ROOT, command, legacy

from connector.demo.postgres import PostgresServer, wheel_bin_dir

PATIENCE = 180.0
WITHOUT, WITH = "khong_co", "co_ket_noi"

# What the application's vendor rolls out one day: new and changed columns (mapped ones, too), a rewrite, constraints,
# an index that waits for everybody's snapshots, another replica identity for a time.
MIGRATIONS = """
ALTER TABLE motcua.ho_so ADD COLUMN uu_tien int NOT NULL DEFAULT 0, ADD COLUMN tam text
ALTER TABLE motcua.ho_so ALTER COLUMN ma_ho_so TYPE varchar(80)
ALTER TABLE motcua.ho_so ALTER COLUMN trang_thai TYPE text
UPDATE motcua.ho_so SET uu_tien = id % 3, tam = 'x'
CREATE INDEX CONCURRENTLY ho_so_uu_tien ON motcua.ho_so (uu_tien)
ALTER TABLE motcua.ho_so DROP COLUMN tam
ALTER TABLE motcua.thanh_toan ADD CONSTRAINT so_duong CHECK (so_tien >= 0) NOT VALID
ALTER TABLE motcua.thanh_toan VALIDATE CONSTRAINT so_duong
ALTER TABLE motcua.thanh_toan REPLICA IDENTITY FULL
UPDATE motcua.thanh_toan SET so_tien = so_tien + 1
ALTER TABLE motcua.thanh_toan REPLICA IDENTITY DEFAULT
TRUNCATE motcua.phien_in
CREATE TABLE motcua.dinh_kem (id serial PRIMARY KEY, ho_so_id bigint REFERENCES motcua.ho_so)
INSERT INTO motcua.dinh_kem (ho_so_id) SELECT id FROM motcua.ho_so ORDER BY id
DELETE FROM motcua.dinh_kem WHERE ho_so_id % 2 = 0
VACUUM FULL motcua.ho_so
"""

_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'motcua' ORDER BY 1"
_COLUMNS = """
SELECT column_name FROM information_schema.columns
 WHERE table_schema = 'motcua' AND table_name = %s AND column_name <> 'giao_dich'
   AND data_type NOT IN ('timestamp without time zone', 'date') ORDER BY ordinal_position
"""
# A dossier's number holds its day, and a remark the time of day.
_VALUE = r"regexp_replace({}::text, '-\d{{6}}-|lúc \d\d:\d\d', '-', 'g')"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that logs who was refused what, with the application's owner and our least role."""
    settings = {"log_line_prefix": "%d|%u|"}
    with TemporaryDirectory() as home, PostgresServer(wheel_bin_dir(18), Path(home) / "data", settings) as made:
        with psycopg.connect(made.dsn(), autocommit=True) as connection:
            connection.execute("CREATE ROLE owner LOGIN")
            connection.execute("CREATE ROLE emc_cdc LOGIN REPLICATION")
            connection.execute(f"CREATE DATABASE {WITHOUT} OWNER owner")
            connection.execute(f"CREATE DATABASE {WITH} OWNER owner")
        yield made


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def rows(dsn: str) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that the application keeps, without times."""
    found = {}
    with psycopg.connect(dsn) as connection:
        for (table,) in connection.execute(_TABLES).fetchall():
            columns = [_VALUE.format(f'"{name}"') for (name,) in connection.execute(_COLUMNS, [table]).fetchall()]
            query = f"SELECT {', '.join(columns)} FROM motcua.{table}"
            found[table] = sorted(connection.execute(query.encode()).fetchall(), key=repr)
    return found


def migrate(dsn: str) -> None:
    """As the application's vendor would: one statement after another."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in MIGRATIONS.strip().splitlines():
            connection.execute(statement.encode())


def refused(server: PostgresServer) -> set[tuple[str, str]]:
    """(database, what was refused) of every statement of the application's that failed, as the server logged it."""
    lines = server.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
    parts = [line.split("|", 2) for line in lines if line.count("|") >= 2]
    return {
        (database, words)
        for database, user, words in parts
        if user == "owner" and words.startswith(("ERROR", "FATAL", "PANIC"))
    }


class Connector:
    """The commands of an operator, and capture as a process."""

    def __init__(self, server: PostgresServer, directory: Path) -> None:
        self._server = server
        self._config = directory / "emc-cdc.yml"
        settings = {
            "name": "thu",
            "source": {"dsn": server.dsn("emc_cdc", WITH), "data": str(directory / "capture")},
            "log": {"embedded": {"path": str(directory / "log.sqlite")}},
            "console": None,
            "mapping": {"extends": "preset:one-stop-generic", "SiteId": 327},
        }
        self._config.write_text(yaml.safe_dump(settings), encoding="utf-8")

    def words(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "connector.cli", *arguments, "--config", str(self._config)]

    def setup(self, *arguments: str) -> None:
        """`emc-cdc setup --apply`, the owner's part over the owner's connection."""
        owner = self._server.dsn("owner", WITH)
        subprocess.run(
            self.words("setup", *arguments, "--apply", "--owner-dsn", owner), cwd=ROOT, check=True, capture_output=True
        )

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Capture works from here on, and must still do so at the end of the block."""
        with subprocess.Popen(self.words("capture"), cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
            try:
                yield
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
            finally:
                process.terminate()
                process.communicate(timeout=PATIENCE)

    def caught_up(self) -> None:
        """Wait until everything there is now has been captured."""
        with psycopg.connect(self._server.dsn("postgres", WITH), autocommit=True) as connection:
            (end,) = connection.execute("SELECT pg_current_wal_lsn()::text").fetchall()[0]
            query = "SELECT count(*) = 1 FROM pg_replication_slots WHERE confirmed_flush_lsn >= %s::pg_lsn"
            until(lambda: connection.execute(query, [end]).fetchall() == [(True,)], "capture has caught up")


def test_the_application_does_not_notice(server: PostgresServer, tmp_path: Path) -> None:
    """Attached while it works, through its migrations and to the end: nothing fails, and every row is the same."""
    alone, watched = server.dsn("owner", WITHOUT), server.dsn("owner", WITH)
    connector = Connector(server, tmp_path)
    for dsn in (alone, watched):
        legacy(dsn, "--prepare", "--load", "100", "--seed", "5")
    printed: dict[str, list[dict[str, float]]] = {
        alone: [json.loads(legacy(alone, "--dossiers", "150", "--seed", "7", "--workers", "1"))],
        watched: [],
    }
    # Slowly, so that it is at work while the connector attaches.
    first = command(watched, "--dossiers", "150", "--seed", "7", "--workers", "1", "--rate", "150")
    with subprocess.Popen(first, stdout=subprocess.PIPE, text=True, cwd=ROOT) as application:
        connector.setup()
        with connector.capturing():
            printed[watched].append(json.loads(application.communicate(timeout=PATIENCE)[0]))
            for dsn in (alone, watched):
                migrate(dsn)
                printed[dsn].append(json.loads(legacy(dsn, "--dossiers", "150", "--seed", "8", "--workers", "1")))
            connector.caught_up()
    assert refused(server) == set()
    for one, other in zip(printed[alone], printed[watched], strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    expected, found = rows(alone), rows(watched)
    assert expected.keys() == found.keys()
    for table, kept in expected.items():
        assert found[table] == kept, table
    assert len(expected["ho_so"]) > 300
    assert len(expected["dinh_kem"]) > 50
    connector.setup("--undo")
    with psycopg.connect(server.dsn()) as connection:
        assert connection.execute("SELECT count(*) FROM pg_replication_slots").fetchall() == [(0,)]
    legacy(watched, "--dossiers", "20", "--seed", "9")
    assert refused(server) == set()


def test_a_refused_statement_would_be_seen(server: PostgresServer) -> None:
    """The comparison can fail: a statement of the owner's that the server refuses is found in its log."""
    with psycopg.connect(server.dsn("owner", WITHOUT)) as connection, pytest.raises(psycopg.Error):
        connection.execute("UPDATE motcua.khong_co SET x = 1")
    assert [database for database, _ in refused(server)] == [WITHOUT]
