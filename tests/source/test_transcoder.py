"""The generated transcoder equals the readable reference: parse, then fastavro."""

from __future__ import annotations

import json
import struct
from decimal import Decimal
from io import BytesIO

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.change.columntype import column_type
from connector.change.decoding import ChangeDecoder
from connector.change.encoding import Context, Encoder
from connector.change.envelope import row_key, table_schema
from connector.change.position import Position
from connector.change.record import Op
from connector.change.shape import Column, Shape
from connector.errors import ProtocolViolation
from connector.source.decode.messages import UNCHANGED, Field, Insert, parse, read_tuple
from connector.source.decode.transcoder import PADDING, compile_transcoder

_MOST = Decimal("999999999999.99")

two = st.integers(0, 59).map(lambda n: f"{n:02}")
dates = st.dates().map(str) | st.integers(1, 9999).map(lambda y: f"{y:04}-02-03 BC") | st.sampled_from(["infinity"])
clocks = st.times().map(lambda t: t.isoformat())
timestamps = st.datetimes().map(lambda t: t.isoformat(" ")) | st.just("infinity") | st.just("0044-03-15 10:00:00.5 BC")


def integers(bits: int) -> st.SearchStrategy[str]:
    """Integers of a size, as text."""
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).map(str)


TEXTS: dict[tuple[int, int], st.SearchStrategy[str]] = {
    (16, -1): st.sampled_from(["t", "f"]),
    (17, -1): st.binary(max_size=20).map(lambda b: "\\x" + b.hex()),
    (20, -1): integers(64),
    (21, -1): integers(16),
    (23, -1): integers(32),
    (25, -1): st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    (1043, 24): st.sampled_from(["", "đang xử lý", "x" * 63, "x" * 64, "x" * 3000]),
    (701, -1): st.floats(allow_nan=False).map(repr) | st.sampled_from(["NaN", "-Infinity", "1e+100"]),
    (700, -1): st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    (1700, -1): st.decimals(allow_nan=False, allow_infinity=False, places=4).map(lambda d: f"{d:f}") | st.just("NaN"),
    (1700, (14 << 16 | 2) + 4): st.decimals(-_MOST, _MOST, places=2).map(lambda d: f"{d:f}")
    | st.sampled_from(["-0.10", "NaN", "Infinity"]),
    (1082, -1): dates,
    (1083, -1): clocks | st.just("24:00:00"),
    (1083, 2): clocks,
    (1114, -1): timestamps,
    (1114, 3): timestamps.filter(lambda t: t != "infinity"),
    (1184, -1): st.datetimes().map(lambda t: t.isoformat(" ") + "+00"),
    (2950, -1): st.uuids().map(str),
    (3802, -1): st.just('{"a": [1, "đ"]}'),
    (1009, -1): st.just("{a,NULL}"),
}


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[str], Shape, list[str | None]]:
    """Column names of a relation, the kept shape, and a row's texts for all columns."""
    kinds = draw(st.lists(st.sampled_from(sorted(TEXTS)), min_size=1, max_size=8))
    names = [f"c{i}" for i in range(len(kinds))]
    key_kind = draw(st.sampled_from([(20, -1), (25, -1), (2950, -1)]))
    kinds.insert(0, key_kind)
    names.insert(0, "khóa")
    texts: list[str | None] = [draw(TEXTS[key_kind])]
    texts += [draw(st.none() | TEXTS[kind]) for kind in kinds[1:]]
    keep = [True] + [draw(st.booleans()) for _ in kinds[1:]]
    columns = tuple(
        Column(name, oid, typmod, index == 0)
        for index, (name, (oid, typmod), kept) in enumerate(zip(names, kinds, keep, strict=True))
        if kept
    )
    return names, Shape("s", "t", columns), texts


def tuple_data(texts: list[str | None]) -> bytes:
    """TupleData as PostgreSQL sends it."""
    out = struct.pack(">h", len(texts))
    for text in texts:
        out += b"n" if text is None else b"t" + struct.pack(">I", len(text.encode())) + text.encode()
    return out


CONTEXT = Context("n", "d", 1, 2, 3, 4, 5)


