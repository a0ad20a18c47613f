"""The fold: records of one partition → rows, and one judgement per dossier and source transaction.

Invariants:
- Deterministic: the same records give the same state and the same events, however they are cut into batches, and
  however many of them come twice.
- A record below the last applied position changes nothing; at it, only a read or marker may come (they carry the
  position of the last change before them).
- A dossier is judged after the last change of a transaction, never inside it; nothing half-applied becomes durable: see
  `inside` and `PartitionState.folding`.
- A dossier that was there before we heard of it is taken as told (quiet attach): its baseline is made from its rows
  before the transaction that first touches it.
- A huge transaction is not held in memory: rows are written to the open SQLite transaction every `_MOST_UNSAVED`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from connector.change.position import Position
from connector.change.record import SNAPSHOT_BEGIN, SNAPSHOT_END, Change, Op, Row, Value
from connector.change.selection import Role, TableSelection
from connector.delivery.judged import Judged, Touched
from connector.delivery.keys import key_order, key_text
from connector.delivery.rows import Pairs, Rows, Tables
from connector.delivery.state import PartitionState
from connector.emc.event import EmcEvent
from connector.emc.judgement import judge, quiet
from connector.errors import DeliveryError
from connector.mapping.kinds import canonical
from connector.mapping.plan import Plan
from connector.settings import EmcSettings

_MOST_UNSAVED = 10_000


@dataclass(frozen=True, slots=True)
class Due:
    """An event that a judgement owes, and why: the last change of the source transaction, and the mapping's version."""

    dossier: str
    event: EmcEvent
    position: str
    transaction: str | None
    commit_time_us: int
    mapping: str


class View:
    """A dossier's rows, as the mapping sees them."""

    __slots__ = ("_rows", "_tables", "dossier")

    def __init__(self, rows: Rows, tables: Tables, dossier: Row) -> None:
        self._rows = rows
        self._tables = tables
        self.dossier = dossier

    def children(self, table: str) -> Sequence[Row]:
        rows = self._tables.get(table)
        if not rows:
            return ()
        return list(rows.values()) if len(rows) == 1 else [rows[key] for key in sorted(rows, key=key_order)]

    def reference(self, table: str, column: str, value: Value) -> Row | None:
        return self._rows.reference(table, column, canonical(value))


