"""Membership of the consumer group `<name>.deliver`: which partitions are ours, while other processes come and go.

Contract: on a thread of its own, which does nothing but ask Kafka, so that no work of ours can make it late
(`max.poll.interval.ms`). `take` hears of partitions that are `Gained`; of those that are `Asked` for, which are ours
until their `given_up` is set (only their own moving waits for that); and of those that are `Lost`, because Kafka has
not heard of us for the session's timeout. Others stay where they are (cooperative-sticky). Nothing is read here:
partitions are paused, and read by `KafkaReader` from where their state is.
The member has a name (`group.instance.id`): a process that is started again within the session's timeout finds its
partitions as they were.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connector.errors import ConnectorError, LogError, retryable
from connector.log.kafka_access import DELIVER
from connector.log.kafka_cluster import FENCED, Cluster, Patience
from connector.log.kafka_topic_writer import delivery_group
from connector.log.kafka_topics import changes_topic
from connector.settings import KafkaSettings

_POLL: Final = 0.2
"""Seconds."""
_PAUSE: Final = 1.0


@dataclass(frozen=True, slots=True)
class Gained:
    """These partitions are ours now."""

    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """These are to be given up: finish them, then set `given_up`."""

    partitions: tuple[int, ...]
    given_up: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Lost:
    """These are ours no more, and may be another's."""

    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """Membership has ended by this, or is in trouble and tries again (`fatal` False)."""

    error: ConnectorError
    fatal: bool


class Membership:
    """See the module's contract. member: this process's name; patience: seconds for giving up what is asked for."""

    def __init__(
        self,
        name: str,
        settings: KafkaSettings,
        member: str,
        patience: float,
        take: Callable[[Gained | Asked | Lost | Ended], None],
    ) -> None:
        self._topic = changes_topic(name)
        self._cluster = Cluster(settings, Patience(), name, DELIVER)
        self._member = member
        self._patience = patience
        self._take = take
        self._group = delivery_group(name)
        self._told = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="group", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Leave without a word: everything must have been given up. Waits for the thread."""
        self._stopping.set()
        if self._thread.ident is not None:  # it was started
            self._thread.join()

    def _run(self) -> None:
        try:
            consumer = self._cluster.member(self._group, self._member)
            try:
                consumer.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
                while not self._stopping.is_set():
                    message = consumer.poll(_POLL)
                    error = None if message is None else message.error()
                    if error is not None:
                        self._trouble(error)
            finally:
                consumer.close()
        except ConnectorError as error:
            self._take(Ended(error, fatal=True))
        except KafkaException as error:
            self._take(Ended(self._cluster.explain("join the group", self._group, error.args[0]), fatal=True))

    def _trouble(self, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            return
        explained: LogError = self._cluster.explain("take part in the group", self._group, error)
        if error.code() in FENCED or error.code() == KafkaError._FATAL:  # a consumer's one fatal error hides its code
            raise LogError(
                "take part in the group",
                self._group,
                f"another process has joined under the same name, {self._member}",
                "nothing is lost or doubled: that one goes on. A name is made of the machine's and of the path of"
                " delivery.state: give one of the two another",
            )
        if not (error.retriable() or retryable(explained)):
            raise explained
        if explained.cause != self._told:
            self._told = explained.cause
            self._take(Ended(explained, fatal=False))
        self._stopping.wait(_PAUSE)

    def _assigned(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        # Paused before anything is fetched: nothing is read of it here, from wherever.
        consumer.incremental_assign([TopicPartition(self._topic, place.partition, 0) for place in places])
        consumer.pause(places)
        self._told = ""
        if places:
            self._take(Gained(_numbers(places)))

    def _revoked(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        if places and not self._stopping.is_set():
            asked = Asked(_numbers(places))
            self._take(asked)
            asked.given_up.wait(self._patience)
        consumer.incremental_unassign(places)

    def _lost(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        if places and not self._stopping.is_set():
            self._take(Lost(_numbers(places)))
        consumer.incremental_unassign(places)


def _numbers(places: list[TopicPartition]) -> tuple[int, ...]:
    return tuple(sorted(place.partition for place in places))
