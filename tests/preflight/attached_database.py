"""A database with the tables of a small one-stop application, and mends that are run for real."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from connector.change.selection import Role, Selection, TableSelection
from connector.demo.postgres import PostgresServer
from connector.finding import Finding, Severity
from connector.preflight.postgres import check_source
from connector.settings import Settings

TABLES = """
CREATE SCHEMA motcua;
CREATE TABLE motcua.ho_so (id bigint PRIMARY KEY, ma text NOT NULL, "Trạng thái" int, ghi_chu text);
CREATE TABLE motcua.thanh_toan (id bigint PRIMARY KEY, ho_so_id bigint NOT NULL, so_tien numeric);
CREATE TABLE motcua.thu_tuc (ma text PRIMARY KEY, ten text);
"""

SELECTION = Selection(
    (
        TableSelection("motcua", "ho_so", Role.DOSSIER, ("ma", "Trạng thái")),
        TableSelection("motcua", "thanh_toan", Role.CHILD, ("so_tien",), link="ho_so_id"),
        TableSelection("motcua", "thu_tuc", Role.REFERENCE, ("ma", "ten")),
    )
)


@dataclass
class Attached:
    """One database, a configuration for it, and the hands that mend: the owner's, the superuser's, the operator's."""

    server: PostgresServer
    database: str
    selection: Selection = SELECTION
    role: str = "emc_cdc"
    owner: str = "owner"
    slot: str | None = None
    publish_columns: str = "all"

    @property
    def version(self) -> int:
        return int((self.server.data_dir / "PG_VERSION").read_text(encoding="ascii"))

    @property
    def settings(self) -> Settings:
        dsn = self.server.dsn(self.role, self.database)
        slot = self.slot or f"emc_cdc_{self.database}"
        source = {"dsn": dsn, "slot": slot, "publication": "emc cdc", "publish_columns": self.publish_columns}
        return Settings.model_validate({"name": self.database.replace("_", "-"), "source": source})

    def run(self, statements: str, role: str) -> list[tuple[Any, ...]]:
        """Run SQL, each statement by itself; the rows of the last one."""
        rows: list[tuple[Any, ...]] = []
        with psycopg.connect(self.server.dsn(role, self.database), autocommit=True) as connection:
            for statement in statements.split(";\n"):
                if statement.strip():
                    cursor = connection.execute(statement.encode())
                    rows = cursor.fetchall() if cursor.description else []
                    self._reloaded(statement)
        return rows

    def by_owner(self, statements: str) -> None:
        self.run(statements, self.owner)

    def by_dba(self, statements: str) -> list[tuple[Any, ...]]:
        return self.run(statements, "postgres")

    def findings(self, *checks: str) -> list[Finding]:
        """What stands in the way or should be mended; of these checks only, where some are named."""
        asked = (Severity.WARNING, Severity.ERROR)
        return [one for one in self.told() if one.severity in asked and (not checks or one.check in checks)]

    def told(self, *checks: str) -> list[Finding]:
        """All that is said; of these checks only, where some are named."""
        found = check_source(self.settings, self.selection, watch=0.0).findings
        return [one for one in found if not checks or one.check in checks]

    def mend(self, finding: Finding) -> None:
        """Do what the finding says, as the one whom it names."""
        assert finding.mend
        if finding.who == "operator" and not finding.mend[0].startswith("SELECT "):
            self._operate(finding)
            return
        role = {"owner": self.owner, "dba": "postgres", "operator": self.role}[finding.who]
        with psycopg.connect(self.server.dsn(role, self.database), autocommit=True) as connection:
            for line in finding.mend:
                if not line.startswith("--"):
                    connection.execute(line.encode())
                    self._reloaded(line)
        if any("restart PostgreSQL" in line for line in finding.mend):
            self.server.stop()
            self.server.start()

    def _reloaded(self, statement: str) -> None:
        """Wait until sessions to come have what a reload has read: it happens after the statement."""
        if "pg_reload_conf" not in statement:
            return
        asked = time.monotonic()
        with psycopg.connect(self.server.dsn(), autocommit=True) as connection:
            (now,) = connection.execute("SELECT clock_timestamp()").fetchall()[0]
            connection.execute("SELECT pg_reload_conf()")
        while time.monotonic() - asked < 20.0:
            with psycopg.connect(self.server.dsn()) as connection:
                (loaded,) = connection.execute("SELECT pg_conf_load_time()").fetchall()[0]
            if loaded > now:
                return
        raise TimeoutError("the server did not read its configuration")

    def _operate(self, finding: Finding) -> None:
        """`mapping: write schema.table` or `mapping: write column`, as an operator corrects the mapping."""
        told = re.fullmatch(r"mapping: write (\S+)", finding.mend[0])
        assert told is not None, finding
        self.selection = Selection(tuple(_corrected(table, finding, told[1]) for table in self.selection.tables))


def _corrected(table: TableSelection, finding: Finding, right: str) -> TableSelection:
    if finding.subject == table.full_name:
        schema, name = right.split(".")
        return replace(table, schema=schema, name=name)
    if not finding.subject.startswith(f"{table.full_name}."):
        return table
    wrong = finding.subject.removeprefix(f"{table.full_name}.")
    columns = tuple(right if column == wrong else column for column in table.columns)
    return replace(table, columns=columns, link=right if table.link == wrong else table.link)


def attach(attached: Attached) -> None:
    """What an owner does once: the grants and the publication."""
    root = "WITH (publish_via_partition_root = true)" if attached.version >= 13 else ""
    attached.by_owner(
        f"""GRANT USAGE ON SCHEMA motcua TO emc_cdc;
GRANT SELECT (id, ma, "Trạng thái") ON motcua.ho_so TO emc_cdc;
GRANT SELECT (id, ho_so_id, so_tien) ON motcua.thanh_toan TO emc_cdc;
GRANT SELECT (ma, ten) ON motcua.thu_tuc TO emc_cdc;
CREATE PUBLICATION "emc cdc" FOR TABLE motcua.ho_so, motcua.thanh_toan, motcua.thu_tuc {root};
"""
    )
