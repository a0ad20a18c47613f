"""The outbox: order within a dossier, nothing lost in a restart, a bounded window, dead letters."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from delivery_story import DOSSIER, SERVICE, Story, code, create, dossier, plan, service, settings_in
from fold_run import FoldRun, made_by_format_1
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from connector.delivery import outbox as outbox_module
from connector.delivery.directory import partition_path
from connector.delivery.fold import Due
from connector.delivery.outbox import Attempt, Outbox, dump_event
from connector.delivery.state import PartitionState
from connector.delivery.status import Ambiguous, ambiguous_attempts, status
from connector.emc.event import EmcEvent, EmcUser
from connector.emc.judgement import event_from
from connector.errors import DeliveryError

EVENT = EmcEvent("", 327, "2.000082", "Cấp đổi", 1, 1, 0, 4, 0, 0, "", EmcUser(None, "QG-1", 2, "000.00.02.H10"))


def due(name: str, number: int) -> Due:
    """The `number`-th event of a dossier; its Data says which."""
    return Due(name, replace(EVENT, CodeProfile=name, Data=str(number)), "1/0/1.0", "7:1", 1_790_000_000_000_000, "m")


class Box:
    """An outbox over a file, which dies and comes back with `restart`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()

    def _open(self) -> None:
        self.state = PartitionState(self._path, "demo", 0)
        self.outbox = Outbox(self.state)

    def restart(self) -> None:
        self.state.close()
        self._open()

    def owe(self, *dues: Due) -> None:
        for each in dues:
            self.outbox.owe(each)
        self.save()

    def save(self) -> None:
        self.outbox.save()
        self.state.commit()

    def begin(self, room: int = 100, now: float = 1000.0) -> list[Attempt]:
        attempts = self.outbox.begin(room, now, now)
        self.save()
        return attempts

    def states(self) -> list[tuple[str, str, int, int]]:
        """Data, state, attempts and ambiguous attempts of every event."""
        query = "SELECT json_extract(event, '$.Data'), state, attempts, ambiguous FROM events ORDER BY id"
        return self.state.db.execute(query).fetchall()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path / "s.sqlite")
    yield box
    box.state.close()


def names(attempts: list[Attempt]) -> list[str]:
    return [attempt.dossier + attempt.event.Data for attempt in attempts]


texts = st.text(st.characters(exclude_categories=("Cs",)))


numbers = st.integers()
users = st.builds(EmcUser, st.none() | texts, st.none() | texts, numbers, texts)
events = st.builds(
    EmcEvent, texts, numbers, texts, texts, numbers, numbers, numbers, numbers, numbers, numbers, texts, users
)


@given(events)
def test_events_survive_exactly(event: EmcEvent) -> None:
    """What was judged is what is pushed, also days later."""
    assert event_from(json.loads(dump_event(event))) == event


def test_one_at_a_time_per_dossier_in_order(box: Box) -> None:
    """Dossiers run side by side; the next event of one goes out when the one before it is delivered."""
    box.owe(due("a", 1), due("a", 2), due("b", 1))
    first = box.begin()
    assert names(first) == ["a1", "b1"]
    assert box.begin() == []
    box.outbox.delivered(first[0], 1001.0)
    assert names(box.begin()) == ["a2"]


def test_room_is_kept(box: Box) -> None:
    """No more than what may be in flight, first come first served."""
    box.owe(*(due(name, 1) for name in "abc"))
    assert names(box.begin(2)) == ["a1", "b1"]
    assert names(box.begin(2)) == ["c1"]


def test_an_attempt_is_on_disk_before_it_may_go_out(box: Box) -> None:
    """A death after that finds it, counts it as ambiguous, and sends it again before anything later."""
    box.owe(due("a", 1), due("a", 2))
    box.begin()
    box.restart()
    assert box.outbox.interrupted == 1
    assert box.states() == [("1", "waiting", 1, 1), ("2", "waiting", 0, 0)]
    [again] = box.begin()
    assert (names([again]), again.number) == (["a1"], 2)


def test_what_was_not_saved_never_happened(box: Box) -> None:
    """The fold owes it again, from the log."""
    box.outbox.owe(due("a", 1))
    box.outbox.begin(1, 1000.0, 1000.0)
    box.restart()
    assert (box.states(), box.outbox.interrupted, box.outbox.waiting) == ([], 0, 0)


