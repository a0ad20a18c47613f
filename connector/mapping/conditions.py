"""Conditions: YAML → a function from a scope to true or false.

    {trang_thai: [dang_xu_ly, cho_ky], ngay_tra: {set: false}}     all of several keys
    {all: [...]}  {any: [...]}  {not: {...}}                       conditions inside conditions
    {exists: child, where: {...}}                                  a row of a child table that fits
    {count: child, where: {...}, is: test}                         how many of them
    tests: a value (equal), null (NULL), a list (any of it), {set: true}, {not: test}, {gt|ge|lt|le: number},
           {type: timestamp, gt|ge|lt|le: 2024-01-31}

Logic has two values: a test on NULL is false but for `null`, `{set: false}` and `{not: …}`. Equality compares by
`kinds.comparable`; the four orders compare numbers, and text that is a number, or, with the column's `type`, dates and
times; they are false for all else.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from connector.change.record import Value
from connector.mapping import moments
from connector.mapping.document import ListNode, MapNode, Node, ScalarNode, shape
from connector.mapping.kinds import blank, canonical, comparable, spelt
from connector.mapping.marks import Problems
from connector.mapping.names import Paths, Place, Scope, entries

Condition = Callable[[Scope], bool]
Test = Callable[[Value], bool]

JOINS = ("all", "any", "not")
ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}
TESTS = ("set", "not", *ORDERS, "type")
OVER_CHILDREN = {"exists": ("exists", "where"), "count": ("count", "where", "is")}
"""The conditions on the rows of a child table, by the key that tells them: the keys allowed."""


def never(_: object) -> bool:
    """Stands where a condition has a problem that was noted."""
    return False


def compile_condition(node: Node, paths: Paths, problems: Problems) -> Condition:
    """The condition a node states; problems are noted."""
    if not isinstance(node, MapNode):
        told = f"a condition must be a mapping, not {shape(node)}"
        problems.add(node.mark, told, "write `column: value` lines, or all: / any: / not:")
        return never
    if not node.entries:
        problems.add(node.mark, "a condition without a test", "write `column: value`, e.g. {ma_ho_so: {set: true}}")
        return never
    for key, value in node.entries:
        # A column may have such a name, too: only a declared child table makes it this form.
        if key.value in OVER_CHILDREN and isinstance(value, ScalarNode) and paths.is_child(value.text):
            return _over_children(key.text, node, paths, problems)
    return every([_entry(key, value, paths, problems) for key, value in node.entries])


def _over_children(form: str, node: MapNode, paths: Paths, problems: Problems) -> Condition:
    required = ("count", "is") if form == "count" else ("exists",)
    parts = entries(node, problems, f"a condition with '{form}'", OVER_CHILDREN[form], required)
    if parts is None or any(key not in parts for key in required):
        return never
    name = parts[form][1]
    child = paths.child(name) if isinstance(name, ScalarNode) else None
    if child is None:
        return never
    slot, inside = child
    where = compile_condition(parts["where"][1], inside, problems) if "where" in parts else _always
    if form == "exists":
        return lambda scope: any(where([row]) for row in scope[slot])
    test = compile_test(parts["is"][1], problems)
    return lambda scope: test(sum(where([row]) for row in scope[slot]))


def _always(_: object) -> bool:
    return True


def _entry(key: ScalarNode, value: Node, paths: Paths, problems: Problems) -> Condition:
    match key.value:
        case "all" | "any" as join:
            if not isinstance(value, ListNode) or not value.items:
                told = f"'{join}' takes a list of conditions, not {shape(value)}"
                problems.add(value.mark, told, f"write {join}: [{{column: value}}, …]")
                return never
            parts = [compile_condition(item, paths, problems) for item in value.items]
            return every(parts) if join == "all" else some(parts)
        case "not":
            inner = compile_condition(value, paths, problems)
            return lambda scope: not inner(scope)
    place = paths.resolve(key, moment=_type_of(value), whole=not asks_whether_filled(value))
    test = compile_test(value, problems)
    return never if place is None else at(place, test)


def _type_of(test: Node) -> str | None:
    """The type of date or time that a test says its column has."""
    node = test.get("type") if isinstance(test, MapNode) else None
    return node.text if isinstance(node, ScalarNode) and moments.reader(node.text) else None


def at(place: Place, test: Test) -> Condition:
    """A test on the value at a place."""
    slot, column = place

    def tested(scope: Scope) -> bool:
        return test(scope[slot].get(column))

    return tested


def every(parts: list[Condition]) -> Condition:
    """All of them; the first that fails ends it."""
    match parts:
        case [one]:
            return one
        case [first, second]:
            return lambda scope: first(scope) and second(scope)
    told = tuple(parts)

    def together(scope: Scope) -> bool:
        for part in told:  # noqa: SIM110 — a generator costs three times as much here
            if not part(scope):
                return False
        return True

    return together


def some(parts: list[Condition]) -> Condition:
    """At least one of them."""
    if len(parts) == 1:
        return parts[0]
    told = tuple(parts)

    def either(scope: Scope) -> bool:
        for part in told:  # noqa: SIM110 — as above
            if part(scope):
                return True
        return False

    return either


def asks_whether_filled(node: Node) -> bool:
    """Whether a test asks for no more than whether there is a value."""
    match node:
        case ScalarNode():
            return node.value is None
        case MapNode():
            return all(
                key.value == "set" or (key.value == "not" and asks_whether_filled(of)) for key, of in node.entries
            )
    return False


def compile_test(node: Node, problems: Problems) -> Test:
    """The test on one value that a node states; problems are noted."""
    match node:
        case ScalarNode():
            return equals([node])
        case ListNode(items=items):
            constants = [item for item in items if isinstance(item, ScalarNode)]
            for item in items:
                if not isinstance(item, ScalarNode):
                    problems.add(item.mark, f"a list of values cannot hold {shape(item)}", "write values: [a, b]")
            if not items:
                problems.add(node.mark, "an empty list fits nothing", "write at least one value")
            return equals(constants)
        case MapNode():
            if not node.entries:
                problems.add(node.mark, "a test without content", f"allowed here: {', '.join(TESTS)}")
            if node.get("type") is not None:
                return _moment_test(node, problems)
            parts = [_test(key, value, problems) for key, value in node.entries]
            return parts[0] if len(parts) == 1 else lambda value: all(part(value) for part in parts)


def _test(key: ScalarNode, node: Node, problems: Problems) -> Test:
    match key.value:
        case "set":
            if not isinstance(node, ScalarNode) or not isinstance(node.value, bool):
                problems.add(node.mark, "'set' takes true or false", "write {set: true} or {set: false}")
                return never
            return (lambda value: not blank(value)) if node.value else blank
        case "not":
            inner = compile_test(node, problems)
            return lambda value: not inner(value)
        case "gt" | "ge" | "lt" | "le" as order:
            bound = _bound(node, problems)
            return never if bound is None else _ordered(ORDERS[order], bound)
    problems.choose(key.mark, f"no test is named '{key.text}'", key.text, TESTS)
    return never


def _moment_test(node: MapNode, problems: Problems) -> Test:
    """`{type: timestamp, ge: 2024-01-01, lt: 2025-01-01}`"""
    found = entries(node, problems, "a test of dates", ("type", *ORDERS), ("type",)) or {}
    if len(found) < 2:
        problems.add(node.mark, "a test of dates without a bound", "write e.g. {type: timestamp, ge: 2024-01-01}")
    told = found["type"][1] if "type" in found else None
    read = moments.reader(told.text) if isinstance(told, ScalarNode) else None
    if told is not None and read is None:
        problems.add(told.mark, "'type' takes a type of date or time", f"allowed here: {moments.TYPES}")
    parts: list[tuple[Callable[[Any, Any], bool], datetime]] = []
    for name, (_, value) in found.items():
        if name == "type":
            continue
        bound = moments.moment(value.text) if isinstance(value, ScalarNode) else None
        if bound is None:
            problems.add(value.mark, f"'{name}' takes a date here", "write 2024-01-31, or '2024-01-31 07:30'")
        else:
            parts.append((ORDERS[name], bound))

    def test(value: Value) -> bool:
        moment = read(value) if read is not None else None
        return moment is not None and all(order(moment, bound) for order, bound in parts)

    return test


def _bound(node: Node, problems: Problems) -> Decimal | None:
    number = isinstance(node, ScalarNode) and isinstance(node.value, int | float) and not isinstance(node.value, bool)
    if not number or not isinstance(node, ScalarNode):
        told = "gt, ge, lt and le compare numbers"
        problems.add(node.mark, told, "write a number without quotes; for dates {type: timestamp, ge: 2024-01-31}")
        return None
    return Decimal(node.text)


def _ordered(order: Callable[[Decimal, Decimal], bool], bound: Decimal) -> Test:
    def test(value: Value) -> bool:
        number = as_number(value)
        return number is not None and order(number, bound)

    return test


def as_number(value: Value) -> Decimal | None:
    """A finite number, or text that is one; None for all else."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    try:
        number = Decimal(
            value.strip() if isinstance(value, str) else repr(value) if isinstance(value, float) else value
        )
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def equals(constants: list[ScalarNode]) -> Test:
    """Equal to one of the constants."""
    null = any(constant.value is None for constant in constants)
    texts, others = keys(constants)

    def test(value: Value) -> bool:
        if isinstance(value, str):
            return spelt(value) in texts
        if value is None:
            return null
        return comparable(value) in others

    return test


def keys(constants: list[ScalarNode]) -> tuple[frozenset[str], frozenset[str]]:
    """What text columns, and what all other columns, are compared with.

    A code like 1.000100 is a number to YAML; in a text column it is those very characters, in a numeric one a number.
    """
    told = [constant for constant in constants if constant.value is not None]
    return frozenset(spelt(c.text) for c in told), frozenset(constant_text(c) for c in told)


def constant_text(constant: ScalarNode) -> str:
    """The canonical text of a constant: numbers without needless zeros, text trimmed."""
    if isinstance(constant.value, str | bool):
        return comparable(constant.value)
    return canonical(Decimal(constant.text))