class Fold:
    """Folds one partition. `owe` takes each event that is due, in order, at the end of its transaction."""

    def __init__(self, state: PartitionState, plan: Plan, emc: EmcSettings, owe: Callable[[Due], None]) -> None:
        self._state = state
        self._plan = plan
        self._emc = emc
        self._owe = owe
        self._tables = {table.full_name: table for table in plan.selection.tables}
        self._dossier_table = plan.selection.dossier.full_name
        self._lookups: dict[str, list[str]] = {}
        for table, column in plan.lookups:
            self._lookups.setdefault(table, []).append(column)
        meta = state.meta
        self.offset = int(meta.get("offset", "0"))
        self.position = Position(*json.loads(meta.get("position", "[0,0,0,0]")))
        self.seen = Position(*json.loads(meta["seen"])) if "seen" in meta else None
        """Of the record before `offset`, by which the log is known again; None before the first."""
        self._reading = meta.get("reading", "no") == "yes"
        self._rows = Rows(state, int(meta.get("snapshot", "0")))
        self._judged = Judged(state)
        self._touched = Touched(state)
        self._references = False
        self._last: Change | None = None
        self._adopt_plan()

    @property
    def inside(self) -> bool:
        """Inside a source transaction, of which nothing may become durable yet."""
        return self._last is not None

    def apply(self, change: Change, offset: int) -> None:
        """One record."""
        self.offset = offset + 1
        self.seen = change.position
        # Positions never fall, so this one was applied before. At the same position, reads and markers follow.
        if change.position < self.position:
            return
        last = self._last
        if last is not None and change.position > last.position and change.transaction != last.transaction:
            self._judge(last)  # its end mark was compacted away
        match change.op:
            case Op.READ:
                self._upsert(change, touch=False)
            case Op.MESSAGE if change.transaction is None:
                self._marker(change)
            case _ if change.position == self.position:
                return
            case _:
                self._change(change)
                self._last = change
                self.position = change.position
                if change.last:
                    self._judge(change)
        if self._rows.unsaved + self._judged.unsaved > _MOST_UNSAVED:
            self._save_rows()

    def save(self) -> None:
        """Write everything to the open transaction of the state; not inside of a source transaction."""
        assert not self.inside
        self._save_rows()
        self._state.save_meta(
            {
                "offset": str(self.offset),
                "position": json.dumps(self.position),
                **({} if self.seen is None else {"seen": json.dumps(self.seen)}),
                "snapshot": str(self._rows.snapshot),
                "reading": "yes" if self._reading else "no",
            }
        )

    def _save_rows(self) -> None:
        self._rows.save()
        self._judged.save()
        self._rows.trim()
        self._judged.trim()

    # -- records -----------------------------------------------------------------------------------------------------

    def _marker(self, change: Change) -> None:
        """A snapshot stands between two markers of the same position; a second begin or end alone means nothing."""
        if change.marker == SNAPSHOT_BEGIN:
            if self._reading and change.position == self.position:
                return
            self._rows.snapshot += 1
            self._reading = True
        elif change.marker == SNAPSHOT_END and self._reading:
            self._reading = False
            self._rows.sweep()
            self._judged.forget_all_but(self._dossier_table)
        self.position = change.position

    def _change(self, change: Change) -> None:
        match change.op:
            case Op.CREATE | Op.UPDATE:
                self._upsert(change, touch=True)
            case Op.DELETE:
                self._delete(change)
            case Op.TRUNCATE:
                self._truncate(change)
            case _:
                return

    def _upsert(self, change: Change, touch: bool) -> None:
        table = self._tables.get(change.table)
        row = change.after
        if table is None or row is None:
            return  # a table that the mapping does not use any more
        name = change.table
        key = key_text(change.key)
        match table.role:
            case Role.REFERENCE:
                self._rows.put_reference(name, key, row, self._pairs(name, row))
                self._references |= touch
            case Role.DOSSIER:
                if touch:
                    self._touch(key)
                self._rows.put(name, key, key, row)
            case Role.CHILD:
                link = row.get(table.link or "")
                dossier = None if link is None else key_text((str(link),))
                if dossier is None or key not in self._rows.dossier(dossier).get(name, ()):
                    there, before = self._rows.owner(name, key)
                    if there and before != dossier:
                        if touch:
                            self._touch(before)
                        self._rows.remove(name, key, before)
                if touch:
                    self._touch(dossier)
                self._rows.put(name, key, dossier, row)

    def _delete(self, change: Change) -> None:
        table = self._tables.get(change.table)
        if table is None:
            return
        key = key_text(change.key)
        if table.role is Role.REFERENCE:
            self._rows.remove_reference(change.table, key)
            self._references = True
            return
        there, dossier = self._rows.owner(change.table, key)
        if there:
            self._touch(dossier)
            self._rows.remove(change.table, key, dossier)

    def _truncate(self, change: Change) -> None:
        table = self._tables.get(change.table)
        if table is None:
            return
        match table.role:
            case Role.REFERENCE:
                self._references = True
            case Role.CHILD:
                for dossier in self._rows.dossiers_with(change.table):
                    self._touch(dossier)
            case Role.DOSSIER:
                pass  # they are gone, and owe nothing
        self._rows.clear_table(change.table)
        if table.role is Role.DOSSIER:
            self._judged.forget_all_but(self._dossier_table)

    def _pairs(self, table: str, row: Row) -> Pairs:
        columns = self._lookups.get(table, ())
        return tuple((column, canonical(value)) for column in columns if (value := row.get(column)) is not None)

    # -- judgement ---------------------------------------------------------------------------------------------------

    def _touch(self, dossier: str | None) -> None:
        """The transaction changes a dossier: make its baseline before it does, if it has none."""
        if dossier is None or not self._touched.add(dossier):
            return
        if self._judged.told(dossier) is None:
            view = self._view(dossier)
            if view is not None:
                self._judged.set_told(dossier, quiet(self._plan.facts(view), self._emc))

    def _view(self, dossier: str) -> View | None:
        tables = self._rows.dossier(dossier)
        row = tables.get(self._dossier_table, {}).get(dossier)
        return None if row is None else View(self._rows, tables, row)

    def _judge(self, last: Change) -> None:
        """The transaction has ended: judge what it touched, and what waited for a reference."""
        waited = self._judged.held() if self._references else []
        seen = set(waited)
        for dossier in self._touched:
            seen.discard(dossier)
            self._judge_one(dossier, last)
        for dossier in waited:
            if dossier in seen:
                self._judge_one(dossier, last)
        self._touched.clear()
        self._references = False
        self._last = None

    def _judge_one(self, dossier: str, last: Change) -> None:
        view = self._view(dossier)
        judged = self._judged
        if view is None:
            judged.forget(dossier)
            return
        facts = self._plan.facts(view)
        verdict = judge(judged.told(dossier), facts, self._emc)
        judged.set_told(dossier, verdict.told)
        if verdict.held:
            judged.hold(dossier, facts.code_profile or "", "; ".join(verdict.held), last.commit_time_us)
        else:
            judged.release(dossier)
        for event in verdict.due:
            self._owe(
                Due(dossier, event, str(last.position), last.transaction, last.commit_time_us, self._plan.version)
            )
        if self._rows.unsaved + judged.unsaved > _MOST_UNSAVED:
            self._save_rows()

    # -- the mapping's tables ----------------------------------------------------------------------------------------

    def _adopt_plan(self) -> None:
        """Let the state follow the mapping: other lookups are built, rows that were never folded cannot be."""
        meta = self._state.meta
        now = {table.full_name: _described(table) for table in self._plan.selection.tables}
        known = json.loads(meta["tables"]) if "tables" in meta else now
        for name, described in now.items():
            if not _covers(known.get(name), described):
                raise DeliveryError(
                    "open the delivery state",
                    str(self._state.path),
                    f"the mapping now uses more of {name}, or links it otherwise, than this state was made with",
                    "put that part of the mapping back, or attach anew: choose a new `name` (new log, slot and state)",
                )
        lookups = json.dumps(sorted(self._plan.lookups))
        if meta.get("lookups", lookups) != lookups:
            for table in {table for table, _ in self._plan.lookups}:
                self._rows.find_by(table, [(key, self._pairs(table, row)) for key, row in self._rows.all_of(table)])
        self._state.save_meta({"tables": json.dumps(now), "lookups": lookups, "mapping": self._plan.version})
        self._state.commit()


def _described(table: TableSelection) -> dict[str, Any]:
    return {"role": table.role.value, "link": table.link, "columns": sorted(table.columns)}


def _covers(known: dict[str, Any] | None, wanted: dict[str, Any]) -> bool:
    """Whether rows folded for a table as it was known hold all that is wanted of it."""
    if known is None or (known["role"], known["link"]) != (wanted["role"], wanted["link"]):
        return False
    return set(wanted["columns"]) <= set(known["columns"])