@settings(max_examples=400)
@given(cases())
def test_generated_equals_reference(case: tuple[list[str], Shape, list[str | None]]) -> None:
    """Both entries give the bytes that fastavro gives for the parsed values, and the decoder reads them back."""
    names, shape, texts = case
    by_name = dict(zip(names, texts, strict=True))
    values = {
        column.name: None
        if (text := by_name[column.name]) is None
        else column_type(column.type_oid, column.typmod).parse(text)
        for column in shape.columns
    }
    schema = table_schema("n", "d", shape)
    encoder = Encoder(1, schema)
    whole = encoder.row(CONTEXT, Op.CREATE, None, values, Position(1, 2, 1), 9, 1, True)
    row_schema = fastavro.parse_schema(json.loads(schema)["fields"][0]["type"][1] | {"namespace": "x"})
    expected = BytesIO()
    fastavro.schemaless_writer(expected, row_schema, encoder._values(values))

    transcoder = compile_transcoder(names, shape, None)
    data = b"I" + tuple_data(texts)
    made = transcoder.tuple_row(data + PADDING, 1)
    assert made is not None
    row, key, link, end = made
    assert row == expected.getvalue()
    assert (link, end) == (None, len(data))
    fields = [None if by_name[c.name] is None else by_name[c.name].encode() for c in shape.columns]  # type: ignore[union-attr]
    assert transcoder.fields_row(fields) == (row, key, None)
    assert json.loads(b'["s.t",' + key + b"]") == json.loads(row_key("s.t", (texts[0] or "",)))
    change = ChangeDecoder({1: schema}.__getitem__).decode(b'["s.t",' + key + b"]", whole)
    assert repr(change.after) == repr(values)


@given(cases(), st.data())
def test_every_cut_raises_only_the_documented_error(
    case: tuple[list[str], Shape, list[str | None]], data: st.DataObject
) -> None:
    """Both decoders refuse a row that is cut at any byte."""
    names, shape, texts = case
    whole = b"I" + struct.pack(">I", 7) + b"N" + tuple_data(texts)
    assert isinstance(parse(whole), Insert)
    transcoder = compile_transcoder(names, shape, None)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ProtocolViolation):
        parse(whole[:cut])
    if cut >= 6:
        with pytest.raises(ProtocolViolation):
            transcoder.tuple_row(whole[:cut] + PADDING, 6)


def test_an_unchanged_value_is_left_to_the_slow_path() -> None:
    """A kept column that is unchanged TOAST makes no row; one that is not kept does not matter."""
    data = struct.pack(">h", 3) + b"t\0\0\0\x015" + b"u" + b"n" + PADDING
    fields: tuple[Field, ...] = (b"5", UNCHANGED, None)
    assert read_tuple(data, 0) == (fields, len(data) - len(PADDING))
    columns = (Column("id", 20, -1, True), Column("b", 25, -1, False), Column("c", 25, -1, False))
    assert compile_transcoder(["id", "b", "c"], Shape("s", "t", columns), None).tuple_row(data, 0) is None
    without = Shape("s", "t", (columns[0], columns[2]))
    assert compile_transcoder(["id", "b", "c"], without, None).tuple_row(data, 0) is not None


def test_the_link_column_is_returned() -> None:
    """A child's row tells which dossier it belongs to."""
    shape = Shape("s", "t", (Column("id", 20, -1, True), Column("ho_so_id", 20, -1, False)))
    transcoder = compile_transcoder(["id", "x", "ho_so_id"], shape, "ho_so_id")
    assert transcoder.tuple_row(tuple_data(["1", "y", "42"]) + PADDING, 0) == (b"\2\2\x54", b'"1"', b"42", 21)
    assert transcoder.fields_row([b"1", None]) == (b"\2\0", b'"1"', None)


@pytest.mark.parametrize("text", [b"abc", b"", b"1.5"])
def test_text_of_another_type_is_refused(text: bytes) -> None:
    """A value that is not of its column's type names the table, never the value."""
    shape = Shape("s", "t", (Column("id", 20, -1, True), Column("n", 20, -1, False)))
    with pytest.raises(ProtocolViolation, match=r"s\.t") as raised:
        compile_transcoder(["id", "n"], shape, None).fields_row([b"1", text])
    assert text == b"" or text.decode() not in str(raised.value)


@pytest.mark.parametrize("message", [b"", b"?", b"Z123", b"I\0\0\0\1X"])
def test_unknown_messages_are_refused(message: bytes) -> None:
    """A message that protocol version 1 does not have."""
    with pytest.raises(ProtocolViolation):
        parse(message)
