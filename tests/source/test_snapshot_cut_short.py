"""What cuts a reading short: what only the session knew must not be missing, and nothing is waited for in vain."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from attached_source import BIG, DOSSIER, Attached
from test_snapshot import MANY, hold_reading, progress

from connector.source import readers


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
