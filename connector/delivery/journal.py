"""What of a state file must outlive it: its records, and the journal of what is not recorded yet.

Recorded is all that cannot be had from the change log: what each dossier was told, those that are held, those that wait
for a snapshot's end or were born since its begin, outbox and ledger, and the values of `meta`. The rows are not: a fold
of the log makes them again (`rebuild`).

| key                  | value (JSON)                                                                                  |
|----------------------|-----------------------------------------------------------------------------------------------|
| `["told", DOSSIER]`  | `{"told": …}`: what EMC was told, as `emc.judgement` dumps it                                 |
| `["held", DOSSIER]`  | `{"code", "reason", "since_us"}`                                                              |
| `["waiting", DOSSIER]`, `["born", DOSSIER]` | `{}`                                                                   |
| `["events", ID]`     | the columns of the table `events`; `event` is its parameters as JSON text                     |
| `["head"]`           | `Head`: the last record of every append                                                       |

Invariants: triggers note every change of these tables in `journal`, in the transaction that makes it. An append has the
present content of every row that is noted, and a head that says up to which number; so records are a state as it was
after some commit, however often appends fail and are repeated.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from connector.errors import DeliveryError
from connector.log.pair import Pair

HEAD: Final = b'["head"]'
FORMAT: Final = 1
OWNER: Final = "owner"
"""In `meta`: the name of this file, by which it is known again as the one whose state is recorded."""
RELEASED: Final = "released"
"""In `meta`: not empty when another process has gone on with the partition since."""
_OURS: Final = ("format", "log", "partition", OWNER, RELEASED)
"""Values of `meta` that are of the file, not of the state."""

_KEYS: Final = {"told": "dossier", "held": "dossier", "waiting": "dossier", "born": "dossier", "events": "id"}
_NOTED: Final = "SELECT tbl, key FROM journal WHERE seq > ? AND seq <= ? GROUP BY tbl, key ORDER BY max(seq)"
_LAST: Final = "SELECT seq FROM sqlite_sequence WHERE name = 'journal'"
_FORGET: Final = "DELETE FROM journal WHERE seq <= ?"
_META: Final = "SELECT name, value FROM meta"
_INDEXES: Final = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'events' AND sql IS NOT NULL"
_AT_ONCE: Final = 1000
"""Rows of a table in one statement."""
_ROW: Final = {table: f"SELECT * FROM {table} WHERE {key} = ?" for table, key in _KEYS.items()}  # noqa: S608

_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Head:
    """What an append says of itself. owner: the file it is of; seq: to where in its journal; meta: its values."""

    owner: str
    seq: int
    meta: Mapping[str, str]

    @property
    def offset(self) -> int:
        """The offset in the changes up to which this state has folded."""
        return int(self.meta.get("offset", "0"))


def watch(db: sqlite3.Connection, on: bool) -> None:
    """Note every change from now on, or none any more. Inside the caller's transaction."""
    for table, key in _KEYS.items():
        for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
            name = f"note_{table}_{event.lower()}"
            if on:
                note = f"INSERT INTO journal (tbl, key) VALUES ('{table}', {row}.{key})"  # noqa: S608
                db.execute(f"CREATE TRIGGER IF NOT EXISTS {name} AFTER {event} ON {table} BEGIN {note}; END")
            else:
                db.execute(f"DROP TRIGGER IF EXISTS {name}")
    if not on:
        db.execute("DELETE FROM journal")


def note_everything(db: sqlite3.Connection) -> None:
    """Have the whole state recorded. Inside the caller's transaction."""
    for table, key in _KEYS.items():
        db.execute(f"INSERT INTO journal (tbl, key) SELECT '{table}', {key} FROM {table}")  # noqa: S608


def last_noted(db: sqlite3.Connection) -> int:
    """The number of the last change that was ever noted; 0 when there was none."""
    found = db.execute(_LAST).fetchone()
    return 0 if found is None else int(found[0])


def forget(db: sqlite3.Connection, seq: int) -> None:
    """Everything up to a number is recorded."""
    db.execute(_FORGET, (seq,))


def head_of(db: sqlite3.Connection) -> Head:
    """The head of an append with everything that is noted now."""
    meta: dict[str, str] = dict(db.execute(_META).fetchall())
    return Head(meta.get(OWNER, ""), last_noted(db), {name: meta[name] for name in meta if name not in _OURS})


def noted(db: sqlite3.Connection, after: int, head: Head) -> Iterator[Pair]:
    """The records of an append, of what was noted after a number. db must see one state until the last is made."""
    for table, key in db.execute(_NOTED, (after, head.seq)):
        found = db.execute(_ROW[table], (key,)).fetchone()
        number = int(key) if table == "events" else key
        yield Pair(_encode([table, number]).encode(), b"" if found is None else _value(table, found))
    yield Pair(HEAD, _encode({"format": FORMAT, "owner": head.owner, "seq": head.seq, "meta": head.meta}).encode())


