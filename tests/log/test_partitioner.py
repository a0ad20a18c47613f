"""Dossier keys find the partition that every Kafka client finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from other_client import murmur2

from connector.change.partitioner import partition_of, partitioner


@given(st.binary(max_size=80), st.integers(1, 1000))
def test_partitions_agree_with_another_client(key: bytes, partitions: int) -> None:
    """Any key goes where kafka-python's default partitioner sends it, remembered or not."""
    expected = (murmur2(key) & 0x7FFFFFFF) % partitions
    assert partition_of(key, partitions) == expected
    find = partitioner(partitions, remembered=1)
    assert [find(key), find(b"another"), find(key)] == [expected, find(b"another"), expected]


def test_known_keys() -> None:
    """Keys of every length class keep their partition for good: a change here would tear dossiers apart."""
    keys = (b"", b"7", b"10", b"123", b"1042", b"000.00.11.H56-191203-1508")
    assert [partition_of(key, 12) for key in keys] == [9, 3, 10, 5, 11, 8]
