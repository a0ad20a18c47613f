"""What became of the judgements: what each dossier was told, which are held, which the open transaction touches.

Invariants: as for `rows`: what is read is what was last set, and `save` writes what is in memory only.
"""

from __future__ import annotations

from collections.abc import Iterator

from connector.delivery.rows import MOST_CACHED
from connector.delivery.state import PartitionState
from connector.emc.judgement import Told, dump_told, load_told

_MOST_TOUCHED = 50_000
"""Dossiers of one source transaction that are remembered in memory; more go to a temporary file."""

_HELD = "SELECT dossier, since_us FROM held"


class Judged:
    """See the module's invariants."""

    def __init__(self, state: PartitionState) -> None:
        self._state = state
        self._told: dict[str, Told | None] = {}
        self._unsaved: dict[str, Told | None] = {}
        # Mostly false while a first read is folded, and then nobody asks the file.
        self._any = state.db.execute("SELECT EXISTS (SELECT 1 FROM told)").fetchone()[0] == 1
        self._held: dict[str, int] = dict(state.db.execute(_HELD).fetchall())
        self._unsaved_held: dict[str, tuple[str, str, int] | None] = {}

    @property
    def unsaved(self) -> int:
        """Dossiers with something in memory only."""
        return len(self._unsaved)

    def told(self, dossier: str) -> Told | None:
        """What EMC has been told of a dossier; None when it was never judged."""
        if not self._any:
            return None
        if dossier in self._told:
            return self._told[dossier]
        found = self._state.db.execute("SELECT told FROM told WHERE dossier = ?", (dossier,)).fetchone()
        told = self._told[dossier] = None if found is None else load_told(found[0])
        return told

    def set_told(self, dossier: str, told: Told) -> None:
        """Remember the result of a judgement."""
        if self._told.get(dossier) != told:
            self._any = True
            self._told[dossier] = self._unsaved[dossier] = told

    def forget(self, dossier: str) -> None:
        """The dossier was deleted."""
        if self.told(dossier) is not None:
            self._told[dossier] = self._unsaved[dossier] = None
        self.release(dossier)

    def forget_all_but(self, table: str) -> None:
        """Forget the dossiers that are no more in the (saved) dossier table."""
        self.save()
        db = self._state.write_fold()
        gone = "dossier NOT IN (SELECT key FROM rows WHERE tbl = ?)"
        db.execute(f"DELETE FROM told WHERE {gone}", (table,))  # noqa: S608 - no value is in the text
        db.execute(f"DELETE FROM held WHERE {gone}", (table,))  # noqa: S608
        self._told.clear()
        self._held = dict(db.execute(_HELD).fetchall())

    def hold(self, dossier: str, code: str, reason: str, since_us: int) -> None:
        """The dossier owes an event that cannot be made yet."""
        self._unsaved_held[dossier] = (code, reason, self._held.setdefault(dossier, since_us))

    def release(self, dossier: str) -> None:
        """It owes nothing that cannot be made."""
        if dossier in self._held:
            del self._held[dossier]
            self._unsaved_held[dossier] = None

    def held(self) -> list[str]:
        """The dossiers that are held, the longest first."""
        return sorted(self._held, key=lambda dossier: (self._held[dossier], dossier))

    def save(self) -> None:
        """Write what is in memory only."""
        if self._unsaved:
            db = self._state.write_fold()
            gone = [(dossier,) for dossier, told in self._unsaved.items() if told is None]
            if gone:
                db.executemany("DELETE FROM told WHERE dossier = ?", gone)
            db.executemany(
                "INSERT OR REPLACE INTO told VALUES (?, ?)",
                ((dossier, dump_told(told)) for dossier, told in self._unsaved.items() if told is not None),
            )
            self._unsaved.clear()
        if self._unsaved_held:
            db = self._state.write_fold()
            for dossier, held in self._unsaved_held.items():
                if held is None:
                    db.execute("DELETE FROM held WHERE dossier = ?", (dossier,))
                else:
                    db.execute("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?)", (dossier, *held))
            self._unsaved_held.clear()

    def trim(self) -> None:
        """Forget what is cached, if it is much. Everything must be saved."""
        if len(self._told) > MOST_CACHED:
            self._told.clear()


class Touched:
    """The dossiers that a source transaction touches, in the order of their first change."""

    def __init__(self, state: PartitionState) -> None:
        self._state = state
        self._memory: dict[str, None] = {}
        self._spilled = False

    def add(self, dossier: str) -> bool:
        """Add one; False when it is there already."""
        if dossier in self._memory:
            return False
        db = self._state.db
        if self._spilled:
            asked = "SELECT 1 FROM temp.touched WHERE dossier = ?"
            if db.execute(asked, (dossier,)).fetchone() is not None:
                return False
        self._memory[dossier] = None
        if len(self._memory) >= _MOST_TOUCHED:
            self._spill()
        return True

    def __iter__(self) -> Iterator[str]:
        """Each of them. None may be added meanwhile."""
        if self._spilled:
            last = 0
            query = "SELECT number, dossier FROM temp.touched WHERE number > ? ORDER BY number LIMIT 1000"
            while found := self._state.db.execute(query, (last,)).fetchall():
                last = found[-1][0]
                yield from (dossier for _, dossier in found)
        yield from self._memory

    def clear(self) -> None:
        """None is touched any more."""
        self._memory = {}
        if self._spilled:
            self._state.db.execute("DELETE FROM temp.touched")
            self._spilled = False

    def _spill(self) -> None:
        db = self._state.write_fold()
        db.execute("CREATE TEMP TABLE IF NOT EXISTS touched (number INTEGER PRIMARY KEY, dossier TEXT NOT NULL UNIQUE)")
        db.executemany("INSERT INTO temp.touched (dossier) VALUES (?)", ((dossier,) for dossier in self._memory))
        self._memory = {}
        self._spilled = True
