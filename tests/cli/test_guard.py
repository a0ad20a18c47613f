"""`emc-cdc guard`: asks as the runtime role, keeps the budget where the connector is dead, and says what it did."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from plugins.postgres import Database

from connector.settings import SourceSettings
from connector.source.connection import replicate
from connector.source.gap import GAP, over_budget
from connector.source.index import KeyedIndex
from connector.source.slot import start_streaming

SLOT = "emc_cdc_thu"
SECRET = "mat-khau-khong-duoc-in"


class Place:
    """A database with our slot, made by the runtime role, and the configuration file beside it."""

    def __init__(self, database: Database, directory: Path) -> None:
        self.database = database
        self.config = directory / "emc-cdc.yml"
        self.source: dict[str, Any] = {
            "dsn": f"{database.dsn('emc_cdc')} password={SECRET}",
            "wal_budget": "40MB",
        }
        self.ask("CREATE PUBLICATION thu")
        self.ask("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", SLOT, role="emc_cdc")

    def ask(self, query: str, *values: object, role: Any = "postgres") -> list[tuple[Any, ...]]:
        """A question, or a statement."""
        with psycopg.connect(self.database.dsn(role), autocommit=True) as connection:
            cursor = connection.execute(query.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    @property
    def slots(self) -> list[str]:
        return [name for (name,) in self.ask("SELECT slot_name FROM pg_replication_slots ORDER BY 1")]

    def pass_budget(self) -> None:
        """A busy neighbour."""
        for number in range(4):
            self.ask(f"CREATE TABLE IF NOT EXISTS nhat_ky_{number} (); SELECT pg_switch_wal()")

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a timer does."""
        mapping = {"extends": "preset:one-stop-generic", "SiteId": 1}
        settings = {"name": "thu", "source": self.source, "mapping": mapping}
        self.config.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "connector.cli", *arguments, "--config", str(self.config)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=self.config.parent,
        )
        assert "Traceback" not in done.stderr + done.stdout
        assert SECRET not in done.stderr + done.stdout
        return done

    def told(self, code: int, *arguments: str) -> dict[str, Any]:
        """What `--json` says, with this exit code."""
        done = self.command("guard", "--json", *arguments)
        assert done.returncode == code, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    @contextmanager
    def streaming(self) -> Iterator[psycopg.pq.abc.PGconn]:
        """A capture that is stuck: it holds the slot and confirms nothing."""
        version = self.database.version * 10000
        connection = replicate(SourceSettings.model_validate({"dsn": self.database.dsn("emc_cdc")}), version)
        try:
            start_streaming(connection, SLOT, "thu", version)
            yield connection
        finally:
            connection.finish()


@pytest.fixture
def place(database: Database, tmp_path: Path) -> Place:
    return Place(database, tmp_path)


def test_within_and_over_the_budget(place: Place) -> None:
    """0 within it; over it 1 and what to do; by default nothing is dropped."""
    assert place.told(0)["state"] == "fine"
    place.pass_budget()
    found = place.told(1)
    assert (found["state"], found["budget_bytes"], found["active_pid"]) == ("over_budget", 40 * 1024**2, None)
    assert found["own_bytes"] > found["budget_bytes"]
    assert "emc-cdc guard --drop" in found["mend"].replace("` --", " --").replace("\n", " ")
    assert place.slots == [SLOT]


@pytest.mark.parametrize("how", ["drop_slot", "--drop"])
def test_the_slot_is_dropped_where_that_was_chosen(place: Place, how: str) -> None:
    """The configuration or the command says so: our slot goes, a neighbour's stays; it says what capture will do."""
    place.ask("SELECT pg_create_logical_replication_slot('neighbour', 'pgoutput')")
    place.pass_budget()
    if how == "drop_slot":
        place.source["on_wal_budget"] = "drop_slot"
    found = place.told(1, *([] if how == "drop_slot" else [how]))
    assert found["state"] == "dropped"
    assert ("reads the tables anew" if how == "drop_slot" else "emc-cdc snapshot --all") in found["mend"]
    assert place.slots == ["neighbour"]
    assert place.told(0)["state"] == "absent"


def test_a_capture_at_work_is_left_alone_unless_forced(place: Place) -> None:
    """A slot in use is not dropped; with --force its connection is ended first."""
    place.source["on_wal_budget"] = "drop_slot"
    with place.streaming() as connection:
        place.pass_budget()
        found = place.told(1)
        assert (found["state"], found["active_pid"]) == ("over_budget", connection.backend_pid)
        assert "--force" in found["mend"]
        assert place.slots == [SLOT]
        assert place.told(1, "--force")["state"] == "dropped"
        assert place.slots == []


def test_a_transaction_that_holds_the_wal_is_named(place: Place) -> None:
    """The slot has confirmed everything, an open transaction holds restart_lsn: named, and the slot is kept."""
    place.source["on_wal_budget"] = "drop_slot"
    place.ask("CREATE TABLE t ()")
    with psycopg.connect(place.database.dsn("owner"), application_name="mot-cua web") as held:
        held.execute("CREATE TEMP TABLE u ()")
        place.pass_budget()
        place.ask("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", SLOT)
        found = place.told(1)
        assert found["state"] == "over_budget"
        assert found["own_bytes"] < found["budget_bytes"] < found["retained_bytes"]
        assert [one["end_sql"] for one in found["holders"]] == [
            f"SELECT pg_terminate_backend({held.info.backend_pid});"
        ]
        assert found["holders"][0]["application"] == "mot-cua web"
        assert place.slots == [SLOT]


def test_status_tells_of_it(place: Place) -> None:
    """Over the budget; and without the slot what was remembered of it, and what follows."""
    place.pass_budget()
    told = json.loads(place.command("status", "--json").stdout)["source"]["wal_budget"]
    assert (told["bytes"], told["passed"]) == (40 * 1024**2, True)
    assert "is not in the log yet" in told["cause"]
    shown = place.command("status")
    assert shown.returncode == 1
    assert "vượt source.wal_budget" in shown.stdout
    place.source["on_wal_budget"] = "drop_slot"
    assert place.told(1)["state"] == "dropped"
    index = KeyedIndex(place.config.parent / "data" / "capture" / "thu.index.sqlite")
    index.save([], {"state": "streaming", "confirmed": "0", GAP: over_budget("40.1 MB of 40 MB")})
    index.close()
    source = json.loads(place.command("status", "--json").stdout)["source"]
    assert "it was dropped to keep within source.wal_budget" in source["error"]
    assert "as soon as the log takes again" in source["mend"]
    place.source["on_wal_budget"] = "alert"
    source = json.loads(place.command("status", "--json").stdout)["source"]
    assert "emc-cdc snapshot --all" in source["mend"]


def test_what_it_cannot_do(place: Place) -> None:
    """2 with the mend: no budget is set, or nobody answers."""
    del place.source["wal_budget"]
    done = place.command("guard")
    assert done.returncode == 2
    assert "source.wal_budget" in done.stderr
    place.source |= {"wal_budget": "40MB", "dsn": "host=127.0.0.1 port=9 dbname=x user=y"}
    assert place.command("guard", "--json").returncode == 2
