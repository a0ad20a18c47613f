"""A snapshot that is being read: which kind it is, and which dossiers wait for its end.

| kind  | its begin marker | streamed transactions before its end      | what reads and sweep find changed        |
|-------|------------------|-------------------------------------------|------------------------------------------|
| first | neither of these | judge what was born since; others not yet | is taken as told, unless EMC knows of it |
| gap   | `gap` says why   | judge what was born since; others wait    | waits, and is judged once at the end     |
| again | `reread`         | are judged as ever                        | waits, and is judged once at the end     |

Invariants: what is remembered is durable with the fold, so neither a death nor the cutting of batches forgets anything;
memory is bounded by the caller, who saves when `unsaved` is large, and by `trim`. Dossiers that wait outlive a snapshot
that was given up and wait for the end of the next one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from connector.delivery.rows import MOST_CACHED
from connector.delivery.state import PartitionState

_PAGE = 1000


class Kind(Enum):
    """See the module's table. The values stand in the state files."""

    FIRST = "first"
    GAP = "gap"
    AGAIN = "again"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One that has begun. tables: those that are read whole, None for all."""

    kind: Kind
    tables: tuple[str, ...] | None

    @property
    def partial(self) -> bool:
        """Until its end a dossier's picture may have holes: rows that were lost to us and are not read yet."""
        return self.kind is not Kind.AGAIN


def begun(content: bytes, before: Snapshot | None, untouched: bool) -> Snapshot:
    """What a begin marker's content says, after a snapshot that has not ended (`before`).

    untouched: nothing was ever folded. A whole snapshot that never ended is not made less by what begins after it: a
    first read stays quiet when a gap cuts it short, for EMC was told nothing of its dossiers; a gap stays a gap.
    """
    said = json.loads(content)
    tables = said.get("tables")
    if before is not None and before.partial:
        kind = before.kind
    elif said.get("reread"):
        kind = Kind.AGAIN
    else:
        kind = Kind.GAP if said.get("gap") and not untouched else Kind.FIRST
    return Snapshot(kind, None if tables is None else tuple(tables))


def dump_snapshot(snapshot: Snapshot | None) -> str:
    """As a meta value of the state."""
    return "no" if snapshot is None else json.dumps([snapshot.kind.value, snapshot.tables])


def load_snapshot(stored: str) -> Snapshot | None:
    """The reverse of `dump_snapshot`."""
    if stored == "no":
        return None
    if stored == "yes":  # of format 1, which knew no other kind
        return Snapshot(Kind.FIRST, None)
    kind, tables = json.loads(stored)
    return Snapshot(Kind(kind), None if tables is None else tuple(tables))


class Dossiers:
    """A durable set of dossiers, one of the tables `waiting` and `born`."""

    def __init__(self, state: PartitionState, table: str) -> None:
        self._state = state
        self._table = table
        self._known: dict[str, bool] = {}
        self._unsaved: dict[str, bool] = {}
        # Mostly there is none, and then nobody asks the file.
        self._any = state.db.execute(f"SELECT EXISTS (SELECT 1 FROM {table})").fetchone()[0] == 1  # noqa: S608

    @property
    def unsaved(self) -> int:
        """Dossiers that are in the set, or out of it, in memory only."""
        return len(self._unsaved)

    def __contains__(self, dossier: str) -> bool:
        if not self._any:
            return False
        known = self._known.get(dossier)
        if known is None:
            asked = f"SELECT EXISTS (SELECT 1 FROM {self._table} WHERE dossier = ?)"  # noqa: S608
            known = self._known[dossier] = self._state.db.execute(asked, (dossier,)).fetchone()[0] == 1
        return known

    def add(self, dossier: str) -> None:
        """Put one in, which may be there."""
        self._any = True
        if self._known.get(dossier) is not True:
            self._known[dossier] = self._unsaved[dossier] = True

    def discard(self, dossier: str) -> None:
        """Take one out, which may not be there."""
        if dossier in self:
            self._known[dossier] = self._unsaved[dossier] = False

    def in_order(self) -> Iterator[str]:
        """Each of them, in an order that no batch changes. None may be added meanwhile. Saves."""
        self.save()
        last, after = "", ">="  # a key may be empty
        while found := self._state.db.execute(
            f"SELECT dossier FROM {self._table} WHERE dossier {after} ? ORDER BY dossier LIMIT {_PAGE}",  # noqa: S608
            (last,),
        ).fetchall():
            last, after = found[-1][0], ">"
            yield from (dossier for (dossier,) in found)

    def clear(self) -> None:
        """Take all out."""
        if self._any:
            self._state.write_fold().execute(f"DELETE FROM {self._table}")  # noqa: S608
            self._known.clear()
            self._unsaved.clear()
            self._any = False

    def save(self) -> None:
        """Write what is in memory only."""
        if not self._unsaved:
            return
        db = self._state.write_fold()
        gone = [(dossier,) for dossier, there in self._unsaved.items() if not there]
        db.executemany(f"DELETE FROM {self._table} WHERE dossier = ?", gone)  # noqa: S608
        there = ((dossier,) for dossier, there in self._unsaved.items() if there)
        db.executemany(f"INSERT OR IGNORE INTO {self._table} VALUES (?)", there)  # noqa: S608
        self._unsaved.clear()

    def trim(self) -> None:
        """Forget what is cached, if it is much. Everything must be saved."""
        if len(self._known) > MOST_CACHED:
            self._known.clear()
