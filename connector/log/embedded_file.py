"""The SQLite file that is the embedded log: its format, its lock, its doorbell, and its errors in an operator's words.

Format 2, WAL mode, `application_id` "emcL" (0x656D634C):
- `records(partition, offset, key, value)`, offsets from 0 in each partition, dense but for what compaction took,
  clustered by (partition, offset);
- `schemas(id, schema, fingerprint)`, ids from 1, fingerprint = SHA-256 of the text (hex);
- `meta(name, value)`: `format`, `partitions`, `identity`, and `generation`, which every writer raises when it opens.
- `marks`, `cleaned`, `kept`: what compaction knows (`connector.log.compaction`). Format 1 had none of them.
The format is made in one transaction, so a file holds all of it or nothing; a writer brings format 1 to format 2.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import randbits
from typing import Final
from weakref import WeakValueDictionary

from connector.errors import LogError, LogUnavailable
from connector.log.compaction import TABLES
from connector.log.contract import Durability

FORMAT: Final = 2
_READABLE: Final = (1, 2)
NAME: Final = "identity"
"""In `meta`: a random number that the log keeps wherever its file is copied to."""
APPLICATION_ID: Final = 0x656D634C
DURABILITY: Final = Durability(True, "SQLite with synchronous=FULL: on this machine's disk, on no other machine")

_BUSY_MS: Final = 5000
"""How long a statement waits for another connection's write before it is LogUnavailable, in milliseconds."""
_PAGE_SIZE: Final = 8192
"""Bytes. Records of some hundred bytes fill such pages well; measured a third faster than 4096."""
_CHECKPOINT_PAGES: Final = 2000
"""The WAL is copied into the file at 16 MiB: fewer syncs than SQLite's 4 MiB, still a short pause."""

_CREATE: Final = (
    "CREATE TABLE records (partition INTEGER NOT NULL, offset INTEGER NOT NULL, key BLOB NOT NULL,"
    " value BLOB NOT NULL, PRIMARY KEY (partition, offset)) WITHOUT ROWID",
    "CREATE TABLE schemas (id INTEGER PRIMARY KEY, schema TEXT NOT NULL, fingerprint TEXT NOT NULL UNIQUE)",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    f"PRAGMA application_id = {APPLICATION_ID}",
)
_META: Final = "SELECT value FROM meta WHERE name = ?"


def make_private(path: Path) -> None:
    """Make a file, if there is none, for its owner only: it holds personal data. Its WAL gets the same rights."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def connect(path: Path) -> sqlite3.Connection:
    """A connection to an existing file, in autocommit mode; the caller's thread need not be its last."""
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Set WAL mode and full durability; LogError where the file system cannot carry them."""
    connection.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise LogError(
            "open the log",
            str(path),
            f"SQLite's WAL mode is not possible here (mode stays {mode})",
            "put log.embedded.path on a local disk, not on a network file system",
        )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")


def is_empty(connection: sqlite3.Connection) -> bool:
    """Whether nothing was ever made in this database."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return bool(tables == 0)


def create(connection: sqlite3.Connection, partitions: int) -> None:
    """Make the format; inside the caller's transaction."""
    for statement in (*_CREATE, *TABLES):
        connection.execute(statement)
    connection.executemany(
        "INSERT INTO meta VALUES (?, ?)",
        (("format", FORMAT), ("partitions", partitions), ("generation", 0), (NAME, randbits(62))),
    )


def bring_up(connection: sqlite3.Connection) -> None:
    """Make this format of an older one; inside the caller's transaction."""
    if meta(connection, "format") < FORMAT:
        for statement in TABLES:
            connection.execute(statement)
        connection.execute("UPDATE meta SET value = ? WHERE name = 'format'", (FORMAT,))
        connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (NAME, randbits(62)))


