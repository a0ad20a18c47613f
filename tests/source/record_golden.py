"""Records golden pgoutput messages from real servers: `python tests/source/record_golden.py 15 16 18`.

They stand in tests/source/golden/pgNN.hex, one message a line, in the order of the server; `#` begins a new reading of
the same work by another protocol version. Needed again only when the scenario below says more than it did.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[1])]

import psycopg  # noqa: E402
from attached_source import TABLES  # noqa: E402
from plugins.postgres import bin_dir  # noqa: E402

from connector.demo.postgres import PostgresServer  # noqa: E402

_LONGEST = 400
"""Bytes; longer ones teach nothing that shorter ones do not."""
_MANY = 8
"""Messages of one kind and length that are kept."""
WORK = (
    """UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'nhận', noi_dung = repeat('x', 50) WHERE id <= 3""",
    """UPDATE "mot cua"."Hồ sơ" SET id = 700 WHERE id = 7""",
    """INSERT INTO "mot cua".thanh_toan VALUES (99, NULL, -0.10, '')""",
    """DELETE FROM "mot cua".thanh_toan WHERE id = 3""",
    """ALTER TABLE "mot cua".thanh_toan REPLICA IDENTITY FULL""",
    """UPDATE "mot cua".thanh_toan SET so_tien = 2 WHERE id = 4""",
    """DELETE FROM "mot cua".thanh_toan WHERE id = 5""",
    # Compressed text would stay in the row; this is moved out, so the second statement leaves it unchanged.
    """UPDATE "mot cua"."Hồ sơ" SET noi_dung = (SELECT string_agg(md5(g::text), '') FROM generate_series(1, 200) g)
        WHERE id = 9""",
    """UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'y' WHERE id = 9""",
    """CREATE TYPE loai AS ENUM ('a')""",
    """ALTER TABLE "mot cua"."Hồ sơ" ADD COLUMN loai loai""",
    """UPDATE "mot cua"."Hồ sơ" SET loai = 'a' WHERE id = 1""",
    """SELECT pg_logical_emit_message(true, 'emc-cdc.x', 'chào')""",
    """SELECT pg_logical_emit_message(false, 'emc-cdc.x', 'chào')""",
    """TRUNCATE "mot cua".don_vi, "mot cua".thanh_toan""",
    """BEGIN; SAVEPOINT a; INSERT INTO "mot cua"."Hồ sơ" (id, rieng_tu) SELECT g, md5(g::text)
        FROM generate_series(10000, 13000) g; ROLLBACK TO a; INSERT INTO "mot cua"."Hồ sơ" (id, rieng_tu)
        SELECT g, md5(g::text) FROM generate_series(10000, 13000) g; COMMIT""",
    """BEGIN; INSERT INTO "mot cua"."Hồ sơ" (id, rieng_tu) SELECT g, md5(g::text)
        FROM generate_series(20000, 23000) g; ROLLBACK""",
)
READ = """SELECT data FROM pg_logical_slot_peek_binary_changes('golden', NULL, NULL, 'publication_names', 'golden',
 'messages', 'true', 'proto_version', %s, 'streaming', %s)"""


def record(version: int) -> str:
    """The messages of one server, as the file holds them."""
    protocols = [("1", "off"), ("2", "on"), *([("4", "parallel")] if version >= 16 else [])]
    lines: list[str] = []
    with (
        TemporaryDirectory(prefix="emc-cdc-pg-") as home,
        PostgresServer(bin_dir(version), Path(home) / "data", {"logical_decoding_work_mem": "64kB"}) as server,
        psycopg.connect(server.dsn(), autocommit=True) as admin,
    ):
        admin.execute(TABLES.encode())
        admin.execute('CREATE PUBLICATION golden FOR TABLE "mot cua"."Hồ sơ", "mot cua".thanh_toan, "mot cua".don_vi')
        admin.execute("SELECT pg_create_logical_replication_slot('golden', 'pgoutput')")
        for statement in WORK:
            admin.execute(statement.encode())
        for protocol, streaming in protocols:
            lines.append(f"# protocol {protocol}")
            kept: dict[tuple[int, int], int] = {}
            for (data,) in admin.execute(READ, (protocol, streaming)).fetchall():
                kind = (data[0], len(data))
                kept[kind] = kept.get(kind, 0) + 1
                if len(data) <= _LONGEST and kept[kind] <= _MANY:
                    lines.append(data.hex())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for word in sys.argv[1:]:
        (HERE.parent / "golden" / f"pg{word}.hex").write_text(record(int(word)), encoding="ascii")
