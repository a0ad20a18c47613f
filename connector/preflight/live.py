"""Live rows as the mapping sees them: for `preview` and `report`, reading only.

Contract: rows have the same representation as in the log (COPY's text through `columntype.parse`), so that what is made
of them is what a judgement would make; nothing is locked beyond ACCESS SHARE, and every question has the source's
timeouts. Dossiers come in batches of some thousands, each with its child rows, read by key; a batch is seen at one
moment (a transaction of its own), so no transaction of the application is seen by halves, and no snapshot is held for
longer than a batch. Memory is bounded by a batch and the reference rows that are remembered.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date, timedelta

import psycopg
from psycopg import sql

from connector.change.columntype import DEFAULTS, TypeOptions
from connector.change.record import Row, Value
from connector.change.selection import Role, Selection
from connector.mapping.facts import Facts
from connector.mapping.kinds import canonical
from connector.mapping.plan import Plan
from connector.preflight.live_references import References
from connector.preflight.live_rows import TableReader, TooSlow
from connector.source.catalog import read_catalog
from connector.source.connection import command_error

BATCH = 2000
"""Dossiers of a batch, at first: fewer where statement_timeout strikes."""
_FEWEST = 50
_DATE, _TIMESTAMP, _TIMESTAMPTZ = 1082, 1114, 1184
VIETNAM_ZONE = "Asia/Ho_Chi_Minh"


class LiveDossier:
    """One dossier as it was read (`mapping.view.DossierView`). month: `2026-11`, where dates were asked for."""

    __slots__ = ("_children", "_references", "dossier", "key", "month")

    def __init__(self, key: str, row: Row, month: str | None, references: References) -> None:
        self._children: dict[str, list[Row]] = {}
        self._references = references
        self.key = key
        self.dossier = row
        self.month = month

    def children(self, table: str) -> Sequence[Row]:
        return self._children.get(table, ())

    def reference(self, table: str, lookup: str, value: Value) -> Row | None:
        return self._references.find(table, lookup, canonical(value))

    def adopt(self, table: str, row: Row) -> None:
        """A child row, in the order in which they are to be seen."""
        self._children.setdefault(table, []).append(row)


@dataclass(frozen=True, slots=True)
class Dates:
    """By which column dossiers are dated, in whose zone, and which of them are wanted (both days included)."""

    column: str
    zone: str = VIETNAM_ZONE
    since: date | None = None
    until: date | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """passed: how many rows of the dossier table were looked at for it."""

    dossiers: tuple[LiveDossier, ...]
    passed: int


class LiveReader:
    """Reads what one plan needs. Raises SourceError for what stands in the way.

    more: columns of the dossier table that are read beside those of the plan.
    """

    def __init__(
        self,
        connection: psycopg.Connection,
        plan: Plan,
        publication: str,
        options: TypeOptions = DEFAULTS,
        more: Collection[str] = (),
    ) -> None:
        self._connection = connection
        self._plan = plan
        tables = read_catalog(connection, _with(plan.selection, more), publication, options)
        self._tables = {name: TableReader(connection, table) for name, table in tables.items()}
        self._dossiers = self._tables[plan.selection.dossier.full_name]
        self._references = References(self._tables)

    @property
    def estimate(self) -> int:
        """About how many dossiers there are; 0 when the planner does not know."""
        return max(0, self._dossiers.table.estimate)

    def date_columns(self) -> list[str]:
        """The columns of the dossier table, among those that are read, that hold dates or times."""
        return [name for name, oid in self._dossiers.types.items() if oid in (_DATE, _TIMESTAMP, _TIMESTAMPTZ)]

    # -- batches -----------------------------------------------------------------------------------------------------

    def newest(self, limit: int) -> Iterator[Batch]:
        """The `limit` dossiers with the highest keys, highest first."""
        last: str | None = None
        while limit > 0:
            with self._moment():
                where = [] if last is None else [self._beyond("<", last)]
                dossiers = self._read(where, "DESC", min(limit, BATCH), None)
                yield Batch(dossiers, len(dossiers))
            if len(dossiers) < min(limit, BATCH):
                return
            limit -= len(dossiers)
            last = dossiers[-1].key

    def all(self, dates: Dates, pause: float = 0.0) -> Iterator[Batch]:
        """Every dossier whose date is wanted, in the order of keys; where no day is named those without a date, too.

        pause: seconds between two batches, in which nothing is held.
        """
        last: str | None = None
        rows = BATCH
        while True:
            with self._moment():
                try:
                    high = self._dossiers.boundary(last, rows)
                    where = [] if last is None else [self._beyond(">", last)]
                    where += [] if high is None else [self._beyond("<=", high)]
                    dossiers = self._read([*where, *self._wanted(dates)], "ASC", None, dates)
                except TooSlow:
                    if rows <= _FEWEST:
                        raise
                    rows = max(_FEWEST, rows // 4)
                    continue
                yield Batch(dossiers, rows)
            if high is None:
                return
            last = high
            time.sleep(pause)

    def these(self, keys: Sequence[str]) -> dict[str, LiveDossier]:
        """The dossiers with these keys, at the moment of the batch that another reader has open."""
        where = [self._dossiers.among(self._dossiers.key, keys)]
        return {one.key: one for one in self._read(where, "ASC", None, None)}

    def facts(self, dossiers: Sequence[LiveDossier]) -> list[Facts]:
        """What is true of each dossier. To be asked while the batch is at hand."""
        found: dict[int, Facts] = {}
        unknown = list(range(len(dossiers)))
        while unknown:
            # What is asked of reference rows shows only in asking: whoever lacked one asks again once it was fetched.
            short = []
            for number in unknown:
                lacked = self._references.lacked
                facts = self._plan.facts(dossiers[number])
                if self._references.lacked == lacked:
                    found[number] = facts
                else:
                    short.append(number)
            self._references.fetch()
            unknown = short
        return [found[number] for number in range(len(dossiers))]

    # -- one batch ---------------------------------------------------------------------------------------------------

    def _moment(self) -> AbstractContextManager[None]:
        self._references.trim()
        return _moment(self._connection)

    def _read(
        self, where: Sequence[sql.Composable], order: str, limit: int | None, dates: Dates | None
    ) -> tuple[LiveDossier, ...]:
        reader = self._dossiers
        month = [] if dates is None else [self._month(dates)]
        tail = sql.SQL(" ORDER BY {} {}").format(sql.Identifier(reader.key), sql.SQL(order))
        if limit is not None:
            tail += sql.SQL(" LIMIT {}").format(sql.Literal(limit))
        found: dict[str, LiveDossier] = {}
        for row, texts, extra in reader.rows(where, tail, month):
            key = texts[reader.key] or ""
            found[key] = LiveDossier(key, row, extra[0] if extra else None, self._references)
        for child in self._plan.children if found else ():
            table = self._tables[child.table]
            own = [table.among(child.link, found, reader.types[reader.key])]
            for row, texts, _ in table.rows(own, table.in_order()):
                dossier = found.get(texts[child.link] or "")
                if dossier is not None:
                    dossier.adopt(child.table, row)
        return tuple(found.values())

    def _beyond(self, sign: str, key: str) -> sql.Composed:
        return sql.SQL("{} {} {}").format(sql.Identifier(self._dossiers.key), sql.SQL(sign), sql.Literal(key))

    # -- dates -------------------------------------------------------------------------------------------------------

    def _wanted(self, dates: Dates) -> list[sql.Composable]:
        day = self._local(dates)
        found: list[sql.Composable] = []
        if dates.since is not None:
            found.append(sql.SQL("{} >= {}").format(day, sql.Literal(dates.since.isoformat())))
        if dates.until is not None:
            after = dates.until + timedelta(days=1)
            found.append(sql.SQL("{} < {}").format(day, sql.Literal(after.isoformat())))
        return found

    def _month(self, dates: Dates) -> sql.Composed:
        day = self._local(dates)
        return sql.SQL("CASE WHEN isfinite({0}) THEN to_char({0}, 'YYYY-MM') END").format(day)

    def _local(self, dates: Dates) -> sql.Composable:
        """The date as the clock on the wall shows it: a time without zone is taken as it stands."""
        column = sql.Identifier(dates.column)
        if self._dossiers.types[dates.column] == _TIMESTAMPTZ:
            return sql.SQL("({} AT TIME ZONE {})").format(column, sql.Literal(dates.zone))
        return column


@contextmanager
def _moment(connection: psycopg.Connection) -> Iterator[None]:
    """A transaction that sees one moment, and writes nothing."""
    try:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    except psycopg.Error as error:
        raise command_error("read live rows", "source.dsn", error, "run it again") from None
    try:
        yield
    finally:
        with suppress(psycopg.Error):  # a connection that is gone has rolled back
            connection.rollback()


def _with(selection: Selection, more: Collection[str]) -> Selection:
    """The selection with columns of the dossier table that the mapping does not name."""
    if not more:
        return selection
    return Selection(
        tuple(
            replace(table, columns=tuple(dict.fromkeys((*table.columns, *more))))
            if table.role is Role.DOSSIER
            else table
            for table in selection.tables
        )
    )
