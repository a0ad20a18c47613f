"""A smoke test on PostgreSQL 12, which has neither streamed transactions nor messages in its stream."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from attached_source import BIG, DOSSIER, Attached
from plugins.postgres import Database

from connector.change.record import Op
from connector.demo.postgres import PostgresServer

PROGRAMS = Path(__file__).parents[2] / ".cache/postgres12/bin"


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Attached]:
    """A connector that may start, on a server of version 12."""
    if not (PROGRAMS / "postgres").exists():
        pytest.fail(f"no PostgreSQL 12 in {PROGRAMS}; install it: tests/install", pytrace=False)
    with (
        TemporaryDirectory(prefix="emc-cdc-pg-") as home,
        PostgresServer(PROGRAMS, Path(home) / "data") as server,
    ):
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            admin.execute("CREATE ROLE owner LOGIN")
            admin.execute("CREATE ROLE emc_cdc LOGIN REPLICATION")
            admin.execute("CREATE DATABASE old OWNER owner")
        made = Attached(Database(server, 12, "old"), tmp_path)
        made.set_up()
        yield made
        made.close()


def test_version_12_is_captured(old: Attached) -> None:
    """What `setup` prints, the snapshot, the stream, a restart, a crash of the server: the log is exact."""
    with old.capturing():
        old.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'a', noi_dung = %s WHERE id = 7""", (BIG,))
        old.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'b' WHERE id = 7""")
        old.owner.execute("""UPDATE "mot cua".thanh_toan SET ho_so_id = 2 WHERE id = 1""")
    old.owner.execute("""DELETE FROM "mot cua"."Hồ sơ" WHERE id = 30""")
    old.owner.execute("""TRUNCATE "mot cua".don_vi""")
    with old.capturing() as running:
        old.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET id = 700 WHERE id = 8""")
        old.settle(running)
        old.database.server.restart("immediate")
        running.until_streaming(2)
        with old.connect() as owner:
            owner.execute("""INSERT INTO "mot cua"."Hồ sơ" (id) SELECT g FROM generate_series(1001, 3000) g""")
    old.assert_exact()
    ops = [change.op for change in old.streamed(DOSSIER)]
    assert (ops.count(Op.UPDATE), ops.count(Op.DELETE), ops.count(Op.CREATE)) == (2, 2, 2001)
