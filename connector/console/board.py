"""The present state of a running part, gathered from observations.

Contract: `observe` is cheap, safe from any thread, and never raises; memory is bounded whatever comes; `snapshot` is a
plain JSON value. Dossier numbers appear in the last events and in parked dossiers only, for the page; they go
nowhere else. What has not been observed is not guessed: a process that only delivers shows its source as `off`.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from connector.console.health import Health, Trouble
from connector.console.window import Latencies, Rate
from connector.observe import (
    BatchFolded,
    DossierParked,
    EventDue,
    Fault,
    Observation,
    OutboxDepth,
    PartitionReleased,
    PushAnswered,
    SlotProgress,
    SlotRetained,
    SnapshotProgress,
    SourceConnected,
    SourceDisconnected,
    TransactionsLogged,
)

_LAST_EVENTS = 100
_LAST_FAULTS = 20
_LAST_PARKED = 200
"""Rows that the page can show; how many there are is known from the outbox."""


class Board:
    """See the module's contract. `clock`: seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._started = clock()
        self._health = Health()
        self._source: dict[str, Any] = {"state": "off", "reason": "", "slot": "", "server_version": 0}
        self._lsn: dict[str, int] = {}
        self._logged = {"transactions": 0, "changes": 0, "records": 0, "bytes": 0}
        self._rates = {"transactions": Rate(), "changes": Rate(), "records": Rate(), "deliveries": Rate()}
        self._last_commit_us = 0
        self._snapshot: dict[str, dict[str, Any]] = {}
        self._partitions: dict[int, dict[str, Any]] = {}
        self._due = 0
        self._recovered = 0
        self._pushes = {"delivered": 0, "retry": 0, "rejected": 0, "ambiguous": 0}
        self._latencies = Latencies()
        self._events: deque[dict[str, Any]] = deque(maxlen=_LAST_EVENTS)
        self._parked: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._faults: deque[dict[str, Any]] = deque(maxlen=_LAST_FAULTS)

    def observe(self, observation: Observation) -> None:
        """Take one observation."""
        with self._lock:
            now = self._clock()
            self._health.observe(observation, now)
            self._take(observation, now)

    def _take(self, observation: Observation, now: float) -> None:
        match observation:
            case SourceConnected(version, slot):
                self._source = {"state": "connected", "reason": "", "slot": slot, "server_version": version}
            case SourceDisconnected(reason):
                self._source = {**self._source, "state": "disconnected", "reason": reason}
            case SnapshotProgress(table, rows, estimate, finished, rate, age):
                known = {"rows": rows, "estimate": estimate, "finished": finished}
                left = (estimate - rows) / rate if rate > 0 and estimate > rows else None
                self._snapshot[table] = known | {
                    "rows_per_second": round(rate),
                    "seconds_left": None if finished or left is None else round(left),
                    "snapshot_age_seconds": round(age, 1),
                }
                if self._source["state"] != "connected":
                    self._source = {**self._source, "state": "snapshot", "reason": ""}
            case TransactionsLogged(transactions, changes, records, size, _, commit_us):
                for name, count in (("transactions", transactions), ("changes", changes), ("records", records)):
                    self._logged[name] += count
                    self._rates[name].add(count, now)
                self._logged["bytes"] += size
                self._last_commit_us = max(self._last_commit_us, commit_us)
            case SlotProgress(received, durable, confirmed, server_end):
                self._lsn |= {
                    "received": received,
                    "durable": durable,
                    "confirmed": confirmed,
                    "server_end": server_end,
                }
            case SlotRetained(retained, own_distance):
                self._lsn |= {"retained": retained, "unconfirmed": own_distance}
            case BatchFolded(partition, records, offset, log_end, commit_us, _):
                found = self._partition(partition)
                found["folded"] += records
                found |= {"offset": offset, "log_end": log_end, "commit_time_us": commit_us}
            case OutboxDepth(partition, waiting, parked):
                self._partition(partition).update(waiting=waiting, parked=parked)
            case PartitionReleased(partition):
                self._partitions.pop(partition, None)
            case EventDue():
                self._due += 1
                self._recovered += observation.recovered
            case PushAnswered():
                self._push(observation, now)
            case DossierParked(partition, code, reason):
                self._parked[code] = {"code": code, "reason": reason, "partition": partition, "at": now}
                self._parked.move_to_end(code)
                while len(self._parked) > _LAST_PARKED:
                    self._parked.popitem(last=False)
            case Fault():
                self._fault(observation, now)

    def _push(self, answer: PushAnswered, now: float) -> None:
        self._pushes[answer.outcome] = self._pushes.get(answer.outcome, 0) + 1
        self._pushes["ambiguous"] += answer.ambiguous
        if answer.outcome == "delivered":
            self._latencies.add(answer.since_commit, now)
            self._rates["deliveries"].add(1, now)
            self._parked.pop(answer.code, None)
        self._events.appendleft(
            {
                "at": now,
                "code": answer.code,
                "status": answer.status,
                "outcome": answer.outcome,
                "reason": answer.reason,
                "attempt": answer.attempt,
                "ambiguous": answer.ambiguous,
                "recovered": answer.recovered,
                "since_commit_ms": round(answer.since_commit * 1000, 1),
            }
        )

    def _fault(self, fault: Fault, now: float) -> None:
        told = {
            "part": fault.part,
            "operation": fault.operation,
            "subject": fault.subject,
            "cause": fault.cause,
            "mend": fault.mend,
            "fatal": fault.fatal,
        }
        # The same again, as while something is away, is one entry that counts and comes to the front.
        known = next((one for one in self._faults if all(one[name] == value for name, value in told.items())), None)
        if known is None:
            self._faults.appendleft({**told, "at": now, "first_at": now, "count": 1})
        else:
            self._faults.remove(known)
            self._faults.appendleft({**known, "at": now, "count": known["count"] + 1})

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
        """Everything, as a JSON value. Durations in seconds unless the name ends in `_ms`; rates per second."""
        with self._lock:
            now = self._clock()
            troubles = self._health.troubles(now)
            partitions = [_with_lag(self._partitions[number], now) for number in sorted(self._partitions)]
            rates = {name: rate.per_second(now) for name, rate in self._rates.items()}
            return {
                "now": now,
                "uptime": now - self._started,
                "healthy": not troubles,
                "reasons": [trouble.text for trouble in troubles],
                "troubles": [{"code": trouble.code, "detail": trouble.detail} for trouble in troubles],
                "source": {**self._source, **self._lsn},
                "snapshot": {table: dict(one) for table, one in self._snapshot.items()},
                "log": {
                    **self._logged,
                    "transactions_per_second": rates["transactions"],
                    "changes_per_second": rates["changes"],
                    "records_per_second": rates["records"],
                    "last_commit_us": self._last_commit_us,
                },
                "partitions": partitions,
                "lag": sum(found["lag"] for found in partitions),
                "lag_seconds": max((found["lag_seconds"] for found in partitions), default=0.0),
                "due": self._due,
                "recovered": self._recovered,
                "waiting": sum(found["waiting"] for found in partitions),
                "parked_dossiers": sum(found["parked"] for found in partitions),
                "pushes": {**self._pushes, "delivered_per_second": rates["deliveries"]},
                "latency_ms": self._latencies.percentiles_ms(now),
                "events": list(self._events),
                "parked": [*reversed(self._parked.values())],
                "faults": [dict(fault) for fault in self._faults],
            }

    def troubles(self) -> list[Trouble]:
        """Why the part is not healthy; empty when it is."""
        with self._lock:
            return self._health.troubles(self._clock())


def _with_lag(partition: dict[str, Any], now: float) -> dict[str, Any]:
    """Lag in records, and in seconds since the commit of what was folded last; both 0 when nothing is behind."""
    lag = max(0, partition["log_end"] - partition["offset"])
    seconds = max(0.0, now - partition["commit_time_us"] / 1e6) if lag else 0.0
    return {**partition, "lag": lag, "lag_seconds": round(seconds, 3)}
