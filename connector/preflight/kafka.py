"""Checks of a log in Kafka: brokers, topics, their settings, the brokers' limits, and rights.

| check | asks |
|---|---|
| LOG-05 | Kafka: the topics' settings keep what deliver may still need, and take what capture may write |
| LOG-06 | Kafka: the brokers' limits allow for our transactions and records; their transaction log is as safe as ours |
| LOG-07 | Kafka: the user has the rights that capture and deliver need |

Contract: no topic is made, and nobody is fenced. All faults are told at once, each with Kafka's own command line that
mends it, with the brokers and topics of the settings in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from connector.errors import LogError
from connector.finding import Finding, Severity, ok
from connector.log.contract import Durability
from connector.log.deliveries import deliveries_topic
from connector.log.kafka_access import CAPTURE, DELIVER, beside_grants, transactional_grant
from connector.log.kafka_cluster import Cluster, Denied, Patience
from connector.log.kafka_commands import Commands
from connector.log.kafka_rules import Fault, Topic, limits
from connector.log.kafka_topics import Topics, changes_topic, events_topic, judge, schemas_topic
from connector.settings import KafkaSettings

_PATIENCE: Final = Patience(connect=5.0)


def check_kafka(name: str, partitions: int, asked: KafkaSettings) -> list[Finding]:
    """LOG-01 to LOG-07 of a log in Kafka."""
    try:
        cluster = Cluster(asked, _PATIENCE, name, CAPTURE)
        topics = Topics(cluster)
        brokers = topics.brokers()
    except LogError as error:
        return [_failed("LOG-01", error)]
    wanted = [changes_topic(name), schemas_topic(name)]
    try:
        found = topics.find(wanted)
    except LogError as error:
        return [_reached(len(brokers), asked, made=False), _failed("LOG-02", error)]
    reached = _reached(len(brokers), asked, made=len(found) == len(wanted))
    if reached.severity is Severity.ERROR and not found:
        return [reached]
    try:
        faults = topics.faults(name, found, CAPTURE, {changes_topic(name): partitions, schemas_topic(name): 1})
        rights = _rights(topics, name, asked, found)
    except LogError as error:
        return [reached, _failed("LOG-02", error)]
    told = {(one.subject, one.what) for one in rights}
    there = [
        _finding("LOG-02", fault, Severity.ERROR)
        for fault in faults
        if fault.stops and (fault.topic, fault.what) not in told
    ]
    there += _absent(topics, name, partitions, [topic for topic in wanted if topic not in found])
    weak = [_finding("LOG-05", fault) for fault in faults if not (fault.stops or fault.durability)]
    unseen = [topic.name for topic in found.values() if not topic.shows_settings]
    if unseen:
        lines = tuple(Commands(asked).describe_topic(topic) for topic in unseen)
        weak.append(
            Finding("LOG-05", Severity.UNKNOWN, ", ".join(unseen), "their settings are not shown", lines, "kafka")
        )
    elif found and not weak:
        weak = [ok("LOG-05", ", ".join(found), "their settings keep and take what they must")]
    return [
        reached,
        *(there or [ok("LOG-02", "log", f"{partitions} partitions")]),
        _durability(topics, name, asked, found, faults),
        *(_late(topic, asked) for topic in found.values() if min(topic.in_sync) < topic.replicas),
        *weak,
        *_brokers_limits(topics, cluster, brokers, asked),
        *rights,
    ]


def durable(durability: Durability, mend: tuple[str, ...] = ()) -> Finding:
    """LOG-03. mend: the lines that make it sound, where they are known."""
    if durability.sound:
        return ok("LOG-03", "durability", durability.words)
    general = ("log.kafka: replication_factor: 3 and min_insync_replicas: 2, on three brokers; unclean elections off",)
    return Finding(
        "LOG-03", Severity.WARNING, "durability", durability.words, mend or general, "kafka" if mend else "operator"
    )


def _reached(brokers: int, asked: KafkaSettings, *, made: bool) -> Finding:
    """made: all topics are there, so that fewer brokers than replicas are a broker away, and stop nothing at once."""
    subject, wanted = "log.kafka", asked.replication_factor
    reached = f"{brokers} broker{'' if brokers == 1 else 's'} reached at {asked.brokers}"
    if made and asked.min_insync_replicas <= brokers < wanted:
        what = (
            f"{reached}, and replication_factor is {wanted}: {asked.min_insync_replicas} in sync are enough to go on,"
            " and no more topics can be made until the others are back"
        )
        mend = ("start the brokers that are away",)
        return Finding("LOG-01", Severity.WARNING, subject, what, mend, "kafka")
    if brokers < wanted:
        mend = (f"log.kafka.replication_factor: {brokers}  # or add brokers",)
        what = f"{reached}, but replication_factor asks for {wanted}"
        return Finding("LOG-01", Severity.ERROR, subject, what, mend, "operator")
    if asked.min_insync_replicas > wanted:
        mend = (f"log.kafka.min_insync_replicas: {wanted}  # at most",)
        what = f"min_insync_replicas {asked.min_insync_replicas} is more than replication_factor {wanted}"
        return Finding("LOG-01", Severity.ERROR, subject, what, mend, "operator")
    return ok("LOG-01", subject, reached)


def _absent(topics: Topics, name: str, partitions: int, missing: Sequence[str]) -> list[Finding]:
    """What is said of topics that are not there: the brokers are asked whether they could be made."""
    if not missing:
        return []
    try:
        topics.try_to_create(name, partitions)
    except Denied:
        pass  # it is told among the rights
    except LogError as error:
        return [_failed("LOG-02", error)]
    what = "there is no such topic yet: capture makes it at its first start"
    return [Finding("LOG-02", Severity.NOTE, ", ".join(missing), what)]


def _durability(
    topics: Topics, name: str, asked: KafkaSettings, found: Mapping[str, Topic], faults: Iterable[Fault]
) -> Finding:
    if changes_topic(name) not in found:
        return durable(judge(asked.replication_factor, asked.min_insync_replicas, unclean=False))
    try:
        durability = topics.durability(name)
    except LogError as error:
        return Finding("LOG-03", Severity.UNKNOWN, "durability", error.cause, _lines(error), "kafka")
    return durable(durability, tuple(line for fault in faults if fault.durability for line in fault.mend))


def _late(topic: Topic, asked: KafkaSettings) -> Finding:
    """Replicas that are behind now."""
    late = sum(count < len(topic.assignment[number]) for number, count in enumerate(topic.in_sync))
    what = f"{late} of {topic.partitions} partitions have replicas that are away or behind now"
    mend = (Commands(asked).late_partitions(topic.name), "start the brokers that are away")
    return Finding("LOG-03", Severity.WARNING, topic.name, what, mend, "kafka")


def _brokers_limits(topics: Topics, cluster: Cluster, brokers: Sequence[int], asked: KafkaSettings) -> list[Finding]:
    try:
        configs = {broker: topics.broker_config(broker) for broker in brokers}
        faults = [
            fault
            for broker, config in configs.items()
            for limit in limits(cluster.transaction_ms)
            if (fault := limit.fault(broker, config.get(limit.setting))) is not None
        ]
        faults += topics.transaction_log_faults(brokers)
    except LogError as error:
        lines = tuple(Commands(asked).describe_broker(broker) for broker in brokers)
        wanted = " and ".join(f"{limit.setting} at least {limit.least}" for limit in limits(cluster.transaction_ms))
        what = f"{error.cause}; {wanted} are needed"
        return [Finding("LOG-06", Severity.UNKNOWN, "brokers", what, lines, "kafka")]
    told = [_finding("LOG-06", fault, Severity.ERROR if fault.stops else Severity.WARNING) for fault in faults]
    return told or [ok("LOG-06", "brokers", "their limits allow for our transactions and records")]


def _rights(topics: Topics, name: str, asked: KafkaSettings, found: Mapping[str, Topic]) -> list[Finding]:
    """What capture and deliver may not do as this user, who may be one of the two and not the other."""
    who = Commands(asked).principal
    lacking = {user: topics.lacking(name, found, user) for user in (CAPTURE, DELIVER)}
    if len(found) < 2:
        try:
            topics.try_to_create(name, 1)
        except Denied as error:
            lacking[CAPTURE].append(Fault(error.subject, f"capture: {error.cause}", _lines(error), stops=True))
        except LogError:
            pass  # it is told of the topics
    neither = all(lacking.values())
    told = [
        _finding("LOG-07", fault, Severity.ERROR if neither else Severity.NOTE)
        for faults in lacking.values()
        for fault in faults
    ]
    if topics.restricted():
        what = f"only capture's start shows whether {who} may use it: to ask would fence a capture that runs"
        line = (transactional_grant(asked, name),)
        told.append(Finding("LOG-07", Severity.UNKNOWN, f"transactional id {name}.capture", what, line, "kafka"))
        written = [deliveries_topic(name), *([events_topic(name)] if asked.events_topic else [])]
        what = f"only deliver's start shows whether {who} may make them and write to them, as deliver does"
        lines = beside_grants(asked, name, written)
        told.append(Finding("LOG-07", Severity.UNKNOWN, ", ".join(written), what, lines, "kafka"))
    return told or [ok("LOG-07", "rights", f"{who} may do all that capture and deliver need")]


def _finding(check: str, fault: Fault, severity: Severity = Severity.WARNING) -> Finding:
    who = "operator" if fault.ours else "kafka"
    return Finding(check, severity, fault.topic, fault.what, fault.mend, who)


def _failed(check: str, error: LogError) -> Finding:
    if isinstance(error, Denied):
        return Finding("LOG-07", Severity.ERROR, error.subject, error.cause, _lines(error), "kafka")
    return Finding(check, Severity.ERROR, error.subject, error.cause, _lines(error), "operator")


def _lines(error: LogError) -> tuple[str, ...]:
    return tuple(error.mend.splitlines())
