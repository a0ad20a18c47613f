"""What the generated row functions write: the parts in which Avro and JSON differ.

Contract: a `RowForm` gives `transcoder` the expressions and statements for one kept column each, and what its functions
need by name. Statements set `c{index}` from a text of `n` bytes; nothing in them comes from the database.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from connector.change.columntype import ColumnType, Kind
from connector.change.shape import Column, Shape
from connector.source.decode.converters import (
    CONTINUED,
    ENDING,
    NULLABLE_CONTINUED,
    NULLABLE_LENGTHS,
    plain_converter,
    zigzag,
)
from connector.source.decode.json_converters import ESCAPED, json_converter, json_text


class RowForm(Protocol):
    """How rows are written."""

    compiled: bool
    """Whether `decode.native` can write it."""
    null: str
    """The expression for NULL."""

    def names(self, shape: Shape) -> dict[str, Any]:
        """What the generated code needs beside the columns' converters F0, F1, …"""

    def converter(self, kind: ColumnType, nullable: bool) -> Callable[[bytes], bytes]:
        """Text → bytes of the form."""

    def memoized(self, kind: ColumnType) -> bool:
        """Whether texts of this kind repeat, and cost more to convert than to remember."""

    def short_text(self, index: int, text: str) -> str:
        """The statement for a column of Kind.TEXT outside the key, of `n` bytes."""

    def number(self, index: int, column: Column, kind: ColumnType, text: str) -> str | None:
        """The statement for whole numbers; None to call the converter."""

    def row(self, columns: int) -> str:
        """The expression that joins c0, c1, …"""


# Texts of these seldom repeat, or converting costs no more than remembering.
_NOT_MEMOIZED = frozenset(
    (
        Kind.TEXT,
        Kind.BYTES,
        Kind.LONG,
        Kind.FLOAT,
        Kind.DOUBLE,
        Kind.ZONED_TIMESTAMP,
        Kind.DECIMAL_TEXT,
        Kind.ENCODED_BYTES,
        Kind.BITS,
        Kind.POINT,
        Kind.MAP,
        Kind.ARRAY,
        Kind.MADE_TEXT,
    )
)


class _AvroRows:
    """The record `Value` of `change.envelope.table_schema`."""

    compiled = True
    null = "b'\\0'"

    def names(self, shape: Shape) -> dict[str, Any]:
        return {
            "L": NULLABLE_LENGTHS,
            "T": lambda size: b"\2" + zigzag(size),
            "C": CONTINUED,
            "NC": NULLABLE_CONTINUED,
            "E": ENDING,
        }

    def converter(self, kind: ColumnType, nullable: bool) -> Callable[[bytes], bytes]:
        return plain_converter(kind, nullable)

    def memoized(self, kind: ColumnType) -> bool:
        return kind.kind not in _NOT_MEMOIZED

    def short_text(self, index: int, text: str) -> str:
        # Most columns are short text: no call, only the length prefix and the bytes.
        return f"c{index} = (L[n] if n < {len(NULLABLE_LENGTHS)} else T(n)) + {text}"

    def number(self, index: int, column: Column, kind: ColumnType, text: str) -> str | None:
        if kind.kind is not Kind.LONG:
            return None
        # Ids, nearly always: from 0 on, below 134 million, and seldom the same twice.
        prefix = "" if column.key and len(kind.avro) == 1 else "N"
        return (
            f"r = int({text}) << 1; c{index} = {prefix}C[r & 16383] + E[r >> 14] if 16384 <= r < 268435456"
            f" else F{index}({text})"
        )

    def row(self, columns: int) -> str:
        return "c0" if columns == 1 else f"b''.join(({_parts(columns)}))"


class _JsonRows:
    """A JSON object as `change.json_form` writes it: columns under their own names, in the shape's order."""

    compiled = False
    null = "b'null'"

    def names(self, shape: Shape) -> dict[str, Any]:
        fields = (json.dumps(column.name, ensure_ascii=False).encode() for column in shape.columns)
        template = b"{" + b",".join(field.replace(b"%", b"%%") + b":%b" for field in fields) + b"}"
        return {"R": template, "S": ESCAPED, "X": json_text}

    def converter(self, kind: ColumnType, nullable: bool) -> Callable[[bytes], bytes]:
        return json_converter(kind)

    def memoized(self, kind: ColumnType) -> bool:
        return kind.kind not in _NOT_MEMOIZED and kind.kind is not Kind.INTEGER

    def short_text(self, index: int, text: str) -> str:
        # Most text needs no escape, and looking for one costs less than writing it.
        return f"r = {text}; c{index} = b'\"%b\"' % r if len(r.translate(None, S)) == n else X(r)"

    def number(self, index: int, column: Column, kind: ColumnType, text: str) -> str | None:
        if kind.kind not in (Kind.INTEGER, Kind.LONG):
            return None
        # A number without sign or zeros in front is JSON as it is.
        return f"r = {text}; c{index} = r if r.isdigit() and r[0] != 48 else F{index}(r)"

    def row(self, columns: int) -> str:
        return f"R % ({_parts(columns)},)"


def _parts(columns: int) -> str:
    return ", ".join(f"c{index}" for index in range(columns))


AVRO_ROWS: RowForm = _AvroRows()
JSON_ROWS: RowForm = _JsonRows()
