"""The change log in one SQLite file on this machine, for sites without Kafka.

Contract: connector.log.contract. Offsets count from 0; old records are compacted away (`connector.log.compaction`). An
append is one transaction, synced before it returns.
Fencing is twofold: a writer holds an exclusive lock on `<path>.lock` for life, so a second one is told to wait; and
every append checks, in its own transaction, that no later writer has raised the generation, so a writer whose lock
was lost (a deleted lock file, a file system without locks) adds nothing once it was superseded.
Readers are woken at once by a writer of the same process and look every 2 to 20 ms for another process's commits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import starmap
from pathlib import Path
from time import monotonic, time
from typing import Final

from connector.errors import LogError, LogUnavailable
from connector.log.compaction import Compaction, cleaned
from connector.log.contract import Concern, Durability, Entry, Record
from connector.log.embedded_deliveries import committed_offsets
from connector.log.embedded_file import (
    DURABILITY,
    WriterLock,
    bell_of,
    bring_up,
    check_format,
    connect,
    create,
    identity,
    is_empty,
    make_private,
    meta,
    moved_away,
    name_of,
    prepare,
    reported,
)

_SHORTEST_WAIT: Final = 0.002
_LONGEST_WAIT: Final = 0.020
"""Seconds between two looks for another process's commits: the longer the log was idle, the longer the wait. An
idle log costs about a hundredth of a core."""

FOREVER: Final = float("inf")
"""A compaction lag that keeps everything."""

_INSERT: Final = "INSERT INTO records (partition, offset, key, value) VALUES (?, ?, ?, ?)"
_LAST: Final = "SELECT offset, value FROM records WHERE partition = ? ORDER BY offset DESC LIMIT 1"
_READ: Final = (
    "SELECT partition, offset, key, value FROM records WHERE partition = ? AND offset >= ? ORDER BY offset LIMIT ?"
)
_BEGINNING: Final = "SELECT coalesce(min(offset), 0) FROM records WHERE partition = ?"
_END: Final = "SELECT coalesce(max(offset) + 1, 0) FROM records WHERE partition = ?"
_SCHEMA_ID: Final = "SELECT id FROM schemas WHERE fingerprint = ?"
_SCHEMA: Final = "SELECT schema FROM schemas WHERE id = ?"
_ADD_SCHEMA: Final = "INSERT INTO schemas (schema, fingerprint) VALUES (?, ?)"


class EmbeddedWriter:
    """The one writer of an embedded log."""

    durability: Durability = DURABILITY
    concerns: tuple[Concern, ...] = ()

    def __init__(
        self, path: Path, partitions: int, compaction_lag: float = FOREVER, clock: Callable[[], float] = time
    ) -> None:
        """Touches nothing; `open` does. compaction_lag: seconds; clock: seconds since the epoch."""
        self.partitions = partitions
        self._path = path
        self._lag = compaction_lag
        self._clock = clock
        self._compaction: Compaction | None = None
        self._bell = bell_of(path)
        self._connection: sqlite3.Connection | None = None
        self._lock: WriterLock | None = None
        self._failure: LogError | None = None
        self._identity: tuple[int, int] | None = None
        self._generation = 0
        self._next: dict[int, int] = {}

    def open(self) -> Mapping[int, bytes]:
        """See the contract. LogUnavailable while another writer runs; LogError when the file cannot be used."""
        try:
            with reported("open the log", self._path):
                return self._open()
        except LogError:
            self.close()
            raise

    def _open(self) -> Mapping[int, bytes]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = WriterLock(self._path)
        make_private(self._path)
        connection = self._connection = connect(self._path)
        fresh = is_empty(connection)
        if not fresh:
            check_format(connection, self._path)
        prepare(connection, self._path)
        connection.execute("BEGIN IMMEDIATE")
        if fresh:
            create(connection, self.partitions)
        else:
            bring_up(connection)
        partitions = meta(connection, "partitions")
        if partitions != self.partitions:
            raise LogError(
                "open the log",
                str(self._path),
                f"the file has {partitions} partitions, the settings say {self.partitions}",
                f"set log.partitions to {partitions}; for another number set log.embedded.path to a new file, and"
                " a new snapshot fills it",
            )
        self._generation = meta(connection, "generation") + 1
        connection.execute("UPDATE meta SET value = ? WHERE name = 'generation'", (self._generation,))
        tails = {}
        for partition in range(partitions):
            offset, value = connection.execute(_LAST, (partition,)).fetchone() or (-1, None)
            self._next[partition] = offset + 1
            if value is not None:
                tails[partition] = value
        connection.execute("COMMIT")
        self._compaction = Compaction(connection, self._lag, self._clock, self._folded)
        self._identity = identity(self._path)
        return tails

    def _folded(self) -> Mapping[int, int]:
        """How far deliver is; nothing is compacted while that cannot be told."""
        try:
            return committed_offsets(self._path)
        except LogError:
            return dict.fromkeys(range(self.partitions), 0)

    def register(self, schema: str) -> int:
        """See the contract."""
        fingerprint = sha256(schema.encode()).hexdigest()
        with self._transaction("register a schema") as connection:
            row = connection.execute(_SCHEMA_ID, (fingerprint,)).fetchone()
            if row is None:
                row = (connection.execute(_ADD_SCHEMA, (schema, fingerprint)).lastrowid,)
        return int(row[0])

    def append(self, entries: Sequence[Entry]) -> None:
        """See the contract."""
        if not entries:
            return
        following = self._next.copy()
        rows = []
        for partition, key, value in entries:
            offset = following[partition]
            following[partition] = offset + 1
            rows.append((partition, offset, key, value))
        with self._transaction("append to the log") as connection:
            connection.executemany(_INSERT, rows)
            if self._compaction is not None:
                self._compaction.step(following, len(rows))
        self._next = following
        self._bell.ring()

    @contextmanager
    def _transaction(self, operation: str) -> Iterator[sqlite3.Connection]:
        """A transaction in which this writer is still the latest; synced when it ends.

        A failure ends the writer: what a failed sync left behind, only a new writer's look at the file tells.
        """
        connection = self._connection
        if connection is None:
            raise self._failure or LogUnavailable(
                operation, str(self._path), "this writer is not open", "open a writer"
            )
        try:
            with reported(operation, self._path):
                if identity(self._path) != self._identity:
                    raise moved_away(operation, self._path)
                connection.execute("BEGIN IMMEDIATE")
                if meta(connection, "generation") != self._generation:
                    raise LogError(
                        operation,
                        str(self._path),
                        "fenced: a later capture has taken over this log",
                        "run one capture per log; stop this one, the other goes on where it was",
                    )
                yield connection
                connection.execute("COMMIT")
        except BaseException as error:
            self._failure = error if isinstance(error, LogError) else None
            self.close()
            raise

    def close(self) -> None:
        """See the contract. An open transaction is rolled back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            with suppress(OSError):
                lock.release()


