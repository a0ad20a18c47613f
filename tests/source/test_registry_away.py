"""A schema registry that refuses for a while: capture pauses, the slot keeps the place, nothing is skipped."""

from __future__ import annotations

from itertools import count

import pytest
from attached_source import PAYMENT, Attached
from plugins.kafka import KafkaBroker
from plugins.registry import RegistryServer, registry_server

_names = count(1)
PAID = 'UPDATE "mot cua".thanh_toan SET so_tien = %s WHERE id = 1'


def through_registry(attached: Attached, kafka: KafkaBroker, registry: RegistryServer) -> None:
    """Set up with a log of its own in Kafka, whose schemas are in the registry."""
    attached.name = f"registry-{next(_names)}"
    attached.log = {
        "kafka": {
            "brokers": kafka.bootstrap,
            "replication_factor": 1,
            "min_insync_replicas": 1,
            "registry": {"url": registry.url},
        }
    }
    attached.settings = attached.settings_with()
    attached.set_up()


def told(attached: Attached) -> list[str]:
    """What the log says of the first payment, one after another."""
    return [
        str(change.after["so_tien"])
        for partition in attached.records()
        for change in partition
        if change.table == PAYMENT and change.after is not None and change.after["id"] == 1
    ]


@pytest.mark.parametrize("status", [503, 409])
def test_the_slot_is_held_while_the_registry_refuses(attached: Attached, kafka: KafkaBroker, status: int) -> None:
    """A new column type needs a new schema: until the registry takes it, the LSN stays; then every change is there."""
    with registry_server() as registry:
        registry.level = "NONE"
        through_registry(attached, kafka, registry)
        with attached.capturing() as running:
            attached.settle(running)
            known = len(registry.schemas)
            registry.always = status
            attached.owner.execute(PAID.encode() % b"7.5")
            attached.owner.execute('ALTER TABLE "mot cua".thanh_toan ALTER so_tien TYPE numeric(16,2)')
            attached.owner.execute(PAID.encode() % b"8.5")
            [(commit,)] = attached.ask("SELECT pg_current_wal_lsn()")
            attached.owner.execute(PAID.encode() % b"9.5")
            running.until(lambda: any(str(status) in fault.cause for fault in running.faults), "it tells of the pause")
            asked = len(registry.asked)
            running.until(lambda: len(registry.asked) > asked + 1, "it tries again")
            assert attached.slot(f"confirmed_flush_lsn < '{commit}'")
            registry.always = None
        assert len(registry.schemas) > known
    assert told(attached) == ["1.50", "7.50", "8.50", "9.50"]


def test_an_incompatible_schema_waits_for_a_person(attached: Attached, kafka: KafkaBroker) -> None:
    """Capture names the column and asks again; once the registry lets the schema in, it goes on by itself."""
    with registry_server() as registry:
        through_registry(attached, kafka, registry)
        with attached.capturing() as running:
            attached.settle(running)
            attached.owner.execute('ALTER TABLE "mot cua".thanh_toan ALTER so_tien TYPE text')
            attached.owner.execute("""UPDATE "mot cua".thanh_toan SET so_tien = '7,5' WHERE id = 1""")
            running.until(lambda: any("column so_tien was" in fault.cause for fault in running.faults), "it is told")
            asked = len(registry.asked)
            running.until(lambda: len(registry.asked) > asked + 1, "it tries again")
            registry.level = "NONE"
    assert told(attached) == ["1.50", "7,5"]
