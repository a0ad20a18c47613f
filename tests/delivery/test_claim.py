"""Taking a partition: whatever became of its file, the state is what was recorded, and nothing goes out twice."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from delivery_story import (
    DOSSIER,
    MAPPING,
    PAYMENT,
    SERVICE,
    LoggedStory,
    code,
    create,
    delete,
    dossier,
    payment,
    plan,
    service,
    settings_in,
    update,
)
from fold_run import FoldRun
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from recorded import Node

from connector.delivery import journal
from connector.delivery.outbox import Attempt
from connector.delivery.state import damage_mark
from connector.errors import DeliveryError, LogFenced
from connector.log.embedded_deliveries import deliveries_file
from connector.log.pair import Pair
from connector.observe import Fault, StateRebuilt
from connector.settings import Settings

_LIFE = ("moi", "dang_xu_ly", "da_tra")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path, "http://127.0.0.1:9/TrackingMCDT", partitions=1)


@pytest.fixture
def log(settings: Settings) -> Any:
    story = LoggedStory(settings)
    story.snapshot((SERVICE, service(1)), (DOSSIER, dossier(50)))
    yield story
    story.close()


def node(settings: Settings, tmp_path: Path, name: str = "one") -> Node:
    (tmp_path / name).mkdir()
    return Node(settings, tmp_path / name)


def contents(one: Node) -> dict[str, Any]:
    """Everything that a state says, but for what only its own file knows."""
    db = one.claimed.state.db
    meta = {name: value for name, value in one.claimed.state.meta.items() if name not in ("owner", "snapshot")}
    tables = ("told", "held", "waiting", "born", "events", "lookups")
    rows = db.execute("SELECT tbl, key, dossier, data FROM rows ORDER BY tbl, key").fetchall()
    return {"meta": meta, "rows": rows} | {
        table: db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() if table != "waiting" and table != "born"
        else db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
        for table in tables
    }  # fmt: skip


def seen_from_elsewhere(settings: Settings, tmp_path: Path) -> dict[str, Any]:
    """What another machine makes of what is recorded."""
    two = node(settings, tmp_path, "two")
    two.claim()
    try:
        return contents(two)
    finally:
        two.die()


def some_lives(log: LoggedStory) -> None:
    """Dossiers that are told, one that is parked, one that waits for its service, one that is deleted."""
    for number in (1, 2, 3):
        log.transaction(create(DOSSIER, dossier(number)))
    log.transaction(create(DOSSIER, dossier(4, service=9)))
    log.transaction(create(DOSSIER, dossier(5)), delete(DOSSIER, dossier(5)))
    log.transaction(update(DOSSIER, dossier(1, "dang_xu_ly")), create(PAYMENT, payment(1, 1)))
    log.transaction(update(DOSSIER, dossier(50, "dang_xu_ly")))


def worked(one: Node) -> None:
    """What becomes of them: delivered, parked, tried again, under way."""
    while one.fold(3):
        pass
    first, second, third = one.begin(3)
    box = one.partition.outbox
    box.delivered(first, 1001.0)
    box.park(second, "HTTP 400", "sai", 1002.0)
    box.again(third, "HTTP 504", True, 0.0)
    one.partition.save()
    one.record()


@pytest.mark.parametrize("way", ["lost", "damaged", "damaged inside", "another machine", "an older copy"])
def test_the_state_is_what_was_recorded(settings: Settings, tmp_path: Path, log: LoggedStory, way: str) -> None:
    """Rows, what was told, the outbox with what is parked and was tried: as if the file had been there all the time."""
    one = node(settings, tmp_path)
    one.claim()
    one.fold(3)
    one.record()
    shutil.copy(one.path, tmp_path / "copy")
    shutil.copy(f"{one.path}-wal", tmp_path / "copy-wal")
    some_lives(log)
    worked(one)
    before = contents(one)
    one.die()
    again = node(settings, tmp_path, "two") if way == "another machine" else one
    match way:
        case "lost":
            one.path.unlink()
        case "damaged":
            one.path.write_bytes(b"no database" * 1000)
        case "damaged inside":
            damage_mark(one.path).touch()
        case "an older copy":
            shutil.copy(tmp_path / "copy", one.path)
            shutil.copy(tmp_path / "copy-wal", f"{one.path}-wal")
    again.claim(expected=way != "another machine")
    assert contents(again) == before
    assert [seen for seen in again.told if isinstance(seen, StateRebuilt)]
    aside = [seen for seen in again.told if isinstance(seen, Fault)]
    assert len(aside) == way.startswith("damaged")
    assert len(list(again.path.parent.glob("*.aside-*"))) >= way.startswith("damaged")
    assert not damage_mark(one.path).exists()
    assert again.partition.outbox.parked == {"2": (code(2), "HTTP 400")}
    assert [attempt.event.CodeProfile for attempt in again.begin(9)] == [code(3), code(1), code(50)]
    again.die()


def test_a_file_that_is_ours_is_used_as_it_is(settings: Settings, tmp_path: Path, log: LoggedStory) -> None:
    """Also what is not recorded yet, which the next append has."""
    one = node(settings, tmp_path)
    one.claim()
    some_lives(log)
    one.record()
    worked(one)
    log.transaction(create(DOSSIER, dossier(6)))
    one.fold(9)
    before = contents(one)
    one.die()
    one.claim(expected=True)
    assert contents(one) == before
    assert not [seen for seen in one.told if isinstance(seen, StateRebuilt)]
    one.record()
    one.die()
    assert seen_from_elsewhere(settings, tmp_path) == before


def test_a_file_of_before_is_recorded_as_a_whole(settings: Settings, tmp_path: Path, log: LoggedStory) -> None:
    """The first deliver of this version takes what an earlier one has left, and then it outlives its machine."""
    one = node(settings, tmp_path)
    some_lives(log)
    one.claim()
    worked(one)
    before = contents(one)
    one.die()
    deliveries_file(tmp_path / "log.sqlite").unlink()
    old = FoldRun(tmp_path, path=one.path)
    old.partition.state.record(on=False)
    old.close()
    one.claim(expected=True)
    one.record()
    one.die()
    assert seen_from_elsewhere(settings, tmp_path) == before


def test_what_another_machine_went_on_from_is_gone_on_with(
    settings: Settings, tmp_path: Path, log: LoggedStory
) -> None:
    """The first had folded more than it recorded; the second judged that again, and the first takes it from there."""
    one, two = node(settings, tmp_path), node(settings, tmp_path, "two")
    one.claim()
    one.fold(99)
    one.record()
    some_lives(log)
    one.fold(99)
    two.claim()
    with pytest.raises(LogFenced):
        one.record()
    two.fold(3)
    two.record()
    one.die()
    before = contents(two)
    two.die()
    one.claim(expected=True)
    assert contents(one) == before
    assert list(one.path.parent.glob("*.aside-*"))
    one.die()


def test_a_lost_file_of_which_nothing_is_recorded_is_told(settings: Settings, tmp_path: Path, log: LoggedStory) -> None:
    """It held what EMC is still owed; where no file was before, it is a new attach."""
    one = node(settings, tmp_path)
    with pytest.raises(DeliveryError, match="nothing is recorded"):
        one.claim(expected=True)
    assert not one.path.exists()
    one.claim()
    one.die()


def test_a_damaged_file_of_which_nothing_is_recorded_is_told(
    settings: Settings, tmp_path: Path, log: LoggedStory
) -> None:
    """It is left as it is."""
    one = node(settings, tmp_path)
    one.path.write_bytes(b"no database" * 1000)
    with pytest.raises(DeliveryError, match="nothing is recorded") as caught:
        one.claim(expected=True)
    assert "backup" in caught.value.mend
    assert one.path.read_bytes() == b"no database" * 1000


def test_a_record_of_another_log_is_refused(settings: Settings, tmp_path: Path, log: LoggedStory) -> None:
    """A log that was made anew, shorter than the record says: its rows are not those of these dossiers."""
    one = node(settings, tmp_path)
    one.claim()
    some_lives(log)
    worked(one)
    one.die()
    one.path.unlink()
    log.close()
    for file in tmp_path.glob("log.sqlite*"):
        if "deliveries" not in file.name:
            file.unlink()
    LoggedStory(settings).close()
    with pytest.raises(DeliveryError, match="another log"):
        one.claim(expected=True)


def test_a_mapping_that_needs_more_is_refused_as_ever(
    settings: Settings, tmp_path: Path, log: LoggedStory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that were logged before do not have the column, whether the file is there or not."""
    one = node(settings, tmp_path)
    one.claim()
    some_lives(log)
    worked(one)
    one.die()
    one.path.unlink()
    more = plan(MAPPING.replace("location: {constant: 000.00.02.H10}", "location: don_vi"))
    monkeypatch.setattr("recorded.plan", lambda: more)
    with pytest.raises(DeliveryError, match="uses more of"):
        one.claim(expected=True)


