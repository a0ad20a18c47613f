"""The generated transcoder and the compiled one equal the readable reference: parse, then fastavro.

The compiled one is optional for an operator, never here: without it these tests fail.
"""

from __future__ import annotations

import json
import struct
from decimal import Decimal
from io import BytesIO

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.change.columntype import (
    ENUM,
    ENUM_ARRAY,
    HSTORE,
    HSTORE_ARRAY,
    MONEY,
    MONEY_ARRAY,
    OTHER,
    OTHER_ARRAY,
    TypeOptions,
)
from connector.change.decoding import ChangeDecoder
from connector.change.encoding import Context, Encoder
from connector.change.envelope import row_key, table_schema
from connector.change.partitioner import murmur2
from connector.change.pgtext import single
from connector.change.position import Position
from connector.change.record import Op
from connector.change.shape import Column, Shape
from connector.errors import ProtocolViolation
from connector.source.decode import native
from connector.source.decode.messages import UNCHANGED, Field, Insert, parse, read_tuple
from connector.source.decode.records import join_record
from connector.source.decode.transcoder import PADDING, Transcoder, compile_transcoder

_MOST = Decimal("999999999999.99")

BOTH = (None, native)


def transcoders(names: list[str], shape: Shape, link: str | None = None) -> list[Transcoder]:
    """In Python, and compiled."""
    return [compile_transcoder(names, shape, link, one) for one in BOTH]


two = st.integers(0, 59).map(lambda n: f"{n:02}")
dates = st.dates().map(str) | st.integers(1, 9999).map(lambda y: f"{y:04}-02-03 BC") | st.sampled_from(["infinity"])
clocks = st.times().map(lambda t: t.isoformat())
timestamps = st.datetimes().map(lambda t: t.isoformat(" ")) | st.just("infinity") | st.just("0044-03-15 10:00:00.5 BC")


def integers(bits: int) -> st.SearchStrategy[str]:
    """Integers of a size, as text."""
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).map(str)


