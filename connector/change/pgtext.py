"""PostgreSQL's text of a value → the value, for every type that is more to us than its text.

Contract: pure; text as PostgreSQL prints it with DateStyle ISO, IntervalStyle postgres and TimeZone UTC, in whatever
lc_monetary. ValueError (ArithmeticError for numbers) on text that the type does not have. What a parser returns is the
value of a `Change` (`change.record`); `change.columntype` says which parser is whose.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable
from datetime import date
from decimal import Decimal

from connector.change.record import Value

EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
DAY_US = 86_400_000_000
MONTH_US = 2_629_800_000_000
"""A month is 365.25 / 12 days to Debezium."""

# What Debezium writes for PostgreSQL's infinities (the PostgreSQL JDBC driver's own constants).
TIMESTAMP_INFINITY_US = 9_223_372_036_825_200_000
TIMESTAMP_MINUS_INFINITY_US = -9_223_372_036_832_400_000
DATE_INFINITY = 2_147_483_647
DATE_MINUS_INFINITY = -2_147_483_648


def parse_bool(text: str) -> Value:
    if text == "t":
        return True
    if text == "f":
        return False
    raise ValueError("not a boolean")


def parse_bytea(text: str) -> bytes:
    if not text.startswith("\\x"):
        raise ValueError("bytea not in hex format")
    return bytes.fromhex(text[2:])


def single(value: float) -> float:
    """A number of single precision as the double of its shortest text, which is what PostgreSQL prints."""
    if not math.isfinite(value):
        return value
    exact = _SINGLE.pack(value)
    # Near the largest number of single precision, rounding to few digits may leave what can be packed.
    nears = (float(f"{value:.{digits}g}") for digits in range(1, 9))
    return next((near for near in nears if abs(near) < _TOO_LARGE and _SINGLE.pack(near) == exact), value)


_SINGLE = struct.Struct("<f")
_TOO_LARGE = 3.4028235677973366e38
"""From here on a number rounds to none of single precision."""


def parse_decimal(text: str) -> Value:
    """A Decimal; NaN and the infinities, which no Avro decimal can hold, as text."""
    number = Decimal(text)
    return number if number.is_finite() else text


def money_parser(scale: int) -> Callable[[str], Value]:
    """For money with `scale` decimals, which its text always has: its digits are what PostgreSQL stores."""

    def parse_money(text: str) -> Value:
        digits = re.sub(r"\D", "", text, flags=re.ASCII)
        if not digits:
            raise ValueError("money without digits")
        return Decimal((int("-" in text or "(" in text), tuple(map(int, str(int(digits)))), -scale))

    return parse_money


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


_ZONED = re.compile(r"(\d{4,})(-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?\+00( BC)?", re.ASCII)


def zoned_parser(digits: int) -> Callable[[str], Value]:
    """For a timestamp with time zone of so many decimals: ISO 8601 in UTC, years as ISO counts them (1 BC is 0000).

    The connection's TimeZone is UTC, so the offset PostgreSQL prints is always +00.
    """

    def parse_zoned(text: str) -> Value:
        found = _ZONED.fullmatch(text)
        if found is None:
            if text in ("infinity", "-infinity"):
                return text
            raise ValueError("not a timestamp in UTC")
        year, day, clock, fraction, bc = found.groups()
        if bc:
            number = int(year) - 1
            year = f"-{number:04}" if number else "0000"
        elif len(year) > 4:
            year = f"+{year}"
        if digits:
            clock += "." + (fraction or "").ljust(digits, "0")
        elif fraction:
            raise ValueError("more decimals than the column has")
        return f"{year}{day}T{clock}Z"

    return parse_zoned


_ZONED_TIME = re.compile(r"(\d\d):(\d\d):(\d\d)(\.\d{1,6})?([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?", re.ASCII)


def parse_zoned_time(text: str) -> Value:
    """A time with its offset, as ISO 8601 in UTC; the end of the day, which is no time of any other, where it is."""
    found = _ZONED_TIME.fullmatch(text)
    if found is None:
        raise ValueError("not a time with an offset")
    hours, minutes, seconds, fraction, sign, *offset = found.groups()
    if hours == "24":
        return (
            f"24:00:00{sign}{':'.join((offset[0], *(part or '00' for part in offset[1:2]), *filter(None, offset[2:])))}"
        )
    away = sum(int(part or 0) * unit for part, unit in zip(offset, (3600, 60, 1), strict=True))
    second = int(hours) * 3600 + int(minutes) * 60 + int(seconds) + (away if sign == "-" else -away)
    minute, second = divmod(second % 86_400, 60)
    return f"{minute // 60:02}:{minute % 60:02}:{second:02}{fraction or ''}Z"


_INTERVAL = re.compile(
    r"(?:([+-]?\d+) years? ?)?(?:([+-]?\d+) mons? ?)?(?:([+-]?\d+) days? ?)?"
    r"(?:([+-]?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?",
    re.ASCII,
)


def parse_interval(text: str) -> Value:
    """Microseconds, as Debezium counts months; what 64 bits do not hold, as `parse_interval_text` gives it."""
    found = _interval(text)
    if found is None:
        return text
    years, months, days, sign, hours, minutes, seconds, fraction = found
    time = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + int(fraction.ljust(6, "0"))
    number = (years * 12 + months) * MONTH_US + days * DAY_US + sign * time
    return number if -(2**63) <= number < 2**63 else parse_interval_text(text)


def parse_interval_text(text: str) -> Value:
    """ISO 8601 with every part, each with its own sign."""
    found = _interval(text)
    if found is None:
        return text
    years, months, days, sign, hours, minutes, seconds, fraction = found
    minus = "-" if sign < 0 and (seconds or int(fraction or 0)) else ""
    decimals = f".{fraction}" if int(fraction or 0) else ""
    return f"P{years}Y{months}M{days}DT{sign * hours}H{sign * minutes}M{minus}{seconds}{decimals}S"


def _interval(text: str) -> tuple[int, int, int, int, int, int, int, str] | None:
    """Years, months, days, sign of the time, its parts; None for an infinity (PostgreSQL 17 and later)."""
    found = _INTERVAL.fullmatch(text)
    if found is None or not text:
        if text in ("infinity", "-infinity"):
            return None
        raise ValueError("not an interval")
    years, months, days, sign, hours, minutes, seconds, fraction = found.groups()
    number = [int(part or 0) for part in (years, months, days, hours, minutes, seconds)]
    return *number[:3], -1 if sign == "-" else 1, *number[3:], fraction or ""  # type: ignore[return-value]


def parse_bits(text: str) -> bytes:
    """Bit strings of a fixed length: little-endian without the leading zeros, as java.util.BitSet gives them."""
    number = int(f"0{text}", 2)
    return number.to_bytes((number.bit_length() + 7) // 8, "little")


def parse_varying_bits(text: str) -> Value:
    """The same; as text when it begins with a zero or is empty, which the number does not tell."""
    return parse_bits(text) if text[:1] == "1" else _bit_string(text)


def parse_bit(text: str) -> Value:
    """One bit, or (of varbit(1)) none, which stays text."""
    return text == "1" if text in ("0", "1") else _bit_string(text)


def _bit_string(text: str) -> str:
    if text.strip("01"):
        raise ValueError("not a bit string")
    return text


def parse_point(text: str) -> Value:
    """Debezium's point: the coordinates, and well-known binary of them."""
    if text[:1] != "(" or text[-1:] != ")":
        raise ValueError("not a point")
    x, y = map(float, text[1:-1].split(","))
    return {"x": x, "y": y, "wkb": struct.pack("<BIdd", 1, 1, x, y), "srid": None}


