"""The topics of a log: their names, how they are made, and what is asked of those that are there.

`<name>.changes`: N partitions, compacted after 14 days; `<name>.schemas`: one partition, compacted at leisure.
Existing topics are never altered: what would break a guarantee is a LogError with the way out.
"""

from __future__ import annotations

from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from time import sleep, time
from typing import Any, Final

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not in the way mypy asks for
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
)

from connector.errors import LogError
from connector.log.contract import Durability
from connector.log.kafka_cluster import LARGEST_RECORD, Cluster, Deadline, error_of

_COMPACTION_LAG_MS: Final = 14 * 24 * 60 * 60 * 1000
"""Intermediate states outlive any outage that is still being repaired (DESIGN section 3)."""
_SOUND_REPLICAS: Final = 3
_SOUND_IN_SYNC: Final = 2


def changes_topic(name: str) -> str:
    """The topic of the changes."""
    return f"{name}.changes"


def schemas_topic(name: str) -> str:
    """The topic of the Avro schemas."""
    return f"{name}.schemas"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the cluster describes it. `ready`: every partition has a leader."""

    name: str
    partitions: int
    replicas: int
    ready: bool


class Topics:
    """Asks the cluster about topics."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._admin: AdminClient = cluster.admin()

    def find(self, names: list[str]) -> dict[str, Topic]:
        """Those of the topics that are there. Asking never makes one."""
        futures = self._admin.describe_topics(TopicCollection(names), request_timeout=self._cluster.patience.connect)
        found = {}
        for name, future in futures.items():
            try:
                described = self._result("look for the topic", name, future)
            except _Missing:
                continue
            found[name] = Topic(
                name,
                len(described.partitions),
                min(len(partition.replicas) for partition in described.partitions),
                all(partition.leader is not None and partition.leader.id >= 0 for partition in described.partitions),
            )
        return found

    def ensure(self, name: str, partitions: int) -> None:
        """Make what is missing of a log's two topics, and refuse what does not fit."""
        wanted = {changes_topic(name): partitions, schemas_topic(name): 1}
        deadline = Deadline(self._cluster.patience.connect)
        found = self.find(list(wanted))
        for topic in found.values():
            self._check(topic, wanted[topic.name])
        missing = [topic for topic in wanted if topic not in found]
        if missing:
            self._create({topic: wanted[topic] for topic in missing})
        while not all(topic in found and found[topic].ready for topic in wanted):
            if deadline.left() == 0:
                raise self._cluster.unavailable(
                    "make the topics", ", ".join(wanted), "their partitions have no leader yet"
                )
            sleep(0.05)
            found = self.find(list(wanted))

    def brokers(self) -> int:
        """How many brokers the cluster has. LogUnavailable when none answers."""
        future = self._admin.describe_cluster(request_timeout=self._cluster.patience.connect)
        return len(self._result("count the brokers", self._cluster.settings.brokers, future).nodes)

    def _create(self, topics: dict[str, int]) -> None:
        settings = self._cluster.settings
        subject = ", ".join(topics)
        mend = (
            "set log.kafka.replication_factor and log.kafka.min_insync_replicas to what the cluster can give (sound:"
            f" {_SOUND_REPLICAS} and {_SOUND_IN_SYNC}; one broker for a trial: 1 and 1)"
        )
        if settings.min_insync_replicas > settings.replication_factor:
            raise LogError("make the topics", subject, "min_insync_replicas is larger than replication_factor", mend)
        brokers = self.brokers()
        if brokers < settings.replication_factor:
            raise LogError(
                "make the topics",
                subject,
                f"the cluster has {brokers} brokers, replication_factor asks for {settings.replication_factor}",
                mend,
            )
        config = {
            "cleanup.policy": "compact",
            "min.insync.replicas": str(settings.min_insync_replicas),
            "max.message.bytes": str(LARGEST_RECORD),
            "unclean.leader.election.enable": "false",
        }
        lag = {"min.compaction.lag.ms": str(_COMPACTION_LAG_MS)}
        futures = self._admin.create_topics(
            [
                NewTopic(
                    topic,
                    partitions,
                    settings.replication_factor,
                    config=config | lag if topic.endswith(".changes") else config,
                )
                for topic, partitions in topics.items()
            ],
            request_timeout=self._cluster.patience.connect,
        )
        for topic, future in futures.items():
            try:
                self._result("make the topic", topic, future)
            except _Exists:
                continue

    def _check(self, topic: Topic, partitions: int) -> None:
        if topic.partitions != partitions:
            raise LogError(
                "open the log",
                topic.name,
                f"the topic has {topic.partitions} partitions, the settings say {partitions}",
                f"set log.partitions to {topic.partitions}; for another number choose another name: (a new topic),"
                " and a new snapshot fills it"
                if topic.name.endswith(".changes")
                else f"delete the topic {topic.name} if it is not of emc-cdc, or choose another name:",
            )
        policy = self.config(topic.name).get("cleanup.policy", "compact")
        if policy != "compact":
            raise LogError(
                "open the log",
                topic.name,
                f"its cleanup.policy is {policy}: it would forget rows that are still true",
                f"kafka-configs.sh --alter --topic {topic.name} --add-config cleanup.policy=compact",
            )

    def config(self, topic: str) -> dict[str, str]:
        """The topic's settings in force, the brokers' defaults included."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        futures = self._admin.describe_configs([resource], request_timeout=self._cluster.patience.connect)
        entries = self._result("read the topic's settings", topic, futures[resource])
        return {name: entry.value for name, entry in entries.items()}

    def durability(self, name: str) -> Durability:
        """What durable means on `<name>.changes` as it is."""
        topic = changes_topic(name)
        replicas = self.find([topic])[topic].replicas
        config = self.config(topic)
        unclean = config.get("unclean.leader.election.enable") == "true"
        return judge(replicas, int(config["min.insync.replicas"]), unclean)

    def bounds(self, topic: str, partitions: int) -> dict[int, tuple[int, int]]:
        """For every partition, its first offset and its last stable offset (after everything committed)."""
        first = self.beginnings(topic, partitions)
        last = self.ends(topic, partitions)
        return {partition: (first[partition], last[partition]) for partition in range(partitions)}

    def beginnings(self, topic: str, partitions: int) -> dict[int, int]:
        """For every partition, its first offset. One request to each leader."""
        return self._offsets(topic, partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    def ends(self, topic: str, partitions: int) -> dict[int, int]:
        """For every partition, its last stable offset. One request to each leader."""
        return self._offsets(topic, partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def complete_from(self, topic: str, partitions: int) -> dict[int, int]:
        """For every partition, the first offset that is too young to be compacted; its end when there is none."""
        lag = int(self.config(topic).get("min.compaction.lag.ms", "0"))
        young = OffsetSpec.for_timestamp(max(0, int(time() * 1000) - lag))
        found = self._offsets(topic, partitions, young, absent=True)
        ends = self.ends(topic, partitions)
        if min(found.values()) < 0:
            # A leader that did not answer looks the same as a partition without such a record; it does now.
            found = self._offsets(topic, partitions, young, absent=True)
        return {partition: ends[partition] if offset < 0 else offset for partition, offset in found.items()}

    def _offsets(self, topic: str, partitions: int, spec: OffsetSpec, *, absent: bool = False) -> dict[int, int]:
        """`absent`: a partition may have no such offset, which is told as a negative one."""
        futures = self._admin.list_offsets(
            {TopicPartition(topic, partition): spec for partition in range(partitions)},
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=self._cluster.patience.connect,
        )
        offsets = {}
        for place, future in futures.items():
            offset = self._result("read the ends of the log", topic, future).offset
            if offset < 0 and not absent:
                # librdkafka gives a partition whose leader did not answer no error, only no offset.
                raise self._cluster.unavailable("read the ends of the log", topic, "no answer")
            offsets[place.partition] = offset
        return offsets

    def _result(self, operation: str, subject: str, future: Any) -> Any:
        """A future's result, bounded; librdkafka bounds the request itself, the second bound is for its queue."""
        try:
            result = future.result(self._cluster.patience.connect + 5)
        except KafkaException as exception:
            error = error_of(exception)
            match error.code():
                case KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise _Missing from exception
                case KafkaError.TOPIC_ALREADY_EXISTS:
                    raise _Exists from exception
            self._admin.poll(0)
            raise self._cluster.explain(operation, subject, error) from exception
        except FutureTimeout as exception:
            raise self._cluster.unavailable(operation, subject, "no answer") from exception
        self._cluster.heard_from()
        return result


def judge(replicas: int, in_sync: int, unclean: bool) -> Durability:
    """What durable means on a topic with so many replicas, `min.insync.replicas`, and unclean leader election."""
    words = f"Kafka with acks=all: replication factor {replicas}, min.insync.replicas {in_sync}"
    if unclean:
        return Durability(False, f"{words}, unclean.leader.election.enable: a late replica may lead and lose changes")
    if replicas >= _SOUND_REPLICAS and in_sync >= _SOUND_IN_SYNC:
        return Durability(True, f"{words}: no change is lost with one broker")
    return Durability(
        False,
        f"{words}: the loss of one disk can lose changes that PostgreSQL no longer keeps (sound:"
        f" {_SOUND_REPLICAS} and {_SOUND_IN_SYNC})",
    )


class _Missing(Exception):
    """There is no such topic."""


class _Exists(Exception):
    """Somebody else has just made the topic."""
