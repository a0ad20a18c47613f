"""Prepared transactions: told when they are committed, waited for like any that is open."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attached_source import DOSSIER, Attached
from test_snapshot import markers

from connector.change.record import SNAPSHOT_END
from connector.source.gap import request_text
from connector.source.index import request

PREPARE = """BEGIN; UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x' WHERE id {}; PREPARE TRANSACTION '{}'"""


@pytest.fixture
def preparing(attached: Attached) -> Iterator[Attached]:
    """On a server that lets transactions be prepared."""
    server = attached.database.server
    server.settings["max_prepared_transactions"] = "5"
    try:
        attached.owner.close()
        server.restart()
        attached.owner = attached.connect()
        yield attached
    finally:
        attached.owner.close()
        del server.settings["max_prepared_transactions"]
        server.restart()


def test_a_prepared_transaction_is_told_when_it_is_committed(preparing: Attached) -> None:
    """Nothing of it before, also over a restart of capture, and nothing of one that is rolled back."""
    with preparing.capturing():
        preparing.owner.execute(PREPARE.format("= 9", "hai").encode())
        preparing.owner.execute("ROLLBACK PREPARED 'hai'")
        preparing.owner.execute(PREPARE.format("<= 3", "mot").encode())
        preparing.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'y' WHERE id = 5""")
        preparing.settle()
        assert [change.key for change in preparing.streamed(DOSSIER)] == [("5",)]
    with preparing.capturing():
        preparing.owner.execute("COMMIT PREPARED 'mot'")
    preparing.assert_exact()
    assert sorted(change.key for change in preparing.streamed(DOSSIER)) == [("1",), ("2",), ("3",), ("5",)]


def test_a_prepared_transaction_holds_a_reading_up_and_is_named(preparing: Attached) -> None:
    """It was open when the reading began: that is told with its number, the stream goes on, and then the reading."""
    with preparing.capturing() as running:
        preparing.owner.execute(PREPARE.format("<= 3", "mot").encode())
        [(xid,)] = preparing.ask("SELECT transaction::text FROM pg_prepared_xacts")
        request(preparing.settings.index, request_text(None))
        running.until(lambda: any(f"transactions {xid}" in f.subject for f in running.faults), "it is named")
        assert "pg_prepared_xacts" in running.faults[-1].mend
        assert markers(preparing, SNAPSHOT_END) == 1
        preparing.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'y' WHERE id = 5""")
        running.until(lambda: len(preparing.streamed(DOSSIER)) == 1, "the stream goes on")
        preparing.owner.execute("COMMIT PREPARED 'mot'")
        running.until(lambda: markers(preparing, SNAPSHOT_END) == 2, "the tables are read again")
    preparing.assert_exact()
