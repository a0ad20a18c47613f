"""Log lines on standard error: what an operator wants to find later. Never a row, a value or a dossier number."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

import structlog

from connector.change.position import lsn_text
from connector.observe import (
    DossierParked,
    Fault,
    Observation,
    PushAnswered,
    SnapshotProgress,
    SourceConnected,
    SourceDisconnected,
    Subscriber,
    TransactionsLogged,
)

_SUMMARY_SECONDS = 60.0


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


def log_observations(clock: Callable[[], float] = time.monotonic) -> Subscriber:
    """A subscriber that writes a line for what changes, and a summary each minute for what flows."""
    logger = structlog.get_logger("emc-cdc")
    totals = {"transactions": 0, "changes": 0, "delivered": 0, "retry": 0, "rejected": 0}
    summed_at = clock()

    def observe(observation: Observation) -> None:
        nonlocal summed_at
        match observation:
            case SourceConnected(version, slot, resumed_at):
                logger.info("streaming", slot=slot, server=version, resumed_at=lsn_text(resumed_at))
            case SourceDisconnected(reason):
                logger.info("not streaming", reason=reason)
            case SnapshotProgress(table, rows, _, True):
                logger.info("snapshot of a table read", table=table, rows=rows)
            case Fault():
                (logger.error if observation.fatal else logger.warning)(
                    observation.operation,
                    part=observation.part,
                    subject=observation.subject,
                    cause=observation.cause,
                    mend=observation.mend,
                )
            case DossierParked(partition, _, _):
                logger.warning("a dossier is parked: EMC rejected its event", partition=partition)
            case TransactionsLogged(transactions, changes, _, _, _, _):
                totals["transactions"] += transactions
                totals["changes"] += changes
            case PushAnswered():
                totals[observation.outcome] += 1
        now = clock()
        if now - summed_at >= _SUMMARY_SECONDS and any(totals.values()):
            logger.info("flow", seconds=round(now - summed_at), **totals)
            summed_at = now
            for name in totals:
                totals[name] = 0

    return observe
