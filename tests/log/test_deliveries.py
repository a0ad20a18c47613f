"""Where deliver's state is recorded: both backends keep the same promises."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator

import pytest
from logs_under_test import Log

from connector.errors import LogFenced, LogUnavailable
from connector.log.deliveries import Deliveries, deliveries_of
from connector.log.embedded_deliveries import committed_offsets, deliveries_file
from connector.log.pair import Pair

Open = Callable[[int], Deliveries]


@pytest.fixture
def store_of(log: Log) -> Iterator[Open]:
    """Makes stores, not opened; they are closed after the test."""
    log.writer().open()
    made: list[Deliveries] = []

    def make(partition: int) -> Deliveries:
        made.append(deliveries_of(log.settings, partition))
        return made[-1]

    yield make
    for store in made:
        store.close()


def kept(store: Deliveries) -> dict[bytes, bytes]:
    """What counts of all that is read: the last of every key."""
    return {key: value for key, value in dict(store.read()).items() if value}


def test_the_last_record_of_a_key_counts(store_of: Open) -> None:
    """An empty value takes the key away; another partition has records of its own."""
    store, other = store_of(0), store_of(1)
    assert store.open() is None
    other.open()
    store.append([Pair(b"a", b"1"), Pair(b"b", b"2"), Pair(b"head", b"3")], 5)
    store.append([Pair(b"a", b""), Pair(b"b", b"4"), Pair(b"head", b"6")], 7)
    other.append([Pair(b"a", b"8")])
    again = store_of(0)
    assert again.open() == b"6"
    assert kept(again) == {b"b": b"4", b"head": b"6"}
    assert kept(other) == {b"a": b"8"}


def test_who_opens_a_partition_fences_who_had_it(store_of: Open) -> None:
    """What the fenced one appends is not there, and its partition is the other's only."""
    first, bystander = store_of(0), store_of(1)
    first.open()
    bystander.open()
    first.append([Pair(b"a", b"1")], 1)
    second = store_of(0)
    assert second.open() == b"1"
    with pytest.raises(LogFenced):
        first.append([Pair(b"a", b"2")], 2)
    bystander.append([Pair(b"c", b"3")], 1)
    second.append([Pair(b"b", b"4")], 3)
    assert kept(second) == {b"a": b"1", b"b": b"4"}


def test_an_append_that_fails_adds_nothing(store_of: Open) -> None:
    """Whatever it failed of, here its records: the next one begins where the store was."""

    def cut() -> Iterator[Pair]:
        yield Pair(b"a", b"2")
        raise sqlite3.OperationalError("disk I/O error")

    store = store_of(0)
    store.open()
    store.append([Pair(b"a", b"1")], 1)
    with pytest.raises(Exception, match=r"disk I/O error|SQLite says"):
        store.append(cut(), 2)
    store.close()
    again = store_of(0)
    assert again.open() == b"1"
    assert kept(again) == {b"a": b"1"}


def test_many_records_in_one_append(store_of: Open) -> None:
    """More than a client's queue holds at once."""
    store = store_of(0)
    store.open()
    store.append((Pair(b"%d" % number, b"x" * 100) for number in range(120_000)), 1)
    again = store_of(0)
    again.open()
    assert len(kept(again)) == 120_000


def test_what_is_not_open_says_so(store_of: Open) -> None:
    """A defect of the caller is told, not written."""
    with pytest.raises(LogUnavailable, match="not open"):
        store_of(0).append([Pair(b"a", b"1")])


def test_the_embedded_offsets_are_seen_from_elsewhere(embedded_log: Log) -> None:
    """Capture asks for them before it compacts; an append without one leaves it."""
    assert embedded_log.settings.log.embedded is not None
    path = embedded_log.settings.log.embedded.path
    assert committed_offsets(path) == {}
    store = deliveries_of(embedded_log.settings, 1)
    store.open()
    assert committed_offsets(path) == {}
    store.append([Pair(b"a", b"1")], 5)
    store.append([Pair(b"a", b"2")])
    assert committed_offsets(path) == {1: 5}
    assert deliveries_file(path).stat().st_mode & 0o777 == 0o600
    store.close()
