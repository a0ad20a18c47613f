"""The columns of a relation found by their numbers: right, or refused; never another column's values."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from connector.change.selection import Role, TableSelection
from connector.change.shape import Column, Shape
from connector.errors import SourceError
from connector.source.catalog import CatalogTable
from connector.source.decode.messages import Relation, RelationColumn
from connector.source.fitting import fit

SELECTION = TableSelection("s", "t", Role.REFERENCE, ("b", "c"))
TEXT = 25


@dataclass
class Table:
    """A table through its migrations: number → name now, None when it is dropped."""

    columns: dict[int, str | None] = field(default_factory=lambda: {1: "id", 2: "a", 3: "b", 4: "x", 5: "c", 6: "d"})
    names: int = 0

    def present(self) -> list[tuple[int, str]]:
        return [(number, name) for number, name in self.columns.items() if name is not None]

    def fresh(self) -> str:
        self.names += 1
        return f"new{self.names}"

    def migrate(self, step: tuple[str, int]) -> None:
        what, choice = step
        number = sorted(self.columns)[choice % len(self.columns)]
        if what == "add":
            self.columns[max(self.columns) + 1] = self.fresh()
        elif number != 1 and self.columns[number] is not None:
            if what == "rename":
                self.columns[number] = self.fresh()
            elif number not in (3, 5):
                self.columns[number] = None

    def relation(self) -> tuple[Relation, list[int]]:
        """As the stream tells it, and the number of each column; each has a type modifier of its own to know it by."""
        present = self.present()
        columns = tuple(RelationColumn(name, TEXT, number, name == "id") for number, name in present)
        return Relation(9, "s", "t", "d", columns), [number for number, _ in present]

    def catalog(self) -> CatalogTable:
        numbers = {name: number for number, name in self.present()}
        shape = Shape("s", "t", tuple(Column(name, TEXT, -1, name == "id") for name in ("id", "b", "c")))
        dropped = [number for number, name in self.columns.items() if name is None]
        known = {"id": 1, "b": 3, "c": 5}
        return CatalogTable(SELECTION, shape, 9, "d", -1, numbers, dropped, known, ("id",))


STEPS = st.lists(st.tuples(st.sampled_from(["rename", "rename", "add", "drop"]), st.integers(0, 20)), max_size=12)


@given(earlier=STEPS, later=STEPS)
def test_never_another_column(earlier: list[tuple[str, int]], later: list[tuple[str, int]]) -> None:
    """Whatever was renamed, added and dropped before and after: each mapped column is the one of its number."""
    table = Table()
    for step in earlier:
        table.migrate(step)
    relation, numbers = table.relation()
    for step in later:
        table.migrate(step)
    table.columns |= {3: "b", 5: "c"}  # the mapping fits again
    try:
        fitted, shape = fit(relation, table.catalog(), catalog_is_younger=True)
    except SourceError:
        assert any(name is None for name in table.columns.values()), "without a dropped column nothing is unclear"
        return
    assert [column.typmod for column in fitted.columns] == numbers
    assert {column.name: column.typmod for column in shape.columns} == {"id": 1, "b": 3, "c": 5}
