"""Rows of the state as bytes: JSON, with the two kinds of value that JSON lacks written as a list.

Exact for everything a record can hold (`change.record.Value`): bool, int, float (NaN and infinities too), Decimal, str,
bytes, None. No value is a list, so a list is never taken for anything else.
"""

from __future__ import annotations

import json
from decimal import Decimal

from connector.change.record import Row

_DECIMAL = "decimal"
_BYTES = "bytes"
# How a list begins as a value; inside of a text its quotes would be escaped.
_LIST = b'":["'


def dump_row(row: Row) -> bytes:
    """A row as bytes. TypeError for a value that no record can hold."""
    return _encode(row).encode()


def load_row(data: bytes) -> Row:
    """The reverse of `dump_row`."""
    row: Row = json.loads(data)
    if _LIST in data:
        for name, value in row.items():
            if isinstance(value, list):
                kind, text = value
                row[name] = Decimal(text) if kind == _DECIMAL else bytes.fromhex(text)
    return row


def _mark(value: object) -> list[str]:
    if isinstance(value, Decimal):
        return [_DECIMAL, str(value)]
    if isinstance(value, bytes):
        return [_BYTES, value.hex()]
    raise TypeError(f"a row cannot hold {type(value).__name__}")


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_mark).encode
