"""The topics of a log: their names, how they are made, and what is asked of those that are there.

`<name>.changes`: N partitions, compacted after 14 days; `<name>.schemas`: one partition, compacted at leisure.
`<name>.emc-events`: N partitions, compacted after 14 days; so the last record of each, which says where publishing
stands, is never removed.
Existing topics are never altered: what would break a guarantee is a LogError with the way out, everything at once
(connector.log.kafka_rules); what weakens one is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures import wait
from time import sleep, time
from typing import Any, Final

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not in the way mypy asks for
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
)

from connector.errors import LogError, LogUnavailable
from connector.log.contract import Concern, Durability
from connector.log.kafka_access import BESIDE, CAPTURE, DELIVER, User, group_fault, missing_rights
from connector.log.kafka_cluster import Cluster, Deadline, error_of
from connector.log.kafka_group import may_use_group
from connector.log.kafka_rules import (
    NEW_LOG,
    SOUND_IN_SYNC,
    SOUND_REPLICAS,
    TRANSACTION_LOG,
    Fault,
    Topic,
    judge_partitions,
    judge_replicas,
    judge_settings,
    judge_transaction_log,
    made_with,
)

_OPEN: Final = "open the log"
_LEADERLESS: Final = frozenset({
    KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._NOENT,
})  # fmt: skip
"""What is said of partitions whose leader is just being found."""
_64_BITS: Final = (1 << 64) - 1


def changes_topic(name: str) -> str:
    """The topic of the changes."""
    return f"{name}.changes"


def schemas_topic(name: str) -> str:
    """The topic of the Avro schemas."""
    return f"{name}.schemas"


def events_topic(name: str) -> str:
    """The topic of the events that EMC is told, for other consumers."""
    return f"{name}.emc-events"


class Topics:
    """Asks the cluster about topics."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._admin: AdminClient = cluster.admin()

    def find(self, names: list[str]) -> dict[str, Topic]:
        """Those of the topics that are there. Asking never makes one."""
        futures = self._admin.describe_topics(
            TopicCollection(names),
            include_authorized_operations=True,
            request_timeout=self._cluster.patience.connect,
        )
        found = {}
        for name, future in futures.items():
            try:
                described = self._result("look for the topic", name, future)
            except _Missing:
                continue
            operations = described.authorized_operations
            found[name] = Topic(
                name,
                [[node.id for node in partition.replicas] for partition in described.partitions],
                [len(partition.isr) for partition in described.partitions],
                all(partition.leader is not None and partition.leader.id >= 0 for partition in described.partitions),
                None if operations is None else frozenset(operation.name for operation in operations),
                str(described.topic_id),
            )
        return found

    def ensure(self, name: str, partitions: int) -> tuple[Concern, ...]:
        """Make what is missing of a log's two topics, and refuse what breaks a promise; what weakens one is returned.

        LogError with everything that is to be mended.
        """
        return self._ensure(name, {changes_topic(name): partitions, schemas_topic(name): 1}, CAPTURE)

    def ensure_beside(self, name: str, topic: str, partitions: int) -> tuple[Concern, ...]:
        """The same for a topic that stands beside the changes, and for the schemas that its records name."""
        return self._ensure(name, {topic: partitions, schemas_topic(name): 1}, BESIDE)

    def _ensure(self, name: str, wanted: Mapping[str, int], user: User) -> tuple[Concern, ...]:
        deadline = Deadline(self._cluster.patience.connect)
        found = self.find(list(wanted))
        faults = self.faults(name, found, user, wanted)
        _refuse(faults)
        missing = {topic: count for topic, count in wanted.items() if topic not in found}
        foreign = self._create(missing) if missing else set()
        while not all(topic in found and found[topic].ready for topic in wanted):
            if deadline.left() == 0:
                raise self._cluster.unavailable(
                    "make the topics", ", ".join(wanted), "their partitions have no leader yet"
                )
            sleep(0.05)
            found = self.find(list(wanted))
        if foreign:
            faults = self.faults(name, found, user, wanted)
            _refuse(faults)
        return concerns_of(faults)

    def faults(
        self, name: str, found: Mapping[str, Topic], user: User, wanted: Mapping[str, int] | None = None
    ) -> list[Fault]:
        """Everything about the topics that are there that is not as it must be.

        wanted: how many partitions each must have, of those that are to be written; None when they are only read.
        """
        asked = self._cluster.settings
        faults = self.lacking(name, found, user)
        brokers: Sequence[int] | None = None
        for topic in found.values():
            if wanted is not None:
                faults += judge_partitions(topic, wanted[topic.name])
            if topic.shows_settings:
                faults += judge_settings(topic, self.config(topic.name), asked)
            if topic.replicas < asked.replication_factor:
                brokers = self.brokers() if brokers is None else brokers
                faults += judge_replicas(topic, brokers, asked)
        return faults

    def lacking(self, name: str, found: Mapping[str, Topic], user: User) -> list[Fault]:
        """The rights that a user lacks on the topics that are there, and on its group, whether that is there or not."""
        asked = self._cluster.settings
        faults = missing_rights(asked, found.values(), user)
        if not may_use_group(self._cluster, f"{name}{user.group}", changes_topic(name)):
            faults.append(group_fault(asked, user, name))
        return faults

    def concerns(self, name: str) -> tuple[Concern, ...]:
        """What weakens the promises of the log as it is, for one who reads it."""
        found = self.find([changes_topic(name), schemas_topic(name)])
        return concerns_of(self.faults(name, found, DELIVER))

    def same_partitions(self, name: str, partitions: int) -> None:
        """LogError when partitions were added to the changes while they were read: they would be left out."""
        topic = self.find([changes_topic(name)]).get(changes_topic(name))
        if topic is not None and topic.partitions != partitions:
            raise LogError(
                "read the log",
                topic.name,
                f"it had {partitions} partitions and has {topic.partitions} now",
                f"partitions cannot be taken away again: {NEW_LOG}",
            )

    def brokers(self) -> list[int]:
        """The ids of the cluster's brokers. LogUnavailable when none answers."""
        future = self._admin.describe_cluster(request_timeout=self._cluster.patience.connect)
        nodes = self._result("count the brokers", self._cluster.settings.brokers, future).nodes
        return sorted(node.id for node in nodes)

    def transaction_log_faults(self, brokers: Sequence[int]) -> list[Fault]:
        """The faults of the brokers' transaction log, if there is one yet and we may see it."""
        topic = self.find([TRANSACTION_LOG]).get(TRANSACTION_LOG)
        if topic is None:
            return []
        in_sync = int(self.config(TRANSACTION_LOG)["min.insync.replicas"])
        return judge_transaction_log(topic, in_sync, brokers, self._cluster.settings)

    def restricted(self) -> bool:
        """Whether our user may not do everything here, so that rights matter."""
        future = self._admin.describe_cluster(
            include_authorized_operations=True, request_timeout=self._cluster.patience.connect
        )
        operations = self._result("look at our rights", self._cluster.settings.brokers, future).authorized_operations
        return "CLUSTER_ACTION" not in {operation.name for operation in operations or ()}

    def try_to_create(self, name: str, partitions: int) -> None:
        """Ask whether the topics could be made, without making them. LogError when not."""
        self._create({changes_topic(name): partitions, schemas_topic(name): 1}, only_ask=True)

    def _create(self, topics: dict[str, int], *, only_ask: bool = False) -> set[str]:
        """Make topics; those that somebody else has just made, or that were not seen before, are returned."""
        settings = self._cluster.settings
        subject = ", ".join(topics)
        mend = (
            "set log.kafka.replication_factor and log.kafka.min_insync_replicas to what the cluster can give (sound:"
            f" {SOUND_REPLICAS} and {SOUND_IN_SYNC}; one broker for a trial: 1 and 1)"
        )
        if settings.min_insync_replicas > settings.replication_factor:
            raise LogError("make the topics", subject, "min_insync_replicas is larger than replication_factor", mend)
        brokers = len(self.brokers())
        if brokers < settings.replication_factor:
            raise LogError(
                "make the topics",
                subject,
                f"the cluster has {brokers} brokers, replication_factor asks for {settings.replication_factor}",
                mend,
            )
        futures = self._admin.create_topics(
            [
                NewTopic(topic, partitions, settings.replication_factor, config=made_with(topic, settings))
                for topic, partitions in topics.items()
            ],
            request_timeout=self._cluster.patience.connect,
            validate_only=only_ask,
        )
        foreign = set()
        for topic, future in futures.items():
            try:
                self._result("make the topic", topic, future)
            except _Exists:
                foreign.add(topic)
        return foreign

    def identity(self, topic: str) -> str:
        """The topic's id, which a topic that is made anew does not get again; empty from brokers before 2.8."""
        futures = self._admin.describe_topics(TopicCollection([topic]), request_timeout=self._cluster.patience.connect)
        found = self._result("look for the topic", topic, futures[topic]).topic_id
        high, low = found.get_most_significant_bits(), found.get_least_significant_bits()
        return f"{high & _64_BITS:016x}{low & _64_BITS:016x}" if high or low else ""

    def config(self, topic: str) -> dict[str, str]:
        """The topic's settings in force, the brokers' defaults included."""
        return self._config(ConfigResource(ConfigResource.Type.TOPIC, topic))

    def broker_config(self, broker: int) -> dict[str, str]:
        """A broker's settings in force."""
        return self._config(ConfigResource(ConfigResource.Type.BROKER, str(broker)))

    def _config(self, resource: ConfigResource) -> dict[str, str]:
        deadline = Deadline(self._cluster.patience.connect)
        while True:
            futures = self._admin.describe_configs([resource], request_timeout=self._cluster.patience.connect)
            try:
                entries = self._result("read the settings of", resource.name, futures[resource])
            except _Missing:
                # Each broker hears of a new topic in its own time.
                if deadline.left() == 0:
                    raise self._unknown("read the settings of", resource.name) from None
                sleep(0.05)
            else:
                return {name: entry.value for name, entry in entries.items() if entry.value is not None}

    def _unknown(self, operation: str, topic: str) -> LogUnavailable:
        return self._cluster.unavailable(operation, topic, "a broker does not know the topic")

    def durability(self, name: str) -> Durability:
        """What durable means on `<name>.changes` as it is."""
        topic = changes_topic(name)
        config = self.config(topic)
        deadline = Deadline(self._cluster.patience.connect)
        while (found := self.find([topic]).get(topic)) is None:
            if deadline.left() == 0:
                raise self._unknown("look for the topic", topic)
            sleep(0.05)
        replicas = found.replicas
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

    def require_in_sync(self, topic: str) -> None:
        """LogUnavailable when a partition has too few replicas in sync to take anything.

        An append would say so only by taking longer than it may: the client tries again until then.
        """
        found = self.find([topic]).get(topic)
        if found is None or not found.shows_settings:
            return
        least = int(self.config(topic)["min.insync.replicas"])
        for partition, in_sync in enumerate(found.in_sync):
            if in_sync < least:
                raise LogUnavailable(
                    _OPEN,
                    f"{topic}, partition {partition}",
                    f"replicas in sync: {in_sync}, and min.insync.replicas is {least}: nothing is taken",
                    "bring back the brokers that are away; which: kafka-topics.sh --bootstrap-server"
                    f" {self._cluster.settings.brokers} --describe --topic {topic}",
                )

    def require_settled(self, topic: str, partitions: int) -> None:
        """Wait until no transaction is open on the topic. LogUnavailable when one stays.

        Ours have ended by the time that earlier writers are fenced. Behind one of somebody else's nothing is seen by
        those who read committed, so the tails would not be the last records of ours, and they would be written again.
        """
        deadline = Deadline(self._cluster.patience.connect)
        while True:
            written = self._offsets(topic, partitions, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)  # type: ignore[no-untyped-call]
            stable = self.ends(topic, partitions)
            behind = [partition for partition, end in written.items() if stable[partition] < end]
            if not behind:
                return
            if deadline.left() == 0:
                raise LogUnavailable(
                    _OPEN,
                    f"{topic}, partition {behind[0]}",
                    "another producer has a transaction open there, behind which nothing can be read",
                    "it ends by its own timeout; if not, have the producer stopped, and: kafka-transactions.sh"
                    f" --bootstrap-server {self._cluster.settings.brokers} abort --topic {topic} --partition"
                    f" {behind[0]} --start-offset {stable[behind[0]]}; only capture may write to this topic",
                )
            sleep(0.05)

    def _offsets(
        self,
        topic: str,
        partitions: int,
        spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
        *,
        absent: bool = False,
    ) -> dict[int, int]:
        """`absent`: a partition may have no such offset, which is told as a negative one.

        What has just come back, or was just made, has no leader for a moment: it is waited for.
        """
        deadline = Deadline(self._cluster.patience.connect)
        while True:
            try:
                return self._offsets_now(topic, partitions, spec, isolation, absent)
            except LogUnavailable as unavailable:
                code = _code(unavailable)
                if code == KafkaError.OFFSET_NOT_AVAILABLE:
                    self.require_in_sync(topic)  # a new leader waits for its replicas: say for how many
                if code not in _LEADERLESS or deadline.left() == 0:
                    raise
            sleep(0.05)

    def _offsets_now(
        self, topic: str, partitions: int, spec: OffsetSpec, isolation: IsolationLevel, absent: bool
    ) -> dict[int, int]:
        futures = self._admin.list_offsets(
            {TopicPartition(topic, partition): spec for partition in range(partitions)},
            isolation_level=isolation,
            request_timeout=self._cluster.patience.connect,
        )
        offsets = {}
        for place, future in futures.items():
            try:
                offset = self._result("read the ends of the log", topic, future).offset
            except _Missing as missing:
                # With Kafka's own word as its cause, by which `_offsets` knows that this passes.
                raise self._unknown("read the ends of the log", topic) from missing.__cause__
            if offset < 0 and not absent:
                # librdkafka gives a partition whose leader did not answer no error, only no offset.
                raise self._cluster.unavailable("read the ends of the log", topic, "no answer")
            offsets[place.partition] = offset
        return offsets

    def _result(self, operation: str, subject: str, future: Any) -> Any:
        """A future's result, bounded; librdkafka bounds the request itself, the second bound is for its queue.

        A login that the brokers refuse ends the waiting: librdkafka would try it again all the time.
        """
        deadline = Deadline(self._cluster.patience.connect + 5)
        try:
            while not future.done() and deadline.left() and not self._cluster.login_refused:
                wait([future], 0.2)
                self._admin.poll(0)
            # Another broker may still take it.
            result = future.result(1.0)
        except KafkaException as exception:
            error = error_of(exception)
            match error.code():
                case KafkaError.UNKNOWN_TOPIC_OR_PART:
                    mend = (
                        "start `emc-cdc capture`, which makes it; check name: and log.kafka.brokers if it runs already"
                    )
                    raise _Missing(operation, subject, "there is no such topic yet", mend) from exception
                case KafkaError.TOPIC_ALREADY_EXISTS:
                    raise _Exists from exception
            self._admin.poll(0)
            raise self._cluster.explain(operation, subject, error) from exception
        except FutureTimeout as exception:
            cause = "the brokers refuse the login" if self._cluster.login_refused else "no answer"
            raise self._cluster.unavailable(operation, subject, cause) from exception
        self._cluster.heard_from()
        return result


