"""How a PostgreSQL type is represented: as Avro, and as the Python value behind it.

Contract: `column_type` never fails; a type without a rule of its own is text, as PostgreSQL prints it. The
representation is Debezium's default (adaptive time precision, precise decimals), or by `TypeOptions` one of its other
modes; docs/types.md tables it and says where and why it differs. Types of extensions and of the application have no
fixed oid: what they come down to is found in the catalog (`source.basetypes`), and told here by the oids below zero.
This and `change.pgtext` are the readable reference; the generated transcoder (`connector.source.decode.transcoder`) is
held equal to it by a property test.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Literal

from connector.change import pgtext
from connector.change.record import Value

OTHER = -1
"""Any type without a rule: composites, ranges of the application's, base types of extensions."""
OTHER_ARRAY = -2
ENUM = -3
ENUM_ARRAY = -4
HSTORE = -5
HSTORE_ARRAY = -6
MONEY = 790
MONEY_ARRAY = 791


class Kind(Enum):
    """The families of representation; each has one parser in `pgtext` and one generated form in the transcoder."""

    BOOLEAN = "boolean"
    INTEGER = "int"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    DECIMAL = "decimal"
    VARIABLE_DECIMAL = "variable decimal"
    DECIMAL_TEXT = "decimal as text"
    MONEY = "money"
    BYTES = "bytes"
    ENCODED_BYTES = "bytes as text"
    DATE = "date"
    TIME_MS = "time in milliseconds"
    TIME_US = "time in microseconds"
    TIMESTAMP_MS = "timestamp in milliseconds"
    TIMESTAMP_US = "timestamp in microseconds"
    ZONED_TIMESTAMP = "timestamp with time zone"
    INTERVAL = "interval in microseconds"
    BIT = "one bit"
    BITS = "bits"
    POINT = "point"
    MAP = "map"
    ARRAY = "array"
    MADE_TEXT = "text made of the value"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class TypeOptions:
    """Debezium's decimal.handling.mode, interval.handling.mode, binary.handling.mode and hstore.handling.mode."""

    decimal: Literal["precise", "string", "double"] = "precise"
    interval: Literal["numeric", "string"] = "numeric"
    binary: Literal["bytes", "base64", "hex"] = "bytes"
    hstore: Literal["json", "map"] = "json"


