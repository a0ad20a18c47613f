"""The tables a mapping declares: `dossier`, `references`, `children`.

Invariants: a table has one role; references are sorted so that each comes after the one it hangs on; a circle of
references and an unknown name are problems even where nothing uses the reference.
"""

from __future__ import annotations

from collections.abc import Mapping

from connector.mapping.document import MapNode, Node, ScalarNode
from connector.mapping.marks import Problems
from connector.mapping.names import ChildTable, Names, Reference, entries, named, scalar


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
            match = found["match"][1]
            if not isinstance(match, MapNode) or len(match.entries) != 1:
                told = f"'match' of reference '{key.text}' takes one `its column: our column`"
                self.problems.add(match.mark, told, "write match: {id: thu_tuc_id}")
                continue
            (column, source_node) = match.entries[0]
            source = scalar(source_node, self.problems, "the column to match")
            if not isinstance(column.value, str):
                self.problems.add(column.mark, f"'{column.text}' is not a column", "write match: {id: thu_tuc_id}")
                continue
            if table is None or source is None:
                continue
            if roles.setdefault(table.text, "a reference table") != "a reference table":
                self._taken(table, roles)
                continue
            self.names.unreadable.discard(key.text)
            slot = 1 + len(self.names.references)
            self.names.references[key.text] = Reference(key.text, table, column, source, slot)

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
        done: set[str] = set()
        for reference in self.names.references.values():
            chain: list[Reference] = []
            current: Reference | None = reference
            while current is not None and current.name not in done:
                if current in chain:
                    circle = " → ".join(r.name for r in [*chain[chain.index(current) :], current])
                    told = f"references go in a circle: {circle}"
                    self.problems.add(current.source.mark, told, "match one of them by a column of the dossier")
                    done.update(r.name for r in chain)
                    chain = []
                    break
                chain.append(current)
                current = self._depends(current)
            for member in reversed(chain):
                done.add(member.name)
                self.order.append(member)

    def _depends(self, reference: Reference) -> Reference | None:
        owner, dot, _ = reference.source.text.partition(".")
        if not dot:
            return None
        if owner not in self.names.references:
            self.names.resolve(reference.source)
            return None
        return self.names.references[owner]
