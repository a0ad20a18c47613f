"""Regular expressions in a mapping: a harmless kind of them. Pure.

Judgement waits for nobody, and Python's expressions can take years over a clumsy one. So a pattern has at most one
group, that group is not repeated, at most two parts are repeated without a bound, and only the beginning of a text is
looked at: what it costs is then bounded by the cube of `LONGEST`.
"""

from __future__ import annotations

import re
from typing import Final
from warnings import catch_warnings, simplefilter

LONGEST: Final = 300
"""Characters of a text that are looked at; codes and numbers are shorter."""
_UNBOUNDED: Final = 2
_OFTEN: Final = 20

_PART = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\)?(?:[*+]|\{[0-9]*(?:,[0-9]*)?\})|.", re.S)


class BadPattern(ValueError):
    """Why a pattern is not taken, in an operator's words."""


def compile_pattern(text: str) -> re.Pattern[str]:
    """The pattern. Raises BadPattern."""
    try:
        with catch_warnings():
            simplefilter("error")  # what will mean another thing one day
            pattern = re.compile(text)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise BadPattern(f"it is no regular expression: {error}") from error
    if pattern.groups > 1:
        raise BadPattern(f"it has {pattern.groups} groups; keep one pair of brackets, and write (?:…) for the others")
    repeats = [part for part in _PART.findall(text) if part[-1] in "*+}" and part[0] not in "\\[" and part != "}"]
    if any(part.startswith(")") for part in repeats):
        raise BadPattern("a group in it is repeated, which can take for ever; repeat single characters only")
    if sum(map(_far, repeats)) > _UNBOUNDED:
        raise BadPattern(f"more than {_UNBOUNDED} parts of it are repeated without a bound; write {{1,20}} for +")
    return pattern


def _far(repeat: str) -> bool:
    """Whether a part may be repeated so often that two of them cost a square."""
    most = repeat.strip("){}").rpartition(",")[2]
    return most in ("*", "+", "") or int(most) > _OFTEN


def find(pattern: re.Pattern[str], text: str) -> str | None:
    """What the group, or without one the whole pattern, finds first in the beginning of a text."""
    found = pattern.search(text[:LONGEST])
    return None if found is None else found[pattern.groups]
