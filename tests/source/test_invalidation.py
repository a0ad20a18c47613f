"""A slot that PostgreSQL has invalidated (max_slot_wal_keep_size): noticed at once, told with the runbook's line."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from attached_source import Attached, Running, until
from gated_log import PATIENCE, Gate

from connector.errors import LogUnavailable
from connector.log.contract import LogWriter
from connector.log.opening import open_writer
from connector.observe import SlotRetained
from connector.settings import Settings
from connector.source.gap import GAP, REQUEST, request_text
from connector.source.index import remembered, request

pytestmark = pytest.mark.every_server

TOUCH = """UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x' WHERE id = 1"""


@pytest.fixture
def bounded(attached: Attached) -> Iterator[Attached]:
    """The server keeps one segment for a slot, and no more."""
    _keep(attached, "SET max_slot_wal_keep_size = '1MB'", "1MB")
    yield attached
    _keep(attached, "RESET max_slot_wal_keep_size", "-1")


def _keep(attached: Attached, setting: str, shown: str) -> None:
    with attached.connect("postgres") as admin:
        admin.execute(f"ALTER SYSTEM {setting}".encode())
    attached.ask("SELECT pg_reload_conf()")
    until(lambda: attached.ask("SHOW max_slot_wal_keep_size") == [(shown,)], "the server has read it")


def invalidate(attached: Attached) -> None:
    """A busy neighbour passes the bound, and a checkpoint keeps it."""

    def lost() -> bool:
        attached.owner.execute("""INSERT INTO "mot cua".nhat_ky (dong) VALUES ('x')""")
        attached.ask("SELECT pg_switch_wal()")
        with attached.connect("postgres") as admin:
            admin.execute("CHECKPOINT")
        return attached.slot("wal_status") == "lost"

    until(lost, "the slot is lost")
    if attached.database.version >= 17:
        assert attached.slot("invalidation_reason") == "wal_removed"


def assert_told(attached: Attached, running: Running) -> None:
    """It has stopped for a person, with the runbook's line; and goes on when that was obeyed."""
    until(lambda: running.failure is not None, "capture stops")
    assert running.failure is not None
    assert "PostgreSQL has removed WAL that it needs (max_slot_wal_keep_size)" in str(running.failure)
    assert "emc-cdc snapshot --all" in running.failure.mend  # type: ignore[attr-defined]
    assert running.faults[-1].fatal


def assert_mended(attached: Attached) -> None:
    """What the line says is done: the dead slot is replaced, the log is exact, nothing is remembered of it."""
    request(attached.settings.index, request_text(None))
    with attached.capturing():
        pass
    attached.assert_exact()
    meta = remembered(attached.settings.index)
    assert (meta[GAP], meta[REQUEST]) == ("", "")


def test_while_capture_was_away(bounded: Attached) -> None:
    """The next start fails fast."""
    with bounded.capturing():
        pass
    bounded.owner.execute(TOUCH.encode())
    invalidate(bounded)
    running = bounded.start()
    try:
        assert_told(bounded, running)
    finally:
        running.end()
    assert running.sessions == 0
    assert_mended(bounded)


def test_while_it_streams(bounded: Attached) -> None:
    """The log is slow, not away: the server ends the stream, and capture says why instead of trying for ever."""
    gate = Gate(bounded.settings)
    running = bounded.start(settings=bounded.settings_with(stall_timeout=5.0), writer=gate.writer)
    try:
        running.until_streaming()
        bounded.settle(running)
        gate.open.clear()
        bounded.owner.execute(TOUCH.encode())
        assert gate.waiting.wait(PATIENCE)
        invalidate(bounded)
        assert_told(bounded, running)
    finally:
        gate.open.set()
        running.end()
    assert_mended(bounded)


class Away:
    """A log that refuses to be opened, or does not answer, as a cluster without its network."""

    def __init__(self, settings: Settings, answers: bool) -> None:
        self._settings = settings
        self._answers = answers
        self.away = False
        self.asked = threading.Event()
        self.over = threading.Event()

    def writer(self) -> LogWriter:
        """The real one, while it is not away."""
        if self.away:
            self.asked.set()
            if not self._answers:
                self.over.wait(PATIENCE)
            raise LogUnavailable("open the change log", "the log", "it is away", "bring it back")
        return open_writer(self._settings)


@pytest.mark.parametrize("answers", [True, False], ids=["refuses", "hangs"])
def test_while_the_log_is_away(bounded: Attached, answers: bool) -> None:
    """Between two attempts or in the midst of one: it is told although the log has not come back."""
    log = Away(bounded.settings, answers)
    running = bounded.start(writer=log.writer)
    try:
        running.until_streaming()
        bounded.settle(running)
        log.away = True
        bounded.ask("SELECT pg_terminate_backend(%s)", bounded.slot("active_pid"))
        assert log.asked.wait(PATIENCE)
        seen = looks(running)
        running.until(lambda: looks(running) > seen, "the slot is seen in order")
        bounded.owner.execute(TOUCH.encode())
        invalidate(bounded)
        assert_told(bounded, running)
        assert not any("has taken nothing" in fault.cause for fault in running.faults), "it waited for the log"
    finally:
        log.over.set()
        running.end()
    assert_mended(bounded)


def looks(running: Running) -> int:
    """How often the slot was measured."""
    return len([one for one in running.seen if isinstance(one, SlotRetained)])
