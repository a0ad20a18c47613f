"""What a log's topics must be like, and why: one table, from which they are made and by which they are judged. (Pure.)

Contract: a fault that `stops` breaks a promise of connector.log.contract as long as it is there: nothing is written
before it is mended. Any other weakens one, and is told. Each comes with the command that mends it. A setting that a
broker does not know is not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from connector.log.kafka_commands import Assignment, Commands, more_replicas
from connector.settings import LARGEST_RECORD, KafkaSettings

_DAY_MS: Final = 24 * 60 * 60 * 1000
_COMPACTION_LAG_MS: Final = 14 * _DAY_MS
"""Intermediate states outlive any outage that is still being repaired (DESIGN section 3)."""
SOUND_REPLICAS: Final = 3
SOUND_IN_SYNC: Final = 2


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the cluster describes it. `operations`: what we may do with it, None where the broker does not say."""

    name: str
    assignment: Assignment
    in_sync: Sequence[int]
    """For every partition, how many of its replicas are in sync now."""
    ready: bool
    """Every partition has a leader."""
    operations: frozenset[str] | None = None
    identity: str = ""
    """Another one if the topic was made anew."""

    @property
    def partitions(self) -> int:
        return len(self.assignment)

    @property
    def shows_settings(self) -> bool:
        """Whether we may ask for its settings."""
        return self.operations is None or "DESCRIBE_CONFIGS" in self.operations

    @property
    def replicas(self) -> int:
        """Of the partition that has the fewest."""
        return min(len(replicas) for replicas in self.assignment)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something about a topic that is not as it must be.

    durability: it is about what *durable* means. ours: our settings mend it, not Kafka's.
    """

    topic: str
    what: str
    mend: tuple[str, ...]
    stops: bool = False
    durability: bool = False
    ours: bool = False


@dataclass(frozen=True, slots=True)
class _Standing:
    """What a rule looks at beside the setting's value."""

    replicas: int
    asked: KafkaSettings


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a setting's value must hold, and what follows where it does not."""

    holds: Callable[[str, _Standing], bool]
    why: str
    stops: bool = False
    durability: bool = False


@dataclass(frozen=True, slots=True)
class _Setting:
    """A topic setting, the value it is made with, and its rules, the hardest first. `suffixes`: of the topics."""

    name: str
    value: Callable[[_Standing], str]
    rules: tuple[_Rule, ...]
    suffixes: tuple[str, ...] = (".changes", ".schemas", ".emc-events", ".deliveries")


_SETTINGS: Final = (
    _Setting(
        "cleanup.policy",
        lambda _: "compact",
        (_Rule(lambda value, _: value == "compact", "it would forget rows that are still true", stops=True),),
        (".changes", ".schemas"),
    ),
    _Setting(
        "cleanup.policy",
        lambda _: "compact",
        (_Rule(lambda value, _: value == "compact", "it would forget where publishing stands", stops=True),),
        (".emc-events",),
    ),
    _Setting(
        "cleanup.policy",
        lambda _: "compact",
        (_Rule(lambda value, _: value == "compact", "it would forget what EMC was told", stops=True),),
        (".deliveries",),
    ),
    _Setting(
        "min.compaction.lag.ms",
        lambda _: str(_COMPACTION_LAG_MS),
        (
            _Rule(
                lambda value, _: int(value) >= _COMPACTION_LAG_MS,
                "a consumer that was away for less than 14 days may find only the last event of a dossier",
            ),
        ),
        (".emc-events",),
    ),
    _Setting(
        "min.compaction.lag.ms",
        lambda _: str(_COMPACTION_LAG_MS),
        (
            _Rule(
                lambda value, _: int(value) >= _DAY_MS,
                "what a dossier went through is forgotten before a deliver that was away for a night has read it",
                stops=True,
            ),
            _Rule(
                lambda value, _: int(value) >= _COMPACTION_LAG_MS,
                "what a dossier went through may be forgotten while an outage of deliver is still being repaired",
            ),
        ),
        (".changes",),
    ),
    _Setting(
        "min.insync.replicas",
        lambda standing: str(min(standing.asked.min_insync_replicas, standing.replicas)),
        (
            _Rule(
                lambda value, standing: int(value) <= standing.replicas,
                "there are fewer replicas than that, so nothing can be appended",
                stops=True,
            ),
            _Rule(
                lambda value, standing: int(value) >= min(standing.asked.min_insync_replicas, standing.replicas),
                "fewer than log.kafka.min_insync_replicas asks for: the loss of their disks loses changes",
                durability=True,
            ),
        ),
    ),
    _Setting(
        "max.message.bytes",
        lambda _: str(LARGEST_RECORD),
        (_Rule(lambda value, _: int(value) >= LARGEST_RECORD, "a larger row stops capture"),),
    ),
    _Setting(
        "unclean.leader.election.enable",
        lambda _: "false",
        (
            _Rule(
                lambda value, _: value == "false",
                "a replica that is behind may lead, and what it lacks is lost",
                durability=True,
            ),
        ),
    ),
)