_HSTORE = re.compile(r'"((?:[^"\\]|\\.)*)"=>(?:NULL|"((?:[^"\\]|\\.)*)")(?:, |\Z)', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def parse_hstore(text: str) -> Value:
    """Key → value or None, in PostgreSQL's order."""
    found: dict[str, str | None] = {}
    at = 0
    while at < len(text):
        pair = _HSTORE.match(text, at)
        if pair is None:
            raise ValueError("not an hstore")
        key, value = pair.groups()
        found[_ESCAPED.sub(r"\1", key)] = None if value is None else _ESCAPED.sub(r"\1", value)
        at = pair.end()
    return found


def parse_hstore_json(text: str) -> Value:
    """The same as a JSON text."""
    return json.dumps(parse_hstore(text), ensure_ascii=False, separators=(",", ":"))


_ITEM = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,{}"\\]+)', re.DOTALL)


def array_texts(text: str) -> list[str | None] | None:
    """The texts of an array's elements; None for one that is more than a list (bounds of its own, dimensions)."""
    if text[:1] != "{" or text[-1:] != "}":
        if text[:1] == "[" and text[-1:] == "}":
            return None
        raise ValueError("not an array")
    inside = text[1:-1]
    if not inside:
        return []
    if inside[0] == "{":
        return None
    if '"' not in inside and "\\" not in inside:
        return [None if item == "NULL" else item for item in inside.split(",")]
    found: list[str | None] = []
    at = 0
    while True:
        item = _ITEM.match(inside, at)
        if item is None:
            raise ValueError("not an array")
        quoted, bare = item.groups()
        found.append(_ESCAPED.sub(r"\1", quoted) if bare is None else None if bare == "NULL" else bare)
        at = item.end()
        if at == len(inside):
            return found
        if inside[at] != ",":
            raise ValueError("not an array")
        at += 1


def array_parser(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """For an array of what `parse` takes: a list, or PostgreSQL's text of what is more than a list."""

    def parse_array(text: str) -> Value:
        texts = array_texts(text)
        return text if texts is None else [None if item is None else parse(item) for item in texts]

    return parse_array
