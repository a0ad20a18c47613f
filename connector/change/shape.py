"""The shape of a captured table: the kept columns, with their PostgreSQL types, in table order.

A shape is made alike from the catalog (snapshot) and from a pgoutput Relation message (stream), so that equal shapes
give equal Avro schemas. Columns that are not captured are not in it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One kept column. `typmod` is pg_attribute.atttypmod; `key`: part of the primary key."""

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

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def key(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.key)
