"""Whether a relation, as the stream describes it, fits the mapping; and which columns it has, when names do not tell.

Contract: a relation comes with the base types of its columns (`basetypes`).
The stream has the names of its time, the catalog those of the time when it was read. Where they differ only a
catalog that is younger than the transaction is believed; against an older one `fit` raises SourceHeld, and the next
session looks again. A column is known by its number (pg_attribute.attnum): a rename keeps it, and a column that was
dropped and added again has another. So a column renamed away and back loses nothing; one that was dropped and is there
again is left out of the rows of the time between, in which it did not exist; rows of which the stream does not have a
column that did exist cannot be told, and that is a SourceGap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from connector.catalog.identifier import qualified
from connector.change.selection import TableSelection
from connector.change.shape import Column, Shape
from connector.errors import SourceError, SourceGap, SourceHeld
from connector.source.catalog import CatalogTable
from connector.source.decode.messages import Relation, RelationColumn

_OPERATION = "decode the replication stream"


def fit(relation: Relation, table: CatalogTable, catalog_is_younger: bool) -> tuple[Relation, Shape]:
    """The relation with its mapped columns under their mapped names, and the kept shape under the table's name.

    SourceHeld when it does not carry what is mapped, SourceGap when it never will; SourceError when it identifies its
    rows by other columns than the log does. Without identity (NOTHING) there are only rows that are new: PostgreSQL
    refuses the others to the application.
    """
    selection = table.selection
    known = {column.name for column in table.shape.key}
    wanted = {*selection.columns, *known, *([selection.link] if selection.link else [])}
    absent = sorted(wanted - {column.name for column in relation.columns})
    if absent:
        if not catalog_is_younger:
            raise held_back(selection, absent)
        relation = _under_mapped_names(relation, table, absent)
    keys = {column.name for column in relation.columns if column.key}
    if relation.identity in "fn":  # every column is flagged, or none: the key is the one the log has
        keys = known
    if keys != known:
        raise other_key(selection, sorted(known), sorted(keys))
    columns = tuple(
        Column(column.name, column.type_oid, column.typmod, column.name in keys)
        for column in relation.columns
        if column.name in wanted
    )
    return relation, Shape(selection.schema, selection.name, columns, table.shape.options)


def _under_mapped_names(relation: Relation, table: CatalogTable, absent: Sequence[str]) -> Relation:
    """Columns that were renamed since, renamed; those that did not exist are left out."""
    types = {column.name: column.type_oid for column in table.shape.columns}
    needed = {*(column.name for column in table.shape.key), table.selection.link}
    columns = list(relation.columns)
    gone = []
    for name in absent:
        if table.numbers[name] != table.known.get(name, table.numbers[name]) and name not in needed:
            continue  # it was dropped, and this is another
        place = _place(relation.columns, table, name)
        if place is None or columns[place].type_oid != types[name]:
            gone.append(name)
        else:
            columns[place] = replace(columns[place], name=name)
    if gone:
        raise untold(table.selection, gone)
    return replace(relation, columns=tuple(columns))


def _place(columns: Sequence[RelationColumn], table: CatalogTable, name: str) -> int | None:
    """Where a column stood that had another name; None when that is unclear.

    Columns stand in the order of their numbers, and new ones are added at the end. So between two columns that are
    known by name its place is found by counting, as long as none that is dropped by now can have been in between.
    """
    numbers, number = table.numbers, table.numbers[name]
    known = [(at, numbers[column.name]) for at, column in enumerate(columns) if column.name in numbers]
    if any(one >= following for (_, one), (_, following) in pairwise(known)):
        return None  # a name went from one column to another
    end = max(*numbers.values(), *table.dropped, 0) + 1
    before, low = max((anchor for anchor in known if anchor[1] < number), default=(-1, 0))
    after, high = min((anchor for anchor in known if anchor[1] > number), default=(len(columns), end))
    there = sorted(other for other in numbers.values() if low < other < high)
    if not any(low < dropped < number for dropped in table.dropped):
        place = before + 1 + there.index(number)
    elif after < len(columns) and not any(number < dropped < high for dropped in table.dropped):
        place = after - len(there) + there.index(number)
    else:
        return None
    return place if before < place < after else None


def held_back(selection: TableSelection, absent: Sequence[str]) -> SourceHeld:
    """The stream does not have mapped columns (any more)."""
    return SourceHeld(
        _OPERATION,
        selection.full_name,
        f"the mapped column {', '.join(absent)} is not published any more (dropped, renamed, unlisted)",
        "nothing is lost: the slot keeps the place. Bring the column back, under its name and in the publication, and"
        " capture goes on by itself; or correct the mapping to the table's new columns and start again",
    )


def renamed(selection: TableSelection, now: str) -> SourceHeld:
    """The table has another name now."""
    return SourceHeld(
        _OPERATION,
        selection.full_name,
        f"it is now called {now}",
        "nothing is lost: the slot keeps the place. Rename it back, and capture goes on by itself; or correct the"
        " mapping to the new name and start again",
    )


def untold(selection: TableSelection, absent: Sequence[str]) -> SourceGap:
    """Rows were changed while the stream did not have a column that they had."""
    return SourceGap(
        _OPERATION,
        selection.full_name,
        f"rows were changed while {', '.join(absent)} was not published, so their values are missing in the stream",
        "what is in the log is safe; publish what is mapped, as `emc-cdc setup` prints it",
    )


def other_key(selection: TableSelection, known: Sequence[str], now: Sequence[str]) -> SourceError:
    """Rows are identified by other columns than those that the log knows them by."""
    quoted = qualified(selection.schema, selection.name)
    return SourceError(
        _OPERATION,
        selection.full_name,
        f"its replica identity is now ({', '.join(now)}); the log knows its rows by ({', '.join(known)}),"
        " so an UPDATE or DELETE would not find them",
        f"as the tables' owner: ALTER TABLE {quoted} REPLICA IDENTITY DEFAULT;"
        f" (or USING INDEX one on {', '.join(known)}); then attach anew, because what was changed meanwhile cannot be"
        " told: choose a new `name` (a new log, slot and state)",
    )
