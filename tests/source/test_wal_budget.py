"""The slot within `source.wal_budget`: the database lives, whoever holds its WAL, and capture returns by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attached_source import Attached, Running, until
from gated_log import PATIENCE, behind_a_gate
from psycopg import sql

from connector.change.record import SNAPSHOT_BEGIN
from connector.observe import SlotRetained, SnapshotProgress, WalBudget
from connector.settings import Settings
from connector.source.gap import GAP
from connector.source.index import remembered

BUDGET = 40 * 1024**2
MISSED = (
    """UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'missed' WHERE id < 5""",
    """DELETE FROM "mot cua"."Hồ sơ" WHERE id = 7""",
    """DELETE FROM "mot cua".thanh_toan WHERE id = 8""",
    """INSERT INTO "mot cua".thanh_toan VALUES (100, 9, 7, '')""",
)
TOUCH = """UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x' WHERE id = 1"""


def pass_budget(attached: Attached) -> None:
    """A busy neighbour: more WAL than the budget, in four segments."""
    for _ in range(4):
        attached.owner.execute("""INSERT INTO "mot cua".nhat_ky (dong) VALUES ('x')""")
        attached.ask("SELECT pg_switch_wal()")


def checkpoint(attached: Attached) -> None:
    """WAL that nobody needs is removed, and what runs is noted in WAL, so that decoding can let go."""
    with attached.connect("postgres") as admin:
        admin.execute("CHECKPOINT")


def alerts(running: Running) -> list[WalBudget]:
    """What was told of the budget."""
    return [one for one in running.seen if isinstance(one, WalBudget)]


def looks(running: Running, over: int = 0) -> int:
    """How often the slot was measured, holding back more than `over`."""
    return len([one for one in running.seen if isinstance(one, SlotRetained) and one.retained > over])


def reads(attached: Attached) -> list[str]:
    """What the begin markers tell of why tables were read, one for each read."""
    return [change.content.decode() for change in attached.records()[0] if change.marker == SNAPSHOT_BEGIN]


def has_segment(attached: Attached, name: str) -> bool:
    """Whether the server still has a segment of WAL, after a checkpoint."""
    checkpoint(attached)
    return bool(attached.ask("SELECT 1 FROM pg_ls_waldir() WHERE name = %s", name))


