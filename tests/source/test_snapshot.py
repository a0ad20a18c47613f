"""Tables read in chunks while the application writes: reads and stream together are exact, whatever interrupts them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest
from attached_source import BIG, DOSSIER, PAYMENT, UNIT, Attached, Running, until
from psycopg import sql
from test_handover import Writer

from connector.change.record import SNAPSHOT_BEGIN, SNAPSHOT_END, Change, Op
from connector.observe import SnapshotProgress
from connector.source import readers
from connector.source.gap import request_text
from connector.source.index import remembered, request

MANY = """
INSERT INTO "mot cua"."Hồ sơ" SELECT g, 'M' || g, 'moi', NULL, 'bí mật', 0 FROM generate_series(10001, 14000) g;
INSERT INTO "mot cua".thanh_toan SELECT g, g, g * 1.5, '' FROM generate_series(10001, 13000) g;
"""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of few rows, so that small tables have many."""
    monkeypatch.setattr(readers, "ROWS", 100)


@contextmanager
def writing(attached: Attached) -> Iterator[Writer]:
    """An application that never rests while the block runs."""
    writer = Writer(attached)
    try:
        yield writer
    finally:
        writer.end()


def markers(attached: Attached, marker: str) -> int:
    """How many snapshots began, or ended, in every partition."""
    return min(sum(change.marker == marker for change in partition) for partition in attached.records())


def reads(attached: Attached, table: str) -> list[Change]:
    """A table's reads, partition by partition."""
    return [c for partition in attached.records() for c in partition if c.table == table and c.op is Op.READ]


def ask_for(attached: Attached, running: Running, *tables: str) -> None:
    """Have tables read again, and wait for the end of it."""
    before = markers(attached, SNAPSHOT_END)
    request(attached.settings.index, request_text(list(tables) or None))
    running.until(lambda: markers(attached, SNAPSHOT_END) == before + 1, "the tables are read again")


@pytest.mark.parametrize("age", [600, 0], ids=["before streaming", "while streaming"])
def test_the_union_is_exact(attached: Attached, age: float) -> None:
    """A writer that changes, moves and deletes what is read: the log equals the tables, and every row is read once."""
    attached.owner.execute(MANY)
    attached.settings = attached.settings_with(snapshot_age=age)
    with writing(attached) as writer:
        running = attached.start()
        try:
            running.until(lambda: markers(attached, SNAPSHOT_END) == 1 if running.sessions else False, "it is read")
            before = writer.written
            until(lambda: writer.written > before + 50, "the writer writes on")
            writer.end()
            attached.settle(running)
        finally:
            running.end()
    attached.assert_exact()
    keys = [change.key for change in reads(attached, DOSSIER)]
    assert len(keys) == len(set(keys))
    assert markers(attached, SNAPSHOT_BEGIN) == 1


@pytest.mark.parametrize("age", [600, 0], ids=["before streaming", "while streaming"])
def test_killed_again_and_again(attached: Attached, age: float) -> None:
    """Killed at many points while it reads, with the application writing: finished chunks stay, nothing is missing."""
    attached.owner.execute(
        """INSERT INTO "mot cua"."Hồ sơ" SELECT g, 'M', 'moi', repeat('x', 50) FROM generate_series(5000001, 5040000) g;
        INSERT INTO "mot cua".thanh_toan SELECT g, g, 1, '' FROM generate_series(5000001, 5040000) g"""
    )
    random = Random(3)
    killed = 0
    with writing(attached):
        for _ in range(8):
            with attached.process(crash_after=random.randint(1, 40_000), snapshot_age=age) as process:
                until(lambda p=process: p.poll() is not None or attached.read(), "it is killed, or has read all")  # type: ignore[misc]
                killed += process.poll() is not None
    with attached.capturing():
        pass
    attached.assert_exact()
    assert killed > 1
    assert markers(attached, SNAPSHOT_END) == 1
    found = [change.key for change in reads(attached, DOSSIER)]
    # What was under way when it was killed is read again: a few chunks each time, never all.
    assert len(found) < len(set(found)) + 10_000 * 4 * killed
    assert {change.position.epoch for partition in attached.records() for change in partition} == {1}


def test_a_table_is_read_again_while_streaming(attached: Attached) -> None:
    """On request, beside a writer: only that table, in the same epoch, and nothing contradicts the stream."""
    attached.owner.execute(MANY)
    with attached.capturing() as running, writing(attached) as writer:
        until(lambda: writer.written > 20, "the writer writes")
        before = len(reads(attached, DOSSIER))
        ask_for(attached, running, PAYMENT)
        writer.end()
    attached.assert_exact()
    assert len(reads(attached, DOSSIER)) == before
    begun = next(c for c in reversed(attached.records()[0]) if c.marker == SNAPSHOT_BEGIN)
    assert f'"tables": ["{PAYMENT}"], "reread": true' in begun.content.decode()
    assert {change.position.epoch for partition in attached.records() for change in partition} == {1}
    assert remembered(attached.settings.index)["state"] == "streaming"
    in_order(attached)


