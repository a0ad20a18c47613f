"""Rows of the state as bytes: JSON, with the two kinds of value that JSON lacks marked.

Exact for everything a record can hold (`change.record.Value`): bool, int, float (NaN and infinities too), Decimal, str,
bytes, None. Columns that JSON objects could be confused with do not exist: values are never objects.
"""

from __future__ import annotations

import json
from decimal import Decimal

from connector.change.record import Row

_DECIMAL = "$decimal"
_BYTES = "$bytes"


def dump_row(row: Row) -> bytes:
    """A row as bytes."""
    return _encode(row).encode()


def load_row(data: bytes) -> Row:
    """The reverse of `dump_row`."""
    row: Row = json.loads(data) if b'{"$' not in data else json.loads(data, object_hook=_unmark)
    return row


def _mark(value: object) -> object:
    if isinstance(value, Decimal):
        return {_DECIMAL: str(value)}
    if isinstance(value, bytes):
        return {_BYTES: value.hex()}
    raise TypeError(f"a row cannot hold {type(value).__name__}")


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_mark).encode


def _unmark(found: dict[str, object]) -> object:
    if len(found) == 1:
        match found:
            case {"$decimal": str(text)}:
                return Decimal(text)
            case {"$bytes": str(text)}:
                return bytes.fromhex(text)
    return found
