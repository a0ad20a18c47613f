"""Deliver's recorded state beside an embedded log: one SQLite file for all partitions.

Contract: connector.log.deliveries. The file is `<log>.deliveries` beside the log's own, so that deliver never waits for
capture's appends. It holds only the last record of each key, which is what compaction leaves of a topic. Whoever opens
a partition raises its generation; an append asks for it inside its transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from connector.errors import LogFenced, LogUnavailable
from connector.log.embedded_file import connect, make_private, prepare, reported
from connector.log.pair import Pair

_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS deliveries (partition INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,"
    " PRIMARY KEY (partition, key)) WITHOUT ROWID",
    # The last record of each partition, the offset that was committed with it, and whose turn it is.
    "CREATE TABLE IF NOT EXISTS turns (partition INTEGER PRIMARY KEY, generation INTEGER NOT NULL, last BLOB,"
    " committed INTEGER)",
)
_TURN: Final = (
    "INSERT INTO turns VALUES (?, 1, NULL, NULL)"
    " ON CONFLICT (partition) DO UPDATE SET generation = generation + 1 RETURNING generation, last"
)
_GENERATION: Final = "SELECT generation FROM turns WHERE partition = ?"
_PUT: Final = "INSERT OR REPLACE INTO deliveries VALUES (?, ?, ?)"
_TAKE_AWAY: Final = "DELETE FROM deliveries WHERE partition = ? AND key = ?"
_END: Final = "UPDATE turns SET last = ?, committed = coalesce(?, committed) WHERE partition = ?"
_READ: Final = "SELECT key, value FROM deliveries WHERE partition = ?"
_COMMITTED: Final = "SELECT partition, committed FROM turns WHERE committed IS NOT NULL"


class EmbeddedDeliveries:
    """See the module's contract. log: the path of the embedded log."""

    shared = False

    def __init__(self, log: Path, partition: int) -> None:
        self._path = deliveries_file(log)
        self._partition = partition
        self._connection: sqlite3.Connection | None = None
        self._generation = 0

    def open(self) -> bytes | None:
        """See the contract."""
        self.close()
        with reported("open the record of deliveries", self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            make_private(self._path)
            connection = self._connection = connect(self._path)
            prepare(connection, self._path)
            connection.execute("BEGIN IMMEDIATE")
            for table in _TABLES:
                connection.execute(table)
            self._generation, last = connection.execute(_TURN, (self._partition,)).fetchone()
            connection.execute("COMMIT")
        return None if last is None else bytes(last)

    def read(self) -> Iterator[Pair]:
        """See the contract."""
        with reported("read the record of deliveries", self._path):
            for key, value in self._opened("read the record of deliveries").execute(_READ, (self._partition,)):
                yield Pair(key, value)

    def append(self, pairs: Iterable[Pair], committed: int | None = None) -> None:
        """See the contract."""
        operation = "record deliveries"
        connection = self._opened(operation)
        last = b""
        try:
            with reported(operation, self._path):
                connection.execute("BEGIN IMMEDIATE")
                if connection.execute(_GENERATION, (self._partition,)).fetchone()[0] != self._generation:
                    raise LogFenced(
                        operation,
                        f"{self._path}, partition {self._partition}",
                        "fenced: a later deliver process has taken over",
                        "run one deliver process on an embedded log",
                    )
                for key, value in pairs:
                    if value:
                        connection.execute(_PUT, (self._partition, key, value))
                        last = value
                    else:
                        connection.execute(_TAKE_AWAY, (self._partition, key))
                connection.execute(_END, (last, committed, self._partition))
                connection.execute("COMMIT")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """See the contract. An open transaction is rolled back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _opened(self, operation: str) -> sqlite3.Connection:
        if self._connection is None:
            raise LogUnavailable(operation, str(self._path), "this store is not open", "open a store")
        return self._connection


def deliveries_file(log: Path) -> Path:
    """The file beside an embedded log."""
    return log.with_name(f"{log.name}.deliveries")


def committed_offsets(log: Path) -> Mapping[int, int]:
    """For every partition that deliver has recorded something of, the offset up to which it has folded."""
    path = deliveries_file(log)
    if not path.exists():
        return {}
    with reported("read the record of deliveries", path), closing(connect(path)) as connection:
        made = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'turns'").fetchone()[0]
        return dict(connection.execute(_COMMITTED).fetchall()) if made else {}
