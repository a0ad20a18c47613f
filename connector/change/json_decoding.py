"""A JSON record of this log → the parts of a `Change`, with all types.

Contract: pure. JSON without schemas has not the types, so `source.schema_id` names the Avro schema of the same
record, and each column is read by it, the reverse of `json_form`. `JsonReader.change` raises whatever it stumbles on
(ValueError, KeyError, TypeError, …) unless every part is of the type that the schema says: the caller makes a LogError
of it, and names no value. A field that is not ours in `source` or the envelope is passed over; a column too many or too
few is not.
"""

from __future__ import annotations

import json
import math
from base64 import b64decode
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from connector.change.encoding import SPECIAL_DECIMALS
from connector.change.envelope import MESSAGE_KEY, TRUNCATE_KEY
from connector.change.position import Position
from connector.change.quoted import is_base64, unquoted
from connector.change.record import Change, Op, Row, Value

FIRST_BYTE = ord("{")

Read = Callable[[Any], Value]

_NO_AFTER = frozenset((Op.DELETE, Op.TRUNCATE, Op.MESSAGE))


def parse_envelope(value: bytes) -> tuple[dict[str, Any], int]:
    """The JSON of a record, and the id of its schema."""
    envelope = json.loads(value.decode())
    # An escaped half of a surrogate pair is no text; json takes it. It is never written here.
    if b"\\u" in value:
        json.dumps(envelope, ensure_ascii=False).encode()
    return envelope, integer(32)(envelope["source"]["schema_id"])


class JsonReader:
    """Reads records of one schema; `schema` is the text of `table_schema` or `message_schema`."""

    def __init__(self, schema: str) -> None:
        parsed = json.loads(schema)
        self._table: str = parsed.get("table", "")
        self._columns: list[tuple[str, Read]] = []
        self._key_length = 1 + len(parsed.get("key", ()))
        for field in parsed["fields"]:
            if field["name"] == "before":
                named: dict[str, Read] = {}
                for column in field["type"][1]["fields"]:
                    read = _reader(column["type"], named, "numeral" in column)
                    self._columns.append((column.get("column", column["name"]), read))

    def change(self, envelope: dict[str, Any]) -> Change:
        """One record."""
        source, transaction, message = envelope["source"], envelope["transaction"], envelope.get("message")
        op = Op(envelope["op"])
        after = self._row(envelope.get("after"))
        if (after is None) != (op in _NO_AFTER) or (message is None) == (op is Op.MESSAGE):
            raise ValueError("not what the operation has")
        kind, *rest = map(string, source["key"])
        if op is Op.TRUNCATE or op is Op.MESSAGE:
            if kind != (TRUNCATE_KEY if op is Op.TRUNCATE else MESSAGE_KEY):
                raise ValueError("not the operation's key")
            rest = []
        elif kind != self._table or len(rest) + 1 != self._key_length:
            raise ValueError("not the table's key")
        return Change(
            op=op,
            table=self._table,
            key=tuple(rest),
            before=self._row(envelope.get("before")),
            after=after,
            position=Position(
                _int(source["epoch"]), _long(source["commit_lsn"]), _long(source["ordinal"]), _int(source["sub"])
            ),
            lsn=_long(source["lsn"]),
            transaction=None if transaction is None else string(transaction["id"]),
            last=transaction is not None and _boolean(transaction["last"]),
            commit_time_us=_long(source["ts_us"]),
            marker=None if message is None else string(message["prefix"]),
            content=b"" if message is None else _bytes(message["content"]),
        )

    def _row(self, row: Any) -> Row | None:
        if row is None:
            return None
        if len(row) != len(self._columns) or not self._columns:
            raise ValueError("not the table's columns")
        return {name: read(row[name]) for name, read in self._columns}


def integer(bits: int) -> Callable[[Any], int]:
    """A reader of signed whole numbers; true and 1.0 are none."""
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def read(value: Any) -> int:
        if value.__class__ is not int or not least <= value <= most:
            raise ValueError("not a whole number of the column's size")
        return int(value)

    return read


