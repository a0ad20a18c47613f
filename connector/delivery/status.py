"""What the state files say, for those who only look.

Contract: files are opened read-only, one after the other, also while a deliver process uses them; each is seen as of
one moment. Plain frozen values that `dataclasses.asdict` makes JSON of. Reasons and details are for operators: they may
hold what EMC said of a person. Raises DeliveryError when a file cannot be read.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from connector.change.position import Position
from connector.change.selection import Role
from connector.delivery.directory import partition_files
from connector.delivery.journal import RELEASED
from connector.delivery.reading import load_snapshot
from connector.delivery.state import broken, read_only
from connector.settings import Settings


@dataclass(frozen=True, slots=True)
class Parked:
    """A dossier whose event EMC rejected. behind: its later events, which wait; since: seconds since the epoch."""

    code: str
    status: int
    event: int
    reason: str
    detail: str
    since: float
    behind: int


@dataclass(frozen=True, slots=True)
class Held:
    """A dossier that owes an event which cannot be made yet. since: commit time, seconds since the epoch."""

    code: str
    reason: str
    since: float


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition.

    offset: the next record to fold; position: of the last change that was folded; mapping: version of the last run;
    dossiers: how many are known. waiting: events that may go out (those on their way too, not those behind a parked
    one); oldest: commit time of the oldest of them, seconds since the epoch, None when there is none. delivered: as far
    as the ledger reaches back; recovered: events that a snapshot found due, likewise; ambiguous: attempts that EMC may
    have taken without our knowing. parked, held: the first hundred; their numbers stand beside them. reading: the kind
    of the snapshot that is being folded (`delivery.reading`), empty when there is none; at_end: dossiers that its end
    judges. elsewhere: another process has gone on with the partition, and all this is of before.
    """

    partition: int
    offset: int
    position: str
    mapping: str
    dossiers: int
    waiting: int
    oldest: float | None
    delivered: int
    recovered: int
    ambiguous: int
    parked_dossiers: int
    parked: tuple[Parked, ...]
    held_dossiers: int
    held: tuple[Held, ...]
    reading: str
    at_end: int
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """An event that was pushed more than once because an answer was lost. times: attempts without a known outcome."""

    code: str
    status: int
    event: int
    times: int


_MOST = 100
_OPEN = "state <> 'delivered' AND state IN ('waiting', 'sent')"
_PARKED_DOSSIERS = "SELECT dossier FROM events WHERE state <> 'delivered' AND state = 'parked'"
_WAITING = f"SELECT count(*), min(commit_time_us) FROM events WHERE {_OPEN} AND dossier NOT IN ({_PARKED_DOSSIERS})"  # noqa: S608
_PARKED = (
    "SELECT code, status, id, reason, detail, ended_at, (SELECT count(*) FROM events AS later"
    " WHERE later.dossier = events.dossier AND later.state <> 'delivered') - 1"
    " FROM events WHERE state <> 'delivered' AND state = 'parked' ORDER BY id LIMIT ?"
)
_DELIVERED = "SELECT count(*) FROM events WHERE state = 'delivered'"
_AMBIGUOUS = "SELECT code, status, id, ambiguous FROM events WHERE ambiguous > 0 ORDER BY id"


def status(settings: Settings) -> list[PartitionStatus]:
    """The state of every partition that has a file; empty before the first run."""
    found = []
    for partition, path in partition_files(settings.delivery.state, settings.name):
        with _reading(path) as db:
            if _is_made(db):
                found.append(_look(db, partition))
    return found


def place(settings: Settings) -> bytes:
    """Where an input of several sequences is to be read on; empty where there is no state, or another input."""
    for _, path in partition_files(settings.delivery.state, settings.name):
        with _reading(path) as db:
            if _is_made(db):
                found = db.execute("SELECT value FROM meta WHERE name = 'place'").fetchone()
                return b"" if found is None else str(found[0]).encode()
    return b""


def ambiguous_attempts(settings: Settings) -> list[Ambiguous]:
    """Every event with an attempt that EMC may have taken without our knowing, as far as the ledger reaches back."""
    found: list[Ambiguous] = []
    for _, path in partition_files(settings.delivery.state, settings.name):
        with _reading(path) as db:
            if _is_made(db):
                found += (Ambiguous(*row) for row in db.execute(_AMBIGUOUS))
    return found


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(read_only(path)) as db:
            db.execute("BEGIN")
            yield db
    except sqlite3.Error as error:
        raise broken(path, error) from error


def _is_made(db: sqlite3.Connection) -> bool:
    """Whether the file has its tables: a deliver process that is just starting may be making them."""
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'events_ambiguous'").fetchone() is not None


def _look(db: sqlite3.Connection, partition: int) -> PartitionStatus:
    def count(query: str) -> int:
        return int(db.execute(query).fetchone()[0])

    meta: dict[str, str] = dict(db.execute("SELECT name, value FROM meta").fetchall())
    waiting, oldest_us = db.execute(_WAITING).fetchone()
    snapshot = load_snapshot(meta.get("reading", "no"))
    old = meta.get("format") == "1"  # no deliver of this version has opened it yet
    return PartitionStatus(
        partition=partition,
        offset=int(meta.get("offset", "0")),
        position=str(Position(*json.loads(meta["position"]))) if "position" in meta else "",
        mapping=meta.get("mapping", ""),
        dossiers=db.execute("SELECT count(*) FROM rows WHERE tbl = ?", (_dossier_table(meta),)).fetchone()[0],
        waiting=waiting,
        oldest=None if oldest_us is None else oldest_us / 1e6,
        delivered=count(_DELIVERED),
        recovered=0 if old else count("SELECT count(*) FROM events WHERE recovered > 0"),
        ambiguous=count("SELECT coalesce(sum(ambiguous), 0) FROM events WHERE ambiguous > 0"),
        parked_dossiers=count(f"SELECT count(*) FROM ({_PARKED_DOSSIERS})"),  # noqa: S608 - no value is in the text
        parked=tuple(Parked(*row) for row in db.execute(_PARKED, (_MOST,))),
        held_dossiers=count("SELECT count(*) FROM held"),
        held=tuple(
            Held(code, reason, since_us / 1e6)
            for code, reason, since_us in db.execute(
                "SELECT code, reason, since_us FROM held ORDER BY since_us LIMIT ?", (_MOST,)
            )
        ),
        reading="" if snapshot is None else snapshot.kind.value,
        at_end=0 if old else count("SELECT count(*) FROM waiting"),
        elsewhere=bool(meta.get(RELEASED)),
    )


def _dossier_table(meta: dict[str, str]) -> str:
    tables: dict[str, dict[str, str]] = json.loads(meta.get("tables", "{}"))
    return next((name for name, table in tables.items() if table["role"] == Role.DOSSIER.value), "")
