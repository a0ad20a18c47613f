"""Which table holds the dossiers, and which tables stand around it, each with the reasons. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from connector.drafting.inventory import MOMENTS, Column, Inventory, Shapes, Table
from connector.drafting.vocabulary import BESIDE, COLUMNS, TABLES, compact, concept_of

SAMPLED = 8
"""How many tables are looked into before one is taken for the dossiers'."""
ENOUGH = 40
"""The score from which a table may hold dossiers."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A table that may hold the dossiers. reasons: (points, Vietnamese, English)."""

    table: Table
    score: int
    reasons: tuple[tuple[int, str, str], ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """A catalogue that dossiers point to: its `key` equals the dossier's `source`. declared: by a foreign key."""

    table: Table
    key: str
    source: str
    declared: bool


@dataclass(frozen=True, slots=True)
class Payments:
    """The payments: `link` holds the dossier's key, `order_by` says which is the last."""

    table: Table
    link: str
    order_by: str
    declared: bool


def shortlist(inventory: Inventory) -> list[Table]:
    """The tables worth a sample, the likeliest first; by names, keys and statistics alone."""
    ranked = [one for one in rank(inventory, {}) if one.table.readable and one.score > 0]
    return [one.table for one in ranked[:SAMPLED]]


def rank(inventory: Inventory, shapes: Mapping[str, Shapes]) -> list[Candidate]:
    """All tables, the likeliest first."""
    pointed: dict[str, set[str]] = {}
    for table in inventory.tables:
        for foreign in table.foreign:
            if (foreign.schema, foreign.table) != (table.schema, table.name):
                pointed.setdefault(f"{foreign.schema}.{foreign.table}", set()).add(table.full_name)
    found = [
        _judged(table, len(pointed.get(table.full_name, ())), shapes.get(table.full_name)) for table in inventory.tables
    ]
    return sorted(found, key=lambda one: (-one.score, len(one.table.name), one.table.full_name))


def numbered(table: Table, shapes: Shapes | None) -> Column | None:
    """The column with the dossier's number: by its values' shape and its name together."""

    def score(column: Column) -> int:
        filled = shapes.filled.get(column.name, 0) if shapes else 0
        alike = shapes.numbers.get(column.name, 0) if shapes else 0
        by_name = concept_of(column.name, {"number": COLUMNS["number"]}) is not None
        unique = column.name in table.unique
        return 3 * by_name + (4 if filled and alike >= 0.8 * filled else 0) + (unique and (by_name or bool(alike)))

    best = max((one for one in table.columns if one.valued and one.readable), key=score, default=None)
    return best if best is not None and score(best) >= 3 else None


def named(table: Table, concept: str, *, categories: Iterable[str] = ()) -> list[Column]:
    """The readable columns whose names fit, the plainest name first."""
    wanted = tuple(categories)
    fits = [
        column
        for column in table.columns
        if column.readable
        and (not wanted or column.category in wanted)
        and COLUMNS[concept].search(compact(column.name))
    ]
    return sorted(fits, key=lambda column: (len(compact(column.name)), column.name))


def _judged(table: Table, pointing: int, shapes: Shapes | None) -> Candidate:
    reasons: list[tuple[int, str, str]] = []
    name = compact(table.name)
    if TABLES["dossier"].search(name):
        if BESIDE.search(TABLES["dossier"].sub("", name)):
            reasons.append((10, "tên có chữ hồ sơ nhưng kèm chữ khác", "its name speaks of dossiers and of more"))
        else:
            reasons.append((40, "tên bảng nói về hồ sơ", "its name speaks of dossiers"))
    elif any(pattern.search(name) for pattern in TABLES.values()) or BESIDE.search(name):
        reasons.append((-30, "tên bảng nói về thứ khác", "its name speaks of something else"))
    number = numbered(table, shapes)
    if number is not None:
        if shapes is not None and shapes.numbers.get(number.name):
            told = f"{shapes.numbers[number.name]}/{shapes.filled[number.name]}"
            reasons.append((35, f"cột {number.name} chứa mã hồ sơ ({told} dòng mẫu)", "its values are dossier numbers"))
        else:
            reasons.append((20, f"cột {number.name} theo tên là mã hồ sơ", "a column named as a dossier number"))
        if number.name in table.unique:
            reasons.append((5, f"{number.name} là duy nhất", "which is unique"))
    if named(table, "status"):
        reasons.append((10, f"cột trạng thái {named(table, 'status')[0].name}", "a status"))
    if received := named(table, "received", categories=MOMENTS):
        reasons.append((10, f"ngày tiếp nhận {received[0].name}", "a date of reception"))
    if pointing:
        reasons.append((min(15, 5 * pointing), f"{pointing} bảng trỏ tới bảng này", "foreign keys point at it"))
    if reasons and shapes is not None and shapes.rows == 0:
        reasons.append((-5, "không có dòng nào", "it is empty"))
    elif reasons and (table.estimate or 0) > 0:
        reasons.append((5, f"khoảng {table.estimate} dòng", "it has rows"))
    return Candidate(table, sum(points for points, _, _ in reasons), tuple(reasons))


def reference(inventory: Inventory, dossier: Table, concept: str) -> list[Reference]:
    """The catalogues of a concept that the dossier points to, declared ones first."""
    tables = [
        table
        for table in inventory.tables
        if TABLES[concept].search(compact(table.name)) and table.full_name != dossier.full_name and table.readable
    ]
    found = []
    for table in tables:
        for foreign in dossier.foreign:
            if (foreign.schema, foreign.table) == (table.schema, table.name) and _readable(table, foreign.target):
                found.append(Reference(table, foreign.target, foreign.column, declared=True))
        for key in dict.fromkeys((*table.key[:1], *table.unique, *(column.name for column in table.columns))):
            found += [
                Reference(table, key, column.name, declared=False)
                for column in dossier.columns
                if column.readable and _readable(table, key) and column.valued and _points(column, table, key, concept)
            ]
    ranked = {(one.table.full_name, one.source): one for one in reversed(found)}
    plain = {one: (not one.declared, BESIDE.search(compact(one.table.name)) is not None) for one in ranked.values()}
    return sorted(ranked.values(), key=lambda one: (*plain[one], len(one.table.name), len(one.source), one.source))


def _readable(table: Table, name: str) -> bool:
    column = table.column(name)
    return column is not None and column.readable


def _points(column: Column, table: Table, key: str, concept: str) -> bool:
    """Whether names alone say so: `servicecode` = `servicecode`, `thu_tuc_id` = `thu_tuc.id`, `IdThuTuc`."""
    target = table.column(key)
    if target is None or (target.category in ("N",)) != (column.category in ("N",)):
        return False
    mine, theirs = compact(column.name), compact(key)
    if mine == theirs:
        return TABLES[concept].search(mine) is not None or _is_code(mine, concept)
    if key not in (*table.key, *table.unique):
        return False
    rest = TABLES[concept].sub("", mine)
    return TABLES[concept].search(mine) is not None and rest == theirs


def _is_code(name: str, concept: str) -> bool:
    """Whether a column's name is that of the concept's code."""
    return concept == "service" and COLUMNS["service_code"].search(name) is not None


def payments(inventory: Inventory, dossier: Table) -> list[Payments]:
    """The child tables of payments, declared ones first."""
    found = []
    if len(dossier.key) != 1:
        return []
    key = dossier.key[0]
    for table in inventory.tables:
        if (
            table.full_name == dossier.full_name
            or not table.readable
            or not TABLES["payment"].search(compact(table.name))
        ):
            continue
        links = {
            foreign.column: True
            for foreign in table.foreign
            if (foreign.schema, foreign.table, foreign.target) == (dossier.schema, dossier.name, key)
        }
        if not links:
            mine = (compact(key), compact(dossier.name) + compact(key), compact(key) + compact(dossier.name))
            links = {
                column.name: False
                for column in table.columns
                if compact(column.name) in mine and TABLES["dossier"].search(compact(column.name))
            }
        ordered = table.key[0] if len(table.key) == 1 and _readable(table, table.key[0]) else None
        found += [
            Payments(table, link, ordered, declared)
            for link, declared in links.items()
            if ordered is not None and _readable(table, link)
        ]
    return sorted(found, key=lambda one: (not one.declared, len(one.table.name), one.table.full_name))
