"""The fold: records of one partition → rows, and one judgement per dossier and source transaction.

Invariants:
- Deterministic: the same records give the same state and the same events, however they are cut into batches.
- A record at or below the last applied position changes nothing (reads and markers are upserts and may come again).
- A dossier is judged after the last change of a transaction, never inside it; a transaction that a batch cuts keeps the
  step open until it ends, so nothing half-applied is ever durable.
- A dossier that was there before we heard of it is taken as told (quiet attach): its baseline is made from its rows
  before the transaction that first touches it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from connector.change.record import SNAPSHOT_BEGIN, SNAPSHOT_END, Change, Op, Row, Value
from connector.change.selection import Role
from connector.delivery.state import PartitionState, Tables, key_order, key_text
from connector.emc.event import EmcEvent
from connector.emc.judgement import judge, quiet
from connector.mapping.kinds import canonical
from connector.mapping.plan import Plan
from connector.settings import EmcSettings


@dataclass(frozen=True, slots=True)
class Due:
    """An event that a judgement owes, and why."""

    dossier: str
    event: EmcEvent
    position: str
    transaction: str | None
    commit_time_us: int


@dataclass(slots=True)
class _Transaction:
    """What is known of the source transaction that is being folded."""

    identity: str | None = None
    touched: dict[str, None] = field(default_factory=dict)
    references: bool = False
    last: Change | None = None


class View:
    """A dossier's rows, as the mapping sees them."""

    __slots__ = ("_state", "_tables", "dossier")

    def __init__(self, state: PartitionState, tables: Tables, dossier: Row) -> None:
        self._state = state
        self._tables = tables
        self.dossier = dossier

    def children(self, table: str) -> Sequence[Row]:
        rows = self._tables.get(table)
        if not rows:
            return ()
        return list(rows.values()) if len(rows) == 1 else [rows[key] for key in sorted(rows, key=key_order)]

    def reference(self, table: str, column: str, value: Value) -> Row | None:
        return self._state.reference(table, column, canonical(value))


class Fold:
    """Folds one partition. `owe` takes each event that is due, in order, inside the open step."""

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
        self._transaction = _Transaction()

    @property
    def inside(self) -> bool:
        """Inside a source transaction: the step must not be committed."""
        return self._transaction.last is not None

    def apply(self, change: Change, offset: int, now: float) -> None:
        """One record. `now`: seconds since the epoch, for the record of held dossiers only."""
        state = self._state
        current = self._transaction
        if current.last is not None and change.transaction != current.identity:
            self._judge(now)  # the log's end mark of it was compacted away
        state.begin()
        state.offset = offset + 1
        match change.op:
            case Op.READ:
                self._upsert(change, touch=False)
            case Op.MESSAGE if change.transaction is None:
                self._marker(change)
            case _ if change.position <= state.position:
                return
            case _:
                self._change(change)
                self._transaction.last = change
                self._transaction.identity = change.transaction
                state.position = change.position
                if change.last:
                    self._judge(now)

    def _marker(self, change: Change) -> None:
        state = self._state
        if change.marker == SNAPSHOT_BEGIN:
            state.snapshot += 1
        elif change.marker == SNAPSHOT_END:
            state.sweep()
        if change.position > state.position:
            state.position = change.position

    def _change(self, change: Change) -> None:
        match change.op:
            case Op.CREATE | Op.UPDATE:
                self._upsert(change, touch=True)
            case Op.DELETE:
                self._delete(change)
            case Op.TRUNCATE:
                self._state.clear_table(change.table)
                table = self._tables.get(change.table)
                self._transaction.references |= table is not None and table.role is Role.REFERENCE
            case _:
                return

    def _upsert(self, change: Change, touch: bool) -> None:
        table = self._tables.get(change.table)
        if table is None or change.after is None:
            return  # a table that the mapping does not use any more
        key = key_text(change.key)
        match table.role:
            case Role.REFERENCE:
                self._state.put(change.table, key, None, change.after)
                pairs = [
                    (column, canonical(value))
                    for column in self._lookups.get(change.table, ())
                    if (value := change.after.get(column)) is not None
                ]
                self._state.put_lookups(change.table, key, pairs)
                self._transaction.references |= touch
                return
            case Role.DOSSIER:
                dossier: str | None = key
            case Role.CHILD:
                link = change.after.get(table.link or "")
                dossier = None if link is None else str(link)
                there, before = self._state.owner(change.table, key)
                if there and before != dossier:
                    if touch:
                        self._touch(before)
                    self._state.remove(change.table, key, before)
        if touch:
            self._touch(dossier)
        self._state.put(change.table, key, dossier, change.after)

    def _delete(self, change: Change) -> None:
        table = self._tables.get(change.table)
        if table is None:
            return
        key = key_text(change.key)
        if table.role is Role.REFERENCE:
            self._state.remove(change.table, key, None)
            self._state.remove_lookups(change.table, key)
            self._transaction.references = True
            return
        _, dossier = self._state.owner(change.table, key)
        self._touch(dossier)
        self._state.remove(change.table, key, dossier)

    def _touch(self, dossier: str | None) -> None:
        """The transaction changes a dossier: make its baseline before it does, if it has none."""
        if dossier is None or dossier in self._transaction.touched:
            return
        self._transaction.touched[dossier] = None
        if self._state.told(dossier) is None:
            view = self._view(dossier)
            if view is not None:
                self._state.set_told(dossier, quiet(self._plan.facts(view), self._emc))

    def _view(self, dossier: str) -> View | None:
        tables = self._state.dossier(dossier)
        row = tables.get(self._dossier_table, {}).get(dossier)
        return None if row is None else View(self._state, tables, row)

    def _judge(self, now: float) -> None:
        """The transaction has ended: judge what it touched, and what waited for a reference."""
        done, self._transaction = self._transaction, _Transaction()
        assert done.last is not None
        dossiers = dict(done.touched)
        if done.references:
            dossiers |= dict.fromkeys(self._state.held())
        for dossier in dossiers:
            view = self._view(dossier)
            if view is None:
                self._state.forget(dossier)
                continue
            facts = self._plan.facts(view)
            verdict = judge(self._state.told(dossier), facts, self._emc)
            self._state.set_told(dossier, verdict.told)
            if verdict.held:
                self._state.hold(dossier, facts.code_profile or "", "; ".join(verdict.held), now)
            else:
                self._state.release(dossier)
            for event in verdict.due:
                self._owe(Due(dossier, event, str(done.last.position), done.identity, done.last.commit_time_us))
