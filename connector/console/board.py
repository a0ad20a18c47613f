"""The present state of a running part, gathered from observations.

Contract: `observe` is cheap, thread-safe and never raises; `snapshot` is a plain JSON value. Dossier numbers appear in
the last events and in parked dossiers only, for the page; they go nowhere else.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from connector.observe import (
    BatchFolded,
    DossierParked,
    EventDue,
    Fault,
    Observation,
    OutboxDepth,
    PushAnswered,
    SlotProgress,
    SnapshotProgress,
    SourceConnected,
    SourceDisconnected,
    TransactionsLogged,
)

_LAST_EVENTS = 100
_LAST_FAULTS = 20
_WINDOW = 2000
"""Deliveries that the percentiles are made of."""
_RATE_SECONDS = 10.0


class Board:
    """See the module's contract. `clock`: seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._started = clock()
        self._source: dict[str, Any] = {"state": "off", "reason": "", "slot": "", "server_version": 0}
        self._lsn: dict[str, int] = {}
        self._logged = {"transactions": 0, "changes": 0, "records": 0, "bytes": 0}
        self._recent: deque[tuple[float, int]] = deque()
        self._last_commit_us = 0
        self._snapshot: dict[str, dict[str, Any]] = {}
        self._partitions: dict[int, dict[str, Any]] = {}
        self._due = 0
        self._pushes = {"delivered": 0, "retry": 0, "rejected": 0, "ambiguous": 0}
        self._latency: deque[float] = deque(maxlen=_WINDOW)
        self._events: deque[dict[str, Any]] = deque(maxlen=_LAST_EVENTS)
        self._parked: dict[str, dict[str, Any]] = {}
        self._faults: deque[dict[str, Any]] = deque(maxlen=_LAST_FAULTS)
        self._fatal = False

    def observe(self, observation: Observation) -> None:
        """Take one observation."""
        with self._lock:
            self._take(observation)

    def _take(self, observation: Observation) -> None:
        match observation:
            case SourceConnected(version, slot, _):
                self._source = {"state": "connected", "reason": "", "slot": slot, "server_version": version}
            case SourceDisconnected(reason):
                self._source = {**self._source, "state": "disconnected", "reason": reason}
            case SnapshotProgress(table, rows, estimate, finished):
                self._snapshot[table] = {"rows": rows, "estimate": estimate, "finished": finished}
                if self._source["state"] == "off":
                    self._source = {**self._source, "state": "snapshot"}
            case TransactionsLogged(transactions, changes, records, size, _, commit_us):
                self._logged["transactions"] += transactions
                self._logged["changes"] += changes
                self._logged["records"] += records
                self._logged["bytes"] += size
                self._last_commit_us = max(self._last_commit_us, commit_us)
                self._recent.append((self._clock(), changes))
            case SlotProgress(received, durable, confirmed, server_end):
                self._lsn = {
                    "received": received,
                    "durable": durable,
                    "confirmed": confirmed,
                    "server_end": server_end,
                }
            case BatchFolded(partition, records, offset, log_end, commit_us, _):
                found = self._partition(partition)
                found["folded"] += records
                found |= {"offset": offset, "log_end": log_end, "commit_time_us": commit_us}
            case OutboxDepth(partition, waiting, parked):
                self._partition(partition).update(waiting=waiting, parked=parked)
            case EventDue():
                self._due += 1
            case PushAnswered():
                self._push(observation)
            case DossierParked(_, code, reason):
                self._parked[code] = {"code": code, "reason": reason, "at": self._clock()}
            case Fault(part, operation, subject, cause, mend, fatal):
                self._fatal |= fatal
                self._faults.appendleft(
                    {
                        "at": self._clock(),
                        "part": part,
                        "operation": operation,
                        "subject": subject,
                        "cause": cause,
                        "mend": mend,
                        "fatal": fatal,
                    }
                )

    def _push(self, answer: PushAnswered) -> None:
        self._pushes[answer.outcome] += 1
        self._pushes["ambiguous"] += answer.ambiguous
        if answer.outcome == "delivered":
            self._latency.append(answer.since_commit)
        self._events.appendleft(
            {
                "at": self._clock(),
                "code": answer.code,
                "status": answer.status,
                "outcome": answer.outcome,
                "reason": answer.reason,
                "attempt": answer.attempt,
                "since_commit_ms": round(answer.since_commit * 1000, 1),
            }
        )

    def _partition(self, number: int) -> dict[str, Any]:
        return self._partitions.setdefault(
            number,
            {
                "partition": number,
                "folded": 0,
                "offset": 0,
                "log_end": 0,
                "commit_time_us": 0,
                "waiting": 0,
                "parked": 0,
            },
        )

    def snapshot(self) -> dict[str, Any]:
        """Everything, as a JSON value. Durations in seconds unless the name ends in `_ms`."""
        with self._lock:
            now = self._clock()
            while self._recent and self._recent[0][0] < now - _RATE_SECONDS:
                self._recent.popleft()
            partitions = [
                {**self._partitions[number], "lag": max(0, found["log_end"] - found["offset"])}
                for number, found in sorted(self._partitions.items())
            ]
            return {
                "now": now,
                "uptime": now - self._started,
                "healthy": not self._reasons(),
                "reasons": self._reasons(),
                "source": {**self._source, **self._lsn},
                "snapshot": self._snapshot,
                "log": {
                    **self._logged,
                    "changes_per_second": round(sum(count for _, count in self._recent) / _RATE_SECONDS, 1),
                    "last_commit_us": self._last_commit_us,
                },
                "partitions": partitions,
                "lag": sum(found["lag"] for found in partitions),
                "due": self._due,
                "waiting": sum(found["waiting"] for found in partitions),
                "parked_dossiers": sum(found["parked"] for found in partitions),
                "pushes": dict(self._pushes),
                "latency_ms": {"p50": self._percentile(0.50), "p99": self._percentile(0.99)},
                "events": list(self._events),
                "parked": list(self._parked.values()),
                "faults": list(self._faults),
            }

    def reasons(self) -> list[str]:
        """Why the part is not healthy; empty when it is."""
        with self._lock:
            return self._reasons()

    def _reasons(self) -> list[str]:
        reasons = []
        if self._fatal:
            fatal = next((fault for fault in self._faults if fault["fatal"]), None)
            reasons.append(f"stopped: {fatal['cause']}" if fatal else "stopped")
        if self._source["state"] == "disconnected":
            reasons.append(f"PostgreSQL: {self._source['reason']}")
        return reasons

    def _percentile(self, share: float) -> float | None:
        if not self._latency:
            return None
        ordered = sorted(self._latency)
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 1)
