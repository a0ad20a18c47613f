"""Text of a row, straight to Avro or JSON: one generated function per relation.

Contract: for a relation's column list and the kept `Shape`, `compile_transcoder` makes
- `tuple_row(data, at)`: TupleData at `at` (after the row marker) → `(row, key, link, end)`, or None when a kept column
  is an unchanged TOASTed value, which only the slow path can fill;
- `fields_row(values)`: the kept columns' texts, in shape order → `(row, key, link)`.
`row` is the Avro record `Value` of `change.envelope.table_schema`, or the JSON object of it (`rowform` has what
differs, all else is common), `key` the primary key as the inside of the JSON record key (`"123"` or `"a","b"`), `link`
the text of the column that holds the dossier's key (None when NULL or when the table has none). Both raise
ProtocolViolation for text that is not of its column's type and for data cut short.
Invariant: equal to fastavro over `columntype.parse`, held by tests/source/test_transcoder.py, and to json_form over
that, held by tests/source/test_json_transcoder.py.

Where it could be built, `decode.native` reads tuples in place of the generated code for Avro, and hands it what is not
common.
Why generated: a row costs one pass over its bytes, without a loop, an object or a dispatch per column. Text that
repeats (status words, dates, flags, foreign keys) is looked up in a bounded memo of its bytes.
`data` must be padded with PADDING, so that reading a length after the last NULL stays inside.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from connector.change.columntype import ColumnType, Kind
from connector.change.shape import Column, Shape
from connector.source.decode.accelerator import native
from connector.source.decode.converters import MEMO_LIMIT
from connector.source.decode.messages import violation
from connector.source.decode.rowform import AVRO_ROWS, RowForm

PADDING = b"\0\0\0\0"

ERRORS = (struct.error, IndexError, KeyError, ValueError, ArithmeticError)
"""What converting a text that is not of its column's type may raise."""

Row = tuple[bytes, bytes, bytes | None]
RowAt = tuple[bytes, bytes, bytes | None, int]


@dataclass(frozen=True, slots=True)
class Transcoder:
    """The generated functions of one relation."""

    tuple_row: Callable[[bytes, int], RowAt | None]
    fields_row: Callable[[Sequence[bytes | None]], Row]
    source: str
    """The generated Python, for tests and curiosity."""


def compile_transcoder(
    columns: Sequence[str],
    shape: Shape,
    link: str | None,
    native: ModuleType | None = native,
    form: RowForm = AVRO_ROWS,
) -> Transcoder:
    """Generate the functions for TupleData with these `columns`, keeping those of `shape`.

    native: the compiled rows (`decode.accelerator`), which then read tuples if they know the form; None for generated
    Python alone.
    """
    kept = {column.name: index for index, column in enumerate(shape.columns)}
    namespace: dict[str, Any] = {
        "U": struct.Struct(">BI").unpack_from,
        "I2": struct.Struct(">H").unpack_from,
        "ERRORS": ERRORS,
        "violation": violation,
        "table": shape.full_name,
        "J": _json_text,
        "N": _null_key,
    } | form.names(shape)
    for index, column in enumerate(shape.columns):
        kind = shape.type_of(column)
        nullable = not column.key or len(kind.avro) > 1
        namespace[f"F{index}"] = _converter(form, kind, nullable, memo=not column.key)

    walk = _Source()
    walk.line("def tuple_row(m, p):")
    walk.line(" try:")
    walk.line(f"  if I2(m, p)[0] != {len(columns)}: raise violation('a row with another number of columns')")
    walk.line("  p += 2")
    for name in columns:
        walk.line("  k, n = U(m, p)")
        if name in kept:
            i = kept[name]
            column = shape.columns[i]
            walk.line("  if k == 116:")
            if column.key or name == link:
                walk.line(f"   p += 5; q = p + n; v{i} = m[p:q]; p = q; {_convert(form, shape, i, f'v{i}')}")
            elif shape.type_of(column).kind is Kind.TEXT:
                walk.line(f"   p += 5; q = p + n; {form.short_text(i, 'm[p:q]')}; p = q")
            else:
                walk.line(f"   p += 5; q = p + n; {_convert(form, shape, i, 'm[p:q]')}; p = q")
            walk.line("  elif k == 110:")
            null = f"v{i} = None; " if column.key or name == link else ""
            walk.line(f"   {null}c{i} = {_null(form, shape, column)}; p += 1")
            walk.line("  elif k == 117: return None")
        else:
            walk.line("  if k == 116: p += 5 + n")
            walk.line("  elif k == 110 or k == 117: p += 1")
        walk.line("  else: raise violation('a column of unknown kind')")
    walk.line("  if p > len(m) - 4: raise violation('a row is cut short')")
    _emit_row(walk, form, shape, link, ", p")

    fields = _Source()
    fields.line("def fields_row(values):")
    fields.line(" try:")
    names = "".join(f"v{index}, " for index in range(len(shape.columns)))
    fields.line(f"  ({names}) = values")
    for i, column in enumerate(shape.columns):
        fields.line(f"  c{i} = {_null(form, shape, column)} if v{i} is None else {_call(form, shape, i, f'v{i}')}")
    _emit_row(fields, form, shape, link, "")

    source = walk.text() + fields.text()
    # The source holds nothing but indices and lengths made here: no name of a column or table is part of the code.
    exec(compile(source, f"<transcoder of {shape.full_name}>", "exec"), namespace)  # noqa: S102
    tuple_row = namespace["tuple_row"]
    if native is not None and form.compiled:
        tuple_row = _native_rows(native, columns, shape, link).tuple_row
    return Transcoder(tuple_row, namespace["fields_row"], source)


