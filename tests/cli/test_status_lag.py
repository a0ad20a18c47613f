"""`emc-cdc status` tells how far delivery is behind the log, on either kind of log."""

from __future__ import annotations

import json

import pytest
from delivery.delivery_story import DOSSIER, create, dossier
from logged import PARTITIONS, Logged

from connector.delivery.directory import partition_path
from connector.delivery.lag import Lag, lags
from connector.delivery.state import PartitionState
from connector.log.opening import open_reader

STEP = 0x100 / 1e6
"""Seconds between two transactions of a story."""


def behind(logged: Logged, offsets: dict[int, int], sample: int = 500) -> dict[int, Lag]:
    reader = open_reader(logged.settings)
    try:
        return lags(reader, offsets, sample)
    finally:
        reader.close()


def test_the_lag_is_counted(logged: Logged) -> None:
    """A short backlog is counted: records, their bytes, and seconds from the last folded record to the last one."""
    numbers = [n for n in range(1, 30) if logged.story.partition_of(n) == 1][:5]
    for number in numbers:
        logged.story.transaction(create(DOSSIER, dossier(number)))
    records = logged.records(5)
    rest = records[2:]
    size = sum(len(record.key) + len(record.value) for record in rest)
    assert behind(logged, {0: 0, 1: records[1].offset + 1}) == {
        0: Lag(0, 0, 0.0, True),
        1: Lag(3, size, pytest.approx(3 * STEP), True),
    }
    assert behind(logged, {1: 0})[1].seconds == pytest.approx(4 * STEP)


def test_nothing_is_behind_at_the_end(logged: Logged) -> None:
    """After the last record the lag is 0, though on Kafka a commit marker follows it."""
    logged.story.transaction(create(DOSSIER, dossier(1)))
    [record] = logged.records(1)
    assert behind(logged, {record.partition: record.offset + 1}) == {record.partition: Lag(0, 0, 0.0, True)}


def test_a_long_backlog_is_estimated(logged: Logged) -> None:
    """Beyond the sample the records are told by offsets and the bytes by the sample; seconds stay true."""
    numbers = [n for n in range(100, 200) if logged.story.partition_of(n) == 0][:40]
    logged.story.transaction(*(create(DOSSIER, dossier(number)) for number in numbers))
    logged.story.transaction(create(DOSSIER, dossier(numbers[0])))
    records = logged.records(41)
    size = sum(len(record.key) + len(record.value) for record in records)
    lag = behind(logged, {0: 0}, sample=10)[0]
    assert not lag.exact
    assert 41 <= lag.records <= 43
    assert lag.bytes == pytest.approx(size, rel=0.1)
    assert lag.seconds == pytest.approx(STEP)


def test_an_offset_of_another_log_has_no_lag(logged: Logged) -> None:
    """What the log does not hold is left out, not made 0: deliver will say what is wrong."""
    assert behind(logged, {0: 1000, 7: 0}) == {}


def test_status_shows_it(logged: Logged) -> None:
    """JSON has the lag of each partition, the table shows it; null where the log cannot say."""
    for number in range(1, 9):
        logged.story.transaction(create(DOSSIER, dossier(number)))
    records = logged.records(8)
    (logged.directory / "state").mkdir()
    for partition in range(PARTITIONS):
        path = partition_path(logged.directory / "state", logged.settings.name, partition)
        PartitionState(path, logged.settings.name, partition).close()
    found = json.loads(logged.run("status", "--json", code=1).stdout)["delivery"]["partitions"]
    for partition in range(PARTITIONS):
        mine = [record for record in records if record.partition == partition]
        lag = found[partition]["lag"]
        assert (lag["records"], lag["exact"]) == (len(mine), True)
        assert lag["bytes"] == sum(len(record.key) + len(record.value) for record in mine)
        assert lag["seconds"] > 0
