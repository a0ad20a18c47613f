"""Live rows in batches: whatever the size of batches and tables, the facts are the same, and of one moment."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.pq import TransactionStatus
from reported_database import Reported

from connector.configuration import load
from connector.errors import SourceError
from connector.mapping.facts import Facts
from connector.mapping.plan import Plan
from connector.preflight import live, live_references
from connector.preflight.live import Dates, LiveReader
from connector.preflight.live_rows import TableReader, TooSlow
from connector.settings import Settings
from connector.source.connection import ask

DATES = Dates("ngay_tiep_nhan")


@pytest.fixture
def connection(reported: Reported) -> Iterator[psycopg.Connection]:
    """As the role that may only read."""
    with ask(settings(reported).source) as made:
        yield made


def settings(reported: Reported) -> Settings:
    return Settings.model_validate({name: reported.settings[name] for name in ("name", "source", "log")})


def every(connection: psycopg.Connection, plan: Plan, dates: Dates = DATES) -> dict[str, tuple[str | None, Facts]]:
    reader = LiveReader(connection, plan, "nothing")
    found: dict[str, tuple[str | None, Facts]] = {}
    for batch in reader.all(dates):
        for dossier, facts in zip(batch.dossiers, reader.facts(batch.dossiers), strict=True):
            assert dossier.key not in found
            found[dossier.key] = (dossier.month, facts)
    return found


def plant(reported: Reported) -> None:
    """Padded texts, numbers in text columns, rows that are not there: what lookups must not mind."""
    for statement in (
        "ALTER TABLE motcua.ho_so ALTER thu_tuc_id TYPE text, ALTER tai_khoan_id TYPE numeric(20, 2)",
        "UPDATE motcua.ho_so SET thu_tuc_id = ' ' || thu_tuc_id || ' ' WHERE id % 3 = 0",
        "UPDATE motcua.ho_so SET thu_tuc_id = 'khong co' WHERE id % 17 = 0",
        "UPDATE motcua.ho_so SET don_vi_id = 999 WHERE id % 19 = 0",
        "ALTER TABLE motcua.don_vi ALTER id TYPE text USING ' ' || id || '  '",
        "ALTER TABLE motcua.thu_tuc ALTER id TYPE char(8)",
        "ALTER TABLE motcua.tai_khoan ALTER id DROP IDENTITY",
        "ALTER TABLE motcua.tai_khoan ALTER id TYPE numeric(20, 4)",
        "UPDATE motcua.thanh_toan SET hinh_thuc = E'ti\\tề\\\\n' WHERE ho_so_id % 29 = 1",
    ):
        reported.owner.execute(statement.encode())


@pytest.mark.parametrize("batch", [7, 400, 2000])
@pytest.mark.parametrize("whole", [0, 3, 20_000])
def test_batches_and_sizes_make_no_difference(
    reported: Reported, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, batch: int, whole: int
) -> None:
    """Small batches and large ones, reference tables read whole or by what is asked: every dossier once, alike."""
    plant(reported)
    plan = load(reported.config).plan
    expected = every(connection, plan)
    assert len(expected) == 400
    assert {len(facts.missing) for _, facts in expected.values()} >= {0, 1, 2}
    assert {facts.payment for _, facts in expected.values()} >= {None}
    monkeypatch.setattr(live, "BATCH", batch)
    monkeypatch.setattr(live_references, "_WHOLE", whole)
    monkeypatch.setattr(live_references, "_REMEMBERED", 5)
    assert every(connection, plan) == expected
    reader = LiveReader(connection, plan, "nothing")
    newest = [dossier.key for found in reader.newest(50) for dossier in found.dossiers]
    assert newest == [str(key) for key in range(400, 350, -1)]


def test_a_batch_is_of_one_moment(reported: Reported, connection: psycopg.Connection) -> None:
    """What the application commits meanwhile is seen by nobody who looks at the same batch."""
    plan = load(reported.config).plan
    reader, other = (LiveReader(connection, plan, "nothing") for _ in range(2))
    for batch in reader.newest(5):
        before = reader.facts(batch.dossiers)
        reported.owner.execute(b"UPDATE motcua.ho_so SET kenh_nop = 'zalo'")
        reported.owner.execute(b"DELETE FROM motcua.thanh_toan")
        found = other.these([dossier.key for dossier in batch.dossiers])
        assert other.facts([found[dossier.key] for dossier in batch.dossiers]) == before
    for batch in reader.newest(5):
        assert reader.facts(batch.dossiers) != before
    assert connection.info.transaction_status is TransactionStatus.IDLE


def test_nothing_is_held_between_batches(
    reported: Reported, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it rests no transaction is open, so that no snapshot and no lock stands in anybody's way."""
    rests: list[tuple[float, TransactionStatus]] = []
    monkeypatch.setattr(time, "sleep", lambda seconds: rests.append((seconds, connection.info.transaction_status)))
    monkeypatch.setattr(live, "BATCH", 100)
    reader = LiveReader(connection, load(reported.config).plan, "nothing")
    assert [len(batch.dossiers) for batch in reader.all(DATES, 0.5)] == [100, 100, 100, 100, 0]
    assert rests == [(0.5, TransactionStatus.IDLE)] * 4


