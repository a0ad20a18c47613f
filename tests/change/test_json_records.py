"""Records in JSON: what is written is read back, and bad input raises LogError, whatever is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_round_trip import CONTEXT, SHAPE, decoder, rows

from connector.change.decoding import ChangeDecoder
from connector.change.encoding import Encoder
from connector.change.envelope import message_key, message_schema, row_key, table_schema, truncate_key
from connector.change.json_encoding import JsonEncoding
from connector.change.position import Position
from connector.change.record import Change, Op
from connector.change.shape import Column, Shape
from connector.errors import LogError, LogUnavailable

WIDE = Shape(
    "motcua",
    "mọi kiểu",
    (
        Column("id", 20, -1, True),
        Column("phi", 1700, (14 << 16 | 2) + 4, False),
        Column("he_so", 1700, -1, False),
        Column("bit", 1562, -1, False),
        Column("gia", 701, -1, False),
        Column("don", 700, -1, False),
        Column("co", 16, -1, False),
        Column("ngay", 1082, -1, False),
        Column("khoang", 1186, -1, False),
        Column("cho", 600, -1, False),
        Column("so", 1007, -1, False),
        Column("tien", 1231, (14 << 16 | 2) + 4, False),
        Column("du_lieu", 17, -1, False),
        Column("ten", 25, -1, False),
    ),
)
TEXTS = (
    "7", "1234.50", "0.10", "0010", "1.5", "0.1", "t", "2024-02-29", "1 mon", "(1,2)", "{1,NULL}", "{1.50,NaN}",
    "\\x00", 'Hồ "sơ"\n',
)  # fmt: skip
SCHEMA = table_schema("mot-cua", "tthc", WIDE)
ROW = {column.name: WIDE.type_of(column).parse(text) for column, text in zip(WIDE.columns, TEXTS, strict=True)}
POSITION = Position(2, 3, 4, 1)


def written(row: dict[str, Any] | None = None) -> bytes:
    """An update of the wide table."""
    value = Encoder(7, SCHEMA).row(CONTEXT, Op.UPDATE, ROW, ROW if row is None else row, POSITION, 99, 3, True)
    return JsonEncoding(7, SCHEMA, "mot-cua").entry(row_key(WIDE.full_name, ("7",)), value)[1]


def read(value: bytes) -> Change:
    """What a reader makes of it. Its key is of no matter: it stands in the value."""
    return decoder(SCHEMA).decode(b"\xff", value)


WHOLE = written()


@given(rows, st.booleans())
def test_json_is_read_as_avro_is(row: dict[str, object], last: bool) -> None:
    """The same change from either format, every field of it."""
    schema = table_schema("mot-cua", "tthc", SHAPE)
    key = row_key(SHAPE.full_name, (str(row["id"]),))
    avro = Encoder(7, schema).row(CONTEXT, Op.UPDATE, row, row, POSITION, 99, 3, last)
    entry = JsonEncoding(7, schema, "mot-cua").entry(key, avro)
    change = decoder(schema).decode(*entry)
    assert repr(change) == repr(decoder(schema).decode(key, avro))
    assert change.after == row
    assert entry[1].endswith(b'"last":%b}}' % (b"true" if last else b"false"))


def test_what_is_rare_is_read_as_avro_is() -> None:
    """TRUNCATE, and markers with their content; their keys are objects and never the same twice."""
    schema = message_schema("mot-cua")
    value = Encoder(7, schema).message(CONTEXT, "emc-cdc.epoch", b"\0{}", POSITION, 2, True)
    key, made = JsonEncoding(7, schema, "mot-cua").entry(message_key("emc-cdc.epoch", POSITION), value)
    assert decoder(schema).decode(key, made) == decoder(schema).decode(message_key("emc-cdc.epoch", POSITION), value)
    assert json.loads(key) == {"prefix": "emc-cdc.epoch", "position": str(POSITION)}
    value = Encoder(7, SCHEMA).row(CONTEXT, Op.TRUNCATE, None, None, POSITION, 9, 1, False)
    old_key = truncate_key(WIDE.full_name, POSITION)
    key, made = JsonEncoding(7, SCHEMA, "mot-cua").entry(old_key, value)
    assert decoder(SCHEMA).decode(key, made) == decoder(SCHEMA).decode(old_key, value)
    assert json.loads(key) == {
        "position": str(POSITION),
        "__dbz__physicalTableIdentifier": f"mot-cua.{WIDE.full_name}",
    }


@pytest.mark.parametrize(("column", "values"), [("phi", ("NaN", "Infinity", "-Infinity")), ("bit", ("0010", ""))])
def test_text_beside_base64_is_never_taken_for_it(column: str, values: tuple[str, ...]) -> None:
    """`Infinity` and `0010` are base64, too, of other values."""
    for value in values:
        record = written(ROW | {column: value})
        assert json.loads(record)["after"][column] == f"'{value}'"
        after = read(record).after
        assert after is not None
        assert after[column] == value
    document = json.loads(WHOLE)
    document["after"]["phi"] = "Infinity"
    after = read(json.dumps(document).encode()).after
    assert after is not None
    assert after["phi"] == Decimal("378982984692.34")


def test_a_record_cut_at_every_byte_is_refused() -> None:
    """The documented error, and no value of the row in it."""
    assert read(WHOLE).after == ROW
    for end in range(len(WHOLE)):
        with pytest.raises(LogError) as raised:
            read(WHOLE[:end])
        assert "sơ" not in str(raised.value)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["'", "''", "AA==", "NaN"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place of a document: the container and the key in it."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found: list[tuple[Any, Any]] = []
    for key, each in inside:
        found += [(value, key), *places(each)]
    return found


@settings(max_examples=300)
@given(st.data(), json_values)
def test_a_value_of_another_type_is_refused(data: st.DataObject, other: Any) -> None:
    """Anything in any place, or nothing there: LogError, or a change that the schema can hold."""
    document = json.loads(WHOLE)
    container, key = data.draw(st.sampled_from(places(document)))
    if data.draw(st.booleans()):
        container[key] = other
    elif isinstance(container, dict):
        del container[key]
    try:
        change = read(json.dumps(document).encode())
    except LogError:
        return
    assert change.key == ("7",) or document["source"]["key"] == [WIDE.full_name, *change.key]
    Encoder(7, SCHEMA).row(CONTEXT, change.op, change.before, change.after, change.position, change.lsn, 1, change.last)


@settings(max_examples=300)
@given(st.data())
def test_damaged_bytes_raise_only_the_documented_error(data: st.DataObject) -> None:
    """Bytes changed, left out or put in."""
    damaged = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(1, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b"{"])
        )
    try:
        read(bytes(damaged))
    except LogError:
        return


@given(st.binary(max_size=60))
def test_foreign_json_raises_only_the_documented_error(foreign: bytes) -> None:
    """Whatever begins with a brace."""
    with pytest.raises(LogError):
        read(b"{" + foreign)


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no row after": lambda d: d.update(after=None),
    "a row after a delete": lambda d: d.update(op="d"),
    "an operation there is not": lambda d: d.update(op="x"),
    "a column too many": lambda d: d["after"].update(khac=1),
    "a column too few": lambda d: d["after"].pop("phi"),
    "another column": lambda d: d["after"].update(khac=d["after"].pop("phi")),
    "true for a number": lambda d: d["after"].update(id=True),
    "a fraction for a number": lambda d: d["after"].update(id=7.0),
    "more than 64 bits": lambda d: d["after"].update(id=2**63),
    "more than 32 bits": lambda d: d["after"].update(ngay=2**31),
    "a number for text": lambda d: d["after"].update(ten=7),
    "NULL in the key": lambda d: d["after"].update(id=None),
    "no base64": lambda d: d["after"].update(du_lieu="AA="),
    "a decimal of no bytes": lambda d: d["after"].update(phi=""),
    "half a surrogate pair": lambda d: d["after"].update(ten="\ud800"),
    "not a number": lambda d: d["after"].update(gia=float("nan")),
    "a number that is text": lambda d: d["after"].update(gia="nan"),
    "no position": lambda d: d["source"].pop("ordinal"),
    "a position beyond 64 bits": lambda d: d["source"].update(commit_lsn=2**64),
    "the key of another table": lambda d: d["source"].update(key=["motcua.khác", "7"]),
    "a key of two columns": lambda d: d["source"].update(key=[WIDE.full_name, "7", "8"]),
    "a number in the key": lambda d: d["source"].update(key=[WIDE.full_name, 7]),
    "no schema": lambda d: d["source"].pop("schema_id"),
    "a schema that there is not": lambda d: d["source"].update(schema_id=8),
    "a schema id of no size": lambda d: d["source"].update(schema_id=10**30),
    "last is text": lambda d: d["transaction"].update(last="true"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_wrong_is_refused(change: str) -> None:
    """Each kind of damage by itself."""
    document = json.loads(WHOLE)
    CHANGES[change](document)
    with pytest.raises(LogError):
        read(json.dumps(document).encode())


def test_deep_nesting_is_refused() -> None:
    """Not a RecursionError."""
    with pytest.raises(LogError):
        read(b'{"a":' + b"[" * 200_000)


def test_a_log_that_is_away_while_a_schema_is_asked_for_may_be_tried_again() -> None:
    """LogUnavailable stays what it is."""

    def away(_: int) -> str:
        raise LogUnavailable("read the log", "the log", "it is away", "bring it back")

    with pytest.raises(LogUnavailable):
        ChangeDecoder(away).decode(b"[]", WHOLE)
