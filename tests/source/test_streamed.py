"""Transactions that the server streams while they are open: the log is what it would be without streaming."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from attached_source import DOSSIER, UNIT, Attached, until

from connector.change.record import Change, Op
from connector.log.opening import open_reader
from connector.settings import Settings

ROWS = 1500
"""Enough for several blocks at the least memory that a server can be given."""
GROWTH = 80 * 1024
"""Kilobytes a capture may take beside what it takes when idle, however large a transaction is."""


@pytest.fixture
def eager(attached: Attached) -> Attached:
    """A connector whose server streams as soon as open transactions take 64 kB."""
    attached.settings = attached.settings_with(dsn=dsn(attached))
    return attached


def dsn(attached: Attached, memory: str = "64kB") -> str:
    """A connection whose walsender has so much memory for open transactions."""
    return f"{attached.database.dsn('emc_cdc')} options='-c logical_decoding_work_mem={memory}'"


def streamed_transactions(attached: Attached) -> int:
    """How many transactions the server has sent in blocks."""
    question = "SELECT stream_txns FROM pg_stat_replication_slots WHERE slot_name = %s"
    return int(attached.ask(question, attached.settings.slot)[0][0])


def insert(first: int, rows: int = ROWS) -> str:
    """A statement that adds dossiers from a number on."""
    return (
        """INSERT INTO "mot cua"."Hồ sơ" SELECT g, 'M' || g, repeat('x', 40), NULL, NULL, 0"""
        f" FROM generate_series({first}, {first + rows - 1}) g"
    )


def told(changes: list[Change]) -> list[tuple[Any, ...]]:
    """What records say, but for the time of capture."""
    return [
        (c.table, c.key, c.op, c.before, c.after, c.position, c.lsn, c.transaction, c.last, c.commit_time_us)
        for c in changes
        if c.transaction
    ]


def settle_all(attached: Attached) -> None:
    """Wait until every slot of this database has confirmed everything there is now."""
    end = attached.ask("SELECT pg_current_wal_lsn()::text")[0][0]
    question = "SELECT bool_and(confirmed_flush_lsn >= %s::pg_lsn) FROM pg_replication_slots WHERE database = %s"
    until(lambda: attached.ask(question, end, attached.database.name) == [(True,)], "every slot moves on")


@pytest.mark.every_server
def test_the_log_is_the_same_with_and_without_streaming(eager: Attached) -> None:
    """Interleaved transactions, subtransactions rolled back, DDL's relations: as of a server that does not stream."""
    other = eager.written(slot="khac", data=str(eager.directory / "khac"), publication=eager.settings.publication)
    other["log"]["embedded"]["path"] = str(eager.directory / "khac.sqlite")
    calm = Settings.model_validate(other)
    with eager.capturing(), eager.capturing(settings=calm):
        one, two = eager.connect(), eager.connect()
        one.execute("BEGIN")
        two.execute("BEGIN")
        one.execute(insert(10_000))
        one.execute("SAVEPOINT a")
        two.execute(insert(20_000))
        one.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'sai' WHERE id >= 10000""")
        one.execute("SAVEPOINT b")
        one.execute("""DELETE FROM "mot cua"."Hồ sơ" WHERE id BETWEEN 10100 AND 10900""")
        one.execute("""INSERT INTO "mot cua".don_vi VALUES (2, 'sai')""")
        one.execute("RELEASE b")
        two.execute("""UPDATE "mot cua"."Hồ sơ" SET "Mã" = 'đổi' WHERE id < 25""")
        one.execute("ROLLBACK TO a")
        one.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'đúng' WHERE id BETWEEN 10000 AND 10700""")
        one.execute("""INSERT INTO "mot cua".don_vi VALUES (3, 'đúng')""")
        one.execute("SELECT pg_logical_emit_message(true, 'emc-cdc.thu', 'giữa chừng')")
        one.execute("SELECT pg_logical_emit_message(false, 'emc-cdc.thu', 'ngoài')")
        one.execute("""TRUNCATE "mot cua".thanh_toan""")
        two.execute("COMMIT")
        eager.owner.execute(insert(30_000, 3))
        eager.owner.execute("BEGIN")
        eager.owner.execute(insert(40_000))
        eager.owner.execute("ROLLBACK")
        one.execute("COMMIT")
        one.close()
        two.close()
        settle_all(eager)
    assert streamed_transactions(eager) >= 2
    eager.assert_exact()
    streamed = list(map(told, eager.records()))
    eager.settings = calm
    assert streamed_transactions(eager) == 0
    assert streamed == list(map(told, eager.records()))
    assert sum(map(len, streamed)) > 2 * ROWS
    assert {change.key for partition in eager.records() for change in partition if change.table == UNIT} == {
        ("1",), ("3",)
    }  # fmt: skip


