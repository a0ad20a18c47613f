"""How a table is cut into chunks by its key, and how far reading it has come (pure).

A span is a half-open range of keys `(low, high]` in the order of the identity index; None is the end of the table on
that side. Invariant: what has been told and what is pending cover the table without overlap, whatever was cut,
taken back or read by several readers at once; `dump` keeps the pending spans, so that finished ones stay finished.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from connector.change.shape import Shape
from connector.source.catalog import CatalogTable

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Keys after `low`, up to and with `high`."""

    low: Key | None
    high: Key | None


WHOLE = Span(None, None)


class TablePlan:
    """One table's reading. `rows`: told so far."""

    def __init__(self, table: CatalogTable, pending: Sequence[Span] = (WHOLE,), rows: int = 0) -> None:
        self.table = table
        self.rows = rows
        self._waiting = deque(pending)
        self._taken: list[Span] = []

    @property
    def waiting(self) -> bool:
        """There is something to be taken."""
        return bool(self._waiting)

    @property
    def finished(self) -> bool:
        """Everything has been told."""
        return not self._waiting and not self._taken

    def take(self) -> Span:
        """The next span; it may be `cut`, and is to be `told` or `put_back`."""
        span = self._waiting.popleft()
        self._taken.append(span)
        return span

    def cut(self, span: Span, at: Key) -> Span:
        """Keep the part of a taken span up to `at`; the rest is for the next. Returns the part."""
        self._taken.remove(span)
        part = Span(span.low, at)
        self._taken.append(part)
        self._waiting.appendleft(Span(at, span.high))
        return part

    def put_back(self, span: Span) -> None:
        """A taken span, or what it was cut to, has to be read (again), after what waits."""
        taken = next(each for each in self._taken if each.low == span.low)
        self._taken.remove(taken)
        self._waiting.append(taken)

    def told(self, span: Span, rows: int) -> None:
        """A taken span's rows are on their way to the log."""
        self._taken.remove(span)
        self.rows += rows

    def begin_again(self) -> None:
        """The whole table is to be read once more."""
        self._waiting.append(WHOLE)
        self.rows = 0

    def dump(self) -> dict[str, Any]:
        """What is pending, as JSON has it."""
        pending = [[span.low, span.high] for span in (*self._taken, *self._waiting)]
        return {"rows": self.rows, "pending": pending, "estimate": self.table.estimate}


def load_plan(table: CatalogTable, dumped: Mapping[str, Any] | None) -> TablePlan:
    """The reverse of `dump`; the whole table where there is nothing to go on with."""
    if dumped is None:
        return TablePlan(table)
    spans = [Span(*(None if key is None else tuple(key) for key in span)) for span in dumped["pending"]]
    return TablePlan(table, spans, dumped["rows"])


def boundary_query(table: CatalogTable, span: Span, rows: int) -> sql.Composed:
    """The key at which a span is cut, so that `rows` rows are before it and at it; no row when it has fewer."""
    query = "SELECT {texts} FROM (SELECT {keys} FROM {table}{where} ORDER BY {keys} OFFSET {n} LIMIT 1) k"
    return sql.SQL(query).format(
        texts=_listed("{}::text", table.key),
        keys=_listed("{}", table.key),
        table=_name(table),
        where=_where(table, span),
        n=sql.Literal(rows - 1),
    )


def copy_query(table: CatalogTable, shape: Shape, span: Span) -> sql.Composed:
    """COPY of a span's kept columns, in the order of the key."""
    return sql.SQL("COPY (SELECT {columns} FROM {table}{where} ORDER BY {keys}) TO STDOUT").format(
        columns=_listed("{}", [column.name for column in shape.columns]),
        table=_name(table),
        where=_where(table, span),
        keys=_listed("{}", table.key),
    )


def lock_query(table: CatalogTable) -> sql.Composed:
    """Takes the lock that a read takes anyway (ACCESS SHARE, which blocks no writer), and reads nothing."""
    return sql.SQL("SELECT FROM {} LIMIT 0").format(_name(table))


def _where(table: CatalogTable, span: Span) -> sql.Composable:
    # Untyped constants take the type of the column that they are compared with.
    keys = sql.SQL("({})").format(_listed("{}", table.key))
    bounds = [
        sql.SQL("{} {} ({})").format(keys, sql.SQL(sign), sql.SQL(", ").join(map(sql.Literal, key)))
        for sign, key in ((">", span.low), ("<=", span.high))
        if key is not None
    ]
    return sql.SQL(" WHERE ") + sql.SQL(" AND ").join(bounds) if bounds else sql.SQL("")


def _listed(form: str, names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(form).format(sql.Identifier(name)) for name in names)


def _name(table: CatalogTable) -> sql.Identifier:
    return sql.Identifier(table.selection.schema, table.selection.name)
