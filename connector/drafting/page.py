"""The page of a draft: YAML lines with the comments and questions that stand above them. Pure.

Invariant: whatever a name or word holds (quotes, line ends, `${`, control characters), a line stays one line, and
YAML reads back exactly what was put in. A question knows its line.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_]*)?\Z")
_MEANING_MORE = frozenset(
    {"null", "true", "false", "none", "yes", "no", "on", "off", "y", "n", "online", "in_person", "desk", "vnpost"}
    | {"other_post", "business", "citizen", "officer"}
)
"""Words that YAML, or a parameter with closed words, reads as something else than a name."""
_WIDTH = 116


@dataclass(frozen=True, slots=True)
class Question:
    """What only a person knows; `line` is its line in the draft."""

    number: int
    line: int
    vi: str
    en: str


class Page:
    """Lines in the order they are written."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.questions: list[Question] = []

    def add(self, depth: int, text: str, why: str = "") -> None:
        """One line; `why` stands behind it where there is room, above it where there is none."""
        line = "  " * depth + text
        why = shown(why)
        if why and len(line) + len(why) + 4 > _WIDTH:
            self.say(depth, why)
            why = ""
        self.lines.append(f"{line}  # {why}" if why else line)

    def say(self, depth: int, *told: str) -> None:
        """Comment lines."""
        for number, text in enumerate(told):
            first = "  " * depth + ("# " if number == 0 else "#   ")
            self.lines += textwrap.wrap(
                shown(text), _WIDTH, initial_indent=first, subsequent_indent="  " * depth + "#   ",
                break_on_hyphens=False,
            )  # fmt: skip

    def ask(self, depth: int, vi: str, en: str) -> int:
        """A question above the line that comes next; its number."""
        number = len(self.questions) + 1
        self.questions.append(Question(number, len(self.lines) + 1, shown(vi), shown(en)))
        self.say(depth, f"CÂU HỎI {number}: {vi}", f"QUESTION {number}: {en}")
        return number

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def key(text: str) -> str:
    """Text as a key of YAML."""
    return text if _BARE.match(text) and text.lower() not in _MEANING_MORE else quoted(text)


def scalar(text: str) -> str:
    """Text as a value of YAML, in which `${` is no call."""
    return key(text) if "${" not in text else quoted(text.replace("${", "$${"))


def path(owner: str, column: str) -> str:
    """A column path as a value: in the long form where a bare word would be read otherwise."""
    if _PLAIN.match(column) and column.lower() not in _MEANING_MORE:
        return f"{owner}.{column}" if owner else column
    return f"{{column: {scalar(f'{owner}.{column}' if owner else column)}}}"


def condition_key(owner: str, column: str) -> str:
    """A column path as the key of a test."""
    return key(column) if not owner else quoted(f"{owner}.{column}")


def quoted(text: str) -> str:
    """YAML's double-quoted form."""
    return '"' + "".join(_escaped(character) for character in text) + '"'


def shown(text: str) -> str:
    """Text for a comment or a terminal: one line, nothing that moves a cursor."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
