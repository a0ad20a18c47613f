"""Snapshots that are read while the stream flows: after first reads, gaps, re-reads and kills of capture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from delivery_story import DOSSIER, PAYMENT, SERVICE, Story, dossier, payment, plan, service
from fold_run import FoldRun
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fold_properties import PlainReading, PlainView, Source, Wish, folded

from connector.change.record import Change, Op
from connector.delivery.rowcodec import load_row
from connector.emc.judgement import judge, quiet
from connector.settings import EmcSettings

TABLES = [DOSSIER, PAYMENT, SERVICE]

Action = tuple[str, list[Wish], int]
"""What happens while tables are read, with what it asks of the source, and a number to choose by.

read, repeat: of a row (for the first time, again); transaction; begin: capture was killed and begins anew, with what
was lost meanwhile; on: the stream goes on with what is not ours.
"""


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


class Chance:
    """Draws what happens. A story is too long for hypothesis' own draws, which would mostly be cut short."""

    def __init__(self, random: Random, steady: bool = False) -> None:
        """steady: the services are read first of all and stay, for what they say judges nobody by itself."""
        self.random = random
        self.steady = steady

    def wish(self) -> Wish:
        draw = self.random
        number = draw.randint(1, 4)
        match draw.choices(["dossier", "payment", "service", "gone", "emptied"], [10, 6, 1, 3, 1])[0]:
            case "dossier":
                state = draw.choice(["moi", "dang_xu_ly", "da_tra", "huy"])
                return DOSSIER, number, dossier(number, state, draw.random() < 0.8, draw.randint(1, 3))
            case "payment":
                how = draw.choice(["mang", "quay", "la"])
                return PAYMENT, number, payment(number, draw.choice([None, 1, 2, 3, 4]), how=how)
            case "service":
                return SERVICE, number, service(number, draw.choice("AB"))
            case "gone":
                return draw.choice(TABLES[:2] * 3 + [SERVICE]), number, None
        return draw.choice(TABLES), 0, None

    def wishes(self, most: int) -> list[Wish]:
        wishes = [self.wish() for _ in range(self.random.randint(1, most))]
        return [wish for wish in wishes if not self.steady or wish[0] != SERVICE]

    def action(self) -> Action:
        what = self.random.choices(["read", "transaction", "repeat", "begin", "on"], [6, 6, 2, 1, 1])[0]
        return what, self.wishes(3 if what == "transaction" else 2), self.random.randrange(10)

    def phase(self, content: dict[str, object], lost: list[Wish]) -> Phase:
        actions = [self.action() for _ in range(self.random.randrange(12))]
        return Phase(lost, content, actions, [self.wishes(3) for _ in range(self.random.randrange(4))])

    def first(self) -> Phase:
        phase = self.phase(self.random.choice([{}, {"gap": ""}]), [*SERVICES, *self.wishes(8)])
        return replace(phase, actions=[]) if self.steady else phase

    def later(self) -> Phase:
        names = self.random.sample(TABLES, self.random.randint(1, 3))
        again: dict[str, object] = {"reread": True, "tables": names}
        return self.phase({"gap": "the slot was lost"} if self.random.random() < 0.6 else again, self.wishes(5))

    def story(self) -> list[Phase]:
        return [self.first(), *(self.later() for _ in range(self.random.randint(1, 2)))]


SERVICES: list[Wish] = [(SERVICE, number, service(number, "A")) for number in (1, 2, 3)]
"""Mostly there: without them every dossier is held, and nothing is ever due."""

stories = st.randoms(use_true_random=True).map(lambda random: Chance(random).story())


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


@settings(deadline=None, max_examples=200)
@given(stories)
def test_snapshots_within_the_stream_are_what_a_plain_reading_says(phases: list[Phase]) -> None:
    """The same events, in the same order, flagged alike, whoever waits for what."""
    told = tell(phases)
    found, plain = folded(told.changes), plainly(told.changes)
    events = found["events"]
    assert isinstance(events, dict)
    assert {key: [event[2] for event in made] for key, made in events.items()} == plain.events
    assert {key: [bool(event[-2]) for event in made] for key, made in events.items()} == plain.recovered
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


@settings(deadline=None, max_examples=60)
@given(stories)
def test_after_a_whole_snapshot_the_rows_are_the_source_s(phases: list[Phase]) -> None:
    """Every row is there as it is, and none else."""
    whole = [phase for phase in phases if "tables" not in phase.content]
    whole[-1].after.clear()
    told = tell(phases[: phases.index(whole[-1]) + 1])
    rows = folded(told.changes)["rows"]
    assert isinstance(rows, list)
    assert {(name, key): load_row(data) for name, key, _, data in rows} == {
        (name, str(number)): row for name, kept in told.source.rows.items() for number, row in kept.items()
    }


@settings(deadline=None, max_examples=120)
@given(st.randoms(use_true_random=True))
def test_a_gap_owes_the_difference_and_nothing_else(random: Random) -> None:
    """What each dossier was told, or would have been when the stream broke, against what is true at the end."""
    chance = Chance(random, steady=True)
    phases = [chance.first(), replace(chance.phase({"gap": "lost"}, chance.wishes(6)), after=[])]
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
        assert all(event[-2] for event in owed)
    for key, known in plain.told.items():
        assert judge(known, plan().facts(PlainView(plain.rows, key)), EmcSettings()).due == ()
