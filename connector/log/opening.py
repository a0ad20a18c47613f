"""Chooses the backend that the settings name."""

from __future__ import annotations

from collections.abc import Collection

from connector.errors import LogError
from connector.log.contract import LogReader, LogWriter
from connector.log.embedded import EmbeddedReader, EmbeddedWriter
from connector.log.kafka import KafkaReader, KafkaWriter
from connector.log.kafka_rules import NEW_LOG
from connector.settings import DebeziumSettings, EmbeddedSettings, Settings


def open_writer(settings: Settings) -> LogWriter:
    """The log's writer, whose `open` is still to be called. LogError for settings that cannot be used."""
    log = settings.log
    if log.debezium is not None:
        raise _debeziums(log.debezium, "write the change log")
    if log.kafka is not None:
        return KafkaWriter(settings.name, log.partitions, log.kafka)
    embedded = log.embedded or EmbeddedSettings()
    return EmbeddedWriter(embedded.path, log.partitions, embedded.compaction_lag)


def open_reader(settings: Settings) -> LogReader:
    """A reader of the log, connected. LogUnavailable while the log is not there yet or cannot be reached."""
    log = settings.log
    if log.debezium is not None:
        raise _debeziums(log.debezium, "read the change log")
    if log.kafka is not None:
        return KafkaReader(settings.name, log.kafka)
    return EmbeddedReader((log.embedded or EmbeddedSettings()).path)


def begun_with(partitions: int, tails: Collection[int]) -> None:
    """LogError when the log was begun with fewer partitions. tails: of those that have records.

    Capture begins every partition with the same append. One without a record beside others that have some was added,
    and with it dossiers would move away from their own history.
    """
    if tails and len(tails) < partitions:
        raise LogError(
            "open the log",
            "log.partitions",
            f"the log has {partitions} partitions and was begun with {len(tails)}: a dossier would be in two of them",
            f"partitions cannot be taken away again: {NEW_LOG}",
        )


def _debeziums(settings: DebeziumSettings, operation: str) -> LogError:
    return LogError(
        operation,
        f"log.debezium {settings.prefix}",
        "the log is topics that Debezium writes, which only deliver reads",
        "run `emc-cdc deliver`; look into the topics with Kafka's own tools; for our own capture remove log.debezium",
    )
