"""What PostgreSQL is told is durable, is durable."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.postgres import Database
from source.test_capture_basics import SELECTION, Attached, until

from connector.log.contract import Durability, Entry, LogWriter
from connector.log.opening import open_reader, open_writer
from connector.observe import Hub, Observation, SlotProgress, SourceDisconnected
from connector.settings import Settings
from connector.source.capture import Capture
from connector.source.progress import Progress


class Gate:
    """The real log behind a gate: what is appended waits while the gate is closed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.open = threading.Event()
        self.waiting = threading.Event()
        self.open.set()

    def writer(self) -> LogWriter:
        """A writer of the real log."""
        return _Gated(self, open_writer(self._settings))


class _Gated:
    def __init__(self, gate: Gate, writer: LogWriter) -> None:
        self._gate = gate
        self._writer = writer
        self.partitions = writer.partitions

    @property
    def durability(self) -> Durability:
        return self._writer.durability

    def open(self) -> Mapping[int, bytes]:
        return self._writer.open()

    def register(self, schema: str) -> int:
        return self._writer.register(schema)

    def append(self, entries: Sequence[Entry]) -> None:
        if not self._gate.open.is_set():
            self._gate.waiting.set()
            self._gate.open.wait(60)
        self._writer.append(entries)

    def close(self) -> None:
        self._writer.close()


class Running:
    """Capture on its own thread, with what it observed."""

    def __init__(self, settings: Settings, gate: Gate) -> None:
        self.seen: list[Observation] = []
        self.stop = threading.Event()
        hub = Hub()
        hub.subscribe(self.seen.append)
        capture = Capture(settings, SELECTION, gate.writer, lambda: open_reader(settings), hub)
        self._thread = threading.Thread(target=capture.run, args=(self.stop,))
        self._thread.start()

    def feedbacks(self) -> list[SlotProgress]:
        """What the server was told."""
        return [one for one in self.seen if isinstance(one, SlotProgress)]

    def end(self) -> None:
        """Stop in order."""
        self.stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.fixture
def attached(database: Database, tmp_path: Path) -> Iterator[Attached]:
    """A connector that has streamed once and is stopped."""
    made = Attached(database, tmp_path)
    with made.capturing():
        pass
    yield made
    made.owner.close()


def confirmed(attached: Attached) -> str:
    """The slot's confirmed LSN."""
    query = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s"
    with psycopg.connect(attached.database.dsn("postgres"), autocommit=True) as admin:
        return str(admin.execute(query, (attached.settings.slot,)).fetchall()[0][0])


def test_nothing_is_confirmed_while_an_append_is_under_way(attached: Attached) -> None:
    """Keepalives and feedback go on, the confirmed LSN stays; it moves when the append is durable."""
    gate = Gate(attached.settings)
    running = Running(attached.settings, gate)
    try:
        until(lambda: bool(running.feedbacks()), "streaming")
        gate.open.clear()
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x'""")
        assert gate.waiting.wait(30)
        before, told = confirmed(attached), len(running.feedbacks())
        until(lambda: len(running.feedbacks()) > told + 2, "the server is answered meanwhile")
        assert confirmed(attached) == before
        gate.open.set()
        until(lambda: confirmed(attached) != before, "the LSN moves on")
    finally:
        gate.open.set()
        running.end()
    assert len([c for p in attached.records() for c in p if c.transaction]) == 30


def test_a_stuck_log_ends_the_session_and_lets_the_server_stop(attached: Attached) -> None:
    """A log that takes nothing for stall_timeout ends the session; afterwards everything arrives once."""
    source = attached.settings.source.model_copy(update={"stall_timeout": 1.0})
    settings = attached.settings.model_copy(update={"source": source})
    gate = Gate(settings)
    running = Running(settings, gate)
    try:
        until(lambda: bool(running.feedbacks()), "streaming")
        gate.open.clear()
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x'""")
        assert gate.waiting.wait(30)
        until(lambda: any(isinstance(one, SourceDisconnected) for one in running.seen), "the session ends")
        with psycopg.connect(attached.database.dsn("postgres"), autocommit=True) as admin:
            query = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
            until(lambda: admin.execute(query, (settings.slot,)).fetchall() == [(False,)], "the slot is let go")
        gate.open.set()
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'y'""")
        attached.settle()
    finally:
        gate.open.set()
        running.end()
    changes = [c for p in attached.records() for c in p if c.transaction]
    assert len(changes) == len({(c.position, c.key) for c in changes}) == 60


steps = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.just(0)),
        st.tuples(st.just("commit"), st.integers(1, 50)),
        st.tuples(st.just("durable"), st.integers(0, 50)),
        st.tuples(st.just("server"), st.integers(0, 50)),
    ),
    max_size=60,
)


@given(steps)
def test_confirmed_never_passes_what_is_durable(story: list[tuple[str, int]]) -> None:
    """Whatever the order of events: confirmed never falls, and never passes a commit that is not durable."""
    progress = Progress(0)
    end = durable = adopted = highest = 0
    inside = False
    for step, amount in story:
        match step:
            case "begin":
                inside = True
                progress.begun()
            case "commit":
                inside = False
                end += amount
                progress.committed(end)
            case "durable":
                durable = min(end, durable + amount)
                progress.made_durable(durable)
            case _:
                progress.server_at(end + amount)
                if not inside and durable == end:
                    adopted = max(adopted, end + amount)
        assert highest <= progress.confirmed <= max(durable, adopted)
        highest = progress.confirmed
        assert progress.pending == (inside or durable < end)
