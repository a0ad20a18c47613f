"""Cases that can never be reached, because an earlier one takes all that they would take. Pure.

Told are those that a reader can see: the same condition twice, and a word of a column that an earlier case, which asks
for nothing but that column, has already taken. What follows from logic alone is left alone.
"""

from __future__ import annotations

import json

from connector.mapping.conditions import JOINS, constant_text
from connector.mapping.document import ListNode, MapNode, Node, ScalarNode, meaning
from connector.mapping.marks import Mark, Problems

_MEND = "remove one of the two, or put the one that asks for more first"


class Earlier:
    """The conditions of a list of cases, in their order."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._wholes: dict[str, int] = {}
        self._words: dict[tuple[str, str], Mark] = {}

    def add(self, when: Node) -> None:
        """The next case's condition; what can never be reached is noted."""
        whole = json.dumps(meaning(when), sort_keys=True)
        if whole in self._wholes:
            told = f"this case is never reached: line {self._wholes[whole]} has the same condition"
            self._problems.add(when.mark, told, _MEND)
            return
        self._wholes[whole] = when.mark.line
        for column, word in _asked(when):
            first = self._words.setdefault((column, _spelt(word)), word.mark)
            if first is not word.mark:
                told = f"'{word.written}' never reaches this case: line {first.line} takes it"
                self._problems.add(word.mark, told, _MEND)


def _asked(when: Node) -> list[tuple[str, ScalarNode]]:
    """Column and words of a condition that asks for nothing but the words of one column."""
    match when:
        case MapNode(entries=((ScalarNode(value=str(column)), ScalarNode() as word),)) if column not in JOINS:
            return [(column, word)]
        case MapNode(entries=((ScalarNode(value=str(column)), ListNode(items=words)),)) if column not in JOINS:
            return [(column, word) for word in words if isinstance(word, ScalarNode)]
    return []


def _spelt(word: ScalarNode) -> str:
    return "" if word.value is None else constant_text(word)
