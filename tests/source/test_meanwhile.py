"""Reads and stream together, tried on histories of anybody's making: never a step back, and exact in the end."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.source import meanwhile as meanwhiles
from connector.source.meanwhile import Meanwhile, Visible

KEYS = 6
FIRST_XID = (1 << 32) - 3  # 32 bits are used up while the tables are read


@dataclass
class Server:
    """A server's transactions: committed in the order of the stream, some of them not visible yet."""

    committed: list[tuple[int, dict[int, int | None]]] = field(default_factory=list)
    hidden: set[int] = field(default_factory=set)
    next_xid: int = FIRST_XID

    def commit(self, writes: dict[int, int | None], hide: bool) -> None:
        """A row that a transaction changed which is not visible yet is locked."""
        locked = {key for xid, written in self.committed if xid in self.hidden for key in written}
        self.committed.append((self.next_xid, {k: v for k, v in writes.items() if k not in locked}))
        if hide:
            self.hidden.add(self.next_xid)
        self.next_xid += 1

    def snapshot(self) -> tuple[Visible, dict[int, int]]:
        """What a snapshot taken now sees. Its end is after the last transaction that is visible."""
        seen = [xid for xid, _ in self.committed if xid not in self.hidden]
        xmax = max(seen, default=FIRST_XID - 1) + 1
        running = frozenset(xid for xid in self.hidden if xid < xmax)
        return Visible(min(running, default=xmax), xmax, running), self.rows(self.hidden)

    def rows(self, without: set[int]) -> dict[int, int]:
        rows: dict[int, int] = {}
        for xid, writes in self.committed:
            if xid not in without:
                for key, value in writes.items():
                    rows.pop(key, None) if value is None else rows.update({key: value})
        return rows


WRITES = st.dictionaries(st.integers(0, KEYS - 1), st.none() | st.integers(0, 99), min_size=1, max_size=3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), WRITES, st.booleans()),
        st.tuples(st.just("show"), st.integers(0, 9)),
        st.tuples(st.just("stream"), st.integers(1, 3)),
        st.tuples(st.just("read"), st.integers(0, KEYS - 1), st.integers(1, KEYS)),
        st.tuples(st.just("tell"), st.integers(0, 3)),
    ),
    max_size=40,
)


