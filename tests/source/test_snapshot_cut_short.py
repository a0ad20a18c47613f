"""What cuts a reading short: what only the session knew must not be missing, and nothing is waited for in vain."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from attached_source import BIG, DOSSIER, PAYMENT, UNIT, Attached
from test_snapshot import MANY, hold_reading, markers, progress

from connector.change.record import SNAPSHOT_BEGIN, SNAPSHOT_END
from connector.source import readers
from connector.source.gap import request_text
from connector.source.index import request


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of few rows, so that small tables have many."""
    monkeypatch.setattr(readers, "ROWS", 100)


def test_a_large_row_that_moved_into_what_was_read(attached: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unread, it got a key among those that were read, without its large value; then the session ends: it is told."""
    attached.owner.execute(MANY)
    attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET noi_dung = %s WHERE id = 14000""", (BIG,))
    attached.settings = attached.settings_with(snapshot_age=0, snapshot_readers=1)
    go_on, read = threading.Event(), readers.Readers._chunk

    def held(self: Any, connection: Any, number: int, plan: Any, *how: Any) -> Any:
        if plan.table.selection.full_name == DOSSIER and plan.rows >= 300:
            go_on.wait(60)
        return read(self, connection, number, plan, *how)

    monkeypatch.setattr(readers.Readers, "_chunk", held)
    running = attached.start()
    try:
        running.until(lambda: progress(attached, DOSSIER) >= 300, "some of it is read")
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET id = 31 WHERE id = 14000""")
        attached.settle_stream(running)
        with attached.connect("postgres") as admin:
            admin.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
        go_on.set()
        running.until(lambda: running.sessions == 2 and attached.read(), "it goes on and has read all")
    finally:
        go_on.set()
        running.end()
    attached.assert_exact()


def test_a_large_row_that_is_emptied_away(attached: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unread and changed without its large value, then TRUNCATE: nothing of it is waited for, and the reading ends."""
    attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET noi_dung = %s WHERE id = 20""", (BIG,))
    attached.settings = attached.settings_with(snapshot_age=0)
    go_on = hold_reading(monkeypatch, DOSSIER)
    try:
        with attached.capturing() as running:
            attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x' WHERE id = 20""")
            attached.owner.execute("""TRUNCATE "mot cua"."Hồ sơ"; INSERT INTO "mot cua"."Hồ sơ" VALUES (7, 'M7')""")
            attached.settle_stream(running)
            go_on.set()
    finally:
        go_on.set()
    attached.assert_exact()
    assert running.faults == []


