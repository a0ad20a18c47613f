"""What Debezium's topics hold that was not folded yet, for those who only look."""

from __future__ import annotations

import json
from dataclasses import dataclass

from connector.change.selection import Selection
from connector.debezium.topics import table_topics
from connector.log.kafka_access import DELIVER
from connector.log.kafka_cluster import Cluster, Patience
from connector.log.kafka_topics import Topics
from connector.settings import Settings


@dataclass(frozen=True, slots=True)
class Backlog:
    """topics: those that are there; records: not folded yet, by offsets; phase: of the reading, empty at first."""

    topics: tuple[str, ...]
    records: int
    phase: str


def backlog(settings: Settings, selection: Selection, place: bytes) -> Backlog:
    """By the place that the delivery state has. LogError when Kafka cannot be asked."""
    kafka, debezium = settings.log.kafka, settings.log.debezium
    assert kafka is not None
    assert debezium is not None
    topics = Topics(Cluster(kafka, Patience(), settings.name, DELIVER))
    stored = json.loads(place) if place else {}
    lanes = stored.get("lanes", {})
    records = 0
    found = topics.find(list(table_topics(debezium, selection)))
    for topic in found.values():
        for partition, (beginning, end) in topics.bounds(topic.name, topic.partitions).items():
            lane = lanes.get(f"{topic.name}/{partition}")
            records += max(0, end - (beginning if lane is None else lane[0]))
    return Backlog(tuple(sorted(found)), records, stored.get("phase", ""))
