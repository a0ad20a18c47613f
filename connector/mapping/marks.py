"""Places in a YAML file, and problems that point at them.

Contract: every problem names `file:line:column`, shows the line with a caret, says what is allowed and, where one is
near, the right name. A line that may hold a secret is shown without its value: what is under `dsn`, `headers` or
`settings`, what is named like a password, and passwords inside URLs.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from connector.errors import ConfigError, ConfigErrors

OPERATION = "read the configuration"

_NEWLINES = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_WIDTH = 100
"""Columns of a line that are shown."""

_SECRET_KEY = re.compile(
    r"""(?ix) ["']? \b ( dsn | headers | settings | [\w.-]* (?: password | passwd | secret | token | credential
    | authorization | cookie | api-?key | jaas ) [\w.-]* ) ["']? \s* : """
)
_SECRET_WORDS = ("dsn", "headers", "settings", "password", "secret", "token", "authorization")
_OWN_KEY = re.compile(r"""\s*(?:- )?\s*["']?([\w.-]+)["']?\s*:""")
_SECRET_TEXT = re.compile(r"(?i)(://[^:/@\s]*:)[^@\s]*@|(password\s*=\s*)\S+")


@dataclass(frozen=True, slots=True)
class Source:
    """One file as it was read."""

    name: str
    lines: tuple[str, ...] = field(repr=False)

    @classmethod
    def of(cls, name: str, text: str) -> Source:
        """Split as YAML splits lines, so that its line numbers are ours."""
        return cls(name, tuple(_NEWLINES.split(text)))


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file: line and column from 1, `width` characters long."""

    source: Source
    line: int
    column: int
    width: int = 1

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}:{self.column}"

    def excerpt(self, *, hide: bool = False) -> str:
        """The line with a caret under the place, without secrets; `hide` leaves out all that follows the place."""
        line = self.source.lines[self.line - 1] if self.line <= len(self.source.lines) else ""
        shown = _without_secrets(self.source.lines, self.line - 1)
        if hide and shown == line:
            shown = f"{line[: self.column - 1 + self.width]}: ***"
        start = min(self.column - 1, len(shown))
        if shown != line:  # what stands behind a hidden value has moved
            start = min(start, next((i for i, (a, b) in enumerate(zip(shown, line, strict=False)) if a != b), start))
        width = max(1, min(self.width, len(shown) - start))
        first = max(0, start - _WIDTH // 2) if start + width > _WIDTH else 0
        window = shown[first : first + _WIDTH]
        number = f"{self.line:>5} | "
        pad = "".join("\t" if c == "\t" else " " * _cells(c) for c in shown[first:start])
        caret = "^" * max(1, sum(_cells(c) for c in shown[start : min(start + width, first + _WIDTH)]))
        return f"{number}{window}\n{' ' * 5} | {pad}{caret}"


def problem(mark: Mark, cause: str, mend: str, *, hide: bool = False) -> ConfigError:
    """One error at one place; `hide` shows nothing of the line behind it."""
    return ConfigError(OPERATION, str(mark), f"{cause}\n{mark.excerpt(hide=hide)}", mend)


def nearest(word: str, allowed: Iterable[str]) -> str | None:
    """`did you mean 'x'?`, or None when nothing is near."""
    names = {name.casefold(): name for name in allowed}
    close = difflib.get_close_matches(word.casefold(), names, n=1, cutoff=0.6)
    return f"did you mean '{names[close[0]]}'?" if close else None


class Problems:
    """Collects problems so that a person sees all of them at once."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, int, str], ConfigError] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, mark: Mark, cause: str, mend: str, *, hide: bool = False) -> None:
        """One more; a second one at the same place with the same cause is dropped. `hide` as in `problem`."""
        place = (mark.source.name, mark.line, mark.column, cause)
        self._found.setdefault(place, problem(mark, cause, mend, hide=hide))

    def fail(self, mark: Mark, cause: str, mend: str) -> NoReturn:
        """One more, after which nothing can be read: raise what was found."""
        self.add(mark, cause, mend)
        raise self._all()

    def choose(self, mark: Mark, cause: str, word: str, allowed: Iterable[str], *, hide: bool = False) -> None:
        """`word` is none of the allowed ones: names them all, the nearest first."""
        names = list(allowed)
        near = nearest(word, names)
        self.add(mark, cause, f"{near + ' ' if near else ''}allowed here: {', '.join(names)}", hide=hide)

    def join(self, other: Problems) -> None:
        """Take over what another step found."""
        self._found |= other._found

    def at(self, mark: Mark) -> bool:
        """Whether there is a problem at this place."""
        place = (mark.source.name, mark.line, mark.column)
        return any(found[:3] == place for found in self._found)

    def raise_found(self) -> None:
        """Raise ConfigErrors when there is anything, in the order of the files' lines."""
        if self._found:
            raise self._all()

    def errors(self) -> list[ConfigError]:
        """Everything found, in the order of the files' lines."""
        return [error for _, error in sorted(self._found.items(), key=lambda item: item[0])]

    def _all(self) -> ConfigErrors:
        return ConfigErrors(self.errors())


def _cells(character: str) -> int:
    """Terminal columns a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _without_secrets(lines: tuple[str, ...], index: int) -> str:
    if index >= len(lines):
        return ""
    line = lines[index]
    if _under_secret(lines, index):
        key, colon, rest = line.partition(":")
        if not colon:
            return "***"
        return f"{key}: ***" if rest.strip() else line
    own = _secret_key(line)
    if own and line[own.end() :].strip():
        return f"{line[: own.end()]} ***"
    return _SECRET_TEXT.sub(lambda m: f"{m[1]}***@" if m[1] else f"{m[2]}***", line)


def _secret_key(line: str) -> re.Match[str] | None:
    """The key on a line whose value may be a secret, also one that is misspelt."""
    own = _OWN_KEY.match(line)
    if own and difflib.get_close_matches(own[1].casefold(), _SECRET_WORDS, n=1, cutoff=0.65):
        return own
    return _SECRET_KEY.search(line)


def _under_secret(lines: tuple[str, ...], index: int) -> bool:
    """Whether a line above, with less indentation at each step, opens a section that holds secrets."""
    depth = _indent(lines[index])
    for line in reversed(lines[:index]):
        if not line.strip() or line.lstrip().startswith("#") or _indent(line) >= depth:
            continue
        if _secret_key(line):
            return True
        depth = _indent(line)
        if depth == 0:
            return False
    return False


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))
