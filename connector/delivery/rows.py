"""The rows that the mapping needs, as they are after the last record, and which of them a snapshot has seen.

Invariants: what is read is what was last put, whether it is saved yet or not; changes gather in memory and are written
by `save`, one statement for many rows; every dossier with an unsaved row is in the cache, so that a dossier is loaded
once and never merged. Bounded by the caller, who saves when `unsaved` is large, and by `trim`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from connector.change.record import Row
from connector.delivery.keys import key_order
from connector.delivery.rowcodec import dump_row, load_row
from connector.delivery.state import PartitionState

MOST_CACHED = 20_000
"""Dossiers, and looked up reference rows of a table, that stay in memory."""

Tables = dict[str, dict[str, Row]]
"""The rows of one dossier: table → primary key → row."""

Pairs = tuple[tuple[str, str], ...]
"""(column, canonical value) by which a reference row is found."""

_PAGE = 1000
# Rows of these tables (a JSON list, NULL for all) that the snapshot of this number neither read nor saw changed.
_UNSEEN = "rows.snapshot < ?1 AND (?2 IS NULL OR rows.tbl IN (SELECT value FROM json_each(?2)))"


class Rows:
    """See the module's invariants. `snapshot` numbers the snapshots; rows are stamped with the latest."""

    def __init__(self, state: PartitionState, snapshot: int) -> None:
        self._state = state
        self.snapshot = snapshot
        self._dossiers: dict[str, Tables] = {}
        self._unsaved: dict[tuple[str, str], tuple[str | None, Row, int] | None] = {}
        self._seen: dict[tuple[str, str], int] = {}
        self._references: dict[str, dict[tuple[str, str], Row | None]] = {}
        self._unsaved_references: dict[str, dict[str, tuple[Row, Pairs, int] | None]] = {}

    @property
    def unsaved(self) -> int:
        """Rows in memory only."""
        return len(self._unsaved) + len(self._seen) + sum(map(len, self._unsaved_references.values()))

    # -- rows of dossiers --------------------------------------------------------------------------------------------

    def dossier(self, dossier: str) -> Tables:
        """All rows of a dossier; the tables are the caller's to read, not to change."""
        tables = self._dossiers.get(dossier)
        if tables is None:
            tables = self._dossiers[dossier] = {}
            found = self._state.db.execute("SELECT tbl, key, data FROM rows WHERE dossier = ?", (dossier,))
            for table, key, data in found:
                tables.setdefault(table, {})[key] = load_row(data)
        return tables

    def owner(self, table: str, key: str) -> tuple[bool, str | None]:
        """Whether a row is there, and the dossier it belongs to."""
        place = (table, key)
        if place in self._unsaved:
            unsaved = self._unsaved[place]
            return (False, None) if unsaved is None else (True, unsaved[0])
        found = self._state.db.execute("SELECT dossier FROM rows WHERE tbl = ? AND key = ?", place).fetchone()
        return (False, None) if found is None else (True, found[0])

    def row(self, table: str, key: str) -> Row | None:
        """A row of any table; None when it is not there."""
        place = (table, key)
        if place in self._unsaved:
            unsaved = self._unsaved[place]
            return None if unsaved is None else unsaved[1]
        if key in self._unsaved_references.get(table, ()):
            put = self._unsaved_references[table][key]
            return None if put is None else put[0]
        found = self._state.db.execute("SELECT data FROM rows WHERE tbl = ? AND key = ?", place).fetchone()
        return None if found is None else load_row(found[0])

    def put(self, table: str, key: str, dossier: str | None, row: Row) -> None:
        """Insert or replace a row. One that moves to another dossier must be removed first."""
        if dossier is not None:
            self.dossier(dossier).setdefault(table, {})[key] = row
        self._unsaved[table, key] = (dossier, row, self.snapshot)

    def seen(self, table: str, key: str) -> None:
        """The snapshot has read a row that is there, as it is."""
        place = (table, key)
        unsaved = self._unsaved.get(place)
        if unsaved is None:
            self._seen[place] = self.snapshot
        else:
            self._unsaved[place] = (unsaved[0], unsaved[1], self.snapshot)

    def remove(self, table: str, key: str, dossier: str | None) -> None:
        """Remove a row, which may not be there."""
        if dossier is not None:
            self.dossier(dossier).get(table, {}).pop(key, None)
        self._unsaved[table, key] = None

    def dossiers_with(self, table: str) -> list[str]:
        """The dossiers that have rows in a table. Saves."""
        self.save()
        query = "SELECT DISTINCT dossier FROM rows WHERE tbl = ? AND dossier IS NOT NULL ORDER BY dossier"
        return [dossier for (dossier,) in self._state.db.execute(query, (table,))]

    # -- reference rows ----------------------------------------------------------------------------------------------

    def put_reference(self, table: str, key: str, row: Row, pairs: Pairs) -> None:
        """Insert or replace a reference row, to be found by these pairs and no others."""
        self._unsaved_references.setdefault(table, {})[key] = (row, pairs, self.snapshot)
        self._references.pop(table, None)

    def remove_reference(self, table: str, key: str) -> None:
        """Remove a reference row, which may not be there."""
        self._unsaved_references.setdefault(table, {})[key] = None
        self._references.pop(table, None)

    def reference(self, table: str, column: str, value: str) -> Row | None:
        """The reference row with this canonical value; of several, the one with the smallest primary key."""
        cached = self._references.setdefault(table, {})
        asked = (column, value)
        if asked in cached:
            return cached[asked]
        if table in self._unsaved_references:
            self._save_references(table)
        found = self._state.db.execute(
            "SELECT rows.key, rows.data FROM lookups JOIN rows ON rows.tbl = lookups.tbl AND rows.key = lookups.key"
            " WHERE lookups.tbl = ? AND lookups.col = ? AND lookups.value = ?",
            (table, column, value),
        ).fetchall()
        row = load_row(min(found, key=lambda pair: key_order(pair[0]))[1]) if found else None
        if len(cached) >= MOST_CACHED:
            cached.clear()
        cached[asked] = row
        return row

    def find_by(self, table: str, pairs_of: Iterable[tuple[str, Pairs]]) -> None:
        """Let the reference rows of a table be found by these (key, pairs), and no others."""
        db = self._state.write_fold()
        db.execute("DELETE FROM lookups WHERE tbl = ?", (table,))
        db.executemany(
            "INSERT INTO lookups VALUES (?, ?, ?, ?)",
            ((table, column, value, key) for key, pairs in pairs_of for column, value in pairs),
        )
        self._references.pop(table, None)

    def all_of(self, table: str) -> list[tuple[str, Row]]:
        """Every saved (key, row) of a table."""
        query = "SELECT key, data FROM rows WHERE tbl = ?"
        return [(key, load_row(data)) for key, data in self._state.db.execute(query, (table,))]

    # -- whole tables ------------------------------------------------------------------------------------------------

    def clear_table(self, table: str) -> None:
        """TRUNCATE."""
        self.save()
        db = self._state.write_fold()
        db.execute("DELETE FROM rows WHERE tbl = ?", (table,))
        db.execute("DELETE FROM lookups WHERE tbl = ?", (table,))
        self._dossiers.clear()
        self._references.pop(table, None)

    def unseen(self, tables: Sequence[str] | None) -> Iterator[str]:
        """The dossiers of rows that `sweep` would remove. What is put meanwhile must be seen. Saves."""
        self.save()
        db = self._state.write_fold()
        db.execute("CREATE TEMP TABLE IF NOT EXISTS unseen (number INTEGER PRIMARY KEY, dossier TEXT NOT NULL)")
        db.execute("DELETE FROM temp.unseen")
        db.execute(
            "INSERT INTO temp.unseen (dossier)"  # noqa: S608 - no value is in the text
            f" SELECT DISTINCT dossier FROM rows WHERE dossier IS NOT NULL AND {_UNSEEN} ORDER BY dossier",
            (self.snapshot, _listed(tables)),
        )
        last = 0
        query = "SELECT number, dossier FROM temp.unseen WHERE number > ? ORDER BY number LIMIT ?"
        while found := db.execute(query, (last, _PAGE)).fetchall():
            last = found[-1][0]
            yield from (dossier for _, dossier in found)

    def sweep(self, tables: Sequence[str] | None) -> None:
        """After a snapshot of these tables (None: of all): rows that it neither read nor saw changed are gone."""
        self.save()
        db = self._state.write_fold()
        scope = (self.snapshot, _listed(tables))
        db.execute(
            "DELETE FROM lookups WHERE EXISTS (SELECT 1 FROM rows WHERE rows.tbl = lookups.tbl"  # noqa: S608
            f" AND rows.key = lookups.key AND {_UNSEEN})",
            scope,
        )
        db.execute(f"DELETE FROM rows WHERE {_UNSEEN}", scope)  # noqa: S608
        self._dossiers.clear()
        self._references.clear()

    # -- saving ------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write what is in memory only."""
        for table in list(self._unsaved_references):
            self._save_references(table)
        if self._seen:
            # Before what was put or removed later.
            self._state.write_fold().executemany(
                "UPDATE rows SET snapshot = ? WHERE tbl = ? AND key = ?",
                ((snapshot, table, key) for (table, key), snapshot in self._seen.items()),
            )
            self._seen.clear()
        if self._unsaved:
            db = self._state.write_fold()
            gone = [place for place, unsaved in self._unsaved.items() if unsaved is None]
            if gone:
                db.executemany("DELETE FROM rows WHERE tbl = ? AND key = ?", gone)
            db.executemany(
                "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?)",
                (
                    (table, key, unsaved[0], dump_row(unsaved[1]), unsaved[2])
                    for (table, key), unsaved in self._unsaved.items()
                    if unsaved is not None
                ),
            )
            self._unsaved.clear()

    def trim(self) -> None:
        """Forget what is cached, if it is much. Everything must be saved."""
        if len(self._dossiers) > MOST_CACHED:
            self._dossiers.clear()

    def _save_references(self, table: str) -> None:
        unsaved = self._unsaved_references.pop(table)
        db = self._state.write_fold()
        db.executemany("DELETE FROM lookups WHERE tbl = ? AND key = ?", ((table, key) for key in unsaved))
        gone = [(table, key) for key, put in unsaved.items() if put is None]
        if gone:
            db.executemany("DELETE FROM rows WHERE tbl = ? AND key = ?", gone)
        there = [(key, put) for key, put in unsaved.items() if put is not None]
        db.executemany(
            "INSERT OR REPLACE INTO rows VALUES (?, ?, NULL, ?, ?)",
            ((table, key, dump_row(row), snapshot) for key, (row, _, snapshot) in there),
        )
        db.executemany(
            "INSERT OR REPLACE INTO lookups VALUES (?, ?, ?, ?)",
            ((table, column, value, key) for key, (_, pairs, _) in there for column, value in pairs),
        )


def _listed(tables: Sequence[str] | None) -> str | None:
    return None if tables is None else json.dumps(tables)
