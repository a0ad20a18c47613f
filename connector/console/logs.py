"""Log lines on standard error: what an operator wants to find later.

Contract: a line for what changes (connection, snapshot, faults, parked dossiers), one summary a minute for what flows,
never one per row or event. Never a row, a value or a dossier number.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable

import structlog

from connector.change.position import lsn_text
from connector.observe import (
    DossierParked,
    EventDue,
    Fault,
    Observation,
    PushAnswered,
    SnapshotProgress,
    SourceConnected,
    SourceDisconnected,
    StateRebuilt,
    Subscriber,
    TransactionsLogged,
    WalBudget,
)

_SNAPSHOT_SECONDS = 10.0
_QUIET = ("transactions", "changes", "due", "recovered", "delivered", "retry", "rejected", "ambiguous", "parked")


def configure_logging(as_json: bool) -> None:
    """Human-readable lines, or one JSON object a line."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=False),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def log_observations(clock: Callable[[], float] = time.monotonic, summary_seconds: float = 60.0) -> Subscriber:
    """A subscriber that writes the lines, safe from any thread. `summary_seconds`: how often at most it sums up."""
    return _Lines(clock, summary_seconds).observe


class _Lines:
    def __init__(self, clock: Callable[[], float], summary_seconds: float) -> None:
        self._clock = clock
        self._summary_seconds = summary_seconds
        self._lock = threading.Lock()
        self._logger = structlog.get_logger("emc-cdc")
        self._totals = dict.fromkeys(_QUIET, 0)
        self._summed_at = clock()
        self._disconnected: str | None = None
        self._snapshot_at: dict[str, float] = {}

    def observe(self, observation: Observation) -> None:
        with self._lock:
            now = self._clock()
            self._line(observation, now)
            self._count(observation)
            self._summary(now)

    def _line(self, observation: Observation, now: float) -> None:
        match observation:
            case SourceConnected(version, slot, resumed_at, compiled):
                self._disconnected = None
                self._logger.info(
                    "streaming",
                    slot=slot,
                    server=version,
                    resumed_at=lsn_text(resumed_at),
                    hot_path="C" if compiled else "Python",
                )
            case SourceDisconnected(reason) if reason != self._disconnected:
                # Told again with every attempt to connect; once is enough.
                self._disconnected = reason
                self._logger.info("not streaming", reason=reason)
            case SnapshotProgress(table, rows, estimate, finished):
                self._snapshot(table, rows, estimate, finished, observation.rate, now)
            case WalBudget(True, slot, cause, mend):
                self._logger.warning("over source.wal_budget", slot=slot, cause=cause, mend=mend)
            case WalBudget(False, slot):
                self._logger.info("within source.wal_budget again", slot=slot)
            case Fault():
                (self._logger.error if observation.fatal else self._logger.warning)(
                    observation.operation,
                    part=observation.part,
                    subject=observation.subject,
                    cause=observation.cause,
                    mend=observation.mend,
                )
            case StateRebuilt(partition, done, total):
                word = "delivery state made anew" if done >= total else "making the delivery state anew"
                self._logger.info(word, partition=partition, records=done, of=total)
            case DossierParked(partition, _, _) if not self._totals["parked"]:
                # The first of a minute; the summary has how many. EMC may be rejecting everything.
                self._logger.warning("a dossier is parked: EMC rejected its event", partition=partition)

    def _snapshot(self, table: str, rows: int, estimate: int, finished: bool, rate: float, now: float) -> None:
        if finished:
            self._snapshot_at.pop(table, None)
            self._logger.info("snapshot of a table read", table=table, rows=rows)
        elif now - self._snapshot_at.setdefault(table, now) >= _SNAPSHOT_SECONDS:
            self._snapshot_at[table] = now
            known = {"estimate": estimate} if estimate >= 0 else {}
            if rate > 0:
                known["rows_per_second"] = round(rate)
            self._logger.info("reading the snapshot", table=table, rows=rows, **known)

    def _count(self, observation: Observation) -> None:
        match observation:
            case TransactionsLogged(transactions, changes, _, _, _, _):
                self._totals["transactions"] += transactions
                self._totals["changes"] += changes
            case EventDue():
                self._totals["due"] += 1
                self._totals["recovered"] += observation.recovered
            case PushAnswered():
                self._totals[observation.outcome] += 1
                self._totals["ambiguous"] += observation.ambiguous
            case DossierParked():
                self._totals["parked"] += 1

    def _summary(self, now: float) -> None:
        if now - self._summed_at < self._summary_seconds or not any(self._totals.values()):
            return
        self._logger.info("flow", seconds=round(now - self._summed_at), **self._totals)
        self._summed_at = now
        self._totals = dict.fromkeys(_QUIET, 0)
