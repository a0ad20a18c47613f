"""A compiled mapping: what to capture, how to look rows up, and the function from rows to facts.

Invariants: a plan names everything it will ever ask for (`selection`, `lookups`, `children`); `facts` is pure, asks
the view for each reference row at most once and never raises for what a row holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from connector.change.selection import Selection
from connector.errors import ConfigError
from connector.mapping.facts import Facts
from connector.mapping.marks import Mark, Problems, nearest
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
    """Where the mapping names a column of a table."""

    table: str
    column: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class LookupUse:
    """A reference's `match`: `column` of `table` is compared with `from_column` of `from_table`."""

    table: str
    column: str
    from_table: str
    from_column: str
    mark: Mark


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """One mapping, compiled.

    selection: the tables and columns that are captured; references and children that no value uses are left out.
    version: 12 hex digits that change when the meaning of the mapping's text changes (not its comments or order).
    lookups: (`schema.table`, column) pairs by which reference rows are looked up.
    children: the child tables in use.
    tables, columns, matches: where the YAML names them, for `against_catalog`.
    """

    selection: Selection
    version: str
    lookups: tuple[tuple[str, str], ...]
    children: tuple[Child, ...]
    tables: tuple[TableUse, ...]
    columns: tuple[ColumnUse, ...]
    matches: tuple[LookupUse, ...]
    judge: Callable[[DossierView], Facts]

    def facts(self, view: DossierView) -> Facts:
        """What is true of one dossier now."""
        return self.judge(view)


_FAMILIES = {
    "smallint": "a number",
    "integer": "a number",
    "bigint": "a number",
    "numeric": "a number",
    "real": "a number",
    "double precision": "a number",
    "text": "text",
    "character varying": "text",
    "character": "padded text",
    "uuid": "a uuid",
    "boolean": "a boolean",
}
"""Types whose values can be equal to each other's, by `format_type` name without its modifier."""

_ALIASES = {
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "varchar": "character varying",
    "bpchar": "character",
    "bool": "boolean",
}


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
        if has is not None and name.column not in has:
            told = f"table {name.table} has no column {name.column}"
            found.add(name.mark, told, nearest(name.column, has) or f"its columns: {', '.join(has)}")
    for match in plan.matches:
        left = _family(columns.get(match.table, {}).get(match.column))
        right = _family(columns.get(match.from_table, {}).get(match.from_column))
        if left and right and left != right:
            ours, theirs = f"{match.table}.{match.column}", f"{match.from_table}.{match.from_column}"
            told = f"{ours} is {left} and {theirs} is {right}: they are never equal"
            found.add(match.mark, told, "match two columns of the same type")
    return found.errors()


def _family(type_name: str | None) -> str | None:
    if type_name is None:
        return None
    plain = type_name.split("(", 1)[0].strip()
    return _FAMILIES.get(_ALIASES.get(plain, plain))
