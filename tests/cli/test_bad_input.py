"""What an operator can get wrong: one clear message with its mend, exit code 2, never a traceback or a secret."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from plugins.postgres import Database

from connector.catalog.identifier import quote
from connector.demo.postgres import PostgresServer, wheel_bin_dir

SECRET = "mat-khau-khong-duoc-in"
PRESET = {"extends": "preset:one-stop-generic", "SiteId": 327}
Change = Callable[[dict[str, Any]], None]


class Place:
    """A legacy database that is ready for us, and a configuration file that a test spoils."""

    def __init__(self, database: Database, directory: Path) -> None:
        self.database = database
        self.directory = directory
        self.config = directory / "emc-cdc.yml"
        self.settings: dict[str, Any] = {
            "name": "thu",
            "source": {"dsn": f"{database.dsn('emc_cdc')} password={SECRET}", "data": str(directory / "capture")},
            "log": {"partitions": 1, "embedded": {"path": str(directory / "log.sqlite")}},
            "mapping": PRESET,
            "emc": {"url": "http://127.0.0.1:9/TrackingMCDT"},
            "delivery": {"state": str(directory / "state")},
            "console": {"listen": "127.0.0.1:0"},
        }

    def write(self) -> None:
        """Write the configuration."""
        self.config.write_text(yaml.safe_dump(self.settings, allow_unicode=True), encoding="utf-8")

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `emc-cdc` as its user does."""
        return subprocess.run(
            [sys.executable, "-m", "connector.cli", *arguments, "--config", str(self.config)],
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            cwd=self.directory,
        )

    def refused(self, *arguments: str) -> str:
        """The message of a command that must refuse."""
        self.write()
        done = self.command(*arguments)
        said = done.stdout + done.stderr
        assert done.returncode == 2, said
        assert "Traceback" not in said
        assert SECRET not in said
        assert "→" in said, said
        return " ".join(said.split())


