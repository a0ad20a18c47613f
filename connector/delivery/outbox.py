"""The outbox and ledger of one partition: which event may be pushed next, and what became of it.

State of an event:

| state     | what happens                                   | next                                        |
|-----------|------------------------------------------------|---------------------------------------------|
| waiting   | it is the first of its dossier and is begun    | sent (durable before the request goes out)  |
| sent      | EMC took it                                    | delivered                                   |
| sent      | EMC rejected it                                | parked; the dossier's later events wait     |
| sent      | no answer, or one that says: later             | waiting (counted when EMC may have taken it)|
| sent      | our death                                      | waiting, counted as ambiguous, at next start|

Invariants: per dossier at most one event is sent; events of a dossier are begun in the order of their ids, which is the
order of judgement. Memory holds the ids of what is not delivered, the file holds everything.
Used from the thread of the state; changes become durable with the state's `commit`.
"""

from __future__ import annotations

import heapq
import json
from collections import deque
from dataclasses import asdict, dataclass

from connector.delivery.fold import Due
from connector.delivery.state import PartitionState
from connector.emc.event import EmcEvent
from connector.emc.judgement import event_from

_KEEP = 86_400.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One push that has begun. `number` counts from 1."""

    partition: int
    id: int
    dossier: str
    event: EmcEvent
    number: int
    commit_time_us: int


class Outbox:
    """See the module's table and invariants."""

    def __init__(self, state: PartitionState, mapping_version: str) -> None:
        self._state = state
        self._version = mapping_version
        self._queues: dict[str, deque[int]] = {}
        self._ready: deque[str] = deque()
        self._later: list[tuple[float, str]] = []
        self._parked: set[str] = set()
        self._waiting = 0
        self._fresh: dict[int, tuple[EmcEvent, int]] = {}
        self.interrupted = self._restore()

    @property
    def waiting(self) -> int:
        """Events that are neither delivered nor parked, nor queued behind a parked one."""
        return self._waiting

    @property
    def parked(self) -> int:
        """Dossiers that are parked."""
        return len(self._parked)

    @property
    def next_at(self) -> float | None:
        """When the next event that was put off may be tried again."""
        return self._later[0][0] if self._later else None

    @property
    def pending(self) -> bool:
        """Something could be begun now."""
        return bool(self._ready)

    def owe(self, due: Due) -> None:
        """Take an event that a judgement owes."""
        cursor = self._state.db.execute(
            "INSERT INTO events (dossier, code, status, event, state, position, transaction_id, mapping,"
            " commit_time_us) VALUES (?, ?, ?, ?, 'waiting', ?, ?, ?, ?)",
            (
                due.dossier,
                due.event.CodeProfile,
                due.event.Status,
                json.dumps(asdict(due.event), ensure_ascii=False, separators=(",", ":")),
                due.position,
                due.transaction,
                self._version,
                due.commit_time_us,
            ),
        )
        number = cursor.lastrowid
        assert number is not None
        self._fresh[number] = (due.event, due.commit_time_us)
        self._enqueue(due.dossier, number)

    def begin(self, room: int, now: float) -> list[Attempt]:
        """Begin up to `room` pushes; they may go out once the state is committed."""
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[1])
        attempts: list[Attempt] = []
        while self._ready and len(attempts) < room:
            dossier = self._ready.popleft()
            attempts.append(self._begin(dossier, now))
        return attempts

    def delivered(self, attempt: Attempt, now: float) -> None:
        """EMC took it."""
        self._end(attempt, "delivered", "", now)
        queue = self._queues[attempt.dossier]
        queue.popleft()
        self._waiting -= 1
        if queue:
            self._ready.append(attempt.dossier)
        else:
            del self._queues[attempt.dossier]

    def again(self, attempt: Attempt, reason: str, ambiguous: bool, at: float) -> None:
        """It did not get through; try again at `at`."""
        self._state.begin()
        self._state.db.execute(
            "UPDATE events SET state = 'waiting', reason = ?, ambiguous = ambiguous + ? WHERE id = ?",
            (reason, int(ambiguous), attempt.id),
        )
        heapq.heappush(self._later, (at, attempt.dossier))

    def park(self, attempt: Attempt, reason: str, now: float) -> None:
        """EMC rejected it: the dossier waits for an operator."""
        self._end(attempt, "parked", reason, now)
        self._parked.add(attempt.dossier)
        self._waiting -= len(self._queues[attempt.dossier])

    def prune(self, now: float, days: int) -> None:
        """Forget events that were delivered long ago."""
        self._state.begin()
        self._state.db.execute("DELETE FROM events WHERE state = 'delivered' AND ended_at < ?", (now - days * _KEEP,))

    def _begin(self, dossier: str, now: float) -> Attempt:
        number = self._queues[dossier][0]
        self._state.begin()
        db = self._state.db
        db.execute("UPDATE events SET state = 'sent', attempts = attempts + 1, sent_at = ? WHERE id = ?", (now, number))
        fresh = self._fresh.pop(number, None)
        if fresh is not None:
            event, commit_time_us = fresh
            tries = 1
        else:
            stored, tries, commit_time_us = db.execute(
                "SELECT event, attempts, commit_time_us FROM events WHERE id = ?", (number,)
            ).fetchone()
            event = event_from(json.loads(stored))
        return Attempt(self._state.partition, number, dossier, event, tries, commit_time_us)

    def _end(self, attempt: Attempt, state: str, reason: str, now: float) -> None:
        self._state.begin()
        self._state.db.execute(
            "UPDATE events SET state = ?, reason = ?, ended_at = ? WHERE id = ?", (state, reason, now, attempt.id)
        )

    def _enqueue(self, dossier: str, number: int) -> None:
        if dossier not in self._parked:
            self._waiting += 1
        queue = self._queues.get(dossier)
        if queue is None:
            self._queues[dossier] = deque((number,))
            self._ready.append(dossier)
        else:
            queue.append(number)
        if len(self._fresh) > 10_000:
            self._fresh.clear()  # the outbox is on disk; memory holds only what is about to go

    def _restore(self) -> int:
        """After a start: what was out when we died may or may not have reached EMC."""
        db = self._state.db
        interrupted = db.execute("SELECT count(*) FROM events WHERE state = 'sent'").fetchone()[0]
        if interrupted:
            self._state.begin()
            db.execute(
                "UPDATE events SET state = 'waiting', ambiguous = ambiguous + 1,"
                " reason = 'interrupted before the answer' WHERE state = 'sent'"
            )
            self._state.commit()
        self._parked = {row[0] for row in db.execute("SELECT DISTINCT dossier FROM events WHERE state = 'parked'")}
        for number, dossier in db.execute(
            "SELECT id, dossier FROM events WHERE state IN ('waiting', 'parked') ORDER BY id"
        ).fetchall():
            self._enqueue(dossier, number)
        self._ready = deque(dossier for dossier in self._ready if dossier not in self._parked)
        return int(interrupted)