def judge(replicas: int, in_sync: int, unclean: bool) -> Durability:
    """What durable means on a topic with so many replicas, `min.insync.replicas`, and unclean leader election."""
    words = f"Kafka with acks=all: replication factor {replicas}, min.insync.replicas {in_sync}"
    if unclean:
        return Durability(False, f"{words}, unclean.leader.election.enable: a late replica may lead and lose changes")
    if replicas >= SOUND_REPLICAS and in_sync >= SOUND_IN_SYNC:
        return Durability(True, f"{words}: no change is lost with one broker")
    return Durability(
        False,
        f"{words}: the loss of one disk can lose changes that PostgreSQL no longer keeps (sound:"
        f" {SOUND_REPLICAS} and {SOUND_IN_SYNC})",
    )


def concerns_of(faults: Sequence[Fault]) -> tuple[Concern, ...]:
    """The faults that are told and stop nothing."""
    return tuple(Concern(fault.topic, fault.what, fault.mend) for fault in faults if not fault.stops)


def _refuse(all_faults: Sequence[Fault]) -> None:
    """Raise one error for all faults that stop."""
    faults = [fault for fault in all_faults if fault.stops]
    if not faults:
        return
    mend = "\n".join(line for fault in faults for line in fault.mend)
    if len(faults) == 1:
        raise LogError(_OPEN, faults[0].topic, faults[0].what, mend)
    told = "".join(f"\n{fault.topic}: {fault.what}" for fault in faults)
    subject = ", ".join(dict.fromkeys(fault.topic for fault in faults))
    raise LogError(_OPEN, subject, f"{len(faults)} faults{told}", mend)


def _code(error: LogError) -> int | None:
    """Of librdkafka's error that an error tells."""
    return error_of(error.__cause__).code() if isinstance(error.__cause__, KafkaException) else None


class _Missing(LogUnavailable):
    """There is no such topic, or the broker does not know of it yet."""


class _Exists(Exception):
    """Somebody else has just made the topic."""