def test_a_batch_that_is_too_slow_is_read_in_smaller_ones(
    reported: Reported, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where statement_timeout strikes fewer rows are asked for; where it strikes even then, it is told."""
    plan = load(reported.config).plan
    expected = every(connection, plan)
    rows, most = TableReader.rows, 150

    def slow(self: TableReader, where: Sequence[sql.Composable], tail: Any, more: Any = ()) -> Any:
        found = list(rows(self, where, tail, more))
        if self.table.selection.name == "ho_so" and len(found) > most:
            raise TooSlow("read live rows", "ho_so", "canceling statement due to statement timeout", "raise it")
        return iter(found)

    monkeypatch.setattr(TableReader, "rows", slow)
    monkeypatch.setattr(live, "BATCH", 400)
    assert every(connection, plan) == expected
    most = 10
    with pytest.raises(TooSlow):
        every(connection, plan)


def test_a_timeout_of_the_server_is_told(reported: Reported) -> None:
    """statement_timeout is in force on what is read, and names itself in the mend."""
    reported.settings["source"]["statement_timeout"] = 0.2
    reported.write()
    with psycopg.connect(reported.database.dsn("owner")) as migration:
        migration.execute("LOCK TABLE motcua.thanh_toan IN ACCESS EXCLUSIVE MODE")
        said = reported.run("report", code=2).stderr
    assert "motcua.thanh_toan" in said
    assert "statement_timeout" in said
    reported.settings["source"] |= {"statement_timeout": 30.0, "lock_timeout": 0.2}
    reported.write()
    with psycopg.connect(reported.database.dsn("owner")) as migration:
        migration.execute("LOCK TABLE motcua.thanh_toan IN ACCESS EXCLUSIVE MODE")
        assert "a migration holds the table" in reported.run("report", code=2).stderr


def test_only_the_days_that_are_wanted(reported: Reported, connection: psycopg.Connection) -> None:
    """Both days are included, dossiers without a date are not; a date may be a `date`."""
    plan = load(reported.config).plan
    dates = Dates("ngay_tiep_nhan", since=date(2026, 2, 1), until=date(2026, 2, 28))
    found = every(connection, plan, dates)
    ask_for = "SELECT id::text FROM motcua.ho_so WHERE ngay_tiep_nhan::date BETWEEN '2026-02-01' AND '2026-02-28'"
    assert found.keys() == {key for (key,) in reported.ask(ask_for)}
    assert {month for month, _ in found.values()} == {"2026-02"}
    reported.owner.execute(b"ALTER TABLE motcua.ho_so ALTER ngay_tiep_nhan TYPE date USING ngay_tiep_nhan::date")
    assert every(connection, plan, dates).keys() == found.keys()


def test_a_table_that_may_not_be_read(reported: Reported) -> None:
    """A grant that was taken back is told with the GRANT that mends it."""
    reported.owner.execute(f"REVOKE SELECT (muc_do) ON motcua.thu_tuc FROM {reported.role}".encode())
    with pytest.raises(SourceError) as refused, ask(settings(reported).source) as connection:
        LiveReader(connection, load(reported.config).plan, "nothing")
    assert "GRANT SELECT" in refused.value.mend
