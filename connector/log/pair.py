"""A record of a topic that stands beside the changes."""

from __future__ import annotations

from typing import NamedTuple


class Pair(NamedTuple):
    """A record's key and value; an empty value is a tombstone."""

    key: bytes
    value: bytes
