"""A Kafka cluster as the log's three kinds of client see it: settings, patience, and errors in an operator's words.

Contract: every client gets the operator's librdkafka settings. What the log's guarantees rest on cannot be
overridden: asking for it is a LogError, not a silent loss of the guarantee (connector.log.kafka_settings). Every wait
is bounded by `Patience`. librdkafka writes no log lines of its own, but where the operator's settings raise
`log_level`; then they go to Python's logger of kafka_settings at DEBUG, never to stderr.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from connector.errors import LogError, LogUnavailable
from connector.log.kafka_access import CAPTURE, User, cluster_grant, group_grant, topic_grants, transactional_grant
from connector.log.kafka_settings import Quiet, SettingFault, misunderstood, refused
from connector.settings import LARGEST_RECORD, KafkaSettings

Client = TypeVar("Client")

_QUEUE_KBYTES: Final = 4 * LARGEST_RECORD // 1024
"""What librdkafka holds of an append, copied; a record that goes to every partition is copied for each of them."""

FENCED: Final = frozenset({
    KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.FENCED_INSTANCE_ID,
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
_LATER: Final = ("_DESTROY_BROKER", "REBOOTSTRAP_REQUIRED")
"""Names that the oldest client that is allowed does not know."""
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
    KafkaError._NOENT,  # no partition has a leader: the only broker has just come back
    # what the client knows of brokers and topics is older than a restart or an election
    KafkaError._UNKNOWN_BROKER, KafkaError._NODE_UPDATE, KafkaError._OUTDATED, KafkaError._RETRY, KafkaError._INTR,
    KafkaError._ISR_INSUFF, KafkaError.UNKNOWN_TOPIC_ID, KafkaError.INCONSISTENT_TOPIC_ID,
    KafkaError.FETCH_SESSION_ID_NOT_FOUND, KafkaError.INVALID_FETCH_SESSION_EPOCH,
    # too few replicas are in sync
    KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    # the producer has lost its thread; a new one finds it again
    KafkaError.CONCURRENT_TRANSACTIONS, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, KafkaError.UNKNOWN_PRODUCER_ID,
    KafkaError.INVALID_PRODUCER_ID_MAPPING, KafkaError._GAPLESS_GUARANTEE,
}) | {code for name in _LATER if (code := getattr(KafkaError, name, None)) is not None}  # fmt: skip
"""Trying again, with a new client, can help."""
_MEND_LOGIN: Final = (
    "mend security.protocol, sasl.* and ssl.* in log.kafka.settings: the user's name and password, the authority that"
    " signed the brokers' certificates (ssl.ca.location), and host names as these certificates have them"
)


class Denied(LogError):
    """Our user lacks a right; the mend is the lines that grant it."""


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


_SESSION_MS: Final = 10_000
"""After which a member of a group that says nothing is taken for dead: less than librdkafka's 45 s, so that others take
over sooner, and more than delivery's proof of ownership lasts (`connector.delivery.dispatch.PROOF`)."""