DEFAULTS = TypeOptions()


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A column's representation. `avro` is a branch of the column's union (without null); `scale` of decimals, digits
    of a timestamp with time zone; `element` of arrays.

    A value that the first branch cannot hold (NaN and the infinities of a decimal, an interval of more than 64 bits, an
    array of several dimensions, …) travels as text, in a branch of its own, so that nothing is lost.
    """

    kind: Kind
    avro: tuple[object, ...]
    parse: Callable[[str], Value]
    scale: int = 0
    element: ColumnType | None = None


@lru_cache(4096)
def column_type(type_oid: int, typmod: int, options: TypeOptions = DEFAULTS) -> ColumnType:
    """The representation of a type given its pg_type.oid and pg_attribute.atttypmod (PostgreSQL chapter 53).

    For money, which has no typmod, `typmod` is the number of decimals that the server's lc_monetary gives it.
    """
    if (element_oid := ELEMENTS.get(type_oid)) is not None:
        return _array(column_type(element_oid, typmod, options))
    match type_oid:
        case 1700:
            return _numeric(typmod, options)
        case 790:
            return _money(max(typmod, 0), options)
        case 1114:
            return _TIMESTAMP_MS if 0 <= typmod <= 3 else _TIMESTAMP_US
        case 1083:
            return _TIME_MS if 0 <= typmod <= 3 else _TIME_US
        case 1184:
            return _zoned(typmod if 0 <= typmod <= 6 else 6)
        case 1186:
            return _INTERVAL if options.interval == "numeric" else _INTERVAL_TEXT
        case 1560 | 1562:
            return _bits(type_oid == 1562, typmod)
        case 17:
            return _BYTES if options.binary == "bytes" else _ENCODED[options.binary]
        case -5:
            return _HSTORE_JSON if options.hstore == "json" else _HSTORE_MAP
        case _:
            return _FIXED.get(type_oid, _TEXT)


def _numeric(typmod: int, options: TypeOptions) -> ColumnType:
    if options.decimal != "precise":
        return _DECIMAL_TEXT if options.decimal == "string" else _DOUBLE
    if typmod < 4:
        return _VARIABLE
    precision, scale = (typmod - 4) >> 16 & 0xFFFF, ((typmod - 4 & 0x7FF) ^ 1024) - 1024
    if not 0 <= scale <= precision:  # PostgreSQL 15 allows negative scales and scales above the precision
        return _VARIABLE
    parameters = {"scale": str(scale), "connect.decimal.precision": str(precision)}
    return ColumnType(Kind.DECIMAL, (_decimal(scale, precision, parameters), "string"), pgtext.parse_decimal, scale)


def _money(scale: int, options: TypeOptions) -> ColumnType:
    parse = pgtext.money_parser(scale)
    if options.decimal == "string":
        return ColumnType(Kind.DECIMAL_TEXT, ("string",), parse)
    if options.decimal == "double":
        return ColumnType(Kind.MONEY, ("double",), lambda text: float(parse(text)))  # type: ignore[arg-type]
    # Avro wants a precision, Connect's decimal has none here: its converter's own default.
    return ColumnType(Kind.MONEY, (_decimal(scale, 64, {"scale": str(scale)}),), parse, scale)


def _decimal(scale: int, precision: int, parameters: dict[str, str]) -> object:
    return {
        "type": "bytes",
        "scale": scale,
        "precision": precision,
        "connect.version": 1,
        "connect.parameters": parameters,
        "connect.name": "org.apache.kafka.connect.data.Decimal",
        "logicalType": "decimal",
    }


def _zoned(digits: int) -> ColumnType:
    avro = _named("string", "io.debezium.time.ZonedTimestamp")
    return ColumnType(Kind.ZONED_TIMESTAMP, (avro,), pgtext.zoned_parser(digits), digits)


def _bits(varying: bool, length: int) -> ColumnType:
    if length == 1:
        return ColumnType(Kind.BIT, ("boolean", "string") if varying else ("boolean",), pgtext.parse_bit)
    avro = {
        "type": "bytes",
        "connect.version": 1,
        "connect.parameters": {"length": str(length if length > 0 else 2**31 - 1)},
        "connect.name": "io.debezium.data.Bits",
    }
    if varying:
        return ColumnType(Kind.BITS, (avro, "string"), pgtext.parse_varying_bits)
    return ColumnType(Kind.BITS, (avro,), pgtext.parse_bits)


def _array(element: ColumnType) -> ColumnType:
    avro = {"type": "array", "items": ["null", *element.avro]}
    return ColumnType(Kind.ARRAY, (avro, "string"), pgtext.array_parser(element.parse), element=element)


def _named(avro: str, name: str) -> object:
    return {"type": avro, "connect.version": 1, "connect.name": name}


def _encoded(encode: Callable[[bytes], str]) -> ColumnType:
    return ColumnType(Kind.ENCODED_BYTES, ("string",), lambda text: encode(pgtext.parse_bytea(text)))


VARIABLE_SCALE: dict[str, object] = {
    "type": "record",
    "name": "VariableScaleDecimal",
    "namespace": "io.debezium.data",
    "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}],
    "connect.version": 1,
    "connect.name": "io.debezium.data.VariableScaleDecimal",
}
POINT: dict[str, object] = {
    "type": "record",
    "name": "Point",
    "namespace": "io.debezium.data.geometry",
    "fields": [
        {"name": "x", "type": "double"},
        {"name": "y", "type": "double"},
        {"name": "wkb", "type": ["null", "bytes"], "default": None},
        {"name": "srid", "type": ["null", "int"], "default": None},
    ],
    "connect.version": 1,
    "connect.name": "io.debezium.data.geometry.Point",
}
_VARIABLE = ColumnType(Kind.VARIABLE_DECIMAL, (VARIABLE_SCALE, "string"), pgtext.parse_decimal)
_DECIMAL_TEXT = ColumnType(Kind.DECIMAL_TEXT, ("string",), pgtext.parse_decimal)
_DOUBLE = ColumnType(Kind.DOUBLE, ("double",), float)
_TEXT = ColumnType(Kind.TEXT, ("string",), str)
_LONG = ColumnType(Kind.LONG, ("long",), int)
_BYTES = ColumnType(Kind.BYTES, ("bytes",), pgtext.parse_bytea)
_ENCODED = {
    "base64": _encoded(lambda value: b64encode(value).decode()),
    "hex": _encoded(bytes.hex),
}
_TIMESTAMP_US = ColumnType(
    Kind.TIMESTAMP_US, (_named("long", "io.debezium.time.MicroTimestamp"),), pgtext.parse_timestamp_us
)
_TIMESTAMP_MS = ColumnType(
    Kind.TIMESTAMP_MS,
    (_named("long", "io.debezium.time.Timestamp"),),
    lambda text: pgtext.parse_timestamp_us(text) // 1000,
)
_TIME_US = ColumnType(Kind.TIME_US, (_named("long", "io.debezium.time.MicroTime"),), pgtext.parse_time_us)
_TIME_MS = ColumnType(
    Kind.TIME_MS, (_named("int", "io.debezium.time.Time"),), lambda text: pgtext.parse_time_us(text) // 1000
)
_INTERVAL = ColumnType(
    Kind.INTERVAL, (_named("long", "io.debezium.time.MicroDuration"), "string"), pgtext.parse_interval
)
_INTERVAL_TEXT = ColumnType(
    Kind.MADE_TEXT, (_named("string", "io.debezium.time.Interval"),), pgtext.parse_interval_text
)
_HSTORE_JSON = ColumnType(Kind.MADE_TEXT, (_named("string", "io.debezium.data.Json"),), pgtext.parse_hstore_json)
_HSTORE_MAP = ColumnType(Kind.MAP, ({"type": "map", "values": ["null", "string"]},), pgtext.parse_hstore)


def _text(name: str) -> ColumnType:
    return ColumnType(Kind.TEXT, (_named("string", name),), str)


_FIXED = {
    16: ColumnType(Kind.BOOLEAN, ("boolean",), pgtext.parse_bool),
    20: _LONG,
    21: ColumnType(Kind.INTEGER, ({"type": "int", "connect.type": "int16"},), int),
    23: ColumnType(Kind.INTEGER, ("int",), int),
    26: _LONG,
    114: _text("io.debezium.data.Json"),
    142: _text("io.debezium.data.Xml"),
    600: ColumnType(Kind.POINT, (POINT,), pgtext.parse_point),
    700: ColumnType(Kind.FLOAT, ("float",), float),
    701: _DOUBLE,
    1082: ColumnType(Kind.DATE, (_named("int", "io.debezium.time.Date"),), pgtext.parse_date),
    1266: ColumnType(Kind.MADE_TEXT, (_named("string", "io.debezium.time.ZonedTime"),), pgtext.parse_zoned_time),
    2950: _text("io.debezium.data.Uuid"),
    3802: _text("io.debezium.data.Json"),
    ENUM: _text("io.debezium.data.Enum"),
}

# pg_type.oid of an array → of its elements. What is not here stays PostgreSQL's text as a whole.
ELEMENTS = {
    143: 142,
    199: 114,
    651: 650,
    775: 774,
    791: 790,
    1000: 16,
    1001: 17,
    1002: 18,
    1003: 19,
    1005: 21,
    1007: 23,
    1009: 25,
    1014: 1042,
    1015: 1043,
    1016: 20,
    1017: 600,
    1021: 700,
    1022: 701,
    1028: 26,
    1040: 829,
    1041: 869,
    1115: 1114,
    1182: 1082,
    1183: 1083,
    1185: 1184,
    1187: 1186,
    1231: 1700,
    1270: 1266,
    1561: 1560,
    1563: 1562,
    2951: 2950,
    3643: 3614,
    3645: 3615,
    3807: 3802,
    3905: 3904,
    3907: 3906,
    3909: 3908,
    3911: 3910,
    3913: 3912,
    3927: 3926,
    6150: 4451,
    6151: 4532,
    6152: 4533,
    6153: 4534,
    6155: 4535,
    6157: 4536,
    OTHER_ARRAY: OTHER,
    ENUM_ARRAY: ENUM,
    HSTORE_ARRAY: HSTORE,
}
ARRAYS = {element: array for array, element in ELEMENTS.items()}
