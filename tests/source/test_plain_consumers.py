"""Consumers that use nothing of ours, over topics of ours and of a real Debezium for the same work.

kafka-python is the client, fastavro and json are the decoders; the consumer in JSON is the one that docs/consumers.md
shows, and as its reader would write it for Debezium alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from copy import copy
from pathlib import Path
from typing import Any

import pytest
from attached_source import Attached, until
from log.other_client import KafkaConsumer
from plugins.debezium import WITHOUT_SCHEMAS, Debezium
from plugins.kafka import KafkaBroker
from plugins.postgres import Database

from connector.change.selection import Role, Selection, TableSelection

ROOT = Path(__file__).parents[2]
TABLES = """
CREATE SCHEMA m;
CREATE TABLE m.ho_so (id bigint PRIMARY KEY, ten text, phi numeric(14,2), ngay date, luc timestamptz, xong boolean);
CREATE TABLE m.thanh_toan (id bigint PRIMARY KEY, ho_so_id bigint, so_tien numeric, ghi_chu bytea);
CREATE TABLE m.don_vi (ma text, nam int, ten text, PRIMARY KEY (nam, ma));
INSERT INTO m.don_vi SELECT 'Sở "' || n, 2020 + n, 'Đơn vị' FROM generate_series(1, 4) n;
INSERT INTO m.ho_so SELECT n, 'Hồ sơ ' || n, n * 1.25, '2024-02-29', '2024-02-29 12:34:56+07'
  FROM generate_series(1, 20) n;
INSERT INTO m.thanh_toan SELECT n, n, n * 10, '\\x00ff' FROM generate_series(1, 20) n;
"""
WORK = """
INSERT INTO m.ho_so VALUES (21, E'dòng\\n"mới"\\\\', -0.10, '0044-03-15 BC', NULL, true);
UPDATE m.ho_so SET xong = true, phi = phi * 1000 WHERE id <= 15;
UPDATE m.ho_so SET id = 100 WHERE id = 3;
UPDATE m.thanh_toan SET ho_so_id = ho_so_id % 20 + 1;
UPDATE m.thanh_toan SET so_tien = 1234567890.123 WHERE id < 5;
DELETE FROM m.thanh_toan WHERE id IN (7, 8);
UPDATE m.don_vi SET ma = 'Sở mới' WHERE nam = 2021;
DELETE FROM m.don_vi WHERE nam = 2022;
DELETE FROM m.ho_so WHERE id = 20;
TRUNCATE m.thanh_toan;
INSERT INTO m.thanh_toan VALUES (30, 100, 5, NULL);
"""
SELECTION = Selection(
    (
        TableSelection("m", "ho_so", Role.DOSSIER, ("ten", "phi", "ngay", "luc", "xong")),
        TableSelection("m", "thanh_toan", Role.CHILD, ("so_tien", "ghi_chu"), "ho_so_id"),
        TableSelection("m", "don_vi", Role.REFERENCE, ("ten",)),
    )
)
ROUTED = {
    # Everything into one topic, as ours: Debezium then says in the key whose row it is. Its names take no hyphen.
    "transforms": "mot",
    "transforms.mot.type": "io.debezium.transforms.ByLogicalTableRouter",
    "transforms.mot.topic.regex": r"([^.]*)\\.[^.]*\\.[^.]*",
    "transforms.mot.topic.replacement": "$1.debezium",
    **WITHOUT_SCHEMAS,
    # Unlike ours, it leaves TRUNCATE out unless asked.
    "skipped.operations": "none",
}


def beside(attached: Attached, kafka: KafkaBroker, name: str, form: str, partitions: int) -> Attached:
    """Another connector on the same database, with a log in Kafka."""
    other = copy(attached)
    other.name = name
    brokers = {"brokers": kafka.bootstrap, "replication_factor": 1, "min_insync_replicas": 1}
    other.log = {"kafka": brokers, "format": form, "partitions": partitions}
    other.settings = other.settings_with(data=str(attached.directory / name))
    other.set_up()
    return other


def records(kafka: KafkaBroker, topic: str) -> Iterator[tuple[str, Any]]:
    """All that kafka-python reads of a topic: the key, its fields sorted, and the value."""
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=kafka.bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        group_id=None,
        consumer_timeout_ms=3000,
    )
    try:
        for record in consumer:
            key = json.dumps(json.loads(record.key or b"null"), sort_keys=True)
            yield key, None if record.value is None else json.loads(record.value)
    finally:
        consumer.close()


def documented(
    page: str, kafka: KafkaBroker, topic: str, *changed: tuple[str, str], topic_in: str = "mot-cua.changes"
) -> list[str]:
    """The lines that a page's first Python program writes, sorted."""
    program = (ROOT / "docs" / page).read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    for placeholder, value in (("kafka:9092", kafka.bootstrap), (topic_in, topic), *changed):
        assert placeholder in program
        program = program.replace(placeholder, value)
    program = program.replace("consumer_timeout_ms=5000", "consumer_timeout_ms=3000")
    command = [sys.executable, "-W", "ignore", "-c", program]
    return sorted(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())


