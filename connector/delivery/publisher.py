"""Publishing: every event of the ledger goes to `<name>.emc-events`, once, on a thread of its own.

Contract: an event is published when its judgement is durable, in the order of judgement, whatever EMC says of it.
Partition p of the ledger goes to partition p of the topic. The topic's last record says where publishing stands, so
nothing about it is written anywhere else: whoever opens a partition fences who had it before, reads that record, and
goes on behind it, after a death, after an append whose answer was lost, and with a state that was made anew. Memory is
bounded by one batch; what is not published yet waits in the ledger, which is read with connections of our own.
While Kafka is away, `take` hears of it once and publishing tries again; pushing to EMC does not notice. What needs a
person is handed over as `Failed`.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from connector.change.decoding import ChangeDecoder
from connector.change.position import Position
from connector.delivery.event_record import SCHEMA, Judged, Place, encode, place, place_of
from connector.delivery.intake import Failed, defect
from connector.delivery.state import broken, read_only
from connector.errors import ConnectorError, LogError, LogFenced, retryable
from connector.log.kafka_topic_writer import KafkaTopicWriter
from connector.log.kafka_topics import events_topic
from connector.log.opening import open_reader
from connector.log.pair import Pair
from connector.settings import KafkaSettings, Settings

_MOST: Final = 500
"""Events in one Kafka transaction."""
_PAUSE: Final = 1.0
"""Seconds after which Kafka is tried again."""

_READ: Final = (
    "SELECT id, dossier, event, position, ordinal, transaction_id, commit_time_us, mapping, recovered"
    " FROM events WHERE id > ? ORDER BY id LIMIT ?"
)
_PLACE: Final = "SELECT id, position, ordinal FROM events WHERE id >= ? ORDER BY id LIMIT 1"
_IDS: Final = "SELECT min(id), max(id) FROM events"
_META: Final = "SELECT value FROM meta WHERE name = ?"


@dataclass(frozen=True, slots=True)
class Unpublished:
    """Kafka takes no events; it is tried again."""

    error: ConnectorError


@dataclass(frozen=True, slots=True)
class Superseded:
    """Somebody else publishes the events of a partition; nothing more of it is published here."""

    partition: int
    error: ConnectorError


class Publisher:
    """Publishes ledgers. `take` may be called from the thread."""

    def __init__(
        self, settings: Settings, alone: bool, take: Callable[[Unpublished | Superseded | Failed], None]
    ) -> None:
        """alone: nothing but being fenced here would tell of a second deliver process, so that ends it."""
        kafka = settings.log.kafka
        assert kafka is not None
        self._settings = settings
        self._kafka = kafka
        self._alone = alone
        self._ledgers: dict[int, _Ledger] = {}
        self._take = take
        self._told: set[str] = set()
        """What could not be done since all was well: the causes' texts differ with every attempt."""
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Events were made durable."""
        self._work.set()

    def add(self, partition: int, path: Path) -> None:
        """Publish this ledger, too. The file must have been brought to this version's format."""
        self._ledgers = self._ledgers | {partition: _Ledger(self._settings, self._kafka, partition, path)}
        self.wake()

    def remove(self, partition: int) -> None:
        """Publish it no more. Waits for what is being done with it."""
        ledger = self._ledgers.get(partition)
        if ledger is not None:
            self._ledgers = {number: each for number, each in self._ledgers.items() if number != partition}
            with ledger.lock:
                ledger.close()

    def published(self, partition: int) -> int | None:
        """The id up to which the ledger's events are in the topic; None while that is not known."""
        ledger = self._ledgers.get(partition)
        return None if ledger is None else ledger.published

    def stop(self) -> None:
        """End the thread after what it is about. Waits for it."""
        self._stopping.set()
        self._work.set()
        if self._thread.ident is not None:  # it was started
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._round()
        except ConnectorError as error:
            self._take(Failed(error))
        except Exception as error:  # a defect of ours must end the process, not only this thread
            self._take(Failed(defect("publish events", error)))
        finally:
            for ledger in self._ledgers.values():
                ledger.close()

    def _round(self) -> None:
        """A batch of each partition; then waits for work, or for Kafka. One that is away holds up no other."""
        self._work.clear()
        more = False
        away: ConnectorError | None = None
        for ledger in self._ledgers.values():
            try:
                with ledger.lock:
                    more |= not (self._stopping.is_set() or ledger.closed) and ledger.publish()
            except LogFenced as error:
                if self._alone:
                    mend = "run one deliver per log; if no other one runs, start this one again: nothing is doubled"
                    raise LogError(error.operation, error.subject, error.cause, mend) from error
                # It may be that the partition is another's by now: the record of the state tells.
                ledger.closed = True
                self._take(Superseded(ledger.partition, error))
            except ConnectorError as error:
                if not retryable(error):
                    raise
                away = error
                if error.operation not in self._told:
                    self._told.add(error.operation)
                    self._take(Unpublished(error))
        if away is not None:
            self._stopping.wait(_PAUSE)
            return
        self._told.clear()
        if not more and not self._stopping.is_set():
            self._work.wait()


