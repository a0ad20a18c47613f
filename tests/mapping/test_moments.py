"""Dates and times are what the database holds, on Vietnam's clock."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.mapping import moments


def at(column_type: str, value: object) -> datetime | None:
    """The moment a column of this type holds."""
    read = moments.reader(column_type)
    assert read is not None
    return read(value)


@given(st.datetimes())
def test_a_timestamp_is_its_wall_clock(told: datetime) -> None:
    """In microseconds or milliseconds since 1970, before it, too."""
    since = told - datetime(1970, 1, 1)
    assert at("timestamp", since // timedelta(microseconds=1)) == told
    assert at("timestamp(6)", since // timedelta(microseconds=1)) == told
    whole = told.replace(microsecond=0)
    assert at("timestamp(0)", (whole - datetime(1970, 1, 1)) // timedelta(milliseconds=1)) == whole


@given(st.dates())
def test_a_date_is_its_day(told: date) -> None:
    """In days since 1970."""
    assert at("date", (told - date(1970, 1, 1)).days) == datetime(told.year, told.month, told.day)


def test_a_moment_with_a_zone_is_shown_in_vietnam() -> None:
    """The log holds it in UTC; seven hours make it the next day in Hà Nội."""
    assert at("timestamptz", "2024-01-31T18:30:00.000000Z") == datetime(2024, 2, 1, 1, 30)


@pytest.mark.parametrize("column_type", ["date", "timestamp", "timestamp(3)", "timestamptz"])
@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "infinity",
        "-infinity",
        2**63 - 1,
        -(2**63),
        True,
        1.5,
        b"x",
        [1],
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59.000000Z",
    ],
)
def test_what_is_no_moment_is_none(column_type: str, value: object) -> None:
    """NULL, infinity, years that nobody means, and values of other types: never an error."""
    assert at(column_type, value) is None


@pytest.mark.parametrize("column_type", ["", "text", "date(3)", "timestamp(7)", "timestamp without time zone", "time"])
def test_no_type_of_date_or_time(column_type: str) -> None:
    """Only those that a mapping writes."""
    assert moments.reader(column_type) is None


@pytest.mark.parametrize(
    ("told", "catalog", "same"),
    [
        ("date", "date", True),
        ("date", "timestamp", False),
        ("timestamp", "timestamp without time zone", True),
        ("timestamp", "timestamp(6) without time zone", True),
        ("timestamp", "timestamp(3) without time zone", False),
        ("timestamp(3)", "timestamp(3) without time zone", True),
        ("timestamp(3)", "timestamp(0) without time zone", True),
        ("timestamp(3)", "timestamp without time zone", False),
        ("timestamp", "timestamp with time zone", False),
        ("timestamptz", "timestamp with time zone", True),
        ("timestamptz", "timestamptz", True),
        ("timestamptz", "timestamp(3) with time zone", True),
        ("timestamp", "timestamp", True),
        ("date", "text", False),
    ],
)
def test_the_type_is_compared_with_the_database_s(told: str, catalog: str, same: bool) -> None:
    """By what a value would be read as."""
    assert moments.is_of(told, catalog) is same


@given(st.datetimes(min_value=datetime(1, 1, 1)).map(lambda told: told.replace(microsecond=0)))
def test_what_is_written_can_be_read_again(told: datetime) -> None:
    """The letters stand for what they say."""
    write = moments.writer("yyyy-MM-dd HH:mm:ss")
    assert write is not None
    assert moments.moment(write(told)) == told
    short = moments.writer("yyMMdd")
    assert short is not None
    assert short(told) == write(told)[2:10].replace("-", "")


@pytest.mark.parametrize("pattern", ["", "YYYY", "dd/mm/yyyyy", "d/M", "---", "ngày dd"])
def test_a_pattern_with_other_letters_is_none(pattern: str) -> None:
    """A letter that stands for nothing is a mistake, not text."""
    assert moments.writer(pattern) is None


@pytest.mark.parametrize("text", ["2024-1-1", "2024-02-30", "01/02/2024", "2024", "2024-01-01Z", "x"])
def test_a_constant_is_a_whole_date(text: str) -> None:
    """Anything else is told by the mapping."""
    assert moments.moment(text) is None