WHATEVER_PARTITION = ("partitions.setdefault(record.partition, {})", "partitions.setdefault(0, {})")
"""What Debezium's users write, whose topics need no more."""


@pytest.fixture
def work(database: Database, tmp_path: Path) -> Iterator[Attached]:
    """The tables, with rows in them."""
    made = Attached(database, tmp_path, TABLES)
    made.selection = SELECTION
    yield made
    made.close()


def test_consumers_that_are_not_ours_end_with_the_same_rows(work: Attached, kafka: KafkaBroker, tmp_path: Path) -> None:
    """The rows of the database, by the documented consumers, and from Debezium's topic; the keys are equal, too."""
    name = work.database.name.replace("_", "-")  # of this test's own, also in a Kafka that outlives the database
    names = {form: f"{name}-{form}" for form in ("json", "one", "avro")}
    ours = [
        beside(work, kafka, names["json"], "json", 3),
        beside(work, kafka, names["one"], "json", 1),
        beside(work, kafka, names["avro"], "avro", 3),
    ]
    prefix = names["json"]
    publication = ours[0].settings.publication
    tables = [table.full_name for table in SELECTION.tables]
    with ExitStack() as stack:
        slot = {"slot.name": f"debezium_{work.database.name}"}
        debezium = stack.enter_context(
            Debezium(
                tmp_path / "connect", kafka, work.database.dsn("postgres"), publication, tables, {prefix: ROUTED | slot}
            )
        )
        for one in ours:
            stack.enter_context(one.capturing(settings=one.settings, selection=SELECTION))
        debezium.events({f"{prefix}.debezium": 44})
        until(lambda: bool(work.ask(_STREAMS)), "Debezium streams")
        for statement in WORK.strip().split(";\n"):
            work.owner.execute(statement.encode())
        # The insert that is the last of the work; before it come 48 reads and changes that are not told again.
        theirs = debezium.events({f"{prefix}.debezium": 44 + EVENTS})[f"{prefix}.debezium"]
    assert theirs[-1]["after"]["id"] == 30

    changes = f"{prefix}.changes"
    # Each waits some seconds at the end of its topic; so side by side.
    with ThreadPoolExecutor() as pool:
        by_debezium = pool.submit(documented, "consumers.md", kafka, f"{prefix}.debezium")
        by_ours = pool.submit(documented, "consumers.md", kafka, changes)
        # As for Debezium alone: in one partition.
        by_one = pool.submit(documented, "consumers.md", kafka, f"{names['one']}.changes", WHATEVER_PARTITION)
        in_avro = pool.submit(documented, "log.md", kafka, names["avro"], topic_in="mot-cua")
        their_records, our_records = pool.map(
            lambda topic: list(records(kafka, topic)), (f"{prefix}.debezium", changes)
        )
    expected = by_debezium.result()
    assert len(expected) == 20 + 1 + 3
    assert by_ours.result() == expected
    assert by_one.result() == expected

    their_keys = {key for key, value in their_records if value is None or value["op"] != "t"}
    assert {key for key, value in our_records if value["op"] not in "tm"} == their_keys
    # In Avro, by the consumer of docs/log.md: the same history.
    assert sorted(line[-1] for line in in_avro.result()) == sorted(value["op"] for _, value in our_records)


EVENTS = 1 + 15 + 2 + 20 + 4 + 2 + 2 + 1 + 1 + 1 + 1
_STREAMS = """SELECT 1 FROM pg_replication_slots JOIN pg_stat_replication ON pid = active_pid
    WHERE slot_name LIKE 'debezium%%' AND database = current_database() AND state = 'streaming'"""
