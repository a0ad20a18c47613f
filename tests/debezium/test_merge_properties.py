"""Whatever Debezium repeats, however lanes run apart, wherever we die: every transaction once, whole, in order."""

from __future__ import annotations

from typing import Any

import pytest
from debezium.made_up_topics import LANES, TABLES, TRANSACTIONS, UNMAPPED, A, B, Topics, written
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.change.record import PLACE, SNAPSHOT_BEGIN, SNAPSHOT_END, Change, Op
from connector.debezium.merge import Lane, Merger
from connector.debezium.message import Boundary, Event

SETTLE = 0.5
ROWS = st.tuples(st.sampled_from((A, A, B, UNMAPPED)), st.integers(0, 5))
HISTORY = st.lists(st.lists(ROWS, min_size=1, max_size=5, unique=True), min_size=1, max_size=7)
KILLS = st.lists(st.tuples(st.integers(1, 15), st.integers(0, 12)), max_size=3)


class Reading:
    """A reader's work without Kafka: it reads any lane's next record, asks for ends, dies and goes on."""

    def __init__(self, topics: Topics) -> None:
        self.topics = topics
        self.folded: list[Change] = []
        self.place = b""
        self.now = 100.0
        self._start()

    def _start(self) -> None:
        self.merger = Merger("p", TABLES, SETTLE, self.place)
        if self.merger.transactions < 0:
            self.merger.transactions = self.topics.length(TRANSACTIONS)
        self.released = self.merger.transactions
        self.at: dict[Lane, int] = {TRANSACTIONS: 0}
        for lane in LANES:
            stored = self.merger.stored(lane)
            self.at[lane] = stored or 0
            self.merger.add(lane, self.at[lane], self.topics.length(lane))

    def read(self, lane: Lane) -> bool:
        at = self.at[lane]
        if at == self.topics.length(lane):
            return False
        self.at[lane] += 1
        if lane == TRANSACTIONS:
            self.merger.boundary(at, self.topics.boundaries[at], self.now, released=at < self.released)
        else:
            self.merger.event(lane, at, self.topics.lanes[lane][at], self.now)
        return True

    def ask(self) -> None:
        for lane in LANES:
            if self.at[lane] == self.topics.length(lane):
                self.merger.clean(lane, self.now)

    def release(self) -> None:
        self.now += 1.0
        changes = self.merger.release(self.now)
        if changes:
            assert changes[-1].marker == PLACE
            self.place = changes[-1].content
            self.folded += changes

    def die(self) -> None:
        self._start()

    def to_the_end(self) -> None:
        for _ in range(3):
            for lane in (*LANES, TRANSACTIONS):
                while self.read(lane):
                    pass
            self.now += 1.0
            self.ask()
            self.release()


def units(changes: list[Change]) -> list[tuple[str, list[str]]]:
    """Transactions as the fold judges them: each with its rows' texts, whole by their end marks."""
    found: list[tuple[str, list[str]]] = []
    inside = False
    for change in changes:
        if change.op in (Op.MESSAGE, Op.READ):
            assert not inside, "a marker or read stands in a transaction"
            continue
        assert change.transaction is not None
        assert change.after is not None
        if not inside:
            found.append((change.transaction, []))
        assert found[-1][0] == change.transaction
        found[-1][1].append(str(change.after["id"]))
        inside = not change.last
    assert not inside
    positions = [change.position for change in changes if change.op not in (Op.MESSAGE, Op.READ)]
    assert positions == sorted(set(positions))
    return found


def _same(one: Event | Boundary | None, other: Event | Boundary) -> bool:
    return isinstance(one, Event) and isinstance(other, Event) and one.text == other.text


