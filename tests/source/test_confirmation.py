"""What PostgreSQL is told is durable, is durable; a log that stands still holds nobody up."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest
from attached_source import DOSSIER, Attached, Running, until

from connector.log.contract import Durability, Entry, LogWriter
from connector.log.opening import open_writer
from connector.settings import Settings


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


@contextmanager
def behind_a_gate(attached: Attached, settings: Settings) -> Iterator[tuple[Gate, Running]]:
    """Capture streams, its log's gate is open; at the end it is stopped in order."""
    gate = Gate(settings)
    running = attached.start(settings=settings, writer=gate.writer)
    try:
        running.until(lambda: bool(running.feedbacks), "streaming")
        attached.settle(running)
        yield gate, running
    finally:
        gate.open.set()
        running.end()
    assert running.failure is None


def assert_once(attached: Attached, updates: int) -> None:
    """So many updates of dossiers are in the log, each once, and the log equals the tables."""
    changes = attached.streamed(DOSSIER)
    assert len(changes) == len({(change.position, change.key) for change in changes}) == updates
    attached.assert_exact()


def test_nothing_is_confirmed_while_an_append_is_under_way(attached: Attached) -> None:
    """Keepalives and feedback go on, the confirmed LSN stays; it moves when the append is durable."""
    with behind_a_gate(attached, attached.settings) as (gate, running):
        gate.open.clear()
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x'""")
        assert gate.waiting.wait(60)
        commit = attached.ask("SELECT pg_current_wal_lsn()::text")[0][0]
        told = len(running.feedbacks)
        # A busy neighbour makes the server's own end, which keepalives tell, run ahead.
        attached.owner.execute("""INSERT INTO "mot cua".nhat_ky (dong) SELECT 'x' FROM generate_series(1, 1000)""")
        running.until(lambda: len(running.feedbacks) > told + 2, "the server is answered meanwhile")
        assert attached.slot(f"confirmed_flush_lsn < '{commit}'")
        gate.open.set()
        running.until(lambda: bool(attached.slot(f"confirmed_flush_lsn >= '{commit}'")), "the LSN moves on")
    assert_once(attached, 30)


def test_a_stuck_log_ends_the_session(attached: Attached) -> None:
    """A log that takes nothing for stall_timeout ends the session; afterwards everything arrives once."""
    with behind_a_gate(attached, attached.settings_with(stall_timeout=1.0)) as (gate, running):
        gate.open.clear()
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x'""")
        assert gate.waiting.wait(60)
        running.until(lambda: running.disconnects > 0, "the session ends")
        assert "taken nothing for 1 s" in running.faults[0].cause
        running.until(lambda: attached.slot("active") is False, "the slot is let go")
        gate.open.set()
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'y'""")
        attached.settle(running)
    assert_once(attached, 60)


@pytest.mark.heavy
def test_a_stuck_log_does_not_keep_the_server_from_stopping(attached: Attached) -> None:
    """An ordinary stop of PostgreSQL ends although the log takes nothing; after both are back all arrives once."""
    with behind_a_gate(attached, attached.settings_with(stall_timeout=1.0)) as (gate, running):
        gate.open.clear()
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x'""")
        assert gate.waiting.wait(60)
        attached.database.server.stop("fast")  # raises when it takes a minute
        gate.open.set()
        attached.database.server.start()
        until(lambda: running.sessions >= 2, "streaming again")
        attached.settle(running)
    assert_once(attached, 30)
