"""The tables a mapping declares, and what a column path in it means.

A path is `column` (of the dossier) or `reference.column`; in a child's `where` and `column` it is a column of the
child. Rows stand in a scope: a list with the dossier at 0, then one slot per reference, then one per child (whose
slot holds its rows in order). A slot whose row is not there holds an empty row, so that its columns read as NULL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from connector.change.record import Value
from connector.mapping.document import MapNode, Node, ScalarNode, shape
from connector.mapping.marks import Mark, Problems
from connector.mapping.plan import ColumnUse

Scope = list[Any]
Place = tuple[int, str]
"""Slot and column."""

PATH = "a column path is `column` or `reference.column`"


class Paths(Protocol):
    """Gives column paths their place; records what is used."""

    def resolve(
        self, path: ScalarNode, *, value: bool = False, moment: str | None = None, whole: bool = True
    ) -> Place | None:
        """The place of a path's content, or None after a problem was noted; `value`, `moment` as in `ColumnUse`."""

    def is_child(self, name: str) -> bool:
        """Whether a child table has this name here."""

    def child(self, name: ScalarNode) -> tuple[int, ChildPaths] | None:
        """A child table's slot and the paths inside its rows, or None after a problem was noted."""


@dataclass(slots=True)
class Reference:
    """One declared reference: the row of `table` of which each column of `pairs` equals the value at its source."""

    name: str
    table: ScalarNode
    pairs: tuple[tuple[ScalarNode, ScalarNode], ...]
    slot: int
    used: bool = False


@dataclass(slots=True)
class ChildTable:
    """One declared child table."""

    name: str
    table: ScalarNode
    link: ScalarNode
    order_by: ScalarNode
    slot: int
    used: bool = False


@dataclass(slots=True)
class Names:
    """Everything a mapping declares. `uses` and `asked` grow while values and conditions are compiled.

    asked: the references that were named. unreadable: names of declarations with a problem that was noted; what hangs
    on them is not told again.
    """

    problems: Problems
    dossier: ScalarNode | None = None
    references: dict[str, Reference] = field(default_factory=dict)
    children: dict[str, ChildTable] = field(default_factory=dict)
    uses: list[ColumnUse] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)

    def resolve(
        self, path: ScalarNode, *, value: bool = False, moment: str | None = None, whole: bool = True
    ) -> Place | None:
        parts = column_path(path, self.problems)
        if parts is None:
            return None
        owner, column = parts
        if owner is None:
            self._note(self.dossier, column, path.mark, value=value, moment=moment, whole=whole)
            return 0, column
        reference = self.references.get(owner)
        if reference is None:
            if owner in self.unreadable:
                return None
            if owner in self.children:
                told = f"'{owner}' is a child table with many rows, not a reference"
                mend = f"pick one of its rows: {{last: {owner}, column: {column}}}"
                self.problems.add(path.mark, told, mend)
            else:
                told = f"no reference is named '{owner if path.text == path.written else path.written}'"
                self.problems.choose(path.mark, told, owner, self.references or ["(none is declared under references)"])
            return None
        self.use(reference)
        self.asked.add(owner)
        self._note(reference.table, column, path.mark, value=value, moment=moment, whole=whole)
        return reference.slot, column

    def is_child(self, name: str) -> bool:
        return name in self.children

    def child(self, name: ScalarNode) -> tuple[int, ChildPaths] | None:
        child = self.children.get(name.text)
        if child is None:
            if name.text in self.unreadable:
                return None
            told = f"no child table is named '{name.written}'"
            declared = self.children or ["(none is declared under children)"]
            self.problems.choose(name.mark, told, name.text, declared)
            return None
        if not child.used:
            child.used = True
            self._note(child.table, child.link.text, child.link.mark)
            self._note(child.table, child.order_by.text, child.order_by.mark)
        return child.slot, ChildPaths(self, child)

    def use(self, reference: Reference) -> None:
        """Mark a reference, and those it hangs on, as used. Cycles are a problem found elsewhere."""
        if not reference.used:
            reference.used = True
            for column, source in reference.pairs:
                self._note(reference.table, column.text, column.mark)
                self.resolve(source)

    def with_below(self, names: Iterable[str]) -> set[str]:
        """References with all that they hang on."""
        found: set[str] = set()
        more = {name for name in names if name in self.references}
        while more:
            found |= more
            sources = {source.text.partition(".")[0] for name in more for _, source in self.references[name].pairs}
            more = {owner for owner in sources if owner in self.references} - found
        return found

    def _note(
        self,
        table: ScalarNode | None,
        column: str,
        mark: Mark,
        *,
        value: bool = False,
        moment: str | None = None,
        whole: bool = True,
    ) -> None:
        if table is not None:
            self.uses.append(ColumnUse(table.text, column, mark, value, moment, whole))

    def note_child(
        self, child: ChildTable, column: str, mark: Mark, *, value: bool, moment: str | None, whole: bool
    ) -> None:
        """A column of a child's rows is used."""
        self._note(child.table, column, mark, value=value, moment=moment, whole=whole)