def quoted(text: str) -> str:
    """A text as arrays and hstore write one that needs it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def arrays(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """One-dimensional arrays, with NULLs, and some that are more than a list."""
    plain = st.lists(st.none() | items, max_size=4)
    written = plain.map(lambda some: "{" + ",".join("NULL" if item is None else quoted(item) for item in some) + "}")
    return written | st.sampled_from(["[0:0]={NULL}", "{{NULL},{NULL}}", "[-1:0][1:1]={{NULL},{NULL}}"])


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9) | st.sampled_from(
    ["NULL", "{}", '"']
)
hstores = st.dictionaries(texts, st.none() | texts, max_size=3).map(
    lambda pairs: ", ".join(f"{quoted(k)}=>{'NULL' if v is None else quoted(v)}" for k, v in pairs.items())
)
money = st.integers(-(2**63), 2**63 - 1).map(lambda n: f"{'-' * (n < 0)}${abs(n) // 100:,}.{abs(n) % 100:02}")
bits = st.text("01", max_size=70)
zoned_times = st.builds(
    "{}{}{}".format,
    clocks | st.just("24:00:00"),
    st.sampled_from("+-"),
    st.sampled_from(["00", "07", "15:59", "03:30", "07:06:40"]),
)
_MONTHS = 178_000_000 * 12
_signed = st.integers(-(10**9), 10**9)
intervals = st.builds(
    lambda months, days, us: " ".join(
        [
            *([f"{months} mons"] if months else []),
            *([f"{days:+} days"] if days else []),
            f"{'-' * (us < 0)}{abs(us) // 3_600_000_000:02}:{abs(us) // 60_000_000 % 60:02}"
            f":{abs(us) // 1_000_000 % 60:02}" + (f".{abs(us) % 1_000_000:06}".rstrip("0") if us % 1_000_000 else ""),
        ]
    ),
    st.integers(-_MONTHS, _MONTHS) | st.integers(-40, 40),
    st.integers(-(10**6), 10**6),
    st.integers(-(2**62), 2**62) | st.integers(-(10**7), 10**7),
) | st.sampled_from(
    ["infinity", "-infinity", "1 year 2 mons", "1 mon -1 days", "-1 years -2 mons +3 days -04:05:06.789"]
)


TEXTS: dict[tuple[int, int], st.SearchStrategy[str]] = {
    (16, -1): st.sampled_from(["t", "f"]),
    (17, -1): st.binary(max_size=20).map(lambda b: "\\x" + b.hex()),
    (20, -1): integers(64),
    (21, -1): integers(16),
    (23, -1): integers(32),
    (25, -1): st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    (1043, 24): st.sampled_from(["", "đang xử lý", "x" * 63, "x" * 64, "x" * 3000]),
    (701, -1): st.floats(allow_nan=False).map(repr) | st.sampled_from(["NaN", "-Infinity", "1e+100"]),
    (700, -1): st.floats(width=32, allow_nan=False, allow_infinity=False).map(single).map(repr),
    (1700, -1): st.decimals(allow_nan=False, allow_infinity=False, places=4).map(lambda d: f"{d:f}")
    | integers(90)
    | st.sampled_from(["NaN", "-Infinity", "0.00000000000000000001", "-0.10"]),
    (1700, (14 << 16 | 2) + 4): st.decimals(-_MOST, _MOST, places=2).map(lambda d: f"{d:f}")
    | st.sampled_from(["-0.10", "-1.28", "NaN", "Infinity"]),
    (1082, -1): dates,
    (1083, -1): clocks | st.just("24:00:00"),
    (1083, 2): clocks,
    (1114, -1): timestamps,
    (1114, 3): timestamps.filter(lambda t: t != "infinity"),
    (1184, -1): st.datetimes().map(lambda t: t.isoformat(" ") + "+00"),
    (1184, 3): st.datetimes()
    .map(lambda t: f"{t.replace(microsecond=t.microsecond // 1000 * 1000).isoformat(' ')}+00")
    .map(lambda t: t.replace("000+00", "+00")),
    (1184, 0): st.datetimes().map(lambda t: t.replace(microsecond=0).isoformat(" ") + "+00")
    | st.sampled_from(
        ["-infinity", "0001-03-15 10:00:00+00 BC", "0044-03-15 10:00:00+00 BC", "12345-03-15 10:00:00+00"]
    ),
    (2950, -1): st.uuids().map(str),
    (3802, -1): st.just('{"a": [1, "đ"]}'),
    (MONEY, 2): money,
    (MONEY, 0): st.integers(-(2**63), 2**63 - 1).map(lambda n: f"{n:,} ₫".replace(",", ".")),
    (1266, -1): zoned_times,
    (1186, -1): intervals,
    (1560, 1): st.sampled_from("01"),
    (1560, 12): st.text("01", min_size=12, max_size=12),
    (1562, 1): st.sampled_from(["0", "1", ""]),
    (1562, -1): bits,
    (600, -1): st.builds("({},{})".format, st.floats().map(repr), st.floats().map(repr)),
    (ENUM, -1): texts,
    (OTHER, -1): texts,
    (HSTORE, -1): hstores,
    (OTHER_ARRAY, -1): arrays(texts),
    (ENUM_ARRAY, -1): arrays(texts),
    (HSTORE_ARRAY, -1): arrays(hstores),
    (1000, -1): arrays(st.sampled_from("tf")),
    (1001, -1): arrays(st.binary(max_size=9).map(lambda b: "\\x" + b.hex())),
    (1005, -1): arrays(integers(16)),
    (1016, -1): arrays(integers(64)),
    (1009, -1): arrays(texts),
    (1017, -1): arrays(st.just("(1.5,-0)")),
    (1021, -1): arrays(st.sampled_from(["1.5", "NaN", "-Infinity"])),
    (1115, -1): arrays(timestamps),
    (1182, -1): arrays(dates),
    (1183, 2): arrays(clocks),
    (1185, -1): arrays(st.datetimes().map(lambda t: t.isoformat(" ") + "+00")),
    (1187, -1): arrays(intervals),
    (1231, -1): arrays(st.sampled_from(["1.50", "-0.10", "NaN"])),
    (1231, (14 << 16 | 2) + 4): arrays(st.sampled_from(["1.50", "-0.10", "NaN"])),
    (1270, -1): arrays(zoned_times),
    (1561, 12): arrays(st.text("01", min_size=12, max_size=12)),
    (1563, -1): arrays(bits),
    (MONEY_ARRAY, 2): arrays(money),
    (2951, -1): arrays(st.uuids().map(str)),
}
OPTIONS = st.builds(
    TypeOptions,
    decimal=st.sampled_from(["precise", "string", "double"]),
    interval=st.sampled_from(["numeric", "string"]),
    binary=st.sampled_from(["bytes", "base64", "hex"]),
    hstore=st.sampled_from(["json", "map"]),
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[str], Shape, list[str | None]]:
    """Column names of a relation, the kept shape, and a row's texts for all columns."""
    kinds = draw(st.lists(st.sampled_from(sorted(TEXTS)), min_size=1, max_size=6))
    names = [f"c{i}" for i in range(len(kinds))]
    key_kind = draw(st.sampled_from([(20, -1), (25, -1), (2950, -1)]))
    kinds.insert(0, key_kind)
    names.insert(0, "khóa")
    row: list[str | None] = [draw(TEXTS[key_kind])]
    row += [draw(st.none() | TEXTS[kind]) for kind in kinds[1:]]
    keep = [True] + [draw(st.booleans()) for _ in kinds[1:]]
    columns = tuple(
        Column(name, oid, typmod, index == 0)
        for index, (name, (oid, typmod), kept) in enumerate(zip(names, kinds, keep, strict=True))
        if kept
    )
    return names, Shape("s", "t", columns, draw(OPTIONS)), row