class Cluster:
    """Makes clients, and tells errors."""

    def __init__(self, settings: KafkaSettings, patience: Patience, name: str, user: User) -> None:
        """name: of the log; user: for whom it is asked, capture or deliver. Touches no network.

        LogError when the settings would override a guarantee.
        """
        for fault in refused(settings.settings):
            raise _unusable(fault)
        self.settings = settings
        self.patience = patience
        self._name = name
        self._user = user
        self.trouble: str | None = None
        """What a client last said of brokers that do not answer; None after an answer (see `heard_from`)."""
        self.login_refused = False

    def misunderstood(self) -> list[SettingFault]:
        """What librdkafka does not take of the operator's settings. Connects to nobody."""
        tuning, guarded = self._producing("x")
        consuming, reading = self._consuming("x", 500)
        return misunderstood(
            self.settings.settings, ((Producer, {**tuning, **guarded}), (Consumer, {**consuming, **reading}))
        )

    def admin(self) -> AdminClient:
        """A client that asks about topics and makes them."""
        return self._make(AdminClient, {"socket.timeout.ms": self._connect_ms})

    def producer(self, transactional_id: str) -> Producer:
        """The client that appends. Tuned for one transaction in flight.

        It waits for full batches, which cost the broker less; the commit sends what is left at once, so that a single
        change does not wait.
        """
        return self._make(Producer, *self._producing(transactional_id))

    def _producing(self, transactional_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
        tuning = {
            "linger.ms": 20,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 500_000,
            "queue.buffering.max.kbytes": _QUEUE_KBYTES,
            "socket.timeout.ms": self._connect_ms,
            "delivery.report.only.error": True,
        }
        guarded = {
            "acks": "all",
            "enable.idempotence": True,
            "transactional.id": transactional_id,
            "allow.auto.create.topics": False,
            "message.max.bytes": LARGEST_RECORD,
            "message.timeout.ms": int(self.patience.append * 1000),
            "transaction.timeout.ms": self.transaction_ms,
        }
        return tuning, guarded

    @property
    def transaction_ms(self) -> int:
        """How long a transaction may take before the brokers abort it."""
        return int(2 * self.patience.append * 1000)

    def consumer(self, group: str, fetch_wait_ms: int) -> Consumer:
        """A client that reads committed records from offsets it is given; it joins no group and commits nothing."""
        return self._make(Consumer, *self._consuming(group, fetch_wait_ms))

    def member(self, group: str, name: str) -> Consumer:
        """A client that joins a group under a name, to learn of partitions; it reads none and commits nothing."""
        tuning, guarded = self._consuming(group, 500)
        guarded |= {"group.instance.id": name, "partition.assignment.strategy": "cooperative-sticky"}
        guarded |= {"enable.partition.eof": False, "auto.offset.reset": "earliest"}
        return self._make(Consumer, tuning | {"session.timeout.ms": _SESSION_MS}, guarded)

    def _consuming(self, group: str, fetch_wait_ms: int) -> tuple[dict[str, Any], dict[str, Any]]:
        tuning = {
            "group.id": group,
            "fetch.wait.max.ms": fetch_wait_ms,
            "fetch.queue.backoff.ms": 20,
            "fetch.error.backoff.ms": 100,
            "queued.max.messages.kbytes": 32 * 1024,
            "socket.timeout.ms": self._connect_ms,
        }
        guarded = {
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "check.crcs": True,
        }
        return tuning, guarded

    @property
    def _connect_ms(self) -> int:
        return int(self.patience.connect * 1000)

    def _make(
        self, kind: Callable[..., Client], tuning: dict[str, Any], guarded: dict[str, Any] | None = None
    ) -> Client:
        """`tuning` gives way to the operator's settings, `guarded` does not."""
        config = {
            # A line of librdkafka's needs Python's lock, which some calls keep while they wait for who writes it.
            "log_level": 0,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            **tuning,
            **self.settings.settings,
            **(guarded or {}),
            "bootstrap.servers": self.settings.brokers,
            "error_cb": self._heard_trouble,
        }
        try:
            return kind(config, logger=Quiet())
        except (KafkaException, TypeError, ValueError, AttributeError) as error:
            # librdkafka's text may quote a value, and a value may be a secret: it is not shown as it is.
            unknown = SettingFault("", "librdkafka does not take them", "see librdkafka's page CONFIGURATION.md")
            raise _unusable(next(iter(self.misunderstood()), unknown)) from error

    def _heard_trouble(self, error: KafkaError) -> None:
        if error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE):
            if self.trouble is None or error.code() != KafkaError._ALL_BROKERS_DOWN:
                self.trouble = error.str()
        elif error.code() in _LOGIN:
            self.trouble = error.str()
            self.login_refused = True

    def heard_from(self) -> None:
        """A broker answered."""
        self.trouble = None
        self.login_refused = False

    def unavailable(self, operation: str, subject: str, cause: str) -> LogUnavailable:
        """The error for a cluster that cannot be reached or answers too late."""
        if self.trouble:
            cause = f"{cause} ({self.trouble})"
        if self.login_refused:
            return LogUnavailable(operation, subject, cause, _MEND_LOGIN)
        return LogUnavailable(
            operation,
            subject,
            cause,
            f"see that the brokers at {self.settings.brokers} run and can be reached from here (log.kafka.brokers), and"
            " that security.protocol in log.kafka.settings is what they listen for",
        )

    def _grants(self, code: int) -> tuple[str, ...]:
        """The lines that give what the brokers refused with this code."""
        match code:
            case KafkaError.GROUP_AUTHORIZATION_FAILED:
                return (group_grant(self.settings, self._user, self._name),)
            case KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
                return (transactional_grant(self.settings, self._name),)
            case KafkaError.CLUSTER_AUTHORIZATION_FAILED:
                return (cluster_grant(self.settings),)
        # Who may not even see the topics lacks everything.
        rest = [group_grant(self.settings, self._user, self._name)]
        if self._user.transactional is not None:
            rest.append(transactional_grant(self.settings, self._name))
        return (*topic_grants(self.settings, self._user, (f"{self._name}.changes", f"{self._name}.schemas")), *rest)

    def explain(self, operation: str, subject: str, error: KafkaError) -> LogError:
        """The error for one of librdkafka's; what is not known here stops and asks."""
        code = error.code()
        if code in FENCED:
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
            return Denied(
                operation,
                subject,
                error.str(),
                "\n".join(self._grants(code)),
            )
        if code in _LOGIN:
            return LogError(
                operation,
                subject,
                f"the brokers refuse the login ({error.str()})",
                _MEND_LOGIN,
            )
        if code in _TOO_LARGE:
            return LogError(
                operation,
                subject,
                f"a record is too large for the topic's max.message.bytes ({error.str()})",
                f"kafka-configs.sh --alter --topic {subject} --add-config max.message.bytes={LARGEST_RECORD}; or set"
                " log.largest_record to no more than the topic takes, so that log.on_oversized decides; then start"
                " again: nothing of the append is there, and nothing is lost",
            )
        if code == KafkaError.INVALID_TRANSACTION_TIMEOUT:
            return LogError(
                operation,
                subject,
                f"the brokers allow no transaction of {self.transaction_ms} ms",
                f"transaction.max.timeout.ms={self.transaction_ms}  # in each broker's server.properties, or remove it"
                " there: 900000 is its default",
            )
        if code == KafkaError.INVALID_TIMESTAMP:
            return LogError(
                operation,
                subject,
                f"the brokers refuse the time of a record ({error.str()})",
                "set this machine's clock, and the brokers' (chronyc tracking); or see message.timestamp.*.max.ms of"
                " the topic",
            )
        if code in _AWAY or error.retriable() or error.txn_requires_abort() or error.fatal():
            return self.unavailable(operation, subject, error.str())
        return LogError(operation, subject, f"{error.name()}: {error.str()}", "look into the brokers' logs")


def faults_of(settings: KafkaSettings) -> list[SettingFault]:
    """What cannot be used of the operator's librdkafka settings, everything at once. Connects to nobody."""
    if found := refused(settings.settings):
        # What librdkafka says of those that are left.
        names = {fault.name for fault in found}
        rest = {name: value for name, value in settings.settings.items() if name not in names}
        settings = settings.model_copy(update={"settings": rest})
    return [*found, *Cluster(settings, Patience(), "name", CAPTURE).misunderstood()]


def _unusable(fault: SettingFault) -> LogError:
    subject = f"log.kafka.settings{fault.name and '.'}{fault.name}"
    return LogError("read the Kafka settings", subject, fault.cause, fault.mend)


def error_of(exception: BaseException) -> KafkaError:
    """The KafkaError inside a KafkaException."""
    error = exception.args[0] if exception.args else None
    return error if isinstance(error, KafkaError) else KafkaError(KafkaError._FAIL, str(exception))
