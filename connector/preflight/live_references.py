"""Reference rows of a live database, by what the mapping looks them up with.

Contract: `find` never asks the database: a row that nobody fetched yet is noted, counted in `lacked`, and told as
missing; `fetch` brings all that was noted, in one question for each table and lookup. Rows are equal by
`kinds.canonical`, as in the delivery state. A table of up to `_WHOLE` rows is read once and as a whole; of a larger one
(accounts, say) up to `_REMEMBERED` answers are remembered, so that memory is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from psycopg import sql

from connector.change.record import Row
from connector.mapping.kinds import canonical
from connector.mapping.view import SEPARATOR
from connector.preflight.live_rows import TableReader

_WHOLE = 20_000
_REMEMBERED = 20_000

Lookup = tuple[str, str]
"""Table, and columns with SEPARATOR between them (`mapping.view`)."""


class References:
    """See the module's contract."""

    def __init__(self, tables: Mapping[str, TableReader]) -> None:
        self._tables = tables
        self._known: dict[Lookup, dict[str, Row | None]] = {}
        self._whole: set[Lookup] = set()
        self._large: set[str] = set()
        self._noted: dict[Lookup, dict[str, None]] = {}
        self.lacked = 0
        """How often `find` did not know."""

    def find(self, table: str, lookup: str, value: str) -> Row | None:
        """The row whose lookup has this canonical text; of several, the one with the smallest primary key."""
        asked = (table, lookup)
        known = self._known.setdefault(asked, {})
        if value in known:
            return known[value]
        if asked not in self._whole:
            self._noted.setdefault(asked, {})[value] = None
            self.lacked += 1
        return None

    def fetch(self) -> None:
        """Bring what was noted."""
        for asked, values in self._noted.items():
            table, lookup = asked
            if table not in self._large and self._read_whole(asked):
                continue
            known, columns = self._known[asked], lookup.split(SEPARATOR)
            known |= dict.fromkeys(values)
            parts = list(zip(*(value.split(SEPARATOR) for value in values), strict=True))
            reader = self._tables[table]
            self._take(known, columns, reader, [reader.among(*each) for each in zip(columns, parts, strict=True)])
            left = [value for value in values if known[value] is None]
            if left and any(map(reader.padded, columns)):
                parts = list(zip(*(value.split(SEPARATOR) for value in left), strict=True))
                self._take(known, columns, reader, [reader.spelt(*each) for each in zip(columns, parts, strict=True)])
        self._noted.clear()

    def trim(self) -> None:
        """Forget what is much. Not while a batch is at hand."""
        for asked, known in self._known.items():
            if asked not in self._whole and len(known) > _REMEMBERED:
                known.clear()

    def _read_whole(self, asked: Lookup) -> bool:
        """All rows of a table, if they are few."""
        table, lookup = asked
        reader = self._tables[table]
        tail = reader.in_order() + sql.SQL(" LIMIT {}").format(sql.Literal(_WHOLE + 1))
        rows = [row for row, _, _ in reader.rows([], tail)]
        if len(rows) > _WHOLE:
            self._large.add(table)
            return False
        columns = lookup.split(SEPARATOR)
        known = self._known[asked]
        for row in rows:
            if (value := _looked_up(row, columns)) is not None:
                known.setdefault(value, row)
        self._whole.add(asked)
        return True

    def _take(
        self, known: dict[str, Row | None], columns: list[str], reader: TableReader, where: Iterable[sql.Composed]
    ) -> None:
        for row, _, _ in reader.rows(list(where), reader.in_order()):
            value = _looked_up(row, columns)
            if value in known and known[value] is None:
                known[value] = row


def _looked_up(row: Row, columns: list[str]) -> str | None:
    parts = [row[column] for column in columns]
    return None if any(part is None for part in parts) else SEPARATOR.join(map(canonical, parts))
