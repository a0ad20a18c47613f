"""Compaction of the embedded log: of what is older than the lag, the last record of every key and partition stays.

Contract, the same as Kafka's `cleanup.policy=compact` with `min.compaction.lag.ms`: a record is removed only when it
was appended longer ago than the lag and a later record of its key, as old, follows in its partition; and, where deliver
has recorded how far it is, only where it has folded both. So the last record of a partition always stays, offsets keep
their numbers (and get holes), and who reads a partition from its beginning ends at the same rows. From `cleaned` on, a
partition holds every record that was ever appended.

It is part of the appends: each one looks at a few old records in its own transaction, about four for each that it
adds, so that nothing runs beside the writer, no append waits long, and a crash undoes both or none. An idle log stays
as it is. SQLite gives the freed pages to later records; the file does not shrink.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Final

TABLES: Final = (
    # How long a partition was when: what lies below `offset` was appended at `at` or before (seconds since the epoch).
    "CREATE TABLE IF NOT EXISTS marks (partition INTEGER NOT NULL, at REAL NOT NULL, offset INTEGER NOT NULL,"
    " PRIMARY KEY (partition, at)) WITHOUT ROWID",
    # Up to where a partition was looked through.
    "CREATE TABLE IF NOT EXISTS cleaned (partition INTEGER PRIMARY KEY, offset INTEGER NOT NULL)",
    # The one record of each key below that.
    "CREATE TABLE IF NOT EXISTS kept (partition INTEGER NOT NULL, key BLOB NOT NULL, offset INTEGER NOT NULL,"
    " PRIMARY KEY (partition, key)) WITHOUT ROWID",
)

_MARK_EVERY: Final = 3600.0
"""Seconds between two marks: how much longer than the lag a record may stay."""
_AT_LEAST: Final = 100
_PER_APPENDED: Final = 4
"""Old records looked at in one append: so many, and so many for each that it adds."""

_CLEANED: Final = "SELECT partition, offset FROM cleaned"
_LAST_MARK: Final = "SELECT max(at) FROM marks"
_MARK: Final = "INSERT OR REPLACE INTO marks VALUES (?, ?, ?)"
_OLD: Final = "SELECT max(offset) FROM marks WHERE partition = ? AND at <= ?"
_FORGET_OLDER: Final = (
    "DELETE FROM marks WHERE partition = ?1 AND at < (SELECT max(at) FROM marks WHERE partition = ?1 AND at <= ?2)"
)
_LOOK: Final = (
    "SELECT offset, key FROM records WHERE partition = ? AND offset >= ? AND offset < ? ORDER BY offset LIMIT ?"
)
_REMOVE: Final = "DELETE FROM records WHERE partition = ? AND offset = ?"
_REMOVE_KEPT: Final = (
    "DELETE FROM records WHERE partition = ?1 AND offset = (SELECT offset FROM kept WHERE partition = ?1 AND key = ?2)"
)
_KEEP: Final = "INSERT OR REPLACE INTO kept VALUES (?, ?, ?)"
_CLEAN: Final = "INSERT OR REPLACE INTO cleaned VALUES (?, ?)"


def cleaned(connection: sqlite3.Connection) -> dict[int, int]:
    """For every partition that was ever compacted, the offset from which on it is whole."""
    return dict(connection.execute(_CLEANED).fetchall())


class Compaction:
    """See the module's contract. `lag`: seconds; `clock`: seconds since the epoch; `folded`: deliver's offsets."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        lag: float,
        clock: Callable[[], float],
        folded: Callable[[], Mapping[int, int]],
    ) -> None:
        self._connection = connection
        self._lag = lag
        self._clock = clock
        self._folded = folded
        self._cleaned = cleaned(connection)
        self._bounds: dict[int, int] = {}
        self._marked_at: float | None = connection.execute(_LAST_MARK).fetchone()[0]
        self._looked_at = float("-inf")
        self._before: tuple[float, Mapping[int, int]] = 0.0, {}

    def step(self, ends: Mapping[int, int], appended: int) -> None:
        """Look at a few old records; inside the transaction of an append, which is the last before `ends`."""
        now = self._clock()
        if self._marked_at is None or not 0 <= now - self._marked_at < _MARK_EVERY:
            # The append before this one, too: an hour of appends and a quiet year may lie behind it.
            self._mark(*self._before)
            self._mark(now, ends)
            self._marked_at = now
        self._before = now, ends
        if not 0 <= now - self._looked_at < _MARK_EVERY:
            self._looked_at = now
            folded = self._folded()
            bounds = {partition: self._bound(partition, now - self._lag) for partition in ends}
            self._bounds = {partition: min(bound, folded.get(partition, bound)) for partition, bound in bounds.items()}
        room = _AT_LEAST + _PER_APPENDED * appended
        for partition, bound in self._bounds.items():
            if room > 0 and self._cleaned.get(partition, 0) < bound:
                room -= self._clean(partition, bound, room)

    def _mark(self, at: float, ends: Mapping[int, int]) -> None:
        self._connection.executemany(_MARK, ((partition, at, end) for partition, end in ends.items()))

    def _bound(self, partition: int, before: float) -> int:
        """The offset below which a partition's records are older than the lag."""
        self._connection.execute(_FORGET_OLDER, (partition, before))
        return self._connection.execute(_OLD, (partition, before)).fetchone()[0] or 0

    def _clean(self, partition: int, bound: int, room: int) -> int:
        """Look at up to `room` records; how many there were."""
        db = self._connection
        found = db.execute(_LOOK, (partition, self._cleaned.get(partition, 0), bound, room)).fetchall()
        last: dict[bytes, int] = {}
        superseded = []
        for offset, key in found:
            earlier = last.get(key)
            if earlier is not None:
                superseded.append((partition, earlier))
            last[key] = offset
        db.executemany(_REMOVE, superseded)
        db.executemany(_REMOVE_KEPT, ((partition, key) for key in last))
        db.executemany(_KEEP, ((partition, key, offset) for key, offset in last.items()))
        reached = found[-1][0] + 1 if len(found) == room else bound
        db.execute(_CLEAN, (partition, reached))
        self._cleaned[partition] = reached
        return len(found)