def _native_rows(native: ModuleType, columns: Sequence[str], shape: Shape, link: str | None) -> Any:
    """`native.Rows` for the same columns; it hands every text that is not plain to the same converters."""
    kept = {column.name: column for column in shape.columns}
    fields: list[tuple[Any, ...] | None] = []
    for name in columns:
        column = kept.get(name)
        if column is None:
            fields.append(None)
            continue
        kind = shape.type_of(column)
        nullable = not column.key or len(kind.avro) > 1
        family, number = _family(kind)
        convert = _converter(AVRO_ROWS, kind, nullable, memo=not column.key)
        fields.append(
            (
                family,
                number,
                nullable,
                column.key,
                column.type_oid in _BARE,
                name == link,
                convert.__getitem__ if isinstance(convert, _Memo) else convert,
            )
        )
    return native.Rows(shape.full_name, fields, _json_text, ERRORS)


def _family(kind: ColumnType) -> tuple[str, int]:
    """The family that native code converts a column in ("" for none), and its number: a scale, or a unit in us."""
    match kind.kind:
        case Kind.TEXT:
            return "text", 0
        case Kind.BOOLEAN:
            return "boolean", 0
        case Kind.INTEGER | Kind.LONG:
            return "integer", 0
        case Kind.DATE:
            return "date", 0
        case Kind.TIMESTAMP_MS:
            return "timestamp", 1000
        case Kind.TIMESTAMP_US:
            return "timestamp", 1
        case Kind.DECIMAL if 0 <= kind.scale <= 18:
            return "decimal", kind.scale
        case _:
            return "", 0


class _Source:
    def __init__(self) -> None:
        self._lines: list[str] = []

    def line(self, text: str) -> None:
        self._lines.append(text)

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"


def _convert(form: RowForm, shape: Shape, index: int, text: str) -> str:
    """The statement that converts a column's text."""
    column = shape.columns[index]
    special = form.number(index, column, shape.type_of(column), text)
    return special or f"c{index} = {_call(form, shape, index, text)}"


def _call(form: RowForm, shape: Shape, index: int, text: str) -> str:
    """The expression that converts a column's text."""
    column = shape.columns[index]
    memoized = not column.key and form.memoized(shape.type_of(column))
    return f"F{index}[{text}]" if memoized else f"F{index}({text})"


def _null(form: RowForm, shape: Shape, column: Column) -> str:
    """The expression for NULL; a key column without a null branch cannot hold it."""
    plain = len(shape.type_of(column).avro) == 1
    return "N()" if column.key and plain else form.null


def _null_key() -> bytes:
    raise TypeError


def _emit_row(out: _Source, form: RowForm, shape: Shape, link: str | None, more: str) -> None:
    out.line(f"  row = {form.row(len(shape.columns))}")
    keys = [
        f"b'\"' + v{index} + b'\"'" if column.type_oid in _BARE else f"J(v{index})"
        for index, column in enumerate(shape.columns)
        if column.key
    ]
    joined_key = " + b',' + ".join(keys) or "b''"
    out.line(f"  key = {joined_key}")
    linked = next((f"v{index}" for index, column in enumerate(shape.columns) if column.name == link), "None")
    out.line(f"  return row, key, {linked}{more}")
    out.line(" except ERRORS as error:")
    out.line("  raise violation(f'a row of {table} cannot be decoded ({type(error).__name__})') from error")
    out.line(" except TypeError as error:")
    out.line("  raise violation(f'a row of {table} has NULL in its key') from error")


# int2, int4, int8, oid, uuid, date: their text needs no JSON escape.
_BARE = frozenset((20, 21, 23, 26, 2950, 1082))
_TIMESTAMPS = (Kind.TIMESTAMP_MS, Kind.TIMESTAMP_US)


def _json_text(value: bytes) -> bytes:
    return json.dumps(value.decode(), ensure_ascii=False).encode()


class _Memo(dict[bytes, bytes]):
    """Text → its bytes, for columns whose texts repeat. Takes the first texts it meets and then no more, so that a
    column of ever new texts costs neither memory nor bookkeeping.
    """

    __slots__ = ("_convert",)

    def __init__(self, convert: Callable[[bytes], bytes]) -> None:
        self._convert = convert

    def __missing__(self, text: bytes) -> bytes:
        converted = self._convert(text)
        if len(self) < MEMO_LIMIT:
            self[text] = converted
        return converted


class _Recent(_Memo):
    """The same for texts that come back soon or never: one dossier's rows repeat its timestamps."""

    __slots__ = ()

    def __missing__(self, text: bytes) -> bytes:
        if len(self) >= MEMO_LIMIT:
            self.clear()
        converted = self[text] = self._convert(text)
        return converted


def _converter(form: RowForm, kind: ColumnType, nullable: bool, memo: bool) -> Callable[[bytes], bytes] | _Memo:
    convert = form.converter(kind, nullable)
    if not memo or not form.memoized(kind):
        return convert
    return _Recent(convert) if kind.kind in _TIMESTAMPS else _Memo(convert)
