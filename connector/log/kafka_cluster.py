"""A Kafka cluster as the log's three kinds of client see it: settings, patience, and errors in an operator's words.

Contract: every client gets the operator's librdkafka settings. What the log's guarantees rest on cannot be
overridden: asking for it is a LogError, not a silent loss of the guarantee. Every wait is bounded by `Patience`.
librdkafka's own log lines go to Python's logger of this module at DEBUG, never to stderr.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from connector.errors import LogError, LogUnavailable
from connector.settings import KafkaSettings

Client = TypeVar("Client")

logger = logging.getLogger(__name__)

LARGEST_RECORD: Final = 16 * 1024 * 1024
"""Bytes of one record, and of one batch on the topic: a dossier's row with long texts fits many times over."""

_GUARDED: Final = frozenset({
    "bootstrap.servers", "metadata.broker.list", "acks", "request.required.acks", "enable.idempotence",
    "transactional.id", "isolation.level", "auto.offset.reset", "enable.auto.commit", "enable.auto.offset.store",
    "enable.partition.eof",
})  # fmt: skip
"""The guarantees of connector.log.contract rest on these."""

_FENCED: Final = frozenset({
    KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH,
})  # fmt: skip
_DENIED: Final = frozenset({
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
})  # fmt: skip
_LOGIN: Final = frozenset({KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL})
_TOO_LARGE: Final = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
_NO_SUCH_OFFSET: Final = frozenset({
    KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION,
})  # fmt: skip
_AWAY: Final = frozenset({
    # nobody answers, or not in time
    KafkaError._TIMED_OUT, KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT_QUEUE, KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._WAIT_COORD, KafkaError._WAIT_CACHE,
    KafkaError._DESTROY, KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT, KafkaError._STATE,
    KafkaError._IN_PROGRESS, KafkaError._PREV_IN_PROGRESS, KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NETWORK_EXCEPTION, KafkaError.BROKER_NOT_AVAILABLE, KafkaError.THROTTLING_QUOTA_EXCEEDED,
    # a broker is starting, stopping, or handing its work to another one
    KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.NOT_CONTROLLER, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR, KafkaError.KAFKA_STORAGE_ERROR, KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION,
    # too few replicas are in sync
    KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    # the producer has lost its thread; a new one finds it again
    KafkaError.CONCURRENT_TRANSACTIONS, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, KafkaError.UNKNOWN_PRODUCER_ID,
    KafkaError.INVALID_PRODUCER_ID_MAPPING, KafkaError._GAPLESS_GUARANTEE,
})  # fmt: skip
"""Trying again, with a new client, can help."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long Kafka may take, in seconds.

    connect: for one answer of the cluster (metadata, making a topic, fencing, reading the tails).
    append: for one append to be committed; past it the append fails, and the slot keeps the changes.
    """

    connect: float = 10.0
    append: float = 30.0


class Deadline:
    """A point in time that several waits share."""

    def __init__(self, seconds: float) -> None:
        self._at = monotonic() + seconds

    def left(self) -> float:
        """Seconds, never below 0."""
        return max(0.0, self._at - monotonic())