def head_in(value: bytes | None, subject: str) -> Head | None:
    """The head that was recorded last. DeliveryError where the record is not one of ours."""
    if value is None:
        return None
    try:
        record = json.loads(value)
        if record["format"] != FORMAT:
            raise DeliveryError(
                "open the record of deliveries",
                subject,
                f"it is of format {record['format']}, this program knows format {FORMAT}",
                "a later version of emc-cdc has written it: run that version, or one that is later still",
            )
        return Head(record["owner"], record["seq"], record["meta"])
    except (ValueError, KeyError, TypeError):
        raise DeliveryError(
            "open the record of deliveries",
            subject,
            "its last record is not one of emc-cdc's",
            "let only emc-cdc write to it; delete it and start where the state files are still there: it is made anew",
        ) from None


def restore(db: sqlite3.Connection, pairs: Iterable[Pair], subject: str) -> None:
    """Make the tables say what was recorded, and nothing else. Inside the caller's transaction."""
    for table in _KEYS:
        db.execute(f"DELETE FROM {table}")  # noqa: S608
    # Made once in the end, they cost half of what they do row by row.
    indexes = db.execute(_INDEXES).fetchall()
    for name, _ in indexes:
        db.execute(f"DROP INDEX {name}")
    columns = [column for _, column, *_ in db.execute("PRAGMA table_info(events)")]
    restored = _Restored(db, columns)
    for number, (key, value) in enumerate(pairs, 1):
        if key != HEAD:
            try:
                table, of = json.loads(key)
                restored.take(table, of, json.loads(value) if value else None)
            except (ValueError, KeyError, TypeError):
                raise DeliveryError(
                    "read the record of deliveries",
                    f"{subject}, record {number}",
                    "it is not one of emc-cdc's",
                    "let only emc-cdc write to it. Where the state files are still there: delete it and start, it is"
                    " made anew",
                ) from None
    restored.write()
    for _, make in indexes:
        db.execute(make)


class _Restored:
    """Rows on their way into the tables, many in one statement, in the order in which they were recorded."""

    def __init__(self, db: sqlite3.Connection, columns: Sequence[str]) -> None:
        self._db = db
        self._columns = columns
        self._put = {
            "events": f"INSERT OR REPLACE INTO events VALUES ({', '.join('?' * len(columns))})",  # noqa: S608
            "told": "INSERT OR REPLACE INTO told VALUES (?, ?)",
            "held": "INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?)",
            "waiting": "INSERT OR REPLACE INTO waiting VALUES (?)",
            "born": "INSERT OR REPLACE INTO born VALUES (?)",
        }
        self._rows: dict[str, dict[str | int, tuple[Any, ...] | None]] = {table: {} for table in _KEYS}

    def take(self, table: str, of: str | int, row: dict[str, Any] | None) -> None:
        """What is recorded of a row; None: it is no more."""
        rows = self._rows[table]
        if row is None:
            rows[of] = None
        elif table == "events":
            rows[of] = (of, *[row.get(column, 0) for column in self._columns[1:]])
        elif table == "told":
            rows[of] = (of, _encode(row["told"]).encode())
        else:
            rows[of] = (of, row["code"], row["reason"], row["since_us"]) if table == "held" else (of,)
        if len(rows) >= _AT_ONCE:
            self._write(table)

    def write(self) -> None:
        """All that is still on its way."""
        for table in _KEYS:
            self._write(table)

    def _write(self, table: str) -> None:
        rows, self._rows[table] = self._rows[table], {}
        gone = f"DELETE FROM {table} WHERE {_KEYS[table]} = ?"  # noqa: S608
        self._db.executemany(gone, ((of,) for of, row in rows.items() if row is None))
        self._db.executemany(self._put[table], (row for row in rows.values() if row is not None))


def _value(table: str, row: tuple[Any, ...]) -> bytes:
    match table:
        case "told":
            return b'{"told":%b}' % row[1]
        case "held":
            return _encode(dict(zip(("code", "reason", "since_us"), row[1:], strict=True))).encode()
        case "events":
            return _encode(dict(zip(_EVENT, row[1:], strict=True))).encode()
    return b"{}"


_EVENT: Final = (
    "dossier", "code", "status", "event", "state", "position", "transaction_id", "mapping", "commit_time_us",
    "attempts", "ambiguous", "sent_at", "ended_at", "reason", "detail", "recovered", "ordinal",
)  # fmt: skip
"""The columns of `events` after the id."""
