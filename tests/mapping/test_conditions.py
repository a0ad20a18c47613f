"""Conditions mean what a plain reading of them says, for any row."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_stop import Rows

from connector.errors import ConfigError
from connector.mapping.compile import compile_text
from connector.mapping.conditions import compile_condition
from connector.mapping.document import ScalarNode, read
from connector.mapping.facts import Milestone
from connector.mapping.kinds import canonical
from connector.mapping.marks import Problems
from connector.mapping.names import Names

COLUMNS = ["a", "b", "c"]


def holds(condition: str, row: dict[str, object]) -> bool:
    """Compile a condition's YAML and ask it about a row."""
    problems = Problems()
    names = Names(problems)
    compiled = compile_condition(read(condition.encode(), "c.yml"), names, problems)
    problems.raise_found()
    return compiled([row])


@pytest.mark.parametrize(
    ("condition", "row", "expected"),
    [
        ("{a: x}", {"a": "x"}, True),
        ("{a: x}", {"a": " x  "}, True),
        ("{a: x}", {"a": "X"}, False),
        ("{a: x}", {"a": None}, False),
        ("{a: x}", {}, False),
        ("{a: 4}", {"a": 4}, True),
        ("{a: 4}", {"a": "4"}, True),
        ("{a: '4'}", {"a": 4}, True),
        ("{a: 4}", {"a": Decimal("4.00")}, True),
        ("{a: 4.0}", {"a": 4}, True),
        ("{a: 4}", {"a": 4.0}, True),
        ("{a: 4}", {"a": True}, False),
        ("{a: 1.000100}", {"a": "1.000100"}, True),
        ("{a: 1.000100}", {"a": "1.0001"}, False),
        ("{a: 1.000100}", {"a": Decimal("1.0001")}, True),
        ("{a: 07}", {"a": "07"}, True),
        ("{a: 07}", {"a": 7}, False),
        ("{a: true}", {"a": True}, True),
        ("{a: true}", {"a": 1}, False),
        ("{a: false}", {"a": None}, False),
        ("{a: null}", {"a": None}, True),
        ("{a: null}", {}, True),
        ("{a: null}", {"a": ""}, False),
        ("{a: [x, null]}", {"a": None}, True),
        ("{a: {set: true}}", {"a": 0}, True),
        ("{a: {set: true}}", {"a": False}, True),
        ("{a: {set: true}}", {"a": "  "}, False),
        ("{a: {set: false}}", {"a": ""}, True),
        ("{a: {set: false}}", {"a": None}, True),
        ("{a: {not: x}}", {"a": None}, True),
        ("{a: {not: [x, y]}}", {"a": "y"}, False),
        ("{a: {not: {set: true}}}", {"a": ""}, True),
        ("{a: {gt: 3, le: 5}}", {"a": 5}, True),
        ("{a: {gt: 3, le: 5}}", {"a": 3}, False),
        ("{a: {ge: 0.1}}", {"a": 0.1}, True),
        ("{a: {ge: 3}}", {"a": " 12 "}, True),
        ("{a: {ge: 3}}", {"a": "mười"}, False),
        ("{a: {lt: 3}}", {"a": None}, False),
        ("{a: {lt: 3}}", {"a": Decimal("NaN")}, False),
        ("{a: {lt: 3}}", {"a": float("nan")}, False),
        ("{a: {lt: 3}}", {"a": True}, False),
        ("{a: {lt: 3}}", {"a": b"1"}, False),
        ("{a: Đã trả}", {"a": normalize("NFD", "Đã trả")}, True),
        ("{a: {type: timestamp, ge: 2024-01-31, lt: 2024-02-01}}", {"a": 1_706_686_245_000_000}, True),
        ("{a: {type: timestamp, ge: 2024-02-01}}", {"a": 1_706_686_245_000_000}, False),
        ("{a: {type: timestamp, ge: 2024-02-01}}", {"a": None}, False),
        ("{a: {type: date, le: 2024-01-31}}", {"a": 19_753}, True),
        ("{a: {type: date, lt: 2024-01-31}}", {"a": 19_753}, False),
        ("{exists: 4}", {"exists": 4}, True),
        ("{a: x, b: y}", {"a": "x", "b": "y"}, True),
        ("{a: x, b: y}", {"a": "x", "b": "x"}, False),
        ("{a: x, b: y, c: z}", {"a": "x", "b": "y", "c": "z"}, True),
        ("{all: [{a: x}, {b: y}], not: {c: z}}", {"a": "x", "b": "y", "c": "z"}, False),
        ("{any: [{a: x}, {b: y}]}", {"a": "y", "b": "y"}, True),
        ("{any: [{a: x}, {b: y}]}", {"a": "y", "b": "x"}, False),
    ],
)
def test_a_condition_means_what_it_says(condition: str, row: dict[str, object], expected: bool) -> None:
    """One line per rule of the language reference."""
    assert holds(condition, row) is expected


