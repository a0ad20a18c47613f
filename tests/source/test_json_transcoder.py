"""Records in JSON: the generated rows and the joined records equal the readable reference, json_form over the Avro
record, and come back with all types.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_transcoder import OPTIONS, TEXTS, cases, tuple_data

from connector.change.decoding import ChangeDecoder
from connector.change.encoding import Context, Encoder
from connector.change.envelope import row_key, table_schema
from connector.change.json_encoding import TABLE_IDENTIFIER, JsonEncoding
from connector.change.position import Position
from connector.change.record import Op
from connector.change.shape import Column, Shape
from connector.errors import ProtocolViolation
from connector.source.decode.rowform import JSON_ROWS
from connector.source.decode.transcoder import PADDING, Transcoder, compile_transcoder
from connector.source.json_records import JSON
from connector.source.recordform import AVRO, RecordForm

NAME, DATABASE, SCHEMA_ID = "mot-cua", "tthc 100%", 7
CONTEXT = Context(NAME, DATABASE, 2, 0x16B374D848, 1_732_000_000_123_456, 771, 1_732_000_000_200)


def transcoder(names: list[str], shape: Shape, link: str | None = None) -> Transcoder:
    """Of the rows in JSON."""
    return compile_transcoder(names, shape, link, form=JSON_ROWS)


@settings(max_examples=200)
@given(cases())
def test_generated_equals_json_form(case: tuple[list[str], Shape, list[str | None]]) -> None:
    """Rows of random columns, with columns that are not kept, and NULLs."""
    assert_equals_json_form(*case)


@pytest.mark.parametrize("kind", TEXTS)
@settings(max_examples=15)
@given(st.data())
def test_every_type_equals_json_form(kind: tuple[int, int], data: st.DataObject) -> None:
    """Each type by itself and as the key, whatever the options."""
    options = data.draw(OPTIONS)
    columns = (Column("id", 20, -1, True), Column("x", *kind, False))
    assert_equals_json_form(["id", "x"], Shape("s", "t", columns, options), ["7", data.draw(st.none() | TEXTS[kind])])
    columns = (Column("x", *kind, True), Column("y", 20, -1, False))
    assert_equals_json_form(["x", "y"], Shape("s", "t", columns, options), [data.draw(TEXTS[kind]), None])


def assert_equals_json_form(names: list[str], shape: Shape, texts: list[str | None]) -> None:
    """Both entries give the JSON of the Avro record, and the decoder reads the parsed values back from it."""
    by_name = dict(zip(names, texts, strict=True))
    values = {
        column.name: None if (text := by_name[column.name]) is None else shape.type_of(column).parse(text)
        for column in shape.columns
    }
    key = row_key("s.t", tuple(by_name[column.name] or "" for column in shape.key))
    schema = table_schema(NAME, DATABASE, shape)
    avro = Encoder(SCHEMA_ID, schema).row(CONTEXT, Op.CREATE, None, values, Position(2, 3, 1), 9, 1, True)
    entry_key, whole = JsonEncoding(SCHEMA_ID, schema, NAME).entry(key, avro)

    data = b"I" + tuple_data(texts)
    made = transcoder(names, shape).tuple_row(data + PADDING, 1)
    assert made is not None
    row, row_key_inside, link, end = made
    assert b'{"before":null,"after":' + row + b',"source":{' == whole[: whole.index(b',"source":{') + 11]
    assert (link, end) == (None, len(data))
    fields = [None if by_name[c.name] is None else by_name[c.name].encode() for c in shape.columns]  # type: ignore[union-attr]
    assert transcoder(names, shape).fields_row(fields) == (row, row_key_inside, None)
    made_key = JSON.of_table(SCHEMA_ID, NAME, DATABASE, shape).entry_key
    assert made_key is not None
    assert made_key(b'["s.t",' + row_key_inside + b"]") == entry_key
    change = ChangeDecoder({SCHEMA_ID: schema}.__getitem__).decode(entry_key, whole)
    assert repr(change.after) == repr(values)
    assert change == ChangeDecoder({SCHEMA_ID: schema}.__getitem__).decode(key, avro) or "nan" in repr(values)


@given(cases(), st.sampled_from("cuda2r"), st.integers(1, 2**40), st.integers(1, 2**40), st.booleans())
def test_records_are_joined_as_the_reference_writes_them(
    case: tuple[list[str], Shape, list[str | None]], op: str, ordinal: int, order: int, last: bool
) -> None:
    """Each operation (a: the second half of an update that is told as two; 2: an update with the row before)."""
    names, shape, texts = case
    data = b"w" + (99).to_bytes(8, "big") + tuple_data(texts)
    entries: list[tuple[bytes, bytes]] = []
    schema = table_schema(NAME, DATABASE, shape)
    for form in (AVRO, JSON):
        rows = compile_transcoder(names, shape, None, form=form.rows)
        made = rows.tuple_row(data + PADDING, 9)
        assert made is not None
        key = b'["s.t",' + made[1] + b"]"
        value = _record(form, shape, made[0], key, data, op, ordinal, order)
        if last and op != "r":
            value = value[: form.unmarked] + form.last
        entries.append((key, value))
    avro, made_json = entries
    assert JsonEncoding(SCHEMA_ID, schema, NAME).entry(*avro)[1] == made_json[1]


def _record(
    form: RecordForm, shape: Shape, row: bytes, key: bytes, data: bytes, op: str, ordinal: int, order: int
) -> bytes:
    """What the assembler makes of a row."""
    table = form.of_table(SCHEMA_ID, NAME, DATABASE, shape)
    if op == "r":
        return form.read(table, Position(2, 3, ordinal), CONTEXT.commit_time_us, CONTEXT.now_ms)(row, key)
    assert CONTEXT.xid is not None
    head, second, template = {
        "c": (table.created, b"", form.create),
        "u": (table.created, b"", form.update),
        "d": (table.changed, form.no_second, form.delete),
        "a": (table.created, b"", form.arrival),
        "2": (table.changed, form.second + row, form.update),
    }[op]
    context = table.source + form.context(CONTEXT.commit_time_us, CONTEXT.xid, 2, CONTEXT.commit_lsn)
    identity = form.identity(CONTEXT.now_ms, CONTEXT.xid, CONTEXT.commit_lsn)
    operation = template if table.entry_key is None else template % key
    return form.join(head, row, second, context, data, ordinal, operation, identity, order)


@settings(max_examples=150)
@given(cases(), st.data())
def test_damaged_rows_raise_only_the_documented_error(
    case: tuple[list[str], Shape, list[str | None]], data: st.DataObject
) -> None:
    """Cut, changed, put in at any place: a row, or ProtocolViolation."""
    names, shape, texts = case
    whole = bytearray(tuple_data(texts))
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        with pytest.raises(ProtocolViolation):
            transcoder(names, shape).tuple_row(bytes(whole[:at]) + PADDING, 0)
    whole[at : at + data.draw(st.integers(0, 2))] = data.draw(
        st.binary(max_size=2) | st.sampled_from([b"n", b"u", b"t", b"-", b".", b" ", b"9", b'"', b"\xff\xff\xff\xff"])
    )
    try:
        made = transcoder(names, shape).tuple_row(bytes(whole) + PADDING, 0)
    except ProtocolViolation:
        return
    assert made is None or isinstance(made[0], bytes)


@pytest.mark.parametrize("text", ['"', "\\", "\n", "\x01", "a\x1fb", "đ" * 300, "\x7f", "  ", "100%d"])
def test_text_is_escaped_as_json_wants_it(text: str) -> None:
    """Every escape, and what only looks like one."""
    columns = (Column("id", 25, -1, True), Column('t%d"', 25, -1, False))
    made = transcoder(["id", 't%d"'], Shape("s", "t", columns)).tuple_row(tuple_data([text, text]) + PADDING, 0)
    entry_key = JSON.of_table(7, "n%s", "d", Shape("s", "t", (Column('t%d"', 25, -1, True),))).entry_key
    assert entry_key is not None
    assert json.loads(entry_key(row_key("s.t", (text,)))) == {'t%d"': text, TABLE_IDENTIFIER: "n%s.s.t"}
    assert made is not None
    assert json.loads(made[0]) == {"id": text, 't%d"': text}
    assert made[0].decode() == _compact({"id": text, 't%d"': text})


_compact: Callable[[object], str] = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
