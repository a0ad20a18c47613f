"""Debezium's topics as one log with one partition: connector.log.contract's reader, over `merge`.

Contract: `resume`, then `assign`, then `poll`: whole transactions with the place at the end of every poll, as
`MergingReader` says. An offset here is the number of a change since the first start. Topics that are not there yet (a
table without rows has none) are waited for. What cannot be told rightly any more stops with LogError: a topic that was
made anew or no longer holds what is to be read next, a foreign record. Nothing is written to Kafka.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from connector.change.selection import Selection
from connector.debezium.merge import PATIENCE, Lane, Merger
from connector.debezium.message import Decoder, missing_column
from connector.debezium.topics import table_topics, transaction_topic
from connector.errors import LogError, LogUnavailable
from connector.log.contract import Concern, Durability, Record
from connector.log.kafka_access import DELIVER
from connector.log.kafka_cluster import Cluster, Deadline, Patience
from connector.log.kafka_outage import Outage
from connector.log.kafka_rules import Topic
from connector.log.kafka_topics import Topics
from connector.log.registry import registry_of
from connector.settings import Settings

_OPERATION = "read Debezium's topics"
_FETCH_WAIT_MS: Final = 500
_LOOK_EVERY: Final = 30.0
"""Seconds between two looks for more partitions; while a topic is missing, `_LOOK_SOON`."""
_LOOK_SOON: Final = 1.0
_AGAIN: Final = 50_000
"""Records of the transaction topic that are read again at a start: which transactions were released before."""
_MOST_HELD: Final = 50_000
"""Events that may wait; then the lanes that are ahead of the others wait, too."""
DURABILITY: Final = Durability(True, "Debezium's topics: how durable they are is set in Kafka, not here")


class DebeziumReader:
    """See the module's contract."""

    partitions = 1
    identity = ""
    """Each topic has its own, which the place tells."""
    durability = DURABILITY
    concerns: tuple[Concern, ...] = ()

    def __init__(self, settings: Settings, selection: Selection, patience: Patience | None = None) -> None:
        """Connect. LogError for settings that cannot be used."""
        kafka, debezium = settings.log.kafka, settings.log.debezium
        assert kafka is not None
        assert debezium is not None
        self._debezium = debezium
        self._cluster = Cluster(kafka, patience or Patience(), settings.name, DELIVER)
        self._topics = Topics(self._cluster)
        self._tables = table_topics(debezium, selection)
        self._transactions = transaction_topic(debezium)
        patient = self._cluster.patience.connect
        self._registry = registry_of(kafka, topic="", patience=patient) if debezium.format == "avro" else None
        self._decoder = Decoder(None if self._registry is None else self._registry.schema, debezium.types)
        self._consumer: Consumer = self._cluster.consumer(f"{settings.name}.reader", _FETCH_WAIT_MS)
        self._merger = Merger(debezium.prefix, self._tables, debezium.settle, b"")
        self._inbox: deque[Message] = deque()
        self._reached: dict[Lane, int] = {}
        self._paused: set[Lane] = set()
        self._lane: Lane | None = None
        """Of the transaction topic, once it is there."""
        self._released = 0
        self._without_ends: float | None = None
        self._look_at = 0.0
        self._outage = Outage(self._cluster, self._consumer, self._transactions, _OPERATION, debezium.prefix)

    # -- where to read -----------------------------------------------------------------------------------------------

    def resume(self, place: bytes) -> None:
        """See `MergingReader`."""
        self._merger = Merger(self._debezium.prefix, self._tables, self._debezium.settle, place)

    def assign(self, offsets: Mapping[int, int]) -> None:
        """Go on after the last poll; nothing else can be asked for."""
        number = self._merger.number
        if offsets.get(0, 0) not in (number, max(0, number - 1)):
            raise LogError(
                _OPERATION,
                self._debezium.prefix,
                "the delivery state was not made from these topics",
                "attach anew: choose another `name`, or put log: back as it was",
            )

    def _look(self) -> None:
        """Read what is there and is not read yet: at the start, and as topics and partitions appear."""
        names = [self._transactions, *self._tables]
        found = self._topics.find(names)
        for topic in found.values():
            self._require_same(topic)
        # The transaction topic's end is asked first: what ends before it must not have events after the tables' ends.
        if self._transactions in found:
            if self._lane is None:
                self._add_transactions(found[self._transactions])
        elif self._merger.transactions < 0:
            self._merger.transactions = 0
        for name in self._tables:
            if name in found:
                self._add_lanes(found[name])
        self._look_at = monotonic() + (_LOOK_EVERY if len(found) == len(names) else _LOOK_SOON)

    def _add_transactions(self, topic: Topic) -> None:
        if topic.partitions != 1:
            raise LogError(
                _OPERATION,
                topic.name,
                f"it has {topic.partitions} partitions, so the order of transactions is not known",
                "let Debezium's transaction topic have one partition (topic.creation.* or by hand), and attach anew",
            )
        beginning, end = self._bounds(topic)[0]
        merger = self._merger
        if merger.transactions < 0:
            merger.transactions = end
        elif not beginning <= merger.transactions <= end:
            raise self._gone(topic.name, merger.transactions, beginning, end)
        self._released = merger.transactions
        self._lane = (topic.name, 0)
        self._read_on(self._lane, max(beginning, self._released - _AGAIN))

    def _add_lanes(self, topic: Topic) -> None:
        known = {partition for name, partition in self._merger.lanes if name == topic.name}
        if len(known) == topic.partitions:
            return
        for partition, (beginning, end) in self._bounds(topic).items():
            lane = (topic.name, partition)
            if partition in known:
                continue
            stored = self._merger.stored(lane)
            if stored is None:
                if beginning and "compact" not in self._topics.config(topic.name)["cleanup.policy"]:
                    raise LogError(
                        _OPERATION,
                        f"{topic.name}, partition {partition}",
                        "its first records are gone (retention), so rows that did not change lately are not known",
                        "let Debezium take a new snapshot into new topics (another topic.prefix) that keep their"
                        " records (cleanup.policy=compact, or retention.ms=-1)",
                    )
                stored = beginning
            elif not beginning <= stored <= end:
                raise self._gone(f"{topic.name}, partition {partition}", stored, beginning, end)
            self._merger.add(lane, stored, end)
            self._read_on(lane, stored)

    def _read_on(self, lane: Lane, offset: int) -> None:
        self._reached[lane] = offset
        self._consumer.incremental_assign([TopicPartition(*lane, offset)])

    def _bounds(self, topic: Topic) -> dict[int, tuple[int, int]]:
        return self._topics.bounds(topic.name, topic.partitions)

    def _require_same(self, topic: Topic) -> None:
        if self._merger.identities.setdefault(topic.name, topic.identity) != topic.identity:
            raise LogError(
                _OPERATION,
                topic.name,
                "it was deleted and made anew: what it held in between is not known",
                "attach anew under another `name`, with Debezium's new snapshot",
            )

    def _gone(self, subject: str, offset: int, beginning: int, end: int) -> LogError:
        return LogError(
            _OPERATION,
            subject,
            f"offset {offset} is to be read next, but it holds {beginning} to {end}: changes are lost",
            "attach anew under another `name`, with a new snapshot of Debezium's; then let the topics keep their"
            " records for longer than deliver may be away (retention.ms, min.compaction.lag.ms)",
        )

    # -- reading -----------------------------------------------------------------------------------------------------

    def poll(self, timeout: float, limit: int) -> list[Record]:
        """Whole transactions, with the place to go on from; may be more than `limit` for the last one of them."""
        deadline = Deadline(timeout)
        while True:
            if monotonic() >= self._look_at:
                self._look()
            self._receive(deadline, limit)
            self._ask_ends()
            first = self._merger.number
            changes = self._merger.release(monotonic())
            self._balance()
            if changes:
                self._outage.over()
                return [Record(0, first + at, b"", b"", change) for at, change in enumerate(changes)]
            if deadline.left() == 0:
                self._outage.look()
                self._tell_what_is_missing()
                return []

    def _receive(self, deadline: Deadline, limit: int) -> None:
        if not self._inbox:
            wait = deadline.left()
            if self._merger.ask_at is not None:
                wait = min(wait, max(0.0, self._merger.ask_at - monotonic()))
            message = self._consumer.poll(wait)
            if message is not None:
                self._inbox.append(message)
                self._inbox.extend(self._consumer.consume(limit - 1, 0))
        # A registry that is away must not cost the messages that are out of librdkafka's hands.
        while self._inbox:
            self._take(self._inbox[0])
            self._inbox.popleft()

    def _take(self, message: Message) -> None:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        error = message.error()
        if error is not None and (topic is None or partition is None or offset is None):
            self._refused(error, self._debezium.prefix)
            return
        assert topic is not None
        assert partition is not None
        assert offset is not None
        lane = (topic, partition)
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._reached[lane] = max(self._reached[lane], offset)
            else:
                self._refused(error, f"{topic}, partition {partition}")
            return
        merger, now = self._merger, monotonic()
        if lane == self._lane:
            boundary = self._decoder.boundary(topic, message.value())
            if boundary is not None:
                merger.boundary(offset, boundary, now, released=offset < self._released)
        else:
            event = self._decoder.event(topic, self._tables[topic], message.key(), message.value())
            if event is None:
                merger.skip(lane, offset)
            elif event.missing and not merger.of_history(lane, offset):
                raise missing_column(topic, event)
            else:
                if event.transaction is not None and self._lane is None and self._without_ends is None:
                    self._without_ends = now
                merger.event(lane, offset, event, now)
        self._reached[lane] = max(self._reached[lane], offset + 1)

    def _refused(self, error: KafkaError, subject: str) -> None:
        if not error.retriable() and error.code() != KafkaError._ALL_BROKERS_DOWN:
            raise self._cluster.explain(_OPERATION, subject, error)

    def _ask_ends(self) -> None:
        """Where something waits for what other lanes may hold: which of them are at their ends by now."""
        asked = monotonic()
        if self._merger.ask_at is None or asked < self._merger.ask_at:
            return
        for lane, end in self._ends().items():
            if lane in self._merger.lanes and self._reached[lane] >= end:
                self._merger.clean(lane, asked)

    def _ends(self) -> dict[Lane, int]:
        counts: dict[str, int] = {}
        for topic, partition in self._reached:
            counts[topic] = max(counts.get(topic, 0), partition + 1)
        found = {}
        for topic, count in counts.items():
            for partition, end in self._topics.ends(topic, count).items():
                found[topic, partition] = end
        return found

    def _balance(self) -> None:
        """Let lanes that are far ahead wait while others have something to read."""
        held = self._merger.held
        crowded = {lane for lane, count in held.items() if count * len(held) > _MOST_HELD}
        if crowded == self._paused:
            return
        others = self._reached.keys() - crowded
        if crowded and all(self._reached[lane] >= end for lane, end in self._ends().items() if lane in others):
            crowded = set()  # what is waited for is behind what they hold
        self._consumer.resume([TopicPartition(*lane) for lane in self._paused - crowded])
        self._consumer.pause([TopicPartition(*lane) for lane in crowded - self._paused])
        self._paused = crowded

    def _tell_what_is_missing(self) -> None:
        now = monotonic()
        missing = self._merger.missing(now)
        if missing is not None:
            raise LogUnavailable(
                _OPERATION,
                self._debezium.prefix,
                missing,
                "nothing is told before they are; if Debezium or a transform of it filters rows (skipped.operations is"
                " fine), or compaction took them, set provide.transaction.metadata=false or attach anew",
            )
        if self._lane is None and self._without_ends is not None and now > self._without_ends + PATIENCE:
            raise LogUnavailable(
                _OPERATION,
                self._transactions,
                "events have transaction metadata, but there is no such topic",
                "name Debezium's topic.transaction in log.debezium.transactions, and let this user read it",
            )

    # -- the rest of the contract ------------------------------------------------------------------------------------

    def ends(self) -> Mapping[int, int]:
        """What is known to come counts one for each record of the tables' topics."""
        lanes = self._merger.lanes
        behind = sum(max(0, end - self._reached[lane]) for lane, end in self._ends().items() if lane in lanes)
        return {0: self._merger.number + behind + sum(self._merger.held.values())}

    def beginnings(self) -> Mapping[int, int]:
        """See the contract."""
        return {0: 0}

    def complete_from(self) -> Mapping[int, int]:
        """A record that was compacted away is missed by the END of its transaction, which then waits."""
        return {0: 0}

    def tails(self) -> Mapping[int, bytes]:
        """None: records have no bytes of their own here."""
        return {}

    def positions(self) -> Mapping[int, int]:
        """See the contract."""
        return {0: self._merger.number}

    def schema(self, schema_id: int) -> str:
        """None is known."""
        raise LogError(_OPERATION, self._debezium.prefix, f"there is no schema {schema_id} here", "report this defect")

    def close(self) -> None:
        """See the contract."""
        with suppress(KafkaException, RuntimeError):
            self._consumer.close()
        if self._registry is not None:
            self._registry.close()
