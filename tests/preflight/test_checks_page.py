"""docs/checks.md lists every check, in the words of the module that makes it; every check has a test."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_ID = r"(?:PG|LOG|DIR|DBZ|MAP)-\d\d|EMC-C\d"
_ROW = re.compile(rf"^\| ({_ID}) \| (.+) \|$", re.MULTILINE)


def sources() -> str:
    """All of our code."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "connector").rglob("*.py")))


def test_the_page_says_what_the_modules_say() -> None:
    """The page's rows are those of the docstrings, each once."""
    told, page = _ROW.findall(sources()), _ROW.findall((ROOT / "docs/checks.md").read_text(encoding="utf-8"))
    assert sorted(told) == sorted(page)
    assert len(dict(told)) == len(told)


def test_every_check_that_is_made_is_listed() -> None:
    """The ids of findings in the code are those of the rows."""
    made = set(re.findall(rf'"({_ID})"', sources()))
    assert made == {check for check, _ in _ROW.findall(sources())}


def test_every_check_has_a_test() -> None:
    """Each id stands in a test of this directory."""
    tests = [path for path in (ROOT / "tests/preflight").glob("test_*.py") if path != Path(__file__)]
    text = "\n".join(path.read_text(encoding="utf-8") for path in tests)
    assert [check for check, _ in _ROW.findall(sources()) if f'"{check}"' not in text] == []
