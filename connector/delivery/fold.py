"""The fold: records of one partition → rows, and one judgement per dossier and source transaction.

Invariants:
- Deterministic: the same records give the same state and the same events, however they are cut into batches, and
  however many of them come twice.
- A record below the last applied position changes nothing; at it, only a read or marker may come (they carry the
  position of the last change before them, or a later one).
- A dossier is judged after the last change of a transaction, never inside it; nothing half-applied becomes durable: see
  `inside` and `PartitionState.folding`.
- A dossier that was there before we heard of it is taken as told (quiet attach): its baseline is made from its rows
  before the transaction that first touches it.
- Reads stand between a snapshot's markers, among whole transactions, and are never older than those before them. What
  waits for the end marker (`reading`) is judged once, there, against what it was told, or against the rows that it had
  before the first read or change that found it otherwise; what is due then is `recovered`.
- A huge transaction is not held in memory: rows are written to the open SQLite transaction every `_MOST_UNSAVED`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from connector.change.position import Position
from connector.change.record import EPOCH, PLACE, SNAPSHOT_BEGIN, SNAPSHOT_END, Change, Op, Row, Value
from connector.change.selection import Role, TableSelection
from connector.delivery.judged import Judged, Touched
from connector.delivery.keys import key_order, key_text
from connector.delivery.reading import Dossiers, Kind, begun, dump_snapshot, load_snapshot
from connector.delivery.rows import Pairs, Rows, Tables
from connector.delivery.state import PartitionState
from connector.emc.event import EmcEvent
from connector.emc.judgement import judge, quiet
from connector.errors import DeliveryError
from connector.mapping.facts import Facts
from connector.mapping.kinds import canonical
from connector.mapping.plan import Plan
from connector.mapping.view import SEPARATOR
from connector.settings import EmcSettings

_MOST_UNSAVED = 10_000
_NOWHERE = Position(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Due:
    """An event that a judgement owes, and why: the last change of the source transaction, and the mapping's version.

    recovered: it is due by what a snapshot has found, not by a transaction; the cause is the snapshot's end then.
    """

    dossier: str
    event: EmcEvent
    position: str
    transaction: str | None
    commit_time_us: int
    mapping: str
    recovered: bool = False


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

    def reference(self, table: str, lookup: str, value: Value) -> Row | None:
        return self._rows.reference(table, lookup, canonical(value))


def _nobody(dossier: str, facts: Facts | None, last: Change | None) -> None:
    """Hears nothing."""


class Fold:
    """Folds one partition. `owe` takes each event that is due, in order, at the end of its transaction.

    heard: hears the facts of every judgement, None when the dossier is gone; and of what it was before the first
    judgement (`last` is None then).
    """

    def __init__(
        self,
        state: PartitionState,
        plan: Plan,
        emc: EmcSettings,
        owe: Callable[[Due], None],
        heard: Callable[[str, Facts | None, Change | None], None] = _nobody,
    ) -> None:
        self._state = state
        self._plan = plan
        self._emc = emc
        self._owe = owe
        self._heard = heard
        self._tables = {table.full_name: table for table in plan.selection.tables}
        self._dossier_table = plan.selection.dossier.full_name
        self._lookups: dict[str, list[tuple[str, list[str]]]] = {}
        for table, lookup in plan.lookups:
            self._lookups.setdefault(table, []).append((lookup, lookup.split(SEPARATOR)))
        meta = state.meta
        self.offset = int(meta.get("offset", "0"))
        self.position = Position(*json.loads(meta["position"])) if "position" in meta else _NOWHERE
        self.seen = Position(*json.loads(meta["seen"])) if "seen" in meta else None
        """Of the record before `offset`, by which the log is known again; None before the first."""
        self.place = meta.get("place", "").encode()
        """Where to go on reading an input that one offset does not tell the place of; empty for our own log."""
        self._reading = load_snapshot(meta.get("reading", "no"))
        self._rows = Rows(state, int(meta.get("snapshot", "0")))
        self._judged = Judged(state)
        self._touched = Touched(state)
        self._waiting = Dossiers(state, "waiting")
        self._born = Dossiers(state, "born")
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
        if change.marker == EPOCH:
            # It stands where the last record does, maybe in the middle of a transaction, which goes on behind it.
            self.position = change.position
            return
        last = self._last
        if last is not None and change.position > last.position and change.transaction != last.transaction:
            self._judge(last)  # its end mark was compacted away
        match change.op:
            case Op.READ:
                self._read(change)
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
        self._save_much()

    def save(self) -> None:
        """Write everything to the open transaction of the state; not inside of a source transaction."""
        assert not self.inside
        self._save_rows()
        self._state.save_meta(
            {
                "offset": str(self.offset),
                "position": json.dumps(self.position),
                **({} if self.seen is None else {"seen": json.dumps(self.seen)}),
                **({"place": self.place.decode()} if self.place else {}),
                "snapshot": str(self._rows.snapshot),
                "reading": dump_snapshot(self._reading),
            }
        )

    def _save_much(self) -> None:
        if self._rows.unsaved + self._judged.unsaved + self._waiting.unsaved + self._born.unsaved > _MOST_UNSAVED:
            self._save_rows()

    def _save_rows(self) -> None:
        for part in (self._rows, self._judged, self._waiting, self._born):
            part.save()
            part.trim()

    # -- records -----------------------------------------------------------------------------------------------------

    def _marker(self, change: Change) -> None:
        """A snapshot stands between two markers; an end alone means nothing, and a begin begins anew."""
        if change.marker == SNAPSHOT_BEGIN:
            self._end_transaction()
            self._reading = begun(change.content, self._reading, untouched=self.position == _NOWHERE)
            self._rows.snapshot += 1
            self._born.clear()
        elif change.marker == SNAPSHOT_END and self._reading is not None:
            self._end_transaction()
            self._end_of_snapshot(change)
        elif change.marker == PLACE:
            self.place = change.content
        self.position = change.position

    def _read(self, change: Change) -> None:
        """A row as it is now: news only where the stream was interrupted, or the state is wrong."""
        table = self._tables.get(change.table)
        row = self._whole(change)
        if table is None or row is None:
            return  # a table that the mapping does not use any more
        name = change.table
        key = key_text(change.key)
        rows = self._rows
        if table.role is Role.REFERENCE:
            rows.put_reference(name, key, row, self._pairs(name, row))
            return
        dossier = key if table.role is Role.DOSSIER else _dossier_of(table, row)
        known = None if dossier is None else rows.dossier(dossier).get(name, {}).get(key)
        if known == row:
            rows.seen(name, key)
            return
        if known is None and table.role is Role.CHILD:
            there, before = rows.owner(name, key)
            if there and before != dossier:
                self._found(before)
                rows.remove(name, key, before)
        if known is None or any(known.get(column) != row.get(column) for column in table.columns):
            self._found(dossier)
        rows.put(name, key, dossier, row)

    def _change(self, change: Change) -> None:
        match change.op:
            case Op.CREATE | Op.UPDATE:
                self._upsert(change)
            case Op.DELETE:
                self._delete(change)
            case Op.TRUNCATE:
                self._truncate(change)
            case _:
                return

    def _upsert(self, change: Change) -> None:
        table = self._tables.get(change.table)
        row = self._whole(change)
        if table is None or row is None:
            return  # a table that the mapping does not use any more
        name = change.table
        key = key_text(change.key)
        match table.role:
            case Role.REFERENCE:
                self._rows.put_reference(name, key, row, self._pairs(name, row))
                self._references = True
            case Role.DOSSIER:
                self._touch(key, created=change.op is Op.CREATE)
                self._rows.put(name, key, key, row)
            case Role.CHILD:
                dossier = _dossier_of(table, row)
                if dossier is None or key not in self._rows.dossier(dossier).get(name, ()):
                    there, before = self._rows.owner(name, key)
                    if there and before != dossier:
                        self._touch(before)
                        self._rows.remove(name, key, before)
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
        if table.role is Role.DOSSIER and self._partial:
            # Not read yet, maybe; what is inserted again by the same transaction was not born by it.
            self._touch(key)
            self._waiting.add(key)
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
            self._waiting.clear()
            self._born.clear()

    def _whole(self, change: Change) -> Row | None:
        """The row with what it left out as unchanged, as it was; NULL where that is not known."""
        if change.after is None or not change.unchanged:
            return change.after
        before = self._rows.row(change.table, key_text(change.key)) or {}
        return change.after | {column: before.get(column) for column in change.unchanged}

    def _pairs(self, table: str, row: Row) -> Pairs:
        return tuple(
            (lookup, SEPARATOR.join(canonical(row[column]) for column in columns))
            for lookup, columns in self._lookups.get(table, ())
            if all(row.get(column) is not None for column in columns)
        )

    # -- judgement ---------------------------------------------------------------------------------------------------

    def _touch(self, dossier: str | None, created: bool = False) -> None:
        """The transaction changes a dossier: make its baseline before it does, if it has none."""
        if dossier is None:
            return
        new = self._touched.add(dossier)
        if self._partial and dossier not in self._born:
            if created and self._is_born(dossier):
                self._born.add(dossier)
            else:
                self._found(dossier)
        elif new and dossier not in self._waiting:
            self._take_as_told(dossier)

    @property
    def _partial(self) -> bool:
        """The pictures of dossiers may have holes, but for those that were born since."""
        return self._reading is not None and self._reading.partial

    def _is_born(self, dossier: str) -> bool:
        """Whether a dossier whose row is inserted is a new one: nobody has heard of it."""
        there, _ = self._rows.owner(self._dossier_table, dossier)
        return not there and self._judged.told(dossier) is None and dossier not in self._waiting

    def _found(self, dossier: str | None) -> None:
        """What a snapshot must judge at its end: make the baseline before the change is applied, if there is none."""
        if dossier is None or self._reading is None or dossier in self._waiting:
            return
        if self._reading.kind is Kind.FIRST:
            if self._judged.told(dossier) is None:
                return  # taken as told, as it is when the snapshot has ended
        else:
            self._take_as_told(dossier)
        self._waiting.add(dossier)

    def _take_as_told(self, dossier: str) -> None:
        """Its rows of now are what EMC knows, unless EMC was told otherwise, or there are none."""
        if self._judged.told(dossier) is None:
            view = self._view(dossier)
            if view is not None:
                facts = self._plan.facts(view)
                self._heard(dossier, facts, None)
                self._judged.set_told(dossier, quiet(facts, self._emc))

    def _view(self, dossier: str) -> View | None:
        tables = self._rows.dossier(dossier)
        row = tables.get(self._dossier_table, {}).get(dossier)
        return None if row is None else View(self._rows, tables, row)

    def _end_transaction(self) -> None:
        """Before a marker, which stands in none: an end mark was compacted away."""
        if self._last is not None:
            self._judge(self._last)

    def _judge(self, last: Change) -> None:
        """The transaction has ended: judge what it touched, and what waited for a reference."""
        held = self._judged.held() if self._references else []
        seen = set(held)
        for dossier in self._touched:
            seen.discard(dossier)
            self._judge_one(dossier, last)
        for dossier in held:
            if dossier in seen:
                self._judge_one(dossier, last)
        self._touched.clear()
        self._references = False
        self._last = None

    def _end_of_snapshot(self, end: Change) -> None:
        """What it did not find is gone; then judge what waited for it, and what waited for a reference."""
        assert self._reading is not None
        first = self._reading.kind is Kind.FIRST
        for dossier in self._rows.unseen(self._reading.tables):
            self._found(dossier)
            self._save_much()
        self._rows.sweep(self._reading.tables)
        self._judged.forget_all_but(self._dossier_table)
        self._reading = None
        held = [dossier for dossier in self._judged.held() if dossier not in self._waiting]
        for dossier in self._waiting.in_order():
            # One that a first read saw deleted and inserted again is taken as told, too.
            if not first or self._judged.told(dossier) is not None:
                self._judge_one(dossier, end, recovered=True)
        for dossier in held:
            self._judge_one(dossier, end, recovered=True)
        self._waiting.clear()
        self._born.clear()

    def _judge_one(self, dossier: str, last: Change, recovered: bool = False) -> None:
        view = self._view(dossier)
        judged = self._judged
        if view is None:
            self._heard(dossier, None, last)
            judged.forget(dossier)
            self._waiting.discard(dossier)
            return
        if self._partial and dossier not in self._born:
            return  # at the snapshot's end
        facts = self._plan.facts(view)
        self._heard(dossier, facts, last)
        verdict = judge(judged.told(dossier), facts, self._emc)
        judged.set_told(dossier, verdict.told)
        if verdict.held:
            judged.hold(dossier, facts.code_profile or "", "; ".join(verdict.held), last.commit_time_us)
        else:
            judged.release(dossier)
        for event in verdict.due:
            self._owe(
                Due(
                    dossier,
                    event,
                    str(last.position),
                    last.transaction,
                    last.commit_time_us,
                    self._plan.version,
                    recovered,
                )
            )
        self._save_much()

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


def _dossier_of(table: TableSelection, row: Row) -> str | None:
    """The dossier that a child row belongs to."""
    link = row.get(table.link or "")
    return None if link is None else key_text((str(link),))


def _described(table: TableSelection) -> dict[str, Any]:
    return {"role": table.role.value, "link": table.link, "columns": sorted(table.columns)}


def _covers(known: dict[str, Any] | None, wanted: dict[str, Any]) -> bool:
    """Whether rows folded for a table as it was known hold all that is wanted of it."""
    if known is None or (known["role"], known["link"]) != (wanted["role"], wanted["link"]):
        return False
    return set(wanted["columns"]) <= set(known["columns"])
