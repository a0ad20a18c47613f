"""The server is restored to an earlier moment, or upgraded by pg_upgrade: told, nothing skipped, exact afterwards."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from attached_source import Attached, assert_told_once, until
from plugins.postgres import Database, bin_dir, versions
from plugins.replica import base_backup, copy_of, home, private, put_back
from test_takeover import epochs, reads

from connector.change.position import parse_lsn
from connector.demo.postgres import PostgresServer
from connector.errors import SourceError
from connector.source.gap import request_text
from connector.source.index import remembered, request


class Restorable(Attached):
    """The connector on a server whose data directory may be put back."""

    stack: ExitStack

    def write(self, statement: str) -> None:
        """Over a connection that is gone by the time the server stops."""
        with self.connect() as owner:
            owner.execute(statement.encode())

    def restored(self, data: Path) -> None:
        """Stop the server and put a copy of its data directory in the place of its own."""
        self.database.server.stop("immediate")
        put_back(self.database.server, data)
        self.database.server.start()
        until(lambda: self.ask("SELECT pg_is_in_recovery()") == [(False,)], "recovery has ended")

    def pass_by(self) -> None:
        """Let WAL of other tables grow until it is past all that capture ever confirmed."""
        confirmed = int(remembered(self.settings.index)["confirmed"])
        while parse_lsn(self.ask("SELECT pg_current_wal_insert_lsn()::text")[0][0]) <= confirmed:
            self.write("""INSERT INTO "mot cua".nhat_ky (dong) SELECT repeat('x', 500) FROM generate_series(1, 100)""")

    def recovered(self, told: str) -> None:
        """By default the start stops; by a person's word it reads the tables anew, and the log is exact."""
        for _ in range(2):
            refused = self.refused_at_last()
            assert told in refused.cause, refused.cause
            assert "emc-cdc snapshot --all" in refused.mend
        request(self.settings.index, request_text(None))
        with self.capturing():
            self.write("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'after' WHERE id = 2""")
        self.assert_exact()
        assert reads(self) == 2

    def refused_at_last(self) -> SourceError:
        """The error for which capture gives up; a server of another history is known only when it sends."""
        running = self.start()
        try:
            until(lambda: running.failure is not None, "capture gives up")
        finally:
            running.end()
        assert isinstance(running.failure, SourceError), running.failure
        return running.failure


@pytest.fixture
def attached(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Restorable]:
    """The connector on a server of its own, of the first version that is tested."""
    with ExitStack() as stack:
        made = Restorable(private(stack, versions(request.config)[0]), tmp_path)
        made.stack = stack
        stack.callback(made.close)
        made.set_up()
        made.owner.close()
        with made.capturing():
            made.write("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'first'""")
        yield made


def copied(attached: Restorable) -> Path:
    """A copy of the data directory, our slot in it."""
    attached.database.server.stop()
    data = copy_of(attached.stack, attached.database.server)
    attached.database.server.start()
    return data


LOST = """UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'lost' WHERE id < 9"""
OTHER = """UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'othr' WHERE id < 9"""


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
def test_a_copy_of_the_files_with_our_slot(attached: Restorable, late: bool) -> None:
    """The log has changes that the restored server never had; late: its WAL is longer by now than what we confirmed.

    Its own first change is of the same length as the one it never had, so that its commit has the same LSN.
    """
    data = copied(attached)
    with attached.capturing():
        attached.write(LOST)
    attached.restored(data)
    attached.write(OTHER)
    if late:
        attached.pass_by()
    attached.recovered("restored")


def test_a_copy_of_the_files_while_the_tables_were_idle(attached: Restorable) -> None:
    """What was lost is not ours: the restored server goes on where the log ends, with nothing skipped or doubled."""
    data = copied(attached)
    with attached.capturing():
        attached.write("""INSERT INTO "mot cua".nhat_ky (dong) SELECT 'x' FROM generate_series(1, 5000)""")
    attached.restored(data)
    attached.write(OTHER)
    attached.pass_by()
    with attached.capturing():
        attached.write("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'after' WHERE id = 2""")
    attached.assert_exact()
    assert_told_once(attached.records())
    assert reads(attached) == 1


def test_a_base_backup_without_our_slot(attached: Restorable) -> None:
    """pg_basebackup leaves slots out, so the slot is missing."""
    data = base_backup(attached.stack, attached.database)
    with attached.capturing():
        attached.write(LOST)
    attached.restored(data)
    attached.write(OTHER)
    attached.pass_by()
    attached.recovered("does not exist any more")