def test_a_retry_does_not_reorder(box: Box) -> None:
    """Later events of the dossier wait for it, others do not."""
    box.owe(due("a", 1), due("a", 2), due("b", 1))
    a, b = box.begin()
    box.outbox.again(a, "HTTP 503", False, 1005.0)
    box.outbox.delivered(b, 1001.0)
    assert box.outbox.next_at == 1005.0
    assert box.begin(now=1004.9) == []
    [again] = box.begin(now=1005.0)
    assert (names([again]), again.number) == (["a1"], 2)
    assert box.states()[0] == ("1", "sent", 2, 0)


def test_a_rejected_event_parks_its_dossier_alone(box: Box) -> None:
    """Its later events wait behind it, before and after a restart; they are not counted as waiting."""
    box.owe(due("a", 1), due("a", 2), due("b", 1))
    a, b = box.begin()
    box.outbox.park(a, "HTTP 400", "LOCATION", 1001.0)
    box.outbox.delivered(b, 1001.0)
    box.owe(due("a", 3), due("b", 2))
    assert box.outbox.waiting == 1
    assert names(box.begin()) == ["b2"]
    box.restart()
    assert box.outbox.parked == {"a": ("a", "HTTP 400")}
    assert box.outbox.waiting == 1
    box.owe(due("a", 4))
    assert names(box.begin()) == ["b2"]


def test_what_an_operator_let_go_runs_in_order(box: Box) -> None:
    """docs/delivery.md: the parked event is set to waiting while deliver is stopped."""
    box.owe(due("a", 1), due("a", 2))
    [a] = box.begin()
    box.outbox.park(a, "HTTP 400", "", 1001.0)
    box.save()
    box.state.write().execute("UPDATE events SET state = 'waiting' WHERE state = 'parked'")
    box.state.commit()
    box.restart()
    [again] = box.begin()
    assert (names([again]), again.number) == (["a1"], 2)
    box.outbox.delivered(again, 1002.0)
    assert names(box.begin()) == ["a2"]


