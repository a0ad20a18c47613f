"""Rows in Avro, column by column: how large each value is, and a row whose named columns are cut (pure).

Contract: `RowParts` takes the bytes of `Value` records of one shape, as the transcoder gives them. `fit` is a function
of these bytes, the names and the room alone, so a replay cuts alike. All values of the named columns, in both images,
that are longer than one common length are cut to it: the greatest power of two of bytes with which the rows have room,
so that what was cut once stays as it is when a neighbour grows by a few bytes:
- text, varchar, char (and domains over them, citext): at the end of a character;
- bytea: between two bytes, also where it is written as base64 or hex;
- json, jsonb: the whole value becomes the JSON text `null`, which is valid JSON and no NULL.
So a value that was there stays there, and no other column changes by a bit. Nothing is cut below `LEAST` bytes.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from connector.change.columntype import Kind
from connector.change.shape import Column, Shape
from connector.source.decode.converters import text_bytes, zigzag

LEAST: Final = 1024
"""Bytes that stay of every value that is cut."""
CUTTABLE: Final = {
    17: "bytea",
    25: "text",
    114: "json",
    1042: "character",
    1043: "character varying",
    3802: "jsonb",
}
"""The types whose values can be cut, by what they come down to (`basetypes`)."""

_JSON: Final = (114, 3802)
_BYTEA: Final = 17
_PREFIX: Final = 6
"""Bytes before a string at most: the union's branch, and a length below 2^34."""

Skip = Callable[[bytes, int], int]
"""The end of the value that begins at a place."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Rows that were cut. names: the columns, in the table's order; texts: what is left of those of `after`, as
    PostgreSQL's text."""

    before: bytes | None
    after: bytes | None
    names: tuple[str, ...]
    texts: Mapping[str, bytes]


def mark(names: Sequence[str]) -> bytes:
    """`source.truncated`: null, or the names."""
    if not names:
        return b"\0"
    return b"".join((b"\2", zigzag(len(names)), *(text_bytes(name.encode()) for name in names), b"\0"))


class RowParts:
    """See the module's contract. names: the columns that may be cut."""

    def __init__(self, shape: Shape, names: Collection[str]) -> None:
        self._columns = shape.columns
        self._named = [
            place
            for place, column in enumerate(shape.columns)
            if column.name in names and column.type_oid in CUTTABLE and not column.key
        ]
        self._units = [_unit(shape, column) for column in shape.columns]
        self._skips = []
        for column in shape.columns:
            branches = list(shape.type_of(column).avro)
            bare = column.key and len(branches) == 1
            self._skips.append(_skip(branches[0] if bare else ["null", *branches]))
        self.longest_mark = len(mark([shape.columns[place].name for place in self._named]))

    def sizes(self, *rows: bytes | None) -> list[tuple[str, int]]:
        """Columns with the bytes that they take in all rows, the largest first."""
        sums = dict.fromkeys((column.name for column in self._columns), 0)
        for row in rows:
            for column, part in zip(self._columns, self._parts(row), strict=False):
                sums[column.name] += len(part)
        return sorted(sums.items(), key=lambda each: -each[1])

    def fit(self, before: bytes | None, after: bytes | None, room: int) -> Fitted | None:
        """The rows in no more than `room` bytes together; None when cutting the named columns does not do it."""
        images = [self._parts(before), self._parts(after)]
        values = [(parts, place) for parts in images if parts for place in self._named if parts[place] != b"\0"]
        lengths = [len(_content(parts[place])) for parts, place in values]
        left = room - sum(map(len, (part for parts in images for part in parts)))
        left += sum(len(parts[place]) - _PREFIX for parts, place in values)
        share = 1 << max(lengths, default=0).bit_length()
        while sum(min(length, share) for length in lengths) > left:
            share >>= 1
            if share < LEAST:
                return None
        cut: set[int] = set()
        texts: dict[str, bytes] = {}
        for parts, place in values:
            column, content = self._columns[place], _content(parts[place])
            if len(content) <= share:
                continue
            kept = self._cut(place, content, share)
            parts[place] = b"\2" + text_bytes(kept)
            cut.add(place)
            if parts is images[1]:
                texts[column.name] = self._as_text(place, kept)
        names = tuple(self._columns[place].name for place in sorted(cut))
        rows = [None if row is None else b"".join(parts) for row, parts in zip((before, after), images, strict=True)]
        return Fitted(rows[0], rows[1], names, texts)

    def _parts(self, row: bytes | None) -> list[bytes]:
        if row is None:
            return []
        parts = []
        at = 0
        for skip in self._skips:
            end = skip(row, at)
            parts.append(row[at:end])
            at = end
        return parts

    def _cut(self, place: int, content: bytes, size: int) -> bytes:
        oid = self._columns[place].type_oid
        if oid in _JSON:
            return b"null"
        if oid == _BYTEA:
            return content[: size - size % self._units[place]]
        while content[size] & 0xC0 == 0x80:  # inside a character
            size -= 1
        return content[:size]

    def _as_text(self, place: int, content: bytes) -> bytes:
        if self._columns[place].type_oid != _BYTEA:
            return content
        match self._units[place]:
            case 1:
                return b"\\x" + content.hex().encode()
            case 2:
                return b"\\x" + content
            case _:
                return b"\\x" + a2b_base64(content).hex().encode()


def _unit(shape: Shape, column: Column) -> int:
    """Characters of a bytea's representation that belong together."""
    if column.type_oid != _BYTEA or shape.type_of(column).kind is Kind.BYTES:
        return 1
    return 2 if shape.options.binary == "hex" else 4


def _content(part: bytes) -> bytes:
    """The bytes of a string or bytes in a union's branch 1."""
    size, at = _number(part, 1)
    return part[at : at + size]


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    shift = whole = 0
    while True:
        byte = data[at]
        at += 1
        whole |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (whole >> 1) ^ -(whole & 1), at
        shift += 7


def _skip(schema: Any) -> Skip:
    """How a value of a column's Avro schema is passed over."""
    if isinstance(schema, list):
        return _skip_union([_skip(branch) for branch in schema])
    kind = schema["type"] if isinstance(schema, Mapping) else schema
    match kind:
        case "null":
            return lambda data, at: at
        case "boolean":
            return lambda data, at: at + 1
        case "int" | "long":
            return lambda data, at: _number(data, at)[1]
        case "float":
            return lambda data, at: at + 4
        case "double":
            return lambda data, at: at + 8
        case "bytes" | "string":
            return _skip_string
        case "array":
            return _skip_blocks([_skip(schema["items"])])
        case "map":
            return _skip_blocks([_skip_string, _skip(schema["values"])])
        case "record":
            return _skip_all([_skip(field["type"]) for field in schema["fields"]])
    return _skip(kind)


def _skip_string(data: bytes, at: int) -> int:
    size, at = _number(data, at)
    return at + size


def _skip_all(skips: Sequence[Skip]) -> Skip:
    def skip(data: bytes, at: int) -> int:
        for each in skips:
            at = each(data, at)
        return at

    return skip


def _skip_union(branches: Sequence[Skip]) -> Skip:
    def skip(data: bytes, at: int) -> int:
        branch, at = _number(data, at)
        return branches[branch](data, at)

    return skip


def _skip_blocks(skips: Sequence[Skip]) -> Skip:
    one = _skip_all(skips)

    def skip(data: bytes, at: int) -> int:
        while True:
            count, at = _number(data, at)
            if not count:
                return at
            for _ in range(count):
                at = one(data, at)

    return skip
