"""What stands in `<name>.emc-events`, read with clients that share no code with ours, and what the ledger has."""

from __future__ import annotations

import io
import json
import sqlite3
import time
from collections import defaultdict
from contextlib import closing
from typing import Any, NamedTuple

import fastavro
from log.other_client import KafkaConsumer, TopicPartition

from connector.delivery.directory import partition_files
from connector.settings import Settings

_PATIENCE = 60.0


class Published(NamedTuple):
    """A record of the topic."""

    partition: int
    offset: int
    key: str
    event: dict[str, Any]


def published(settings: Settings) -> list[Published]:
    """Everything that is committed, by partition and offset; nothing when there is no such topic yet."""
    records = read_topic(settings, f"{settings.name}.emc-events")
    # A schema is there before the first record that names it.
    schemas = {int(key): json.loads(value) for _, _, key, value in read_topic(settings, f"{settings.name}.schemas")}
    found = []
    for partition, offset, key, value in records:
        assert value[0] == 0
        schema = fastavro.parse_schema(schemas[int.from_bytes(value[1:5], "big")])
        event: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None)
        found.append(Published(partition, offset, key.decode(), event))
    return found


def statuses(settings: Settings) -> dict[str, list[int]]:
    """What the topic tells of each dossier number, in order."""
    found: dict[str, list[int]] = defaultdict(list)
    for record in published(settings):
        found[record.event["CodeProfile"]].append(record.event["Status"])
    return dict(found)


def ids(settings: Settings) -> list[str]:
    """The names of the events in the topic, partition by partition."""
    return [record.event["judgement"]["id"] for record in published(settings)]


def ledger(settings: Settings) -> list[dict[str, Any]]:
    """The events of the ledger as the topic must have them, partition by partition, in the order of judgement."""
    found = []
    for partition, path in partition_files(settings.delivery.state, settings.name):
        with closing(sqlite3.connect(path)) as db:
            for event, position, ordinal, transaction, at, mapping, recovered in db.execute(
                "SELECT event, position, ordinal, transaction_id, commit_time_us, mapping, recovered"
                " FROM events ORDER BY id"
            ):
                judgement = {
                    "id": f"{settings.name}/{partition}/{position}/{ordinal}",
                    "position": position,
                    "ordinal": ordinal,
                    "transaction": transaction,
                    "commit_time": at,
                    "mapping": mapping,
                    "recovered": bool(recovered),
                }
                found.append(json.loads(event) | {"judgement": judgement})
    return found


def events(settings: Settings) -> list[dict[str, Any]]:
    """The topic's events in the same form."""
    found = []
    for record in published(settings):
        judgement = record.event["judgement"]
        at = judgement["commit_time"]
        found.append(record.event | {"judgement": judgement | {"commit_time": round(at.timestamp() * 1e6)}})
    return found


def read_topic(settings: Settings, topic: str) -> list[tuple[int, int, bytes, bytes]]:
    """Partition, offset, key and value of every committed record."""
    assert settings.log.kafka is not None
    consumer = KafkaConsumer(
        bootstrap_servers=settings.log.kafka.brokers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        group_id=None,
    )
    try:
        places = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(places)
        ends = consumer.end_offsets(places) if places else {}
        found: list[tuple[int, int, bytes, bytes]] = []
        deadline = time.monotonic() + _PATIENCE
        while any(consumer.position(place) < end for place, end in ends.items()):
            assert time.monotonic() < deadline, "the topic's end is not reached"
            for records in consumer.poll(200).values():
                found += [(record.partition, record.offset, record.key, record.value) for record in records]
        return sorted(found, key=lambda record: record[:2])
    finally:
        consumer.close()
