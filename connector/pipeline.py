"""Capture and deliver, put together.

Contract: each function runs until `stop` is set or until a fault that needs a person, which it raises as a
ConnectorError. `run` has both in one process, with the log between them all the same; when one of them ends, the other
is stopped in order. Nothing is done here but choosing, starting and stopping.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from connector.configuration import Configuration
from connector.debezium.reader import DebeziumReader
from connector.delivery.deliverer import Deliverer
from connector.delivery.directory import partition_files
from connector.errors import ConnectorError, DeliveryError, LogError, SourceError, retryable
from connector.finding import Finding, Severity
from connector.log.contract import LogReader
from connector.log.opening import open_reader, open_writer
from connector.observe import Fault, Hub
from connector.preflight.debezium import check_debezium
from connector.preflight.emc import check_emc
from connector.preflight.log import check_log
from connector.settings import Settings
from connector.source.capture import Capture

_LONGEST_WAIT = 10.0


def capture(configuration: Configuration, hub: Hub, stop: threading.Event) -> None:
    """Database → log."""
    settings = configuration.settings
    require_capture(settings, "capture")
    Capture(
        settings,
        configuration.plan.selection,
        lambda: open_writer(settings),
        lambda: open_reader(settings),
        hub,
    ).run(stop)


def deliver(configuration: Configuration, hub: Hub, stop: threading.Event) -> None:
    """Log → EMC. Waits while capture has not made the log yet.

    At the first start, before there is any delivery state, Kafka and EMC must answer: an address that never worked is
    a mistake to be told at once. Later on both may be away as long as they like.
    """
    settings = configuration.settings
    if not partition_files(settings.delivery.state, settings.name):
        if settings.log.debezium is None:
            _require(check_log(settings), "open the change log", LogError)
        else:
            _require(check_debezium(settings, configuration.plan.selection), "read Debezium's topics", LogError)
        _require(check_emc(settings.emc, datetime.now(UTC)), "reach EMC", DeliveryError)
    waited = 0
    told = ""
    while not stop.is_set():
        try:
            reader = _open_reader(configuration)
            try:
                Deliverer(settings, configuration.plan, reader, hub, time.time).run(stop)
            finally:
                reader.close()
        except ConnectorError as error:
            fatal = not retryable(error)
            if fatal or str(error) != told:  # the same fault is told once, not with every attempt
                hub.emit(Fault("deliver", error.operation, error.subject, error.cause, error.mend, fatal=fatal))
            told = str(error)
            if fatal:
                raise
            waited += 1
            # Full jitter, so that several processes do not knock in step.
            stop.wait(random.uniform(0.05, min(_LONGEST_WAIT, 0.2 * 2**waited)))  # noqa: S311


def require_capture(settings: Settings, operation: str) -> None:
    """Refuse what only our own capture's database can be asked for, where the log is Debezium's topics."""
    if settings.log.debezium is not None:
        raise SourceError(
            operation,
            f"log.debezium {settings.log.debezium.prefix}",
            "Debezium is the capture here: emc-cdc has no database of its own to work on",
            "run `emc-cdc deliver`; to capture with emc-cdc itself remove log.debezium and give `source`",
        )


def _open_reader(configuration: Configuration) -> LogReader:
    if configuration.settings.log.debezium is not None:
        return DebeziumReader(configuration.settings, configuration.plan.selection)
    return open_reader(configuration.settings)


def _require(findings: list[Finding], operation: str, kind: type[ConnectorError]) -> None:
    """Raise what stands in the way, all of it at once."""
    standing = [finding for finding in findings if finding.severity is Severity.ERROR]
    if not standing:
        return
    subject, what = standing[0].subject, standing[0].what
    if len(standing) > 1:
        subject = ", ".join(dict.fromkeys(finding.subject for finding in standing))
        told = "".join(f"\n{finding.subject}: {finding.what}" for finding in standing)
        what = f"{len(standing)} faults{told}"
    raise kind(operation, subject, what, "\n".join(line for finding in standing for line in finding.mend))


def run(configuration: Configuration, hub: Hub, stop: threading.Event) -> None:
    """Both, for one machine."""
    require_capture(configuration.settings, "run")
    failures: list[BaseException] = []

    def guarded(part: Callable[[Configuration, Hub, threading.Event], None]) -> None:
        try:
            part(configuration, hub, stop)
        except BaseException as error:
            failures.append(error)
        finally:
            stop.set()

    threads = [threading.Thread(target=guarded, args=(part,), name=part.__name__) for part in (capture, deliver)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
