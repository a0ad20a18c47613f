"""Live rows as the mapping sees them: for `preview`, reading only.

Contract: rows have the same representation as in the log (COPY's text through `columntype.parse`), so a preview shows
exactly what a judgement would see; nothing is locked beyond ACCESS SHARE, and every question has the source's timeouts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import psycopg
from psycopg import sql

from connector.change.columntype import DEFAULTS, TypeOptions
from connector.change.record import Row, Value
from connector.change.selection import Selection
from connector.mapping.kinds import canonical
from connector.mapping.view import SEPARATOR
from connector.source.catalog import CatalogTable, read_catalog
from connector.source.connection import command_error
from connector.source.copytext import copy_row


class LiveDossier:
    """A dossier's rows, read when the mapping asks for them (`mapping.view.DossierView`)."""

    def __init__(self, reader: LiveReader, row: Row, key: str) -> None:
        self._reader = reader
        self._key = key
        self.dossier = row

    def children(self, table: str) -> Sequence[Row]:
        return self._reader.children(table, self._key)

    def reference(self, table: str, lookup: str, value: Value) -> Row | None:
        return self._reader.reference(table, lookup, canonical(value))


class LiveReader:
    """Reads the captured columns of live rows. Raises SourceError for what stands in the way."""

    def __init__(
        self,
        connection: psycopg.Connection,
        selection: Selection,
        publication: str,
        options: TypeOptions = DEFAULTS,
    ) -> None:
        self._connection = connection
        self._selection = selection
        self._tables = read_catalog(connection, selection, publication, options)
        self._references: dict[tuple[str, str, str], Row | None] = {}

    def dossiers(self, limit: int) -> Iterator[LiveDossier]:
        """The `limit` dossiers with the highest keys, highest first."""
        table = self._tables[self._selection.dossier.full_name]
        key = table.shape.key[0].name
        tail = sql.SQL("ORDER BY {} DESC LIMIT {}").format(sql.Identifier(key), sql.Literal(limit))
        for row, texts in self._rows(table, tail):
            yield LiveDossier(self, row, texts[key] or "")

    def children(self, name: str, dossier: str) -> list[Row]:
        """A dossier's rows in a child table, in order of their primary key."""
        table = self._tables[name]
        assert table.selection.link is not None
        keys = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.shape.key)
        tail = sql.SQL("WHERE {}::text = {} ORDER BY {}").format(
            sql.Identifier(table.selection.link), sql.Literal(dossier), keys
        )
        return [row for row, _ in self._rows(table, tail)]

    def reference(self, name: str, lookup: str, value: str) -> Row | None:
        """The reference row whose lookup has this canonical text; of several, the one with the smallest key."""
        asked = (name, lookup, value)
        if asked not in self._references:
            table = self._tables[name]
            keys = sql.SQL(", ").join(sql.Identifier(key.name) for key in table.shape.key)
            equal = sql.SQL(" AND ").join(
                sql.SQL("btrim({}::text) = {}").format(sql.Identifier(column), sql.Literal(part))
                for column, part in zip(lookup.split(SEPARATOR), value.split(SEPARATOR), strict=True)
            )
            tail = sql.SQL("WHERE {} ORDER BY {} LIMIT 1").format(equal, keys)
            self._references[asked] = next((row for row, _ in self._rows(table, tail)), None)
        return self._references[asked]

    def _rows(self, table: CatalogTable, tail: sql.Composed) -> Iterator[tuple[Row, dict[str, str | None]]]:
        shape = table.shape
        query = sql.SQL("COPY (SELECT {} FROM {} {}) TO STDOUT").format(
            sql.SQL(", ").join(sql.Identifier(column.name) for column in shape.columns),
            sql.Identifier(shape.schema, shape.table),
            tail,
        )
        try:
            with self._connection.cursor() as cursor, cursor.copy(query) as copy:
                data = b"".join(bytes(block) for block in copy)
        except psycopg.Error as error:
            raise command_error(
                "read live rows", shape.full_name, error, "grant SELECT as `emc-cdc setup` prints it"
            ) from None
        for line in data.splitlines():
            row: Row = {}
            texts: dict[str, str | None] = {}
            for column, field in zip(shape.columns, copy_row(line), strict=True):
                text = None if field is None else field.decode()
                texts[column.name] = text
                row[column.name] = None if text is None else shape.type_of(column).parse(text)
            yield row, texts
