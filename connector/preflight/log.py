"""Checks of the change log: can it be reached, can it be written, and what does *durable* mean on it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from connector.errors import ConnectorError
from connector.log.kafka_cluster import Cluster, Patience
from connector.log.kafka_topics import Topics
from connector.log.opening import open_reader
from connector.preflight.finding import Finding, Severity, ok
from connector.settings import EmbeddedSettings, KafkaSettings, Settings

_LITTLE_SPACE = 1 << 30


def check_log(settings: Settings) -> list[Finding]:
    """Findings on the configured backend. Creates nothing."""
    if settings.log.kafka is None:
        findings = _embedded((settings.log.embedded or EmbeddedSettings()).path)
    else:
        try:
            findings = _kafka(settings.log.kafka)
        except ConnectorError as error:
            return [Finding("LOG-01", Severity.ERROR, "log.kafka", error.cause, (error.mend,), "operator")]
    try:
        reader = open_reader(settings)
    except ConnectorError:
        return [*findings, Finding("LOG-02", Severity.NOTE, "log", "there is no log yet; capture makes it")]
    try:
        durability = reader.durability
    finally:
        reader.close()
    severity = Severity.OK if durability.sound else Severity.WARNING
    return [*findings, Finding("LOG-02", severity, "durability", durability.words)]


def _kafka(settings: KafkaSettings) -> list[Finding]:
    brokers = Topics(Cluster(settings, Patience())).brokers()
    reached = f"reached {settings.brokers}, {brokers} brokers"
    if brokers < settings.replication_factor:
        mend = (f"set log.kafka.replication_factor to {brokers} at most, or add brokers",)
        what = f"{reached}, but replication_factor is {settings.replication_factor}"
        return [Finding("LOG-01", Severity.ERROR, "log.kafka", what, mend, "operator")]
    return [ok("LOG-01", "log.kafka", reached)]


def _embedded(path: Path) -> list[Finding]:
    directory = path.parent
    while not directory.exists():
        directory = directory.parent
    if not os.access(directory, os.W_OK | os.X_OK):
        mend = (f"make {directory} writable for this user, or set log.embedded.path",)
        return [Finding("LOG-01", Severity.ERROR, str(path), "cannot be written", mend, "operator")]
    free = shutil.disk_usage(directory).free
    if free < _LITTLE_SPACE:
        mend = ("free disk space, or set log.embedded.path to another disk",)
        return [Finding("LOG-01", Severity.WARNING, str(path), f"only {free >> 20} MiB are free", mend, "operator")]
    return [ok("LOG-01", str(path), f"{free >> 30} GiB free")]
