"""What one transaction changes in the keyed index, on disk where it is too much for memory.

Contract: of a key the last change counts, as in a dict; None deletes. Filled and asked by the capture thread; read by
the log thread (`pieces`) once the transaction has committed, while the capture thread may still ask. The file is
SQLite's own temporary one: it has no name, and is gone with `close` or the process.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Final

_TABLES = """
CREATE TABLE child (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID;
CREATE TABLE toasted (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID;
"""
_PIECE: Final = 1000
"""Rows that are read at once."""


class Unchanged(Enum):
    """A key that is not among the changes."""

    UNCHANGED = "unchanged"


UNCHANGED = Unchanged.UNCHANGED
Rows = Sequence[tuple[bytes, bytes | None]]


class Overflow:
    """See the module's contract."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._file.executescript(_TABLES)
        self._file.execute("BEGIN")

    def add(self, children: Mapping[bytes, bytes | None], toasted: Mapping[bytes, bytes | None]) -> None:
        """More changes, later than those before. Raises sqlite3.Error."""
        with self._lock:
            self._file.executemany("INSERT OR REPLACE INTO child VALUES (?, ?)", children.items())
            self._file.executemany("INSERT OR REPLACE INTO toasted VALUES (?, ?)", toasted.items())

    def child(self, key: bytes) -> bytes | Unchanged | None:
        """A child's dossier."""
        return self._one("SELECT value FROM child WHERE key = ?", key)

    def toasted(self, key: bytes) -> bytes | Unchanged | None:
        """A row's texts, as they were given."""
        return self._one("SELECT value FROM toasted WHERE key = ?", key)

    def pieces(self) -> Iterator[tuple[Rows, Rows]]:
        """All changes in pieces: of children, of texts."""
        for rows in self._all("SELECT key, value FROM child WHERE key > ? ORDER BY key LIMIT ?", _PIECE):
            yield rows, ()
        # One by one: a row's texts may be large.
        for rows in self._all("SELECT key, value FROM toasted WHERE key > ? ORDER BY key LIMIT ?", 1):
            yield (), rows

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._file.close()

    def _one(self, query: str, key: bytes) -> bytes | Unchanged | None:
        with self._lock:
            row = self._file.execute(query, (key,)).fetchone()
        return UNCHANGED if row is None else row[0]

    def _all(self, query: str, count: int) -> Iterator[Rows]:
        last = b""
        while True:
            with self._lock:
                rows: list[tuple[bytes, bytes | None]] = self._file.execute(query, (last, count)).fetchall()
            if not rows:
                return
            yield rows
            last = rows[-1][0]
