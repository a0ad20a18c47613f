"""Gaps of the stream: recognised, told, and closed by reading the tables anew under a new epoch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from attached_source import DOSSIER, Attached, Running, until
from plugins.postgres import Database

from connector.change.record import SNAPSHOT_BEGIN
from connector.source.gap import GAP, REQUEST, joined, request_text
from connector.source.index import remembered, request

MISSED = (
    """UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'missed' WHERE id < 5""",
    """DELETE FROM "mot cua"."Hồ sơ" WHERE id = 7""",
    """DELETE FROM "mot cua".thanh_toan WHERE id = 8""",
    """INSERT INTO "mot cua".thanh_toan VALUES (100, 9, 7, '')""",
)


@pytest.fixture
def attached(database: Database, tmp_path: Path) -> Iterator[Attached]:
    """A connector that closes gaps by itself."""
    made = Attached(database, tmp_path)
    made.settings = made.settings_with(on_gap="reread")
    made.set_up()
    yield made
    made.close()


def miss(attached: Attached) -> None:
    """Changes that no slot keeps."""
    for statement in MISSED:
        attached.owner.execute(statement.encode())


def gaps(attached: Attached) -> list[str]:
    """Why tables were read, one for each read, empty for the first."""
    return [
        change.content.decode().partition('"gap": "')[2].partition('"')[0]
        for change in attached.records()[0]
        if change.marker == SNAPSHOT_BEGIN
    ]


def recovered(attached: Attached, running: Running | None = None) -> None:
    """Capture goes on, the log is exact, and its last epoch is the second."""
    if running is None:
        with attached.capturing() as again:
            attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'after' WHERE id = 1""")
            running = again
    else:
        attached.settle(running)
    attached.assert_exact()
    assert [partition[-1].position.epoch for partition in attached.records()] == [2, 2, 2]
    assert any(fault.cause == gaps(attached)[-1] for fault in running.faults)
    assert not any(fault.fatal for fault in running.faults)


def test_a_slot_that_was_dropped(attached: Attached) -> None:
    """Dropped while capture was away: what it would have kept is read from the tables."""
    with attached.capturing():
        pass
    attached.ask("SELECT pg_drop_replication_slot(%s)", attached.settings.slot)
    miss(attached)
    recovered(attached)
    assert gaps(attached) == ["", "it does not exist any more, so changes since it was dropped are missing"]


def test_a_slot_that_was_moved_on(attached: Attached) -> None:
    """Somebody advanced the slot over changes that we never saw."""
    with attached.capturing():
        pass
    miss(attached)
    attached.ask("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", attached.settings.slot)
    recovered(attached)
    assert "moved on by somebody else" in gaps(attached)[1]


def test_a_slot_that_was_dropped_under_way(attached: Attached) -> None:
    """Its walsender is ended and the slot dropped at once, as a DBA does in need: capture goes on by itself."""
    with attached.capturing() as running:
        pid = attached.slot("active_pid")
        attached.ask("SELECT pg_terminate_backend(%s)", pid)

        def dropped() -> bool:
            try:
                attached.ask("SELECT pg_drop_replication_slot(%s)", attached.settings.slot)
            except Exception:
                attached.ask("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots")
                return False
            return True

        until(dropped, "the slot is dropped")
        miss(attached)
        # A slot is active while it is being made, too: only the index knows that the read is durable.
        index = attached.settings.index
        running.until(lambda: len(gaps(attached)) == 2 and not remembered(index)[GAP], "the tables are read anew")
        recovered(attached, running)


