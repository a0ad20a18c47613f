"""YAML text → a tree of nodes that know their place. Pure.

Contract: one document of plain YAML: mappings, lists and scalars. Duplicate keys, anchors, aliases, merge keys, tags
and several documents are errors, because each lets a file mean something other than what a reader sees. Unquoted
scalars are null, true, false and numbers as in YAML 1.2's core schema; `yes`, `no`, `on`, `12:30`, dates and numbers
with a leading zero (codes, telephone numbers) are text. Bounds, which a mapping written by people stays far below:
2 MiB, 50 levels, 100,000 values, 20,000 characters in one of them; so a wrong file is told within seconds.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import yaml
from yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
)
from yaml.reader import ReaderError

from connector.mapping.marks import Mark, Problems, Source

MAX_BYTES = 2 * 1024 * 1024
MAX_DEPTH = 50
MAX_NODES = 100_000
MAX_TEXT = 20_000

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_DECIMAL = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]+)?)([eE][-+]?[0-9]+)?\Z")

Plain = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """One value. `text` is what is written (without quotes), `value` what it means.

    `written` is the text of the file where `text` came out of `${env:…}` or `${file:…}`; it alone may be shown.
    """

    value: Plain
    text: str
    plain: bool
    mark: Mark
    written: str


@dataclass(frozen=True, slots=True)
class ListNode:
    """Values in order."""

    items: tuple[Node, ...]
    mark: Mark


@dataclass(frozen=True, slots=True)
class MapNode:
    """Keys and values in the order of the file; no key stands twice."""

    entries: tuple[tuple[ScalarNode, Node], ...]
    mark: Mark

    def get(self, name: str) -> Node | None:
        """The value under a text key."""
        return next((value for key, value in self.entries if key.value == name), None)

    def entries_by_key(self) -> dict[tuple[type, Plain], tuple[ScalarNode, Node]]:
        """The entries by what their keys mean: 4 and '4' are two keys."""
        return {(type(key.value), key.value): (key, value) for key, value in self.entries}


Node = ScalarNode | ListNode | MapNode


def shape(node: Node) -> Literal["nothing", "a value", "a list", "a mapping"]:
    """What a person would call this node."""
    match node:
        case ScalarNode(value=None):
            return "nothing"
        case ScalarNode():
            return "a value"
        case ListNode():
            return "a list"
        case MapNode():
            return "a mapping"


def meaning(node: Node) -> object:
    """A node as JSON, without what does not change its meaning: comments, order of keys, quotes around text."""
    match node:
        case ScalarNode():
            return node.text if isinstance(node.value, str) else [type(node.value).__name__, node.text]
        case ListNode():
            return [meaning(item) for item in node.items]
        case MapNode():
            return {json.dumps(meaning(key)): meaning(value) for key, value in node.entries}


def plain_value(text: str) -> Plain:
    """What an unquoted scalar means."""
    match text:
        case "" | "~" | "null" | "Null" | "NULL":
            return None
        case "true" | "True" | "TRUE":
            return True
        case "false" | "False" | "FALSE":
            return False
    if _INTEGER.match(text):
        return int(text) if len(text) < 20 else text  # more digits are an identifier, not a number
    if _DECIMAL.match(text):
        number = float(text)
        return number if isfinite(number) else text
    return text


def read(data: bytes, name: str) -> Node:
    """The tree of one file. Raises ConfigErrors; `name` is the file's name for messages."""
    text = _decode(data, name)
    source = Source.of(name, text)
    problems = Problems()
    root = _Builder(source, problems).build(_events(text, source, problems))
    problems.raise_found()
    if root is None:
        problems.fail(Mark(source, 1, 1), "the file is empty", "start from config/emc-cdc.yml")
    return root


def _decode(data: bytes, name: str) -> str:
    problems = Problems()
    if len(data) > MAX_BYTES:
        source = Source(name, ())
        problems.fail(Mark(source, 1, 1), f"the file is larger than {MAX_BYTES} bytes", "is it the right file?")
    if data.startswith(_UTF_16) or data.count(0) * 3 > len(data):
        # Nothing of it is shown: where a secret stands cannot be told.
        problems.fail(Mark(Source(name, ()), 1, 1), "this is not UTF-8 text but looks like UTF-16", _SAVE)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = data[: error.start].decode("utf-8", "ignore").removeprefix("\ufeff")
        source = Source.of(name, data.decode("utf-8", "replace").removeprefix("\ufeff"))
        lines = Source.of(name, good).lines
        mark = Mark(source, len(lines), len(lines[-1]) + 1)
        problems.fail(mark, "this is not UTF-8 text", _SAVE)


_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_SAVE = "save the file with the encoding UTF-8 (in Notepad: Save as, Encoding)"
_SYNTAX = (
    ("'\\t'", "indent with spaces, never with tabs"),
    ("mapping values are not allowed", "put text that holds ': ' in quotes, or mend the indentation of this line"),
    ("could not find expected ':'", "write `key: value`; is a ':' or a closing quote missing?"),
    ("expected <block end>", "begin the line in the same column as the line it belongs beside; quote what needs it"),
    ("found unexpected end of stream", "close the quote that was opened"),
    ("expected ',' or '}'", "close the '{' that was opened, with ',' between its entries"),
    ("expected ',' or ']'", "close the '[' that was opened, with ',' between its items"),
    ("escape", "inside double quotes write '\\\\' for a backslash, or use single quotes"),
    ("cannot start any token", "put the text in quotes"),
)


