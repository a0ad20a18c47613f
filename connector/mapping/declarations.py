"""The tables a mapping declares: `dossier`, `references`, `children`.

Invariants: a table has one role; references are sorted so that each comes after the one it hangs on; a circle of
references and an unknown name are problems even where nothing uses the reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Final

from connector.mapping.document import MapNode, Node, ScalarNode
from connector.mapping.marks import Problems
from connector.mapping.names import ChildTable, Names, Reference, entries, named, scalar

_MATCH: Final = "write match: {id: thu_tuc_id}, or several columns: {ma: ma_don_vi, cap: cap_don_vi}"


class Declarations:
    """The tables a mapping declares: dossier, children, references."""

    def __init__(self, names: Names, problems: Problems) -> None:
        self.names = names
        self.problems = problems
        self.order: list[Reference] = []
        """References, each after the one it hangs on."""

    def declare(self, parts: Mapping[str, Node]) -> None:
        if "dossier" in parts:
            found = entries(parts["dossier"], self.problems, "dossier", ("table",), ("table",)) or {}
            if "table" in found:
                self.names.dossier = self._table(found["table"][1])
        roles: dict[str, str] = {}
        if self.names.dossier is not None:
            roles[self.names.dossier.text] = "the dossier table"
        if "references" in parts:
            self._references(parts["references"], roles)
        if "children" in parts:
            self._children(parts["children"], roles)
        self._order()

    def _table(self, node: Node) -> ScalarNode | None:
        table = scalar(node, self.problems, "a table")
        if table is None:
            return None
        schema, dot, name = table.text.partition(".")
        if not schema or not dot or not name or "." in name:
            told = f"'{table.written}' is not schema.table"
            self.problems.add(table.mark, told, f"write the schema too, e.g. public.{table.written.strip('.')}")
            return None
        return table

    def _references(self, node: Node, roles: dict[str, str]) -> None:
        for key, value in named(node, self.problems, "references"):
            self.names.unreadable.add(key.text)
            found = entries(value, self.problems, f"reference '{key.text}'", ("table", "match"), ("table", "match"))
            if found is None or len(found) < 2:
                continue
            table = self._table(found["table"][1])
            pairs = self._pairs(key, found["match"][1])
            if table is None or pairs is None:
                continue
            if roles.setdefault(table.text, "a reference table") != "a reference table":
                self._taken(table, roles)
                continue
            self.names.unreadable.discard(key.text)
            slot = 1 + len(self.names.references)
            self.names.references[key.text] = Reference(key.text, table, pairs, slot)

    def _pairs(self, name: ScalarNode, match: Node) -> tuple[tuple[ScalarNode, ScalarNode], ...] | None:
        """What `match` says: each column of the reference with what it equals."""
        if not isinstance(match, MapNode) or not match.entries:
            told = f"'match' of reference '{name.text}' takes `its column: our column`"
            self.problems.add(match.mark, told, _MATCH)
            return None
        pairs = []
        for column, node in match.entries:
            source = scalar(node, self.problems, "the column to match")
            if not isinstance(column.value, str):
                self.problems.add(column.mark, f"'{column.text}' is not a column", _MATCH)
            elif source is not None:
                pairs.append((column, source))
        return tuple(pairs) if len(pairs) == len(match.entries) else None

    def _children(self, node: Node, roles: dict[str, str]) -> None:
        keys = ("table", "belongs_to", "order_by")
        for key, value in named(node, self.problems, "children"):
            self.names.unreadable.add(key.text)
            found = entries(value, self.problems, f"child '{key.text}'", keys, keys)
            if found is None or len(found) < 3:
                continue
            table = self._table(found["table"][1])
            link = scalar(found["belongs_to"][1], self.problems, "'belongs_to'")
            order_by = scalar(found["order_by"][1], self.problems, "'order_by'")
            if table is None or link is None or order_by is None:
                continue
            if table.text in roles:
                self._taken(table, roles)
                continue
            if key.text in self.names.references:
                told = f"'{key.text}' is already the name of a reference"
                self.problems.add(key.mark, told, "give the child table another name")
                continue
            roles[table.text] = "a child table"
            self.names.unreadable.discard(key.text)
            slot = 1 + len(self.names.references) + len(self.names.children)
            self.names.children[key.text] = ChildTable(key.text, table, link, order_by, slot)

    def _taken(self, table: ScalarNode, roles: Mapping[str, str]) -> None:
        told = f"{table.text} is already {roles[table.text]}"
        self.problems.add(table.mark, told, "a table has one part to play; remove one of the two lines")

    def _order(self) -> None:
        """Sort references by dependence; name cycles and unknown names, also of references that nothing uses."""
        references = self.names.references
        depends = {name: list(self._depends(reference)) for name, reference in references.items()}
        while not self.problems.full and (circle := _circle(depends)):
            told = f"references go in a circle: {' → '.join(circle)}"
            source = next(each for _, each in references[circle[0]].pairs if each.text.startswith(f"{circle[1]}."))
            self.problems.add(source.mark, told, "match one of them by a column of the dossier")
            # Without them, so that the next circle is told, too.
            depends = {name: [] if name in circle else on for name, on in depends.items()}
        if self.problems.full:
            return  # more circles than are told; nothing is compiled of them
        sorter = TopologicalSorter(depends)
        sorter.prepare()
        while sorter.is_active():
            ready = frozenset(sorter.get_ready())
            self.order += (reference for name, reference in references.items() if name in ready)
            sorter.done(*ready)

    def _depends(self, reference: Reference) -> Iterator[str]:
        for _, source in reference.pairs:
            owner, dot, _ = source.text.partition(".")
            if dot and owner in self.names.references:
                yield owner
            elif dot:
                self.names.resolve(source)


def _circle(depends: Mapping[str, list[str]]) -> list[str]:
    """References of which each hangs on the next; the first, which is declared first, is the last, too."""
    try:
        TopologicalSorter(depends).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1][:0:-1]  # it names each after the one that hangs on it
        first = min(map(list(depends).index, circle))
        start = circle.index(list(depends)[first])
        return [*circle[start:], *circle[: start + 1]]
    return []
