"""A mapping's tree of nodes → a Plan. Pure.

Contract: everything wrong is found at once (ConfigErrors). The keys are the guide's own parameter names, so that an
operator reads YAML and letter side by side; what the guide derives (Status, IsDVCBC) is not a key.
The result's `facts` is one straight pass: references in order of their dependence, child rows, then values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from types import MappingProxyType
from typing import Any

from connector.change.record import Value
from connector.change.selection import Role, Selection, TableSelection
from connector.mapping import kinds
from connector.mapping.conditions import Condition, compile_condition, never
from connector.mapping.declarations import Declarations
from connector.mapping.document import MapNode, Node, meaning, read, shape
from connector.mapping.facts import Facts, Milestone, UserFacts
from connector.mapping.kinds import Kind, blank, canonical
from connector.mapping.marks import Problems
from connector.mapping.names import ChildTable, Names, Reference, Scope, entries
from connector.mapping.plan import Child, Plan, TableUse
from connector.mapping.values import Getter, Values, nothing
from connector.mapping.view import SEPARATOR, DossierView

DECLARATIONS = ("dossier", "children", "references", "milestones")
PARAMETERS: Mapping[str, Kind] = MappingProxyType(
    {
        "CodeProfile": kinds.TEXT,
        "SiteId": kinds.SITE,
        "CodeTTHC": kinds.TEXT,
        "NameTTHC": kinds.PROSE,
        "Level": kinds.LEVEL,
        "FormsReception": kinds.RECEPTION,
        "Result": kinds.RESULT,
        "FormsPayments": kinds.PAYMENT,
        "IsFromDVCQG": kinds.TRUTH,
        "Data": kinds.DATA,
    }
)
OPTIONAL_PARAMETERS = ("Data",)
USER: Mapping[str, Kind] = MappingProxyType({"type": kinds.USER_TYPE, "account": kinds.TEXT, "location": kinds.TEXT})
ALLOWED = (*DECLARATIONS, *PARAMETERS, "User")
REQUIRED_MILESTONES = ("received", "processing", "result")

_DERIVED = {
    "Status": "Status follows from `milestones`",
    "IsDVCBC": "IsDVCBC follows from `Result` (vnpost → 1, other_post → 2, all else → 0)",
    "site_id": "it is written SiteId, as in the guide",
    "user": "it is written User, as in the guide",
}

_NO_ROW: Mapping[str, Value] = MappingProxyType({})


def compile_text(text: str, name: str = "mapping.yml") -> Plan:
    """The plan of a file's text whose one key is `mapping`. Raises ConfigErrors."""
    problems = Problems()
    root = read(text.encode(), name)
    mapping = unwrap(root, problems)
    plan = compile_mapping(mapping, problems) if mapping is not None else None
    problems.raise_found()
    assert plan is not None
    return plan


def unwrap(root: Node, problems: Problems) -> Node | None:
    """What stands under `mapping`, the one key of a mapping file."""
    found = entries(root, problems, "a mapping file", ("mapping",), ("mapping",))
    return found["mapping"][1] if found and "mapping" in found else None


def compile_mapping(node: Node, problems: Problems) -> Plan | None:
    """The plan of a mapping's node. Problems are noted; None when there are any."""
    if not isinstance(node, MapNode):
        problems.add(node.mark, f"'mapping' must be a mapping, not {shape(node)}", "see docs/mapping.md")
        return None
    parts: dict[str, Node] = {}
    for key, value in node.entries:
        if key.value in ALLOWED:
            parts[key.text] = value
        elif key.text in _DERIVED:
            problems.add(key.mark, f"'{key.text}' is not written in a mapping", _DERIVED[key.text])
        else:
            problems.choose(key.mark, f"no parameter of the guide is named '{key.text}'", key.text, ALLOWED)
    for name in ("dossier", "milestones", *PARAMETERS, "User"):
        if name not in parts and name not in OPTIONAL_PARAMETERS:
            problems.add(node.mark, f"the mapping lacks '{name}'", f"add `{name}: …` (docs/mapping.md#{name.lower()})")

    names = Names(problems)
    tables = Declarations(names, problems)
    tables.declare(parts)
    values = Values(names, problems)
    milestones = _milestones(parts.get("milestones"), names, problems)
    asked: dict[str, set[str]] = {}

    def compiled(name: str, value: Node, kind: Kind) -> Getter:
        names.asked = asked[name] = set()
        return values.compile(value, kind)

    parameters: dict[str, Getter] = {
        name: compiled(name, parts[name], kind) if name in parts else nothing for name, kind in PARAMETERS.items()
    }
    user: dict[str, Getter] = dict.fromkeys(USER, nothing)
    if "User" in parts:
        found = entries(parts["User"], problems, "User", tuple(USER), tuple(USER)) or {}
        user |= {name: compiled(f"User.{name}", value, USER[name]) for name, (_, value) in found.items()}
    if problems:
        return None
    return _plan(node, names, tables, milestones, parameters | user, asked)


def _milestones(node: Node | None, names: Names, problems: Problems) -> tuple[Condition, ...]:
    """One condition per Milestone, in its order of declaration."""
    if node is None:
        return ()
    allowed = tuple(milestone.name.lower() for milestone in Milestone)
    found = entries(node, problems, "milestones", allowed, REQUIRED_MILESTONES) or {}
    return tuple(compile_condition(found[name][1], names, problems) if name in found else never for name in allowed)


