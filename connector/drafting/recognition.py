"""Whether a database is one that a preset is written for, and what differs from it. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from connector.change.selection import Role, TableSelection
from connector.drafting.inventory import Inventory, Table
from connector.mapping.compile import compile_text

ALIKE = 0.7
"""Which share of a preset's columns a database must have to be taken for its system."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A table or column of the preset that is not there; `near`: names that may be meant."""

    table: str
    column: str
    near: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recognised:
    """The preset that fits best. tables: the preset's table → the one here; share: of its columns that are here."""

    preset: str
    text: str
    dossier: Table
    tables: Mapping[str, Table]
    share: float
    differences: tuple[Difference, ...]


def recognise(inventory: Inventory, presets: Mapping[str, str]) -> Recognised | None:
    """presets: name → text of its file. None where none fits well enough."""
    found = [one for name, text in presets.items() if (one := _compared(inventory, name, text)) is not None]
    best = max(found, key=lambda one: one.share, default=None)
    return best if best is not None and best.share >= ALIKE else None


def _compared(inventory: Inventory, name: str, text: str) -> Recognised | None:
    # A preset has no SiteId; which one it is does not matter here.
    selections = compile_text(text.rstrip("\n") + "\n  SiteId: 1\n", name).selection.tables
    dossier = next(one for one in selections if one.role is Role.DOSSIER)
    best: Recognised | None = None
    for schema in dict.fromkeys([dossier.schema, *(table.schema for table in inventory.tables)]):
        found = inventory.table(schema, dossier.name)
        if found is None:
            continue
        told = _within(inventory, schema, name, text, found, selections)
        if best is None or told.share > best.share:
            best = told
    return best


def _within(
    inventory: Inventory, schema: str, name: str, text: str, dossier: Table, selections: Sequence[TableSelection]
) -> Recognised:
    tables: dict[str, Table] = {}
    differences: list[Difference] = []
    here = [table.name for table in inventory.tables if table.schema == schema]
    wanted = there = 0
    for selection in selections:
        wanted += len(selection.columns)
        table = inventory.table(schema, selection.name)
        if table is None:
            near = difflib.get_close_matches(selection.name, here, 3)
            differences.append(Difference(f"{schema}.{selection.name}", "", tuple(near)))
            continue
        tables[selection.full_name] = table
        names = {column.name.casefold(): column.name for column in table.columns}
        for column in selection.columns:
            if table.column(column) is not None:
                there += 1
            else:
                near = [names[one] for one in difflib.get_close_matches(column.casefold(), names, 3)]
                differences.append(Difference(table.full_name, column, tuple(near)))
    return Recognised(name, text, dossier, tables, there / max(1, wanted), tuple(differences))