class Reading:
    """A snapshot of the table beside the stream, as `snapshot.Snapshot` goes about it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.meanwhile = Meanwhile(["t"])
        self.log: dict[int, int | None] = {}
        self.streamed = 0
        self.chunks: list[tuple[Visible, dict[int, int], int, set[int]]] = []
        self.left = set(range(KEYS))

    def stream(self, count: int) -> None:
        for xid, writes in self.server.committed[self.streamed : self.streamed + count]:
            keys = self.meanwhile.begin(xid % (1 << 32))
            for key, value in writes.items():
                keys.add(b"%d" % key)
                self.log[key] = value
            self.streamed += 1
        self.meanwhile.trim()

    def read(self, first: int, count: int) -> None:
        keys = set(range(first, min(first + count, KEYS))) & self.left
        snapshot, rows = self.server.snapshot()
        self.left -= keys
        self.chunks.append((snapshot, rows, len(self.server.committed), keys))

    def tell(self, at: int) -> None:
        if at >= len(self.chunks):
            return
        snapshot, rows, position, keys = self.chunks[at]
        if self.streamed < position:
            return
        del self.chunks[at]
        overtaken = self.meanwhile.overtaken(snapshot)
        if overtaken.unclear:
            self.left |= keys
            return
        for key in keys & rows.keys():
            if b"%d" % key not in overtaken.keys:
                assert self.log.get(key, rows[key]) == rows[key], "a read took a row back"
                self.log[key] = rows[key]
        self.meanwhile.forget([*(chunk[0] for chunk in self.chunks), snapshot])


@settings(max_examples=1500)
@given(STEPS, STEPS)
def test_reads_never_contradict_the_stream(before: list[tuple], after: list[tuple]) -> None:  # type: ignore[type-arg]
    """Transactions hidden after their commit, chunks in any order, told at any time: exact when all is told."""
    most = meanwhiles.MOST_KEYS, meanwhiles.MOST_TRANSACTIONS
    meanwhiles.MOST_KEYS, meanwhiles.MOST_TRANSACTIONS = 4, 3
    try:
        server = Server()
        for step in before:
            if step[0] == "commit":
                server.commit(step[1], hide=False)
        reading = Reading(server)
        reading.streamed = len(server.committed)
        for step in after:
            match step:
                case "commit", writes, hide:
                    server.commit(writes, hide)
                case "show", at if server.hidden:
                    server.hidden.discard(sorted(server.hidden)[at % len(server.hidden)])
                case "stream", count:
                    reading.stream(count)
                case "read", first, count:
                    reading.read(first, count)
                case "tell", at:
                    reading.tell(at)
        server.hidden.clear()
        reading.stream(len(server.committed))
        while reading.left or reading.chunks:
            if reading.left:
                reading.read(0, KEYS)
            reading.tell(0)
        assert {key: value for key, value in reading.log.items() if value is not None} == server.rows(set())
    finally:
        meanwhiles.MOST_KEYS, meanwhiles.MOST_TRANSACTIONS = most


@given(st.integers(3, (1 << 40)), st.integers(-(1 << 31) + 1, (1 << 31) - 1))
def test_whole_transaction_ids(xmax: int, distance: int) -> None:
    """32 bits are the nearest of all that end in them."""
    xid = max(3, xmax + distance)
    assert Visible(xmax, xmax, frozenset()).whole(xid % (1 << 32)) == xid


def test_snapshots_as_text() -> None:
    """What PostgreSQL prints, with and without running transactions."""
    assert Visible.parse("10:20:10,14") == Visible(10, 20, frozenset((10, 14)))
    assert Visible.parse("744:744:") == Visible(744, 744, frozenset())


def test_more_overlays_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a row that moved, maybe into what was told, at least the table is remembered, until it is read again."""
    monkeypatch.setattr(meanwhiles, "MOST_OVERLAYS", 1)
    meanwhile = Meanwhile(["a", "b"])
    meanwhile.begin(7)
    meanwhile.lay_over(b'["a","1"]', {}, moved=False)
    meanwhile.lay_over(b'["b","2"]', {}, moved=False)
    assert meanwhile.unread() == {"a"}
    meanwhile.lay_over(b'["b","3"]', {}, moved=True)
    assert meanwhile.overtaken(Visible(7, 7, frozenset())).unclear
    assert (meanwhile.unread(), meanwhile.moved) == ({"a", "b"}, {"b"})
    meanwhile.empty("a")
    assert meanwhile.unread() == set()


def test_very_many_transactions_are_not_remembered_one_by_one() -> None:
    """While no chunk can be told for hours, memory stays bounded, and looking after it stays cheap."""
    meanwhile = Meanwhile(["t"])
    for xid in range(FIRST_XID, FIRST_XID + 400_000):
        meanwhile.begin(xid % (1 << 32)).add(b"%d" % xid)
        if xid % 1000 == 0:
            meanwhile.trim()
    assert len(meanwhile._transactions) <= meanwhiles.MOST_TRANSACTIONS + 1000
    end = FIRST_XID + 400_000
    assert meanwhile.overtaken(Visible(FIRST_XID + 5, end, frozenset((FIRST_XID + 5,)))).unclear
    everything = Visible(FIRST_XID - 9, end, frozenset((FIRST_XID - 9,)))
    assert not meanwhile.overtaken(everything).unclear
    meanwhile.forget([everything])
    assert not meanwhile.overtaken(Visible(FIRST_XID, FIRST_XID, frozenset())).unclear