def test_a_restore_under_the_stream(attached: Restorable) -> None:
    """Capture runs all the time and may read anew by itself: it does, whatever the address leads to meanwhile."""
    data = copied(attached)
    running = attached.start(settings=attached.settings_with(on_gap="reread"))
    try:
        running.until_streaming()
        attached.write(LOST)
        attached.settle(running)
        attached.restored(data)
        attached.write(OTHER)
        running.until(lambda: reads(attached) == 2, "the tables are read anew")
        attached.write("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'after' WHERE id = 2""")
        attached.settle(running)
    finally:
        running.end()
    attached.assert_exact()
    assert not any(fault.fatal for fault in running.faults)
    assert {tuple(each) for each in epochs(attached)} == {(1, 2)}


@pytest.mark.parametrize("behind", [False, True], ids=["all of it", "too early"])
def test_recovery_to_a_new_timeline(attached: Restorable, behind: bool) -> None:
    """Point-in-time recovery of a copy that has our slot: gone on with when it has all that the log has, else a gap."""
    data = copied(attached)
    (data / "recovery.signal").touch()
    if behind:
        with attached.capturing():
            attached.write(LOST)
    attached.database.server.settings["restore_command"] = "false"
    attached.restored(data)
    attached.write(OTHER)
    if behind:
        attached.pass_by()
        attached.recovered("timeline 2")
        return
    with attached.capturing():
        pass
    attached.assert_exact()
    assert_told_once(attached.records())
    assert reads(attached) == 1
    assert epochs(attached) == [[1, 2]] * 3


def test_another_slot_under_our_name(attached: Restorable) -> None:
    """Dropped and made again by somebody while the tables were idle: nothing shows it but where it reads from."""
    attached.ask("SELECT pg_drop_replication_slot(%s)", attached.settings.slot)
    attached.write(LOST)
    attached.ask("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", attached.settings.slot)
    attached.recovered("recreated")


def test_pg_upgrade(tmp_path: Path) -> None:
    """From 16 to 18: another system id, without our slot. It is refused, and read anew by a person's word only."""
    with ExitStack() as stack:
        old = private(stack, 16)
        attached = Restorable(old, tmp_path)
        attached.set_up()
        attached.owner.close()
        with attached.capturing():
            attached.write("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'first'""")
        attached.ask("SELECT pg_drop_replication_slot(%s)", attached.settings.slot)
        old.server.stop()
        attached.database = attached.decoded = upgraded(stack, old)
        attached.settings = attached.settings_with(on_gap="reread")
        attached.write(OTHER)
        refused = attached.refused()
        assert "an upgrade" in refused.cause
        assert "emc-cdc snapshot --all" in refused.mend
        request(attached.settings.index, request_text(None))
        with attached.capturing():
            attached.write("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'after' WHERE id = 2""")
        attached.assert_exact()
        assert epochs(attached) == [[1, 2]] * 3


def upgraded(stack: ExitStack, old: Database) -> Database:
    """The old cluster's successor, made by pg_upgrade."""
    programs = bin_dir(18)
    server = stack.enter_context(Upgraded(programs, home(stack) / "data"))
    server.take_over(old.server)
    server.start()
    return Database(server, 18, old.name)


class Upgraded(PostgresServer):
    """A cluster that takes another one's place; as a context manager it only ends."""

    def __enter__(self) -> Upgraded:
        return self

    def take_over(self, old: PostgresServer) -> None:
        """initdb and pg_upgrade, as the account that runs the servers."""
        self.data_dir.mkdir(mode=0o700)
        self._prepare()
        initdb = f"initdb -D {self.data_dir} -U postgres -A trust -E UTF8 --locale=C --no-sync --no-data-checksums"
        upgrade = (
            f"pg_upgrade -U postgres -b {old._programs} -B {self._programs} -d {old.data_dir} -D {self.data_dir}"
            f" -s {self.socket_dir} --no-sync"
        )
        for command in (initdb.split(), upgrade.split()):
            done = subprocess.run(
                [str(self._programs / command[0]), *command[1:]],
                capture_output=True,
                cwd=self.data_dir.parent if command[0] == "initdb" else self.data_dir,
                check=False,
                **self._identity(),  # type: ignore[call-overload]
            )
            assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
        with (self.data_dir / "postgresql.conf").open("a", encoding="utf-8") as configuration:
            configuration.write("include_if_exists = 'emc-cdc.conf'\n")
