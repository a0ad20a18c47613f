"""The state of one partition: one SQLite file, and its transaction.

Contract: what was written since the last `commit` becomes durable together, or not at all. Used from one thread at a
time. A file that is damaged, of another log, or of another mapping's tables raises DeliveryError with the mend; it is
never silently begun anew. A file of an older format is brought to this one when it is opened. The files hold personal
data and are readable by their owner only.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from uuid import uuid4

from connector.delivery import journal
from connector.errors import DeliveryError

FORMAT = "4"
_SCHEMA = resources.files("connector.delivery").joinpath("state.sql").read_text(encoding="utf-8")
# Format 1 had no recovered events, and no table that `_SCHEMA` does not make; format 2 did not number the events of a
# position; format 3 had no journal.
_ADDED = {
    "recovered": "ALTER TABLE events ADD COLUMN recovered INTEGER NOT NULL DEFAULT 0",
    "ordinal": "ALTER TABLE events ADD COLUMN ordinal INTEGER NOT NULL DEFAULT 0",
}
# Those that were pruned are not counted: nobody was told of a number yet.
_NUMBER_EVENTS = """
UPDATE events SET ordinal = numbered.ordinal
  FROM (SELECT id, row_number() OVER (PARTITION BY position ORDER BY id) AS ordinal FROM events) AS numbered
 WHERE events.id = numbered.id
"""
_LARGEST_WAL = 64 * 1024 * 1024


class PartitionState:
    """See the module's contract. Raises DeliveryError when the file cannot be used."""

    def __init__(self, path: Path, name: str, partition: int) -> None:
        self.path = path
        self.partition = partition
        self.folding = False
        """The open transaction holds something of the fold, which must not become durable by halves."""
        self.recorded = 0
        """Up to which number of the journal everything is recorded; it is forgotten with the next commit."""
        self._writing = False
        with self.reported():
            try:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            except OSError as error:
                raise sqlite3.OperationalError(os.strerror(error.errno or 0)) from error
            self.db = sqlite3.connect(path, isolation_level=None, timeout=10.0, check_same_thread=False)
            try:
                self.db.execute("PRAGMA journal_mode = WAL")
                self.db.execute("PRAGMA synchronous = FULL")
                self.db.execute(f"PRAGMA journal_size_limit = {_LARGEST_WAL}")
                self.meta: dict[str, str] = self._read_meta()
                wanted = {"format": FORMAT, "log": name, "partition": str(partition)}
                if self.meta:
                    self._require(wanted)
                self.db.executescript(_SCHEMA)
                self.save_meta(wanted)
                self.commit()
            except BaseException:
                self.db.close()
                raise

    def write(self) -> sqlite3.Connection:
        """The connection, inside a transaction."""
        if not self._writing:
            self.db.execute("BEGIN IMMEDIATE")
            self._writing = True
        return self.db

    def write_fold(self) -> sqlite3.Connection:
        """The same, for what belongs to a source transaction."""
        self.folding = True
        return self.write()

    def save_meta(self, values: Mapping[str, str]) -> None:
        """Remember these values with the open transaction."""
        changed = {name: value for name, value in values.items() if self.meta.get(name) != value}
        if changed:
            self.write().executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", changed.items())
            self.meta |= changed

    def record(self, on: bool) -> None:
        """Note what changes, for it to be recorded, or nothing any more; durable on return."""
        if on and not self.meta.get(journal.OWNER):
            journal.note_everything(self.write())
            self.save_meta({journal.OWNER: uuid4().hex})
        elif not on:
            self.save_meta({journal.OWNER: ""})
        journal.watch(self.write(), on)
        self.commit()

    def commit(self) -> None:
        """Make what was written durable."""
        if self._writing:
            if self.recorded:
                journal.forget(self.db, self.recorded)
                self.recorded = 0
            self.db.execute("COMMIT")
            self._writing = False
        self.folding = False

    def rollback(self) -> None:
        """Undo what was written since the last `commit`."""
        if self._writing:
            self.db.execute("ROLLBACK")
            self._writing = False
        self.folding = False

    def close(self) -> None:
        """Close the file; what was not committed is undone. Never raises."""
        self.db.close()

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Turns what SQLite raises into a DeliveryError."""
        try:
            yield
        except sqlite3.Error as error:
            found = broken(self.path, error)
            if isinstance(found, StateDamaged):
                with suppress(OSError):
                    damage_mark(self.path).touch()
            raise found from error

    def _read_meta(self) -> dict[str, str]:
        """Empty when the file is new."""
        if self.db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone() is None:
            return {}
        return dict(self.db.execute("SELECT name, value FROM meta").fetchall())

    def _require(self, wanted: Mapping[str, str]) -> None:
        """The file is of this log and partition, and has the columns of this format when this has returned."""
        found = self.meta
        if any(found.get(key) != wanted[key] for key in ("log", "partition")):
            raise DeliveryError(
                "open the delivery state",
                str(self.path),
                f"it is of log {found.get('log')!r} partition {found.get('partition')}",
                "set delivery.state to the directory of this connector",
            )
        if found["format"] in ("1", "2", "3"):
            columns = {column for _, column, *_ in self.db.execute("PRAGMA table_info(events)")}
            for column, add in _ADDED.items():
                if column not in columns:  # it is there where we died before the format was written
                    self.db.execute(add)
            if found["format"] != "3":
                self.db.execute(_NUMBER_EVENTS)
        elif found["format"] != FORMAT:
            raise DeliveryError(
                "open the delivery state",
                str(self.path),
                f"it is of format {found['format']}, this program writes format {FORMAT}",
                "a later version of emc-cdc has used it: run that version, or one that is later still",
            )


def read_only(path: Path) -> sqlite3.Connection:
    """A connection that only reads, also while a deliver process uses the file. For one thread at a time."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10.0, isolation_level=None, check_same_thread=False
    )


class StateDamaged(DeliveryError):
    """A state file is no (whole) SQLite file. The next start makes it anew from what is recorded."""


def damage_mark(path: Path) -> Path:
    """The file that tells a later start of the damage, which opening the state file may not show."""
    return path.with_name(f"{path.name}.damaged")


def broken(path: Path, error: sqlite3.Error) -> DeliveryError:
    """SQLite refused: a full or read-only disk, or a damaged file."""
    text = str(error)
    if "full" in text:
        mend = "free disk space and start again: nothing was lost, the step was undone as a whole"
    elif "malformed" in text or "not a database" in text or "disk image" in text:
        mend = (
            "start again: the file is put aside and made anew from the log and from what is recorded of it; nothing is"
            " pushed twice for it. Look for disk errors first: dmesg"
        )
        return StateDamaged("use the delivery state", str(path), text, mend)
    else:
        mend = "let the directory be writable and used by one deliver process only, and start again"
    return DeliveryError("use the delivery state", str(path), text, mend)
