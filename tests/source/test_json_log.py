"""A log in JSON: the same records as in Avro, on either log, with everything that capture promises of them."""

from __future__ import annotations

import json
import shutil
import signal
from contextlib import ExitStack
from copy import copy
from typing import Any

import pytest
from attached_source import BIG, DOSSIER, PARTITIONS, PAYMENT, Attached, assert_told_once, until
from plugins.kafka import KafkaBroker

from connector.change.json_encoding import TABLE_IDENTIFIER
from connector.change.record import Change, Op
from connector.log.contract import Record
from connector.log.opening import open_reader
from connector.observe import SourceConnected

WORK = (
    """INSERT INTO "mot cua".don_vi VALUES (2, E'Sở Y tế\\n"hai"')""",
    """INSERT INTO "mot cua"."Hồ sơ" VALUES (50, 'M\\50', 'mới', repeat('x', 10), 'bí mật', 1)""",
    """UPDATE "mot cua"."Hồ sơ" SET id = 700 WHERE id = 7""",
    """UPDATE "mot cua".thanh_toan SET ho_so_id = ho_so_id % 30 + 1 WHERE id < 9""",
    """UPDATE "mot cua".thanh_toan SET so_tien = -0.10, ho_so_id = NULL WHERE id = 9""",
    """DELETE FROM "mot cua".thanh_toan WHERE id IN (9, 10)""",
    "SELECT pg_logical_emit_message(true, 'emc-cdc.thu', E'xin\\nchào')",
    """TRUNCATE "mot cua".don_vi""",
    """INSERT INTO "mot cua".don_vi VALUES (3, 'Sở Tài chính')""",
)


@pytest.fixture(params=["embedded", "kafka"])
def on_either_log(request: pytest.FixtureRequest, attached: Attached) -> Attached:
    """The attached connector on each of the logs."""
    if request.param == "kafka":
        kafka: KafkaBroker = request.getfixturevalue("kafka")
        attached.log = {"kafka": {"brokers": kafka.bootstrap, "replication_factor": 1, "min_insync_replicas": 1}}
        renamed(attached, f"{attached.database.name}-log".replace("_", "-"))
    return attached


def renamed(attached: Attached, name: str) -> None:
    """A connector of its own on the same database."""
    attached.name = name
    attached.settings = attached.settings_with(data=str(attached.directory / name))
    attached.set_up()


def in_json(attached: Attached) -> Attached:
    """The same connector, writing JSON."""
    other = copy(attached)
    other.log = attached.log | {"format": "json"}
    other.settings = other.settings_with(data=str(attached.settings.source.data))
    return other


def raw(attached: Attached) -> list[Record]:
    """The log's records as they are."""
    reader = open_reader(attached.settings)
    try:
        ends = reader.ends()
        reader.assign(dict.fromkeys(range(PARTITIONS), 0))
        found: list[Record] = []
        while any(reader.positions()[partition] < end for partition, end in ends.items()):
            found += reader.poll(1.0, 1000)
        return found
    finally:
        reader.close()


def told(partition: list[Change]) -> tuple[list[Change], dict[tuple[str, tuple[str, ...]], Any]]:
    """What the stream told, in order, and what was read, which stands where each connector began."""
    return (
        [change for change in partition if change.transaction],
        {(change.table, change.key): change.after for change in partition if change.op is Op.READ},
    )


def work(attached: Attached) -> None:
    """Everything that applications do."""
    attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET noi_dung = %s WHERE id = 7""", (BIG,))
    with attached.owner.transaction():
        for statement in WORK[1:5]:
            attached.owner.execute(statement.encode())
    for statement in WORK:
        if statement not in WORK[1:5]:
            attached.owner.execute(statement.encode())


def test_both_formats_tell_the_same(on_either_log: Attached) -> None:
    """Two connectors beside each other: equal changes under equal positions in every partition; all of it is JSON."""
    avro = on_either_log
    beside = copy(avro)
    if "embedded" in avro.log:
        beside.log = {"embedded": {"path": str(avro.directory / "json.sqlite")}}
    renamed(beside, f"{avro.name}-json")
    beside = in_json(beside)
    with ExitStack() as stack:
        running = [stack.enter_context(one.capturing()) for one in (avro, beside)]
        work(avro)
    told_of = [one.compiled for each in running for one in each.seen if isinstance(one, SourceConnected)]
    assert told_of == [True, False]
    for one, other in zip(avro.records(), beside.records(), strict=True):
        assert told(one) == told(other)
        assert [change.marker for change in one] == [change.marker for change in other]
    beside.assert_exact()
    keys = set()
    for record in raw(beside):
        value, key = json.loads(record.value), json.loads(record.key)
        keys.add(tuple(key))
        if value["op"] != "m":
            table = f"{value['source']['schema']}.{value['source']['table']}"
            assert key[TABLE_IDENTIFIER] == f"{beside.name}.{table}"
        if value["op"] in "crud":
            assert key["id"] == (value["after"] or value["before"])["id"]
    assert keys == {("id", TABLE_IDENTIFIER), ("position", TABLE_IDENTIFIER), ("prefix", "position")}


def test_a_log_in_both_formats_is_read_in_one_go(on_either_log: Attached) -> None:
    """The setting was changed twice, once after a kill in the middle, and the index lost: one history, told once."""
    avro = on_either_log
    beside = in_json(avro)
    with avro.capturing():
        avro.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET noi_dung = %s WHERE id = 7""", (BIG,))
    data = str(avro.settings.source.data)
    with avro.process(crash_after=1, data=data) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if "streaming" in line)
        with avro.owner.transaction():
            avro.owner.execute("""UPDATE "mot cua".thanh_toan SET ho_so_id = ho_so_id % 30 + 1""")
            avro.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x'""")
        assert process.wait(60) == -signal.SIGKILL
    with beside.capturing():
        work(avro)
    with beside.process(crash_after=1, data=data) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if "streaming" in line)
        avro.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'y'""")
        assert process.wait(60) == -signal.SIGKILL
    shutil.rmtree(data)
    with beside.capturing():
        avro.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'z'""")
        avro.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id < 9""")
    with avro.capturing():
        avro.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id < 20""")
        avro.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'w' WHERE id = 700""")
    avro.assert_exact()
    assert_told_once(avro.records())
    assert [change.after["noi_dung"] for change in avro.streamed(DOSSIER) if change.after and change.key == ("700",)][
        -1
    ] == BIG
    assert {record.value[:1] for record in raw(avro)} == {b"{", b"\0"}
    gone = [change.key for change in avro.streamed(PAYMENT) if change.op is Op.DELETE and change.before]
    assert len({key for key in gone if 11 <= int(key[0]) < 20}) == 9
    until(lambda: avro.read(), "nothing is read anew")