WORDS = st.sampled_from(["x", "y", "4", "07", "", "true", "moi nhan"])
CONSTANTS = st.none() | st.booleans() | st.integers(-3, 9) | WORDS
VALUES = (
    CONSTANTS
    | st.decimals(-3, 9, places=2)
    | st.floats(-3, 9)
    | st.sampled_from([" x ", " ", "4.0", "9", "1e1", Decimal("Infinity"), b"x"])
)
TESTS = st.recursive(
    CONSTANTS
    | st.lists(CONSTANTS, min_size=1, max_size=3)
    | st.booleans().map(lambda word: {"set": word})
    | st.dictionaries(st.sampled_from(["gt", "ge", "lt", "le"]), st.integers(-3, 9), min_size=1),
    lambda inner: inner.map(lambda test: {"not": test}),
    max_leaves=3,
)
PLAIN = st.dictionaries(st.sampled_from(COLUMNS), TESTS, min_size=1)
CONDITIONS = st.recursive(
    PLAIN,
    lambda inner: (
        inner.map(lambda one: {"not": one})
        | st.lists(inner, min_size=1, max_size=3).map(lambda many: {"all": many})
        | st.lists(inner, min_size=1, max_size=3).map(lambda many: {"any": many})
        | st.tuples(PLAIN, inner).map(lambda two: {**two[0], "not": two[1]})
    ),
    max_leaves=8,
)
ROWS = st.dictionaries(st.sampled_from(COLUMNS), VALUES)


def same(value: object, constant: object) -> bool:
    """Equality by the language reference, the slow way."""
    if value is None or constant is None:
        return value is None and constant is None
    if isinstance(value, bytes):
        return value.hex() == str(constant)
    left = value.strip() if isinstance(value, str) else value
    if isinstance(left, bool) or isinstance(constant, bool):
        word = {True: "true", False: "false"}
        a = word[left] if isinstance(left, bool) else left
        b = word[constant] if isinstance(constant, bool) else constant
        return isinstance(a, str) and isinstance(b, str) and a == b
    if isinstance(left, str):
        return left == str(constant)
    if isinstance(constant, str):  # a number is equal to the text of its shortest form
        if Decimal(left).is_finite():  # type: ignore[arg-type]
            whole = Decimal(repr(left) if isinstance(left, float) else left)  # type: ignore[arg-type]
            text = f"{whole:f}"
            text = text.rstrip("0").rstrip(".") if "." in text else text
            return constant == ("0" if text == "-0" else text)
        return False
    return Decimal(repr(left) if isinstance(left, float) else left) == constant  # type: ignore[arg-type]


def number(value: object) -> Decimal | None:
    """What gt and its like compare, the slow way."""
    if isinstance(value, bool | bytes) or value is None:
        return None
    try:
        told = Decimal(repr(value) if isinstance(value, float) else str(value).strip())
    except ArithmeticError:
        return None
    return told if told.is_finite() else None


