"""What a history must not show: each rule on both sides."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from connector.emc.history import HISTORY_RULES, NO_PAST, step
from connector.mapping.facts import Facts, Milestone, UserFacts

R, P, D, O = Milestone.RECEIVED, Milestone.PROCESSING, Milestone.RESULT, Milestone.OTHER  # noqa: E741


def at(*reached: Milestone, level: int | None = 4, code: str | None = "m") -> Facts:
    user = UserFacts(None, None, None)
    return Facts(code, 1, "c", "n", level, False, None, None, None, user, "", frozenset(reached))


def found(*steps: Facts) -> list[list[str]]:
    """The ids that each step shows."""
    past, told = NO_PAST, []
    for facts in steps:
        past, findings = step(past, facts)
        told.append([finding.rule for finding in findings])
    return told


def test_possible_lives() -> None:
    """The usual ways, also returned for supplement, cancelled, attached late, a level or number known late."""
    assert found(at(), at(R), at(R, P), at(R, D)) == [[], [], [], []]
    assert found(at(R, P), at(R), at(R, O), at(R, P), at(R, D)) == [[]] * 5
    assert found(at(R, P, D)) == [[]]
    assert found(at(level=None), at(R, level=4), at(R, level=None), at(R, level=4)) == [[]] * 4
    assert found(at(P, D, code=None), at(code=None), at(R)) == [[]] * 3


def test_impossible_steps() -> None:
    """Each is told where it happens, and once."""
    assert found(at(R, D), at(R, P), at(R, D), at(R, P)) == [[], ["HIS-01"], [], []]
    assert found(at(R, D), at(R, O)) == [[], ["HIS-01"]]
    assert found(at(R), at(), at(R), at()) == [[], ["HIS-02"], [], []]
    assert found(at(P)) == [["HIS-03"]]
    assert found(at(), at(D)) == [[], ["HIS-03"]]
    assert found(at(R), at(D)) == [[], ["HIS-02"]]
    assert found(at(R), at(R, level=3), at(R, level=4)) == [[], ["HIS-04"], []]
    assert found(at(R), at(R, level=None), at(R, level=3)) == [[], [], ["HIS-04"]]
    assert found(at(R), at(R, code=None), at(R, code="n")) == [[], [], ["HIS-05"]]


@given(
    st.lists(st.builds(at, level=st.sampled_from([None, 0, 3, 4]), code=st.sampled_from([None, "m", "n"])), max_size=8)
)
def test_a_rule_is_told_once(steps: list[Facts]) -> None:
    """Whatever happens."""
    told = [rule for one in found(*steps) for rule in one]
    assert len(told) == len(set(told))
    assert set(told) <= set(HISTORY_RULES)


def test_the_page_lists_the_rules() -> None:
    """docs/report.md has each of them."""
    page = Path(__file__).parents[2].joinpath("docs/report.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (HIS-\d\d) \|", page, re.MULTILINE) == list(HISTORY_RULES)