@pytest.mark.every_server
@pytest.mark.parametrize("change", ["DROP TABLE", "DROP PUBLICATION"])
@pytest.mark.parametrize("away", [True, False], ids=["away", "streaming"])
def test_a_publication_changed_behind_our_back(attached: Attached, change: str, away: bool) -> None:
    """A table leaves the publication, or the publication goes: capture holds until it is mended, then reads anew."""
    publication = attached.settings.publication
    drop = f'ALTER PUBLICATION "{publication}" DROP TABLE "mot cua".thanh_toan'
    if change == "DROP PUBLICATION":
        drop = f'DROP PUBLICATION "{publication}"'
    if away:
        with attached.capturing():
            pass
        attached.owner.execute(drop.encode())
    running = attached.start()
    try:
        if not away:
            running.until_streaming()
            attached.owner.execute(drop.encode())
        running.until(lambda: any(publication in fault.subject for fault in running.faults), "it is told")
        miss(attached)
        running.until(
            lambda: any("SET TABLE" in f.mend or "ADD TABLE" in f.mend or "CREATE" in f.mend for f in running.faults),
            "the mend",
        )
        attached.set_up("owner")
        running.until(lambda: len(gaps(attached)) == 2, "the tables are read anew")
        attached.settle(running)
    finally:
        running.end()
    assert running.failure is None
    attached.assert_exact()


def test_killed_while_it_reads_anew(attached: Attached) -> None:
    """The gap is not forgotten by dying: the next start reads the tables again."""
    more = "SELECT g, g, repeat('x', 900) FROM generate_series(1001, 9000) g"
    attached.owner.execute(f'INSERT INTO "mot cua"."Hồ sơ" (id, "Mã", noi_dung) {more}'.encode())
    with attached.capturing():
        pass
    attached.ask("SELECT pg_drop_replication_slot(%s)", attached.settings.slot)
    miss(attached)
    with attached.process(crash_after=1, on_gap="reread"):
        until(lambda: len(gaps(attached)) == 2, "it has begun")
    assert len([change for change in attached.records()[0] if change.table == DOSSIER]) > 0
    with attached.capturing():
        pass
    attached.assert_exact()
    assert gaps(attached)[1:] == [gaps(attached)[1]] * 2


@pytest.mark.parametrize("lost", ["dropped", "recreated"])
def test_a_gap_stops_the_start(attached: Attached, lost: str) -> None:
    """By default a slot that was dropped or made anew is a question for a person, whose command is obeyed."""
    careful = attached.settings_with()
    with attached.capturing(settings=careful):
        pass
    attached.ask("SELECT pg_drop_replication_slot(%s)", careful.slot)
    miss(attached)
    if lost == "recreated":
        attached.ask("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", careful.slot)
    for _ in range(2):
        refused = attached.refused(settings=careful)
        assert ("does not exist any more" if lost == "dropped" else "moved on by somebody else") in refused.cause
        assert "emc-cdc snapshot --all" in refused.mend
    request(careful.index, request_text(None))
    with attached.capturing(settings=careful):
        pass
    attached.assert_exact()
    assert len(gaps(attached)) == 2
    assert not remembered(careful.index)[REQUEST]


def test_a_publication_made_after_the_slot(attached: Attached) -> None:
    """Dropped and made again while capture was away: some versions stop decoding, others leave out; all are told."""
    careful = attached.settings_with()
    with attached.capturing(settings=careful):
        pass
    attached.owner.execute(f'DROP PUBLICATION "{careful.publication}"'.encode())
    miss(attached)
    attached.set_up("owner")
    refused = attached.refused(settings=careful)
    assert "younger than the slot" in refused.cause
    assert "emc-cdc snapshot --all" in refused.mend
    request(careful.index, request_text(None))
    with attached.capturing(settings=careful):
        pass
    attached.assert_exact()
    assert len(gaps(attached)) == 2


def test_requests_that_wait_are_joined() -> None:
    """Nobody's request is forgotten for another's; everything includes what anybody asks for."""
    one, other = request_text(["s.b"]), request_text(["s.a"])
    assert joined("", one) == one
    assert joined(one, other) == request_text(["s.a", "s.b"])
    assert joined(one, request_text(None)) == joined(request_text(None), one) == request_text(None)