class Cluster:
    """Makes clients, and tells errors."""

    def __init__(self, settings: KafkaSettings, patience: Patience) -> None:
        """LogError when the settings would override a guarantee. Touches no network."""
        for key in settings.settings:
            if key in _GUARDED:
                raise LogError(
                    "read the Kafka settings",
                    f"log.kafka.settings.{key}",
                    "the log's guarantees rest on this setting",
                    "remove the line; brokers are named in log.kafka.brokers, nothing else of this can be changed",
                )
        self.settings = settings
        self.patience = patience
        self.trouble: str | None = None
        """What a client last said of brokers that do not answer; None after an answer (see `heard_from`)."""

    def admin(self) -> AdminClient:
        """A client that asks about topics and makes them."""
        return self._make(AdminClient, {"socket.timeout.ms": self._connect_ms})

    def producer(self, transactional_id: str) -> Producer:
        """The client that appends. Tuned for one transaction in flight.

        It waits for full batches, which cost the broker less; the commit sends what is left at once, so that a single
        change does not wait.
        """
        append_ms = int(self.patience.append * 1000)
        return self._make(
            Producer,
            {
                "linger.ms": 20,
                "compression.type": "lz4",
                "message.max.bytes": LARGEST_RECORD,
                "message.timeout.ms": append_ms,
                "transaction.timeout.ms": 2 * append_ms,
                "queue.buffering.max.messages": 500_000,
                "socket.timeout.ms": self._connect_ms,
                "delivery.report.only.error": True,
            },
            {"acks": "all", "enable.idempotence": True, "transactional.id": transactional_id},
        )

    def consumer(self, group: str, fetch_wait_ms: int) -> Consumer:
        """A client that reads committed records from offsets it is given; it joins no group and commits nothing."""
        return self._make(
            Consumer,
            {
                "group.id": group,
                "fetch.wait.max.ms": fetch_wait_ms,
                "fetch.queue.backoff.ms": 20,
                "fetch.error.backoff.ms": 100,
                "queued.max.messages.kbytes": 32 * 1024,
                "socket.timeout.ms": self._connect_ms,
                "check.crcs": True,
            },
            {
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
            },
        )

    @property
    def _connect_ms(self) -> int:
        return int(self.patience.connect * 1000)

    def _make(
        self, kind: Callable[..., Client], tuning: dict[str, Any], guarded: dict[str, Any] | None = None
    ) -> Client:
        """`tuning` gives way to the operator's settings, `guarded` does not."""
        config = {
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            **tuning,
            **self.settings.settings,
            **(guarded or {}),
            "bootstrap.servers": self.settings.brokers,
            "error_cb": self._heard_trouble,
        }
        try:
            return kind(config, logger=_Quiet())
        except (KafkaException, TypeError, ValueError) as error:
            # librdkafka's text may quote a value, and a value may be a secret: only the setting's name is told.
            named = re.search(r'property:? "([^"]+)"|`([a-z0-9._]+)`', str(error))
            name = next(filter(None, named.groups()), "") if named else ""
            raise LogError(
                "read the Kafka settings",
                f"log.kafka.settings{name and '.'}{name}",
                "librdkafka does not take this setting or its value",
                "compare it with librdkafka's CONFIGURATION.md",
            ) from error

    def _heard_trouble(self, error: KafkaError) -> None:
        if error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE):
            if self.trouble is None or error.code() != KafkaError._ALL_BROKERS_DOWN:
                self.trouble = error.str()
        elif error.code() in _LOGIN:
            self.trouble = error.str()

    def heard_from(self) -> None:
        """A broker answered."""
        self.trouble = None

    def unavailable(self, operation: str, subject: str, cause: str) -> LogUnavailable:
        """The error for a cluster that cannot be reached or answers too late."""
        if self.trouble:
            cause = f"{cause} ({self.trouble})"
        return LogUnavailable(
            operation,
            subject,
            cause,
            f"see that the brokers at {self.settings.brokers} run and can be reached from here (log.kafka.brokers)",
        )

    def explain(self, operation: str, subject: str, error: KafkaError) -> LogError:
        """The error for one of librdkafka's; what is not known here stops and asks."""
        code = error.code()
        if code in _FENCED:
            return LogError(
                operation,
                subject,
                "fenced: a later capture has taken over this log, or this one stood still for too long",
                "run one capture per log; if no other one runs, start this one again: nothing is lost",
            )
        if code in _NO_SUCH_OFFSET:
            return LogError(
                operation,
                subject,
                f"the log no longer holds what was to be read next ({error.str()})",
                "the topic was cut off or made anew: move the directory delivery.state away so that it is built"
                " from this log, after a new snapshot if the beginning is gone",
            )
        if code in _DENIED:
            return LogError(
                operation,
                subject,
                error.str(),
                "give this user the ACLs of docs/log.md (topics, transactional id, group)",
            )
        if code in _LOGIN:
            return LogError(
                operation,
                subject,
                f"the brokers refuse the login ({error.str()})",
                "mend security.protocol, sasl.* and ssl.* in log.kafka.settings",
            )
        if code in _TOO_LARGE:
            return LogError(
                operation,
                subject,
                f"a record is too large ({error.str()})",
                f"raise max.message.bytes of the topic to {LARGEST_RECORD}, or leave its largest column unmapped",
            )
        if code in _AWAY or error.retriable() or error.txn_requires_abort() or error.fatal():
            return self.unavailable(operation, subject, error.str())
        return LogError(operation, subject, f"{error.name()}: {error.str()}", "look into the brokers' logs")


class _Quiet:
    """Takes librdkafka's log lines (a `logging.Logger` by its method `log`)."""

    def log(self, level: int, message: str, *arguments: object) -> None:
        logger.debug(message, *arguments)


def error_of(exception: BaseException) -> KafkaError:
    """The KafkaError inside a KafkaException."""
    error = exception.args[0] if exception.args else None
    return error if isinstance(error, KafkaError) else KafkaError(KafkaError._FAIL, str(exception))
