"""What the server sends again because it was not told in time: the keyed index is past it, or was made from the log."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attached_source import BIG, PAYMENT, Attached, until
from plugins.postgres import Database
from test_crashes import await_line, killed

from connector.change.position import parse_lsn
from connector.change.record import EPOCH, Change
from connector.change.selection import Role, Selection, TableSelection
from connector.log.embedded import EmbeddedWriter
from connector.observe import Hub
from connector.source import protocol
from connector.source.feeder import Feeder
from connector.source.index import KeyedIndex


@contextmanager
def untold(attached: Attached, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Capture works inside the block, and the server hears nothing of what becomes durable; the log has all of it."""
    confirmed = parse_lsn(attached.slot("confirmed_flush_lsn::text"))
    with monkeypatch.context() as patched:
        patched.setattr(
            "connector.source.session.status_update",
            lambda received, told, *more: protocol.status_update(received, min(told, confirmed), *more),
        )
        running = attached.start()
        try:
            running.until_streaming()
            yield
            end = parse_lsn(attached.ask("SELECT pg_current_wal_lsn()::text")[0][0])
            running.until(lambda: any(seen.confirmed >= end for seen in running.feedbacks), "all of it is durable")
        finally:
            running.end()
    assert parse_lsn(attached.slot("confirmed_flush_lsn::text")) == confirmed


def changes(attached: Attached) -> list[list[Change]]:
    """What the log holds but for what begins an epoch."""
    return [[change for change in partition if change.marker != EPOCH] for partition in attached.records()]


def change_and_delete(attached: Attached) -> None:
    """Rows that were told before are changed, then gone: a moved child, one that stays, a large value left out."""
    for statement in (
        """UPDATE "mot cua".thanh_toan SET so_tien = 2 WHERE id = 900""",
        """UPDATE "mot cua".thanh_toan SET ho_so_id = ho_so_id + 1 WHERE id IN (4, 5, 6)""",
        """UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x' WHERE id = 700""",
        """DELETE FROM "mot cua".thanh_toan WHERE id IN (900, 4)""",
        """DELETE FROM "mot cua"."Hồ sơ" WHERE id = 700""",
    ):
        attached.owner.execute(statement.encode())


@pytest.fixture
def told(attached: Attached) -> Attached:
    """The connector, with a child and a large row that the server was told are durable."""
    with attached.capturing():
        attached.owner.execute("""INSERT INTO "mot cua".thanh_toan VALUES (900, 7, 1, '')""")
        attached.owner.execute("""INSERT INTO "mot cua"."Hồ sơ" VALUES (700, 'M', 'moi', %s, '', 0)""", (BIG,))
    return attached


@pytest.mark.parametrize("lost", [False, True], ids=["index ahead", "index lost"])
def test_what_the_server_was_not_told_of_adds_nothing(
    told: Attached, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """Looked up in an index that is past it, a child that is gone would be told as deleted in every partition."""
    with untold(told, monkeypatch):
        change_and_delete(told)
    before = changes(told)
    if lost:
        shutil.rmtree(told.settings.source.data)
    for _ in range(2):
        with told.capturing():
            pass
        assert changes(told) == before
    told.assert_exact()


def test_ended_again_while_it_is_sent_again(told: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    """How far the index is does not fall while the server sends again what is below that."""
    with untold(told, monkeypatch):
        change_and_delete(told)
    before = changes(told)
    for _ in range(2):
        with untold(told, monkeypatch):
            pass
        assert changes(told) == before
    with told.capturing():
        told.owner.execute("""UPDATE "mot cua".thanh_toan SET so_tien = 3 WHERE id = 5""")
    assert sum(map(len, changes(told))) == sum(map(len, before)) + 1
    told.assert_exact()


@pytest.mark.parametrize("lost", [False, True], ids=["index kept", "index lost"])
def test_a_transaction_cut_in_half_is_told_as_it_began(told: Attached, lost: bool) -> None:
    """Killed with a part of it in the log: the rest is told of rows as they were before, not as that part left them."""
    with told.process(crash_after=1) as process:
        await_line(process, "streaming")
        with told.owner.transaction():
            change_and_delete(told)
            # More than a batch, so that the rows above are in the log and those below are not.
            told.owner.execute(
                """INSERT INTO "mot cua"."Hồ sơ"
                SELECT g, 'M' || g, 'moi', repeat(md5(g::text), 47), '', 0 FROM generate_series(1001, 2000) g"""
            )
            told.owner.execute("""UPDATE "mot cua".thanh_toan SET ho_so_id = 9 WHERE id IN (5, 6)""")
        killed(process)
    if lost:
        shutil.rmtree(told.settings.source.data)
    with told.capturing():
        pass
    told.assert_exact()
    gone = [change for change in told.streamed(PAYMENT) if change.key == ("900",) and change.after is None]
    assert len(gone) == 1


def test_how_far_the_index_is_never_falls(tmp_path: Path) -> None:
    """A keepalive in the middle of what is sent again says less than the index knows: that stays."""
    index = KeyedIndex(tmp_path / "index.sqlite")
    feeder = Feeder(lambda: EmbeddedWriter(tmp_path / "log.sqlite", 3), index, Hub(), 1 << 20, lambda: None)
    feeder.index_from = 200
    for lsn, remembered in ((100, "200"), (300, "300")):
        job = feeder.save_confirmed(lsn)
        until(lambda job=job: job.done, "it is saved")  # type: ignore[misc]
        assert (feeder.saved_lsn, index.meta()["confirmed"]) == (lsn, remembered)
    feeder.stop(60)
    index.close()


@contextmanager
def selecting(database: Database, directory: Path, tables: str, *selected: TableSelection) -> Iterator[Attached]:
    """A connector with other tables."""
    made = Attached(database, directory, tables)
    try:
        made.selection = Selection(selected)
        made.set_up()
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("binary", ["bytes", "base64", "hex"])
def test_large_bytes_are_restored_from_an_index_made_anew(database: Database, tmp_path: Path, binary: str) -> None:
    """However the log writes them, an update that leaves them out is told with them after the index was lost."""
    with selecting(
        database,
        tmp_path,
        """CREATE SCHEMA t; CREATE TABLE t.tep (id int PRIMARY KEY, n int, tep bytea);
        ALTER TABLE t.tep ALTER tep SET STORAGE EXTERNAL""",
        TableSelection("t", "tep", Role.DOSSIER, ("n", "tep")),
    ) as made:
        made.settings = made.settings_with(types={"binary": binary})
        with made.capturing(selection=made.selection):
            made.owner.execute("INSERT INTO t.tep VALUES (1, 0, decode(repeat('00ff5c', 30000), 'hex'))")
        shutil.rmtree(made.settings.source.data)
        with made.capturing(selection=made.selection):
            made.owner.execute("UPDATE t.tep SET n = 1")
        first, second = (
            change.after for partition in made.records() for change in partition if change.table == "t.tep"
        )
        assert first is not None
        assert second == first | {"n": 1}
