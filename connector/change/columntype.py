"""How a PostgreSQL type is represented: as Avro, and as the Python value behind it.

Contract: `column_type` never fails; a type without a rule of its own is text, as PostgreSQL prints it. The
representation is Debezium's default (adaptive time precision, precise decimals); docs/types.md tables it. `parse`
takes the text PostgreSQL sends with DateStyle ISO, TimeZone UTC and extra_float_digits
at its default, and raises ValueError on text the type does not have. This is the readable reference; the generated
transcoder (`connector.source.decode.transcoder`) is held equal to it by a property test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum

from connector.change.record import Value

EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
DAY_US = 86_400_000_000

# What Debezium writes for PostgreSQL's infinities (the PostgreSQL JDBC driver's own constants).
TIMESTAMP_INFINITY_US = 9_223_372_036_825_200_000
TIMESTAMP_MINUS_INFINITY_US = -9_223_372_036_832_400_000
DATE_INFINITY = 2_147_483_647
DATE_MINUS_INFINITY = -2_147_483_648


class Kind(Enum):
    """The families of representation; each has one parser here and one generated form in the transcoder."""

    BOOLEAN = "boolean"
    INTEGER = "int"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    DECIMAL = "decimal"
    VARIABLE_DECIMAL = "variable decimal"
    BYTES = "bytes"
    DATE = "date"
    TIME_MS = "time in milliseconds"
    TIME_US = "time in microseconds"
    TIMESTAMP_MS = "timestamp in milliseconds"
    TIMESTAMP_US = "timestamp in microseconds"
    ZONED_TIMESTAMP = "timestamp with time zone"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A column's representation. `avro` is a branch of the column's union (without null); `scale` for DECIMAL.

    PostgreSQL's numeric has NaN and infinities, which no Avro decimal can hold; they travel as text, in a branch of
    their own, so that nothing is lost.
    """

    kind: Kind
    avro: tuple[object, ...]
    parse: Callable[[str], Value]
    scale: int = 0


def column_type(type_oid: int, typmod: int) -> ColumnType:
    """The representation of a type given its pg_type.oid and pg_attribute.atttypmod (PostgreSQL chapter 53)."""
    match type_oid:
        case 1700:
            return _numeric(typmod)
        case 1114:
            return _TIMESTAMP_MS if 0 <= typmod <= 3 else _TIMESTAMP_US
        case 1083:
            return _TIME_MS if 0 <= typmod <= 3 else _TIME_US
        case _:
            return _FIXED.get(type_oid, _TEXT)


def parse_date(text: str) -> int:
    """Days since the epoch. Years BC and beyond 9999 are what PostgreSQL has, so no datetime.date."""
    if text == "infinity":
        return DATE_INFINITY
    if text == "-infinity":
        return DATE_MINUS_INFINITY
    bare = text.removesuffix(" BC")
    year, month, day = bare.split("-")
    number = int(year)
    if bare != text:
        number = 1 - number  # 1 BC is the year 0 of the proleptic Gregorian calendar
    # The calendar repeats every 400 years, which brings any year into datetime's range.
    cycles, folded = divmod(number - 1, 400)
    return date(folded + 1, int(month), int(day)).toordinal() + cycles * 146_097 - EPOCH_ORDINAL


def parse_time_us(text: str) -> int:
    """Microseconds since midnight; 24:00:00 is PostgreSQL's end of day."""
    hours, minutes, seconds = text.split(":")
    whole, _, fraction = seconds.partition(".")
    return ((int(hours) * 60 + int(minutes)) * 60 + int(whole)) * 1_000_000 + int(fraction.ljust(6, "0") or 0)


def parse_timestamp_us(text: str) -> int:
    """Microseconds since the epoch, of a timestamp without time zone."""
    if text == "infinity":
        return TIMESTAMP_INFINITY_US
    if text == "-infinity":
        return TIMESTAMP_MINUS_INFINITY_US
    bare = text.removesuffix(" BC")
    day, _, clock = bare.partition(" ")
    return parse_date(day if bare == text else day + " BC") * DAY_US + parse_time_us(clock)