@pytest.mark.parametrize("whole", [True, False])
@settings(max_examples=200)
@given(data=st.data(), transactions=HISTORY, kills=KILLS, keeps=st.booleans())
def test_every_transaction_once_whole_and_in_order(
    whole: bool, data: Any, transactions: list[list[tuple[str, int]]], kills: list[tuple[int, int]], keeps: bool
) -> None:
    """Part of it is there before the first start and is history; the rest is judged, whatever happens on the way."""
    topics = Topics(whole, keeps)
    coming = written(topics, transactions, kills)
    there = data.draw(st.integers(0, len(coming)), label="before the first start")
    for lane, record in coming[:there]:
        topics.write(lane, record)
    reading = Reading(topics)
    rest = coming[there:]
    if data.draw(st.booleans(), label="attached before anything else comes"):
        reading.to_the_end()
    steps = data.draw(st.lists(st.sampled_from(("write", *LANES, TRANSACTIONS, "ask", "release", "die")), max_size=60))
    for step in steps:
        match step:
            case "write":
                # Without metadata a transaction is known by its records coming together; with it they may come as late
                # as they like.
                first = rest[0][1] if rest else None
                while rest and (rest[0][1] is first or (not whole and _same(first, rest[0][1]))):
                    topics.write(*rest.pop(0))
            case "ask":
                reading.ask()
            case "release":
                reading.release()
            case "die":
                reading.die()
            case _:
                reading.read(step)
    for lane, record in rest:
        topics.write(lane, record)
    reading.to_the_end()

    markers = [change.marker for change in reading.folded if change.op is Op.MESSAGE and change.marker != PLACE]
    history = {str(change.after["id"]) for change in reading.folded if change.op is Op.READ and change.after}
    judged = units(reading.folded)
    mapped = [
        (str(700 + number), [f"{number}.{at}" for at, (table, _) in enumerate(rows) if table != UNMAPPED])
        for number, rows in enumerate(transactions)
    ]
    if not any(rows for _, rows in mapped):
        assert markers == [SNAPSHOT_BEGIN]
        return
    assert markers == [SNAPSHOT_BEGIN, SNAPSHOT_END]
    left = [(identity, [row for row in rows if row not in history]) for identity, rows in mapped]
    assert judged == [(identity, rows) for identity, rows in left if rows]
    old = {
        str(record.after["id"])
        for lane, record in coming[:there]
        if lane != TRANSACTIONS and record.after  # type: ignore[union-attr]
    }
    assert old <= history


def test_an_end_that_never_came() -> None:
    """The next END of the same lane proves that it will not: what stands before is released by itself, and once."""
    topics = Topics(whole=True)
    first, second = [(A, 0)], [(A, 2), (B, 1)]
    coming = written(topics, [[(B, 0)], first, second], [])
    lost = next(
        at
        for at, (_, record) in enumerate(coming)
        if isinstance(record, Boundary) and record == Boundary(True, "701", {A: 1})
    )
    reading = Reading(topics)
    for lane, record in coming[:lost] + coming[lost + 1 :]:
        topics.write(lane, record)
    reading.to_the_end()
    assert units(reading.folded) == [("700", ["0.0"]), ("701", ["1.0"]), ("702", ["2.0", "2.1"])]
    topics.write(*coming[lost])
    reading.to_the_end()
    assert len(units(reading.folded)) == 3


def test_the_end_of_a_second_run_counts_a_part() -> None:
    """Debezium died inside: its END speaks of one table only, but the rows of the first run are waited for."""
    topics = Topics(whole=True)
    coming = written(topics, [[(B, 1)], [(A, 0), (A, 1), (B, 0)]], [(6, 0)])
    assert coming[-1][1] == Boundary(True, "701", {B: 1})
    for lane, record in coming[:3]:
        topics.write(lane, record)
    reading = Reading(topics)
    reading.to_the_end()
    for lane, record in coming[3:]:
        topics.write(lane, record)
    for lane in (LANES[2], *[TRANSACTIONS] * len(topics.boundaries)):
        reading.read(lane)
    for _ in range(3):
        reading.ask()
        reading.release()
    assert units(reading.folded) == []
    reading.to_the_end()
    assert units(reading.folded) == [("701", ["1.0", "1.1", "1.2"])]
