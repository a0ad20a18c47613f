"""How far the fold is behind the log, per partition: records, bytes and seconds, on either kind of log.

Contract: reads only, through a reader of its own; what it reads is bounded by `_SAMPLE` records a partition, however
long the backlog. Within the sample records and bytes are counted; beyond it records are told by offsets (on Kafka
these count commit markers and what compaction took away, too) and bytes are estimated from the sample's share of the
offsets; `exact` says which. Bytes are of keys and values as they were appended, before a backend's compression.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from connector.change.decoding import ChangeDecoder
from connector.change.envelope import MESSAGE_KEY, row_key
from connector.log.contract import LogReader

_SAMPLE: Final = 500
_NO_KEY: Final = row_key(MESSAGE_KEY, ())
"""Stands for the key of a tail, which comes without one; what is asked of it is in its value."""


@dataclass(frozen=True, slots=True)
class Lag:
    """seconds: commit time of the log's last record less that of the last one folded.

    Where that one is gone (compaction) or nothing was folded yet, it counts from the first record that follows.
    """

    records: int
    bytes: int
    seconds: float
    exact: bool


@dataclass(slots=True)
class _Sample:
    records: int = 0
    bytes: int = 0
    since_us: int | None = None
    reached: int = 0


def lags(reader: LogReader, offsets: Mapping[int, int], sample: int = _SAMPLE) -> dict[int, Lag]:
    """The lag of every partition whose offset (the next record to fold) the log may hold; others are left out."""
    beginnings, ends = reader.beginnings(), reader.ends()
    held = {number: offset for number, offset in offsets.items() if number in ends and offset <= ends[number]}
    decoder = ChangeDecoder(reader.schema)
    samples = {number: _Sample(reached=max(offset - 1, beginnings[number])) for number, offset in held.items()}
    reading = {number: one.reached for number, one in samples.items() if one.reached < ends[number]}
    while reading:
        # One partition's long backlog must not keep the others waiting, so what was seen enough of is let go.
        reader.assign(reading)
        among = len(reading)
        while len(reading) == among:
            for record in reader.poll(0.2, sample):
                one = samples[record.partition]
                if one.since_us is None:
                    one.since_us = decoder.decode(record.key, record.value).commit_time_us
                if held[record.partition] <= record.offset < ends[record.partition] and one.records < sample:
                    one.records += 1
                    one.bytes += len(record.key) + len(record.value)
                    one.reached = record.offset + 1
            positions = reader.positions()
            reading = {
                number: positions[number]
                for number in reading
                if samples[number].records < sample and positions[number] < ends[number]
            }
            for number in positions.keys() - reading.keys():
                if samples[number].records < sample:
                    samples[number].reached = ends[number]
    tails = reader.tails()
    found = {}
    for number, offset in held.items():
        one = samples[number]
        seconds = 0.0
        if one.records and one.since_us is not None and number in tails:
            seconds = max(0.0, (decoder.decode(_NO_KEY, tails[number]).commit_time_us - one.since_us) / 1e6)
        exact = not one.records or one.reached >= ends[number]
        behind = ends[number] - offset
        share = 1.0 if exact else behind / (one.reached - offset)
        found[number] = Lag(one.records if exact else behind, round(one.bytes * share), seconds, exact)
    return found
