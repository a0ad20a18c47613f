"""A standby takes the primary's place with a copy of the slot (17 and later): what the log has goes on in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from attached_source import BIG, Attached, Running, assert_told_once
from plugins.postgres import Database
from plugins.proxy import Proxy
from plugins.replica import STANDBY_SLOT, private, promote, standby_of
from test_crashes import await_line, killed
from test_takeover import epochs, reads, second_of

from connector.source.gap import request_text
from connector.source.index import request


class Cluster(Attached):
    """The connector on a primary that a standby may replace, both behind one address."""

    spare: Database
    address: Proxy

    def synced(self, running: Running) -> None:
        """Wait until the standby has a copy of the slot that outlives a promotion."""

        def is_there() -> bool:
            self.owner.execute("""INSERT INTO "mot cua".nhat_ky (dong) VALUES ('x')""")
            self.ask("SELECT pg_log_standby_snapshot()")
            with psycopg.connect(self.spare.dsn("postgres"), autocommit=True) as admin:
                found = admin.execute("SELECT 1 FROM pg_replication_slots WHERE synced AND NOT temporary").fetchall()
            return bool(found)

        running.until(is_there, "the standby keeps a copy of the slot")

    def fail_over(self) -> None:
        """The primary dies, the standby takes its place and its address."""
        self.owner.close()
        self.database.server.stop("immediate")
        promote(self.spare)
        self.database = self.decoded = self.spare
        self.owner = self.connect()
        self.address.lead_to(self.spare.server.port)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Primary and standby of PostgreSQL 18; the primary sends us nothing that the standby does not have."""
    with ExitStack() as stack:
        primary = private(stack, 18, {"synchronized_standby_slots": STANDBY_SLOT})
        made = Cluster(primary, tmp_path)
        stack.callback(lambda: made.close())
        made.set_up()
        made.spare = standby_of(stack, primary, {"sync_replication_slots": "on"})
        made.address = stack.enter_context(Proxy(primary.server.port))
        made.settings = made.settings_with()
        made.dsn = made.address.dsn(primary.dsn("emc_cdc"))
        made.settings = made.settings_with()
        yield made


def test_the_standby_goes_on_where_the_primary_was(cluster: Cluster) -> None:
    """Nothing is read anew, the epoch rises, and what the copy of the slot sends a second time is not told again."""
    with cluster.capturing() as running:
        cluster.synced(running)
        assert cluster.slot("failover") is True
        for state in "abc":
            cluster.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = %s, noi_dung = %s""", (state, BIG))
            cluster.owner.execute("""UPDATE "mot cua".thanh_toan SET ho_so_id = ho_so_id % 30 + 1""")
        cluster.settle(running)
        cluster.fail_over()
        cluster.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'd' WHERE id < 9""")
        cluster.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id < 5""")
        running.until(lambda: epochs(cluster) == [[1, 2]] * 3, "it goes on under a new epoch")
    cluster.assert_exact()
    assert_told_once(cluster.records())
    assert reads(cluster) == 1
    assert not any(fault.fatal for fault in running.faults)
    # Whoever makes its index from the log knows of the new timeline, too.
    with cluster.capturing(settings=second_of(cluster)):
        cluster.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'e' WHERE id < 9""")
    cluster.assert_exact()
    assert reads(cluster) == 1
    assert epochs(cluster) == [[1, 2, 3]] * 3


def test_killed_before_the_server_was_told(cluster: Cluster) -> None:
    """What was logged and never confirmed comes again from the promoted server, below the log's end: skipped."""
    with cluster.capturing() as running:
        cluster.synced(running)
    with cluster.process(crash_after=1) as process:
        await_line(process, "streaming")
        with cluster.owner.transaction():
            cluster.owner.execute("""UPDATE "mot cua".thanh_toan SET ho_so_id = ho_so_id % 30 + 1""")
            cluster.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x', noi_dung = %s""", (BIG,))
        killed(process)
    cluster.fail_over()
    with cluster.capturing():
        cluster.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'y' WHERE id < 9""")
    cluster.assert_exact()
    assert_told_once(cluster.records())
    assert epochs(cluster) == [[1, 2]] * 3
    assert reads(cluster) == 1


def test_a_standby_that_was_behind(cluster: Cluster) -> None:
    """It never had what the log has: capture stops and says so, and by a person's word reads the tables anew."""
    cluster.database.server.settings["synchronized_standby_slots"] = ""
    cluster.owner.close()
    cluster.database.server.restart()
    cluster.owner = cluster.connect()
    with cluster.capturing() as running:
        cluster.synced(running)
        cluster.spare.server.stop()
        cluster.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'lost' WHERE id < 9""")
        cluster.settle(running)
    cluster.owner.close()
    cluster.database.server.stop("immediate")
    cluster.spare.server.start()
    cluster.fail_over()
    cluster.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'new' WHERE id > 25""")
    refused = cluster.refused()
    assert "branched off at" in refused.cause
    assert "emc-cdc snapshot --all" in refused.mend
    request(cluster.settings.index, request_text(None))
    with cluster.capturing():
        pass
    cluster.assert_exact()
    assert reads(cluster) == 2
