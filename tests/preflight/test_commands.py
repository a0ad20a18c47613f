"""`emc-cdc check` and `emc-cdc setup` as their users meet them, on the demo's legacy schema."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from attached_database import Attached
from plugins.postgres import Database
from typer.testing import CliRunner

from connector.cli import app
from connector.errors import SourceError


class Emc(BaseHTTPRequestHandler):
    """Answers as an API does that is not asked for an event."""

    def do_OPTIONS(self) -> None:
        self.send_response(405)
        self.send_header("Allow", "POST")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


class Commands:
    """The two commands, a configuration that suits them, and an EMC that answers."""

    def __init__(self, attached: Attached, directory: Path, port: int) -> None:
        self.attached = attached
        self.config = directory / "emc-cdc.yml"
        self.settings: dict[str, Any] = {
            "name": "mot-cua",
            "source": {"dsn": attached.server.dsn("emc_cdc", attached.database), "data": str(directory / "capture")},
            "log": {"embedded": {"path": str(directory / "log.sqlite")}},
            "mapping": {"extends": "preset:one-stop-generic", "SiteId": 327},
            "emc": {"url": f"http://127.0.0.1:{port}/TrackingMCDT"},
            "delivery": {"state": str(directory / "state")},
        }

    def run(self, *arguments: str) -> tuple[int, str]:
        """Exit code and standard output; a ConnectorError is raised, for `connector.cli.main` to print."""
        self.config.write_text(yaml.safe_dump(self.settings), encoding="utf-8")
        done = CliRunner().invoke(app, [*arguments, "--config", str(self.config)], env={"EMC_CDC_OWNER_DSN": None})
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout

    @property
    def owner_dsn(self) -> str:
        return self.attached.server.dsn("owner", self.attached.database)


@pytest.fixture
def commands(database: Database, tmp_path: Path) -> Iterator[Commands]:
    """The legacy application's tables, and nothing of ours."""
    attached = Attached(database.server, database.name)
    attached.by_dba("ALTER SYSTEM SET max_slot_wal_keep_size = '1000TB';\nSELECT pg_reload_conf()")
    schema = resources.files("connector.demo.legacy").joinpath("schema.sql").read_text(encoding="utf-8")
    with psycopg.connect(attached.server.dsn("owner", database.name)) as connection:
        connection.execute(schema.encode())
    with ThreadingHTTPServer(("127.0.0.1", 0), Emc) as emc:
        serving = threading.Thread(target=emc.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield Commands(attached, tmp_path, emc.server_port)
        emc.shutdown()
        serving.join()


def test_from_nothing_to_ready(commands: Commands) -> None:
    """check names what is missing, setup's script is run as it was printed, and check has no error any more."""
    code, said = commands.run("check")
    assert code == 2
    assert 'CREATE PUBLICATION "emc_cdc_mot_cua"' in said
    code, script = commands.run("setup")
    assert code == 0
    assert "-- To be run by the tables' owner (owner):" in script
    with psycopg.connect(commands.owner_dsn) as connection:
        connection.execute(script.encode())
    code, said = commands.run("check")
    assert code == 0
    assert "errors: 0, warnings: 0" in said
    assert commands.run("setup") == (0, "-- Nothing is left to be done; emc-cdc check tells more.\n")


def test_apply_does_what_it_prints(commands: Commands) -> None:
    """--apply runs the owner's part over --owner-dsn, and may be run again."""
    code, said = commands.run("setup", "--apply", "--owner-dsn", commands.owner_dsn)
    assert code == 0
    assert said.startswith("-- Done by the tables' owner (owner):")
    assert commands.run("check")[0] == 0
    assert commands.run("setup", "--apply", "--owner-dsn", commands.owner_dsn)[0] == 0


def test_apply_is_all_or_nothing(commands: Commands) -> None:
    """When one statement fails, none of them has happened."""
    attached = commands.attached
    attached.by_dba("ALTER TABLE motcua.don_vi OWNER TO postgres")
    attached.by_dba("GRANT ALL ON SCHEMA motcua TO PUBLIC")
    with pytest.raises(SourceError) as refused:
        commands.run("setup", "--apply", "--owner-dsn", commands.owner_dsn)
    assert refused.value.mend == "run it as postgres; nothing was changed"
    granted = attached.by_dba("SELECT count(*) FROM information_schema.column_privileges WHERE grantee = 'emc_cdc'")
    assert granted == [(0,)]


def test_apply_needs_the_owner(commands: Commands) -> None:
    """Without the owner's connection nothing is applied; one that fails is told by its own name, without password."""
    with pytest.raises(SourceError) as refused:
        commands.run("setup", "--apply")
    assert refused.value.subject == "--owner-dsn"
    with pytest.raises(SourceError) as refused:
        commands.run("setup", "--owner-dsn", commands.owner_dsn.replace("owner", "khong_co") + " password=bi-mat")
    assert (refused.value.subject, refused.value.mend) == ("--owner-dsn", "check dbname and user in --owner-dsn")
    assert "bi-mat" not in refused.value.cause


def test_a_runtime_role_that_is_yet_to_come(commands: Commands) -> None:
    """Setup says how to go on when the runtime role cannot connect, and shows all as the owner sees it."""
    commands.settings["source"]["dsn"] = commands.settings["source"]["dsn"].replace("emc_cdc", "sap_co")
    with pytest.raises(SourceError) as refused:
        commands.run("setup")
    assert 'CREATE ROLE "sap_co" LOGIN REPLICATION;' in refused.value.mend
    code, script = commands.run("setup", "--owner-dsn", commands.owner_dsn)
    assert code == 0
    assert script.startswith('-- To be run by a superuser (DBA):\nCREATE ROLE "sap_co" LOGIN REPLICATION;')


def test_a_name_cannot_slip_a_statement_in(commands: Commands) -> None:
    """A line end in the name of a table stays inside quotes and comments of the printed script."""
    commands.run("setup", "--apply", "--owner-dsn", commands.owner_dsn)
    evil = "x\nDROP SCHEMA motcua CASCADE; --"
    with psycopg.connect(commands.attached.server.dsn("postgres", commands.attached.database)) as connection:
        connection.execute(f'CREATE TABLE public."{evil}" (a int)'.encode())
        connection.execute(f'ALTER PUBLICATION emc_cdc_mot_cua ADD TABLE public."{evil}"'.encode())
    _, script = commands.run("setup")
    with psycopg.connect(commands.attached.server.dsn("postgres", commands.attached.database)) as connection:
        connection.execute(script.encode())
        assert connection.execute("SELECT to_regclass('motcua.ho_so') IS NOT NULL").fetchall() == [(True,)]
    assert commands.run("check")[0] == 0


def test_column_lists_by_a_setting(commands: Commands) -> None:
    """publish_columns: mapped is asked for by check, made by setup, named for migrations, and taken back by undo."""
    commands.run("setup", "--apply", "--owner-dsn", commands.owner_dsn)
    commands.settings["source"]["publish_columns"] = "mapped"
    code, said = commands.run("check")
    assert code == 0
    assert "publish_columns: mapped asks for column lists, and motcua.ho_so has none" in said
    commands.run("setup", "--apply", "--owner-dsn", commands.owner_dsn)
    _, said = commands.run("check")
    assert "errors: 0, warnings: 0" in said
    assert (
        "these migrations of the application's fail: DROP COLUMN and ALTER TYPE of motcua.ho_so (id, ma_ho_so" in said
    )
    assert "to be looked at by a person: 2" in said
    commands.settings["source"]["publish_columns"] = "all"
    assert "stands in the way of the application's migrations" in commands.run("check")[1]
    commands.settings["source"]["publish_columns"] = "mapped"
    commands.run("setup", "--undo", "--apply", "--owner-dsn", commands.owner_dsn)
    assert commands.attached.by_dba("SELECT count(*) FROM pg_publication") == [(0,)]


def test_json_for_programs(commands: Commands) -> None:
    """--json prints one document with the same content, and the same exit code."""
    code, said = commands.run("check", "--json")
    found = json.loads(said)
    assert (code, found["ok"]) == (2, False)
    by_check = {one["check"]: one for one in found["findings"]}
    assert set(by_check["PG-20"]) == {"check", "severity", "subject", "what", "mend", "who"}
    assert (by_check["PG-20"]["severity"], by_check["PG-20"]["who"]) == ("error", "owner")
    assert (by_check["PG-44"]["severity"], by_check["PG-44"]["mend"][0]) == ("unknown", "SHOW data_directory;")
    code, said = commands.run("setup", "--json")
    statements = json.loads(said)
    assert (code, set(statements[0])) == (0, {"sql", "who", "role", "why"})


def test_a_missing_column_is_told_once_with_its_line(commands: Commands) -> None:
    """What the mapping names and the database has not is one finding, at its place in the YAML."""
    commands.attached.by_owner("ALTER TABLE motcua.thu_tuc RENAME ten TO ten_goi")
    _, said = commands.run("check", "--json")
    told = [one for one in json.loads(said)["findings"] if "no column" in one["what"] or "no such" in one["what"]]
    assert [one["check"] for one in told] == ["MAP-01"]
    assert told[0]["subject"].count(":") >= 2


def test_a_database_that_cannot_be_reached(commands: Commands) -> None:
    """check goes on with the log and EMC, and ends with 2."""
    commands.settings["source"]["dsn"] = "host=127.0.0.1 port=1 user=emc_cdc dbname=x"
    code, said = commands.run("check", "--json")
    assert code == 2
    assert [one["check"] for one in json.loads(said)["findings"]] == [
        "PG-01", "LOG-01", "LOG-02", "LOG-03", "DIR-01", "DIR-01", "EMC-C1", "EMC-C2", "EMC-C3",
    ]  # fmt: skip


def test_undo_leaves_nothing_and_may_be_begun_again(commands: Commands) -> None:
    """--undo --apply takes back what --apply made, slot included; without --apply it only prints."""
    attached = commands.attached
    commands.run("setup", "--apply", "--owner-dsn", commands.owner_dsn)
    attached.run("SELECT pg_create_logical_replication_slot('emc_cdc_mot_cua', 'pgoutput')", "emc_cdc")
    code, said = commands.run("setup", "--undo")
    assert (code, said.splitlines()[0]) == (0, "-- To be run by the connector's role (emc_cdc) or a superuser:")
    assert commands.run("check")[0] == 0
    code, said = commands.run("setup", "--undo", "--apply", "--owner-dsn", commands.owner_dsn)
    assert code == 0
    assert "-- Done by the tables' owner (owner):\nDROP PUBLICATION" in said
    assert attached.by_dba("SELECT (SELECT count(*) FROM pg_replication_slots) + count(*) FROM pg_publication") == [
        (0,)
    ]
    assert commands.run("setup", "--undo")[1] == "-- Nothing is left to be taken back; emc-cdc check tells more.\n"
    assert commands.run("setup", "--apply", "--owner-dsn", commands.owner_dsn)[0] == 0
    assert commands.run("check")[0] == 0


def test_undo_is_all_or_nothing(commands: Commands) -> None:
    """When one statement fails, the slot is still there, and so is the publication."""
    attached = commands.attached
    commands.run("setup", "--apply", "--owner-dsn", commands.owner_dsn)
    attached.run("SELECT pg_create_logical_replication_slot('emc_cdc_mot_cua', 'pgoutput')", "emc_cdc")
    other = f"khac_{attached.database}"
    attached.by_dba(f"CREATE ROLE {other};\nALTER TABLE motcua.don_vi OWNER TO {other}")
    try:
        with pytest.raises(SourceError) as refused:
            commands.run("setup", "--undo", "--apply", "--owner-dsn", commands.owner_dsn)
        assert refused.value.mend == f"run it as {other}; nothing was changed"
        kept = attached.by_dba("SELECT (SELECT count(*) FROM pg_replication_slots) + count(*) FROM pg_publication")
        assert kept == [(2,)]
    finally:
        attached.by_dba(f"ALTER TABLE motcua.don_vi OWNER TO owner;\nDROP OWNED BY {other};\nDROP ROLE {other}")


def test_drop_role_belongs_to_undo(commands: Commands) -> None:
    """--drop-role alone is refused before anything is asked of the database."""
    with pytest.raises(SourceError) as refused:
        commands.run("setup", "--drop-role")
    assert refused.value.subject == "--drop-role"
