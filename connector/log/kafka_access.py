"""Which rights (ACLs) capture and deliver need, which of them are missing, and the lines that grant them. (No I/O.)

Contract: docs/log.md has the same table. A broker without an authorizer says that everything is allowed. Whether a
transactional id may be used cannot be asked without fencing whoever uses it; that is told when capture opens the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from connector.log.kafka_commands import Commands
from connector.log.kafka_rules import Fault, Topic
from connector.settings import KafkaSettings

_SPELLED: Final = {
    "READ": "Read", "WRITE": "Write", "CREATE": "Create", "DESCRIBE": "Describe", "DESCRIBE_CONFIGS": "DescribeConfigs",
}  # fmt: skip
"""The operations we need: as librdkafka names them, and as kafka-acls.sh takes them."""


@dataclass(frozen=True, slots=True)
class User:
    """One of the two kinds of user of a log. topics: what is needed on each; `group` and `transactional`: suffixes."""

    name: str
    topics: tuple[str, ...]
    group: str
    transactional: str | None = None


CAPTURE: Final = User(
    "capture", ("Create", "Describe", "DescribeConfigs", "Read", "Write"), ".capture", transactional=".capture"
)
DELIVER: Final = User("deliver", ("Describe", "DescribeConfigs", "Read"), ".reader")
BESIDE: Final = User("deliver", CAPTURE.topics, ".reader")
"""Deliver, where it writes: `<name>.deliveries`, and the schemas."""

_GROUP: Final = ("Describe", "Read")
_TRANSACTIONAL: Final = ("Describe", "Write")


def topic_grants(asked: KafkaSettings, user: User, topics: Iterable[str]) -> tuple[str, ...]:
    """The lines that give a user all that is needed on topics."""
    return tuple(Commands(asked).grant(f"--topic {topic}", user.topics) for topic in topics)


def group_grant(asked: KafkaSettings, user: User, name: str) -> str:
    """The line that lets a user name its consumer group."""
    return Commands(asked).grant(f"--group {name}{user.group}", _GROUP)


def transactional_grant(asked: KafkaSettings, name: str) -> str:
    """The line that lets capture use its transactional id."""
    return Commands(asked).grant(f"--transactional-id {name}{CAPTURE.transactional}", _TRANSACTIONAL)


def beside_grants(asked: KafkaSettings, name: str, topics: Iterable[str]) -> tuple[str, ...]:
    """The lines that let deliver make these topics, write to them, and commit how far it is."""
    written = list(topics)
    ids = (f"--transactional-id {topic}. --resource-pattern-type prefixed" for topic in written)
    commands = Commands(asked)
    return (
        *topic_grants(asked, BESIDE, [*written, f"{name}.schemas"]),
        *(commands.grant(resource, _TRANSACTIONAL) for resource in ids),
        commands.grant(f"--group {name}.deliver", _GROUP),
    )


def cluster_grant(asked: KafkaSettings, operations: Sequence[str] = ("Describe", "IdempotentWrite")) -> str:
    """The line that lets capture count the brokers, and append idempotently to brokers before 2.8."""
    return Commands(asked).grant("--cluster", operations)


def group_fault(asked: KafkaSettings, user: User, name: str) -> Fault:
    """The fault of a group that a user may not describe."""
    what = f"{user.name}'s user ({Commands(asked).principal}) may not Describe it"
    return Fault(f"group {name}{user.group}", what, (group_grant(asked, user, name),), stops=True)


def missing_rights(asked: KafkaSettings, topics: Iterable[Topic], user: User) -> list[Fault]:
    """A fault for every topic that is there and on which a user lacks something."""
    faults = []
    for topic in topics:
        if topic.operations is None:
            continue
        held = {_SPELLED.get(operation) for operation in topic.operations}
        # To make it is no longer asked for once it is there.
        lacks = [operation for operation in user.topics if operation != "Create" and operation not in held]
        if lacks:
            what = f"{user.name}'s user ({Commands(asked).principal}) may not {', '.join(lacks)}"
            mend = (Commands(asked).grant(f"--topic {topic.name}", lacks),)
            faults.append(Fault(topic.name, what, mend, stops=True))
    return faults