def naive_test(test: object, value: object) -> bool:
    """A test read word for word."""
    match test:
        case dict():
            for name, content in test.items():
                told = number(value)
                results = {
                    "set": lambda c=content: (value is not None and str(value).strip() != "") == c,
                    "not": lambda c=content: not naive_test(c, value),
                    "gt": lambda c=content, n=told: n is not None and n > c,
                    "ge": lambda c=content, n=told: n is not None and n >= c,
                    "lt": lambda c=content, n=told: n is not None and n < c,
                    "le": lambda c=content, n=told: n is not None and n <= c,
                }
                if not results[name]():
                    return False
            return True
        case list():
            return any(same(value, constant) for constant in test)
    return same(value, test)


def naive(condition: dict[str, object], row: dict[str, object]) -> bool:
    """A condition read word for word."""
    results = []
    for key, content in condition.items():
        match key:
            case "all":
                results.append(all(naive(part, row) for part in content))  # type: ignore[attr-defined]
            case "any":
                results.append(any(naive(part, row) for part in content))  # type: ignore[attr-defined]
            case "not":
                results.append(not naive(content, row))  # type: ignore[arg-type]
            case _:
                results.append(naive_test(content, row.get(key)))
    return all(results)


@settings(deadline=None)
@given(CONDITIONS, ROWS)
def test_compiled_and_naive_reading_agree(condition: dict[str, object], row: dict[str, object]) -> None:
    """Any condition on any row gives what a word-for-word reading gives."""
    assert holds(json.dumps(condition), row) is naive(condition, row)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, None, Decimal("2.50"), " đ "], '["1", null, "2.5", "đ"]'),
        ({"x": 1.5, "wkb": b"\x01", "srid": None}, '{"x": "1.5", "wkb": "01", "srid": null}'),
        ([], "[]"),
    ],
)
def test_arrays_and_maps_have_a_text(value: object, text: str) -> None:
    """What no mapping can say is still compared, never an error."""
    assert canonical(value) == text


@settings(deadline=None)
@given(st.integers() | st.decimals(allow_nan=False, allow_infinity=False, places=6) | st.floats(allow_nan=False))
def test_equal_numbers_have_one_canonical_text(value: int | Decimal | float) -> None:
    """Whatever type a column has, equal numbers compare equal and the text is read back as the same number."""
    text = canonical(value)
    if text not in ("infinity", "-infinity"):
        exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        assert Decimal(text) == exact
        assert canonical(Decimal(text)) == text


BROKEN = [
    ("{}", "11:17", "without a test", "column: value"),
    ("x", "11:17", "must be a mapping, not a value", "all: / any: / not:"),
    ("[{trang_thai: x}]", "11:17", "must be a mapping, not a list", "all: / any: / not:"),
    ("{any: {trang_thai: x}}", "11:23", "'any' takes a list of conditions, not a mapping", "any: [{column: value}, …]"),
    ("{all: []}", "11:23", "'all' takes a list", "all: ["),
    ("{trang_thai: []}", "11:30", "an empty list fits nothing", "at least one"),
    ("{trang_thai: {}}", "11:30", "a test without content", "set, not, gt, ge, lt, le"),
    ("{trang_thai: [a, [b]]}", "11:34", "cannot hold a list", "[a, b]"),
    ("{trang_thai: {sett: true}}", "11:31", "no test is named 'sett'", "did you mean 'set'?"),
    ("{trang_thai: {set: yes}}", "11:36", "'set' takes true or false", "{set: true}"),
    ("{trang_thai: {gt: '2024-01-01'}}", "11:35", "compare numbers", "{type: timestamp, ge: 2024-01-31}"),
    ("{trang_thai: {type: timestamp}}", "11:30", "without a bound", "{type: timestamp, ge: 2024-01-01}"),
    ("{trang_thai: {type: text, ge: 2024-01-01}}", "11:37", "a type of date or time", "timestamptz"),
    ("{trang_thai: {type: date, ge: 2024-02-30}}", "11:47", "'ge' takes a date", "2024-01-31"),
    ("{trang_thai: {type: date, ge: 5}}", "11:47", "'ge' takes a date", "2024-01-31"),
    ("{trang_thai: {type: date, ge: 2024-01-01, set: true}}", "11:59", "has no 'set'", "type, gt"),
    ("{exists: payments, trang_thai: x}", "11:36", "a condition with 'exists' has no 'trang_thai'", "exists, where"),
    ("{exists: payments, where: {service.ma: 1}}", "11:44", "not a column of the child", "without a dot"),
    ("{count: payments}", "11:17", "lacks 'is'", "add `is: …`"),
    ("{count: payments, is: {gt: x}}", "11:44", "compare numbers", "without quotes"),
    ("{trang_thai: {gt: true}}", "11:35", "compare numbers", "without quotes"),
    ("{trang_thai: {not: {le: [1]}}}", "11:41", "compare numbers", "without quotes"),
    ("{servise.ma: x}", "11:18", "no reference is named 'servise'", "did you mean 'service'?"),
    ("{payments.id: 1}", "11:18", "a child table with many rows", "{last: payments, column: id}"),
    ("{a.b.c: x}", "11:18", "'a.b.c' is not a column path", "reference.column"),
    ("{4: x}", "11:18", "a column name is expected, not 4", "reference.column"),
]