def test_killed_in_a_streamed_transaction(eager: Attached) -> None:
    """The blocks that came before the end are forgotten, the whole transaction comes again, and is told once."""
    with eager.process(dsn=dsn(eager)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "streaming\n"
        eager.owner.execute("BEGIN")
        eager.owner.execute(insert(10_000))
        until(lambda: streamed_transactions(eager) > 0, "a block is sent")
        process.send_signal(signal.SIGKILL)
        process.wait()
    with eager.capturing():
        eager.owner.execute(insert(20_000))
        eager.owner.execute("COMMIT")
    assert len(eager.streamed(DOSSIER)) == 2 * ROWS
    eager.assert_exact()


def test_nothing_waits_for_a_streamed_transaction(eager: Attached) -> None:
    """While it is open, others are logged and confirmed; when it is rolled back, nothing of it is left."""
    with eager.capturing():
        slow = eager.connect()
        slow.execute("BEGIN")
        slow.execute(insert(10_000))
        until(lambda: streamed_transactions(eager) > 0, "a block is sent")
        eager.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'khác' WHERE id = 1""")
        eager.settle()
        assert [change.op for change in eager.streamed(DOSSIER)] == [Op.UPDATE]
        assert spools(eager) == []
        slow.execute("ROLLBACK")
        slow.close()
    assert len(eager.streamed(DOSSIER)) == 1


def test_a_server_that_stops_in_a_streamed_transaction(eager: Attached) -> None:
    """The transaction is gone with the server; the spool is empty for the next session."""
    with eager.capturing() as running:
        slow = eager.connect()
        slow.execute("BEGIN")
        slow.execute(insert(10_000))
        until(lambda: streamed_transactions(eager) > 0, "a block is sent")
        eager.database.server.restart("immediate")
        running.until_streaming(2)
        slow.close()
        eager.owner.close()
        eager.owner = eager.connect()
        eager.owner.execute(insert(50_000))
    assert len(eager.streamed(DOSSIER)) == ROWS
    eager.assert_exact()


@pytest.mark.parametrize("memory", ["1MB", "1GB"], ids=["streamed", "after the commit"])
def test_a_million_rows_in_one_transaction(attached: Attached, memory: str, pytestconfig: pytest.Config) -> None:
    """The server is answered all the while (it waits 8 s), and memory stays flat. Without --full, 400,000 rows."""
    rows = 1_000_000 if pytestconfig.getoption("--full") else 400_000
    with attached.process(dsn=dsn(attached, memory)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "streaming\n"
        idle = peak_memory(process.pid)
        before = logged(attached)
        attached.owner.execute(insert(10_000, rows))
        attached.settle()
        assert attached.slot("active")
        grown = peak_memory(process.pid) - idle
        process.terminate()
        said = process.stdout.read()
    assert said == "", "it was disconnected"
    assert grown <= GROWTH
    attached.settings = attached.settings_with(dsn=dsn(attached, memory))
    assert (streamed_transactions(attached) > 0) == (memory == "1MB")
    assert logged(attached) - before == rows


def peak_memory(process: int) -> int:
    """The most that a process has had resident, in kilobytes."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def logged(attached: Attached) -> int:
    """How many records there are in the log."""
    reader = open_reader(attached.settings)
    try:
        return sum(reader.ends().values())
    finally:
        reader.close()


def spools(attached: Attached) -> list[Path]:
    """Files of open transactions that have a name: there must be none."""
    known = (".sqlite", ".sqlite-wal", ".sqlite-shm", ".lock")
    return [path for path in (attached.directory / "capture").iterdir() if not path.name.endswith(known)]
