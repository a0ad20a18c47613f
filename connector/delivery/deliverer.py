"""Deliver: the log's records in, accepted events out.

Three threads, each with one thing of its own: the reader has the log, the owner (the caller's thread) has the state
files, the pusher has the network. The owner works in steps: everything that has arrived (records, answers) is folded
and recorded, pushes are begun, and one commit per partition makes all of it durable before a request goes out. So an
attempt is on disk before it is sent, and a burst costs one sync.

Invariants: `run` returns when `stop` is set and everything in flight has been answered and recorded, or raises the
ConnectorError that ended it; memory is bounded by the queue between reader and owner, and by `max_in_flight`.
"""

from __future__ import annotations

import asyncio
import queue
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from connector.change.decoding import ChangeDecoder
from connector.change.record import Change
from connector.delivery.directory import StateDirectory
from connector.delivery.fold import Due, Fold
from connector.delivery.outbox import Attempt, Outbox
from connector.delivery.outcome import Delivered, Outcome, Reject, Retry
from connector.delivery.pacing import Breaker, backoff
from connector.delivery.push import Pusher
from connector.delivery.state import PartitionState
from connector.errors import ConnectorError, DeliveryError
from connector.log.contract import LogReader
from connector.mapping.plan import Plan
from connector.observe import BatchFolded, DossierParked, EventDue, Fault, Hub, OutboxDepth, PushAnswered
from connector.settings import Settings

_LIMIT = 2000
"""Records in one poll."""
_QUEUED = 4
"""Polls that may wait for the owner."""
_IDLE = 0.5
"""Seconds after which an idle owner looks around."""
_PRUNE_EVERY = 3600.0
_ENDS_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class _Records:
    changes: list[tuple[int, int, Change]]
    """(partition, offset, change) in order."""
    positions: dict[int, int]
    ends: dict[int, int]


@dataclass(frozen=True, slots=True)
class _Answer:
    attempt: Attempt
    outcome: Outcome
    seconds: float
    at: float


@dataclass(frozen=True, slots=True)
class _Failed:
    error: ConnectorError


class _Partition:
    def __init__(
        self, state: PartitionState, plan: Plan, settings: Settings, owe: Callable[[Outbox, Due], None]
    ) -> None:
        self.state = state
        self.outbox = Outbox(state, plan.version)
        self.fold = Fold(state, plan, settings.emc, lambda due: owe(self.outbox, due))
        self.told_depth = (-1, -1)


