"""Which tables and columns of the source are captured, and how their rows find a partition.

The mapping makes a `Selection`; capture obeys it and knows nothing else of the mapping. Only what stands here is
ever decoded, logged or kept (DESIGN promise 5), plus each table's replica identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """How a table's rows relate to dossiers."""

    DOSSIER = "dossier"
    """One row is one dossier; the primary key is the dossier key."""
    CHILD = "child"
    """Belongs to one dossier through `link`; goes to that dossier's partition."""
    REFERENCE = "reference"
    """Catalogue data; goes to every partition."""


@dataclass(frozen=True, slots=True)
class TableSelection:
    """One captured table: its mapped `columns` (identity columns are added by capture) and, for a child, `link`."""

    schema: str
    name: str
    role: Role
    columns: tuple[str, ...]
    link: str | None = None

    @property
    def full_name(self) -> str:
        """`schema.table`, unquoted: the name used in records, settings and messages."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Selection:
    """Everything that is captured; exactly one table has the role DOSSIER."""

    tables: tuple[TableSelection, ...]

    @property
    def dossier(self) -> TableSelection:
        return next(table for table in self.tables if table.role is Role.DOSSIER)

    def find(self, schema: str, name: str) -> TableSelection | None:
        return next((t for t in self.tables if t.schema == schema and t.name == name), None)
