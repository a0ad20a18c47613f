"""Capture's keyed index: child row → dossier, and the last text of columns that PostgreSQL may leave out (TOAST).

A child's DELETE carries only its key, and an UPDATE leaves unchanged TOASTed values out; with this index both find what
they need, so nobody has to set REPLICA IDENTITY FULL and no logged record has a hole (DESIGN section 3).

Invariants:
- What is committed to the file belongs to changes that are durable in the log (`save` is called after the append), and
  nothing is confirmed to PostgreSQL before it is committed here.
- Its `confirmed` says how far it is: it has every commit of the log below, and of a later one at most what the next
  invariant lets it have. So what is sent again from there on finds the index as it was; what is sent again of before is
  passed over (`takeover`, `Assembler.indexed_below`), for it would find rows as they became.
- Within an unfinished transaction only values of newly inserted keys may be saved: a replay makes them again before it
  looks them up. Everything else waits for the commit, past `OPEN_BYTES` on disk (`overflow`).
Lookups and changes belong to the capture thread; `save` belongs to the log thread; both have their own connection.
The file is rebuildable from the log (`capture`), except `confirmed`.
"""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from connector.errors import SourceError
from connector.source.gap import joined
from connector.source.overflow import UNCHANGED, Overflow, Rows, Unchanged

NO_DOSSIER = b""
"""A child whose link is NULL: it belongs to no dossier, its records go to every partition."""

REBUILT = "rebuilt"
"""In the index's meta while it was made from the log and has not been gone on with: by then it may be out of date."""

