"""WAL while we are away: hours of the bound at the measured rate, what the slot holds back, the disk."""

from __future__ import annotations

import pytest
from attached_database import Attached
from hypothesis import given
from hypothesis import strategies as st
from test_private_servers import server_with

from connector.finding import Severity
from connector.preflight.surroundings import Wal, look, surroundings
from connector.preflight.wal import check_disk, check_wal, lasting
from connector.source.connection import ask

_MB, _GB = 1 << 20, 1 << 30
_WAL = Wal(
    now=0.0, watched=1.0, mean=1.0 * _MB, counted=86400.0 * 3, bound=50 * _GB, retained=None, safe=None,
    idle_timeout=None, directory=None, size=None,
)  # fmt: skip


def with_(**changed: object) -> Wal:
    return Wal(**{**{name: getattr(_WAL, name) for name in Wal.__slots__}, **changed})  # type: ignore[arg-type]


def test_the_rate_is_the_servers_own(attached: Attached) -> None:
    """What is written between two looks is the rate of now; the mean is pg_stat_wal's, and both are not negative."""
    with ask(attached.settings.source) as connection:
        first = look(connection)
        attached.by_dba("SELECT pg_logical_emit_message(false, 'x', repeat('x', 3000000))")
        wal = surroundings(connection, first, attached.settings.slot, attached.version * 10000).wal
    assert wal.now * wal.watched >= 3_000_000
    assert wal.mean is not None
    assert wal.counted is not None
    assert wal.mean > 0


def test_a_bound_that_does_not_last_a_night(attached: Attached) -> None:
    """A small bound on a busy server is warned of with hours, basis and the statement that makes it last three days."""
    attached.by_dba("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB';\nSELECT pg_reload_conf()")
    attached.by_dba("SELECT pg_logical_emit_message(false, 'x', repeat('x', 3000000))")
    (found,) = attached.findings("PG-09")
    assert (found.severity, found.who) == (Severity.WARNING, "dba")
    assert "max_slot_wal_keep_size of 1.0 MB lasts for" in found.what
    assert "hours of our absence (WAL grew by" in found.what
    assert "(pg_stat_wal)" in found.what
    attached.mend(found)
    assert attached.by_dba("SELECT current_setting('max_slot_wal_keep_size') <> '1MB'") == [(True,)]


