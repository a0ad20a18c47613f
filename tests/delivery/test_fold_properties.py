"""Whatever happens in the source: cuts, kills and doubled records make no difference to what is told."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from delivery_story import (
    DOSSIER,
    PAYMENT,
    SERVICE,
    Step,
    Story,
    create,
    delete,
    dossier,
    payment,
    plan,
    service,
    truncate,
    update,
)
from fold_run import FoldRun
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.change.record import SNAPSHOT_BEGIN, SNAPSHOT_END, Change, Op, Row, Value
from connector.delivery.outbox import dump_event
from connector.emc.judgement import Told, judge, quiet
from connector.settings import EmcSettings

STATES = st.sampled_from(["moi", "dang_xu_ly", "da_tra", "huy"])
NUMBERS = st.integers(1, 3)

Wish = tuple[str, int, Row | None]
"""Table, primary key and the row that is wanted; None: it is to be gone, key 0: the whole table is."""

wishes = st.one_of(
    st.builds(
        lambda number, state, received, of: (DOSSIER, number, dossier(number, state, received, of)),
        NUMBERS,
        STATES,
        st.booleans(),
        NUMBERS,
    ),
    st.builds(
        lambda number, of, how: (PAYMENT, number, payment(number, of, how=how)),
        NUMBERS,
        st.none() | NUMBERS,
        st.sampled_from(["mang", "quay", "la"]),
    ),
    st.builds(lambda number, name: (SERVICE, number, service(number, name)), NUMBERS, st.sampled_from(["A", "B"])),
    st.tuples(st.sampled_from([DOSSIER, PAYMENT, SERVICE]), st.integers(0, 3), st.none()),
)
snapshots = st.lists(wishes, max_size=4)
histories = st.lists(st.lists(wishes, min_size=1, max_size=4), max_size=6)


class Source:
    """A legacy database that obeys wishes: what it does is what PostgreSQL would log of them."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[int, Row]] = {DOSSIER: {}, PAYMENT: {}, SERVICE: {}}

    def steps(self, asked: Iterable[Wish]) -> list[Step]:
        done: list[Step] = []
        for table, number, row in asked:
            rows = self.rows[table]
            if row is not None:
                known = rows.get(number)
                if known is not None and known.get("ho_so_id") != row.get("ho_so_id"):
                    done.append(delete(table, known))  # as capture tells of a child that moves
                    known = None
                done.append(create(table, row) if known is None else update(table, row))
                rows[number] = row
            elif number == 0:
                done.append(truncate(table))
                rows.clear()
            elif number in rows:
                done.append(delete(table, {"id": number}))
                del rows[number]
        return done


def told_of(before: Iterable[Wish], history: Sequence[Sequence[Wish]]) -> tuple[list[Change], Source]:
    """The log of a snapshot and of what happened after it."""
    source, story = Source(), Story()
    source.steps(before)
    changes = story.snapshot(*((table, row) for table, rows in source.rows.items() for row in rows.values()))
    for asked in history:
        steps = source.steps(asked)
        if steps:
            changes += story.transaction(*steps)
    return changes, source


def folded(changes: Sequence[Change]) -> dict[str, object]:
    """The state after one poll of everything."""
    with TemporaryDirectory() as directory:
        run = FoldRun(Path(directory))
        run.poll(changes)
        contents = run.contents()
        run.close()
    return contents


@settings(deadline=None, max_examples=60)
@given(
    snapshots,
    histories,
    st.lists(st.tuples(st.integers(1, 8), st.sampled_from(["save", "go on", "die"])), min_size=1, max_size=12),
)
def test_cuts_and_kills_make_no_difference(
    before: list[Wish], history: list[list[Wish]], polls: list[tuple[int, str]]
) -> None:
    """However the log is cut into polls, and wherever the process dies between two of them."""
    changes, _ = told_of(before, history)
    expected = folded(changes)
    with TemporaryDirectory() as directory:
        run = FoldRun(Path(directory))
        at = 0
        for size, then in polls:
            run.poll(changes[at : at + size], offset=at, save=then == "save")
            at = run.restart() if then == "die" else min(at + size, len(changes))
        run.poll(changes[at:], offset=at)
        assert run.contents() == expected
        run.close()


