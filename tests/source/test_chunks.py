"""A table cut into chunks: whatever is cut, put back or interrupted, every key is told once, and none is left out."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from connector.source.chunks import Span, TablePlan, load_plan

ROWS = 20
TABLE: Any = SimpleNamespace(estimate=ROWS)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, 7)),
        st.tuples(st.just("tell"), st.integers(0, 3)),
        st.tuples(st.just("put back"), st.integers(0, 3)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=40,
)


def keys_of(span: Span) -> list[int]:
    """The keys of a table of the keys 1 to ROWS that a span has."""
    low = int(span.low[0]) if span.low else 0
    high = int(span.high[0]) if span.high else ROWS
    return list(range(low + 1, high + 1))


@given(STEPS)
def test_every_key_is_told_once(steps: list[tuple[str, int]]) -> None:
    """Several readers, in any order; a restart forgets what was only read, and nothing that was told."""
    plan, taken, told = TablePlan(TABLE), list[Span](), list[int]()

    def take(rows: int) -> None:
        span = plan.take()
        if len(keys := keys_of(span)) > rows:
            span = plan.cut(span, (str(keys[rows - 1]),))
        taken.append(span)

    def tell(at: int) -> None:
        span = taken.pop(at % len(taken))
        plan.told(span, len(keys_of(span)))
        told.extend(keys_of(span))

    for step, number in steps:
        match step:
            case "take" if plan.waiting:
                take(number)
            case "tell" if taken:
                tell(number)
            case "put back" if taken:
                plan.put_back(taken.pop(number % len(taken)))
            case "restart":
                plan, taken = load_plan(TABLE, json.loads(json.dumps(plan.dump()))), []
    while not plan.finished:
        if plan.waiting:
            take(3)
        else:
            tell(0)
    assert sorted(told) == list(range(1, ROWS + 1))
    assert plan.rows == ROWS