def tuple_data(texts: list[str | None]) -> bytes:
    """TupleData as PostgreSQL sends it."""
    out = struct.pack(">h", len(texts))
    for text in texts:
        out += b"n" if text is None else b"t" + struct.pack(">I", len(text.encode())) + text.encode()
    return out


CONTEXT = Context("n", "d", 1, 2, 3, 4, 5)


@settings(max_examples=500)
@given(cases())
def test_generated_equals_reference(case: tuple[list[str], Shape, list[str | None]]) -> None:
    """Rows of random columns, with columns that are not kept, and NULLs."""
    assert_equals_reference(*case)


@pytest.mark.parametrize("text", ["3.4028235e+38", "-3.4028235e+38", "3.4e+38", "1e-45", "0.1", "16777216"])
def test_single_precision_is_the_shortest_text(text: str) -> None:
    """Up to the largest number of single precision, whose roundings to fewer digits are none any more."""
    exact = struct.unpack("<f", struct.pack("<f", float(text)))[0]
    assert single(exact) == float(text)


@pytest.mark.parametrize("kind", TEXTS)
@settings(max_examples=40)
@given(st.data())
def test_every_type_equals_reference(kind: tuple[int, int], data: st.DataObject) -> None:
    """Each type by itself, whatever the options."""
    columns = (Column("id", 20, -1, True), Column("x", *kind, False))
    row = ["7", data.draw(st.none() | TEXTS[kind])]
    assert_equals_reference(["id", "x"], Shape("s", "t", columns, data.draw(OPTIONS)), row)


def assert_equals_reference(names: list[str], shape: Shape, texts: list[str | None]) -> None:
    """Both entries give the bytes that fastavro gives for the parsed values, and the decoder reads them back."""
    by_name = dict(zip(names, texts, strict=True))
    values = {
        column.name: None if (text := by_name[column.name]) is None else shape.type_of(column).parse(text)
        for column in shape.columns
    }
    schema = table_schema("n", "d", shape)
    encoder = Encoder(1, schema)
    whole = encoder.row(CONTEXT, Op.CREATE, None, values, Position(1, 2, 1), 9, 1, True)
    row_schema = fastavro.parse_schema(json.loads(schema)["fields"][0]["type"][1] | {"namespace": "x"})
    expected = BytesIO()
    fastavro.schemaless_writer(expected, row_schema, encoder._values(values))

    data = b"I" + tuple_data(texts)
    fields = [None if by_name[c.name] is None else by_name[c.name].encode() for c in shape.columns]  # type: ignore[union-attr]
    for transcoder in transcoders(names, shape):
        made = transcoder.tuple_row(data + PADDING, 1)
        assert made is not None
        row, key, link, end = made
        assert row == expected.getvalue()
        assert (link, end) == (None, len(data))
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
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ProtocolViolation):
        parse(whole[:cut])
    if cut >= 6:
        for transcoder in transcoders(names, shape):
            with pytest.raises(ProtocolViolation):
                transcoder.tuple_row(whole[:cut] + PADDING, 6)


def outcome(transcoder: Transcoder, data: bytes) -> object:
    """What comes of a tuple, the documented error included; any other error is the test's."""
    try:
        return transcoder.tuple_row(data + PADDING, 0)
    except ProtocolViolation:
        return ProtocolViolation


@settings(max_examples=500)
@given(cases(), st.data())
def test_both_make_the_same_of_damaged_rows(
    case: tuple[list[str], Shape, list[str | None]], data: st.DataObject
) -> None:
    """Bytes changed, left out or put in at any place: the same row, or the documented error from both."""
    names, shape, texts = case
    whole = bytearray(tuple_data(texts))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.binary(max_size=2) | st.sampled_from([b"n", b"u", b"t", b"-", b".", b" ", b"9", b"\xff\xff\xff\xff"])
        )
        if not whole:
            break
    link = data.draw(st.none() | st.sampled_from([column.name for column in shape.columns]))
    plain, compiled = transcoders(names, shape, link)
    made = [outcome(plain, bytes(whole)), outcome(compiled, bytes(whole))]
    # An unchanged value ends the one before its key is escaped, the other not; the slow path then reads all of it.
    assert made[0] == made[1] or made == [None, ProtocolViolation]


