"""Dates and times: a column's value → a moment on the wall clock of Vietnam, and back to text. Pure.

Rows hold a date as days, a timestamp as milliseconds or microseconds (docs/types.md), so that a number alone does not
tell what it is. A mapping therefore writes the column's type as the database shows it, and `check` compares the two.
A `timestamptz` is shown in Vietnam's time (UTC+7, no summer time); the others have no zone and are shown as they are.
Invariant: what is no moment between the years 1 and 9999 (NULL, infinity, years BC) is None, never an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from types import MappingProxyType
from typing import Final

from connector.change.record import Value

Read = Callable[[Value], datetime | None]
Write = Callable[[datetime], str]

VIETNAM: Final = timezone(timedelta(hours=7))
_EPOCH: Final = datetime(1970, 1, 1)
_FINEST_MILLISECONDS: Final = 3
"""Up to this many decimals a timestamp is in milliseconds, else in microseconds (Debezium's adaptive precision)."""

_TYPE = re.compile(r"(date|timestamp|timestamptz)(?:\(([0-6])\))?\Z")
_CATALOG = re.compile(r"(date|timestamp|timestamptz)(?:\(([0-6])\))?(?: (with|without) time zone)?\Z")
_LETTERS: Final[Mapping[str, Write]] = MappingProxyType(
    {
        "yyyy": lambda moment: f"{moment.year:04}",
        "yy": lambda moment: f"{moment.year % 100:02}",
        "MM": lambda moment: f"{moment.month:02}",
        "dd": lambda moment: f"{moment.day:02}",
        "HH": lambda moment: f"{moment.hour:02}",
        "mm": lambda moment: f"{moment.minute:02}",
        "ss": lambda moment: f"{moment.second:02}",
    }
)
_LETTER = re.compile(r"yyyy|yy|MM|dd|HH|mm|ss|[A-Za-z]")
TYPES = "date, timestamp, timestamp(0) to timestamp(6), timestamptz"
LETTERS = "yyyy yy MM dd HH mm ss, and signs between them, e.g. dd/MM/yyyy"


def reader(column_type: str) -> Read | None:
    """How a column of this type is read; None when it is no type of date or time."""
    told = _TYPE.match(column_type)
    if told is None or (told[1] == "date" and told[2]):
        return None
    match told[1]:
        case "date":
            return partial(_since_epoch, unit=timedelta(days=1))
        case "timestamp":
            return partial(_since_epoch, unit=timedelta(milliseconds=1) if _coarse(told) else timedelta(microseconds=1))
    return _zoned


def is_of(column_type: str, catalog: str) -> bool:
    """Whether the database's name of a column's type (`format_type`) is this type."""
    told, has = _TYPE.match(column_type), _CATALOG.match(catalog)
    if told is None or has is None:
        return False
    if (has[1] == "timestamptz" or has[3] == "with") != (told[1] == "timestamptz"):
        return False
    return told[1] == "timestamptz" or (told[1] == has[1] and _coarse(told) == _coarse(has))


def _coarse(told: re.Match[str]) -> bool:
    return told[2] is not None and int(told[2]) <= _FINEST_MILLISECONDS


def writer(pattern: str) -> Write | None:
    """A moment as text; None when the pattern holds a letter that means nothing."""
    if any(letter not in _LETTERS for letter in _LETTER.findall(pattern)) or not _LETTER.search(pattern):
        return None

    def write(moment: datetime) -> str:
        return _LETTER.sub(lambda found: _LETTERS[found[0]](moment), pattern)

    return write


def moment(text: str) -> datetime | None:
    """A constant of the YAML: `2024-01-31` or `2024-01-31 07:30[:00]`, on Vietnam's clock."""
    if not re.match(r"\d{4}-\d{2}-\d{2}(?:[ T]\d{2}:\d{2}(?::\d{2})?)?\Z", text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _since_epoch(value: Value, unit: timedelta) -> datetime | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    try:
        return _EPOCH + value * unit
    except OverflowError:
        return None


def _zoned(value: Value) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        zoned = datetime.fromisoformat(value)
        return (zoned if zoned.tzinfo else zoned.replace(tzinfo=UTC)).astimezone(VIETNAM).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None
