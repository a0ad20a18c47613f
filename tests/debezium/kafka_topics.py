"""Debezium's topics on a real broker, written by the test: what the reader says of them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from typing import Any

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]
from debezium.envelopes import POSTGRESQL, ROW, envelope, table
from plugins.kafka import KafkaBroker

from connector.change.record import PLACE, Change, Op
from connector.change.selection import Role, Selection, TableSelection
from connector.debezium.reader import DebeziumReader
from connector.errors import LogUnavailable
from connector.settings import Settings

CHILD = TableSelection("motcua", "thanh_toan", Role.CHILD, ("id", "ho_so_id"), "ho_so_id")
SELECTION = Selection((table(), CHILD))
PATIENCE = 60.0
_numbers = count(1)


class Written:
    """Topics of one prefix, and readers of them."""

    def __init__(self, kafka: KafkaBroker) -> None:
        self.kafka = kafka
        self.prefix = f"viet{next(_numbers)}"
        self.dossiers, self.payments = f"{self.prefix}.motcua.ho_so", f"{self.prefix}.motcua.thanh_toan"
        self.transactions = f"{self.prefix}.transaction"
        self._admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap})

    def make(self, topic: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        futures = self._admin.create_topics([NewTopic(topic, partitions, 1, config=dict(config or {}))])
        futures[topic].result(PATIENCE)
        self.until(lambda: len(self._partitions(topic)) == partitions and self._leads(topic, partitions))

    def _partitions(self, topic: str) -> dict[int, Any]:
        found = self._admin.list_topics(timeout=10).topics.get(topic)
        return {} if found is None else found.partitions

    def _leads(self, topic: str, partitions: int) -> bool:
        """A broker that has just made a topic may not know yet that it leads it."""
        asked = self._admin.list_offsets({TopicPartition(topic, p): OffsetSpec.latest() for p in range(partitions)})
        return all(future.exception(PATIENCE) is None for future in asked.values())

    def delete(self, topic: str) -> None:
        self._admin.delete_topics([topic])[topic].result(PATIENCE)
        self.until(lambda: topic not in self._admin.list_topics(timeout=10).topics)

    def forget(self, topic: str, before: int) -> None:
        """As retention does."""
        place = TopicPartition(topic, 0, before)
        for future in self._admin.delete_records([place]).values():
            future.result(PATIENCE)

    def write(self, topic: str, key: Any, value: Any) -> None:
        self.write_bytes(topic, json.dumps(key).encode(), json.dumps(value).encode())

    def write_bytes(self, topic: str, key: bytes, value: bytes) -> None:
        self._producer.produce(topic, value, key, 0)
        assert self._producer.flush(PATIENCE) == 0

    def dossier(self, commit: int, number: int, op: str = "u", block: Any = None, **source: Any) -> None:
        told = {**POSTGRESQL, "sequence": f'["{commit}","{commit + 5}"]', "lsn": commit + 5, "txId": commit, **source}
        value = envelope(told, op, transaction=block, after={**ROW, "id": number, "le_phi": "1.50"})
        self.write(self.dossiers, {"id": number}, value)

    def payment(self, commit: int, number: int, of: int, block: Any = None) -> None:
        told = {**POSTGRESQL, "sequence": f'["{commit}","{commit + 9}"]', "lsn": commit + 9, "txId": commit}
        value = envelope(told, "c", transaction=block, after={"id": number, "ho_so_id": of})
        self.write(self.payments, {"id": number}, value)

    def read_by_snapshot(self, number: int, word: str) -> None:
        self.dossier(0, number, "r", snapshot=word, txId=None)

    def end(self, commit: int, **counts: int) -> None:
        collections = [{"data_collection": f"motcua.{name}", "event_count": many} for name, many in counts.items()]
        told = {"status": "END", "id": f"{commit}:1", "event_count": 9, "data_collections": collections, "ts_ms": 1}
        self.write(self.transactions, {"id": f"{commit}:1"}, told)

    def settings(self, registry: str | None = None, **debezium: Any) -> Settings:
        kafka = {"brokers": self.kafka.bootstrap, "registry": None if registry is None else {"url": registry}}
        log = {"kafka": kafka, "debezium": {"prefix": self.prefix, "settle": 0.3, **debezium}}
        return Settings.model_validate({"name": self.prefix, "log": log})

    def reader(self, place: bytes = b"", **debezium: Any) -> DebeziumReader:
        reader = DebeziumReader(self.settings(**debezium), SELECTION)
        reader.resume(place)
        return reader

    def until(self, condition: Any) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline
            threading.Event().wait(0.05)


class Reading:
    """One reader, polled until it has told something."""

    def __init__(self, reader: DebeziumReader, place: bytes = b"") -> None:
        self.reader = reader
        self.place = place
        self.told: list[str] = []
        self.changes: list[Change] = []

    def once(self, timeout: float = 0.2) -> None:
        for record in self.reader.poll(timeout, 500):
            assert record.change is not None
            self.changes.append(record.change)
            self.told.append(_told(record.change))
            if record.change.marker == PLACE:
                self.place = record.change.content

    def until_refused(self) -> None:
        """Until the reader raises."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.once()

    def until(self, *told: str) -> None:
        """What is told next, places left out, must be this."""
        deadline = time.monotonic() + PATIENCE
        while (found := [each for each in self.told if each != PLACE]) != list(told):
            assert len(found) <= len(told), found
            assert time.monotonic() < deadline, found
            with suppress(LogUnavailable):  # a topic that is being made
                self.once()
        self.told.clear()


def block(commit: int, number: int, of_table: int = 1) -> dict[str, Any]:
    return {"id": f"{commit}:{commit + number}", "total_order": number, "data_collection_order": of_table}


def _told(change: Change) -> str:
    if change.op is Op.MESSAGE:
        return str(change.marker)
    return (
        f"{change.op.value} {change.table.removeprefix('motcua.')} {','.join(change.key)}{' .' if change.last else ''}"
    )