def _plan(
    node: Node,
    names: Names,
    tables: Declarations,
    milestones: tuple[Condition, ...],
    getters: Mapping[str, Getter],
    asked: Mapping[str, set[str]],
) -> Plan:
    references = [reference for reference in tables.order if reference.used]
    children = [child for child in names.children.values() if child.used]
    assert names.dossier is not None
    selected: dict[str, tuple[Role, str | None, dict[str, None]]] = {
        names.dossier.text: (Role.DOSSIER, None, {}),
        **{child.table.text: (Role.CHILD, child.link.text, {}) for child in children},
        **{reference.table.text: (Role.REFERENCE, None, {}) for reference in references},
    }
    for use in names.uses:
        if use.table in selected:
            selected[use.table][2].setdefault(use.column)
    return Plan(
        selection=Selection(tuple(_selected(table, *told) for table, told in selected.items())),
        version=hashlib.sha256(json.dumps(meaning(node), sort_keys=True).encode()).hexdigest()[:12],
        lookups=tuple(dict.fromkeys((r.table.text, _lookup(r)) for r in references)),
        children=tuple(Child(child.table.text, child.link.text, child.order_by.text) for child in children),
        tables=tuple(
            TableUse(table.text, table.mark)
            for table in (names.dossier, *(c.table for c in children), *(r.table for r in references))
        ),
        columns=tuple(dict.fromkeys(use for use in names.uses if use.table in selected)),
        needs={
            name: frozenset(_absent(names.references[each]) for each in names.with_below(named))
            for name, named in asked.items()
        },
        judge=_judge(names, references, children, milestones, getters),
    )


def _absent(reference: Reference) -> str:
    return f"{reference.name}: no row in {reference.table.text}"


def _lookup(reference: Reference) -> str:
    return SEPARATOR.join(column.text for column, _ in reference.pairs)


def _selected(table: str, role: Role, link: str | None, columns: Mapping[str, None]) -> TableSelection:
    schema, _, name = table.partition(".")
    return TableSelection(schema, name, role, tuple(columns), link)


def _judge(
    names: Names,
    references: list[Reference],
    children: list[ChildTable],
    milestones: tuple[Condition, ...],
    getters: Mapping[str, Getter],
) -> Any:
    width = 1 + len(names.references) + len(names.children)
    steps = []
    for reference in references:
        first, *more = (place for _, source in reference.pairs if (place := names.resolve(source)) is not None)
        table = reference.table.text
        steps.append((reference.slot, *first, tuple(more), table, _lookup(reference), _absent(reference)))
    rows_of = tuple((child.slot, child.table.text, child.order_by.text) for child in children)
    sets = tuple(
        frozenset(m for bit, m in enumerate(Milestone) if mask >> bit & 1) for mask in range(2 ** len(Milestone))
    )
    received, processing, result, other = milestones
    code_profile, site_id, code_tthc, name_tthc, level, reception, returned, payment, from_dvcqg, data = (
        (getters[name], kind.read) for name, kind in PARAMETERS.items()
    )
    type_, account, location = ((getters[name], kind.read) for name, kind in USER.items())

    def told(parameter: tuple[Getter, Any], scope: Scope) -> Any:
        return parameter[1](parameter[0](scope))

    def facts(view: DossierView) -> Facts:
        scope: Scope = [_NO_ROW] * width
        scope[0] = view.dossier
        missing: tuple[str, ...] = ()
        for slot, from_slot, from_column, more, table, lookup, absent in steps:
            key = scope[from_slot].get(from_column)
            if blank(key):
                continue
            if more:
                others = [scope[other].get(column) for other, column in more]
                if any(map(blank, others)):
                    continue
                key = SEPARATOR.join(map(canonical, (key, *others)))
            row = view.reference(table, lookup, key)
            if row is None:
                missing = (*missing, absent)
            else:
                scope[slot] = row
        for slot, table, order_by in rows_of:
            scope[slot] = ordered(view.children(table), order_by)
        return Facts(
            code_profile=told(code_profile, scope),
            site_id=told(site_id, scope),
            code_tthc=told(code_tthc, scope),
            name_tthc=told(name_tthc, scope),
            level=told(level, scope),
            from_dvcqg=told(from_dvcqg, scope),
            reception=told(reception, scope),
            result=told(returned, scope),
            payment=told(payment, scope),
            user=UserFacts(told(type_, scope), told(account, scope), told(location, scope)),
            data=told(data, scope),
            reached=sets[received(scope) | processing(scope) << 1 | result(scope) << 2 | other(scope) << 3],
            missing=missing,
        )

    return facts


def ordered(rows: Any, column: str) -> Any:
    """Child rows by a column, rows without a value first, equal ones as they come (by primary key)."""
    if len(rows) < 2:
        return rows
    return sorted(rows, key=lambda row: _order_key(row.get(column)))


def _order_key(value: Value) -> tuple[int, Any]:
    """Numbers, then text, then all else by its text: rows from before a change of the column's type are there, too."""
    match value:
        case None:
            return 0, 0
        case int():
            return 1, value
        case float():
            return (1, value) if isfinite(value) else (0, 0)
        case Decimal():
            return (1, value) if value.is_finite() else (0, 0)
        case str():
            return 2, value
    return 3, canonical(value)
