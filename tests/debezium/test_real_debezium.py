"""A real Debezium on a real PostgreSQL feeds our delivery: nothing lost, in order, no half transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from debezium.legacy_with_debezium import OLD, PUBLICATION, TABLES, Delivery, eventually, install, start_lives
from emc.simulator_process import simulator
from plugins.debezium import Debezium
from plugins.kafka import KafkaBroker
from plugins.postgres import Database

from connector.demo import oracle

DOSSIERS = 40
CONNECTORS = {
    # Transactions over tables of several partitions, JSON with schemas.
    "day_du": {
        "topic.creation.default.partitions": "3",
        "topic.creation.groups": "tx",
        "topic.creation.tx.include": "day_du.transaction",
        "topic.creation.tx.partitions": "1",
        "topic.creation.tx.replication.factor": "1",
        "heartbeat.interval.ms": "500",
    },
    # Neither transactions nor schemas.
    "gon": {
        "provide.transaction.metadata": "false",
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        "key.converter.schemas.enable": "false",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
        "decimal.handling.mode": "string",
    },
}


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=30.0, trust_env=False) as client:
        yield client


def test_debezium_and_deliver_are_killed(
    database: Database, kafka: KafkaBroker, tmp_path: Path, client: httpx.Client
) -> None:
    """Both are killed while dossiers live: EMC hears what the database alone says is due, and of no old dossier."""
    dsn = database.dsn("postgres")
    install(dsn)
    with ExitStack() as stack:
        deliveries = [
            Delivery(tmp_path / name, kafka.bootstrap, name, stack.enter_context(simulator())) for name in CONNECTORS
        ]
        # Offsets are flushed so seldom that a killed Debezium delivers much again.
        worker = {"offset.flush.interval.ms": "5000"}
        debezium = Debezium(tmp_path / "connect", kafka, dsn, PUBLICATION, TABLES, CONNECTORS, worker)
        stack.enter_context(debezium)
        for delivery in deliveries:
            stack.callback(delivery.kill)
            delivery.start()
            eventually(delivery.attached, delivery.told)
        # A Debezium that was killed before would take another snapshot, which tells of no single transaction.
        eventually(lambda: debezium.flushed(CONNECTORS), debezium.last_lines)
        since = oracle.last_action(dsn)
        lives = start_lives(dsn, DOSSIERS, 40.0)
        stack.callback(lives.kill)
        for share in (0.3, 0.6):
            eventually(
                lambda: oracle.activity(dsn, since).dossiers >= share * DOSSIERS,  # noqa: B023
                lambda: "the application stands still",
            )
            debezium.kill()
            deliveries[0].kill()
            deliveries[1].kill()
            debezium.start()
            for delivery in deliveries:
                delivery.start()
        assert lives.wait(120) == 0
        for delivery in deliveries:
            eventually(
                lambda: delivery.verdict(dsn, since, client).lost == 0,  # noqa: B023
                lambda: f"{delivery.verdict(dsn, since, client)}\n{delivery.told()}",  # noqa: B023
            )
        for delivery in deliveries:
            verdict = delivery.verdict(dsn, since, client)
            found = delivery.look()
            assert found is not None
            assert (verdict.lost, verdict.out_of_order, verdict.unexpected) == (0, 0, 0), (verdict, delivery.told())
            assert verdict.duplicates <= found.ambiguous
            assert verdict.owed > DOSSIERS
            assert found.dossiers > OLD
            assert found.recovered == 0