@settings(deadline=None, max_examples=60)
@given(snapshots, histories, st.dictionaries(st.integers(0, 20), st.integers(0, 20), max_size=5))
def test_doubled_records_make_no_difference(
    before: list[Wish], history: list[list[Wish]], repeats: dict[int, int]
) -> None:
    """Any stretch of the log may come again, as after a writer that did not know how far it was."""
    changes, _ = told_of(before, history)
    doubled: list[Change] = []
    for at, change in enumerate(changes):
        doubled.append(change)
        if at in repeats:
            doubled += changes[max(0, at - repeats[at]) : at + 1]
    assert folded(doubled) == folded(changes)


@settings(deadline=None, max_examples=100)
@given(snapshots, histories)
def test_the_fold_is_what_a_plain_reading_says(before: list[Wish], history: list[list[Wish]]) -> None:
    """Rows in a dictionary, everything judged after each transaction that touched it: the same rows and events."""
    changes, source = told_of(before, history)
    found = folded(changes)
    plain = PlainReading()
    for change in changes:
        plain.read(change)
    events = found["events"]
    assert isinstance(events, dict)
    assert {key: [event[2] for event in made] for key, made in events.items()} == plain.events
    rows = found["rows"]
    assert isinstance(rows, list)
    wanted = {(table, str(number)) for table, kept in source.rows.items() for number in kept}
    assert {(table, key) for table, key, *_ in rows} == wanted


