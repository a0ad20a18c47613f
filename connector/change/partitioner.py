"""Which partition a dossier's records go to.

Contract: the same partition that Apache Kafka's default partitioner gives a record with these key bytes, so that any
client which partitions by dossier key agrees with us: murmur2 (32 bits, seed 0x9747b28c), sign bit cleared, modulo
the number of partitions. The number is part of a log's identity: another number sends a dossier elsewhere.
Source: Kafka's `BuiltInPartitioner.partitionForKey`; MurmurHash2 by Austin Appleby, which is in the public domain.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache, partial

_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995
_MASK = 0xFFFFFFFF


def partition_of(dossier_key: bytes, partitions: int, hashed: Callable[[bytes], int] | None = None) -> int:
    """The partition, from 0 to `partitions` - 1, of a dossier key. `partitions` is at least 1."""
    return ((hashed or murmur2)(dossier_key) & 0x7FFFFFFF) % partitions


def partitioner(
    partitions: int, hashed: Callable[[bytes], int] | None = None, remembered: int = 65536
) -> Callable[[bytes], int]:
    """`partition_of` for a fixed number of partitions, remembering the keys it was asked last.

    A dossier comes back within its transaction and soon after it, and a remembered key costs a small part of a
    hash. At most `remembered` keys are kept (some 200 bytes each). hashed: `murmur2`, or a faster one that is equal.
    """
    return lru_cache(remembered)(partial(partition_of, partitions=partitions, hashed=hashed))


@lru_cache(1024)
def _words(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}I")


def murmur2(data: bytes) -> int:
    """MurmurHash2 of `data`, as an unsigned 32-bit number."""
    length = len(data)
    h = _SEED ^ length
    whole = length & ~3
    for word in _words(length >> 2).unpack_from(data):
        k = word * _MULTIPLIER & _MASK
        h = (h * _MULTIPLIER & _MASK) ^ ((k ^ k >> 24) * _MULTIPLIER & _MASK)
    if whole != length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _MASK
    h = (h ^ h >> 13) * _MULTIPLIER & _MASK
    return h ^ h >> 15