def test_what_the_slot_holds_back(attached: Attached) -> None:
    """With a slot that waits, check tells the bytes that it holds back and how many are left, and for how long."""
    name = attached.settings.slot
    attached.by_dba(f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")
    attached.by_dba("SELECT pg_logical_emit_message(false, 'x', repeat('x', 3000000))")
    (found,) = attached.told("PG-31")
    assert found.severity is Severity.OK
    assert "it holds back 2.9 MB" in found.what or "it holds back 3." in found.what
    assert "TB are left, which last for" in found.what
    attached.by_dba("ALTER SYSTEM RESET max_slot_wal_keep_size;\nSELECT pg_reload_conf()")
    assert "without a bound" in attached.told("PG-31")[0].what
    assert attached.told("PG-09") == []


def test_the_disk_is_not_seen_through_sql(attached: Attached) -> None:
    """The command is told instead; with pg_monitor the directory and what pg_wal has are told as well."""
    (found,) = attached.told("PG-44")
    assert (found.severity, found.who) == (Severity.UNKNOWN, "dba")
    assert found.mend == ("SHOW data_directory;", "df -h <data_directory>/pg_wal  -- on the database's host")
    attached.by_dba("GRANT pg_monitor TO emc_cdc")
    try:
        (found,) = attached.told("PG-44")
    finally:
        attached.by_dba("REVOKE pg_monitor FROM emc_cdc")
    assert found.mend == (f"df -h {attached.server.data_dir}/pg_wal  -- on the database's host",)
    assert "pg_wal has" in found.what
    assert "while we are away it may grow by 1000.0 TB" in found.what


def test_an_idle_slot_is_kept() -> None:
    """PostgreSQL 18 can invalidate idle slots: any timeout is warned of, with the other slots that it holds for."""
    with server_with({"idle_replication_slot_timeout": "1d"}) as attached:
        attached.by_dba("SELECT pg_create_physical_replication_slot('neighbour')")
        (found,) = attached.findings()
        assert (found.check, found.severity) == ("PG-32", Severity.WARNING)
        assert "an absence of 24 hours would invalidate" in found.what
        assert "for these slots, too: neighbour" in found.what
        attached.mend(found)
        assert attached.findings() == []


@pytest.mark.parametrize(
    ("mean", "now", "words"),
    [
        (1 * _MB, 0.0, "lasts for 14.2 hours"),
        (1 * _MB, 2 * _MB, "lasts for 7.1 hours"),
        (None, 1 * _MB, "lasts for 14.2 hours"),
        (0.1 * _MB, 0.0, "lasts for 6 days"),
        (0.0, 0.0, "lasts for more than a year"),
    ],
)
def test_hours_by_the_faster_rate(mean: float | None, now: float, words: str) -> None:
    """Pure: 50 GB at 1 MB/s are 14.2 hours; the faster of mean and now counts, and a lack of the mean is told."""
    hours, what = lasting("max_slot_wal_keep_size", 50 * _GB, with_(mean=mean, now=now))
    assert words in what
    assert ("a busier hour would be shorter" in what) == (mean is None)
    assert (hours < 24.0) == (words.endswith(" hours"))


@given(st.integers(1, 1 << 50), st.floats(0, 1e10), st.none() | st.floats(0, 1e10))
def test_what_is_proposed_is_enough(bound: int, now: float, mean: float | None) -> None:
    """Pure: whatever the rate, the size that the mend proposes lasts for three days, and then nothing is said."""
    wal = with_(bound=bound, now=now, mean=mean)
    for finding in check_wal(wal, "x", (), None):
        if finding.check == "PG-09" and finding.severity is Severity.WARNING:
            proposed = int(finding.mend[0].split("'")[1].removesuffix("GB")) * _GB
            assert lasting("x", proposed, wal)[0] >= 72.0 * 0.999
            assert check_wal(with_(bound=proposed, now=now, mean=mean), "x", (), None)[0].severity is Severity.OK


@pytest.mark.parametrize(
    ("safe", "severity"),
    [(None, Severity.OK), (40 * _GB, Severity.OK), (_GB, Severity.WARNING), (-1, Severity.WARNING)],
)
def test_less_than_an_hour_left(safe: int | None, severity: Severity) -> None:
    """Pure: a slot with less than an hour left is warned of."""
    found = check_wal(with_(retained=10 * _GB, safe=safe), "x", (), None)
    assert [one.severity for one in found if one.check == "PG-31"] == [severity]


def test_the_disk_without_a_bound() -> None:
    """Pure: without a bound nothing is said of how far it may grow."""
    assert "may grow" not in check_disk(with_(bound=None)).what


@pytest.mark.parametrize(
    ("budget", "bound", "severity"),
    [(100 * _GB, None, Severity.OK), (1 << 20, None, Severity.WARNING), (8 * _GB, 4 * _GB, Severity.WARNING)],
    ids=["long enough", "too short", "behind the server's bound"],
)
def test_a_budget_of_our_own(budget: int, bound: int | None, severity: Severity) -> None:
    """source.wal_budget is told in hours like the server's bound, and has to act before that."""
    wal = with_(bound=bound, now=1024.0, mean=1024.0)
    (found,) = [one for one in check_wal(wal, "x", (), budget) if one.subject == "source.wal_budget"]
    assert (found.check, found.severity) == ("PG-09", severity)
    assert "source.wal_budget of" in found.what
    assert all("source.wal_budget:" in mend for mend in found.mend)