def test_a_log_that_stands_still_does_not_fill_the_disk(attached: Attached) -> None:
    """Past the budget with drop_slot: the slot goes and its WAL with it, a neighbour's slot stays; nothing is made or
    read while the log is away; when it takes again the tables are read anew and the log is exact."""
    settings = attached.settings_with(stall_timeout=1.0, wal_budget=BUDGET, on_wal_budget="drop_slot")
    with behind_a_gate(attached, settings) as (gate, running):
        gate.open.clear()
        attached.owner.execute(TOUCH.encode())
        assert gate.waiting.wait(PATIENCE)
        for statement in MISSED:
            attached.owner.execute(statement.encode())
        # The segment that only our slot needs, and a neighbour's slot that begins behind it.
        (needed,) = attached.ask(
            "SELECT pg_walfile_name(restart_lsn) FROM pg_replication_slots WHERE slot_name = %s", settings.slot
        )[0]
        attached.ask("SELECT pg_switch_wal()")
        attached.ask("SELECT pg_create_logical_replication_slot('neighbour', 'pgoutput')")
        neighbour = "SELECT restart_lsn, confirmed_flush_lsn, wal_status FROM pg_replication_slots WHERE slot_name = %s"
        before = attached.ask(neighbour, "neighbour")
        assert has_segment(attached, needed)
        pass_budget(attached)
        running.until(lambda: attached.slot("slot_name") is None, "the slot goes")
        assert not has_segment(attached, needed)
        assert attached.ask(neighbour, "neighbour")[0][:2] == before[0][:2]
        running.until(lambda: bool(remembered(settings.index).get(GAP)), "the gap is remembered")
        told = [fault for fault in running.faults if "more than source.wal_budget (40 MB)" in fault.cause]
        assert [fault.mend.partition(",")[0] for fault in told] == ["the slot is dropped"]
        assert "the tables are read anew when the log takes again" in told[0].mend
        # The log is still away: it goes on trying, and neither makes a slot nor reads.
        rows = len([one for one in running.seen if isinstance(one, SnapshotProgress)])
        tried = running.disconnects
        running.until(lambda: running.disconnects > tried + 1, "it tries again")
        assert attached.slot("slot_name") is None
        assert not any("it was dropped to keep" in fault.cause for fault in running.faults)
        assert len([one for one in running.seen if isinstance(one, SnapshotProgress)]) == rows
        sessions = running.sessions
        gate.open.set()
        running.until_streaming(sessions + 1)
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'after' WHERE id = 2""")
        attached.settle(running)
    attached.assert_exact()
    first, again = reads(attached)
    assert '"gap": ""' in first
    assert "it was dropped to keep within source.wal_budget" in again
    assert [partition[-1].position.epoch for partition in attached.records()] == [2, 2, 2]
    assert not any(fault.fatal for fault in running.faults)
    # What delivery makes of the second read, only what changed and flagged as recovered: tests/delivery.


def test_alert_keeps_the_slot(attached: Attached) -> None:
    """Without drop_slot it is told once, and once more when it is over; nothing is lost."""
    settings = attached.settings_with(stall_timeout=1.0, wal_budget=BUDGET)
    with behind_a_gate(attached, settings) as (gate, running):
        gate.open.clear()
        attached.owner.execute(TOUCH.encode())
        assert gate.waiting.wait(PATIENCE)
        pass_budget(attached)
        running.until(lambda: looks(running, BUDGET) > 3, "it is over the budget")
        assert [alert.passed for alert in alerts(running)] == [True]
        assert "is not in the log yet" in alerts(running)[0].cause
        assert "emc-cdc guard --drop" in alerts(running)[0].mend
        gate.open.set()
        attached.settle(running)

        def over() -> bool:
            checkpoint(attached)
            return [alert.passed for alert in alerts(running)] == [True, False]

        running.until(over, "the end is told")
    attached.assert_exact()
    assert len(reads(attached)) == 1


@contextmanager
def prepared_transactions(attached: Attached) -> Iterator[None]:
    """The server takes prepared transactions for as long as the block lasts."""
    server = attached.database.server
    server.settings["max_prepared_transactions"] = "5"
    _restart(attached)
    try:
        yield
    finally:
        del server.settings["max_prepared_transactions"]
        _restart(attached)


def _restart(attached: Attached) -> None:
    attached.owner.close()
    attached.database.server.restart()
    attached.owner = attached.connect()


@pytest.mark.parametrize("kind", ["idle in transaction", "prepared"])
def test_a_transaction_that_holds_the_wal_is_named(attached: Attached, kind: str) -> None:
    """Capture is up to date, an open transaction holds restart_lsn: it is named with the SQL that ends it, a younger
    one is not, and the slot is kept whatever on_wal_budget says."""
    settings = attached.settings_with(stall_timeout=1.0, wal_budget=BUDGET, on_wal_budget="drop_slot")
    if kind == "prepared":
        with prepared_transactions(attached):
            _hold(attached, settings, prepared=True)
    else:
        _hold(attached, settings, prepared=False)
    attached.assert_exact()
    assert len(reads(attached)) == 1


def _hold(attached: Attached, settings: Settings, *, prepared: bool) -> None:
    held = attached.connect()
    held.execute("SET application_name = 'mot-cua web'")
    running = attached.start(settings=settings)
    try:
        running.until_streaming()
        held.execute("BEGIN")
        held.execute("""INSERT INTO "mot cua".nhat_ky (dong) VALUES ('held')""")
        if prepared:
            held.execute("PREPARE TRANSACTION 'hợp ''đồng'")
        for _ in range(20):
            attached.owner.execute("""INSERT INTO "mot cua".nhat_ky (dong) VALUES ('x')""")
        with attached.connect() as young:
            innocent = str(young.info.backend_pid)
            pass_budget(attached)
            attached.settle(running)
            with young.transaction():
                young.execute("""INSERT INTO "mot cua".nhat_ky (dong) VALUES ('young')""")
                running.until(lambda: any("not we hold it" in a.cause for a in alerts(running)), "it is told")
                seen = looks(running, BUDGET)
                running.until(lambda: looks(running, BUDGET) > seen + 1, "and looked at again")
        told = next(alert for alert in alerts(running) if "not we hold it" in alert.cause)
        if prepared:
            assert "prepared transaction hợp 'đồng" in told.cause
            assert "ROLLBACK PREPARED 'hợp ''đồng';" in told.mend
        else:
            assert f"server process {held.info.backend_pid} (of mot-cua web" in told.cause
            assert f"SELECT pg_terminate_backend({held.info.backend_pid});" in told.mend
        assert innocent not in told.mend
        assert attached.slot("active") is True
        held.execute("COMMIT PREPARED 'hợp ''đồng'" if prepared else "COMMIT")

        def over() -> bool:
            attached.owner.execute("""INSERT INTO "mot cua".nhat_ky (dong) VALUES ('x')""")
            checkpoint(attached)
            return not alerts(running)[-1].passed

        running.until(over, "the end is told")
        attached.settle(running)
    finally:
        running.end()
        held.close()
        for (name,) in attached.ask("SELECT gid FROM pg_prepared_xacts"):
            with attached.connect() as owner:  # or the server will not start without them
                owner.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(name)))
    assert running.sessions == 1


def test_a_backlog_that_is_worked_off_is_no_reason(attached: Attached) -> None:
    """Over the budget at the start, after an outage of ours: the log takes, the distance shrinks, the slot is kept."""
    settings = attached.settings_with(wal_budget=BUDGET, on_wal_budget="drop_slot")
    with attached.capturing(settings=settings):
        pass
    attached.owner.execute(TOUCH.encode())
    pass_budget(attached)
    with attached.capturing(settings=settings) as running:
        running.until(lambda: looks(running) > 2, "it is measured")
        attached.settle(running)
    attached.assert_exact()
    assert len(reads(attached)) == 1


def test_the_second_capture_does_not_act(attached: Attached, tmp_path: Path) -> None:
    """One streams and is stuck, the other waits for the slot: what to do is the first one's affair."""
    patient = attached.settings_with(stall_timeout=300.0, wal_budget=BUDGET)
    with behind_a_gate(attached, patient) as (gate, first):
        gate.open.clear()
        attached.owner.execute(TOUCH.encode())
        assert gate.waiting.wait(PATIENCE)
        waiting = attached.settings_with(
            data=str(tmp_path / "second"), stall_timeout=0.5, wal_budget=BUDGET, on_wal_budget="drop_slot"
        )
        second = attached.start(settings=waiting)
        try:
            second.until(lambda: second.disconnects > 0, "it waits")
            pass_budget(attached)
            second.until(lambda: looks(second, BUDGET) > 3, "it sees it")
            first.until(lambda: len(alerts(first)) == 1, "the first tells it")
            assert alerts(second) == []
            assert [fault.operation for fault in second.faults] == ["resume from the replication slot"]
            assert attached.slot("active") is True
        finally:
            second.end()
        gate.open.set()
        attached.settle(first)
    attached.assert_exact()


def test_a_slot_dropped_by_somebody_else_is_made_anew(attached: Attached) -> None:
    """With drop_slot a slot that is gone (`emc-cdc guard` was here) asks nobody; any other gap still does."""
    settings = attached.settings_with(wal_budget=BUDGET, on_wal_budget="drop_slot")
    with attached.capturing(settings=settings):
        pass
    attached.ask("SELECT pg_drop_replication_slot(%s)", settings.slot)
    for statement in MISSED:
        attached.owner.execute(statement.encode())
    with attached.capturing(settings=settings):
        pass
    attached.assert_exact()
    assert len(reads(attached)) == 2
    attached.owner.execute(TOUCH.encode())
    attached.ask("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", settings.slot)
    refused = attached.refused(settings=settings)
    assert "moved on by somebody else" in refused.cause
    until(lambda: attached.slot("active") is False, "the slot is kept")