@pytest.fixture
def place(database: Database, tmp_path: Path) -> Iterator[Place]:
    """The demo's legacy schema, its publication and grants, made by its owner."""
    made = Place(database, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "connector.demo.legacy", "--prepare", "--dsn", database.dsn("owner"), "--load", "3"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made.write()
    setup = made.command("setup", "--apply", "--owner-dsn", database.dsn("owner"))
    assert setup.returncode == 0, setup.stderr
    return made


def spoil(section: str, key: str, value: Any) -> Change:
    """A change of one setting."""

    def change(settings: dict[str, Any]) -> None:
        settings[section] = {**settings[section], key: value}

    return change


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


BROKEN_FILES: list[tuple[str, Change, str]] = [
    ("not a dsn", spoil("source", "dsn", f"host local {SECRET}"), "connection string"),
    ("unknown EMC parameter", spoil("mapping", "CodeProfil", "ma_ho_so"), "CodeProfile"),
    ("missing variable", spoil("source", "dsn", "${env:KHONG_CO_BIEN_NAY}"), "KHONG_CO_BIEN_NAY"),
    ("plain http to EMC", spoil("emc", "url", "http://emc.example/TrackingMCDT"), "https://"),
    ("unknown setting", spoil("source", "dns", "x"), "dsn"),
]


@pytest.mark.parametrize(("what", "change", "expected"), BROKEN_FILES, ids=[case[0] for case in BROKEN_FILES])
def test_a_configuration_that_cannot_be_used(tmp_path: Path, what: str, change: Change, expected: str) -> None:
    """It is refused before anything is touched."""
    settings = {
        "name": "thu",
        "source": {"dsn": "host=127.0.0.1 user=x", "data": str(tmp_path)},
        "log": {"embedded": {"path": str(tmp_path / "log.sqlite")}},
        "mapping": PRESET,
        "emc": {"url": "https://emc.example/x"},
        "delivery": {"state": str(tmp_path / "state")},
        "console": None,
    }
    change(settings)
    config = tmp_path / "emc-cdc.yml"
    config.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "connector.cli", "run", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert expected in said
    assert "→" in said
    assert "Traceback" not in said
    assert SECRET not in said


def test_a_missing_file_as_json(tmp_path: Path) -> None:
    """With --json the error is one JSON document on standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "connector.cli", "status", "--json", "--config", str(tmp_path / "no.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (error,) = json.loads(done.stdout)["errors"]
    assert set(error) == {"operation", "subject", "cause", "mend"}


def test_a_server_that_is_not_there(place: Place) -> None:
    """A wrong port ends the first start, and says where to look."""
    place.settings["source"]["dsn"] = f"host=127.0.0.1 port={closed_port()} user=emc_cdc dbname=x password={SECRET}"
    assert "source.dsn" in place.refused("capture")


def test_a_database_that_is_not_there(place: Place) -> None:
    """A wrong database is named as such."""
    dsn = place.database.dsn("emc_cdc").replace(place.database.name, "khong_co")
    place.settings["source"]["dsn"] = dsn
    assert "khong_co" in place.refused("capture")


def test_a_role_that_may_not_replicate(place: Place) -> None:
    """The mend is the superuser's SQL; once run, capture can start."""
    with psycopg.connect(place.database.dsn("postgres"), autocommit=True) as admin:
        admin.execute("ALTER ROLE emc_cdc NOREPLICATION")
        try:
            assert "REPLICATION" in place.refused("capture")
        finally:
            admin.execute("ALTER ROLE emc_cdc REPLICATION")


def test_a_table_that_is_not_there(place: Place) -> None:
    """The message names it."""
    with psycopg.connect(place.database.dsn("owner"), autocommit=True) as owner:
        owner.execute("ALTER TABLE motcua.thanh_toan RENAME TO thanh_toan_cu")
    assert "motcua.thanh_toan" in place.refused("capture")


def test_a_column_that_is_not_there(place: Place) -> None:
    """The message names it, and the nearest one."""
    with psycopg.connect(place.database.dsn("owner"), autocommit=True) as owner:
        owner.execute("ALTER TABLE motcua.ho_so RENAME COLUMN kenh_nop TO kenh_nop_hs")
    said = place.refused("capture")
    assert "kenh_nop" in said
    assert "kenh_nop_hs" in said


def test_a_table_without_a_primary_key(place: Place) -> None:
    """It is refused with the SQL that mends it."""
    with psycopg.connect(place.database.dsn("owner"), autocommit=True) as owner:
        name = owner.execute(
            "SELECT conname FROM pg_constraint WHERE conrelid = 'motcua.thanh_toan'::regclass AND contype = 'p'"
        ).fetchall()[0][0]
        owner.execute(f"ALTER TABLE motcua.thanh_toan DROP CONSTRAINT {quote(name)}")
    assert "ADD PRIMARY KEY" in place.refused("capture")


def test_a_publication_that_is_not_there(place: Place) -> None:
    """The mend is the owner's SQL."""
    with psycopg.connect(place.database.dsn("owner"), autocommit=True) as owner:
        owner.execute("DROP PUBLICATION emc_cdc_thu")
    assert "CREATE PUBLICATION" in place.refused("capture")


def test_an_emc_that_is_not_there(place: Place) -> None:
    """The first start tells of it; nothing has been attached then."""
    place.settings["emc"]["url"] = f"http://127.0.0.1:{closed_port()}/TrackingMCDT"
    assert "emc.url" in place.refused("deliver")


def test_a_kafka_that_is_not_there(place: Place) -> None:
    """Capture and deliver both say so."""
    place.settings["log"] = {"partitions": 1, "kafka": {"brokers": f"127.0.0.1:{closed_port()}"}}
    assert "log.kafka" in place.refused("deliver") or "Kafka" in place.refused("deliver")
    assert "127.0.0.1" in place.refused("capture")


def test_a_port_that_is_taken(place: Place) -> None:
    """The console's address is named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place.settings["console"] = {"listen": f"127.0.0.1:{taken.getsockname()[1]}"}
        assert "console" in place.refused("run")


@pytest.mark.parametrize(
    "command", ["demo", "check", "setup", "preview", "report", "run", "capture", "deliver", "status", "simulator"]
)
def test_every_command_explains_itself(command: str) -> None:
    """--help has an example."""
    done = subprocess.run(
        [sys.executable, "-m", "connector.cli", command, "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert f"Example: emc-cdc {command}" in " ".join(done.stdout.split())


def test_a_server_that_does_not_decode(tmp_path: Path) -> None:
    """wal_level = replica is told with the SQL that mends it."""
    with PostgresServer(wheel_bin_dir(16), Path(tempfile.mkdtemp()) / "data", {"wal_level": "replica"}) as server:
        settings = {
            "name": "thu",
            "source": {"dsn": server.dsn("postgres", "postgres"), "data": str(tmp_path / "capture")},
            "log": {"embedded": {"path": str(tmp_path / "log.sqlite")}},
            "mapping": PRESET,
            "console": None,
        }
        config = tmp_path / "emc-cdc.yml"
        config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "connector.cli", "capture", "--config", str(config)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
        )
    assert done.returncode == 2
    assert "ALTER SYSTEM SET wal_level = 'logical'" in done.stderr
    assert "Traceback" not in done.stderr
