"""Decoding on a standby: attaching, streaming, its promotion, and what invalidates its slots."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from attached_source import DOSSIER, Attached, Running, assert_told_once, until
from plugins.replica import private, promote, standby_of
from test_takeover import epochs, reads

from connector.cli.status import _source as slot_status
from connector.source.gap import request_text
from connector.source.index import request


class OnStandby(Attached):
    """A connector that reads from a standby of the application's database."""

    def begin(self, **how: object) -> Running:
        """Start capture; the primary is asked for what the making of a slot waits for."""
        running = self.start(**how)
        running.until(self._streams(running), "it attaches")
        return running

    def _streams(self, running: Running) -> Callable[[], bool]:
        def streams() -> bool:
            self.ask("SELECT pg_log_standby_snapshot()")
            return running.sessions > 0

        return streams

    def standby(self, query: str) -> object:
        """A superuser's question to the standby."""
        with psycopg.connect(self.decoded.dsn("postgres"), autocommit=True) as admin:
            return admin.execute(query.encode()).fetchone()[0]  # type: ignore[index]

    def caught_up(self) -> None:
        """Wait until the standby has applied all that the primary has written."""
        end = self.ask("SELECT pg_current_wal_lsn()::text")[0][0]
        until(lambda: bool(self.standby(f"SELECT pg_last_wal_replay_lsn() >= '{end}'")), "the standby has it all")


@pytest.fixture(params=[16, 18], ids=["pg16", "pg18"])
def attached(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OnStandby]:
    """The connector, set up on the primary and pointed to its standby."""
    with ExitStack() as stack:
        primary = private(stack, request.param)
        made = OnStandby(primary, tmp_path)
        stack.callback(made.close)
        made.set_up()
        made.decoded = standby_of(stack, primary)
        made.settings = made.settings_with()
        made.caught_up()
        yield made


def test_a_standby_is_read_and_promoted_meanwhile(attached: OnStandby) -> None:
    """Nobody touches the primary; the standby takes its place under the stream, which goes on under a new epoch."""
    running = attached.begin()
    try:
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'a'""")
        attached.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id = 1""")
        attached.settle(running)
        attached.assert_exact()
        assert slot_status(attached.settings)["active"] is True
        assert attached.ask("SELECT slot_name FROM pg_replication_slots WHERE slot_type = 'logical'") == []
        # A standby that is started again is waited for until it is as far as it was.
        attached.decoded.server.restart("immediate")
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'b'""")
        running.until_streaming(2)
        attached.settle(running)
        attached.database.server.stop("immediate")
        promote(attached.decoded)
        attached.owner.close()
        attached.database = attached.decoded
        attached.owner = attached.connect()
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'c' WHERE id < 9""")
        attached.owner.execute("""UPDATE "mot cua".thanh_toan SET ho_so_id = ho_so_id % 30 + 1""")
        running.until(lambda: epochs(attached) == [[1, 2]] * 3, "the epoch rises")
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'd' WHERE id < 9""")
        attached.settle(running)
    finally:
        running.end()
    assert running.failure is None
    attached.assert_exact()
    assert_told_once(attached.records())
    assert reads(attached) == 1
    assert len(attached.streamed(DOSSIER)) == 30 + 30 + 8 + 8
    assert not any(fault.fatal for fault in running.faults)


def test_the_making_of_a_slot_waits_for_the_primary(attached: OnStandby) -> None:
    """When nothing comes of the primary's running transactions the mend names the function that tells them."""
    attached.standby("SELECT pg_wal_replay_pause()::text")
    refused = attached.refused(slot_timeout=0.5)
    assert "running transactions" in refused.cause
    assert "SELECT pg_log_standby_snapshot();" in refused.mend
    assert attached.slot("slot_name") is None
    attached.standby("SELECT pg_wal_replay_resume()::text")
    attached.begin().end()
    attached.assert_exact()


def test_the_primary_stops_to_write_what_decoding_needs(attached: OnStandby) -> None:
    """Its wal_level is lowered, which invalidates the standby's slots: it is told, and closed when that is mended."""
    running = attached.begin()
    try:
        attached.settle(running)
        primary = attached.database.server
        attached.owner.close()
        primary.settings["wal_level"] = "replica"
        primary.restart()
        until(lambda: running.failure is not None, "capture stops")
    finally:
        running.end()
    assert "wal_level" in str(running.failure), running.failure
    with attached.connect() as owner:
        owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'missed' WHERE id < 9""")
    attached.caught_up()
    request(attached.settings.index, request_text(None))
    running = attached.start()
    until(lambda: running.failure is not None, "a standby of such a primary cannot be attached to")
    running.end()
    assert "wal_level" in str(running.failure)
    primary.settings["wal_level"] = "logical"
    primary.restart()
    attached.caught_up()
    running = attached.begin()
    try:
        attached.settle(running)
    finally:
        running.end()
    attached.assert_exact()
    assert reads(attached) == 2
