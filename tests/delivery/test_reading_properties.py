"""Snapshots that are read while the stream flows: after first reads, gaps, re-reads and kills of capture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from delivery_story import DOSSIER, PAYMENT, SERVICE, Story, plan
from fold_run import FoldRun
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fold_properties import PlainReading, PlainView, Source, Wish, folded, wishes

from connector.change.record import Change, Op
from connector.emc.judgement import judge, quiet
from connector.settings import EmcSettings

TABLES = [DOSSIER, PAYMENT, SERVICE]

Action = tuple[str, list[Wish], int]
"""What happens while tables are read, with what it asks of the source, and a number to choose by.

read, repeat: of a row (for the first time, again); transaction; begin: capture was killed and begins anew, with what
was lost meanwhile; on: the stream goes on with what is not ours.
"""

some_wishes = st.lists(wishes, min_size=1, max_size=3)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.just([]), st.integers(0, 9)),
        st.tuples(st.just("transaction"), some_wishes, st.just(0)),
        st.tuples(st.just("repeat"), st.just([]), st.integers(0, 9)),
        st.tuples(st.just("begin"), st.lists(wishes, max_size=2), st.integers(0, 1)),
        st.tuples(st.just("on"), st.just([]), st.just(0)),
    ),
    max_size=12,
)


@dataclass
class Phase:
    """A snapshot. lost: what happens to the source unseen before it; after: transactions that follow it."""

    lost: list[Wish]
    content: dict[str, object]
    actions: list[Action]
    after: list[list[Wish]]

    def begins(self, story: Story, source: Source) -> None:
        source.steps(self.lost)
        if self.content.get("gap"):
            story.gap()


after = st.lists(some_wishes, max_size=2)
tables = st.lists(st.sampled_from(TABLES), min_size=1, unique=True)
gaps = st.builds(Phase, st.lists(wishes, max_size=5), st.just({"gap": "the slot was lost"}), actions, after)
rereads = st.builds(
    lambda lost, names, done, then: Phase(lost, {"reread": True, "tables": names}, done, then),
    st.lists(wishes, max_size=3),
    tables,
    actions,
    after,
)
firsts = st.builds(Phase, st.lists(wishes, max_size=5), st.sampled_from([{}, {"gap": ""}]), actions, after)
stories = st.builds(lambda first, later: [first, *later], firsts, st.lists(gaps | rereads, max_size=2))


@dataclass
class Told:
    """A log, and the source that it tells of. ends: how many records there are up to each end of a snapshot."""

    changes: list[Change] = field(default_factory=list)
    source: Source = field(default_factory=Source)
    begins: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)


def tell(phases: Sequence[Phase]) -> Told:
    """The log of these snapshots and of the transactions among and after them."""
    told, story = Told(), Story()
    for phase in phases:
        phase.begins(story, told.source)
        told.begins.append(len(told.changes))
        _read(told, story, phase)
        told.ends.append(len(told.changes))
        for asked in phase.after:
            _transaction(told, story, asked)
    return told


def _transaction(told: Told, story: Story, asked: Sequence[Wish]) -> None:
    steps = told.source.steps(asked)
    if steps:
        told.changes += story.transaction(*steps)


def _read(told: Told, story: Story, phase: Phase) -> None:
    names = phase.content.get("tables", TABLES)
    assert isinstance(names, list)
    rows, changes = told.source.rows, told.changes

    def unread() -> list[tuple[str, int]]:
        return [(name, number) for name in names for number in rows[name]]

    def read(place: tuple[str, int]) -> None:
        name, number = place
        if number in rows[name]:
            changes.extend(story.reads((name, rows[name][number])))

    content = phase.content
    changes.append(story.begin(**content))
    pending, done = unread(), []
    for what, asked, choice in phase.actions:
        if what == "read" and pending:
            done.append(pending.pop(choice % len(pending)))
            read(done[-1])
        elif what == "repeat" and done:
            read(done[choice % len(done)])
        elif what == "transaction":
            _transaction(told, story, asked)
        elif what == "on":
            story.move_on()
        elif what == "begin":
            if choice and told.source.steps(asked):
                story.gap()
                content = {**content, "gap": "the slot was lost again"}
            changes.append(story.begin(**content))
            pending, done = unread(), []
    for place in pending:
        read(place)
    changes.append(story.end())


def plainly(changes: Sequence[Change]) -> PlainReading:
    plain = PlainReading()
    for change in changes:
        plain.read(change)
    return plain


@settings(deadline=None, max_examples=300)
@given(stories)
def test_snapshots_within_the_stream_are_what_a_plain_reading_says(phases: list[Phase]) -> None:
    """The same events, in the same order, flagged alike, whoever waits for what."""
    told = tell(phases)
    found, plain = folded(told.changes), plainly(told.changes)
    events = found["events"]
    assert isinstance(events, dict)
    assert {key: [event[2] for event in made] for key, made in events.items()} == plain.events
    assert {key: [bool(event[-1]) for event in made] for key, made in events.items()} == plain.recovered
    assert found["waiting"] == []
    assert found["born"] == []
    rows = found["rows"]
    assert isinstance(rows, list)
    assert {(table, key) for table, key, *_ in rows} == {(t, key) for t, kept in plain.rows.items() for key in kept}


@settings(deadline=None, max_examples=100)
@given(
    stories,
    st.lists(st.tuples(st.integers(1, 8), st.sampled_from(["save", "go on", "die"])), min_size=1, max_size=16),
)
def test_cuts_and_kills_within_snapshots_make_no_difference(phases: list[Phase], polls: list[tuple[int, str]]) -> None:
    """However the log is cut into polls, and wherever deliver dies between two of them."""
    changes = tell(phases).changes
    expected = folded(changes)
    with TemporaryDirectory() as directory:
        run = FoldRun(Path(directory))
        at = 0
        for size, then in polls * (1 + len(changes) // sum(size for size, _ in polls)):
            run.poll(changes[at : at + size], offset=at, save=then == "save")
            at = run.restart() if then == "die" else min(at + size, len(changes))
            if at == len(changes):
                break
        run.poll(changes[at:], offset=at)
        assert run.contents() == expected
        run.close()


@settings(deadline=None, max_examples=100)
@given(stories, st.dictionaries(st.integers(0, 40), st.integers(0, 30), max_size=5))
def test_doubled_records_within_snapshots_make_no_difference(phases: list[Phase], repeats: dict[int, int]) -> None:
    """Any stretch of the log may come again, but not one that holds the end of an earlier snapshot.

    An end at the position of the next begin cannot be told from that one's own; a log that is written in transactions
    repeats neither.
    """
    told = tell(phases)
    doubled: list[Change] = []
    for at, change in enumerate(told.changes):
        doubled.append(change)
        if at in repeats:
            since = max((begin for begin in told.begins if begin <= at), default=0)
            doubled += told.changes[max(since, at - repeats[at]) : at + 1]
    assert folded(doubled) == folded(told.changes)


@settings(deadline=None, max_examples=200)
@given(stories)
def test_after_a_whole_snapshot_the_state_is_the_source(phases: list[Phase]) -> None:
    """Every row is there as it is, none else; and what EMC was told of a dossier is true, or it is held."""
    whole = [phase for phase in phases if "tables" not in phase.content]
    whole[-1].after.clear()
    told = tell(phases[: phases.index(whole[-1]) + 1])
    plain = plainly(told.changes)
    wanted = {name: {str(number): row for number, row in rows.items()} for name, rows in told.source.rows.items()}
    assert plain.rows == wanted
    for key, known in plain.told.items():
        verdict = judge(known, plan().facts(PlainView(plain.rows, key)), EmcSettings())
        assert verdict.due == () or _only_a_name(plain, key)
    found = folded(told.changes)["rows"]
    assert isinstance(found, list)
    assert {(name, key) for name, key, *_ in found} == {(name, key) for name, rows in wanted.items() for key in rows}


def _only_a_name(plain: PlainReading, key: str) -> bool:
    """Whether what a reference says is all that EMC does not know of a dossier: that judges nobody by itself."""
    known = plain.told[key].last
    now = quiet(plan().facts(PlainView(plain.rows, key)), EmcSettings()).last
    if known is None or now is None:
        return True
    return known.CodeProfile == now.CodeProfile and known.Status == now.Status and known.NameTTHC != now.NameTTHC


without_references = st.lists(wishes.filter(lambda wish: wish[0] != SERVICE), max_size=4)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(wishes, max_size=5),
    st.lists(without_references, max_size=3),
    without_references,
    st.lists(without_references, max_size=4),
    st.lists(st.integers(0, 9), max_size=12),
)
def test_a_gap_owes_the_difference_and_nothing_else(
    before: list[Wish], history: list[list[Wish]], lost: list[Wish], during: list[list[Wish]], order: list[int]
) -> None:
    """What each dossier was told, or would have been when the stream broke, against what is true at the end."""
    phases = [
        Phase([*((SERVICE, n, {"id": n, "ma": f"2.{n}", "ten": "A"}) for n in (1, 2, 3)), *before], {}, [], history),
        Phase(lost, {"gap": "lost"}, _mixed(during, order), []),
    ]
    told = tell(phases)
    begin = told.begins[1]
    earlier, plain = plainly(told.changes[:begin]), plainly(told.changes)
    lives = {
        change.key[0]
        for change in told.changes[begin:]
        if change.table == DOSSIER and change.op in (Op.CREATE, Op.DELETE)
    }
    emptied = any(change.op is Op.TRUNCATE and change.table == DOSSIER for change in told.changes[begin:])
    events = folded(told.changes)["events"]
    assert isinstance(events, dict)
    for key in {str(number) for number in told.source.rows[DOSSIER]} - lives if not emptied else ():
        known = earlier.told.get(key)
        if known is None and key in earlier.rows[DOSSIER]:
            known = quiet(plan().facts(PlainView(earlier.rows, key)), EmcSettings())
        due = judge(known, plan().facts(PlainView(plain.rows, key)), EmcSettings()).due
        owed = events.get(key, [])[len(earlier.events.get(key, ())) :]
        assert len(owed) == len(due)
        assert [event[1] for event in owed] == [event.Status for event in due]
        assert all(event[-1] for event in owed)


def _mixed(transactions: list[list[Wish]], order: list[int]) -> list[Action]:
    mixed: list[Action] = [("read", [], choice) for choice in order]
    for at, asked in enumerate(transactions):
        mixed.insert((at * 2 + 1) % (len(mixed) + 1), ("transaction", asked, 0))
    return mixed
