"""Checks of the change log and of this machine's directories; a log in Kafka is `preflight.kafka`'s.

| check | asks |
|---|---|
| LOG-01 | Kafka answers and has the brokers that are asked for; or the embedded log's disk can be written |
| LOG-02 | the log that is there is ours and fits the settings |
| LOG-03 | what *durable* means on it |
| LOG-04 | the schema registry answers, if one is set |
| DIR-01 | the directories of capture and deliver can be written and have space |

No log is made. A directory is tried by a file without a name, which is gone at once.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from connector.errors import LogError, LogUnavailable
from connector.finding import Finding, Severity, ok
from connector.log.embedded_file import DURABILITY
from connector.log.opening import open_reader
from connector.log.registry import Registry
from connector.preflight.kafka import check_kafka, durable
from connector.settings import EmbeddedSettings, RegistrySettings, Settings

_PATIENCE = 5.0
"""Seconds for an answer of Kafka or the registry."""
_LITTLE_SPACE = 1 << 30
"""Bytes; below it an outage of some hours on a busy database could fill the disk."""


def check_log(settings: Settings) -> list[Finding]:
    """LOG-01 to LOG-07."""
    kafka = settings.log.kafka
    if kafka is not None:
        found = check_kafka(settings.name, settings.log.partitions, kafka)
        reached = not (found[0].check == "LOG-01" and found[0].severity is Severity.ERROR)
        return [*found, _registry(kafka.registry)] if reached and kafka.registry is not None else found
    path = (settings.log.embedded or EmbeddedSettings()).path
    first = _writable("LOG-01", path.parent, "log.embedded.path")
    if first.severity is Severity.ERROR:
        return [first]
    return [first, *_embedded(settings)]


def check_directories(settings: Settings) -> list[Finding]:
    """DIR-01 for source.data, where we capture, and delivery.state."""
    state = _writable("DIR-01", settings.delivery.state, "delivery.state")
    if settings.log.debezium is not None:
        return [state]
    return [_writable("DIR-01", settings.source.data, "source.data"), state]


def _registry(settings: RegistrySettings) -> Finding:
    try:
        registry = Registry(settings, topic="", patience=_PATIENCE)
        try:
            level = registry.level()
        finally:
            registry.close()
    except LogError as error:
        return Finding("LOG-04", Severity.ERROR, "log.kafka.registry", error.cause, (error.mend,), "operator")
    return ok("LOG-04", "log.kafka.registry", f"it answers; its compatibility level is {level}")


def _embedded(settings: Settings) -> list[Finding]:
    try:
        reader = open_reader(settings)
    except LogUnavailable as error:
        there = Finding("LOG-02", Severity.NOTE, error.subject, f"{error.cause}: capture makes it at its first start")
        return [there, durable(DURABILITY)]
    except LogError as error:
        return [Finding("LOG-02", Severity.ERROR, error.subject, error.cause, (error.mend,), "operator")]
    partitions, durability = reader.partitions, reader.durability
    reader.close()
    if partitions != settings.log.partitions:
        mend = (f"log.partitions: {partitions}  # another number needs a new log and a new snapshot",)
        what = f"the log has {partitions} partitions, the settings say {settings.log.partitions}"
        return [Finding("LOG-02", Severity.ERROR, "log.partitions", what, mend, "operator"), durable(durability)]
    return [ok("LOG-02", "log", f"{partitions} partitions"), durable(durability)]


def _writable(check: str, directory: Path, setting: str) -> Finding:
    """Whether files can be made in `directory`, or in the nearest one above it that is there."""
    place = directory.absolute()
    while not place.exists():
        place = place.parent
    subject = f"{setting} {directory}"
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        mend = (f"make {place} a directory that this user may write to, or change {setting}",)
        what = f"nothing can be written there: {error.strerror or type(error).__name__}"
        return Finding(check, Severity.ERROR, subject, what, mend, "operator")
    if free < _LITTLE_SPACE:
        mend = (f"free disk space, or set {setting} to another disk",)
        return Finding(check, Severity.WARNING, subject, f"only {free >> 20} MiB are free", mend, "operator")
    return ok(check, subject, f"can be written, {free / (1 << 30):.1f} GiB free")
