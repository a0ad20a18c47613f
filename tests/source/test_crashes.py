"""Capture is killed; whoever goes on loses nothing and tells nothing twice."""

from __future__ import annotations

import shutil
import signal
import subprocess

import pytest
from attached_source import BIG, DOSSIER, PAYMENT, Attached, until

from connector.change.position import parse_lsn
from connector.change.record import Op
from connector.source.index import KeyedIndex
from connector.source.protocol import status_update

ROWS = 1000
# Rows of about 1.5 KB that stay in the table, so that the transaction takes several batches.
TRANSACTION = """
INSERT INTO "mot cua"."Hồ sơ"
SELECT g, 'M' || g, 'moi', repeat(md5(g::text), 47), '', 0 FROM generate_series(1001, 2000) g
"""


def await_line(process: subprocess.Popen[str], words: str) -> None:
    """Read what the process prints until a line has the words. A process that ends instead fails the test."""
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    raise AssertionError(f"the process ended before it said {words!r}")


def killed(process: subprocess.Popen[str]) -> None:
    """Wait until the process has killed itself."""
    assert process.wait(60) == -signal.SIGKILL


def test_a_transaction_cut_in_half_becomes_whole(attached: Attached) -> None:
    """Killed when a part of 1,000 rows was in the log: after the restart all are there once, in order."""
    with attached.capturing():
        pass
    with attached.process(crash_after=1) as process:
        await_line(process, "streaming")
        attached.owner.execute(TRANSACTION)
        killed(process)
    assert 0 < len(attached.streamed(DOSSIER)) < ROWS
    with attached.capturing():
        pass
    for partition in attached.records():
        keys = [int(c.key[0]) for c in partition if c.table == DOSSIER and c.op is Op.CREATE]
        assert keys == sorted(keys)
    assert len(attached.streamed(DOSSIER)) == ROWS
    attached.assert_exact()


def test_what_the_log_has_is_not_told_again(attached: Attached) -> None:
    """Killed between the log's durability and the feedback: PostgreSQL sends again, the log takes nothing twice."""
    with attached.capturing():
        pass
    with attached.process(crash_after=1) as process:
        await_line(process, "streaming")
        with attached.owner.transaction():
            attached.owner.execute("""UPDATE "mot cua".thanh_toan SET ho_so_id = ho_so_id % 30 + 1""")
            attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x', noi_dung = %s""", (BIG,))
            attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET id = 700 WHERE id = 7""")
            attached.owner.execute("""TRUNCATE "mot cua".don_vi""")
        killed(process)
    assert attached.streamed(PAYMENT)
    with attached.capturing():
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'y' WHERE id IN (8, 700)""")
        attached.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id <= 5""")
    attached.assert_exact()
    for change in attached.streamed(DOSSIER):
        assert change.after is None or change.after["noi_dung"] == BIG


def test_what_the_server_was_not_told_of_adds_nothing(attached: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    """The feedback never arrives: what comes again is looked up in an index that is past it, and adds no record."""
    with attached.capturing():
        attached.owner.execute("""INSERT INTO "mot cua".thanh_toan VALUES (900, 7, 1, '')""")
    confirmed = parse_lsn(attached.slot("confirmed_flush_lsn::text"))
    with monkeypatch.context() as patched:
        patched.setattr(
            "connector.source.session.status_update", lambda r, told, *more: status_update(r, confirmed, *more)
        )
        running = attached.start()
        try:
            running.until_streaming()
            attached.owner.execute("""UPDATE "mot cua".thanh_toan SET so_tien = 2 WHERE id = 900""")
            attached.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id = 900""")
            running.until(lambda: len(attached.streamed(PAYMENT)) == 3, "the log has it")
        finally:
            running.end()
    assert parse_lsn(attached.slot("confirmed_flush_lsn::text")) == confirmed
    before = attached.records()
    with attached.capturing():
        pass
    assert attached.records() == before
    attached.assert_exact()


def test_an_index_older_than_the_log_tells_nothing_twice(attached: Attached) -> None:
    """The index file as it was before the last transaction, the slot not told of it: nothing is doubled.

    What the idle slot was told in between is remembered first, so the older file has that.
    """
    with attached.capturing():
        pass
    data, copy = attached.settings.source.data, attached.directory / "copy"
    shutil.copytree(data, copy)
    with attached.process(crash_after=1) as process:
        await_line(process, "streaming")
        attached.owner.execute("""INSERT INTO "mot cua".nhat_ky (dong) VALUES ('x')""")
        attached.settle()
        attached.owner.execute("""UPDATE "mot cua".thanh_toan SET ho_so_id = ho_so_id % 30 + 1""")
        killed(process)
    confirmed = parse_lsn(attached.slot("confirmed_flush_lsn::text"))
    shutil.rmtree(data)
    shutil.copytree(copy, data)
    index = KeyedIndex(data / f"{attached.settings.name}.index.sqlite")
    index.save([], {"confirmed": str(confirmed)})
    index.close()
    with attached.capturing():
        attached.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id <= 5""")
    attached.assert_exact()


def test_a_snapshot_cut_short_goes_on(attached: Attached) -> None:
    """Killed while the snapshot goes to the log: the next start reads on while it streams from the same slot."""
    with attached.process(crash_after=1) as process:
        killed(process)
    attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x' WHERE id = 1""")
    attached.owner.execute("""UPDATE "mot cua".thanh_toan SET so_tien = 77 WHERE id = 1""")
    with attached.capturing():
        pass
    attached.assert_exact()
    assert {change.position.epoch for partition in attached.records() for change in partition} == {1}
    assert len(attached.ask("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")) == 1


def test_a_second_capture_waits_and_takes_over(attached: Attached) -> None:
    """With a data directory of its own it waits at the slot; when the first is killed it goes on where that stopped."""
    with attached.capturing():
        pass
    with attached.process() as first:
        await_line(first, "streaming")
        with attached.process(data=str(attached.directory / "second")) as second:
            await_line(second, "another capture")
            attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET noi_dung = %s WHERE id = 7""", (BIG,))
            attached.owner.execute("""UPDATE "mot cua".thanh_toan SET ho_so_id = 2 WHERE id = 1""")
            attached.settle()
            assert len(attached.streamed(PAYMENT)) == 2
            first.kill()
            await_line(second, "streaming")
            attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x' WHERE id = 7""")
            attached.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id = 1""")
            attached.settle()
            until(lambda: second.poll() is None, "the second is at work")
    attached.assert_exact()