def test_memory_holds_a_window(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backlog is on disk; it is loaded in order as the window empties, also after a restart."""
    monkeypatch.setattr(outbox_module, "WINDOW", 4)
    box.owe(*(due(name, number) for number in (1, 2, 3) for name in "abc"))
    assert box.outbox.waiting == 9
    box.restart()
    seen: list[str] = []
    while box.outbox.waiting:
        assert sum(map(len, box.outbox._queues.values())) <= 4
        for attempt in box.begin():
            seen += names([attempt])
            box.outbox.delivered(attempt, 1001.0)
    assert [[name for name in seen if name[0] == which] for which in "abc"] == [
        [f"{which}{number}" for number in (1, 2, 3)] for which in "abc"
    ]


def test_ids_are_never_used_twice(box: Box) -> None:
    """Also when the ledger has forgotten the last ones."""
    box.owe(due("a", 1))
    [attempt] = box.begin()
    box.outbox.delivered(attempt, 1001.0)
    assert not box.outbox.prune(1001.0 + 91 * 86_400, 90, sys.maxsize)
    box.save()
    assert box.states() == []
    box.restart()
    box.owe(due("a", 2))
    assert box.begin()[0].id == attempt.id + 1


def test_events_of_a_position_are_numbered(box: Box) -> None:
    """From 1 at each position, over deaths, and also when the ledger has forgotten those before."""
    here, there = due("a", 1), replace(due("b", 1), position="1/0/2.0")
    box.owe(here, here)
    for attempt in box.begin():
        box.outbox.delivered(attempt, 1001.0)
    for attempt in box.begin():
        box.outbox.delivered(attempt, 1001.0)
    box.outbox.prune(1001.0 + 91 * 86_400, 90, sys.maxsize)
    box.save()
    box.restart()
    box.owe(here, there)
    box.restart()
    box.owe(there)
    numbered = box.state.db.execute("SELECT position, ordinal FROM events ORDER BY id").fetchall()
    assert numbered == [("1/0/1.0", 3), ("1/0/2.0", 1), ("1/0/2.0", 2)]


def test_the_ledger_forgets_in_portions(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only delivered events, only old ones, a bounded number at once."""
    monkeypatch.setattr(outbox_module, "_MOST_PRUNED", 2)
    box.owe(*(due(name, 1) for name in "abcdef"))
    attempts = box.begin()
    for number, attempt in enumerate(attempts[:4]):
        box.outbox.delivered(attempt, 1000.0 if number < 3 else 5000.0)
    box.outbox.park(attempts[5], "HTTP 400", "", 1000.0)
    now = 1000.0 + 90 * 86_400 + 1
    assert [box.outbox.prune(now, 90, sys.maxsize), box.outbox.prune(now, 90, sys.maxsize)] == [True, False]
    assert [state for _, state, *_ in box.states()] == ["delivered", "sent", "parked"]


def test_the_ledger_keeps_what_others_have_not_got(box: Box) -> None:
    """However long ago EMC took it."""
    box.owe(due("a", 1), due("b", 1))
    for attempt in box.begin():
        box.outbox.delivered(attempt, 1001.0)
    box.save()
    assert box.outbox.saved == 2
    for published, left in ((0, 2), (1, 1), (2, 0)):
        box.outbox.prune(1001.0 + 91 * 86_400, 90, published)
        assert len(box.states()) == left


class Pushing(RuleBasedStateMachine):
    """Dossiers that owe events, an EMC that does anything, deaths in between."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(outbox_module, "WINDOW", 4)
        self.box = Box(Path(self.directory.name) / "s.sqlite")
        self.owed: dict[str, int] = {}
        self.taken: dict[str, list[str]] = {}
        self.parked: set[str] = set()
        self.flying: list[Attempt] = []
        self.ambiguous = 0
        self.now = 1000.0

    def teardown(self) -> None:
        self.box.state.close()
        self.directory.cleanup()
        self.patch.undo()

    @rule(name=st.sampled_from("abcdef"), count=st.integers(1, 3))
    def owe(self, name: str, count: int) -> None:
        for _ in range(count):
            self.owed[name] = self.owed.get(name, 0) + 1
            self.box.owe(due(name, self.owed[name]))

    @rule(room=st.integers(1, 4))
    def begin(self, room: int) -> None:
        self.now += 1
        self.flying += self.box.begin(room, self.now)

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 9), outcome=st.sampled_from(["taken", "taken", "retry", "lost", "rejected"]))
    def answer(self, which: int, outcome: str) -> None:
        attempt = self.flying.pop(which % len(self.flying))
        if outcome in ("taken", "lost"):
            self.taken.setdefault(attempt.dossier, []).append(attempt.event.Data)
        match outcome:
            case "taken":
                self.box.outbox.delivered(attempt, self.now)
            case "rejected":
                self.parked.add(attempt.dossier)
                self.box.outbox.park(attempt, "HTTP 400", "", self.now)
            case _:
                self.ambiguous += outcome == "lost"
                self.box.outbox.again(attempt, "x", outcome == "lost", self.now + 1)
        self.box.save()

    @rule()
    def die(self) -> None:
        self.ambiguous += len(self.flying)
        self.box.restart()
        assert self.box.outbox.interrupted == len(self.flying)
        self.flying.clear()

    @invariant()
    def never_two_of_a_dossier(self) -> None:
        flying = [attempt.dossier for attempt in self.flying]
        assert len(flying) == len(set(flying))
        assert not self.parked.intersection(flying)

    @invariant()
    def in_order_and_nothing_skipped(self) -> None:
        for taken in self.taken.values():
            different = [one for one, before in zip(taken, [None, *taken], strict=False) if one != before]
            assert different == [str(number) for number in range(1, len(different) + 1)]

    @invariant()
    def counted(self) -> None:
        states = self.box.states()
        assert sum(ambiguous for *_, ambiguous in states) == self.ambiguous
        query = (
            "SELECT count(*) FROM events WHERE state <> 'delivered' AND dossier NOT IN (SELECT value FROM json_each(?))"
        )
        counted = self.box.state.db.execute(query, (json.dumps(sorted(self.parked)),)).fetchone()[0]
        assert self.box.outbox.waiting == counted

    @invariant()
    def everything_flows_in_the_end(self) -> None:
        if self.box.outbox.waiting and not self.flying:
            assert self.box.outbox.pending or self.box.outbox.next_at is not None


TestPushing = Pushing.TestCase
TestPushing.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)


def test_status_reads_what_stands_in_the_files(tmp_path: Path) -> None:
    """While the file is in use: waiting, parked with reasons and what is behind, held, ambiguous, offsets."""
    connector = settings_in(tmp_path, "http://127.0.0.1:9/TrackingMCDT")
    assert status(connector) == []
    connector.delivery.state.mkdir()
    PartitionState(partition_path(connector.delivery.state, "demo", 0), "demo", 0).close()
    path = connector.delivery.state / "demo-0001.sqlite"
    run = FoldRun(tmp_path, path=path, partition=1)
    story = Story()
    run.poll(story.transaction(create(SERVICE, service(1)), *(create(DOSSIER, dossier(n)) for n in (1, 2, 3))))
    run.poll(story.transaction(create(DOSSIER, dossier(4, service=9))))
    box = run.partition.outbox
    one, two, three = box.begin(9, 1000.0, 1000.0)
    box.delivered(one, 1001.0)
    box.park(two, "HTTP 400", "sai", 1002.0)
    box.again(three, "HTTP 504", True, 1003.0)
    run.poll(story.transaction(*(create(DOSSIER, dossier(n, "dang_xu_ly")) for n in (2, 3))))
    found = status(connector)
    assert [each.partition for each in found] == [0, 1]
    mine = found[1]
    assert (mine.offset, mine.position, mine.mapping) == (7, str(run.partition.fold.position), plan().version)
    assert (mine.dossiers, mine.waiting, mine.delivered, mine.ambiguous) == (4, 2, 1, 1)
    assert mine.oldest == pytest.approx(1_790_000_000 + 0x1100 / 1e6)
    [parked] = mine.parked
    assert (parked.code, parked.reason, parked.detail, parked.behind) == (code(2), "HTTP 400", "sai", 1)
    [held] = mine.held
    assert held.code == code(4)
    assert ambiguous_attempts(connector) == [Ambiguous(code(3), 1, three.id, 1)]
    run.close()


def test_what_a_snapshot_has_found_is_flagged_to_the_end(tmp_path: Path) -> None:
    """In the ledger, in each attempt of its push also after a death, and in status; which snapshot runs, too."""
    connector = settings_in(tmp_path, "http://127.0.0.1:9/TrackingMCDT")
    connector.delivery.state.mkdir()
    run, story = FoldRun(tmp_path, path=connector.delivery.state / "demo-0000.sqlite"), Story()
    run.poll(story.transaction(create(SERVICE, service(1)), create(DOSSIER, dossier(1)), create(DOSSIER, dossier(2))))
    story.gap()
    run.poll([story.begin(gap="lost"), *story.reads((SERVICE, service(1)), (DOSSIER, dossier(1, "da_tra")))])
    [mine] = status(connector)
    assert (mine.reading, mine.at_end, mine.recovered) == ("gap", 1, 0)
    run.poll([*story.reads((DOSSIER, dossier(2))), story.end()])
    [mine] = status(connector)
    assert (mine.reading, mine.at_end, mine.recovered) == ("", 0, 1)
    for attempt in run.partition.begin(9, 1000.0, 1000.0):
        assert not attempt.recovered
        run.partition.outbox.delivered(attempt, 1001.0)
    run.partition.save()
    [attempt] = run.partition.begin(9, 1002.0, 1002.0)
    assert attempt.recovered
    run.partition.save()
    run.restart()
    [attempt] = run.partition.begin(9, 1003.0, 1003.0)
    assert (attempt.event.Status, attempt.recovered, attempt.number) == (3, True, 2)
    run.close()


def test_a_recovered_event_that_is_begun_at_once_is_flagged(box: Box) -> None:
    """Before it is in the file."""
    box.outbox.owe(replace(due("a", 1), recovered=True))
    [attempt] = box.outbox.begin(9, 0.0, 0.0)
    assert attempt.recovered


def test_status_of_a_state_that_an_older_version_made(tmp_path: Path) -> None:
    """Deliver has not opened it yet; nothing of it was recovered."""
    connector = settings_in(tmp_path, "http://127.0.0.1:9/TrackingMCDT")
    connector.delivery.state.mkdir()
    made_by_format_1(connector.delivery.state / "demo-0000.sqlite")
    [mine] = status(connector)
    assert (mine.reading, mine.at_end, mine.recovered, mine.waiting) == ("first", 0, 0, 3)


def test_a_file_that_is_just_being_made_is_no_partition_yet(tmp_path: Path) -> None:
    """A deliver process that starts makes the file first, its tables then."""
    connector = settings_in(tmp_path, "http://127.0.0.1:9/TrackingMCDT")
    connector.delivery.state.mkdir()
    (connector.delivery.state / "demo-0000.sqlite").touch()
    assert status(connector) == []
    assert ambiguous_attempts(connector) == []


def test_status_of_a_damaged_file_is_told(tmp_path: Path) -> None:
    """With the mend, not as SQLite's own error."""
    connector = settings_in(tmp_path, "http://127.0.0.1:9/TrackingMCDT")
    connector.delivery.state.mkdir()
    (connector.delivery.state / "demo-0000.sqlite").write_bytes(b"no database" * 100)
    for look in (status, ambiguous_attempts):
        with pytest.raises(DeliveryError):
            look(connector)