_FORMAT = "1"
_REMEMBERED = 200_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS child (key BLOB PRIMARY KEY, dossier BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS toasted (key BLOB PRIMARY KEY, texts BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

_PUT_CHILD = "INSERT OR REPLACE INTO child VALUES (?, ?)"
_DELETE_CHILD = "DELETE FROM child WHERE key = ?"
_PUT_TEXTS = "INSERT OR REPLACE INTO toasted VALUES (?, ?)"
_DELETE_TEXTS = "DELETE FROM toasted WHERE key = ?"

OPEN_BYTES = 8 * 1024 * 1024
"""What a transaction that is being read may change in the index before that goes to disk."""
_OVERHEAD = 256
"""Bytes that a key takes in memory, with its places in dicts; keys of rows are short."""

Texts = dict[str, bytes]
Value = TypeVar("Value")


@dataclass(slots=True)
class IndexChanges:
    """What a batch changes; None deletes. In this order: what was `earlier`, the dicts, `overflow`."""

    children: dict[bytes, bytes | None] = field(default_factory=dict)
    toasted: dict[bytes, Texts | None] = field(default_factory=dict)
    texts_size: int = 0
    """Bytes of texts that were put."""
    overflow: Overflow | None = None
    earlier: IndexChanges | None = None

    def __bool__(self) -> bool:
        return bool(self.children or self.toasted)

    @property
    def footprint(self) -> int:
        """Bytes that it takes in memory, about."""
        own = self.texts_size + _OVERHEAD * (len(self.children) + len(self.toasted))
        return own if self.earlier is None else own + self.earlier.footprint

    def stages(self) -> list[IndexChanges]:
        """Itself and what was earlier, the last first."""
        found = [self]
        while (earlier := found[-1].earlier) is not None:
            found.append(earlier)
        return found


class _Kind(NamedTuple, Generic[Value]):
    """One of the two kinds of changes: in memory, and in an overflow."""

    of: Callable[[IndexChanges], dict[bytes, Value | None]]
    on_disk: Callable[[Overflow, bytes], Value | Unchanged | None]


class KeyedIndex:
    """See the module's invariants. Keys are record keys of the log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = _connect(path)
        self._writer = _connect(path)
        self._ready = IndexChanges()
        self._changed = IndexChanges()
        self._open: Overflow | None = None
        """What the transaction that is being read has changed beside `_changed`, and earlier."""
        self._in_flight: deque[IndexChanges] = deque()
        # What was changed last: everything that is not in the file yet, and as much of the rest as may be remembered.
        self._children: dict[bytes, bytes | None] = {}

    # -- the capture thread ------------------------------------------------------------------------------------------

    def dossier_of(self, child: bytes) -> bytes | None:
        """The dossier key of a child row, NO_DOSSIER, or None when the row is unknown."""
        if child in self._children:
            return self._children[child]
        if self._overflows() and not isinstance(found := self._pending(child, _CHILDREN), Unchanged):
            return found
        row = self._reader.execute("SELECT dossier FROM child WHERE key = ?", (child,)).fetchone()
        return None if row is None else bytes(row[0])

    def texts_of(self, key: bytes) -> Texts:
        """The remembered texts of a row's columns; empty when there are none."""
        if not isinstance(found := self._pending(key, _TOASTED), Unchanged):
            return found or {}
        row = self._reader.execute("SELECT texts FROM toasted WHERE key = ?", (key,)).fetchone()
        return {} if row is None else _load(row[0])

    @property
    def open_footprint(self) -> int:
        """Bytes in memory of what the transaction that is being read has changed."""
        return self._changed.footprint

    def put_child(self, key: bytes, dossier: bytes, inserted: bool) -> None:
        """Remember a child's dossier."""
        self._children[key] = dossier
        fresh = inserted and self._open is None and key not in self._changed.children
        (self._ready if fresh else self._changed).children[key] = dossier
        if not fresh:
            self._spill()

    def put_texts(self, key: bytes, texts: Texts, inserted: bool) -> None:
        """Remember a big row's texts."""
        fresh = inserted and self._open is None and key not in self._changed.toasted
        changes = self._ready if fresh else self._changed
        changes.toasted[key] = texts
        changes.texts_size += sum(map(len, texts.values()))
        if not fresh:
            self._spill()

    def forget_child(self, key: bytes) -> None:
        """The child row is gone."""
        self._children[key] = None
        self._changed.children[key] = None
        self._spill()

    def forget_texts(self, key: bytes) -> None:
        """The row is gone, or is not big any more."""
        self._changed.toasted[key] = None
        self._spill()

    def committed(self) -> None:
        """The transaction that is being read has ended: all its changes may be saved."""
        if self._open is not None:
            self._to_disk(self._open)
            self._ready.overflow, self._open = self._open, None
            self._ready = IndexChanges(earlier=self._ready)
        elif self._changed:
            self._ready.children |= self._changed.children
            self._ready.toasted |= self._changed.toasted
            self._ready.texts_size += self._changed.texts_size
            self._changed = IndexChanges()

    def take(self) -> IndexChanges:
        """What the next batch saves."""
        taken = self._ready
        self._ready = IndexChanges()
        self._in_flight.append(taken)
        return taken

    def saved(self, batches: int) -> None:
        """The oldest `batches` taken are in the file now."""
        for _ in range(batches):
            for stage in self._in_flight.popleft().stages():
                if stage.overflow is not None:
                    stage.overflow.close()
        if len(self._children) > _REMEMBERED:
            self._remember()

    def _remember(self) -> None:
        """Forget of the children what is found elsewhere."""
        self._children.clear()
        if not self._overflows():  # else they are looked for where they are
            for changes in (*self._in_flight, self._ready):
                self._children |= changes.children
        self._children |= self._changed.children

    def _pending(self, key: bytes, kind: _Kind[Value]) -> Value | Unchanged | None:
        """What is not in the file yet says of a key."""
        if key in (changed := kind.of(self._changed)):
            return changed[key]
        if self._open is not None and not isinstance(found := kind.on_disk(self._open, key), Unchanged):
            return found
        for changes in (self._ready, *reversed(self._in_flight)):
            for stage in changes.stages():
                if stage.overflow is not None and not isinstance(found := kind.on_disk(stage.overflow, key), Unchanged):
                    return found
                if key in (told := kind.of(stage)):
                    return told[key]
        return UNCHANGED

    def _spill(self) -> None:
        """Move what the transaction has changed to disk, if it is much."""
        if self._changed.footprint > OPEN_BYTES:
            if self._open is None:
                self._open = Overflow()
            self._to_disk(self._open)
            self._remember()

    def _to_disk(self, overflow: Overflow) -> None:
        changed = self._changed
        texts = {key: None if texts is None else _dump(texts) for key, texts in changed.toasted.items()}
        try:
            overflow.add(changed.children, texts)
        except sqlite3.Error as error:
            raise _broken(self.path, error) from error
        self._changed = IndexChanges()

    def _overflows(self) -> list[Overflow]:
        """Those that are not in the file yet, the last first."""
        found = [] if self._open is None else [self._open]
        for changes in (self._ready, *reversed(self._in_flight)):
            found += [stage.overflow for stage in changes.stages() if stage.overflow is not None]
        return found

    # -- the log thread ----------------------------------------------------------------------------------------------

    def save(
        self, batches: list[IndexChanges], meta: dict[str, str], progress: Callable[[], None] = lambda: None
    ) -> None:
        """Commit changes and meta values together. SourceError when the file takes nothing any more.

        progress: called every so often, for what is much takes long.
        """
        try:
            with self._writer:
                self._writer.execute("BEGIN IMMEDIATE")
                for changes in (stage for batch in batches for stage in reversed(batch.stages())):
                    puts = [(key, dossier) for key, dossier in changes.children.items() if dossier is not None]
                    gone = [(key,) for key, dossier in changes.children.items() if dossier is None]
                    self._writer.executemany(_PUT_CHILD, puts)
                    self._writer.executemany(_DELETE_CHILD, gone)
                    for key, texts in changes.toasted.items():
                        if texts is None:
                            self._writer.execute(_DELETE_TEXTS, (key,))
                        else:
                            self._writer.execute(_PUT_TEXTS, (key, _dump(texts)))
                    if changes.overflow is not None:
                        for children, toasted in changes.overflow.pieces():
                            self._write(_PUT_CHILD, _DELETE_CHILD, children)
                            self._write(_PUT_TEXTS, _DELETE_TEXTS, toasted)
                            progress()
                self._writer.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())
        except sqlite3.Error as error:
            raise _broken(self.path, error) from error

    def _write(self, put: str, delete: str, rows: Rows) -> None:
        self._writer.executemany(delete, [(key,) for key, value in rows if value is None])
        self._writer.executemany(put, [row for row in rows if row[1] is not None])

    # -- before streaming --------------------------------------------------------------------------------------------

    def meta(self) -> dict[str, str]:
        """Everything remembered about slot, epoch and selection; empty for a new file."""
        try:
            found = dict(self._reader.execute("SELECT name, value FROM meta WHERE name <> 'format'").fetchall())
        except sqlite3.Error as error:
            raise _broken(self.path, error) from error
        return found

    def clear(self) -> None:
        """Forget all rows, before a new snapshot or a rebuild."""
        with self._writer:
            self._writer.execute("DELETE FROM child")
            self._writer.execute("DELETE FROM toasted")
            self._writer.execute("DELETE FROM meta WHERE name <> 'format'")
        self._close_overflows()
        self._ready, self._changed = IndexChanges(), IndexChanges()
        self._in_flight.clear()
        self._children.clear()

    def _close_overflows(self) -> None:
        for overflow in self._overflows():
            overflow.close()
        self._open = None

    def close(self) -> None:
        """Close the file. Never raises."""
        self._close_overflows()
        for connection in (self._reader, self._writer):
            connection.close()


def remembered(path: Path) -> dict[str, str]:
    """What another process's index remembers (see `KeyedIndex.meta`); empty when there is no index."""
    if not path.exists():
        return {}
    try:
        with closing(sqlite3.connect(path, timeout=10.0)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                return {}  # it is just being made
            return dict(connection.execute("SELECT name, value FROM meta").fetchall())
    except sqlite3.Error as error:
        raise _broken(path, error) from error


def request(path: Path, text: str) -> None:
    """Leave a request (see `gap.request_text`) for the capture of another process; it joins one that waits.

    SourceError without an index.
    """
    if not path.exists():
        raise SourceError(
            "ask capture for a snapshot", str(path), "there is no keyed index", "start `emc-cdc capture` here first"
        )
    try:
        with closing(sqlite3.connect(path, timeout=10.0)) as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            waiting = connection.execute("SELECT value FROM meta WHERE name = 'request'").fetchone()
            connection.execute(
                "INSERT OR REPLACE INTO meta VALUES ('request', ?)", (joined(waiting[0] if waiting else "", text),)
            )
    except sqlite3.Error as error:
        raise _broken(path, error) from error


def _connect(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_SCHEMA)
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (_FORMAT,))
        found = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()[0]
    except (sqlite3.Error, OSError) as error:
        raise _broken(path, error) from error
    if found != _FORMAT:
        connection.close()
        raise SourceError(
            "open the keyed index",
            str(path),
            f"it has format {found}, not {_FORMAT}",
            "delete it: it is rebuilt from the log",
        )
    return connection


def _broken(path: Path, error: Exception) -> SourceError:
    return SourceError(
        "use the keyed index",
        str(path),
        str(error),
        "free disk space or mend permissions; if the file is damaged delete it: it is rebuilt from the log",
    )


def _texts_on_disk(overflow: Overflow, key: bytes) -> Texts | Unchanged | None:
    found = overflow.toasted(key)
    return _load(found) if isinstance(found, bytes) else found


def _dump(texts: Texts) -> bytes:
    return json.dumps({name: text.decode() for name, text in texts.items()}, ensure_ascii=False).encode()


def _load(stored: bytes) -> Texts:
    return {name: text.encode() for name, text in json.loads(stored).items()}


_CHILDREN: _Kind[bytes] = _Kind(lambda changes: changes.children, Overflow.child)
_TOASTED: _Kind[Texts] = _Kind(lambda changes: changes.toasted, _texts_on_disk)