def test_a_migration_does_not_wait_for_the_first_read(attached: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that was read under the slot's snapshot is let go when somebody wants it, long before the read ends."""
    attached.owner.execute(MANY)
    go_on = hold_reading(monkeypatch, DOSSIER)
    running = attached.start()
    try:
        running.until(lambda: progress(attached, PAYMENT) == 3030, "the other tables are read")
        with attached.connect() as migration:
            migration.execute("SET lock_timeout = '30s'")
            migration.execute('ALTER TABLE "mot cua".thanh_toan ADD khac int')
        go_on.set()
        running.until_streaming()
        attached.settle(running)
    finally:
        go_on.set()
        running.end()
    attached.assert_exact()


def test_no_snapshot_is_held_longer_than_allowed(attached: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that has nothing to do under the slot's snapshot lets it go when its time is over."""
    attached.settings = attached.settings_with(snapshot_age=0.5)
    go_on = hold_reading(monkeypatch, DOSSIER)
    held = """SELECT count(*) FROM pg_stat_activity
               WHERE application_name = 'emc-cdc capture (snapshot)' AND backend_xmin IS NOT NULL"""
    running = attached.start()
    try:
        running.until(lambda: progress(attached, PAYMENT) == 30, "the other tables are read")
        running.until_streaming()
        running.until(lambda: attached.ask(held) == [(1,)], "only the one that reads holds it")
        go_on.set()
        attached.settle(running)
    finally:
        go_on.set()
        running.end()
    attached.assert_exact()


def test_a_table_that_is_locked_during_the_first_read(attached: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read under the slot's snapshot is read while it streams, and does not wait for `snapshot_age`."""
    attached.settings = attached.settings_with(lock_timeout=0.2)
    go_on = hold_reading(monkeypatch, UNIT)
    running = attached.start()
    try:
        running.until(lambda: progress(attached, PAYMENT) == 30, "the other tables are read")
        with attached.connect() as migration:
            migration.execute('BEGIN; LOCK TABLE "mot cua".don_vi IN ACCESS EXCLUSIVE MODE')
            go_on.set()
            readers_left = """SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL
                               AND application_name = 'emc-cdc capture (snapshot)'"""
            running.until(lambda: attached.ask(readers_left) == [(1,)], "the one that met the lock has left")
            migration.execute("COMMIT")
        running.until_streaming()
        attached.settle(running)
    finally:
        go_on.set()
        running.end()
    attached.assert_exact()


def test_a_reading_that_was_asked_for_outlives_the_index(attached: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another capture, whose index is made from the log, reads again what the first one had begun to."""
    with attached.capturing():
        pass
    go_on = hold_reading(monkeypatch, DOSSIER)
    running = attached.start()
    try:
        running.until_streaming()
        request(attached.settings.index, request_text([DOSSIER]))
        running.until(lambda: markers(attached, SNAPSHOT_BEGIN) == 2, "it has begun")
        attached.settle_stream(running)
    finally:
        running.end()
        go_on.set()
    attached.settings = attached.settings_with(data=str(attached.directory / "second"))
    with attached.capturing() as second:
        second.until(lambda: markers(attached, SNAPSHOT_END) == 2, "the second has read it")
    begun = [json.loads(c.content) for c in attached.records()[0] if c.marker == SNAPSHOT_BEGIN]
    assert [(one["reread"], len(one["tables"])) for one in begun] == [(False, 3), (True, 1), (True, 1)]
    attached.assert_exact()


def test_a_chunk_that_comes_after_the_end_is_left_to_be_read(
    monkeypatch: pytest.MonkeyPatch, attached: Attached
) -> None:
    """Readers fail while one of them still reads: what it brings when they are replaced is read once more."""
    attached.owner.execute(MANY)
    stop, read = readers.Readers.stop, readers.Readers._chunk
    stopping, failed = threading.Event(), threading.Event()

    def reads(self: Any, connection: Any, number: int, plan: Any, *how: Any) -> Any:
        if plan.table.selection.full_name == UNIT and not failed.is_set():
            failed.set()
            raise psycopg.errors.InsufficientPrivilege("permission denied, says the test")
        chunk = read(self, connection, number, plan, *how)
        if plan.table.selection.full_name == DOSSIER:
            assert stopping.wait(60)
        return chunk

    def stops(self: Any) -> None:
        stopping.set()
        stop(self)

    with attached.capturing() as running:
        monkeypatch.setattr(readers.Readers, "_chunk", reads)
        monkeypatch.setattr(readers.Readers, "stop", stops)
        request(attached.settings.index, request_text([DOSSIER, UNIT]))
        running.until(lambda: markers(attached, SNAPSHOT_END) == 2, "they are read again")
    attached.assert_exact()


def test_a_column_renamed_while_it_is_read(attached: Attached) -> None:
    """Rows are not told without it: the reading is held up, as the stream would be, until it is back."""
    with attached.capturing() as running:
        attached.owner.execute('ALTER TABLE "mot cua".thanh_toan RENAME so_tien TO tien')
        request(attached.settings.index, request_text([PAYMENT]))
        running.until(lambda: bool(running.faults), "it is told")
        assert "so_tien is not published any more" in running.faults[0].cause
        attached.owner.execute('ALTER TABLE "mot cua".thanh_toan RENAME tien TO so_tien')
        running.until(lambda: markers(attached, SNAPSHOT_END) == 2, "it is read again")
    attached.assert_exact()


def test_a_reader_without_work_holds_no_transaction(attached: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two readers see the only span that is left, and one takes it: the other waits outside of any transaction."""
    together, wait = threading.Barrier(2), readers.Readers._wait

    def waiting(self: Any, seconds: float | None = None) -> bool | None:
        ready = wait(self, seconds)
        if ready:
            with suppress(threading.BrokenBarrierError):
                together.wait(10)
        return ready

    open_ones = """SELECT count(*) FROM pg_stat_activity
                    WHERE application_name = 'emc-cdc capture (snapshot)' AND state = 'idle in transaction'"""
    with attached.capturing() as running:
        monkeypatch.setattr(readers.Readers, "_wait", waiting)
        go_on = hold_reading(monkeypatch, UNIT)
        request(attached.settings.index, request_text([UNIT]))
        try:
            running.until(lambda: attached.ask(open_ones) > [(0,)], "one has begun")
            for _ in range(20):
                assert attached.ask(open_ones) == [(1,)]
        finally:
            together.abort()
            go_on.set()
    attached.assert_exact()
