"""Keys of every kind as the boundaries of chunks: no row is left out, and none is read twice."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from plugins.postgres import Database
from test_rows import attach

from connector.change.record import Op
from connector.change.selection import Role, TableSelection
from connector.source import readers

ROWS = 400
# Letters that Vietnamese orders otherwise than their bytes, and what quoting, COPY and blank padding may stumble over.
_ODD = (
    """(ARRAY['Đ', 'đ', 'a', 'Ă', 'ậ', 'á', 'z', '''', '"', '\\', '\t', E'\\n', '%', ' ', '😀', 'e' || U&'\\0301'])"""
)
_TEXT = f"{_ODD}[g % 16 + 1] || {_ODD}[g / 16 % 16 + 1] || (g / 256)"
KEYS = {
    "bigint": "(g - 200)::bigint * 40000000000000",
    "smallint": "(g - 200)::smallint",
    "numeric": "(g - 200) / 7.0",
    "numeric NaN and infinity": "CASE g WHEN 1 THEN 'NaN' ELSE (g - 200)::numeric * 1e60 + 1e-9 END",
    "float8": "(g - 200) / 7.0::float8",
    "float4": "(g - 200) / 7.0::float4",
    "uuid": "md5(g::text)::uuid",
    "text": _TEXT,
    "text C": f'({_TEXT})::text COLLATE "C"',
    "varchar": f"({_TEXT})::varchar(20)",
    "char": "('h' || chr(9 + g % 16) || g)::char(12)",
    "timestamptz": "CASE g WHEN 1 THEN '-infinity' ELSE '1999-12-31 23:59+07'::timestamptz + g * (interval '71 h') END",
    "timestamp": "'0004-12-30 BC'::timestamp + g * '3 d 1 ms'::interval",
    "date": "'0001-12-30 BC'::date + g",
    "interval": "g * '-1 mon 31 d 1 us'::interval",
    "bytea": "decode(md5(g::text), 'hex')",
    "inet": "'10.0.0.0'::inet + g * 77",
    "bool and int": "g % 2 = 0",
    "enum and int": "(ARRAY['mới', 'Đã xong', '''']::muc[])[g % 3 + 1]",
}
SEVERAL = ("bool and int", "enum and int")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of so few rows that every kind of value is a boundary."""
    monkeypatch.setattr(readers, "ROWS", 7)


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("age", [600, 0], ids=["before streaming", "while streaming"])
def test_every_row_is_read_once(database: Database, tmp_path: Path, kind: str, age: float) -> None:
    """A key of one column, or of two of which the first is not unique: cut anywhere, the log has each row once."""
    tables = f"""
    CREATE TABLE ho_so (id int PRIMARY KEY);
    CREATE TYPE muc AS ENUM ('mới', 'Đã xong', '''');
    CREATE TABLE t AS SELECT {KEYS[kind]} AS k, g AS n, 'r' || g AS v FROM generate_series(1, {ROWS}) g;
    ALTER TABLE t ADD PRIMARY KEY ({"k, n" if kind in SEVERAL else "k"});
    """
    selected = TableSelection("public", "t", Role.REFERENCE, ("k", "n", "v"))
    attached = attach(database, tmp_path, tables, TableSelection("public", "ho_so", Role.DOSSIER, ()), selected)
    try:
        attached.settings = attached.settings_with(snapshot_age=age)
        with attached.capturing():
            pass
        for partition in attached.records():
            found = [change for change in partition if change.op is Op.READ]
            assert sorted(change.after["n"] for change in found if change.after) == list(range(1, ROWS + 1))
            assert len({change.key for change in found}) == ROWS
    finally:
        attached.close()


@pytest.mark.parametrize("ignoring_case", [False, True])
def test_vietnamese_order(database: Database, tmp_path: Path, ignoring_case: bool) -> None:
    """A key in the order of a Vietnamese dictionary, where upper and lower case may even be equal.

    A server that was built without ICU has the order of its bytes instead.
    """
    with psycopg.connect(database.dsn("postgres"), autocommit=True) as admin:
        icu = bool(admin.execute("SELECT FROM pg_collation WHERE collname = 'vi-x-icu'").fetchall())
    order = f"provider = icu, locale = 'vi-u-ks-level2', deterministic = {not ignoring_case}" if icu else "locale = 'C'"
    tables = f"""
    CREATE COLLATION viet ({order});
    CREATE TABLE ho_so (k text COLLATE viet PRIMARY KEY, n int);
    INSERT INTO ho_so SELECT {_TEXT}, g FROM generate_series(1, {ROWS}) g ON CONFLICT DO NOTHING;
    """
    selected = TableSelection("public", "ho_so", Role.DOSSIER, ("n",))
    attached = attach(database, tmp_path, tables, selected)
    try:
        with attached.capturing():
            pass
        found = [change.after["n"] for partition in attached.records() for change in partition if change.after]
        assert sorted(found) == [n for (n,) in attached.ask("SELECT n FROM ho_so ORDER BY n")]
    finally:
        attached.close()
