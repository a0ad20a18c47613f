"""Lines of COPY's text format are read as what was stored, whatever a text holds."""

from __future__ import annotations

import psycopg
from hypothesis import given
from hypothesis import strategies as st
from plugins.postgres import Database

from connector.source.copytext import copy_row

AWKWARD = [
    "",
    " ",
    "\t",
    "\n",
    "\r\n",
    "\\",
    "\\\\",
    "\\N",
    "\\.",
    "\\t",
    "\\\t\\\n\\",
    "\b\f\v",
    "a\tb\nc\\d",
    "Nguyễn Thị Ánh — hồ sơ số 01/2025 «đặc biệt»",
    "e\u0302\u0323",
    "😀\t😀",
    "x" * 100_000 + "\n\\",
    None,
]


def test_what_a_server_writes_is_read(database: Database) -> None:
    """Awkward texts and NULL come out of COPY as they were put in, in every column."""
    with psycopg.connect(database.dsn(), autocommit=True) as owner:
        owner.execute("CREATE TABLE t (id int, a text, b text)")
        rows = [(number, text, other) for number, (text, other) in enumerate(zip(AWKWARD, AWKWARD[::-1], strict=True))]
        with owner.cursor() as cursor:
            cursor.executemany("INSERT INTO t VALUES (%s, %s, %s)", rows)
            with cursor.copy("COPY (SELECT * FROM t ORDER BY id) TO STDOUT") as copy:
                written = b"".join(map(bytes, copy))
    lines = written.split(b"\n")
    assert lines.pop() == b""
    assert [copy_row(line) for line in lines] == [
        [None if value is None else str(value).encode() for value in row] for row in rows
    ]


_ESCAPED = {"\\": r"\\", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"}


@given(st.lists(st.none() | st.text(st.characters(codec="utf-8")), min_size=1))
def test_escaping_is_undone(row: list[str | None]) -> None:
    """Any texts, escaped as PostgreSQL's manual says, are found again."""
    fields = [r"\N" if text is None else "".join(_ESCAPED.get(char, char) for char in text) for text in row]
    assert copy_row("\t".join(fields).encode()) == [None if text is None else text.encode() for text in row]
