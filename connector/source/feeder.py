"""The log thread: takes batches from the capture thread, makes them durable, tells how far it is.

Invariants: batches become durable in the order they were offered; `durable_lsn` moves only after both the log and the
keyed index have the batch on disk; after a failure nothing more is written, `failure` says why. The capture thread
never waits for the log here: it asks `room`, offers, and is woken (`wake`) when something has changed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from connector.errors import ConnectorError, LogError
from connector.log.contract import Concern, Entry, LogWriter
from connector.observe import Hub, TransactionsLogged
from connector.source.assembler import Batch
from connector.source.index import KeyedIndex

_GROUP = 8 * 1024 * 1024
"""Batches that wait are written together up to this many bytes: one sync for many commits."""
_OVERHEAD = 160
"""Bytes that an entry takes in memory beside its key and value (three objects and their places)."""


class Job:
    """Something to be done on the log thread, in order with the batches."""

    __slots__ = ("action", "done", "result")

    def __init__(self, action: Callable[[], Any]) -> None:
        self.action = action
        self.result: Any = None
        self.done = False


class Feeder:
    """See the module's invariants. `memory`: bytes of changes that may wait."""

    def __init__(
        self, open_writer: Callable[[], LogWriter], index: KeyedIndex, hub: Hub, memory: int, wake: Callable[[], None]
    ) -> None:
        self._open_writer = open_writer
        self._index = index
        self._hub = hub
        self._memory = memory
        self._wake = wake
        self._queue: deque[Batch | Job] = deque()
        self.waiting = 0
        """Bytes that the batches take which the log has not taken yet; at most `memory` and one batch."""
        self._condition = threading.Condition()
        self._stopping = False
        self._since = 0.0
        self.tails: Mapping[int, bytes] | None = None
        self.partitions = 0
        self.concerns: tuple[Concern, ...] = ()
        self.durable_lsn = 0
        self.saved_lsn = 0
        self.saved_batches = 0
        self.index_from = 0
        """What the index was past when the session began: what it remembers of that never falls below."""
        self.failure: ConnectorError | None = None
        self._writer: LogWriter | None = None
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    # -- the capture thread ------------------------------------------------------------------------------------------

    @property
    def room(self) -> bool:
        """Whether another batch may be offered."""
        return self.waiting < self._memory

    @property
    def idle(self) -> bool:
        """Nothing is being written."""
        return self._since == 0.0 and not self._queue

    def stalled_for(self, now: float) -> float:
        """Seconds since the log has taken anything, 0 when it has nothing to take. `now`: time.monotonic()."""
        since = self._since
        return now - since if since else 0.0

    def offer(self, batch: Batch) -> None:
        """Hand over a batch."""
        with self._condition:
            self.waiting += _footprint(batch)
            self._queue.append(batch)
            self._condition.notify()

    def submit(self, action: Callable[[], Any]) -> Job:
        """Have something done in order with the batches."""
        job = Job(action)
        with self._condition:
            self._queue.append(job)
            self._condition.notify()
        return job

    def register(self, schema: str) -> Job:
        """Ask for a schema's id."""
        return self.submit(lambda: self._opened().register(schema))

    def save_confirmed(self, lsn: int) -> Job:
        """Remember an LSN that was adopted from the server, before it is told."""

        def save() -> None:
            self._index.save([], self._confirmed(lsn))
            self.saved_lsn = lsn

        return self.submit(save)

    def stop(self, timeout: float) -> None:
        """Let what was offered become durable, at most `timeout` seconds, and close the log."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join(timeout)

    # -- the log thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._since = time.monotonic()
            writer = self._writer = self._open_writer()
            tails = writer.open()
            self.partitions = writer.partitions
            self.concerns = writer.concerns
            self.tails = tails
            self._since = 0.0
            self._wake()
            while self._step():
                self._since = 0.0
                self._wake()
        except ConnectorError as error:
            self.failure = error
        except Exception as error:  # a defect of ours must stop the capture, too, not only this thread
            self.failure = LogError(
                "write to the change log", "the log thread", f"{type(error).__name__}: {error}", "report this defect"
            )
            self.failure.__cause__ = error
        finally:
            self._wake()
            if self._writer is not None:
                self._writer.close()

    def _opened(self) -> LogWriter:
        assert self._writer is not None
        return self._writer

    def _step(self) -> bool:
        batches: list[Batch] = []
        job: Job | None = None
        with self._condition:
            while not self._queue:
                if self._stopping:
                    return False
                self._condition.wait()
            self._since = time.monotonic()
            size = 0
            while self._queue and size < _GROUP:
                head = self._queue[0]
                if isinstance(head, Job):
                    if not batches:
                        job = head
                        self._queue.popleft()
                    break
                batches.append(head)
                size += head.size
                self._queue.popleft()
        if job is not None:
            job.result = job.action()
            job.done = True
        else:
            self._write(batches, size)
        return True

    def _write(self, batches: list[Batch], size: int) -> None:
        entries: list[Entry] = []
        for batch in batches:
            entries.extend(batch.entries)
        if entries:
            self._opened().append(entries)
        ended = [batch for batch in batches if batch.end_lsn]
        meta = self._confirmed(ended[-1].end_lsn) if ended else {}
        for batch in batches:
            meta |= batch.note
        self._index.save([batch.index for batch in batches], meta, self._goes_on)
        self.saved_batches += len(batches)
        if ended:
            self.durable_lsn = self.saved_lsn = ended[-1].end_lsn
        with self._condition:
            self.waiting -= sum(map(_footprint, batches))
        transactions = sum(batch.transactions for batch in batches)
        if entries or transactions:
            changes = sum(batch.changes for batch in batches)
            cut = sum(batch.truncated for batch in batches)
            commit_lsn = ended[-1].commit_lsn if ended else 0
            time_us = ended[-1].commit_time_us if ended else 0
            self._hub.emit(TransactionsLogged(transactions, changes, len(entries), size, commit_lsn, time_us, cut))

    def _confirmed(self, lsn: int) -> dict[str, str]:
        return {"confirmed": str(max(lsn, self.index_from))}

    def _goes_on(self) -> None:
        """What is being done is much, and is no standstill."""
        self._since = time.monotonic()


def _footprint(batch: Batch) -> int:
    """What a batch takes in memory: its entries, and what it changes in the index."""
    return batch.size + _OVERHEAD * len(batch.entries) + batch.index.footprint
