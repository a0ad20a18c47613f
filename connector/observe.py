"""What the core tells about itself: frozen records, sent to whoever subscribed.

Contract: the core calls `Hub.emit` with one of the records below, at most once per transaction batch, fold, push or
state change, never per row. Metrics, log lines, the console and the demo's view are subscribers; none of them is
known to the core. A subscriber must not block and must not raise. Records hold no row values; a dossier number
(`code`) appears only in the records of delivery, for the console, and must not become a metric label or a log field.
Times are seconds since the epoch (float) unless the name ends in `_us` (PostgreSQL commit time, microseconds since
the Unix epoch).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Observation:
    """Base of every record."""


@dataclass(frozen=True, slots=True)
class SourceConnected(Observation):
    """Streaming began. `resumed_at` is the slot's confirmed LSN; `compiled`: whether the hot path is the one in C."""

    server_version: int
    slot: str
    resumed_at: int
    compiled: bool = False


@dataclass(frozen=True, slots=True)
class SourceDisconnected(Observation):
    """Streaming ended; the slot keeps the place. `reason` is fit to show to an operator."""

    reason: str


@dataclass(frozen=True, slots=True)
class SnapshotProgress(Observation):
    """`rows` of `table` have been read; `estimate` is the planner's row count, -1 when unknown.

    `rate`: rows a second; `age`: seconds that the oldest snapshot has been held by now.
    """

    table: str
    rows: int
    estimate: int
    finished: bool
    rate: float = 0.0
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class TransactionsLogged(Observation):
    """A batch became durable in the log: whole source transactions, `records` of them written.

    truncated: records among them of which values were cut, because they would have been too large.
    """

    transactions: int
    changes: int
    records: int
    size: int
    commit_lsn: int
    commit_time_us: int
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class SlotProgress(Observation):
    """Sent with every feedback: LSNs received, durable in the log, confirmed to the server, and its own end.

    waiting: bytes of changes in memory that the log has not taken yet.
    """

    received: int
    durable: int
    confirmed: int
    server_end: int
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class SlotRetained(Observation):
    """Measured every few seconds: bytes of WAL that our slot holds back, and those not confirmed by us. 0: no slot."""

    retained: int
    own_distance: int


@dataclass(frozen=True, slots=True)
class WalBudget(Observation):
    """Our slot holds back more WAL than `source.wal_budget`, on whose account, and what mends it; or no more so."""

    passed: bool
    slot: str
    cause: str
    mend: str


@dataclass(frozen=True, slots=True)
class BatchFolded(Observation):
    """`records` of `partition` are in the state up to `offset` (exclusive); `log_end` is the partition's end."""

    partition: int
    records: int
    offset: int
    log_end: int
    commit_time_us: int
    due: int


@dataclass(frozen=True, slots=True)
class EventDue(Observation):
    """A judgement owes EMC an event; `recovered`: by what a snapshot has found, after a gap of the stream."""

    partition: int
    code: str
    status: int
    commit_time_us: int
    recovered: bool = False


@dataclass(frozen=True, slots=True)
class PushAnswered(Observation):
    """One attempt ended. `outcome` is delivered | retry | rejected; `ambiguous` when EMC may have taken it.

    `since_commit` is the time from the source commit to this answer, in seconds; for what is `recovered`, from the end
    of the snapshot that has found it.
    """

    partition: int
    code: str
    status: int
    outcome: str
    reason: str
    attempt: int
    ambiguous: bool
    seconds: float
    since_commit: float
    recovered: bool = False


@dataclass(frozen=True, slots=True)
class DossierParked(Observation):
    """EMC rejected an event: its dossier waits in dead letters, later events of it queue behind."""

    partition: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class OutboxDepth(Observation):
    """How much waits to be pushed in `partition`, and how much is parked."""

    partition: int
    waiting: int
    parked: int


@dataclass(frozen=True, slots=True)
class StateRebuilt(Observation):
    """Deliver makes the state of `partition` from the log: so many records of about so many are folded."""

    partition: int
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class PartitionReleased(Observation):
    """Deliver has let go of `partition`: another process has it, or will have."""

    partition: int


@dataclass(frozen=True, slots=True)
class StateUnrecorded(Observation):
    """How many changes of the state of `partition` are in its file, but not recorded elsewhere yet."""

    partition: int
    changes: int


@dataclass(frozen=True, slots=True)
class EventsUnpublished(Observation):
    """How many events of `partition` are in the ledger, but not in the topic of events yet."""

    partition: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Fault(Observation):
    """A part met a fault and goes on by itself (or stops, when `fatal`). The four parts of a ConnectorError."""

    part: str
    operation: str
    subject: str
    cause: str
    mend: str
    fatal: bool


Subscriber = Callable[[Observation], None]


class Hub:
    """Hands every observation to every subscriber, on the caller's thread, in the order of subscription."""

    def __init__(self) -> None:
        self._subscribers: tuple[Subscriber, ...] = ()
        self._lock = threading.Lock()

    def subscribe(self, subscriber: Subscriber) -> None:
        with self._lock:
            self._subscribers = (*self._subscribers, subscriber)

    def emit(self, observation: Observation) -> None:
        for subscriber in self._subscribers:
            subscriber(observation)