class _Ledger:
    """One partition. `published` is read by another thread."""

    def __init__(self, settings: Settings, kafka: KafkaSettings, partition: int, path: Path) -> None:
        self.lock = threading.Lock()
        self.closed = False
        """Nothing is published of it any more."""
        self.published: int | None = None
        self._settings = settings
        self._kafka = kafka
        self.partition = partition
        self._path = path
        self._topic = events_topic(settings.name)
        self._writer: KafkaTopicWriter | None = None
        self._schema_id = 0
        self._reached: Place | None = None
        """Of the last record in the topic."""
        self._db: sqlite3.Connection | None = None

    def publish(self) -> bool:
        """Publish what is there, at most one batch; whether there may be more. Raises ConnectorError."""
        try:
            if self._writer is None:
                self._writer = self._open()
            return self._publish(self._writer)
        except ConnectorError:
            # Whatever became of the append, the next writer's look at the topic tells.
            self._close_writer()
            raise
        except sqlite3.Error as error:
            raise broken(self._path, error) from error

    def close(self) -> None:
        """Never raises."""
        self.closed = True
        self._close_writer()
        if self._db is not None:
            self._db.close()

    def _publish(self, writer: KafkaTopicWriter) -> bool:
        found = [Judged(*row) for row in self._file().execute(_READ, (self.published, _MOST)).fetchall()]
        # A state that is older than the topic, or was made anew, judges again what is there.
        new = [judged for judged in found if self._reached is None or judged.place > self._reached]
        if new:
            name, number = self._settings.name, self.partition
            writer.append([Pair(each.dossier.encode(), encode(name, number, self._schema_id, each)) for each in new])
            self._reached = new[-1].place
        if found:
            self.published = found[-1].id
        return len(found) == _MOST

    def _open(self) -> KafkaTopicWriter:
        """Fence earlier writers and find where the topic stands."""
        settings, number = self._settings, self.partition
        writer = KafkaTopicWriter(settings.name, self._topic, number, settings.log.partitions, self._kafka)
        try:
            tail = writer.open()
            self._schema_id = writer.register(SCHEMA)
            subject = f"{self._topic}, partition {number}"
            self._reached = None if tail is None else place_of(tail, writer.schema, subject)
            if self._reached is not None:
                self._require_this_log(self._reached.position, subject)
            self.published = self._last_up_to(self._reached)
        except BaseException:
            writer.close()
            raise
        return writer

    def _require_this_log(self, reached: Position, subject: str) -> None:
        """The topic is of this log. If it were not, later events would seem to be in it already."""
        stored = self._file().execute(_META, ("position",)).fetchone()
        if stored is not None and reached <= Position(*json.loads(stored[0])):
            return
        # The state is older than the topic; the log is not.
        reader = open_reader(self._settings)
        try:
            tail = reader.tails().get(self.partition)
            end = None if tail is None else ChangeDecoder(reader.schema).decode(b'["tail"]', tail).position
        finally:
            reader.close()
        if end is None or end < reached:
            raise LogError(
                "publish events",
                subject,
                "its last event is of a later change than the log's last one: it is of another log",
                "choose another name: (new topics, slot and state), or delete this topic and start: it is made anew",
            )

    def _last_up_to(self, reached: Place | None) -> int:
        """The id of the last event up to `reached`: found by halves, because places rise with ids."""
        file = self._file()
        file.execute("BEGIN")
        try:
            first, last = file.execute(_IDS).fetchone()
            following = file.execute(_META, ("next event",)).fetchone()
            low, high = first or 1, (last or 0) + 1
            while low < high:
                number, position, ordinal = file.execute(_PLACE, ((low + high) // 2,)).fetchone()
                if reached is not None and place(position, ordinal) <= reached:
                    low = number + 1
                else:
                    high = (low + high) // 2
        finally:
            file.execute("COMMIT")
        # Events that are published may have been pruned.
        return low - 1 if following is None or low <= (last or 0) else int(following[0]) - 1

    def _file(self) -> sqlite3.Connection:
        """The state file, for reading. Its one connection is used under `lock`."""
        if self._db is None:
            self._db = read_only(self._path)
        return self._db

    def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
