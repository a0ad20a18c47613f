"""`<name>.schemas`: every Avro schema of the log and of the topics beside it, by id.

A registry's ids count from 1. Without one, the writer of the changes, of which there is one at a time, counts its own
from `FIRST_OWN_ID`; writers beside the log, of which there are several, give a schema the id that its text makes
(`id_of_text`, from `FIRST_MADE_ID` on), so that they agree without asking each other and may write it twice.
Compaction may leave a schema twice, never change it.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

from connector.log.kafka_cluster import Cluster
from connector.log.kafka_scan import read_to_end
from connector.log.kafka_topics import Topics, schemas_topic

FIRST_OWN_ID: Final = 1_000_000_001
"""Ids we give ourselves count from here, so that a registry, whose ids count from 1, can be added later."""
FIRST_MADE_ID: Final = 1_500_000_001
_MADE_IDS: Final = 500_000_000


def read_schemas(topics: Topics, cluster: Cluster, name: str, group: str) -> dict[int, str]:
    """Every schema by its id."""
    topic = schemas_topic(name)
    first, _ = topics.bounds(topic, 1)[0]
    records = read_to_end(cluster, group, topic, {0: first})
    return {int(record.key() or b""): (record.value() or b"").decode() for record in records}


def own_id(schema: str, known: dict[int, str]) -> int:
    """The id of a schema that the one writer of the changes gives: the one it has, or the next."""
    counted = {number: text for number, text in known.items() if FIRST_OWN_ID <= number < FIRST_MADE_ID}
    for number, text in known.items():
        if text == schema:
            return number
    return max(counted, default=FIRST_OWN_ID - 1) + 1


def id_of_text(schema: str) -> int:
    """The id of a schema that writers beside the log give."""
    return FIRST_MADE_ID + crc32(schema.encode()) % _MADE_IDS
