"""Deliver: the log's records in, accepted events out.

Three threads, each with one thing of its own: the intake has the log, the dispatch has the network, the owner (the
caller's thread) has the state files; with Kafka a fourth, the publisher, has the topic of events and reads those files.
The owner works in steps: one poll of records is folded, every answer that has
arrived is recorded, pushes are begun, and one commit per partition makes all of it durable before a request goes out.
So an attempt is on disk before it is sent, and a burst costs one sync.

Invariants: `run` returns when `stop` is set and everything in flight has been answered and recorded, or raises the
ConnectorError that ended it, after the same; memory is bounded by the queue between intake and owner, by
`max_in_flight`, and by the bounds of fold and outbox. Observations are told before the commit: what a death undid is
told again.
"""

from __future__ import annotations

import queue
import random
import sys
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from urllib.parse import urlsplit

from connector.delivery.claim import Claimed, Claims
from connector.delivery.directory import StateDirectory
from connector.delivery.dispatch import Answer, Dispatch, Unsent
from connector.delivery.fold import Due
from connector.delivery.intake import Failed, Intake, Place, Records, Trouble
from connector.delivery.outbox import Attempt
from connector.delivery.outcome import Delivered, Reject, Retry
from connector.delivery.pacing import Breaker, backoff
from connector.delivery.partition import Partition
from connector.delivery.publisher import Publisher, Unpublished
from connector.delivery.recorder import Recorded, Recorder, Unrecorded
from connector.errors import ConnectorError
from connector.log.contract import LogReader, MergingReader
from connector.log.opening import open_reader
from connector.mapping.plan import Plan
from connector.observe import (
    BatchFolded,
    DossierParked,
    EventDue,
    EventsUnpublished,
    Fault,
    Hub,
    OutboxDepth,
    PushAnswered,
    StateUnrecorded,
)
from connector.settings import Settings

_LOG_IDENTITY = "identity"
"""The state's memory of the log that was read (`LogReader.identity`)."""
_IDLE = 0.5
"""Seconds after which an idle owner looks around."""
_PRUNE_EVERY = 3600.0
_MOST_TOLD = 1000
"""Parked dossiers that are told of at the start."""

Item = Records | Trouble | Unpublished | Recorded | Unrecorded | Failed | Answer | Unsent