class EmbeddedReader:
    """Reads an embedded log, in the writer's process or in another."""

    durability: Durability = DURABILITY
    concerns: tuple[Concern, ...] = ()

    def __init__(self, path: Path) -> None:
        """Open the file. LogUnavailable when capture has not made it yet."""
        self._path = path
        self._bell = bell_of(path)
        self._identity = identity(path)
        if self._identity is None:
            raise self._not_yet()
        with reported("read the log", path):
            self._connection = connect(path)
            try:
                self._connection.execute("PRAGMA query_only = ON")
                if is_empty(self._connection):
                    raise self._not_yet()
                self.partitions = check_format(self._connection, path)
                self.identity = name_of(self._connection)
            except BaseException:
                self._connection.close()
                raise
        self._positions: dict[int, int] = {}
        self._order: list[int] = []
        self._checked = True
        self._drained_at: int | None = None
        self._busy_at = monotonic()

    def _not_yet(self) -> LogUnavailable:
        return LogUnavailable(
            "read the log",
            str(self._path),
            "there is no log here yet",
            "start `emc-cdc capture`, which makes it; check log.embedded.path if it runs already",
        )

    def assign(self, offsets: Mapping[int, int]) -> None:
        """See the contract."""
        unknown = [partition for partition in offsets if not 0 <= partition < self.partitions]
        if unknown:
            raise LogError(
                "read the log",
                str(self._path),
                f"it has no partition {unknown[0]}, only 0 to {self.partitions - 1}",
                f"set log.partitions to {self.partitions}",
            )
        self._positions = dict(offsets)
        self._order = sorted(offsets)
        self._checked = False
        self._drained_at = None

    def poll(self, timeout: float, limit: int) -> list[Record]:
        """See the contract."""
        deadline = monotonic() + timeout
        with reported("read the log", self._path):
            if not self._checked:
                self._check_positions()
            while True:
                rings = self._bell.rings
                records = self._read(limit)
                now = monotonic()
                if records:
                    self._busy_at = now
                    return records
                if now >= deadline:
                    # A file that was replaced would stay silent for ever.
                    if identity(self._path) != self._identity:
                        raise moved_away("read the log", self._path)
                    return []
                pause = min(max((now - self._busy_at) / 50, _SHORTEST_WAIT), _LONGEST_WAIT)
                self._bell.wait(rings, min(pause, deadline - now))

    def _read(self, limit: int) -> list[Record]:
        """Up to `limit` records that are there now. Costs one pragma when nothing was committed since it ran dry."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version == self._drained_at:
            return []
        records: list[Record] = []
        for partition in self._order:
            rows = self._connection.execute(
                _READ, (partition, self._positions[partition], limit - len(records))
            ).fetchall()
            if rows:
                records += starmap(Record, rows)
                self._positions[partition] = records[-1].offset + 1
                if len(records) >= limit:
                    break
        else:
            self._drained_at = version
            return records
        # Begin after the partition that filled this batch, so that a long one does not starve the others.
        turn = self._order.index(partition) + 1
        self._order = self._order[turn:] + self._order[:turn]
        return records

    def _check_positions(self) -> None:
        ends = self.ends()
        for partition, offset in self._positions.items():
            if not 0 <= offset <= ends[partition]:
                raise LogError(
                    "read the log",
                    f"{self._path}, partition {partition}",
                    f"offset {offset} is wanted, the log holds 0 to {ends[partition]}",
                    "this is not the log that was read before: put that file back, or move the directory"
                    " delivery.state away so that it is built anew from this log",
                )
        self._checked = True

    def beginnings(self) -> Mapping[int, int]:
        """See the contract."""
        with reported("read the log", self._path):
            return {p: self._connection.execute(_BEGINNING, (p,)).fetchone()[0] for p in range(self.partitions)}

    def complete_from(self) -> Mapping[int, int]:
        """See the contract."""
        with reported("read the log", self._path):
            if meta(self._connection, "format") == 1:
                return dict.fromkeys(range(self.partitions), 0)
            return dict.fromkeys(range(self.partitions), 0) | cleaned(self._connection)

    def tails(self) -> Mapping[int, bytes]:
        """See the contract."""
        with reported("read the log", self._path):
            found = {p: self._connection.execute(_LAST, (p,)).fetchone() for p in range(self.partitions)}
        return {partition: row[1] for partition, row in found.items() if row is not None}

    def ends(self) -> Mapping[int, int]:
        """See the contract."""
        with reported("read the log", self._path):
            return {p: self._connection.execute(_END, (p,)).fetchone()[0] for p in range(self.partitions)}

    def positions(self) -> Mapping[int, int]:
        """See the contract."""
        return dict(self._positions)

    def schema(self, schema_id: int) -> str:
        """See the contract."""
        with reported("read the log", self._path):
            row = self._connection.execute(_SCHEMA, (schema_id,)).fetchone()
        if row is None:
            raise LogError(
                "read the log",
                str(self._path),
                f"it has no schema {schema_id}, but a record that names it",
                "the file is damaged: restore it from a copy, or move it away: a new snapshot fills a new log",
            )
        return str(row[0])

    def close(self) -> None:
        """See the contract."""
        with suppress(sqlite3.Error):
            self._connection.close()
