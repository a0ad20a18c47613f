"""Rows of the state as bytes: JSON, with the kinds of value that JSON lacks written as a list of kind and content.

Exact for everything a record can hold (`change.record.Value`): bool, int, float (NaN and infinities too), Decimal, str,
bytes, None, and lists and dicts of those. A list or dict is itself written with its kind, so nothing is taken for
anything else.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from connector.change.record import Row

_DECIMAL = "decimal"
_BYTES = "bytes"
_ARRAY = "array"
_MAP = "map"
# How a list begins as a value; inside of a text its quotes would be escaped.
_LIST = b'":["'


def dump_row(row: Row) -> bytes:
    """A row as bytes. TypeError for a value that no record can hold."""
    for value in row.values():
        if isinstance(value, list | dict):
            row = {name: _marked(value) for name, value in row.items()}
            break
    return _encode(row).encode()


def load_row(data: bytes) -> Row:
    """The reverse of `dump_row`."""
    row: Row = json.loads(data)
    if _LIST in data:
        for name, value in row.items():
            row[name] = _unmarked(value)
    return row


def _marked(value: object) -> object:
    if isinstance(value, list):
        return [_ARRAY, [_marked(item) for item in value]]
    if isinstance(value, dict):
        return [_MAP, {key: _marked(item) for key, item in value.items()}]
    return value


def _unmarked(value: object) -> object:
    if not isinstance(value, list):
        return value
    kind: str
    content: Any
    kind, content = value
    if kind == _DECIMAL:
        return Decimal(content)
    if kind == _BYTES:
        return bytes.fromhex(content)
    if kind == _ARRAY:
        return [_unmarked(item) for item in content]
    return {key: _unmarked(item) for key, item in content.items()}


def _mark(value: object) -> list[str]:
    if isinstance(value, Decimal):
        return [_DECIMAL, str(value)]
    if isinstance(value, bytes):
        return [_BYTES, value.hex()]
    raise TypeError(f"a row cannot hold {type(value).__name__}")


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_mark).encode
