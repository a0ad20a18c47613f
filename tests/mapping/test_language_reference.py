"""docs/mapping.md is true: every example compiles, and every table under one says what comes out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from one_stop import Rows

from connector.configuration import resolve_mapping
from connector.errors import ConfigErrors
from connector.mapping.compile import compile_mapping, unwrap
from connector.mapping.document import ListNode, MapNode, Node, ScalarNode, read
from connector.mapping.extend import extend
from connector.mapping.facts import Facts
from connector.mapping.marks import Problems
from connector.mapping.plan import Plan

PAGE = Path(__file__).parents[2] / "docs" / "mapping.md"
_BLOCK = re.compile(r"^```(yaml|yaml wrong|text)\n((?:.*\n)*?)```\n(?:\n((?:\|.*\n)+))?", re.M)


class Example(NamedTuple):
    """A fenced block, the lines of the table under it, and the block after it."""

    line: int
    kind: str
    text: str
    table: list[list[str]]
    following: str


def examples() -> list[Example]:
    """Every fenced block of the page that is not a message."""
    page = PAGE.read_text("utf-8")
    blocks = list(_BLOCK.finditer(page))
    found = []
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in (block[3] or "").splitlines()]
        following = after[2] if after else ""
        found.append(Example(page.count("\n", 0, block.start()) + 1, block[1], block[2], rows, following))
    return [example for example in found if example.kind != "text"]


EXAMPLES = examples()
WHOLE = read(EXAMPLES[0].text.encode(), "mapping.yml")


def compiled(example: Example) -> Plan:
    """The plan of an example: alone when it is a whole mapping, else put on top of the page's first one."""
    problems = Problems()
    base = unwrap(WHOLE, problems)
    node = read(example.text.encode(), "mapping.yml")
    assert isinstance(node, MapNode)
    assert isinstance(base, MapNode)
    own = node.get("mapping")
    whole = extend(base, node) if own is None else resolve_mapping(own, PAGE, problems, ())
    assert whole is not None
    plan = compile_mapping(whole, problems)
    problems.raise_found()
    assert plan is not None
    return plan


def plain(node: Node) -> Any:
    """A node as Python values."""
    match node:
        case ScalarNode():
            return node.value
        case ListNode():
            return [plain(item) for item in node.items]
        case MapNode():
            return {key.text: plain(value) for key, value in node.entries}


def view_of(cell: str, plan: Plan) -> Rows:
    """The rows that a table's first cell describes: `reference.column` is in a row that the dossier names."""
    columns = plain(read(cell.strip("`").encode(), "row"))
    view = Rows()
    view.child_rows["motcua.thanh_toan"] = columns.pop("payments", [])
    tables = {"service": "motcua.thu_tuc", "account": "motcua.tai_khoan", "unit": "motcua.don_vi"}
    rows: dict[str, dict[str, object]] = {}
    for path, value in columns.items():
        owner, dot, column = path.rpartition(".")
        (rows.setdefault(owner, {}) if dot else view.dossier)[column] = value
    view.dossier |= dict.fromkeys(("thu_tuc_id", "tai_khoan_id", "don_vi_id"), 1)
    for table, column in plan.lookups:
        owner = next((name for name, its in tables.items() if its == table), "")
        view.references[table, column, 1] = rows.get(owner, {})
    return view


def told(facts: Facts, heading: str) -> str:
    """What the second cell says of a parameter."""
    if heading == "reached":
        return " ".join(m.name.lower() for m in sorted(facts.reached, key=lambda m: m.name, reverse=True)) or "nothing"
    value: Any = {
        "CodeTTHC": facts.code_tthc,
        "CodeProfile": facts.code_profile,
        "Level": facts.level,
        "IsFromDVCQG": facts.from_dvcqg,
        "FormsPayments": facts.payment,
        "Result": facts.result,
        "account": facts.user.account,
    }[heading]
    if value is None:
        return "unknown"
    return str(value).lower() if isinstance(value, bool) else str(getattr(value, "value", value))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"line-{example.line}")
def test_an_example_of_the_page_is_true(example: Example) -> None:
    """It compiles, or fails with the message shown; each row of its table gives what the table says."""
    if example.kind == "yaml wrong":
        with pytest.raises(ConfigErrors) as caught:
            compiled(example)
        (error,) = caught.value.problems
        assert f"{error.subject}: {error.cause}\n      → {error.mend}\n" == example.following
        return
    plan = compiled(example)
    heading, rows = (example.table[0][1], example.table[2:]) if example.table else ("", [])
    for row, expected in rows:
        assert told(plan.facts(view_of(row, plan)), heading) == expected.strip("`"), row


def test_the_page_has_its_examples() -> None:
    """The extraction finds the examples, their tables and the wrong one."""
    assert len(EXAMPLES) >= 10
    assert sum(bool(example.table) for example in EXAMPLES) >= 7
    assert [example.kind for example in EXAMPLES].count("yaml wrong") == 1