@pytest.mark.parametrize(("condition", "place", "cause", "mend"), BROKEN)
def test_a_broken_condition_is_told_at_its_place(
    mapping: str, errors_of: Callable[[str], list[ConfigError]], condition: str, place: str, cause: str, mend: str
) -> None:
    """Every wrong shape or name inside a condition has its line, column, cause and mend."""
    (error,) = errors_of(mapping.replace("{trang_thai: [dang_xu_ly, cho_ky]}", condition))
    assert error.subject == f"m.yml:{place}"
    assert cause in error.cause
    assert mend in error.mend


def test_a_place_is_shown_as_it_was_written() -> None:
    """What came out of the environment is never shown: the written text is."""
    node = ScalarNode("geheim", "geheim", plain=True, mark=read(b"${env:X}", "f.yml").mark, written="${env:X}")
    problems = Problems()
    Names(problems).child(node)
    with pytest.raises(ConfigError, match=r"\$\{env:X\}") as caught:
        problems.raise_found()
    assert "geheim" not in f"{caught.value}{caught.value.mend}"


@pytest.mark.parametrize(
    ("condition", "paid", "expected"),
    [
        ("{exists: payments}", [], False),
        ("{exists: payments}", ["cho"], True),
        ("{exists: payments, where: {trang_thai: xong}}", ["cho", "xong"], True),
        ("{exists: payments, where: {trang_thai: xong}}", ["cho"], False),
        ("{not: {exists: payments}}", [], True),
        ("{count: payments, is: 0}", [], True),
        ("{count: payments, is: {ge: 2}}", ["cho"], False),
        ("{count: payments, where: {trang_thai: xong}, is: {ge: 2}}", ["xong", "cho", "xong"], True),
        ("{all: [{exists: payments}, {trang_thai: moi}]}", ["cho"], True),
    ],
)
def test_rows_of_a_child_table_are_asked_for(
    mapping: str, rows: Rows, condition: str, paid: list[str], expected: bool
) -> None:
    """Whether there is one, and how many, of all or of those that fit."""
    plan = compile_text(mapping.replace("{trang_thai: [dang_xu_ly, cho_ky]}", condition))
    rows.dossier["trang_thai"] = "moi"
    rows.child_rows["motcua.thanh_toan"] = [{"id": n, "trang_thai": word} for n, word in enumerate(paid)]
    assert (Milestone.PROCESSING in plan.facts(rows).reached) is expected


def test_a_child_table_that_only_a_condition_names_is_captured(mapping: str) -> None:
    """Its key, its order and what `where` asks for."""
    text = mapping.replace("{trang_thai: [dang_xu_ly, cho_ky]}", "{exists: steps, where: {buoc: 3}}").replace(
        "  children:\n", "  children:\n    steps: {table: motcua.qua_trinh, belongs_to: ho_so_id, order_by: luc}\n"
    )
    (steps,) = (table for table in compile_text(text).selection.tables if table.name == "qua_trinh")
    assert (steps.columns, steps.link) == (("ho_so_id", "luc", "buoc"), "ho_so_id")