class Deliverer:
    """See the module's contract. `clock`: seconds since the epoch."""

    def __init__(self, settings: Settings, plan: Plan, reader: LogReader, hub: Hub, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._plan = plan
        self._reader = reader
        self._hub = hub
        self._clock = clock
        self._inbox: queue.SimpleQueue[_Records | _Answer | _Failed] = queue.SimpleQueue()
        self._room = threading.Semaphore(_QUEUED)
        self._reading = threading.Event()
        self._breaker = Breaker(settings.delivery.retry)
        self._in_flight = 0
        self._partitions: list[_Partition] = []
        self._due = 0
        self._warned = ""
        self._pruned_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set. Raises ConnectorError when it cannot go on."""
        directory = StateDirectory(self._settings.delivery.state, self._settings.name)
        pusher = _PushThread(self._settings, self._inbox, self._clock)
        reader: threading.Thread | None = None
        try:
            states = directory.open(self._reader.partitions)
            self._partitions = [_Partition(state, self._plan, self._settings, self._owe) for state in states]
            self._report_interrupted()
            pusher.start()
            reader = threading.Thread(target=self._read, name="log reader", daemon=True)
            reader.start()
            while not stop.is_set():
                self._step(pusher, begin=True, stop=stop)
            while self._in_flight:
                self._step(pusher, begin=False, stop=stop)
        finally:
            self._reading.set()
            if reader is not None:
                self._room.release()
                reader.join()
            pusher.stop()
            for partition in self._partitions:
                partition.state.close()
            directory.close()

    # -- the owner ---------------------------------------------------------------------------------------------------

    def _step(self, pusher: _PushThread, begin: bool, stop: threading.Event) -> None:
        touched: set[int] = set()
        for item in self._arrived(stop):
            match item:
                case _Records():
                    self._room.release()
                    if begin:
                        touched |= self._fold(item)
                case _Answer():
                    self._in_flight -= 1
                    self._record(item)
                    touched.add(item.attempt.partition)
                case _Failed():
                    raise item.error
        now = self._clock()
        attempts = self._begin(now) if begin else []
        for partition in self._partitions:
            if not partition.fold.inside:
                partition.state.commit()
        self._in_flight += len(attempts)
        for attempt in attempts:
            pusher.push(attempt)
            touched.add(attempt.partition)
        self._tell_depth(touched)
        if now - self._pruned_at > _PRUNE_EVERY:
            self._pruned_at = now
            for partition in self._partitions:
                if not partition.fold.inside:
                    partition.outbox.prune(now, self._settings.delivery.ledger_days)

    def _arrived(self, stop: threading.Event) -> list[_Records | _Answer | _Failed]:
        """Everything that has arrived; waits for the first, but not past the next thing that is due."""
        wait = _IDLE
        now = self._clock()
        moments = [at for partition in self._partitions if (at := partition.outbox.next_at) is not None]
        if any(partition.outbox.pending for partition in self._partitions):
            moments.append(self._breaker.opens_at)
        for moment in moments:
            if self._in_flight < self._settings.delivery.max_in_flight:
                wait = min(wait, max(moment - now, self._breaker.opens_at - now, 0.001))
        try:
            items = [self._inbox.get(timeout=min(wait, 0.1) if stop.is_set() else wait)]
        except queue.Empty:
            return []
        while True:
            try:
                items.append(self._inbox.get_nowait())
            except queue.Empty:
                return items

    def _fold(self, records: _Records) -> set[int]:
        now = self._clock()
        counts: dict[int, int] = {}
        times: dict[int, int] = {}
        dues: dict[int, int] = {}
        for number, offset, change in records.changes:
            partition = self._partitions[number]
            before = self._due
            partition.fold.apply(change, offset, now)
            counts[number] = counts.get(number, 0) + 1
            dues[number] = dues.get(number, 0) + self._due - before
            times[number] = change.commit_time_us
        for number, count in counts.items():
            state = self._partitions[number].state
            end = records.ends.get(number, state.offset)
            if records.positions.get(number, 0) == end:
                end = state.offset  # what is left is not ours to read: commit markers of the log
            self._hub.emit(BatchFolded(number, count, state.offset, end, times[number], dues[number]))
        return set(counts)

    def _owe(self, outbox: Outbox, due: Due) -> None:
        outbox.owe(due)
        self._due += 1
        partition = next(p.state.partition for p in self._partitions if p.outbox is outbox)
        self._hub.emit(EventDue(partition, due.event.CodeProfile, due.event.Status, due.commit_time_us))

    def _begin(self, now: float) -> list[Attempt]:
        free = self._settings.delivery.max_in_flight - self._in_flight
        room = self._breaker.allowed(now, free) if free > 0 else 0
        attempts: list[Attempt] = []
        for partition in self._partitions:
            if partition.fold.inside:
                continue  # its step cannot be committed now, so nothing of it may go out
            attempts += partition.outbox.begin(room - len(attempts), now)
        self._breaker.began(len(attempts))
        return attempts

    def _record(self, answer: _Answer) -> None:
        attempt, outcome, now = answer.attempt, answer.outcome, answer.at
        outbox = self._partitions[attempt.partition].outbox
        ambiguous = False
        match outcome:
            case Delivered():
                word = "delivered"
                self._breaker.answered()
                self._warned = ""
                outbox.delivered(attempt, now)
            case Reject():
                word = "rejected"
                self._breaker.answered()
                outbox.park(attempt, outcome.reason, now)
                self._hub.emit(DossierParked(attempt.partition, attempt.event.CodeProfile, outcome.reason))
            case Retry():
                word = "retry"
                ambiguous = outcome.ambiguous
                self._put_off(outbox, attempt, outcome, now)
        self._hub.emit(
            PushAnswered(
                attempt.partition,
                attempt.event.CodeProfile,
                attempt.event.Status,
                word,
                outcome.reason,
                attempt.number,
                ambiguous,
                answer.seconds,
                now - attempt.commit_time_us / 1e6,
            )
        )

    def _put_off(self, outbox: Outbox, attempt: Attempt, retry: Retry, now: float) -> None:
        chance = random.random()  # noqa: S311 - jitter
        wait = backoff(attempt.number, self._settings.delivery.retry, chance)
        if retry.after is not None:
            wait = max(wait, retry.after)
        outbox.again(attempt, retry.reason, retry.ambiguous, now + wait)
        self._breaker.failed(now, chance)
        if retry.everyone:
            self._breaker.pause(now + (retry.after if retry.after is not None else wait))
        if retry.operator and retry.reason != self._warned:
            self._warned = retry.reason
            self._hub.emit(
                Fault("deliver", "push to EMC", self._settings.emc.url, retry.reason, retry.operator, fatal=False)
            )

    def _tell_depth(self, touched: set[int]) -> None:
        for number in touched:
            partition = self._partitions[number]
            depth = (partition.outbox.waiting, partition.outbox.parked)
            if depth != partition.told_depth:
                partition.told_depth = depth
                self._hub.emit(OutboxDepth(number, *depth))

    def _report_interrupted(self) -> None:
        count = sum(partition.outbox.interrupted for partition in self._partitions)
        if count:
            self._hub.emit(
                Fault(
                    "deliver",
                    "start",
                    f"{count} events",
                    "they were on their way when the last process died, and may have arrived",
                    "nothing to do: they are sent again and counted as ambiguous",
                    fatal=False,
                )
            )

    # -- the reader --------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            reader = self._reader
            decoder = ChangeDecoder(reader.schema)
            reader.assign({partition.state.partition: partition.state.offset for partition in self._partitions})
            ends: dict[int, int] = {}
            asked_at = 0.0
            while not self._reading.is_set():
                records = reader.poll(0.2, _LIMIT)
                if not records:
                    continue
                changes = [
                    (record.partition, record.offset, decoder.decode(record.key, record.value)) for record in records
                ]
                self._room.acquire()
                now = self._clock()
                if now - asked_at > _ENDS_EVERY:
                    # A question to the broker: too slow to ask with every batch.
                    ends, asked_at = dict(reader.ends()), now
                positions = dict(reader.positions())
                known = {number: max(end, positions.get(number, 0)) for number, end in ends.items()}
                self._inbox.put(_Records(changes, positions, known))
        except ConnectorError as error:
            self._inbox.put(_Failed(error))
        except Exception as error:  # a defect of ours must end the process, not only this thread
            failed = DeliveryError(
                "read the change log", "the reader", f"{type(error).__name__}: {error}", "report this defect"
            )
            failed.__cause__ = error
            self._inbox.put(_Failed(failed))


class _PushThread:
    """Runs the pusher's event loop; answers go to the owner's inbox."""

    def __init__(
        self,
        settings: Settings,
        inbox: queue.SimpleQueue[_Records | _Answer | _Failed],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._inbox = inbox
        self._clock = clock
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pusher: Pusher | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="push", daemon=True)

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()

    def push(self, attempt: Attempt) -> None:
        self._loop.call_soon_threadsafe(self._begin, attempt)

    def stop(self) -> None:
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    async def _open(self) -> None:
        self._pusher = Pusher(self._settings.emc, self._settings.delivery)

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._pusher is not None:
            await self._pusher.__aexit__(None, None, None)

    def _begin(self, attempt: Attempt) -> None:
        task = self._loop.create_task(self._push(attempt))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _push(self, attempt: Attempt) -> None:
        assert self._pusher is not None
        began = self._loop.time()
        try:
            outcome = await self._pusher.push(attempt)
        except Exception as error:  # a defect of ours: stop loudly, the attempt stays on record as sent
            failed = DeliveryError(
                "push to EMC", "the pusher", f"{type(error).__name__}: {error}", "report this defect"
            )
            failed.__cause__ = error
            self._inbox.put(_Failed(failed))
            return
        self._inbox.put(_Answer(attempt, outcome, self._loop.time() - began, self._clock()))
