"""A mapping's regular expressions cannot hold up judgement."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.mapping.patterns import LONGEST, BadPattern, compile_pattern, find


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("-([0-9]{6})-", "H56-191203-1508", "191203"),
        ("[0-9]+$", "H56-191203-1508", "1508"),
        ("(?:H|G)[0-9]{2}", "000.00.11.H56-1", "H56"),
        (r"\\(([^)]+)\\)", "x (y+z)", "y+z"),
        ("[)+]+", "a)+", ")+"),
        ("(a)?b", "b", None),
        ("x", "a" * LONGEST + "x", None),
    ],
)
def test_a_pattern_finds_its_group_or_itself(pattern: str, text: str, found: str | None) -> None:
    """The first place; only the beginning of a text is looked at."""
    assert find(compile_pattern(pattern.replace("\\\\", "\\")), text) == found


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "no regular expression"),
        ("a{99999999999}", "no regular expression"),
        ("(a)(b)", "has 2 groups"),
        ("(a+)+$", "a group in it is repeated"),
        ("(?:a|a)*$", "a group in it is repeated"),
        ("(a{2,3}){2}", "a group in it is repeated"),
        (".*.*.*x", "more than 2 parts"),
        (".{0,300}.{0,300}.{0,300}x", "more than 2 parts"),
        ("a{2,}b+c*", "more than 2 parts"),
    ],
)
def test_a_pattern_that_could_take_for_ever_is_refused(pattern: str, why: str) -> None:
    """With the reason."""
    with pytest.raises(BadPattern, match=why):
        compile_pattern(pattern)


@settings(max_examples=300)
@given(st.text(alphabet="ab()[]{}*+?|\\^$.,0123-:", max_size=14))
def test_any_text_is_a_pattern_or_refused(text: str) -> None:
    """No other error comes out, and what was taken ends on the worst of texts."""
    try:
        pattern = compile_pattern(text)
    except BadPattern:
        return
    find(pattern, "a" * 10 * LONGEST)