def _events(text: str, source: Source, problems: Problems) -> Iterator[Event]:
    """PyYAML's events; what it cannot read becomes ConfigErrors."""
    line = column = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            yield event
            assert event.end_mark is not None
            line, column = event.end_mark.line, event.end_mark.column
    except ReaderError as error:
        before = Source.of(source.name, text[: error.position]).lines
        mark = Mark(source, len(before), len(before[-1]) + 1)
        problems.fail(mark, f"the character U+{ord(text[error.position]):04X} may not stand in YAML", "remove it")
    except yaml.MarkedYAMLError as error:
        told = str(error.problem or error.context)
        # An unclosed quote is found at the end of the file; a person looks for its beginning.
        opened = error.context_mark if "unexpected end of stream" in told else None
        place = opened or error.problem_mark or error.context_mark
        mend = next((mend for sign, mend in _SYNTAX if sign in told), "see the example config/emc-cdc.yml")
        if place is None:
            raise
        if "but got '{'" in told and source.lines[place.line][: place.column].endswith("$"):
            mend = "inside { } and [ ] put it in quotes: '${env:NAME}'"
        problems.fail(Mark(source, place.line + 1, place.column + 1), f"this is not YAML: {told}", mend)
    except (ValueError, OverflowError):  # of "\\UFFFFFFFF" and %YAML 1.111…, which PyYAML hands on to Python
        told = "behind this place is a number or a character that cannot be"
        problems.fail(Mark(source, line + 1, column + 1), f"this is not YAML: {told}", "correct what follows it")


class _Open:
    """A collection whose end has not come yet."""

    def __init__(self, mark: Mark, *, mapping: bool) -> None:
        self.mark = mark
        self.mapping = mapping
        self.items: list[Node] = []

    def closed(self, problems: Problems) -> Node:
        if not self.mapping:
            return ListNode(tuple(self.items), self.mark)
        entries: list[tuple[ScalarNode, Node]] = []
        first: dict[tuple[type, Plain], ScalarNode] = {}
        for key, value in zip(self.items[::2], self.items[1::2], strict=True):
            if not isinstance(key, ScalarNode):
                problems.add(key.mark, f"a key cannot be {shape(key)}", "write a word before the ':'")
                continue
            if key.plain and key.text == "<<":
                problems.add(key.mark, "merge keys are not used here", "write the lines out")
                continue
            earlier = first.setdefault((type(key.value), key.value), key)
            if earlier is not key:
                told = f"'{key.text}' stands here twice; the first is on line {earlier.mark.line}"
                problems.add(key.mark, told, "keep one of the two")
                continue
            entries.append((key, value))
        return MapNode(tuple(entries), self.mark)


class _Builder:
    """Folds parser events into a tree, without recursion."""

    def __init__(self, source: Source, problems: Problems) -> None:
        self._source = source
        self._problems = problems

    def build(self, events: Iterator[Event]) -> Node | None:
        stack: list[_Open] = []
        root: Node | None = None
        documents = nodes = 0
        for event in events:
            node: Node | None = None
            match event:
                case DocumentStartEvent():
                    documents += 1
                    if documents == 2:
                        told = "a second document begins here"
                        self._problems.add(self._mark(event), told, "keep one document: remove the '---'")
                        return root
                case CollectionStartEvent():
                    self._plain_only(event.anchor, event.tag, event)
                    stack.append(_Open(self._mark(event), mapping=isinstance(event, MappingStartEvent)))
                    if len(stack) > MAX_DEPTH:
                        told = f"more than {MAX_DEPTH} levels inside each other"
                        self._problems.add(self._mark(event), told, "is it the right file?")
                        return None
                case MappingEndEvent() | SequenceEndEvent():
                    node = stack.pop().closed(self._problems)
                case ScalarEvent():
                    self._plain_only(event.anchor, event.tag, event)
                    node = self._scalar(event)
                case AliasEvent():
                    told = f"aliases (*{event.anchor}) are not used here"
                    self._problems.add(self._mark(event), told, "write the value out")
                    mark = self._mark(event)
                    node = ScalarNode(None, "", plain=True, mark=mark, written="")
                case _:
                    pass
            if node is not None:
                nodes += 1
                if nodes > MAX_NODES:
                    told = f"more than {MAX_NODES} values"
                    self._problems.add(self._mark(event), told, "is it the right file?")
                    return None
                if stack:
                    stack[-1].items.append(node)
                else:
                    root = node
        return root

    def _scalar(self, event: ScalarEvent) -> ScalarNode:
        if len(event.value) > MAX_TEXT:
            told = f"a value of more than {MAX_TEXT} characters"
            self._problems.add(self._mark(event), told, "put it into a file, and write ${file:PATH} here")
        if not event.value.isprintable() and _NO_TEXT.search(event.value):
            told = "neither the character 0 nor half a character (\\ud800 to \\udfff) is text"
            self._problems.add(self._mark(event), told, "remove it")
        plain = event.style is None
        value = plain_value(event.value) if plain else event.value
        return ScalarNode(value, event.value, plain, self._mark(event), event.value)

    def _plain_only(self, anchor: str | None, tag: str | None, event: Event) -> None:
        if anchor is not None:
            told = f"anchors (&{anchor}) are not used here"
            self._problems.add(self._mark(event), told, "write the value out where it is needed")
        if tag is not None:
            told = "tags (!…) are not used here"
            self._problems.add(self._mark(event), told, "write the value without '!'; quote it if it is text")

    def _mark(self, event: Event) -> Mark:
        start, end = event.start_mark, event.end_mark
        assert start is not None  # the parser gives every event its marks
        assert end is not None
        one_line = start.line == end.line and not isinstance(event, CollectionStartEvent)
        width = end.column - start.column if one_line else 1
        return Mark(self._source, start.line + 1, start.column + 1, max(1, width))
