"""Rows are not ours: a value of any type, and a word never seen, give facts or unknown ones, never an error."""

from __future__ import annotations

from decimal import Decimal
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_stop import MAPPING, Rows

from connector.change.record import Row, Value
from connector.configuration import presets
from connector.mapping.compile import compile_text, ordered
from connector.mapping.facts import Channel, Milestone
from connector.mapping.plan import Plan

WORDS = ["dang_xu_ly", "truc_tuyen", "vnpost", "da_thanh_toan", "processing", "done", "true", "0", "3", "4", " ", "1e9"]
VALUES: st.SearchStrategy[Value] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | st.text(max_size=8)
    | st.binary(max_size=4) | st.sampled_from([*WORDS, Decimal("sNaN"), Decimal("1E+400"), 2**63, -(2**63)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


class AnyRows(Rows):
    """Rows in memory, of which each reference table has one that fits any value, or none."""

    def reference(self, table: str, column: str, value: Value) -> Row | None:
        return next(iter(self.child_rows.get(table, [])), None)


def any_rows(plan: Plan) -> st.SearchStrategy[AnyRows]:
    """Rows with a value of any type in every column the mapping asks for, or without the column."""

    def row(table: str) -> st.SearchStrategy[Row]:
        columns = sorted({use.column for use in plan.columns if use.table == table})
        return st.fixed_dictionaries({}, optional=dict.fromkeys(columns, VALUES))

    dossier, *others = (table.full_name for table in plan.selection.tables)
    rows = st.fixed_dictionaries({table: st.lists(row(table), max_size=3) for table in others})
    return st.builds(lambda own, more: AnyRows(own, more), row(dossier), rows)


PRESETS = resources.files("connector.mapping") / "presets"
PLANS = [
    compile_text(MAPPING),
    *(compile_text((PRESETS / f"{name}.yml").read_text("utf-8") + "  SiteId: 327\n") for name in presets()),
]


@settings(deadline=None, max_examples=200)
@given(st.one_of([st.tuples(st.just(plan), any_rows(plan)) for plan in PLANS]))
def test_values_of_any_type_in_any_column_give_facts(case: tuple[Plan, AnyRows]) -> None:
    """Every preset on rows of anything: facts come out, each of its own type or unknown."""
    plan, rows = case
    facts = plan.facts(rows)
    assert facts.level in (None, 0, 3, 4)
    assert facts.reception in (None, *Channel)
    assert facts.from_dvcqg in (None, True, False)
    assert facts.code_profile is None or isinstance(facts.code_profile, str)
    assert facts.reached <= set(Milestone)
    assert plan.facts(rows) == facts


@settings(deadline=None)
@given(st.lists(VALUES, max_size=6))
def test_child_rows_are_ordered_whatever_stands_in_the_column(values: list[Value]) -> None:
    """Rows from before a column changed its type stand beside later ones; those without a value come first."""
    rows: list[Row] = [{"id": value} for value in values]
    sorted_rows = ordered(rows, "id")
    assert sorted(map(id, sorted_rows)) == sorted(map(id, rows))
    kinds = ["" if row["id"] is None else "text" for row in sorted_rows if isinstance(row["id"], str | None)]
    assert kinds == sorted(kinds)


@pytest.mark.parametrize(
    ("values", "order"), [([2, "1", None, 1], [None, 1, 2, "1"]), ([Decimal(3), 2.5, True], [True, 2.5, Decimal(3)])]
)
def test_numbers_come_before_text(values: list[Value], order: list[Value]) -> None:
    """The order of a column whose type has changed."""
    assert [row["id"] for row in ordered([{"id": value} for value in values], "id")] == order


def test_a_status_never_seen_reaches_nothing_more_and_a_word_never_seen_is_unknown(rows: Rows) -> None:
    """A value map without `else` gives no guess, one with `else` gives that; the dossier keeps what it has reached."""
    plan = compile_text(MAPPING)
    rows.dossier |= {"trang_thai": "chua_tung_thay", "kenh_nop": "kenh_moi"}
    rows.references["motcua.thu_tuc", "id", 7]["muc_do"] = "9"
    facts = plan.facts(rows)
    assert facts.reached == {Milestone.RECEIVED}
    assert facts.reception is None
    assert facts.level == 0
