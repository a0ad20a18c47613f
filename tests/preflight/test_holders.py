"""Transactions that hold a slot up: named with their process, and gone after the mend."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

import psycopg
import pytest
from attached_database import Attached
from test_private_servers import server_with

from connector.errors import SourceUnavailable
from connector.finding import Severity
from connector.preflight.holders import check_holders
from connector.preflight.surroundings import Holder, look, surroundings
from connector.source.connection import ask, replicate
from connector.source.slot import create_slot

_WROTE = "INSERT INTO motcua.thu_tuc VALUES ('1', 'x')"


def until_ended(connection: psycopg.Connection) -> None:
    """The server ends a connection in its own time."""
    deadline = time.monotonic() + 60.0
    while not connection.closed:
        assert time.monotonic() < deadline
        with suppress(psycopg.OperationalError):
            connection.execute("SELECT 1")


def make_slot(attached: Attached, timeout: float) -> None:
    """As capture's first start does."""
    source = attached.settings.source
    replication = replicate(source, attached.version * 10000)
    try:
        with ask(source) as connection:
            create_slot(replication, connection, attached.settings.slot, timeout)
    finally:
        replication.finish()


def test_an_open_transaction_is_named_and_ended(attached: Attached) -> None:
    """It holds the slot's making up; check names its process, and after the mend the slot is made."""
    with psycopg.connect(attached.server.dsn("owner", attached.database), application_name="bảng kê") as forgotten:
        forgotten.execute(_WROTE)
        pid = forgotten.info.backend_pid
        (found,) = attached.findings()
        assert (found.check, found.severity, found.subject) == ("PG-33", Severity.WARNING, f"server process {pid}")
        assert f"database {attached.database}, role owner, b" in found.what
        assert "the slot cannot be made before it ends; its age is hidden without pg_read_all_stats" in found.what
        with pytest.raises(SourceUnavailable) as held:
            make_slot(attached, 0.5)
        assert f"pid {pid}" in held.value.cause
        attached.mend(found)
        until_ended(forgotten)
    assert attached.findings() == []
    make_slot(attached, 60.0)


def test_one_that_only_reads_holds_nothing_up(attached: Attached) -> None:
    """A transaction that has written nothing has no id, and slot creation does not wait for it."""
    with psycopg.connect(attached.server.dsn("owner", attached.database)) as reader:
        reader.execute("SELECT * FROM motcua.ho_so")
        (found,) = attached.told("PG-33")
        assert found.severity is Severity.OK
        assert found.what == "no transaction holds it up, as far as can be seen without pg_read_all_stats"
        make_slot(attached, 60.0)


def test_its_age_is_told_where_it_may_be_seen(attached: Attached) -> None:
    """With pg_read_all_stats a young one is a note only, and the slot that is there is told to be held by it."""
    attached.by_dba(f"SELECT pg_create_logical_replication_slot('{attached.settings.slot}', 'pgoutput')")
    attached.by_dba("GRANT pg_read_all_stats TO emc_cdc")
    try:
        with psycopg.connect(attached.server.dsn("owner", attached.database)) as young:
            young.execute(_WROTE)
            (found,) = attached.told("PG-33")
            assert (found.severity, found.mend) == (Severity.NOTE, ())
            assert "a transaction that has written is open for" in found.what
            assert "WAL cannot be removed before it ends" in found.what
        assert attached.told("PG-33")[0].what == "no transaction holds it up"
    finally:
        attached.by_dba("REVOKE pg_read_all_stats FROM emc_cdc")


def test_one_that_ended_in_between_is_not_told(attached: Attached) -> None:
    """Only what was open in both looks is told: a busy application is not accused of every transaction."""
    source = attached.settings.source
    with ask(source) as connection, psycopg.connect(attached.server.dsn("owner", attached.database)) as application:
        application.execute(_WROTE)
        first = look(connection)
        application.commit()
        application.execute("UPDATE motcua.thu_tuc SET ten = 'y'")
        around = surroundings(connection, first, attached.settings.slot, attached.version * 10000)
        assert around.holders == ()


def test_an_old_one_is_warned_of_by_age() -> None:
    """Pure: seconds, minutes and hours; from half a minute on it is a warning with the statement that ends it."""
    holder = Holder(7, "psql", "motcua", "owner", 29.0)
    with server_with({}) as attached, ask(attached.settings.source) as connection:
        around = surroundings(connection, look(connection), "x", 180000)
    told = {
        age: check_holders(replace(around, holders=(replace(holder, age=age),)), "x", exists=False)[0]
        for age in (29.0, 31.0, 600.0, 10800.0)
    }
    assert [one.severity for one in told.values()] == [Severity.NOTE, *[Severity.WARNING] * 3]
    words = ("for 29 s", "for 31 s", "for 10 min", "for 3 hours")
    assert all(word in one.what for word, one in zip(words, told.values(), strict=True))
    assert "SELECT pg_terminate_backend(7);" in told[31.0].mend[1]
    autovacuum = replace(around, holders=(replace(holder, role="", age=None),))
    assert check_holders(autovacuum, "x", exists=False)[0].severity is Severity.NOTE


def test_a_prepared_transaction_is_told_and_ended() -> None:
    """A transaction of two-phase commit that nobody finished holds the slot up, also over a restart of the server."""
    with server_with({"max_prepared_transactions": "2"}) as attached:
        attached.by_owner(f"BEGIN;\n{_WROTE};\nPREPARE TRANSACTION 'cổng''1'")
        attached.server.stop()
        attached.server.start()
        (found,) = attached.findings()
        assert (found.check, found.severity) == ("PG-33", Severity.WARNING)
        assert found.subject == "prepared transaction cổng'1"
        with pytest.raises(SourceUnavailable):
            make_slot(attached, 0.5)
        assert found.mend[0] == "\\connect mot_cua"
        attached.by_dba(found.mend[1].split("  --")[0])
        assert attached.findings() == []
        make_slot(attached, 60.0)
