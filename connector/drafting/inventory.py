"""What a database holds, as far as a draft needs it: tables, columns, keys, and what samples of them told. Pure.

Invariant: of rows nothing stands here but counts, and the words of columns that were asked for by name (`Word`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

TEXTS, NUMBERS, TRUTHS, MOMENTS = ("S", "E"), ("N",), ("B",), ("D",)
"""Type categories (pg_type.typcategory): text and enum, number, boolean, date or time."""
_JOINS = ("all", "any", "not")
"""Words that a condition reads as its own, never as a column."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column. words: all values that its enum type or a CHECK allows, where one says so."""

    name: str
    category: str
    not_null: bool = False
    readable: bool = True
    words: tuple[str, ...] = ()

    @property
    def valued(self) -> bool:
        """Whether EMC can be told its content."""
        return self.category in (*TEXTS, *NUMBERS, *TRUTHS)


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key of one column."""

    column: str
    schema: str
    table: str
    target: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table. estimate: rows by the planner's statistics, None where it was never analysed.

    key: columns of the primary key; unique: columns that alone tell a row apart. Columns that the mapping language
    cannot name are left out.
    """

    schema: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()
    foreign: tuple[ForeignKey, ...] = ()
    estimate: int | None = None
    usable: bool = True

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def readable(self) -> bool:
        return self.usable and any(column.readable for column in self.columns)

    def column(self, name: str) -> Column | None:
        """The column of this name."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def anchor(self) -> str | None:
        """A column that always has a value, the key first."""
        if len(self.key) == 1 and self.column(self.key[0]) is not None:
            return self.key[0]
        return next((column.name for column in self.columns if column.not_null and column.valued), None)


@dataclass(frozen=True, slots=True)
class Inventory:
    """All tables that can be published; `role` is who looked."""

    database: str
    role: str
    tables: tuple[Table, ...]

    def table(self, schema: str, name: str) -> Table | None:
        """The table of this name."""
        return next((one for one in self.tables if (one.schema, one.name) == (schema, name)), None)


@dataclass(frozen=True, slots=True)
class Shapes:
    """How many of the sampled rows have a value, and how many look like a code of the kind, by column."""

    rows: int = 0
    filled: Mapping[str, int] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)
    procedures: Mapping[str, int] = field(default_factory=dict)
    units: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a column: how often in the sample (None: told by the type, a CHECK or the statistics).

    label: what the catalogue that the column points to calls it.
    """

    text: str
    count: int | None = None
    label: str = ""


def nameable(name: str) -> bool:
    """Whether the mapping language can name such a table or column."""
    return bool(name.strip()) and "." not in name and name not in _JOINS