@pytest.mark.parametrize("value", [b"x", b"[]", b'{"format": 1}', b'{"format": 2, "owner": "", "seq": 1, "meta": {}}'])
def test_foreign_records_are_told(value: bytes) -> None:
    """Of somebody else, or of a later version."""
    with pytest.raises(DeliveryError):
        journal.head_in(value, "here")


def test_what_was_taken_away_is_not_restored(settings: Settings, tmp_path: Path, log: LoggedStory) -> None:
    """A topic has records of before, too: the last one of each key counts, and none that was taken away."""
    one = node(settings, tmp_path)
    one.claim()
    some_lives(log)
    worked(one)
    assert one.claimed.store is not None
    pairs = list(one.claimed.store.read())
    db = one.claimed.state.write()
    first = [Pair(key, value) for key, value in pairs if key != journal.HEAD]
    assert {json.loads(key)[0] for key, _ in first} == {"told", "held", "events"}
    journal.restore(db, [*first, *(Pair(key, b"") for key, _ in first)], "here")
    assert contents(one)["told"] == contents(one)["held"] == contents(one)["events"] == []
    with pytest.raises(DeliveryError, match="record 1"):
        journal.restore(db, [Pair(b'["told", "1"]', b"{}")], "here")
    one.die()


class Losing(RuleBasedStateMachine):
    """Two machines and a log: whatever is lost, events go out in order, and twice only where that is counted."""

    @initialize()
    def begin(self) -> None:
        self.directory = TemporaryDirectory()
        path = Path(self.directory.name)
        self.settings = settings_in(path, "http://127.0.0.1:9/TrackingMCDT", partitions=1)
        self.log = LoggedStory(self.settings)
        self.log.snapshot((SERVICE, service(1)))
        self.nodes = [node(self.settings, path, name) for name in ("one", "two")]
        self.steps: Counter[int] = Counter()
        self.arrived: list[tuple[str, int]] = []
        self.out: list[Attempt] = []
        self.held = 0
        self.nodes[0].claim()

    @property
    def node(self) -> Node:
        return self.nodes[self.held]

    @rule(number=st.integers(1, 4))
    def change(self, number: int) -> None:
        """A dossier goes one step further in its life."""
        step = self.steps[number]
        if step < len(_LIFE):
            row = dossier(number, _LIFE[step])
            self.log.transaction((create if step == 0 else update)(DOSSIER, row))
            self.steps[number] += 1

    @rule(most=st.integers(1, 5))
    def fold(self, most: int) -> None:
        self.node.fold(most)

    @rule()
    def record(self) -> None:
        self.node.record()

    @rule(most=st.integers(1, 3))
    def push(self, most: int) -> None:
        """Begun, recorded, and only then on the wire: EMC has it."""
        begun = self.node.begin(most)
        self.node.record()
        self.arrived += ((attempt.event.CodeProfile, attempt.event.Status) for attempt in begun)
        self.out += begun

    @precondition(lambda self: self.out)
    @rule(keep=st.booleans())
    def answer(self, keep: bool) -> None:
        """EMC's answer comes, or is lost."""
        attempt = self.out.pop(0)
        box = self.node.partition.outbox
        if keep:
            box.delivered(attempt, 1.0)
        else:
            box.again(attempt, "lost", True, 0.0)
        self.node.partition.save()

    @rule(lose=st.sampled_from(["nothing", "the file", "damage"]), other=st.booleans())
    def die(self, lose: str, other: bool) -> None:
        """The process dies, maybe the file with it; it or another machine takes the partition."""
        self.node.die()
        self.out = []
        if lose == "the file":
            for file in self.node.path.parent.glob("state.sqlite*"):
                file.unlink()
        elif lose == "damage" and self.node.path.exists():
            damage_mark(self.node.path).touch()
        if other:
            self.held = 1 - self.held
        self.node.claim()

    @invariant()
    def in_order(self) -> None:
        """Repeats of the last one are all that may stand between a dossier's events."""
        for number in range(1, 5):
            told = [status for which, status in self.arrived if which == code(number)]
            assert told == sorted(told)
            assert set(told) == set(range(1, len(set(told)) + 1))

    def teardown(self) -> None:
        """Everything arrives in the end, and no more often than the ledger says."""
        if not hasattr(self, "directory"):
            return
        while self.node.fold(50):
            pass
        for attempt in self.out:
            self.node.partition.outbox.delivered(attempt, 1.0)
        self.out = []
        while begun := self.node.begin(9):
            for attempt in begun:
                self.arrived.append((attempt.event.CodeProfile, attempt.event.Status))
                self.node.partition.outbox.delivered(attempt, 1.0)
        self.in_order()
        wanted = {(code(number), status) for number, steps in self.steps.items() for status in range(1, steps + 1)}
        assert set(self.arrived) == wanted
        query = "SELECT code, status, ambiguous FROM events"
        counted = {(which, status): times for which, status, times in self.node.claimed.state.db.execute(query)}
        for event, times in Counter(self.arrived).items():
            assert times - 1 <= counted[event]
        self.node.die()
        self.log.close()
        self.directory.cleanup()


TestLosing = Losing.TestCase
TestLosing.settings = hypothesis(
    max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