_int, _long = integer(32), integer(64)


def string(value: Any) -> str:
    if value.__class__ is not str:
        raise ValueError("not text")
    return str(value)


def _boolean(value: Any) -> bool:
    if value.__class__ is not bool:
        raise ValueError("not true or false")
    return bool(value)


def _bytes(value: Any) -> bytes:
    return b64decode(string(value), validate=True)


def _float(value: Any) -> float:
    if value.__class__ is str:
        return _NO_NUMBERS[value]
    if value.__class__ not in (float, int) or not math.isfinite(value):
        raise ValueError("not a number")
    return float(value)


_NO_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _decimal(scale: int) -> Read:
    def read(value: Any) -> Decimal:
        return _scaled(_bytes(value), scale)

    return read


def _scaled(unscaled: bytes, scale: int) -> Decimal:
    if not unscaled:
        raise ValueError("not a number")
    number = Decimal(int.from_bytes(unscaled, "big", signed=True)).as_tuple()
    return Decimal((number.sign, number.digits, -scale))


def _variable_decimal(value: Any) -> Decimal:
    if len(value) != 2:
        raise ValueError("not a decimal with its scale")
    return _scaled(_bytes(value["value"]), _int(value["scale"]))


_DECIMALS = {text: name for name, text in SPECIAL_DECIMALS.items()}


def _decimal_text(value: Any) -> Value:
    text = string(value)
    return _DECIMALS.get(text) or Decimal(text)


_SIMPLE: dict[str, Read] = {
    "boolean": _boolean,
    "int": _int,
    "long": _long,
    "float": _float,
    "double": _float,
    "bytes": _bytes,
    "string": string,
}


def _reader(schema: Any, named: dict[str, Read], numeral: bool) -> Read:
    """How the values of a schema are read. numeral: a decimal is written as its text."""
    if isinstance(schema, list):
        return _union(schema, named, numeral)
    if not isinstance(schema, dict):
        return _decimal_text if numeral and schema == "string" else _SIMPLE.get(schema) or named[schema]
    kind = schema["type"]
    if kind == "array":
        item = _reader(schema["items"], named, numeral)
        return lambda value: [item(each) for each in _of(list, value)]
    if kind == "map":
        entry = _reader(schema["values"], named, numeral)
        return lambda value: {key: entry(each) for key, each in _of(dict, value).items()}
    if kind == "record":
        read = _record(schema, named)
        named[f"{schema['namespace']}.{schema['name']}"] = read
        return read
    if schema.get("logicalType") == "decimal":
        return _decimal(schema["scale"])
    return _SIMPLE[kind]


def _of(kind: type, value: Any) -> Any:
    if value.__class__ is not kind:
        raise ValueError("not of the column's type")
    return value


def _record(schema: dict[str, Any], named: dict[str, Read]) -> Read:
    if schema["name"] == "VariableScaleDecimal":
        return _variable_decimal
    fields = [(field["name"], _reader(field["type"], named, False)) for field in schema["fields"]]

    def read(value: Any) -> Value:
        if len(value) != len(fields):
            raise ValueError("not the type's fields")
        return {name: each(value[name]) for name, each in fields}

    return read


def _union(branches: list[Any], named: dict[str, Read], numeral: bool) -> Read:
    nullable = branches[0] == "null"
    schema, *rest = branches[nullable:]
    # The first branch of an array whose elements are numerals is the array; what is text then is no numeral.
    first = _reader(schema, named, numeral)

    def read(value: Any) -> Value:
        if value is None and nullable:
            return None
        return first(value)

    if not rest:
        return read
    base64 = is_base64(schema)

    def read_either(value: Any) -> Value:
        if value.__class__ is not str or (base64 and value[:1] != "'"):
            return read(value)
        return unquoted(value) if base64 else string(value)

    return read_either