class PlainReading:
    """The fold's rules, without batches, files or caches."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Row]] = {DOSSIER: {}, PAYMENT: {}, SERVICE: {}}
        self.told: dict[str, Told] = {}
        self.held: dict[str, None] = {}
        self.events: dict[str, list[str]] = defaultdict(list)
        self.recovered: dict[str, list[bool]] = defaultdict(list)
        self.kind: str | None = None
        """Of the snapshot between whose markers we are: first, gap or again."""
        self.waiting: set[str] = set()
        self.born: set[str] = set()
        self._tables: list[str] = []
        self._seen: set[tuple[str, str]] = set()
        self._transaction: list[Change] = []
        self._began = False

    def read(self, change: Change) -> None:
        if change.op is Op.READ:
            old = self.rows[change.table].get(change.key[0])
            if old != change.after:
                for key in self._dossiers_of(replace(change, op=Op.UPDATE)):
                    self._found(key)
            self._apply(change)
        elif change.marker == SNAPSHOT_BEGIN:
            self._begin(json.loads(change.content))
        elif change.marker == SNAPSHOT_END:
            if self.kind is not None:
                self._end()
        else:
            self._transaction.append(change)
            if change.last:
                changes, self._transaction = self._transaction, []
                self._commit(changes)
        self._began = True

    # -- snapshots ---------------------------------------------------------------------------------------------------

    def _begin(self, said: dict[str, Any]) -> None:
        if self.kind not in ("first", "gap"):
            gap = said.get("gap") and self._began
            self.kind = "again" if said.get("reread") else "gap" if gap else "first"
        self._tables = said.get("tables", list(self.rows))
        self._seen.clear()
        self.born.clear()

    def _found(self, key: str) -> None:
        """A dossier is not as we knew it: judge it at the end. Before we know better, it is taken as told."""
        if self.kind is None or (self.kind == "first" and key not in self.told):
            return
        if key not in self.waiting:
            self._take_as_told(key)
        self.waiting.add(key)

    def _end(self) -> None:
        gone = [(t, k) for t in self._tables for k in self.rows[t] if (t, k) not in self._seen]
        for table, key in gone:
            link = self.rows[table][key].get("ho_so_id")
            if table == DOSSIER or link is not None:
                self._found(key if table == DOSSIER else str(link))
        for table, key in gone:
            del self.rows[table][key]
        for key in [*self.told, *self.held]:
            if key not in self.rows[DOSSIER]:
                self._forget(key)
        quiet_ones = self.kind == "first"
        self.kind = None
        for key in sorted(self.waiting | set(self.held)):
            if key in self.rows[DOSSIER] and not (quiet_ones and key not in self.told):
                self._judge(key, recovered=True)
        self.waiting.clear()
        self.born.clear()

    # -- transactions ------------------------------------------------------------------------------------------------

    def _commit(self, changes: list[Change]) -> None:
        """Before anything is applied, what is new to us among the touched is taken as told; then all is judged."""
        touched: dict[str, None] = {}
        references = False
        for change in changes:
            for key in self._dossiers_of(change):
                self._touch(key, change, touched)
            references |= change.table == SERVICE
            self._apply(change)
            if change.op is Op.TRUNCATE and change.table == DOSSIER:
                self.told.clear()
                self.held.clear()
                self.waiting.clear()
                self.born.clear()
        for key in [*touched, *(held for held in list(self.held) if references and held not in touched)]:
            if key not in self.rows[DOSSIER]:
                self._forget(key)
            elif self.kind in (None, "again") or key in self.born:
                self._judge(key, recovered=False)

    def _touch(self, key: str, change: Change, touched: dict[str, None]) -> None:
        new = key not in touched
        touched[key] = None
        mine = change.table == DOSSIER
        if self.kind in (None, "again"):
            if new and key not in self.waiting:
                self._take_as_told(key)
        elif key not in self.born:
            known = key in self.rows[DOSSIER] or key in self.told or key in self.waiting
            if mine and change.op is Op.CREATE and not known:
                self.born.add(key)
            else:
                self._found(key)
        if mine and change.op is Op.DELETE and self.kind in ("first", "gap"):
            self.waiting.add(key)

    def _take_as_told(self, key: str) -> None:
        if key not in self.told and key in self.rows[DOSSIER]:
            self.told[key] = quiet(plan().facts(PlainView(self.rows, key)), EmcSettings())

    def _forget(self, key: str) -> None:
        self.told.pop(key, None)
        self.held.pop(key, None)
        self.waiting.discard(key)
        self.born.discard(key)

    def _judge(self, key: str, recovered: bool) -> None:
        verdict = judge(self.told.get(key), plan().facts(PlainView(self.rows, key)), EmcSettings())
        self.told[key] = verdict.told
        if verdict.held:
            self.held[key] = None
        else:
            self.held.pop(key, None)
        for event in verdict.due:
            self.events[key].append(dump_event(event))
            self.recovered[key].append(recovered)

    def _dossiers_of(self, change: Change) -> list[str]:
        """Whose rows a change changes: of a child that moves, both."""
        if change.op is Op.TRUNCATE:
            owners = {str(row["ho_so_id"]) for row in self.rows[PAYMENT].values() if row["ho_so_id"] is not None}
            return sorted(owners) if change.table == PAYMENT else []
        if change.table == DOSSIER:
            return [change.key[0]]
        if change.table == PAYMENT:
            rows = (self.rows[PAYMENT].get(change.key[0]), change.after)
            return list(dict.fromkeys(str(row["ho_so_id"]) for row in rows if row and row["ho_so_id"] is not None))
        return []

    def _apply(self, change: Change) -> None:
        rows = self.rows[change.table]
        if change.op is Op.TRUNCATE:
            rows.clear()
        elif change.after is None:
            rows.pop(change.key[0], None)
        else:
            rows[change.key[0]] = change.after
            self._seen.add((change.table, change.key[0]))


class PlainView:
    """A dossier's rows in dictionaries."""

    def __init__(self, rows: dict[str, dict[str, Row]], key: str) -> None:
        self._rows = rows
        self._key = key
        self.dossier = rows[DOSSIER][key]

    def children(self, table: str) -> Sequence[Row]:
        mine = [row for row in self._rows[table].values() if str(row["ho_so_id"]) == self._key]
        return sorted(mine, key=lambda row: int(str(row["id"])))

    def reference(self, table: str, column: str, value: Value) -> Row | None:
        return next((row for row in self._rows[table].values() if row[column] == value), None)