def check_format(connection: sqlite3.Connection, path: Path) -> int:
    """The number of partitions. LogError when the file is not a change log, or of another format."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise LogError(
            "open the log",
            str(path),
            "this SQLite file is not a change log of emc-cdc",
            "set log.embedded.path to a file of its own; nothing was changed in this one",
        )
    version = meta(connection, "format")
    if version not in _READABLE:
        raise LogError(
            "open the log",
            str(path),
            f"the file has format {version}, this program knows format {FORMAT}",
            "use the version of emc-cdc that made the file, or a newer one",
        )
    return meta(connection, "partitions")


def meta(connection: sqlite3.Connection, name: str) -> int:
    """A value of the table `meta`."""
    row = connection.execute(_META, (name,)).fetchone()
    if row is None:
        raise sqlite3.DatabaseError(f"meta has no {name}")
    return int(row[0])


def name_of(connection: sqlite3.Connection) -> str:
    """The log's own name (`LogReader.identity`); empty where no writer of this format has opened it."""
    row = connection.execute(_META, (NAME,)).fetchone()
    return "" if row is None else f"{row[0]:016x}"


def identity(path: Path) -> tuple[int, int] | None:
    """What tells this file from another one at the same path; None when there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def moved_away(operation: str, path: Path) -> LogError:
    """The error for a file that is no longer where it was opened."""
    return LogError(
        operation,
        str(path),
        "the file was moved, deleted or replaced while it was open",
        "put the same file back and start again; without it a new snapshot fills a new log",
    )


class WriterLock:
    """An exclusive advisory lock on `<path>.lock`, held until `release`; the kernel frees it when the process ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock. LogUnavailable when another process (or another writer of this one) has it."""
        self._file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, str(os.getpid()).encode(), 0)
        except BlockingIOError as error:
            holder = os.pread(self._file, 20, 0).decode("ascii", "replace") or "unknown"
            os.close(self._file)
            raise LogUnavailable(
                "open the log",
                str(path),
                f"another capture is running (pid {holder})",
                "leave it to that one, or stop it first",
            ) from error
        except OSError:
            os.close(self._file)
            raise

    def release(self) -> None:
        os.close(self._file)


class Bell:
    """Wakes the readers of a file when a writer of the same process has committed to it."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.rings = 0

    def ring(self) -> None:
        with self._condition:
            self.rings += 1
            self._condition.notify_all()

    def wait(self, heard: int, timeout: float) -> None:
        """Return when it has rung since `rings` was `heard`, or after `timeout` seconds."""
        with self._condition:
            self._condition.wait_for(lambda: self.rings != heard, timeout)


_bells: WeakValueDictionary[Path, Bell] = WeakValueDictionary()
_bells_lock = threading.Lock()


def bell_of(path: Path) -> Bell:
    """The one bell of this file in this process, as long as somebody holds it."""
    place = path.resolve()
    with _bells_lock:
        bell = _bells.get(place)
        if bell is None:
            bell = _bells[place] = Bell()
        return bell


@contextmanager
def reported(operation: str, path: Path) -> Iterator[None]:
    """Turns what SQLite and the system raise inside into LogError or LogUnavailable."""
    try:
        yield
    except sqlite3.Error as error:
        raise _explain(operation, path, error) from error
    except OSError as error:
        raise LogError(
            operation,
            str(path),
            error.strerror or type(error).__name__,
            f"make {path.parent} a directory that this user may write to, or change log.embedded.path",
        ) from error


def _explain(operation: str, path: Path, error: sqlite3.Error) -> LogError:
    """The error for one of SQLite's result codes (sqlite.org, "Result and Error Codes")."""
    code = getattr(error, "sqlite_errorcode", None)
    kind: type[LogError] = LogError
    match None if code is None else code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            kind = LogUnavailable
            cause = "another process holds a write transaction on the file"
            mend = f"end the other process; this shows it: fuser -v '{path}'"
        case sqlite3.SQLITE_FULL:
            kind = LogUnavailable
            cause = "the disk is full"
            mend = f"free space on the file system of {path.parent}; nothing is lost, the slot keeps the changes"
        case sqlite3.SQLITE_IOERR:
            cause = f"the disk refused ({getattr(error, 'sqlite_errorname', 'SQLITE_IOERR')})"
            mend = "look for disk errors, quotas and file size limits (dmesg, quota, ulimit -f), then start again"
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            cause = "the file is damaged, or is not an SQLite database"
            mend = "restore it from a copy, or move it away: a new snapshot fills a new log"
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            cause = "this user may not write the file or its directory"
            mend = f"give the user that runs emc-cdc the right to write to {path.parent} and the files in it"
        case _:
            cause = f"SQLite says: {error}"
            mend = "if the file is not a change log of emc-cdc, set log.embedded.path to a file of its own"
    return kind(operation, str(path), cause, mend)
