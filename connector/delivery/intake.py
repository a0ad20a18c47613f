"""The log's records, decoded, on a thread of their own.

Contract: records come in order within a partition; memory is bounded by `_QUEUED` polls; while the log is away the
thread waits and goes on where it was, so that pushing goes on, too. What ends it for good is handed over as `Failed`.
Reading begins one record before the place to go on from: if that is another record than the one that was read last,
this is another log, and what it holds must not be taken for the rest of ours. Where compaction has taken that record,
the log's identity has to be the one that was read last.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from connector.change.decoding import ChangeDecoder
from connector.change.position import Position
from connector.change.record import Change
from connector.errors import ConnectorError, DeliveryError, retryable
from connector.log.contract import LogReader

_LIMIT = 500
"""Records in one poll: some hundredths of a second of folding, which is how long an answer waits meanwhile."""
_QUEUED = 8
"""Polls that may wait to be folded."""
_LOOK_AT_ENDS = 1.0
"""Seconds between two questions for the log's ends, which Kafka's brokers answer over the network."""
_PAUSE = 1.0

Numbered = tuple[int, Change]
"""Offset and record."""


@dataclass(frozen=True, slots=True)
class Records:
    """One poll. changes: by partition; ahead: records that the log holds beyond them, as far as was known lately.

    turns: of the places that it was read for (`Place.turn`).
    """

    changes: Mapping[int, list[Numbered]]
    ahead: Mapping[int, int]
    turns: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Trouble:
    """The log is away; it is tried again."""

    error: ConnectorError


@dataclass(frozen=True, slots=True)
class Failed:
    """A thread has ended by this; `answered`: it was about an attempt, which gets no other answer."""

    error: ConnectorError
    answered: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a partition is to be read on: the offset, and the position of the record before it, if there was one.

    same: the log has the identity of the one that was read before, as far as either is known; turn: tells what is read
    for one owner of the partition from what was read for an earlier one.
    """

    offset: int
    before: Position | None
    same: bool = True
    turn: int = 0


class Intake:
    """Reads partitions on from their places and hands all to `take`, which may be called from the thread."""

    def __init__(
        self, reader: LogReader, take: Callable[[Records | Trouble | Failed], None], halts: bool = True
    ) -> None:
        """halts: whether steps that may have been compacted away unread end it (`delivery.after_compaction`)."""
        self._reader = reader
        self._halts = halts
        self._places: dict[int, Place] = {}
        self._asked: deque[tuple[int, Place | None]] = deque()
        """Partitions that are to be read from a place on, or no more."""
        self._going_on: set[int] = set()
        self._take = take
        self._room = threading.Semaphore(_QUEUED)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def read_on(self, partition: int, place: Place) -> None:
        """Read a partition from a place on."""
        self._asked.append((partition, place))

    def leave(self, partition: int) -> None:
        """Read it no more. What was read of it may still be handed over."""
        self._asked.append((partition, None))

    def taken(self) -> None:
        """One `Records` was folded: there is room for another."""
        self._room.release()

    def stop(self) -> None:
        """End the thread. Waits for it."""
        self._stopping.set()
        self._room.release()
        if self._thread.ident is not None:  # it was started
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._turn()
                    self._read()
                except ConnectorError as error:
                    if not retryable(error):
                        raise
                    self._take(Trouble(error))
                    self._stopping.wait(_PAUSE)
        except ConnectorError as error:
            self._take(Failed(error))
        except Exception as error:  # a defect of ours must end the process, not only this thread
            self._take(Failed(defect("read the change log", error)))

    def _turn(self) -> None:
        """Do what was asked for."""
        while self._asked:
            number, place = self._asked.popleft()
            self._going_on.discard(number)
            if place is None:
                self._places.pop(number, None)
                continue
            self._places[number] = place
            if place.offset > 0:  # from the beginning on it is no gap: that is how a state is made
                self._going_on.add(number)

    def _read(self) -> None:
        """Until there is something else to do."""
        reader = self._reader
        decoder = ChangeDecoder(reader.schema)
        complete = self._complete() if self._halts else {}
        reader.assign({number: max(0, place.offset - 1) for number, place in self._places.items()})
        ends: Mapping[int, int] = {}
        looked_at = float("-inf")
        strange = {number for number, place in self._places.items() if place.before is not None and not place.same}
        while not self._stopping.is_set() and not self._asked:
            records = reader.poll(0.2, _LIMIT)
            if records:
                changes: dict[int, list[Numbered]] = {}
                for partition, offset, key, value, found in records:
                    change = found or decoder.decode(key, value)
                    place = self._places[partition]
                    if offset >= place.offset:
                        if partition in strange:
                            raise another_log(partition, place.offset - 1)
                        if offset < complete.get(partition, 0) and partition in self._going_on:
                            raise _not_whole(partition, place.offset, complete[partition])
                        changes.setdefault(partition, []).append((offset, change))
                    elif place.before is not None and change.position != place.before:
                        raise another_log(partition, offset)
                    else:
                        strange.discard(partition)
                positions = reader.positions()
                ahead = {number: max(0, ends.get(number, 0) - positions[number]) for number in changes}
                for number, numbered in changes.items():
                    offset, change = numbered[-1]
                    self._places[number] = Place(offset + 1, change.position, turn=self._places[number].turn)
                if changes:
                    self._room.acquire()
                    self._take(Records(changes, ahead, {number: self._places[number].turn for number in changes}))
            now = time.monotonic()
            if now - looked_at >= _LOOK_AT_ENDS:
                looked_at = now
                ends = reader.ends()

    def _complete(self) -> Mapping[int, int]:
        """From where on no step was compacted away. DeliveryError when the log was even cut off behind our place."""
        complete, beginnings = self._reader.complete_from(), self._reader.beginnings()
        for number, place in self._places.items():
            if number in self._going_on and place.offset < beginnings[number]:
                raise _not_whole(number, place.offset, complete[number])
        return complete


def _not_whole(partition: int, offset: int, complete: int) -> DeliveryError:
    """Steps that were not read yet may have been compacted away; the last old one of each row is not, and tells so."""
    return DeliveryError(
        "read the change log",
        f"partition {partition}, record {offset}",
        f"what follows it, up to record {complete}, is older than the log's compaction lag: of each"
        " row only the last step may be left, so that events in between would be missed",
        "nothing was read, and nothing is lost that is still there. To go on with the last step of each"
        " row: delivery.after_compaction: continue; put it back to halt once deliver has caught up",
    )


def another_log(partition: int, offset: int) -> DeliveryError:
    """What was folded before is not of this log."""
    return DeliveryError(
        "read the change log",
        f"partition {partition}, record {offset}",
        "it is not the record that was read there before: this is another log, or it was made anew",
        "put back the log that delivery.state was made with; if it is lost, attach anew (docs/delivery.md#attach-anew):"
        " what this log holds after its snapshot is judged anew, so EMC may hear some of it again",
    )


def defect(operation: str, error: Exception) -> DeliveryError:
    """What is not a ConnectorError is a defect of ours. Its text may hold a row's values, so only its place is told."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    failed = DeliveryError(operation, "emc-cdc", f"{type(error).__name__}{place}", "report this defect")
    failed.__cause__ = error
    return failed