def in_order(attached: Attached) -> None:
    """A read never takes a row back to what it was before a change that stands before it."""
    for partition in attached.records():
        told: dict[tuple[str, ...], Change] = {}
        for change in partition:
            if change.table != DOSSIER:
                continue
            before = told.get(change.key)
            if change.op is Op.READ and before is not None and before.op in (Op.CREATE, Op.UPDATE, Op.READ):
                assert change.after == before.after
            told[change.key] = change


def test_reading_waits_for_no_wal_of_its_own(attached: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle server flushes what reading writes only now and then: dozens of chunks do not wait for it each."""
    attached.owner.execute(MANY)
    look, lock = readers.Readers._look, threading.Lock()

    def after_some_wal(*arguments: Any) -> Any:
        with lock:  # as hint bits and pruning do: no transaction, and nobody flushes it
            attached.owner.execute("BEGIN; SELECT pg_logical_emit_message(false, 'somebody', 'else'); ROLLBACK")
        return look(*arguments)

    done = threading.Event()

    def flushed_now_and_then() -> None:
        with attached.connect() as connection:
            while not done.wait(5):
                connection.execute("SELECT pg_logical_emit_message(false, 'somebody', 'else')")

    flushing = threading.Thread(target=flushed_now_and_then)
    flushing.start()
    try:
        with attached.capturing() as running:
            monkeypatch.setattr(readers.Readers, "_look", after_some_wal)
            ask_for(attached, running)
    finally:
        done.set()
        flushing.join()
    attached.assert_exact()


def test_all_tables_are_read_again_while_streaming(attached: Attached) -> None:
    """`snapshot --all` of a whole stream needs no new slot and no new epoch; what went missing in the log is back."""
    with attached.capturing() as running:
        created = attached.slot("xmin"), attached.slot("slot_name")
        ask_for(attached, running)
        assert (attached.slot("xmin"), attached.slot("slot_name")) == created
        in_order(attached)
    attached.assert_exact()
    assert all(len(reads(attached, table)) >= 2 for table in (DOSSIER, PAYMENT, UNIT))


def test_a_commit_is_decodable_before_it_is_visible(attached: Attached) -> None:
    """A commit that waits for a synchronous standby is streamed, and no read takes it back (or is lost by it)."""
    attached.settings = attached.settings_with(snapshot_age=0)
    waiting = threading.Thread(
        target=lambda: attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'newer' WHERE id <= 15""")
    )
    with attached.capturing() as running:
        standby(attached, "nobody")
        try:
            waiting.start()
            streamed = [f"{number}" for number in range(1, 16)]
            running.until(
                lambda: sorted(c.key[0] for c in attached.streamed(DOSSIER)) == sorted(streamed), "it is streamed"
            )
            with attached.connect() as other:
                seen = other.execute("""SELECT count(*) FROM "mot cua"."Hồ sơ" WHERE trang_thai = 'newer'""").fetchone()
            assert seen == (0,)
            request(attached.settings.index, request_text(None))
            running.until(lambda: markers(attached, SNAPSHOT_BEGIN) == 2, "a reading begins")
            assert markers(attached, SNAPSHOT_END) == 1
        finally:
            standby(attached, "")
            waiting.join()
        running.until(lambda: markers(attached, SNAPSHOT_END) == 2, "the tables are read again")
    attached.assert_exact()
    in_order(attached)


def standby(attached: Attached, name: str) -> None:
    """Have commits wait for a synchronous standby of this name; empty for none."""
    with attached.connect("postgres") as admin:
        admin.execute("SET synchronous_commit = local")
        admin.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'".encode())
        admin.execute("SELECT pg_reload_conf()")
        shown = "SELECT current_setting('synchronous_standby_names')"
    until(lambda: attached.ask(shown) == [(name,)], "the server has read its configuration")