@dataclass(frozen=True, slots=True)
class ChildPaths:
    """Paths inside the rows of one child table: a scope of one row."""

    names: Names
    owner: ChildTable

    def resolve(
        self, path: ScalarNode, *, value: bool = False, moment: str | None = None, whole: bool = True
    ) -> Place | None:
        parts = column_path(path, self.names.problems)
        if parts is None:
            return None
        if parts[0] is not None:
            told = f"'{path.written}' is not a column of the child table {self.owner.table.text}"
            self.names.problems.add(path.mark, told, "inside a child, write its own columns only, without a dot")
            return None
        self.names.note_child(self.owner, parts[1], path.mark, value=value, moment=moment, whole=whole)
        return 0, parts[1]

    def is_child(self, name: str) -> bool:
        return False

    def child(self, name: ScalarNode) -> tuple[int, ChildPaths] | None:
        told = "a child table has no children here"
        self.names.problems.add(name.mark, told, "write a column of the child table")
        return None


def column_path(path: ScalarNode, problems: Problems) -> tuple[str | None, str] | None:
    """`(reference, column)`; the reference is None for a plain column. None after a problem was noted."""
    if not isinstance(path.value, str):
        problems.add(path.mark, f"a column name is expected, not {path.written or 'nothing'}", PATH)
        return None
    parts = path.text.split(".")
    if not all(part.strip() for part in parts) or len(parts) > 2:
        problems.add(path.mark, f"'{path.written}' is not a column path", PATH)
        return None
    return (None, parts[0]) if len(parts) == 1 else (parts[0], parts[1])


def value_at(scope: Scope, place: Place) -> Value:
    """The value at a place; a column that a row does not have reads as NULL."""
    row: Mapping[str, Value] = scope[place[0]]
    return row.get(place[1])


def entries(
    node: Node, problems: Problems, what: str, allowed: tuple[str, ...], required: tuple[str, ...]
) -> dict[str, tuple[ScalarNode, Node]] | None:
    """A mapping's entries by key, with unknown and missing keys noted; None when it is no mapping."""
    if not isinstance(node, MapNode):
        told = f"{what} must be a mapping, not {shape(node)}"
        problems.add(node.mark, told, f"write it as {{{', '.join(f'{key}: …' for key in required or allowed)}}}")
        return None
    known: dict[str, tuple[ScalarNode, Node]] = {}
    for key, value in node.entries:
        if key.value in allowed:
            known[key.text] = (key, value)
        else:
            problems.choose(key.mark, f"{what} has no '{key.text}'", key.text, allowed)
    for key_name in required:
        if key_name not in known:
            problems.add(node.mark, f"{what} lacks '{key_name}'", f"add `{key_name}: …`")
    return known


def named(node: Node, problems: Problems, what: str) -> Iterator[tuple[ScalarNode, Node]]:
    """The entries of a mapping whose keys are names of the operator's choice."""
    if not isinstance(node, MapNode):
        problems.add(node.mark, f"{what} must be a mapping of names, not {shape(node)}", "write `name: {…}` lines")
        return
    for key, value in node.entries:
        if isinstance(key.value, str) and key.text.strip() and "." not in key.text:
            yield key, value
        else:
            problems.add(key.mark, f"'{key.text}' is not a name", "write a word without a dot")


def scalar(node: Node, problems: Problems, what: str) -> ScalarNode | None:
    """A text or number; None after a problem was noted."""
    if isinstance(node, ScalarNode) and node.value is not None and node.text.strip():
        return node
    problems.add(node.mark, f"{what} must be a name, not {shape(node)}", "write one word")
    return None
