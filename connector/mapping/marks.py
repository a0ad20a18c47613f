"""Places in a YAML file, and problems that point at them.

Contract: every problem names `file:line:column`, shows the line with a caret, says what is allowed and, where one is
near, the right name. A line that may hold a secret is shown without its value: what is under `dsn`, `headers` or
`settings`, what is named like a password, and passwords inside URLs. What a file holds costs little to tell of: the
first hundred problems, the first of the allowed names, no line that no person wrote, no sign a terminal would obey.
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
_LONGEST_LINE = 2000
"""Characters of a line that is shown at all."""
MOST_TOLD = 100
"""Problems that are told at once; more are not read by anyone, and would cost the square of their number."""
_MOST_NAMES = 100
_MOST_COMPARED = 1000
"""Names among which the nearest is looked for."""
_MOST_SAID = 1000

_SECRET_KEY = re.compile(
    r"""(?ix) ["']? (?<![\w.-]) ( (?: [\w.-]* [.-] )? (?: dsn | headers | settings )
    | [\w.-]* (?: password | passwd | secret | token | credential
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
        if len(line) > _LONGEST_LINE:
            return f"{self.line:>5} | (a line of {len(line)} characters)"
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
        return f"{number}{_harmless(window)}\n{' ' * 5} | {pad}{caret}"


def problem(mark: Mark, cause: str, mend: str, *, hide: bool = False) -> ConfigError:
    """One error at one place; `hide` shows nothing of the line behind it."""
    told = f"{_harmless(_short(cause))}\n{mark.excerpt(hide=hide)}"
    return ConfigError(OPERATION, str(mark), told, _harmless(_short(mend, _MOST_SAID * 10)))


def nearest(word: str, allowed: Iterable[str]) -> str | None:
    """`did you mean 'x'?`, or None when nothing is near."""
    names = {name.casefold(): name for name in allowed}
    close = difflib.get_close_matches(word.casefold(), names, n=1, cutoff=0.6)
    return f"did you mean '{names[close[0]]}'?" if close else None


class Problems:
    """Collects problems so that a person sees all of them at once; of very many, that there are more."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, int, str], ConfigError] = {}
        self._left_out: Mark | None = None

    def __bool__(self) -> bool:
        return bool(self._found)

    @property
    def full(self) -> bool:
        """Whether nothing more will be told: the rest need not be looked for."""
        return self._left_out is not None

    def add(self, mark: Mark, cause: str, mend: str, *, hide: bool = False) -> None:
        """One more; a second one at the same place with the same cause is dropped. `hide` as in `problem`."""
        if self._wanted(mark, cause):
            place = (mark.source.name, mark.line, mark.column, cause)
            self._found[place] = problem(mark, cause, mend, hide=hide)

    def fail(self, mark: Mark, cause: str, mend: str) -> NoReturn:
        """One more, after which nothing can be read: raise what was found."""
        self.add(mark, cause, mend)
        raise self._all()

    def choose(self, mark: Mark, cause: str, word: str, allowed: Iterable[str], *, hide: bool = False) -> None:
        """`word` is none of the allowed ones: names them all, the nearest first."""
        if not self._wanted(mark, cause):
            return
        names = list(allowed)
        near = nearest(word, names[:_MOST_COMPARED])
        listed = ", ".join(names[:_MOST_NAMES]) + (" …" if len(names) > _MOST_NAMES else "")
        self.add(mark, cause, f"{near + ' ' if near else ''}allowed here: {listed}", hide=hide)

    def _wanted(self, mark: Mark, cause: str) -> bool:
        """Whether a problem is to be told: it is not yet, and there is room."""
        if (mark.source.name, mark.line, mark.column, cause) in self._found:
            return False
        if len(self._found) >= MOST_TOLD:
            self._left_out = self._left_out or mark
            return False
        return True

    def join(self, other: Problems) -> None:
        """Take over what another step found."""
        self._found |= other._found
        self._left_out = self._left_out or other._left_out

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
        told = [error for _, error in sorted(self._found.items(), key=lambda item: item[0])]
        if self._left_out is None:
            return told
        more = "there are more errors, which are not told; the first of them is here"
        return [*told, ConfigError(OPERATION, str(self._left_out), more, "correct those above, then read it again")]

    def _all(self) -> ConfigErrors:
        return ConfigErrors(self.errors())


def _short(text: str, most: int = _MOST_SAID) -> str:
    """Text without its middle where it is long: what is wrong stands at its end."""
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"


def _harmless(text: str) -> str:
    """Text without what a terminal would obey or cannot show."""
    return "".join(c if c.isprintable() or c in "\t\n" else "\ufffd" for c in text)


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
    deeper = " " * depth
    for above in range(index - 1, -1, -1):
        line = lines[above]
        if line.startswith(deeper) or not line.strip() or line.lstrip().startswith("#") or _indent(line) >= depth:
            continue
        if len(line) > _LONGEST_LINE or _secret_key(line):
            return True
        depth = _indent(line)
        deeper = " " * depth
        if depth == 0:
            return False
    return False


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))
