"""The state of one partition: one SQLite file, one transaction per step.

Contract: everything a step changes (rows, told, outbox, offset) becomes durable together at `commit`, or not at all.
Used from one thread. A file that is damaged, of another log, or lost after it was used raises DeliveryError with the
mend; it is never silently begun anew.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from connector.change.position import Position
from connector.change.record import Row
from connector.delivery.rowcodec import dump_row, load_row
from connector.emc.judgement import Told, dump_told, load_told
from connector.errors import DeliveryError

FORMAT = "1"
_SCHEMA = resources.files("connector.delivery").joinpath("state.sql").read_text(encoding="utf-8")
_MAX_CACHED = 20_000

Tables = dict[str, dict[str, Row]]
"""The rows of one dossier: table → primary key → row."""


def key_text(key: Sequence[str]) -> str:
    """A primary key as one text: itself, or a JSON list when it has several columns."""
    return key[0] if len(key) == 1 else json.dumps(list(key), ensure_ascii=False)


def key_order(key: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts key texts as their columns sort: numbers by value, everything else by text."""
    parts: list[str] = json.loads(key) if key.startswith("[") else [key]
    return tuple((0, int(part), "") if part.removeprefix("-").isdecimal() else (1, 0, part) for part in parts)


class PartitionState:
    """See the module's contract. Raises DeliveryError when the file cannot be used."""

    def __init__(self, path: Path, name: str, partition: int) -> None:
        self.path = path
        self.partition = partition
        self._dossiers: dict[str, Tables] = {}
        self._references: dict[tuple[str, str, str], Row | None] = {}
        self._dirty = False
        try:
            self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = FULL")
            self.db.executescript(_SCHEMA)
            meta = dict(self.db.execute("SELECT name, value FROM meta").fetchall())
            if not meta:
                meta = {"format": FORMAT, "log": name, "partition": str(partition)}
                self.db.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        except sqlite3.Error as error:
            raise broken(path, error) from error
        if (meta.get("format"), meta.get("log"), meta.get("partition")) != (FORMAT, name, str(partition)):
            raise DeliveryError(
                "open the delivery state",
                str(path),
                f"it is of log {meta.get('log')!r} partition {meta.get('partition')}, format {meta.get('format')}",
                "set delivery.state to the directory of this connector",
            )
        self.offset = int(meta.get("offset", "0"))
        self.snapshot = int(meta.get("snapshot", "0"))
        self.position = Position(*json.loads(meta.get("position", "[0,0,0,0]")))

    # -- steps -------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Open a step, unless one is open."""
        if not self._dirty:
            self.db.execute("BEGIN IMMEDIATE")
            self._dirty = True

    def commit(self) -> None:
        """Make the step durable."""
        if not self._dirty:
            return
        try:
            self.db.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                (
                    ("offset", str(self.offset)),
                    ("snapshot", str(self.snapshot)),
                    ("position", json.dumps(self.position)),
                ),
            )
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            raise broken(self.path, error) from error
        self._dirty = False
        if len(self._dossiers) > _MAX_CACHED:
            self._dossiers.clear()
        if len(self._references) > _MAX_CACHED:
            self._references.clear()

    def close(self) -> None:
        """Close the file; an open step is undone. Never raises."""
        self.db.close()

    # -- rows --------------------------------------------------------------------------------------------------------

    def dossier(self, dossier: str) -> Tables:
        """All rows of a dossier; the tables are the caller's to read, not to change."""
        tables = self._dossiers.get(dossier)
        if tables is None:
            tables = self._dossiers[dossier] = {}
            for table, key, data in self.db.execute("SELECT tbl, key, data FROM rows WHERE dossier = ?", (dossier,)):
                tables.setdefault(table, {})[key] = load_row(data)
        return tables

    def owner(self, table: str, key: str) -> tuple[bool, str | None]:
        """Whether a row is there, and the dossier it belongs to."""
        found = self.db.execute("SELECT dossier FROM rows WHERE tbl = ? AND key = ?", (table, key)).fetchone()
        return (False, None) if found is None else (True, found[0])

    def put(self, table: str, key: str, dossier: str | None, row: Row) -> None:
        """Insert or replace a row. One that moves to another dossier must be removed first."""
        self.db.execute(
            "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?)", (table, key, dossier, dump_row(row), self.snapshot)
        )
        if dossier is not None and (tables := self._dossiers.get(dossier)) is not None:
            tables.setdefault(table, {})[key] = row

    def remove(self, table: str, key: str, dossier: str | None) -> None:
        """Remove a row, which may not be there."""
        self.db.execute("DELETE FROM rows WHERE tbl = ? AND key = ?", (table, key))
        if dossier is not None and (tables := self._dossiers.get(dossier)) is not None:
            tables.get(table, {}).pop(key, None)

    def clear_table(self, table: str) -> None:
        """TRUNCATE."""
        self.db.execute("DELETE FROM rows WHERE tbl = ?", (table,))
        self.db.execute("DELETE FROM lookups WHERE tbl = ?", (table,))
        self._dossiers.clear()
        self._references.clear()

    def sweep(self) -> None:
        """After a snapshot: rows that it neither read nor saw changed are gone."""
        self.db.execute(
            "DELETE FROM lookups WHERE EXISTS (SELECT 1 FROM rows WHERE rows.tbl = lookups.tbl"
            " AND rows.key = lookups.key AND rows.snapshot < ?)",
            (self.snapshot,),
        )
        self.db.execute("DELETE FROM rows WHERE snapshot < ?", (self.snapshot,))
        self._dossiers.clear()
        self._references.clear()

    # -- references --------------------------------------------------------------------------------------------------

    def put_lookups(self, table: str, key: str, values: Iterable[tuple[str, str]]) -> None:
        """Let a reference row be found by these (column, value) pairs, and by no others."""
        self.remove_lookups(table, key)
        self.db.executemany(
            "INSERT OR REPLACE INTO lookups VALUES (?, ?, ?, ?)",
            [(table, column, value, key) for column, value in values],
        )

    def remove_lookups(self, table: str, key: str) -> None:
        """The reference row is not to be found any more."""
        self.db.execute("DELETE FROM lookups WHERE tbl = ? AND key = ?", (table, key))
        self._references.clear()

    def reference(self, table: str, column: str, value: str) -> Row | None:
        """The reference row with this value; of several, the one with the smallest primary key."""
        asked = (table, column, value)
        if asked in self._references:
            return self._references[asked]
        found = self.db.execute(
            "SELECT rows.key, rows.data FROM lookups JOIN rows ON rows.tbl = lookups.tbl AND rows.key = lookups.key"
            " WHERE lookups.tbl = ? AND lookups.col = ? AND lookups.value = ?",
            asked,
        ).fetchall()
        row = load_row(min(found, key=lambda pair: key_order(pair[0]))[1]) if found else None
        self._references[asked] = row
        return row

    # -- what was told -----------------------------------------------------------------------------------------------

    def told(self, dossier: str) -> Told | None:
        """What EMC has been told of a dossier; None when it was never judged."""
        found = self.db.execute("SELECT told FROM told WHERE dossier = ?", (dossier,)).fetchone()
        return None if found is None else load_told(found[0])

    def set_told(self, dossier: str, told: Told) -> None:
        """Remember the result of a judgement."""
        self.db.execute("INSERT OR REPLACE INTO told VALUES (?, ?)", (dossier, dump_told(told)))

    def forget(self, dossier: str) -> None:
        """The dossier was deleted."""
        self.db.execute("DELETE FROM told WHERE dossier = ?", (dossier,))
        self.release(dossier)

    def hold(self, dossier: str, code: str, reason: str, now: float) -> None:
        """The dossier owes an event that cannot be made yet."""
        self.db.execute(
            "INSERT INTO held VALUES (?, ?, ?, ?) ON CONFLICT (dossier) DO UPDATE SET reason = excluded.reason",
            (dossier, code, reason, now),
        )

    def release(self, dossier: str) -> None:
        """It owes nothing that cannot be made."""
        self.db.execute("DELETE FROM held WHERE dossier = ?", (dossier,))

    def held(self) -> list[str]:
        """The dossiers that are held."""
        return [row[0] for row in self.db.execute("SELECT dossier FROM held ORDER BY since")]


def broken(path: Path, error: Exception) -> DeliveryError:
    """SQLite refused: a full or read-only disk, or a damaged file."""
    text = str(error)
    if "full" in text:
        mend = "free disk space and start again: nothing was lost, the step is undone as a whole"
    elif "malformed" in text or "not a database" in text:
        mend = "restore the file from a backup; without one, move the state directory away and attach anew (quiet)"
    else:
        mend = "check that the directory is writable and used by one deliver process only, and start again"
    return DeliveryError("use the delivery state", str(path), text, mend)
