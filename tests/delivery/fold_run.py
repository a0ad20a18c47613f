"""A partition over a file, without a network: what was folded is looked at in memory and in the file."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from delivery_story import plan

from connector.change.record import Change
from connector.delivery.fold import Due
from connector.delivery.partition import Partition
from connector.delivery.state import PartitionState
from connector.mapping.plan import Plan
from connector.settings import EmcSettings


class FoldRun:
    """Feeds changes in polls; `restart` is what a kill and a new start do."""

    def __init__(
        self, directory: Path, path: Path | None = None, partition: int = 0, mapping: Plan | None = None
    ) -> None:
        self._path = path or directory / "state.sqlite"
        self._number = partition
        self._plan = mapping or plan()
        self.due: list[Due] = []
        self._offset = 0
        self._open()

    def _open(self) -> None:
        state = PartitionState(self._path, "demo", self._number)
        try:
            self.partition = Partition(state, self._plan, EmcSettings(), self.due.append)
        except BaseException:
            state.close()
            raise

    def poll(self, changes: Iterable[Change], offset: int | None = None, save: bool = True) -> None:
        """One poll's records, which begin at `offset`; by default after what was polled before."""
        self._offset = self._offset if offset is None else offset
        numbered = list(enumerate(changes, self._offset))
        if numbered:
            self.partition.apply(numbered)
            self._offset = numbered[-1][0] + 1
        if save:
            self.partition.save()

    def restart(self, mapping: Plan | None = None) -> int:
        """Die without saving and begin again; the offset from which the log is read then."""
        self.partition.state.close()
        self._plan = mapping or self._plan
        self._open()
        return self.partition.fold.offset

    def close(self) -> None:
        self.partition.state.close()

    # -- what was made of it -----------------------------------------------------------------------------------------

    @property
    def statuses(self) -> dict[str, list[int]]:
        """The statuses of the events in the file, by dossier number, in order."""
        found: dict[str, list[int]] = defaultdict(list)
        for code, status in self.table("SELECT code, status FROM events ORDER BY id"):
            found[code].append(status)
        return dict(found)

    def table(self, query: str) -> list[Any]:
        return self.partition.state.db.execute(query).fetchall()

    def contents(self) -> dict[str, Any]:
        """Everything in the file but what only says how often it was looked at."""
        events: dict[str, list[Any]] = defaultdict(list)
        for dossier, *event in self.table(
            "SELECT dossier, code, status, event, position, transaction_id, commit_time_us, recovered, ordinal"
            " FROM events ORDER BY id"
        ):
            events[dossier].append(event)
        return {
            "rows": self.table("SELECT tbl, key, dossier, data FROM rows ORDER BY tbl, key"),
            "lookups": self.table("SELECT * FROM lookups ORDER BY tbl, col, value, key"),
            "told": self.table("SELECT * FROM told ORDER BY dossier"),
            "held": self.table("SELECT * FROM held ORDER BY dossier"),
            "waiting": self.table("SELECT * FROM waiting ORDER BY dossier"),
            "born": self.table("SELECT * FROM born ORDER BY dossier"),
            "meta": self.table("SELECT name, value FROM meta WHERE name IN ('position', 'reading') ORDER BY name"),
            "events": dict(events),
        }


def made_by_format_1(path: Path) -> None:
    """A state file as format 1 had it, with events that wait, in the middle of a first read."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            """
            CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
            CREATE TABLE rows (
                tbl TEXT NOT NULL, key TEXT NOT NULL, dossier TEXT, data BLOB NOT NULL, snapshot INTEGER NOT NULL,
                PRIMARY KEY (tbl, key)
            ) WITHOUT ROWID;
            CREATE TABLE held (
                dossier TEXT PRIMARY KEY, code TEXT NOT NULL, reason TEXT NOT NULL, since_us INTEGER NOT NULL
            ) WITHOUT ROWID;
            CREATE TABLE events (
                id INTEGER PRIMARY KEY, dossier TEXT NOT NULL, code TEXT NOT NULL, status INTEGER NOT NULL,
                event TEXT NOT NULL, state TEXT NOT NULL, position TEXT NOT NULL, transaction_id TEXT,
                mapping TEXT NOT NULL, commit_time_us INTEGER NOT NULL, attempts INTEGER NOT NULL,
                ambiguous INTEGER NOT NULL, sent_at REAL, ended_at REAL, reason TEXT NOT NULL, detail TEXT NOT NULL
            );
            CREATE INDEX events_ambiguous ON events (id) WHERE ambiguous > 0;
            INSERT INTO meta VALUES ('format', '1'), ('log', 'demo'), ('partition', '0'), ('reading', 'yes');
            INSERT INTO events VALUES
                (1, '1', 'H-1', 1, '{}', 'waiting', '1/0/1000/1.0', '7:1', 'm', 0, 0, 0, NULL, NULL, '', ''),
                (2, '2', 'H-2', 1, '{}', 'waiting', '1/0/1000/1.0', '7:1', 'm', 0, 0, 0, NULL, NULL, '', ''),
                (3, '1', 'H-1', 2, '{}', 'waiting', '1/0/1100/1.0', '8:1', 'm', 0, 0, 0, NULL, NULL, '', '');
            """
        )
