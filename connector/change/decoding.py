"""Bytes of the log → Change.

Contract: a value in the Confluent wire format (magic 0, schema id, Avro) becomes a `Change`, and so does one in JSON
(`json_encoding`), which begins with `{`; anything else raises `LogError` naming what is wrong with it, never another
exception. One log may hold both, in any order. Schemas are asked for once per id.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from io import BytesIO
from typing import Any, NamedTuple

import fastavro

from connector.change.encoding import SPECIAL_DECIMALS
from connector.change.envelope import MESSAGE_KEY, TRUNCATE_KEY
from connector.change.json_decoding import FIRST_BYTE, JsonReader, parse_envelope
from connector.change.pgtext import single
from connector.change.position import Position
from connector.change.record import Change, Op, Row, Value
from connector.errors import LogError

MAGIC = 0
HEADER = 5
"""Magic byte and four bytes of schema id."""


class _Reader(NamedTuple):
    schema: Any
    table: str
    renamed: tuple[tuple[str, str], ...]
    values: tuple[tuple[str, Callable[[Value], Value]], ...]


class ChangeDecoder:
    """Decodes records; `schema_of` resolves a schema id to Avro JSON (`LogReader.schema`)."""

    def __init__(self, schema_of: Callable[[int], str]) -> None:
        self._schema_of = schema_of
        self._readers: dict[int, _Reader] = {}
        self._json_readers: dict[int, JsonReader] = {}

    def decode(self, key: bytes, value: bytes) -> Change:
        """One record. Raises LogError when key or value are not what this log holds."""
        if value and value[0] == FIRST_BYTE:
            return self._decode_json(value)
        if len(value) < HEADER or value[0] != MAGIC:
            raise _foreign("the value begins neither with the Confluent magic byte nor as JSON")
        schema_id = int.from_bytes(value[1:HEADER], "big")
        reader = self._readers.get(schema_id) or self._load(schema_id)
        try:
            parts = json.loads(key)
            name, *rest = parts
            envelope: dict[str, Any] = fastavro.schemaless_reader(BytesIO(value[HEADER:]), reader.schema, None)  # type: ignore[assignment]
            source = envelope["source"]
            transaction = envelope["transaction"]
            op = Op(envelope["op"])
            message = envelope.get("message")
            return Change(
                op=op,
                table=reader.table,
                key=() if name in (TRUNCATE_KEY, MESSAGE_KEY) else tuple(rest),
                before=_row(reader, envelope.get("before")),
                after=_row(reader, envelope.get("after")),
                position=Position(source["epoch"], source["commit_lsn"], source["ordinal"], source["sub"]),
                lsn=source["lsn"],
                transaction=None if transaction is None else transaction["id"],
                last=transaction is not None and transaction["last"],
                commit_time_us=source["ts_us"],
                marker=None if message is None else message["prefix"],
                content=b"" if message is None else message["content"],
                truncated=tuple(source.get("truncated") or ()),
            )
        except LogError:
            raise
        # fastavro raises whatever its parsing stumbles on; a foreign record may hold anything.
        except Exception as error:
            raise _foreign(f"the record does not match schema {schema_id} ({type(error).__name__})") from error

    def _decode_json(self, value: bytes) -> Change:
        try:
            envelope, schema_id = parse_envelope(value)
            reader = self._json_readers.get(schema_id)
            if reader is None:
                reader = self._json_readers[schema_id] = JsonReader(self._schema_of(schema_id))
            return reader.change(envelope)
        except LogError:
            raise
        # As above; a foreign record may nest as deep as it likes, too.
        except Exception as error:
            raise _foreign(f"the JSON record is not as its schema says ({type(error).__name__})") from error

    def _load(self, schema_id: int) -> _Reader:
        text = self._schema_of(schema_id)
        try:
            parsed = json.loads(text)
            schema = fastavro.parse_schema(json.loads(text))
        except Exception as error:
            raise _foreign(f"schema {schema_id} is not an Avro schema ({type(error).__name__})") from error
        renamed: list[tuple[str, str]] = []
        values: list[tuple[str, Callable[[Value], Value]]] = []
        for field in parsed.get("fields", ()):
            if field["name"] == "before":
                for column in field["type"][1]["fields"]:
                    if "column" in column:
                        renamed.append((column["name"], column["column"]))
                    if "VariableScaleDecimal" in json.dumps(column["type"]):
                        values.append((column["name"], _of_variable_scale))
                    elif '"float"' in json.dumps(column["type"]):
                        values.append((column["name"], _of_single))
                    elif "numeral" in column:
                        of_array = '"array"' in json.dumps(column["type"])
                        values.append((column["name"], _of_decimal_texts if of_array else _of_decimal_text))
        reader = _Reader(schema, parsed.get("table", ""), tuple(renamed), tuple(values))
        self._readers[schema_id] = reader
        return reader


def _row(reader: _Reader, row: Row | None) -> Row | None:
    if row is None:
        return None
    for name, value_of in reader.values:
        row[name] = value_of(row[name])
    if reader.renamed:
        names = dict(reader.renamed)
        return {names.get(name, name): value for name, value in row.items()}
    return row


def _of_variable_scale(value: Value) -> Value:
    if isinstance(value, list):
        return [_of_variable_scale(item) for item in value]
    if not isinstance(value, dict):
        return value
    digits = Decimal(int.from_bytes(value["value"], "big", signed=True)).as_tuple()
    return Decimal((digits.sign, digits.digits, -value["scale"]))


def _of_single(value: Value) -> Value:
    if isinstance(value, list):
        return [_of_single(item) for item in value]
    return single(value) if isinstance(value, float) else value


def _of_decimal_texts(value: Value) -> Value:
    """Of an array; one that is itself text is more than a list."""
    return [_of_decimal_text(item) for item in value] if isinstance(value, list) else value


def _of_decimal_text(value: Value) -> Value:
    if not isinstance(value, str):
        return value
    return _NO_NUMBERS.get(value) or Decimal(value)


_NO_NUMBERS = {name: text for text, name in SPECIAL_DECIMALS.items()}


def _foreign(cause: str) -> LogError:
    return LogError(
        "read the change log",
        "a record",
        cause,
        "this log was not written by emc-cdc, or is damaged: check `log` and `name` in the configuration",
    )
