"""The first read of the captured tables, as of one exported snapshot.

Contract: `copy_table` yields each row once, as the texts of the kept columns, read by COPY inside a REPEATABLE READ
transaction that uses the slot's snapshot, so that rows and stream meet without gap or overlap. It locks nothing that
blocks a writer (COPY takes ACCESS SHARE) and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import psycopg
from psycopg import sql

from connector.source.catalog import CatalogTable
from connector.source.connection import command_error

_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def use_snapshot(connection: psycopg.Connection, snapshot: str) -> int:
    """Open the transaction that shows the exported snapshot. Returns its time, microseconds since the Unix epoch."""
    try:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
        # A big table takes longer than any sensible limit on a question.
        connection.execute("SET LOCAL statement_timeout = 0")
        row = connection.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").fetchone()
    except psycopg.Error as error:
        raise command_error("read the snapshot", snapshot, error, "start again: a new snapshot is made") from None
    assert row is not None
    return int(row[0])


def copy_table(connection: psycopg.Connection, table: CatalogTable) -> Iterator[Sequence[bytes | None]]:
    """Every row of a table, as the kept columns' texts in shape order."""
    shape = table.shape
    query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(
        sql.SQL(", ").join(sql.Identifier(column.name) for column in shape.columns),
        sql.Identifier(shape.schema, shape.table),
    )
    rest = b""
    try:
        with connection.cursor() as cursor, cursor.copy(query) as copy:
            for block in copy:
                lines = (rest + bytes(block)).split(b"\n")
                rest = lines.pop()
                for line in lines:
                    yield copy_row(line)
    except psycopg.Error as error:
        raise command_error(
            "read the snapshot", shape.full_name, error, "grant SELECT as `emc-cdc setup` prints it, and start again"
        ) from None


def copy_row(line: bytes) -> list[bytes | None]:
    """One line of COPY's text format (PostgreSQL, COPY, File Formats): tab-separated, backslash-escaped."""
    fields = line.split(b"\t")
    if b"\\" not in line:
        return fields  # type: ignore[return-value]
    return [None if field == b"\\N" else _unescape(field) if b"\\" in field else field for field in fields]


def _unescape(field: bytes) -> bytes:
    first, *parts = field.split(b"\\")
    out = [first]
    pairs = iter(parts)
    for part in pairs:
        if part:
            out.append(_ESCAPES.get(part[:1], part[:1]) + part[1:])
        else:  # two backslashes in a row: one of them escapes the other
            out.append(b"\\" + next(pairs, b""))
    return b"".join(out)
