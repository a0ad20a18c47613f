"""The shape of a captured table: the kept columns, with their PostgreSQL types, in table order.

A shape is made alike from the catalog (snapshot) and from a pgoutput Relation message (stream), so that equal shapes
give equal Avro schemas. Columns that are not captured are not in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from connector.change.columntype import DEFAULTS, ColumnType, TypeOptions, column_type


@dataclass(frozen=True, slots=True)
class Column:
    """One kept column. `key`: part of the primary key.

    type_oid, typmod: pg_attribute's atttypid and atttypmod, or what they come down to (`columntype.column_type`).
    """

    name: str
    type_oid: int
    typmod: int
    key: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """A table as it is captured."""

    schema: str
    table: str
    columns: tuple[Column, ...]
    options: TypeOptions = DEFAULTS

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.table}"

    def type_of(self, column: Column) -> ColumnType:
        """How a column is represented."""
        return column_type(column.type_oid, column.typmod, self.options)

    @property
    def key(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.key)