def test_a_commit_that_becomes_visible_late_while_it_is_read(
    attached: Attached, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins to wait after the reading has begun: chunks that do not see it leave its rows to the stream."""
    attached.owner.execute(MANY)
    update = """UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'newer' WHERE id > 10000"""
    waiting = threading.Thread(target=lambda: attached.owner.execute(update))
    with attached.capturing() as running:
        streamed = hold_reading(monkeypatch, DOSSIER)
        request(attached.settings.index, request_text(None))
        running.until(lambda: progress(attached, UNIT) > 0, "it reads")
        standby(attached, "nobody")
        try:
            waiting.start()
            running.until(lambda: len(attached.streamed(DOSSIER)) == 4000, "it is streamed")
            streamed.set()
            running.until(lambda: markers(attached, SNAPSHOT_END) == 2, "the tables are read again")
        finally:
            standby(attached, "")
            waiting.join()
    attached.assert_exact()
    in_order(attached)
    assert len(reads(attached, DOSSIER)) == 4030 + 30, "what was overtaken is not told"


def hold_reading(monkeypatch: pytest.MonkeyPatch, table: str) -> threading.Event:
    """Have the chunks of a table not read before the event is set."""
    go_on, read = threading.Event(), readers.Readers._chunk

    def held(self: Any, connection: Any, number: int, plan: Any, *how: Any) -> Any:
        if plan.table.selection.full_name == table:
            assert go_on.wait(60)
        return read(self, connection, number, plan, *how)

    monkeypatch.setattr(readers.Readers, "_chunk", held)
    return go_on


def progress(attached: Attached, table: str) -> int:
    """Rows of a table that the snapshot under way has told."""
    dumped = remembered(attached.settings.index).get("snapshot", "")
    return int(json.loads(dumped)["tables"][table]["rows"]) if dumped else 0


def test_large_values_of_rows_that_are_not_read_yet(attached: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    """An UPDATE that leaves a TOASTed value out, of a row that no chunk has told: no hole, and the read tells it."""
    attached.owner.execute(MANY)
    attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET noi_dung = %s WHERE id %% 400 = 0""", (BIG,))
    attached.settings = attached.settings_with(snapshot_age=0)
    stop = threading.Event()
    go_on = hold_reading(monkeypatch, DOSSIER)

    def touch() -> None:
        with attached.connect() as owner:
            while not stop.wait(0.001):
                owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = md5(trang_thai) WHERE id % 400 = 0""")

    toucher = threading.Thread(target=touch)
    try:
        with attached.capturing() as running:
            toucher.start()
            update = """UPDATE "mot cua"."Hồ sơ" SET id = id + 1000000 WHERE id IN (10400, 10800)"""
            attached.owner.execute(update)
            attached.owner.execute("""DELETE FROM "mot cua"."Hồ sơ" WHERE id = 11200""")
            attached.settle_stream(running)
            go_on.set()
            running.until(lambda: markers(attached, SNAPSHOT_END) == 1, "it is read")
            stop.set()
            toucher.join()
    finally:
        stop.set()
        toucher.join()
    attached.assert_exact()


def test_truncated_and_rewritten_while_it_is_read(attached: Attached) -> None:
    """TRUNCATE, VACUUM FULL and a new type between chunks: nothing comes back, nothing looks empty that is not."""
    attached.owner.execute(MANY)
    attached.settings = attached.settings_with(snapshot_age=0)
    with attached.capturing() as running:
        for number in range(6):
            request(attached.settings.index, request_text(None))
            running.until(lambda n=number: markers(attached, SNAPSHOT_BEGIN) == n + 2, "a reading begins")  # type: ignore[misc]
            attached.owner.execute('VACUUM FULL "mot cua"."Hồ sơ"')
            attached.owner.execute(
                f"""ALTER TABLE "mot cua".thanh_toan ALTER so_tien TYPE numeric({14 + number},2);
                TRUNCATE "mot cua".don_vi; INSERT INTO "mot cua".don_vi VALUES ({number}, 'mới')""".encode()
            )
            running.until(lambda n=number: markers(attached, SNAPSHOT_END) == n + 2, "all is read")  # type: ignore[misc]
    attached.assert_exact()


def test_never_more_connections_than_allowed(attached: Attached) -> None:
    """`snapshot_readers` beside the one that streams, that for questions, and those that watch and measure."""
    attached.owner.execute(MANY)
    attached.settings = attached.settings_with(snapshot_readers=3, snapshot_age=0)
    asked = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'emc_cdc' AND datname = current_database()"
    most = 0
    with attached.connect("postgres") as admin, attached.capturing() as running:

        def read() -> bool:
            nonlocal most
            row = admin.execute(asked).fetchone()
            assert row is not None
            most = max(most, row[0])
            return attached.read()

        running.until(read, "it is read")
        # A connection that has been closed is seen until its process has ended.
        until(lambda: admin.execute(asked).fetchone() in ((1,), (2,), (3,)), "the readers' connections are gone")
    assert 1 < most <= 3 + 4


def test_a_locked_table_is_waited_for_without_blocking_anybody(
    attached: Attached, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration holds a table: the reading waits with short lock timeouts, and goes on when it is over."""
    attached.settings = attached.settings_with(lock_timeout=0.2)
    with attached.capturing() as running, attached.connect() as migration:
        go_on = hold_reading(monkeypatch, PAYMENT)
        request(attached.settings.index, request_text([UNIT, PAYMENT]))
        # A lock of a table takes a transaction id: the reading must have begun before it.
        running.until(lambda: progress(attached, UNIT) > 0, "it has begun")
        migration.execute('BEGIN; LOCK TABLE "mot cua".thanh_toan IN ACCESS EXCLUSIVE MODE')
        go_on.set()
        attached.owner.execute("""UPDATE "mot cua".don_vi SET ten = 'x'""")
        running.until(lambda: len(attached.streamed(UNIT)) > 0, "the stream goes on")
        until(
            lambda: attached.ask("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(0,)], "no lock is waited for"
        )
        migration.execute("ROLLBACK")
        running.until(lambda: markers(attached, SNAPSHOT_END) == 2, "it is read again")
    attached.assert_exact()


def test_progress_tells_rate_and_age(attached: Attached) -> None:
    """Rows, the planner's estimate, the rate, and for how long a snapshot has been held."""
    attached.owner.execute(MANY)
    attached.owner.execute('ANALYZE "mot cua"."Hồ sơ"')
    with attached.capturing() as running:
        pass
    last = [one for one in running.seen if isinstance(one, SnapshotProgress) and one.table == DOSSIER][-1]
    assert (last.rows, last.estimate, last.finished) == (4030, 4030, True)
    assert last.rate > 0
    assert last.age >= 0


def test_a_reading_that_fails_does_not_stop_the_stream(attached: Attached) -> None:
    """SELECT is revoked while a table is read again: it is told, the stream goes on, and so does the reading later."""
    with attached.capturing() as running:
        attached.owner.execute('REVOKE SELECT (so_tien) ON "mot cua".thanh_toan FROM emc_cdc')
        request(attached.settings.index, request_text([PAYMENT]))
        running.until(lambda: any("permission denied" in fault.cause for fault in running.faults), "it is told")
        attached.owner.execute("""UPDATE "mot cua".thanh_toan SET so_tien = 5 WHERE id = 1""")
        running.until(lambda: len(attached.streamed(PAYMENT)) == 1, "the stream goes on")
        attached.owner.execute('GRANT SELECT (so_tien) ON "mot cua".thanh_toan TO emc_cdc')
        running.until(lambda: markers(attached, SNAPSHOT_END) == 2, "it is read again")
    assert running.sessions == 1
    assert not any(fault.fatal for fault in running.faults)
    attached.assert_exact()


def test_a_lost_index_in_the_middle_of_a_reading(attached: Attached) -> None:
    """Index and progress are gone: rebuilt from the log, everything is read again, in the epoch of the new index."""
    attached.owner.execute(MANY)
    with attached.process(crash_after=1) as process:
        process.wait()
    for path in attached.settings.source.data.glob("*.index.sqlite*"):
        path.unlink()
    with attached.capturing():
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x' WHERE id = 10005""")
    attached.assert_exact()
    assert {change.position.epoch for partition in attached.records() for change in partition} == {1, 2}


def test_a_statement_timeout_makes_smaller_chunks(attached: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a chunk takes longer than a statement may, fewer rows are read at once, and all are read."""
    plain = readers.copy_query

    def slow(table: Any, shape: Any, span: Any) -> sql.SQL:
        inner = plain(table, shape, span).as_string(None).removeprefix("COPY (").removesuffix(") TO STDOUT")
        columns = ", ".join(f'"{column.name}"' for column in shape.columns)
        pausing = f"SELECT i.*, pg_sleep(0.001) FROM ({inner}) i OFFSET 0"
        return sql.SQL(f"COPY (SELECT {columns} FROM ({pausing}) p) TO STDOUT")  # type: ignore[arg-type]

    monkeypatch.setattr(readers, "copy_query", slow)
    monkeypatch.setattr(readers, "ROWS", 10_000)
    attached.owner.execute(MANY)
    attached.settings = attached.settings_with(snapshot_age=0, statement_timeout=1.0)
    with attached.capturing() as running:
        running.until(lambda: markers(attached, SNAPSHOT_END) == 1, "it is read")
    attached.assert_exact()
    assert running.faults == []
    keys = [change.key for change in reads(attached, DOSSIER)]
    assert len(keys) == len(set(keys)) == 4030


def test_another_capture_takes_over_a_first_read(attached: Attached) -> None:
    """The first is killed in the middle of it; one with a data directory of its own reads on, nothing is missing."""
    attached.owner.execute(MANY)
    with attached.process(crash_after=1) as process:
        process.wait()
    attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x' WHERE id = 10005""")
    attached.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id = 10006""")
    attached.settings = attached.settings_with(data=str(attached.directory / "second"))
    with attached.capturing():
        pass
    attached.assert_exact()
    assert attached.ask("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") == [(1,)]