def made_with(topic: str, asked: KafkaSettings) -> dict[str, str]:
    """The settings that a topic is made with."""
    standing = _Standing(asked.replication_factor, asked)
    return {one.name: one.value(standing) for one in _SETTINGS if topic.endswith(one.suffixes)}


def judge_settings(topic: Topic, config: Mapping[str, str], asked: KafkaSettings) -> list[Fault]:
    """The faults of a topic's settings in force."""
    commands = Commands(asked)
    standing = _Standing(topic.replicas, asked)
    faults = []
    for one in _SETTINGS:
        value = config.get(one.name)
        if value is None or not topic.name.endswith(one.suffixes):
            continue
        broken = next((rule for rule in one.rules if not rule.holds(value, standing)), None)
        if broken is not None:
            what = f"{one.name} is {value}: {broken.why}"
            mend = (commands.alter(topic.name, {one.name: one.value(standing)}),)
            faults.append(Fault(topic.name, what, mend, broken.stops, broken.durability))
    return faults


def judge_replicas(topic: Topic, brokers: Sequence[int], asked: KafkaSettings) -> list[Fault]:
    """The fault of a topic with fewer replicas than the settings ask for. brokers: the ids of those that are there."""
    wanted = asked.replication_factor
    if topic.replicas >= wanted:
        return []
    what = f"its replication factor is {topic.replicas}, log.kafka.replication_factor asks for {wanted}"
    if len(brokers) < wanted:
        mend: tuple[str, ...] = (f"have {wanted} brokers, and run `emc-cdc check` again; now there are {len(brokers)}",)
    else:
        mend = Commands(asked).replicate(topic.name, more_replicas(topic.assignment, brokers, wanted))
    return [Fault(topic.name, what, mend, durability=True)]


def judge_partitions(topic: Topic, expected: int) -> list[Fault]:
    """The fault of a topic that has another number of partitions than the settings say."""
    if topic.partitions == expected:
        return []
    what = f"the topic has {topic.partitions} partitions, the settings say {expected}"
    if not topic.name.endswith(".changes"):
        way_out = f"delete the topic {topic.name} if it is not of emc-cdc, or choose another name:"
    else:
        way_out = (
            f"set log.partitions to {topic.partitions} if that is what the topic was made with; if partitions were"
            f" added to it, they cannot be taken away: {NEW_LOG}"
        )
    return [Fault(topic.name, what, (way_out,), stops=True, ours=True)]


NEW_LOG: Final = (
    "choose another name: (new topics, a new slot), let `emc-cdc setup` prepare it and a new snapshot fill it, and take"
    " the old slot away with `emc-cdc setup --undo` under the old name"
)
"""The way out of a number of partitions that does not fit: each dossier would be in two places of the old log."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a broker's own setting must allow for. `stops`: capture cannot begin with less."""

    setting: str
    least: int
    why: str
    stops: bool = False

    def fault(self, broker: int, value: str | None) -> Fault | None:
        """The fault of one broker, or None. The topic of the fault is the broker."""
        if value is None or int(value) >= self.least:
            return None
        line = f"{self.setting}={self.least}  # in server.properties of broker {broker}, which is then restarted"
        return Fault(f"broker {broker}", f"{self.setting} is {value}: {self.why}", (line,), self.stops)


def limits(transaction_ms: int) -> tuple[Limit, ...]:
    """What brokers must allow for. transaction_ms: how long our transactions may take."""
    return (
        Limit("transaction.max.timeout.ms", transaction_ms, "our transactions would be refused", stops=True),
        # A request has one batch of each partition, and what goes around it.
        Limit("socket.request.max.bytes", 2 * LARGEST_RECORD, "a large row would be refused for ever"),
    )


TRANSACTION_LOG: Final = "__transaction_state"
"""The brokers' own topic: which transactions were completed, and which writer is fenced."""


def judge_transaction_log(topic: Topic, in_sync: int, brokers: Sequence[int], asked: KafkaSettings) -> list[Fault]:
    """The faults of the brokers' transaction log, which must outlive what our topics do. in_sync: its minimum."""
    faults = []
    lost = "with one disk the cluster may lose which appends were completed, and which writer is fenced"
    wanted = min(asked.replication_factor, SOUND_REPLICAS)
    if topic.replicas < wanted <= len(brokers):
        mend = Commands(asked).replicate(topic.name, more_replicas(topic.assignment, brokers, wanted))
        faults.append(Fault(topic.name, f"its replication factor is {topic.replicas}: {lost}", mend))
    least = min(asked.min_insync_replicas, SOUND_IN_SYNC)
    if in_sync < least:
        line = Commands(asked).alter(topic.name, {"min.insync.replicas": str(least)})
        faults.append(Fault(topic.name, f"min.insync.replicas is {in_sync}: {lost}", (line,)))
    return faults
