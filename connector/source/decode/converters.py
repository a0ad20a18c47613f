"""One column's text → its Avro bytes, by kind of representation.

Contract: `plain_converter` gives, for a `ColumnType`, a function from PostgreSQL's text to the bytes of the value in
the column's union; it raises one of `transcoder.ERRORS` on text that is not of the type. Kinds that nearly every row
has are converted here on their own; of the rest only the writing is, and the reading is `change.pgtext`'s.
Invariant: equal to fastavro over `ColumnType.parse`, held by tests/source/test_transcoder.py.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence

from connector.change.columntype import ColumnType, Kind
from connector.change.encoding import decimal_text, twos_complement
from connector.change.pgtext import DAY_US, array_texts, parse_date

MEMO_LIMIT = 4096
"""Texts that a memo holds."""


def zigzag(number: int) -> bytes:
    """An Avro int or long: zigzag, then little-endian base 128 (Avro specification, Binary Encoding)."""
    return base128(number << 1 if number >= 0 else ~(number << 1))


def base128(rest: int) -> bytes:
    """A number from 0 on, little-endian base 128."""
    if rest < 0x4000:
        return ENDING[rest]
    if rest < 0x1000_0000:
        return CONTINUED[rest & 0x3FFF] + ENDING[rest >> 14]
    out = CONTINUED[rest & 0x3FFF] + CONTINUED[rest >> 14 & 0x3FFF]
    rest >>= 28
    while rest >= 0x4000:
        out += CONTINUED[rest & 0x3FFF]
        rest >>= 14
    return out + ENDING[rest]


# Fourteen bits at a time: two bytes that are followed by others, and the one or two bytes that end a number.
CONTINUED = [bytes((number & 0x7F | 0x80, number >> 7 | 0x80)) for number in range(0x4000)]
ENDING = [bytes((number,)) if number < 0x80 else bytes((number & 0x7F | 0x80, number >> 7)) for number in range(0x4000)]
# The same after the union branch 1, which is what a nullable column's value begins with.
NULLABLE_CONTINUED = [b"\2" + part for part in CONTINUED]
NULLABLE_ENDING = [b"\2" + part for part in ENDING]


def text_bytes(text: bytes) -> bytes:
    """An Avro string or bytes."""
    return zigzag(len(text)) + text


# Avro's length prefix of short texts, which are nearly all: plain, and after the union branch 1.
_LENGTHS = [zigzag(length) for length in range(2048)]
NULLABLE_LENGTHS = [b"\2" + length for length in _LENGTHS]


def plain_converter(kind: ColumnType, nullable: bool) -> Callable[[bytes], bytes]:
    branch = b"\2" if nullable else b""
    second = b"\4" if nullable else b"\2"
    parse = kind.parse
    match kind.kind:
        case Kind.TEXT:
            lengths = NULLABLE_LENGTHS if nullable else _LENGTHS

            def text(value: bytes) -> bytes:
                size = len(value)
                return (lengths[size] if size < 2048 else branch + zigzag(size)) + value

            return text
        case Kind.BOOLEAN:
            words = {b"t": branch + b"\1", b"f": branch + b"\0"}
            return words.__getitem__
        case Kind.INTEGER | Kind.LONG:
            endings, continued = (NULLABLE_ENDING, NULLABLE_CONTINUED) if nullable else (ENDING, CONTINUED)

            def integer(value: bytes) -> bytes:
                number = int(value)
                rest = number << 1 if number >= 0 else ~(number << 1)
                if rest < 0x4000:
                    return endings[rest]
                if rest < 0x1000_0000:
                    return continued[rest & 0x3FFF] + ENDING[rest >> 14]
                return branch + base128(rest)

            return integer
        case Kind.FLOAT:
            return lambda value: branch + _FLOAT(float(value))
        case Kind.DOUBLE:
            return lambda value: branch + _DOUBLE(float(value))
        case Kind.BYTES:
            return lambda value: branch + text_bytes(bytes.fromhex(_hex(value)))
        case Kind.ZONED_TIMESTAMP:
            digits = kind.scale
            prefix = branch + zigzag(20 + (digits and digits + 1))
            ends = [
                (b"." if digits and not given else b"") + b"0" * (digits - given) + b"Z" for given in range(digits + 1)
            ]

            def zoned(value: bytes) -> bytes:
                given = len(value) - 23 if len(value) > 22 else 0
                if given <= digits and _UTC(value):
                    return prefix + value[:10] + b"T" + value[11:-3] + ends[given]
                return branch + text_bytes(str(parse(value.decode())).encode())

            return zoned
        case Kind.MADE_TEXT | Kind.ENCODED_BYTES:
            return lambda value: branch + text_bytes(str(parse(value.decode())).encode())
        case Kind.DECIMAL_TEXT:
            return lambda value: branch + text_bytes(str(decimal_text(parse(value.decode()))).encode())
        case Kind.MONEY if kind.avro == ("double",):
            return lambda value: branch + _DOUBLE(parse(value.decode()))
        case Kind.MONEY:
            shift = 10**kind.scale

            def money(value: bytes) -> bytes:
                return branch + text_bytes(twos_complement(int(parse(value.decode()) * shift)))

            return money
        case Kind.INTERVAL | Kind.BIT | Kind.BITS:

            def fallible(value: bytes) -> bytes:
                made = parse(value.decode())
                match made:
                    case str():
                        return second + text_bytes(value if kind.kind is not Kind.INTERVAL else made.encode())
                    case bool():
                        return branch + (b"\1" if made else b"\0")
                    case int():
                        return branch + zigzag(made)
                assert isinstance(made, bytes)
                return branch + text_bytes(made)

            return fallible
        case Kind.POINT:

            def point(value: bytes) -> bytes:
                wkb: bytes = parse(value.decode())["wkb"]  # type: ignore[index]
                return branch + wkb[5:] + b"\2" + text_bytes(wkb) + b"\0"

            return point
        case Kind.MAP:

            def pairs(value: bytes) -> bytes:
                found: dict[str, str | None] = parse(value.decode())  # type: ignore[assignment]
                entries = [
                    text_bytes(key.encode()) + (b"\0" if text is None else b"\2" + text_bytes(text.encode()))
                    for key, text in found.items()
                ]
                return branch + _block(entries)

            return pairs
        case Kind.ARRAY:
            assert kind.element is not None
            item = plain_converter(kind.element, nullable=True)

            def array(value: bytes) -> bytes:
                texts = array_texts(value.decode())
                if texts is None:
                    return second + text_bytes(value)
                return branch + _block([b"\0" if text is None else item(text.encode()) for text in texts])

            return array
        case Kind.DECIMAL:
            scale = kind.scale

            prefixes = [branch + zigzag(size) for size in range(64)]
            before_point = -scale - 1

            def decimal(value: bytes) -> bytes:
                try:
                    if scale == 0:
                        unscaled = int(value)
                    elif value[before_point] == 0x2E:
                        unscaled = int(value[:before_point] + value[-scale:])
                    else:
                        raise ValueError("not of the column's scale")
                except (ValueError, IndexError):
                    if value[-1:].isdigit():
                        raise
                    return second + text_bytes(value)  # NaN, Infinity
                size = ((unscaled if unscaled >= 0 else ~unscaled).bit_length() >> 3) + 1
                return (prefixes[size] if size < 64 else branch + zigzag(size)) + unscaled.to_bytes(
                    size, "big", signed=True
                )

            return decimal
        case Kind.VARIABLE_DECIMAL:

            def variable(value: bytes) -> bytes:
                if not value[-1:].isdigit():
                    return second + text_bytes(value)
                whole, _, fraction = value.partition(b".")
                return branch + zigzag(len(fraction)) + text_bytes(twos_complement(int(whole + fraction)))

            return variable
        case Kind.TIMESTAMP_US | Kind.TIMESTAMP_MS:
            unit = 1000 if kind.kind is Kind.TIMESTAMP_MS else 1
            continued = NULLABLE_CONTINUED if nullable else CONTINUED
            minutes, tails = _Minutes(), _Tails()

            def timestamp(value: bytes) -> bytes:
                try:
                    us = minutes[value[:17]] + _PAIRS[value[17:19]] * 1_000_000
                    if len(value) == 26:
                        us += int(value[20:])
                    elif len(value) != 19:
                        us += int(value[20:]) * _POWERS[len(value) - 20]
                    rest = us // unit << 1
                    if rest < 0x1000_0000:  # before the epoch, or within minutes after it
                        return branch + base128(rest if rest >= 0 else ~rest)
                    return continued[rest & 0x3FFF] + CONTINUED[rest >> 14 & 0x3FFF] + tails[rest >> 28]
                except (ValueError, LookupError):  # infinity, BC, years past 9999
                    return branch + zigzag(parse(value.decode()))  # type: ignore[arg-type]

            return timestamp
        case _:
            return lambda value: branch + zigzag(parse(value.decode()))  # type: ignore[arg-type]


def _block(entries: Sequence[bytes]) -> bytes:
    """An Avro array or map in one block."""
    return b"".join((zigzag(len(entries)), *entries, b"\0")) if entries else b"\0"


# Nearly every timestamp with time zone; infinity, BC and years past 9999 look otherwise.
_UTC = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?\+00").fullmatch
_POWERS = [10 ** (6 - digits) for digits in range(7)]


class _Minutes(dict[bytes, int]):
    """`YYYY-MM-DD HH:MM:` → microseconds since the epoch; a stream stays within few minutes for a while."""

    __slots__ = ()

    def __missing__(self, text: bytes) -> int:
        if text[10] != 0x20 or text[13] != 0x3A or text[16] != 0x3A:
            raise ValueError("not a day and a minute")
        minute = _PAIRS[text[11:13]] * 60 + _PAIRS[text[14:16]]
        if len(self) >= MEMO_LIMIT:
            self.clear()
        made = self[text] = _DAYS[text[:10]] + minute * 60_000_000
        return made


class _Days(dict[bytes, int]):
    """`YYYY-MM-DD` → microseconds of its midnight since the epoch."""

    __slots__ = ()

    def __missing__(self, text: bytes) -> int:
        if len(self) >= MEMO_LIMIT:
            self.clear()
        made = self[text] = parse_date(text.decode()) * DAY_US
        return made


_DAYS = _Days()
_PAIRS = {b"%02d" % number: number for number in range(60)}


class _Tails(dict[int, bytes]):
    """What stands above the lower 28 bits of a timestamp; it changes about every two minutes."""

    __slots__ = ()

    def __missing__(self, rest: int) -> bytes:
        if not rest:
            raise ValueError("too small for its lower bits to be continued")
        if len(self) >= MEMO_LIMIT:
            self.clear()
        made = self[rest] = base128(rest)
        return made


_FLOAT = struct.Struct("<f").pack
_DOUBLE = struct.Struct("<d").pack


def _hex(value: bytes) -> str:
    if value[:2] != b"\\x":
        raise ValueError("bytea not in hex format")
    return value[2:].decode()
