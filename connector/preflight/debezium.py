"""Checks of Debezium's topics, where these are the log.

| check | asks |
|---|---|
| DBZ-01 | the brokers answer |
| DBZ-02 | every table of the mapping has its topic |
| DBZ-03 | transactions are told, so that none is judged by halves |
| DBZ-04 | the topics keep their records |

Nothing is made, and no record is read.
"""

from __future__ import annotations

from connector.change.selection import Selection
from connector.debezium.topics import table_topics, transaction_topic
from connector.errors import LogError
from connector.finding import Finding, Severity, ok
from connector.log.kafka_access import DELIVER
from connector.log.kafka_cluster import Cluster, Patience
from connector.log.kafka_rules import Topic
from connector.log.kafka_topics import Topics
from connector.settings import DebeziumSettings, Settings

_PATIENCE = 5.0


def check_debezium(settings: Settings, selection: Selection) -> list[Finding]:
    """DBZ-01 to DBZ-04."""
    kafka, debezium = settings.log.kafka, settings.log.debezium
    assert kafka is not None
    assert debezium is not None
    tables = table_topics(debezium, selection)
    try:
        topics = Topics(Cluster(kafka, Patience(connect=_PATIENCE), settings.name, DELIVER))
        found = topics.find([transaction_topic(debezium), *tables])
        kept = [_kept(name, topics.config(name)) for name in tables if name in found]
    except LogError as error:
        return [Finding("DBZ-01", Severity.ERROR, error.subject, error.cause, (error.mend,), "operator")]
    reached = ok("DBZ-01", "log.kafka", f"Kafka reached at {kafka.brokers}")
    there = [_there(name, table.full_name, name in found) for name, table in tables.items()]
    return [reached, *there, _transactions(debezium, found.get(transaction_topic(debezium))), *kept]


def _there(topic: str, table: str, found: bool) -> Finding:
    if found:
        return ok("DBZ-02", topic, f"holds {table}")
    mend = (
        f"if {table} has rows: look at Debezium's table.include.list, and name the topic in log.debezium.topics",
        "a table without rows has no topic yet; deliver reads it as soon as it is there",
    )
    return Finding("DBZ-02", Severity.WARNING, topic, f"there is no such topic for {table}", mend, "operator")


def _transactions(settings: DebeziumSettings, topic: Topic | None) -> Finding:
    name = transaction_topic(settings)
    if topic is None:
        what = (
            f"there is no such topic: transactions are put together by their places and {settings.settle:g} s of calm"
        )
        mend = ("set provide.transaction.metadata=true in Debezium's connector: then no half transaction is ever told",)
        return Finding("DBZ-03", Severity.WARNING, name, what, mend, "operator")
    if topic.partitions != 1:
        what = f"it has {topic.partitions} partitions, so the order of transactions is not known"
        mend = ("make it anew with one partition (topic.creation.groups in Debezium's connector)",)
        return Finding("DBZ-03", Severity.ERROR, name, what, mend, "operator")
    return ok("DBZ-03", name, "transactions are told")


def _kept(name: str, config: dict[str, str]) -> Finding:
    policy, retention = config.get("cleanup.policy", ""), int(config.get("retention.ms", "-1"))
    if "compact" in policy or retention < 0:
        return ok("DBZ-04", name, "rows that do not change are kept")
    what = f"records go after {retention / 3_600_000:.0f} h: attach before, and do not let deliver be away for longer"
    mend = (
        f"kafka-configs.sh --alter --topic {name} --add-config cleanup.policy=compact,min.compaction.lag.ms=1209600000",
    )
    return Finding("DBZ-04", Severity.WARNING, name, what, mend, "operator")