def parse_zoned(text: str) -> str:
    """ISO 8601 in UTC. The connection's TimeZone is UTC, so the offset PostgreSQL prints is always +00."""
    if text in ("infinity", "-infinity"):
        return text
    bare = text.removesuffix(" BC")
    if not bare.endswith("+00"):
        raise ValueError("not in UTC")
    day, _, clock = bare[:-3].partition(" ")
    return f"{'-' if bare != text else ''}{day}T{clock}Z"


def _bool(text: str) -> Value:
    if text == "t":
        return True
    if text == "f":
        return False
    raise ValueError("not a boolean")


def _bytea(text: str) -> Value:
    if not text.startswith("\\x"):
        raise ValueError("bytea not in hex format")
    return bytes.fromhex(text[2:])


def _decimal(text: str) -> Value:
    number = Decimal(text)
    # NaN and the infinities have no digits to put into an Avro decimal.
    return number if number.is_finite() else text


def _numeric(typmod: int) -> ColumnType:
    if typmod < 4:
        return _VARIABLE
    precision, scale = (typmod - 4) >> 16 & 0xFFFF, ((typmod - 4 & 0x7FF) ^ 1024) - 1024
    if not 0 <= scale <= precision:  # PostgreSQL 15 allows negative scales and scales above the precision
        return _VARIABLE
    avro = {
        "type": "bytes",
        "scale": scale,
        "precision": precision,
        "connect.version": 1,
        "connect.parameters": {"scale": str(scale), "connect.decimal.precision": str(precision)},
        "connect.name": "org.apache.kafka.connect.data.Decimal",
        "logicalType": "decimal",
    }
    return ColumnType(Kind.DECIMAL, (avro, "string"), _decimal, scale)


def _named(avro: str, name: str) -> object:
    return {"type": avro, "connect.version": 1, "connect.name": name}


VARIABLE_SCALE: dict[str, object] = {
    "type": "record",
    "name": "VariableScaleDecimal",
    "namespace": "io.debezium.data",
    "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}],
    "connect.version": 1,
    "connect.name": "io.debezium.data.VariableScaleDecimal",
}
_VARIABLE = ColumnType(Kind.VARIABLE_DECIMAL, (VARIABLE_SCALE, "string"), _decimal)
_TEXT = ColumnType(Kind.TEXT, ("string",), str)
_LONG = ColumnType(Kind.LONG, ("long",), int)
_TIMESTAMP_US = ColumnType(Kind.TIMESTAMP_US, (_named("long", "io.debezium.time.MicroTimestamp"),), parse_timestamp_us)
_TIMESTAMP_MS = ColumnType(
    Kind.TIMESTAMP_MS,
    (_named("long", "io.debezium.time.Timestamp"),),
    lambda text: parse_timestamp_us(text) // 1000,
)
_TIME_US = ColumnType(Kind.TIME_US, (_named("long", "io.debezium.time.MicroTime"),), parse_time_us)
_TIME_MS = ColumnType(Kind.TIME_MS, (_named("int", "io.debezium.time.Time"),), lambda text: parse_time_us(text) // 1000)

_FIXED = {
    16: ColumnType(Kind.BOOLEAN, ("boolean",), _bool),
    17: ColumnType(Kind.BYTES, ("bytes",), _bytea),
    20: _LONG,
    21: ColumnType(Kind.INTEGER, ({"type": "int", "connect.type": "int16"},), int),
    23: ColumnType(Kind.INTEGER, ("int",), int),
    26: _LONG,
    700: ColumnType(Kind.FLOAT, ("float",), float),
    701: ColumnType(Kind.DOUBLE, ("double",), float),
    1082: ColumnType(Kind.DATE, (_named("int", "io.debezium.time.Date"),), parse_date),
    1184: ColumnType(Kind.ZONED_TIMESTAMP, (_named("string", "io.debezium.time.ZonedTimestamp"),), parse_zoned),
    2950: ColumnType(Kind.TEXT, (_named("string", "io.debezium.data.Uuid"),), str),
    114: ColumnType(Kind.TEXT, (_named("string", "io.debezium.data.Json"),), str),
    3802: ColumnType(Kind.TEXT, (_named("string", "io.debezium.data.Json"),), str),
    142: ColumnType(Kind.TEXT, (_named("string", "io.debezium.data.Xml"),), str),
}
