"""What PostgreSQL is told is durable, is durable; a log that stands still holds nobody up."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from attached_source import DOSSIER, Attached, until
from gated_log import behind_a_gate
from plugins.log import Around

from connector.log.opening import open_writer


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


def test_the_server_is_answered_while_the_log_is_opened(attached: Attached) -> None:
    """A log that takes longer to open than wal_sender_timeout allows for silence costs no connection."""
    with attached.capturing():
        pass

    class Slow(Around):
        """The real writer, which opens late."""

        def open(self) -> Mapping[int, bytes]:
            threading.Event().wait(12.0)
            return super().open()

    with attached.capturing(writer=lambda: Slow(open_writer(attached.settings))) as running:
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x'""")
        attached.settle(running)
    assert running.sessions == 1
    assert not running.faults
    assert_once(attached, 30)
