"""The outbox and ledger of one partition: which event may be pushed next, and what became of it.

State of an event:

| state     | what happens                                   | next                                        |
|-----------|------------------------------------------------|---------------------------------------------|
| waiting   | it is the first of its dossier and is begun    | sent (durable before the request goes out)  |
| sent      | EMC took it                                    | delivered                                   |
| sent      | EMC rejected it                                | parked; the dossier's later events wait     |
| sent      | no answer, or one that says: later             | waiting (counted when EMC may have taken it)|
| sent      | it is not sent after all (`withdraw`)          | waiting                                     |
| sent      | our death                                      | waiting, counted as ambiguous, at next start|

Invariants: per dossier at most one event is sent; events of a dossier are begun in the order of their ids, which is the
order of judgement. An event's position and ordinal (its number among those of the position) name it for good: they rise
with the ids, and unlike these they are the same where the log is folded anew. The file holds everything; memory holds
the first `WINDOW` open events by id, and what lies beyond is loaded when these become few. Used from the thread of the
state; what is done here becomes durable with the state's next `commit`, after `save`.
"""

from __future__ import annotations

import heapq
import json
from collections import deque
from dataclasses import dataclass

from connector.delivery.fold import Due
from connector.delivery.state import PartitionState
from connector.emc.event import EmcEvent, EmcUser
from connector.emc.judgement import event_from

WINDOW = 10_000
_MOST_PRUNED = 5_000
_DAY = 86_400.0