@pytest.mark.parametrize(
    ("oid", "typmod", "text"),
    [
        (20, -1, "9223372036854775807"),
        (20, -1, "-9223372036854775808"),
        (20, -1, "999999999999999999"),
        (20, -1, "-1"),
        (20, -1, "00012"),
        (20, -1, "1_000"),
        (20, -1, " 12"),
        (1700, (30 << 16 | 2) + 4, "1234567890123456789012345678.99"),
        (1700, (18 << 16 | 18) + 4, "0.999999999999999999"),
        (1700, (5 << 16 | 0) + 4, "-128"),
        (1700, (5 << 16 | 0) + 4, "127"),
        (1700, (5 << 16 | 0) + 4, "128"),
        (1700, (14 << 16 | 2) + 4, "1.234"),
        (1700, (14 << 16 | 2) + 4, ".50"),
        (1700, (14 << 16 | 2) + 4, "-Infinity"),
        (1082, -1, "2024-02-29"),
        (1082, -1, "2023-02-29"),
        (1082, -1, "1900-02-29"),
        (1082, -1, "0001-01-01"),
        (1082, -1, "0000-01-01"),
        (1082, -1, "2024-13-01"),
        (1082, -1, "10000-01-01"),
        (1114, -1, "1969-12-31 23:59:59.999999"),
        (1114, 3, "1969-12-31 23:59:59.9"),
        (1114, 3, "1970-01-01 00:00:00.001"),
        (1114, -1, "1970-01-01 00:00:00"),
        (1114, -1, "2024-06-30 23:59:60"),
        (1114, -1, "2024-06-30 24:00:00"),
        (1114, -1, "2024-06-30T23:59:59"),
        (1114, -1, "2024-06-30 23:59:59."),
        (1114, -1, "infinity"),
        (16, -1, "true"),
        (16, -1, ""),
        (25, -1, ""),
        (25, -1, "đ" * 5000),
    ],
)
def test_both_agree_at_the_edges(oid: int, typmod: int, text: str) -> None:
    """Where a text stops being a plain one, and what only looks like a value."""
    shape = Shape("s", "t", (Column("id", 20, -1, True), Column("x", oid, typmod, False)))
    plain, compiled = transcoders(["id", "x"], shape)
    data = tuple_data(["7", text])
    assert outcome(plain, data) == outcome(compiled, data)


@given(
    st.lists(st.binary(max_size=40), min_size=6, max_size=6),
    st.integers(0, 2**63 - 1),
    st.integers(1, 2**40),
    st.integers(1, 2**40),
)
def test_records_are_joined_alike(parts: list[bytes], lsn: int, ordinal: int, order: int) -> None:
    """The compiled join equals the one in Python."""
    head, row, second, context, op, identity = parts
    data = b"w" + lsn.to_bytes(8, "big") + b"more"
    joined = join_record(head, row, second, context, data, ordinal, op, identity, order)
    assert native.record(head, row, second, context, data, ordinal, op, identity, order) == joined


@given(st.binary(max_size=80))
def test_keys_are_hashed_alike(key: bytes) -> None:
    """The compiled hash equals the one in Python, which kafka-python's confirms (tests/log)."""
    assert native.murmur2(key) == murmur2(key)


def test_an_unchanged_value_is_left_to_the_slow_path() -> None:
    """A kept column that is unchanged TOAST makes no row; one that is not kept does not matter."""
    data = struct.pack(">h", 3) + b"t\0\0\0\x015" + b"u" + b"n" + PADDING
    fields: tuple[Field, ...] = (b"5", UNCHANGED, None)
    assert read_tuple(data, 0) == (fields, len(data) - len(PADDING))
    columns = (Column("id", 20, -1, True), Column("b", 25, -1, False), Column("c", 25, -1, False))
    without = Shape("s", "t", (columns[0], columns[2]))
    for transcoder in transcoders(["id", "b", "c"], Shape("s", "t", columns)):
        assert transcoder.tuple_row(data, 0) is None
    for transcoder in transcoders(["id", "b", "c"], without):
        assert transcoder.tuple_row(data, 0) is not None


def test_the_link_column_is_returned() -> None:
    """A child's row tells which dossier it belongs to."""
    shape = Shape("s", "t", (Column("id", 20, -1, True), Column("ho_so_id", 20, -1, False)))
    for transcoder in transcoders(["id", "x", "ho_so_id"], shape, "ho_so_id"):
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
