"""A compiled mapping: what to capture, how to look rows up, and the function from rows to facts.

Invariants: a plan names everything it will ever ask for (`selection`, `lookups`, `children`); `facts` is pure, asks
the view for each reference row at most once and never raises for what a row holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from connector.change.selection import Selection
from connector.errors import ConfigError
from connector.mapping.facts import Facts
from connector.mapping.marks import Mark, Problems, nearest
from connector.mapping.moments import is_of
from connector.mapping.view import DossierView


@dataclass(frozen=True, slots=True)
class Child:
    """A child table: its rows belong to the dossier whose key is in `link`, in the order of `order_by`."""

    table: str
    link: str
    order_by: str


@dataclass(frozen=True, slots=True)
class TableUse:
    """Where the mapping names a table (`schema.table`)."""

    table: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class ColumnUse:
    """Where the mapping names a column of a table.

    value: its content goes to EMC or into a value map. moment: the type of date or time it is read as. whole: the
    beginning of a value would not do, as it would for plain words, or where it is only asked whether it is filled.
    """

    table: str
    column: str
    mark: Mark
    value: bool = False
    moment: str | None = None
    whole: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """One mapping, compiled.

    selection: the tables and columns that are captured; references and children that no value uses are left out.
    version: 12 hex digits that change when the meaning of the mapping's text changes (not its comments or order).
    lookups: (`schema.table`, lookup) pairs by which reference rows are looked up (`DossierView.reference`).
    children: the child tables in use.
    tables, columns: where the YAML names them, for `against_catalog`.
    needs: parameter (`CodeTTHC`, `User.account`) → the entries of `Facts.missing` that may make it unknown.
    """

    selection: Selection
    version: str
    lookups: tuple[tuple[str, str], ...]
    children: tuple[Child, ...]
    tables: tuple[TableUse, ...]
    columns: tuple[ColumnUse, ...]
    needs: Mapping[str, frozenset[str]]
    judge: Callable[[DossierView], Facts]

    def facts(self, view: DossierView) -> Facts:
        """What is true of one dossier now."""
        return self.judge(view)


def _mend(column_type: str) -> str:
    if column_type.startswith(("date", "timestamp")):
        return "write it as text: {date: column, type: timestamp, format: dd/MM/yyyy}"
    return "use another column; whether it is filled is asked by a condition: {set: true}"


_NO_VALUES = re.compile(
    r"timestamp|date|time|interval|bytea|json|xml|point|bit varying|varbit|bit\((?!1\))|(.*\.)?hstore\Z|.*\[\]\Z|_"
)
"""Types, by `format_type` or `pg_type.typname`, whose representation in the log says nothing to EMC."""


def check_truncation(plan: Plan, names: Sequence[tuple[str, Mark]], problems: Problems) -> None:
    """Note what of `log.truncate` may not be cut: columns that are not captured, and those of which all is needed."""
    cut = {f"{use.table}.{use.column}": use for use in plan.columns}
    needed = {f"{use.table}.{use.column}": use for use in plan.columns if use.whole}
    for name, mark in names:
        if name not in cut:
            allowed = [column for column in cut if column not in needed] or ["(no column of this mapping)"]
            problems.choose(mark, f"the mapping captures no column '{name}'", name, allowed)
        elif name in needed:
            told = f"all of '{name}' is needed: the mapping decides by it, or it is a code ({needed[name].mark})"
            problems.add(mark, told, "cut another column, or none: on_oversized: halt")


def against_catalog(plan: Plan, columns: Mapping[str, Mapping[str, str]]) -> list[ConfigError]:
    """What of the mapping the database does not have, each at its place in the YAML; empty when all is there.

    columns: `schema.table` → column → type name, as `format_type` or `pg_type.typname` writes it, of every table
    the runtime role can see.
    """
    found = Problems()
    for use in plan.tables:
        if use.table not in columns:
            told = f"the database has no table {use.table}, or the connector's role cannot see it"
            found.add(use.mark, told, nearest(use.table, columns) or "write schema.table as the database has it")
    for name in plan.columns:
        has = columns.get(name.table)
        if has is None:
            continue
        if name.column not in has:
            told = f"table {name.table} has no column {name.column}"
            found.add(name.mark, told, nearest(name.column, has) or f"its columns: {', '.join(has)}")
        elif name.moment is not None:
            if not is_of(name.moment, has[name.column]):
                told = f"column {name.column} of {name.table} is of type {has[name.column]}, not {name.moment}"
                found.add(name.mark, told, "write the type as the database has it")
        elif name.value and _NO_VALUES.match(has[name.column]):
            told = f"column {name.column} of {name.table} is of type {has[name.column]}, which is no text or number"
            found.add(name.mark, told, _mend(has[name.column]))
    return found.errors()