_INSERT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, NULL, '', '', ?, ?)"
_LAST_OWED = "SELECT position, ordinal FROM events ORDER BY id DESC LIMIT 1"
_LOAD = "SELECT id, dossier FROM events WHERE state <> 'delivered' AND state = 'waiting' AND id > ? ORDER BY id LIMIT ?"
_PARKED = "SELECT dossier, code, reason FROM events WHERE state <> 'delivered' AND state = 'parked' ORDER BY id"
_INTERRUPTED = (
    "UPDATE events SET state = 'waiting', ambiguous = ambiguous + 1, reason = 'interrupted before the answer'"
    " WHERE state <> 'delivered' AND state = 'sent'"
)
_PRUNE = (
    "DELETE FROM events WHERE id IN"
    " (SELECT id FROM events WHERE state = 'delivered' AND ended_at < ? AND id <= ? ORDER BY ended_at LIMIT ?)"
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One push that has begun. `number` counts from 1."""

    partition: int
    id: int
    dossier: str
    event: EmcEvent
    number: int
    commit_time_us: int
    recovered: bool


@dataclass(slots=True)
class _New:
    """An event that is not in the file yet."""

    due: Due
    ordinal: int
    sent_at: float | None = None


class Outbox:
    """See the module's table and invariants. Events that were out when the last process died wait again."""

    def __init__(self, state: PartitionState) -> None:
        self._state = state
        db = state.db
        self.interrupted = db.execute(_INTERRUPTED).rowcount
        """Events that were out when the last process died."""
        self.parked: dict[str, tuple[str, str]] = {
            dossier: (code, reason) for dossier, code, reason in db.execute(_PARKED)
        }
        """Dossiers that are parked, with the dossier number and the reason."""
        self._new: dict[int, _New] = {}
        self._queues: dict[str, deque[int]] = {}
        self._ready: deque[str] = deque()
        self._later: list[tuple[float, str]] = []
        self._in_memory = 0
        self._loaded = 0
        last = db.execute("SELECT max(id) FROM events").fetchone()[0] or 0
        self._next = max(last + 1, int(state.meta.get("next event", "1")))
        owed = state.meta.get("last owed")
        self._owed: tuple[str, int] = (
            (*json.loads(owed),) if owed else db.execute(_LAST_OWED).fetchone() or ("", 0)  # of an older format
        )
        """Position of the last event that was owed, and its ordinal there."""
        still_open = db.execute("SELECT count(*) FROM events WHERE state <> 'delivered'").fetchone()[0]
        self._on_disk = int(still_open) - len(self.parked)
        self._behind_parked = sum(map(self._open_events, self.parked)) - len(self.parked)
        self._load()

    @property
    def waiting(self) -> int:
        """Events that are neither delivered nor parked, nor queued behind a parked one."""
        return self._in_memory + self._on_disk - self._behind_parked

    @property
    def next_at(self) -> float | None:
        """When the next event that was put off may be tried again, by the steady clock."""
        return self._later[0][0] if self._later else None

    @property
    def pending(self) -> bool:
        """Something could be begun now."""
        return bool(self._ready) or self._more

    @property
    def _more(self) -> bool:
        """Memory has room for open events that are in the file only."""
        return self._in_memory < WINDOW // 2 and self._on_disk > self._behind_parked

    @property
    def unsaved(self) -> int:
        """Events in memory only."""
        return len(self._new)

    def owe(self, due: Due) -> None:
        """Take an event that a judgement owes."""
        number = self._next
        self._next += 1
        position, ordinal = self._owed
        self._owed = (due.position, ordinal + 1 if position == due.position else 1)
        self._new[number] = _New(due, self._owed[1])
        if due.dossier in self.parked:
            self._behind_parked += 1
            self._on_disk += 1
        elif self._in_memory < WINDOW and self._on_disk == self._behind_parked:
            self._enqueue(due.dossier, number)
        else:
            self._on_disk += 1

    def begin(self, room: int, steady: float, now: float) -> list[Attempt]:
        """Begin up to `room` pushes; they may go out once the state is committed.

        steady: seconds of the clock that `again` was told a moment of; now: seconds since the epoch, for the ledger.
        """
        if self._more:
            self._load()
        while self._later and self._later[0][0] <= steady:
            self._ready.append(heapq.heappop(self._later)[1])
        attempts: list[Attempt] = []
        while self._ready and len(attempts) < room:
            dossier = self._ready.popleft()
            attempts.append(self._begin(dossier, now))
        return attempts

    def delivered(self, attempt: Attempt, now: float) -> None:
        """EMC took it."""
        self._end(attempt, "delivered", "", "", now)
        queue = self._queues[attempt.dossier]
        queue.popleft()
        self._in_memory -= 1
        if queue:
            self._ready.append(attempt.dossier)
        else:
            del self._queues[attempt.dossier]

    def again(self, attempt: Attempt, reason: str, ambiguous: bool, at: float) -> None:
        """It did not get through; try again at `at`, by the steady clock."""
        self._state.write().execute(
            "UPDATE events SET state = 'waiting', reason = ?, ambiguous = ambiguous + ? WHERE id = ?",
            (reason, int(ambiguous), attempt.id),
        )
        heapq.heappush(self._later, (at, attempt.dossier))

    def withdraw(self, attempt: Attempt) -> None:
        """It was begun, but is not sent: as if it had not been."""
        self._state.write().execute(
            "UPDATE events SET state = 'waiting', attempts = attempts - 1 WHERE id = ?", (attempt.id,)
        )
        self._ready.appendleft(attempt.dossier)

    def park(self, attempt: Attempt, reason: str, detail: str, now: float) -> None:
        """EMC rejected it: the dossier waits for an operator. `detail`: EMC's explanation."""
        self._end(attempt, "parked", reason, detail, now)
        in_memory = len(self._queues.pop(attempt.dossier))
        new = sum(each.due.dossier == attempt.dossier for each in self._new.values())
        self.parked[attempt.dossier] = (attempt.event.CodeProfile, reason)
        self._in_memory -= in_memory
        self._on_disk += in_memory - 1
        self._behind_parked += self._open_events(attempt.dossier) + new - 1

    @property
    def saved(self) -> int:
        """The id of the last event that is in the file."""
        return self._next - 1 - len(self._new)

    def prune(self, now: float, days: int, published: int) -> bool:
        """Forget some of what was delivered longer ago; whether there may be more of it.

        published: the id up to which others have got the events, too; those after it stay.
        """
        found = self._state.write().execute(_PRUNE, (now - days * _DAY, published, _MOST_PRUNED))
        return found.rowcount == _MOST_PRUNED

    def save(self) -> None:
        """Write what is in memory only; it belongs to the source transactions that owe it."""
        if not self._new:
            return
        db = self._state.write_fold()
        db.executemany(_INSERT, (_values(number, new) for number, new in self._new.items()))
        self._new.clear()
        self._state.save_meta({"next event": str(self._next), "last owed": json.dumps(self._owed)})

    def _begin(self, dossier: str, now: float) -> Attempt:
        number = self._queues[dossier][0]
        new = self._new.get(number)
        if new is not None:
            new.sent_at = now
            due = new.due
            return Attempt(self._state.partition, number, dossier, due.event, 1, due.commit_time_us, due.recovered)
        db = self._state.write()
        db.execute("UPDATE events SET state = 'sent', attempts = attempts + 1, sent_at = ? WHERE id = ?", (now, number))
        stored, tries, commit_time_us, recovered = db.execute(
            "SELECT event, attempts, commit_time_us, recovered FROM events WHERE id = ?", (number,)
        ).fetchone()
        event = event_from(json.loads(stored))
        return Attempt(self._state.partition, number, dossier, event, tries, commit_time_us, bool(recovered))

    def _end(self, attempt: Attempt, state: str, reason: str, detail: str, now: float) -> None:
        self._state.write().execute(
            "UPDATE events SET state = ?, reason = ?, detail = ?, ended_at = ? WHERE id = ?",
            (state, reason, detail, now, attempt.id),
        )

    def _enqueue(self, dossier: str, number: int) -> None:
        self._in_memory += 1
        self._loaded = number
        queue = self._queues.get(dossier)
        if queue is None:
            self._queues[dossier] = deque((number,))
            self._ready.append(dossier)
        else:
            queue.append(number)

    def _load(self) -> None:
        """Bring the next open events of the file into memory."""
        for number, dossier in self._state.db.execute(_LOAD, (self._loaded, WINDOW - self._in_memory)).fetchall():
            if dossier in self.parked:
                self._loaded = number
            else:
                self._on_disk -= 1
                self._enqueue(dossier, number)

    def _open_events(self, dossier: str) -> int:
        """How many events of a dossier in the file are not delivered."""
        query = "SELECT count(*) FROM events WHERE dossier = ? AND state <> 'delivered'"
        return int(self._state.db.execute(query, (dossier,)).fetchone()[0])


def _values(number: int, new: _New) -> tuple[object, ...]:
    due = new.due
    sent = new.sent_at is not None
    return (
        number,
        due.dossier,
        due.event.CodeProfile,
        due.event.Status,
        dump_event(due.event),
        "sent" if sent else "waiting",
        due.position,
        due.transaction,
        due.mapping,
        due.commit_time_us,
        int(sent),
        new.sent_at,
        int(due.recovered),
        new.ordinal,
    )


def dump_event(event: EmcEvent) -> str:
    """An event as JSON; `emc.judgement.event_from` is the reverse of its object."""
    body = {name: getattr(event, name) for name in EmcEvent.__slots__}
    body["User"] = {name: getattr(event.User, name) for name in EmcUser.__slots__}
    return _encode(body)


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
