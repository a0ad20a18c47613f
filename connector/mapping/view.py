"""What the mapping sees of one dossier: its row, its child rows, the reference rows it names.

The delivery state implements it; the mapping asks for nothing that `Plan.children` and `Plan.lookups` do not name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from connector.change.record import Row, Value

SEPARATOR: Final = "\0"
"""Between columns, and between their values: neither PostgreSQL's names nor its texts can hold it."""


class DossierView(Protocol):
    """The rows of one dossier after one source transaction. Rows are in Debezium's representation, and only read."""

    @property
    def dossier(self) -> Row:
        """The dossier's row."""

    def children(self, table: str) -> Sequence[Row]:
        """All rows of this dossier in a child table (`schema.table`), in order of their primary key."""

    def reference(self, table: str, lookup: str, value: Value) -> Row | None:
        """The row of a reference table whose `lookup` equals `value`, which is not NULL; None when there is none.

        lookup: a column, or several with SEPARATOR between them; then value has their canonical texts in that way.
        Equal by `kinds.canonical`, so that a number in a text column, or a padded text, finds its row. When
        several rows are equal, the one with the smallest primary key, so that the answer never wavers.
        """
