"""Rows of one live table, by COPY, in the log's representation; and the conditions by which they are asked for.

Contract: every failure is a SourceError that names the table; `TooSlow` when a timeout of ours has struck. Values are
compared in a column's own type wherever that cannot fail, so that the application's indexes serve.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

import psycopg
from psycopg import errors, sql

from connector.change.record import Row
from connector.errors import SourceError
from connector.source.catalog import CatalogTable
from connector.source.connection import command_error
from connector.source.copytext import copy_row

_INTEGERS = (20, 21, 23)
_TEXTS = {25: "text", 1042: "bpchar", 1043: "text"}
_OTHERS = {2950: "uuid"}
_NUMERIC = 1700
_NUMBER = re.compile(r"-?\d{1,1000}(\.\d{1,1000})?\Z", re.ASCII)
_LARGEST_BIGINT = 2**63 - 1
_MENDS = {
    "42501": "grant SELECT as `emc-cdc setup` prints it",
    "42P01": "bring the table back, under its name, or correct the mapping",
    "55P03": "a migration holds the table: run it again when that is over",
    "57014": "raise source.statement_timeout: it strikes even where few rows are read",
}

Texts = dict[str, str | None]
"""A row's values as PostgreSQL writes them."""


class TooSlow(SourceError):
    """`source.statement_timeout` has struck: fewer rows may come in time."""


class TableReader:
    """See the module's contract."""

    def __init__(self, connection: psycopg.Connection, table: CatalogTable) -> None:
        self._connection = connection
        self.table = table
        shape = table.shape
        self.types = {column.name: column.type_oid for column in shape.columns}
        self._parsers = [(column.name, shape.type_of(column).parse) for column in shape.columns]
        self._columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in shape.columns)
        self._name = sql.Identifier(shape.schema, shape.table)
        self.key = shape.key[0].name
        """Of a dossier table, whose key is one column."""

    def rows(
        self, where: Sequence[sql.Composable], tail: sql.Composable, more: Sequence[sql.Composable] = ()
    ) -> Iterator[tuple[Row, Texts, list[str | None]]]:
        """Rows that meet all conditions, and the texts of `more` expressions. tail: order and limit."""
        query = sql.SQL("COPY (SELECT {} FROM {}{}{}) TO STDOUT").format(
            sql.SQL(", ").join((self._columns, *more)), self._name, _all(where), tail
        )
        try:
            with self._connection.cursor() as cursor, cursor.copy(query) as copy:
                lines = b"".join(bytes(block) for block in copy).splitlines()
        except psycopg.Error as error:
            raise self._failed(error) from None
        for line in lines:
            fields = [None if field is None else field.decode() for field in copy_row(line)]
            row: Row = {}
            texts: Texts = {}
            for (name, parse), text in zip(self._parsers, fields, strict=False):
                texts[name] = text
                row[name] = None if text is None else parse(text)
            yield row, texts, fields[len(self._parsers) :]

    def boundary(self, low: str | None, count: int) -> str | None:
        """The key of the row `count` rows after the key `low`; None when there are not so many."""
        key = sql.Identifier(self.key)
        where = [] if low is None else [sql.SQL("{} > {}").format(key, sql.Literal(low))]
        query = sql.SQL("SELECT k::text FROM (SELECT {0} FROM {1}{2} ORDER BY {0} OFFSET {3} LIMIT 1) rows (k)").format(
            key, self._name, _all(where), sql.Literal(count - 1)
        )
        try:
            found = self._connection.execute(query).fetchone()
        except psycopg.Error as error:
            raise self._failed(error) from None
        return None if found is None else str(found[0])

    def in_order(self) -> sql.Composed:
        """By primary key."""
        keys = sql.SQL(", ").join(sql.Identifier(column.name) for column in self.table.shape.key)
        return sql.SQL(" ORDER BY {}").format(keys)

    def among(self, column: str, values: Collection[str], type_oid: int | None = None) -> sql.Composed:
        """A condition: the column is one of these texts, which come from a column of type `type_oid` (None: this one).

        To a column of numbers only what is one can be equal, whoever asks.
        """
        own = self.types[column]
        name = sql.Identifier(column)
        if own in _INTEGERS:
            whole = [value for value in values if _is_bigint(value)]
            return sql.SQL("{} = ANY ({}::bigint[])").format(name, sql.Literal(whole))
        if own == _NUMERIC:
            numbers = [value for value in values if _NUMBER.match(value)]
            return sql.SQL("{} = ANY ({}::numeric[])").format(name, sql.Literal(numbers))
        if own in _TEXTS:
            return sql.SQL("{} = ANY ({}::{}[])").format(name, sql.Literal(list(values)), sql.SQL(_TEXTS[own]))
        if own in _OTHERS and type_oid in (None, own):
            return sql.SQL("{} = ANY ({}::{}[])").format(name, sql.Literal(list(values)), sql.SQL(_OTHERS[own]))
        return self.spelt(column, values)

    def padded(self, column: str) -> bool:
        """Whether blanks around a text may keep `among` from finding it."""
        return self.types[column] in _TEXTS

    def spelt(self, column: str, values: Collection[str]) -> sql.Composed:
        """The same by trimmed text, which no index serves."""
        return sql.SQL("btrim({}::text) = ANY ({}::text[])").format(sql.Identifier(column), sql.Literal(list(values)))

    def _failed(self, error: psycopg.Error) -> SourceError:
        subject, mend = self.table.shape.full_name, _MENDS.get(error.sqlstate or "", "run `emc-cdc check`")
        if isinstance(error, errors.QueryCanceled):
            return TooSlow("read live rows", subject, error.diag.message_primary or "timeout", mend)
        return command_error("read live rows", subject, error, mend)


def _all(conditions: Sequence[sql.Composable]) -> sql.Composable:
    return sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("")


def _is_bigint(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdecimal() and len(digits) < 20 and int(digits) <= _LARGEST_BIGINT
