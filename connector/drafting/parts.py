"""Which column tells which parameter of the guide, by names and shapes; and which words are to be asked for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from connector.drafting.candidates import Payments, Reference, named, numbered, payments, reference
from connector.drafting.inventory import MOMENTS, NUMBERS, TEXTS, TRUTHS, Column, Inventory, Shapes, Table
from connector.drafting.vocabulary import PERSONAL, compact

WORDED = (*TEXTS, *NUMBERS, *TRUTHS)


@dataclass(frozen=True, slots=True)
class Place:
    """A column of a table; `owner` is the reference's name in the mapping, '' for the dossier."""

    table: Table
    column: Column
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that a draft says of tables and columns; what was not found is None. `others`: further choices."""

    dossier: Table
    references: Mapping[str, Reference]
    payments: Payments | None
    places: Mapping[str, Place]
    others: Mapping[str, tuple[str, ...]]

    def worded(self) -> list[Place]:
        """The columns whose words are to be asked for: never one that a person's data may stand in."""
        wanted = ("status", "reception", "returning", "portal", "level", "user_type", "paid", "paid_by")
        return [
            place
            for name in wanted
            if (place := self.places.get(name)) is not None and not PERSONAL.search(compact(place.column.name))
        ]


def around(inventory: Inventory, dossier: Table) -> list[Table]:
    """The catalogues whose codes are worth a look."""
    found = [reference(inventory, dossier, concept)[:1] for concept in ("service", "unit")]
    return [one.table for some in found for one in some]


def catalogue(inventory: Inventory, place: Place) -> tuple[Table, str, str] | None:
    """The table, key and name column that tell what the codes of a column are called."""
    for foreign in place.table.foreign:
        table = inventory.table(foreign.schema, foreign.table)
        if foreign.column == place.column.name and table is not None and table.usable:
            key, names = table.column(foreign.target), named(table, "name", categories=TEXTS)
            if key is not None and key.readable and names and not PERSONAL.search(compact(names[0].name)):
                return table, foreign.target, names[0].name
    return None


def assign(inventory: Inventory, dossier: Table, shapes: Mapping[str, Shapes]) -> Parts:
    """The tables around the dossier, and the column for each parameter."""
    references: dict[str, Reference] = {}
    others: dict[str, tuple[str, ...]] = {}
    taken: set[str] = set()
    for concept in ("service", "unit", "account"):
        options = [one for one in reference(inventory, dossier, concept) if one.table.full_name not in taken]
        if concept == "unit":
            options.sort(key=lambda one: not any(word in compact(one.source) for word in ("xuly", "phutrach", "thuly")))
        if options:
            references[concept] = options[0]
            taken.add(options[0].table.full_name)
            more = tuple(f"{one.source} → {one.table.full_name}" for one in options[1:4])
            if more:
                others[f"reference {concept}"] = more
    paid = next((one for one in payments(inventory, dossier) if one.table.full_name not in taken), None)
    places: dict[str, Place] = {}

    def take(name: str, owner: str, columns: list[Column]) -> None:
        if name in places or not columns:
            return
        table = references[owner].table if owner else dossier
        places[name] = Place(table, columns[0], owner)
        if len(columns) > 1:
            others[name] = tuple(column.name for column in columns[1:4])

    number = numbered(dossier, shapes.get(dossier.full_name))
    take("number", "", [number] if number else [])
    take("status", "", named(dossier, "status", categories=WORDED))
    take("received", "", named(dossier, "received", categories=MOMENTS))
    take("reception", "", named(dossier, "reception", categories=WORDED))
    take("returning", "", named(dossier, "returning", categories=WORDED))
    take("portal", "", named(dossier, "portal", categories=WORDED))
    take("service_code", "", named(dossier, "service_code", categories=TEXTS))
    take("service_name", "", named(dossier, "service_name", categories=TEXTS))
    if "service_code" in places and "service" in references:
        code = places["service_code"].column.name
        if any((foreign.column == code) for foreign in dossier.foreign) or not _coded(dossier, code, shapes):
            own = _codes(references["service"].table, shapes, "procedures", ("service_code", "code"))
            if own:
                del places["service_code"]
    if "service" in references:
        table = references["service"].table
        take("service_code", "service", _codes(table, shapes, "procedures", ("service_code", "code")))
        take(
            "service_name",
            "service",
            [*named(table, "service_name", categories=TEXTS), *named(table, "name", categories=TEXTS)],
        )
        take("level", "service", named(table, "level", categories=WORDED))
    take("level", "", named(dossier, "level", categories=WORDED))
    if "unit" in references:
        take("unit_code", "unit", _codes(references["unit"].table, shapes, "units", ("unit_code", "code")))
    take("unit_code", "", named(dossier, "unit_code", categories=TEXTS))
    if "account" in references:
        table = references["account"].table
        take("user_type", "account", named(table, "user_type", categories=WORDED))
        take("account", "account", named(table, "account", categories=(*TEXTS, *NUMBERS)))
    take("user_type", "", named(dossier, "user_type", categories=WORDED))
    if paid is not None:
        for name, concept in (("paid", "status"), ("paid_by", "paid_by")):
            fits = [one for one in named(paid.table, concept, categories=WORDED) if one.name != paid.link]
            if fits:
                places[name] = Place(paid.table, fits[0], "payments")
    return Parts(dossier, references, paid, places, others)


def _coded(table: Table, column: str, shapes: Mapping[str, Shapes]) -> bool:
    told = shapes.get(table.full_name)
    return told is not None and told.procedures.get(column, 0) >= 0.8 * max(1, told.filled.get(column, 0))


def _codes(table: Table, shapes: Mapping[str, Shapes], shape: str, concepts: tuple[str, ...]) -> list[Column]:
    """Text columns by their values' shape, then by their names."""
    told = shapes.get(table.full_name)
    alike: Mapping[str, int] = getattr(told, shape) if told is not None else {}
    by_shape = [
        column
        for column in table.columns
        if told is not None
        and column.category in TEXTS
        and column.readable
        and told.filled.get(column.name, 0)
        and alike.get(column.name, 0) >= 0.8 * told.filled[column.name]
    ]
    by_name = [column for concept in concepts for column in named(table, concept, categories=TEXTS)]
    return list(dict.fromkeys([*(one for one in by_name if one in by_shape), *by_shape, *by_name]))