class Deliverer:
    """See the module's contract. `clock`: seconds since the epoch."""

    def __init__(self, settings: Settings, plan: Plan, reader: LogReader, hub: Hub, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._plan = plan
        self._reader = reader
        self._hub = hub
        self._clock = clock
        url = urlsplit(settings.emc.url)
        self._emc = f"{url.scheme}://{url.hostname}{url.path}"  # without a password or token that may stand in it
        self._inbox: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._polls: deque[Records] = deque()
        self._answers: list[Item] = []
        self._breaker = Breaker(settings.delivery.retry)
        self._in_flight = 0
        self._partitions: list[Partition] = []
        self._failure: ConnectorError | None = None
        self._warned = ""
        self._troubled = ""
        self._depths: dict[int, tuple[int, int]] = {}
        self._publisher: Publisher | None = None
        self._recorders: dict[int, Recorder] = {}
        self._woken: dict[int, tuple[int, int]] = {}
        """For every partition, what its recorder was woken for: number of the journal, and offset."""
        self._recorded: dict[int, int] = {}
        """Up to which number of the journal everything is recorded."""
        self._unrecorded: dict[int, int] = {}
        self._gated: dict[int, deque[tuple[int, list[Attempt]]]] = {}
        """Pushes that go out when they are recorded, with the number of the journal by which they are."""
        self._saved: dict[int, int] = {}
        self._unpublished: dict[int, int] = {}
        self._prune_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set. Raises ConnectorError when it cannot go on."""
        directory = StateDirectory(self._settings.delivery.state, self._settings.name)
        dispatch = Dispatch(self._settings, self._clock, self._inbox.put)
        intake: Intake | None = None
        claimed: list[Claimed] = []
        try:
            self._claim(directory, claimed)
            self._tell_beginning()
            dispatch.start()
            if isinstance(self._reader, MergingReader):
                self._reader.resume(self._partitions[0].fold.place)
            places = {each.number: self._place(each) for each in self._partitions}
            halts = self._settings.delivery.after_compaction == "halt"
            intake = Intake(self._reader, places, self._inbox.put, halts)
            intake.start()
            kafka = self._settings.log.kafka
            if kafka is not None and kafka.events_topic:
                paths = {partition.number: partition.state.path for partition in self._partitions}
                self._publisher = Publisher(self._settings, paths, self._inbox.put)
                self._publisher.start()
            while not stop.is_set() and self._failure is None:
                self._step(intake, dispatch, last=False)
            self._withdraw_gated()
            while self._in_flight:
                self._step(intake, dispatch, last=True)
            for partition in self._partitions:
                for answer in partition.abandon():
                    self._record(partition, answer)
                partition.save()
            if self._failure is not None:
                raise self._failure
        finally:
            if intake is not None:
                intake.stop()
            dispatch.stop()
            if self._publisher is not None:
                self._publisher.stop()
            for recorder in self._recorders.values():
                recorder.stop()
            for each in claimed:
                each.state.close()
                if each.store is not None and each.state.partition not in self._recorders:
                    each.store.close()
            directory.close()

    def _claim(self, directory: StateDirectory, claimed: list[Claimed]) -> None:
        """Take every partition, and let it be recorded. claimed: grows with each, also where a later one fails."""
        partitions = range(self._reader.partitions)
        known = directory.known(len(partitions))
        claims = Claims(self._settings, self._plan, self._hub, lambda: open_reader(self._settings))
        for number in partitions:
            claimed.append(claims.claim(number, directory.file(number), number in known))
        directory.note(len(partitions))
        for state, store in ((each.state, each.store) for each in claimed):
            number = state.partition
            self._partitions.append(
                Partition(state, self._plan, self._settings.emc, partial(self._tell_due, number)),
            )
            if store is not None:
                recorder = self._recorders[number] = Recorder(number, state.path, store, self._inbox.put)
                recorder.start()

    def _place(self, partition: Partition) -> Place:
        """Where it goes on, and whether this log is the one that it has read, as far as both have an identity."""
        known = partition.state.meta.get(_LOG_IDENTITY, "")
        same = not known or not self._reader.identity or known == self._reader.identity
        return Place(partition.fold.offset, partition.fold.seen, same)

    # -- the owner's step --------------------------------------------------------------------------------------------

    def _step(self, intake: Intake, dispatch: Dispatch, last: bool) -> None:
        """`last`: nothing is begun any more, only what is in flight is waited for."""
        for item in self._due(last):
            match item:
                case Records():
                    intake.taken()
                    if not last:
                        self._fold(item)
                case Answer():
                    self._in_flight -= 1
                    partition = self._partitions[item.attempt.partition]
                    if partition.blocked:
                        partition.deferred.append(item)
                    else:
                        self._record(partition, item)
                case Trouble(error):
                    if error.cause != self._troubled:
                        self._troubled = error.cause
                        self._fault(error.operation, error.subject, error.cause, error.mend)
                case Unpublished(error):
                    self._fault(error.operation, error.subject, error.cause, error.mend)
                case Unrecorded(_, error):
                    self._fault(error.operation, error.subject, error.cause, error.mend)
                case Recorded(number, seq, at):
                    self._partitions[number].state.recorded = self._recorded[number] = seq
                    gated = self._gated.get(number)
                    while gated and gated[0][0] <= seq:
                        dispatch.push(gated.popleft()[1], at)
                case Unsent(attempt):
                    self._withdraw(attempt)
                case Failed(error, answered):
                    self._in_flight -= answered
                    self._failure = self._failure or error
        attempts = [] if last or self._failure else self._begin()
        for partition in self._partitions:
            partition.save()
        self._in_flight += len(attempts)
        self._push(attempts, dispatch)
        self._publish()
        self._record_states()
        self._tell_depths()
        steady = monotonic()
        if steady >= self._prune_at:
            now, days = self._clock(), self._settings.delivery.ledger_days
            more = [
                partition.prune(now, days, self._published(partition.number))
                for partition in self._partitions
                if not partition.blocked
            ]
            self._prune_at = steady + (_IDLE if any(more) else _PRUNE_EVERY)

    def _due(self, last: bool) -> list[Item]:
        """What this step deals with: every answer that has arrived, and one poll of records.

        So a backlog of records does not keep answers waiting, nor pushes that could be begun.
        """
        self._gather(0.0 if self._polls else _IDLE if last else self._patience())
        answers: list[Item] = list(self._answers)
        self._answers.clear()
        return [*answers, self._polls.popleft()] if self._polls else answers

    def _gather(self, wait: float) -> None:
        """Take what has arrived; waits for the first so many seconds."""
        try:
            item = self._inbox.get(timeout=wait) if wait else self._inbox.get_nowait()
            while True:
                if isinstance(item, Records):
                    self._polls.append(item)
                else:
                    self._answers.append(item)
                item = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _patience(self) -> float:
        """Seconds until a push may be begun, if nothing arrives meanwhile."""
        steady = monotonic()
        moment = steady + _IDLE
        if self._in_flight < self._settings.delivery.max_in_flight and not self._breaker.probing:
            moments = [at for partition in self._partitions if (at := partition.next_at(steady)) is not None]
            if moments:
                moment = min(moment, max(min(moments), self._breaker.opens_at))
        return max(moment - steady, 0.001)

    # -- folding -----------------------------------------------------------------------------------------------------

    def _fold(self, records: Records) -> None:
        self._troubled = ""
        for number, changes in records.changes.items():
            partition = self._partitions[number]
            before = partition.owed
            partition.remember({_LOG_IDENTITY: self._reader.identity})
            deferred = partition.apply(changes)
            for answer in deferred:
                self._record(partition, answer)
            offset = partition.fold.offset
            commit_time_us = changes[-1][1].commit_time_us
            ahead = records.ahead.get(number, 0)
            due = partition.owed - before
            self._hub.emit(BatchFolded(number, len(changes), offset, offset + ahead, commit_time_us, due))

    # -- pushing -----------------------------------------------------------------------------------------------------

    def _begin(self) -> list[Attempt]:
        steady, now = monotonic(), self._clock()
        room = self._breaker.allowed(steady, self._settings.delivery.max_in_flight - self._in_flight)
        attempts: list[Attempt] = []
        # The partition that began last time is the last to begin now, so that none waits for another's backlog.
        for partition in sorted(self._partitions, key=lambda each: each.begun_at):
            if len(attempts) < room and not partition.blocked:
                begun = partition.begin(room - len(attempts), steady, now)
                attempts += begun
        for attempt in attempts:
            self._breaker.began(attempt.dossier)
        return attempts

    def _push(self, attempts: list[Attempt], dispatch: Dispatch) -> None:
        """Send what was begun and saved; where other machines may take over, not before that is recorded."""
        at_once: list[Attempt] = []
        gated: dict[int, list[Attempt]] = {}
        for attempt in attempts:
            recorder = self._recorders.get(attempt.partition)
            if recorder is None or not recorder.shared:
                at_once.append(attempt)
            else:
                gated.setdefault(attempt.partition, []).append(attempt)
        for number, held in gated.items():
            self._gated.setdefault(number, deque()).append((self._partitions[number].noted, held))
        if at_once:
            dispatch.push(at_once)

    def _withdraw_gated(self) -> None:
        """Before the end: what is not recorded yet is not sent."""
        for gated in self._gated.values():
            while gated:
                for attempt in gated.pop()[1][::-1]:
                    self._withdraw(attempt)

    def _withdraw(self, attempt: Attempt) -> None:
        self._in_flight -= 1
        self._breaker.withdrew(attempt.dossier)
        self._partitions[attempt.partition].withdraw(attempt)

    def _record_states(self) -> None:
        """Let the recorders know of what was made durable."""
        for number, recorder in self._recorders.items():
            partition = self._partitions[number]
            now = (partition.noted, partition.fold.offset)
            if not partition.blocked and self._woken.get(number) != now:
                self._woken[number] = now
                recorder.wake()
            if number in self._recorded:
                changes = now[0] - self._recorded[number]
                if self._unrecorded.get(number) != changes:
                    self._unrecorded[number] = changes
                    self._hub.emit(StateUnrecorded(number, changes))

    def _record(self, partition: Partition, answer: Answer) -> None:
        attempt, outcome, now = answer.attempt, answer.outcome, answer.at
        ambiguous = False
        with partition.state.reported():
            match outcome:
                case Delivered():
                    word = "delivered"
                    self._breaker.answered()
                    self._warned = ""
                    partition.outbox.delivered(attempt, now)
                case Reject():
                    word = "rejected"
                    self._breaker.answered()
                    partition.outbox.park(attempt, outcome.reason, outcome.detail, now)
                    self._hub.emit(DossierParked(partition.number, attempt.event.CodeProfile, outcome.reason))
                case Retry():
                    word = "retry"
                    ambiguous = outcome.ambiguous
                    self._put_off(partition, attempt, outcome)
        self._hub.emit(
            PushAnswered(
                partition.number,
                attempt.event.CodeProfile,
                attempt.event.Status,
                word,
                outcome.reason,
                attempt.number,
                ambiguous,
                answer.seconds,
                now - attempt.commit_time_us / 1e6,
                attempt.recovered,
            )
        )

    def _put_off(self, partition: Partition, attempt: Attempt, retry: Retry) -> None:
        # By the steady clock, so that a clock that is set back does not hold events for hours.
        steady = monotonic()
        chance = random.random()  # noqa: S311 - jitter
        wait = backoff(attempt.number, self._settings.delivery.retry, chance)
        if retry.after is not None:
            wait = max(wait, retry.after)
        partition.outbox.again(attempt, retry.reason, retry.ambiguous, steady + wait)
        opened = self._breaker.failed(attempt.dossier, steady, chance)
        if retry.everyone:
            self._breaker.pause(steady + wait)
        if (retry.operator or opened) and retry.reason != self._warned:
            self._warned = retry.reason
            mend = retry.operator or "nothing to do: events wait on disk and go out in order when EMC is back"
            self._fault("push to EMC", self._emc, retry.reason, mend)

    # -- publishing --------------------------------------------------------------------------------------------------

    def _publish(self) -> None:
        """Let the publisher know of events that were made durable."""
        for partition in self._partitions:
            saved = partition.outbox.saved
            if self._publisher is None or partition.blocked or self._saved.get(partition.number) == saved:
                continue
            self._saved[partition.number] = saved
            self._publisher.wake()

    def _published(self, number: int) -> int:
        """The id up to which the ledger may be pruned, as far as others need it."""
        if self._publisher is None:
            return sys.maxsize
        return self._publisher.published(number) or 0

    # -- telling -----------------------------------------------------------------------------------------------------

    def _tell_beginning(self) -> None:
        interrupted = sum(partition.outbox.interrupted for partition in self._partitions)
        if interrupted:
            self._fault(
                "start",
                f"{interrupted} events",
                "they were on their way when the last process died, and may have arrived",
                "nothing to do: they are sent again, and counted as ambiguous",
            )
        parked = [(p.number, *told) for p in self._partitions for told in p.outbox.parked.values()]
        for number, code, reason in parked[:_MOST_TOLD]:
            self._hub.emit(DossierParked(number, code, reason))
        self._tell_depths()

    def _tell_due(self, number: int, due: Due) -> None:
        event = due.event
        self._hub.emit(EventDue(number, event.CodeProfile, event.Status, due.commit_time_us, due.recovered))

    def _tell_depths(self) -> None:
        for partition in self._partitions:
            depth = (partition.outbox.waiting, len(partition.outbox.parked))
            if self._depths.get(partition.number) != depth:
                self._depths[partition.number] = depth
                self._hub.emit(OutboxDepth(partition.number, *depth))
        for number, saved in self._saved.items():
            assert self._publisher is not None
            published = self._publisher.published(number)
            if published is not None and self._unpublished.get(number) != (waiting := max(0, saved - published)):
                self._unpublished[number] = waiting
                self._hub.emit(EventsUnpublished(number, waiting))

    def _fault(self, operation: str, subject: str, cause: str, mend: str) -> None:
        self._hub.emit(Fault("deliver", operation, subject, cause, mend, fatal=False))
