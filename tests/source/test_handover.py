"""Snapshot and stream meet while the application goes on writing."""

from __future__ import annotations

import threading
from random import Random

from attached_source import Attached, until

from connector.errors import LogError
from connector.log.contract import LogWriter
from connector.source.slot import take_turn

STATEMENTS = (
    """UPDATE "mot cua"."Hồ sơ" SET trang_thai = 's' || %(n)s WHERE id = %(id)s""",
    """INSERT INTO "mot cua"."Hồ sơ" VALUES (1000 + %(n)s, 'N', 'moi', repeat('x', 300), '', 0)""",
    """DELETE FROM "mot cua"."Hồ sơ" WHERE id = 1000 + %(n)s - 3""",
    """INSERT INTO "mot cua".thanh_toan VALUES (1000 + %(n)s, %(id)s, %(n)s, '')""",
    """UPDATE "mot cua".thanh_toan SET ho_so_id = %(id)s WHERE id = %(id)s %% 7 + 1""",
    """DELETE FROM "mot cua".thanh_toan WHERE id = 1000 + %(n)s - 5""",
    """UPDATE "mot cua".don_vi SET ten = 'Đơn vị ' || %(n)s""",
)


class Writer:
    """An application that never rests."""

    def __init__(self, attached: Attached) -> None:
        self._connection = attached.connect()
        self._stop = threading.Event()
        self.written = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        random = Random(7)
        while not self._stop.is_set():
            with self._connection.transaction():
                for _ in range(random.randint(1, 5)):
                    self.written += 1
                    values = {"n": self.written, "id": random.randint(1, 30)}
                    self._connection.execute(random.choice(STATEMENTS), values)

    def end(self) -> None:
        """Stop between two transactions."""
        self._stop.set()
        self._thread.join()
        self._connection.close()


def test_nothing_is_lost_or_doubled_where_snapshot_and_stream_meet(attached: Attached) -> None:
    """A writer that never rests, and a transaction that spans the hand-over: the log equals the tables."""
    writer = Writer(attached)
    spanning = attached.connect()
    running = None
    try:
        until(lambda: writer.written > 50, "the writer writes")
        # It has written nothing yet, so the slot need not wait for it; it writes while the snapshot is read.
        spanning.execute("BEGIN")
        spanning.execute("SELECT 1")
        running = attached.start()
        running.until(lambda: attached.slot("confirmed_flush_lsn") is not None, "the slot is made")
        spanning.execute("""INSERT INTO "mot cua"."Hồ sơ" VALUES (500, 'S', 'moi', NULL, '', 0)""")
        spanning.execute("""INSERT INTO "mot cua".thanh_toan VALUES (500, 500, 5, '')""")
        running.until_streaming()
        before = writer.written
        until(lambda: writer.written > before + 200, "the writer writes on")
        spanning.execute("""UPDATE "mot cua".thanh_toan SET so_tien = 6 WHERE id = 500""")
        spanning.execute("COMMIT")
        writer.end()
        attached.settle(running)
    finally:
        writer.end()
        spanning.close()
        if running is not None:
            running.end()
    attached.assert_exact()


def test_the_second_does_not_attach_while_the_first_reads(attached: Attached) -> None:
    """Without a slot in use there is still one who reads the tables: the other makes and drops nothing, and waits."""
    with attached.connect("emc_cdc") as first:
        take_turn(first, attached.settings.slot)
        running = attached.start()
        try:
            running.until(lambda: running.disconnects > 1, "it waits")
            assert [fault.cause for fault in running.faults] == ["another capture is attaching to it"]
            assert attached.slot("slot_name") is None
            first.close()
            running.until_streaming()
            attached.settle(running)
        finally:
            running.end()
    attached.assert_exact()


def test_an_old_transaction_does_not_leave_a_slot_behind(attached: Attached) -> None:
    """Making the slot waits for open transactions; when it gives up no slot is left, and later it succeeds."""
    old = attached.connect()
    with old.transaction():
        old.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'old' WHERE id = 1""")
        running = attached.start(slot_timeout=0.5)
        try:
            until(lambda: running.disconnects > 0, "it gives up")
        finally:
            running.end()
        assert f"pid {old.info.backend_pid} for" in running.faults[0].cause
        assert "pg_terminate_backend" in running.faults[0].mend
        until(lambda: attached.slot("slot_name") is None, "no slot is left")
    walsenders = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'emc-cdc capture'"
    until(lambda: attached.ask(walsenders) == [], "nobody makes a slot any more")
    assert attached.slot("slot_name") is None
    old.close()
    with attached.capturing():
        pass
    attached.assert_exact()


def test_a_snapshot_that_fails_leaves_no_slot_behind(attached: Attached) -> None:
    """A log that refuses while the slot is there already: the slot goes, because it would hold WAL for nobody."""

    def refuse() -> LogWriter:
        raise LogError("open the change log", "the log", "it refuses", "let it")

    running = attached.start(writer=refuse)
    try:
        until(lambda: running.failure is not None, "capture gives up")
    finally:
        running.end()
    assert isinstance(running.failure, LogError)
    assert attached.slot("slot_name") is None
    with attached.capturing():
        pass
    attached.assert_exact()
