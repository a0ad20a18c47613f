"""Text in the place of base64, in JSON: what a decimal or a bit string cannot hold (NaN, leading zeros).

Contract: pure. Avro has a branch of its own for such text, JSON has only strings, and `Infinity` and `0010` are base64,
too, of other values. So that text stands between apostrophes, which no base64 has: a consumer that reads base64 fails
on it and is never wrong. The text itself never has an apostrophe.
"""

from __future__ import annotations

from typing import Any


def is_base64(branch: Any) -> bool:
    """Whether a branch of an Avro union that has text beside it is written as base64."""
    return isinstance(branch, dict) and branch["type"] == "bytes"


def quoted(text: str) -> str:
    return f"'{text}'"


def unquoted(value: str) -> str:
    """The reverse. ValueError when it is not between apostrophes."""
    if len(value) < 2 or value[0] != "'" or value[-1] != "'":
        raise ValueError("not text between apostrophes")
    return value[1:-1]
