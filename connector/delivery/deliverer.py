"""Deliver: the log's records in, accepted events out.

Threads, each with one thing of its own: the intake has the log, the dispatch has the network, the owner (the caller's
thread) has the state files; each partition's recorder has its record; with Kafka the group and the claims know which
partitions are ours (`holdings`), and the publisher has the topic of events.
The owner works in steps: one poll of records is folded, every answer that has
arrived is recorded, pushes are begun, and one commit per partition makes all of it durable before a request goes out.
So an attempt is on disk before it is sent, and a burst costs one sync. Where other machines may take over, it is also
in `<name>.deliveries` before it is sent.

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
from time import monotonic
from urllib.parse import urlsplit

from connector.delivery import holdings
from connector.delivery.claim import Taken
from connector.delivery.directory import StateDirectory
from connector.delivery.dispatch import Answer, Dispatch, Unsent
from connector.delivery.fold import Due
from connector.delivery.holding import Holding
from connector.delivery.holdings import Holdings
from connector.delivery.intake import Failed, Intake, Records, Trouble
from connector.delivery.outbox import Attempt
from connector.delivery.outcome import Delivered, Reject, Retry
from connector.delivery.pacing import Breaker, backoff
from connector.delivery.partition import Partition
from connector.delivery.publisher import Publisher, Unpublished
from connector.delivery.recorder import Fenced, Recorded, Unrecorded
from connector.errors import ConnectorError
from connector.log.contract import LogReader
from connector.log.kafka_membership import Lost
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

_IDLE = 0.5
"""Seconds after which an idle owner looks around."""
_PRUNE_EVERY = 3600.0
_MOST_TOLD = 1000
"""Parked dossiers that are told of at the start."""

Item = holdings.Item | Records | Trouble | Answer | Unsent


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
        self._holdings: Holdings | None = None
        self._failure: ConnectorError | None = None
        self._warned = ""
        self._troubled = ""
        self._prune_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set. Raises ConnectorError when it cannot go on."""
        directory = StateDirectory(self._settings.delivery.state, self._settings.name)
        dispatch = Dispatch(self._settings, self._clock, self._inbox.put)
        intake = Intake(self._reader, self._inbox.put, self._settings.delivery.after_compaction == "halt")
        mine: Holdings | None = None
        try:
            dispatch.start()
            mine = self._holdings = Holdings(
                self._settings, self._plan, self._hub, self._reader, directory, self._inbox.put, self._tell_due
            )
            mine.start(intake)
            for holding in mine.held.values():
                self._tell_beginning(holding)
            self._tell_depths()
            intake.start()
            while not stop.is_set() and self._failure is None:
                self._step(intake, dispatch, last=False)
            for holding in self._held:
                self._withdrew(holding.withdraw_gated())
            while self._in_flight:
                self._step(intake, dispatch, last=True)
            for holding in self._held:
                self._finish(holding)
                mine.release(holding)
            if self._failure is not None:
                raise self._failure
        finally:
            intake.stop()
            dispatch.stop()
            if mine is not None:
                mine.stop()
            directory.close()

    @property
    def _held(self) -> list[Holding]:
        return [] if self._holdings is None else list(self._holdings.held.values())

    def _holding(self, number: int) -> Holding | None:
        return None if self._holdings is None else self._holdings.held.get(number)

    # -- the owner's step --------------------------------------------------------------------------------------------

    def _step(self, intake: Intake, dispatch: Dispatch, last: bool) -> None:
        """`last`: nothing is begun any more, only what is in flight is waited for."""
        assert self._holdings is not None
        for item in self._due(last):
            match item:
                case Records():
                    intake.taken()
                    if not last:
                        self._fold(item)
                case Answer():
                    self._answered(item)
                case Unsent(attempt):
                    self._unsent(attempt)
                case Trouble(error):
                    if error.cause != self._troubled:
                        self._troubled = error.cause
                        self._fault(error)
                case Unpublished(error) | Unrecorded(_, error):
                    self._fault(error)
                case Recorded(number, turn, seq, at):
                    holding = self._holding(number)
                    if holding is not None and holding.turn == turn:
                        self._failure = self._failure or holding.superseded
                        if free := holding.opened_by(seq):  # mostly there is none: the network's thread is let be
                            dispatch.push(free, at)
                case Failed(error, answered):
                    self._in_flight -= answered
                    self._failure = self._failure or error
                case _:
                    self._hear(item, last)
        attempts = [] if last or self._failure else self._begin()
        for holding in self._held:
            holding.partition.save()
        self._in_flight += len(attempts)
        self._push(attempts, dispatch)
        for holding in self._held:
            self._publish(holding)
            holding.wake_recorder()
        if not last:
            self._holdings.give_up(self._finish)
        self._tell_depths()
        self._prune()

    def _hear(self, news: holdings.News, last: bool) -> None:
        """Which partitions are ours has changed, or is about to. At the end all are let go anyway."""
        assert self._holdings is not None
        before = set(self._holdings.held)
        try:
            if not last or isinstance(news, Lost | Fenced):
                self._holdings.hear(news, self._drop, self._fault)
            elif isinstance(news, Taken) and news.claimed is not None:
                news.claimed.let_go()
        except ConnectorError as error:
            self._failure = self._failure or error
        for number in self._holdings.held.keys() - before:
            self._tell_beginning(self._holdings.held[number])

    def _finish(self, holding: Holding) -> None:
        """Before it is let go: give up what is not whole, and save."""
        self._withdrew(holding.withdraw_gated())
        for answer in holding.partition.abandon():
            self._record(holding, answer)
        holding.partition.save()

    def _drop(self, holding: Holding) -> None:
        """It is another's: what is on its way will be answered, and not recorded here."""
        self._withdrew(holding.drop_gated())

    def _withdrew(self, attempts: list[Attempt]) -> None:
        self._in_flight -= len(attempts)
        for attempt in attempts:
            self._breaker.withdrew(attempt.dossier)

    def _unsent(self, attempt: Attempt) -> None:
        holding = self._holding(attempt.partition)
        if holding is not None and attempt.id in holding.out:
            holding.withdraw(attempt)
        self._withdrew([attempt])

    def _answered(self, answer: Answer) -> None:
        attempt = answer.attempt
        self._in_flight -= 1
        holding = self._holding(attempt.partition)
        if holding is None or attempt.id not in holding.out:
            # The partition was lost meanwhile: whoever has it now counts the attempt.
            self._breaker.withdrew(attempt.dossier)
            return
        holding.out.discard(attempt.id)
        if holding.partition.blocked:
            holding.partition.deferred.append(answer)
        else:
            self._record(holding, answer)

    def _prune(self) -> None:
        steady = monotonic()
        if steady >= self._prune_at:
            now, days = self._clock(), self._settings.delivery.ledger_days
            more = [
                holding.partition.prune(now, days, self._published(holding.number))
                for holding in self._held
                if not holding.partition.blocked
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
            ours = [holding.partition for holding in self._held if not holding.leaving]
            moments = [at for partition in ours if (at := partition.next_at(steady)) is not None]
            if moments:
                moment = min(moment, max(min(moments), self._breaker.opens_at))
        return max(moment - steady, 0.001)

    # -- folding -----------------------------------------------------------------------------------------------------

    def _fold(self, records: Records) -> None:
        self._troubled = ""
        for number, changes in records.changes.items():
            holding = self._holding(number)
            if holding is None or holding.turn != records.turns[number] or holding.leaving:
                continue  # it was read before the partition was given up
            partition = holding.partition
            before = partition.owed
            partition.remember({holdings.LOG_IDENTITY: self._reader.identity})
            deferred = partition.apply(changes)
            for answer in deferred:
                self._record(holding, answer)
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
        for holding in sorted(self._held, key=lambda each: each.partition.begun_at):
            if len(attempts) < room and not holding.partition.blocked and not holding.leaving:
                begun = holding.partition.begin(room - len(attempts), steady, now)
                holding.out.update(attempt.id for attempt in begun)
                attempts += begun
        for attempt in attempts:
            self._breaker.began(attempt.dossier)
        return attempts

    def _push(self, attempts: list[Attempt], dispatch: Dispatch) -> None:
        """Send what was begun and saved; where other machines may take over, not before that is recorded."""
        by_partition: dict[int, list[Attempt]] = {}
        for attempt in attempts:
            by_partition.setdefault(attempt.partition, []).append(attempt)
        for number, begun in by_partition.items():
            holding = self._holding(number)
            if holding is not None and holding.recorder is not None and holding.recorder.shared:
                holding.gate(begun)
            else:
                dispatch.push(begun)

    def _record(self, holding: Holding, answer: Answer) -> None:
        partition = holding.partition
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
            self._told("push to EMC", self._emc, retry.reason, mend)

    # -- publishing --------------------------------------------------------------------------------------------------

    def _publish(self, holding: Holding) -> None:
        """Let the publisher know of events that were made durable."""
        publisher = self._publisher
        saved = holding.partition.outbox.saved
        if publisher is None or holding.partition.blocked or holding.saved == saved:
            return
        holding.saved = saved
        publisher.wake()

    @property
    def _publisher(self) -> Publisher | None:
        return None if self._holdings is None else self._holdings.publisher

    def _published(self, number: int) -> int:
        """The id up to which the ledger may be pruned, as far as others need it."""
        return sys.maxsize if self._publisher is None else self._publisher.published(number) or 0

    # -- telling -----------------------------------------------------------------------------------------------------

    def _tell_beginning(self, holding: Holding) -> None:
        outbox = holding.partition.outbox
        if outbox.interrupted:
            self._told(
                "start",
                f"{outbox.interrupted} events",
                "they were on their way when the last process died, and may have arrived",
                "nothing to do: they are sent again, and counted as ambiguous",
            )
        for code, reason in list(outbox.parked.values())[:_MOST_TOLD]:
            self._hub.emit(DossierParked(holding.number, code, reason))

    def _tell_due(self, number: int, due: Due) -> None:
        event = due.event
        self._hub.emit(EventDue(number, event.CodeProfile, event.Status, due.commit_time_us, due.recovered))

    def _tell_depths(self) -> None:
        for holding in self._held:
            outbox = holding.partition.outbox
            depth = (outbox.waiting, len(outbox.parked))
            if holding.depth != depth:
                holding.depth = depth
                self._hub.emit(OutboxDepth(holding.number, *depth))
            if holding.recorded is not None:
                unrecorded = holding.woken[0] - holding.recorded
                if holding.unrecorded != unrecorded:
                    holding.unrecorded = unrecorded
                    self._hub.emit(StateUnrecorded(holding.number, unrecorded))
            published = None if self._publisher is None else self._publisher.published(holding.number)
            if published is not None and holding.saved >= 0:
                waiting = max(0, holding.saved - published)
                if holding.unpublished != waiting:
                    holding.unpublished = waiting
                    self._hub.emit(EventsUnpublished(holding.number, waiting))

    def _fault(self, error: ConnectorError) -> None:
        self._told(error.operation, error.subject, error.cause, error.mend)

    def _told(self, operation: str, subject: str, cause: str, mend: str) -> None:
        self._hub.emit(Fault("deliver", operation, subject, cause, mend, fatal=False))
