"""One column's text → its JSON, by kind of representation.

Contract: `json_converter` gives, for a `ColumnType`, a function from PostgreSQL's text to the bytes that
`change.json_form` has for the value; it raises one of `transcoder.ERRORS` on text that is not of the type.
Invariant: equal to json_form over the Avro of `converters`, held by tests/source/test_json_transcoder.py.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Callable

from connector.change.columntype import ColumnType, Kind
from connector.change.encoding import decimal_text, twos_complement
from connector.change.json_encoding import compact
from connector.change.json_form import number
from connector.change.pgtext import array_texts, single
from connector.change.quoted import quoted

ESCAPED = bytes(range(0x20)) + b'"\\'
"""What JSON escapes in a text; all of it is ASCII, so that it can be looked for in UTF-8."""

_FLOAT = struct.Struct("<f")


def json_text(value: bytes) -> bytes:
    """A JSON string."""
    return compact(value.decode()).encode()


def _base64(value: bytes) -> bytes:
    return b'"%b"' % b64encode(value)


def _number(value: float) -> bytes:
    return compact(number(value)).encode()


def json_converter(kind: ColumnType) -> Callable[[bytes], bytes]:
    parse = kind.parse
    match kind.kind:
        case Kind.TEXT:
            return json_text
        case Kind.BOOLEAN:
            return {b"t": b"true", b"f": b"false"}.__getitem__
        case Kind.INTEGER | Kind.LONG:
            return lambda value: b"%d" % int(value)
        case Kind.FLOAT:
            return lambda value: _number(single(_FLOAT.unpack(_FLOAT.pack(float(value)))[0]))
        case Kind.DOUBLE:
            return lambda value: _number(float(value))
        case Kind.BYTES:
            return lambda value: _base64(parse(value.decode()))  # type: ignore[arg-type]
        case Kind.ZONED_TIMESTAMP | Kind.MADE_TEXT | Kind.ENCODED_BYTES:
            return lambda value: compact(str(parse(value.decode()))).encode()
        case Kind.DECIMAL_TEXT:
            return lambda value: b'"%b"' % str(decimal_text(parse(value.decode()))).encode()
        case Kind.MONEY if kind.avro == ("double",):
            return lambda value: _number(parse(value.decode()))  # type: ignore[arg-type]
        case Kind.MONEY:
            shift = 10**kind.scale
            return lambda value: _base64(twos_complement(int(parse(value.decode()) * shift)))
        case Kind.INTERVAL | Kind.BIT | Kind.BITS:
            beside_base64 = kind.kind is Kind.BITS
            return lambda value: _of_several(parse(value.decode()), beside_base64)
        case Kind.POINT:
            return lambda value: _point(parse(value.decode()))
        case Kind.MAP:
            return lambda value: compact(parse(value.decode())).encode()
        case Kind.ARRAY:
            assert kind.element is not None
            item = json_converter(kind.element)

            def array(value: bytes) -> bytes:
                texts = array_texts(value.decode())
                if texts is None:
                    return json_text(value)
                return b"[%b]" % b",".join([b"null" if text is None else item(text.encode()) for text in texts])

            return array
        case Kind.DECIMAL:
            return _decimal(kind.scale)
        case Kind.VARIABLE_DECIMAL:

            def variable(value: bytes) -> bytes:
                if not value[-1:].isdigit():
                    return json_text(value)
                whole, _, fraction = value.partition(b".")
                return b'{"scale":%d,"value":%b}' % (len(fraction), _base64(twos_complement(int(whole + fraction))))

            return variable
        case _:
            return lambda value: b"%d" % parse(value.decode())  # type: ignore[str-format]


def _decimal(scale: int) -> Callable[[bytes], bytes]:
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
            return compact(quoted(value.decode())).encode()  # NaN, Infinity
        return _base64(twos_complement(unscaled))

    return decimal


def _of_several(made: object, beside_base64: bool) -> bytes:
    """An interval, a bit or bits, or the text of one that is none."""
    match made:
        case bool():
            return b"true" if made else b"false"
        case int():
            return b"%d" % made
        case bytes():
            return _base64(made)
    return compact(quoted(str(made)) if beside_base64 else made).encode()


def _point(made: object) -> bytes:
    assert isinstance(made, dict)
    x, y, wkb = _number(made["x"]), _number(made["y"]), _base64(made["wkb"])
    return b'{"x":%b,"y":%b,"wkb":%b,"srid":null}' % (x, y, wkb)
