"""A row that is larger than a record may be: capture stops and says all that helps, or cuts what it was told to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import count
from typing import Any

import pytest
from attached_source import BIG, DOSSIER, UNIT, Attached, Running, until
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not in the way mypy asks for
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)
from plugins.kafka import KafkaBroker

from connector.change.envelope import row_key
from connector.change.record import Change, Op
from connector.errors import LogError, RecordTooLarge
from connector.log.contract import RECORD_OVERHEAD
from connector.observe import TransactionsLogged
from connector.source.index import KeyedIndex, remembered
from connector.source.oversize import TRUNCATED

BOUND = 1024 * 1024
LARGE = BIG * 20
"""2 MB, which does not compress."""
NOTE = f"{DOSSIER}.noi_dung"
CUT: dict[str, Any] = {"on_oversized": "truncate", "truncate": [NOTE]}
_names = count(1)

BEFORE = """UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'trước' WHERE id <= 3"""
AFTER = """UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'sau' WHERE id BETWEEN 5 AND 30"""
TOO_MUCH = """UPDATE "mot cua"."Hồ sơ" SET noi_dung = %s, trang_thai = 'lớn' WHERE id = 7"""


def bounded(attached: Attached, **log: Any) -> None:
    """Settings with a bound of 1 MB, and a policy."""
    attached.log = {key: value for key, value in attached.log.items() if key in ("embedded", "kafka")}
    attached.log |= {"largest_record": BOUND, **log}
    attached.settings = attached.settings_with()


@pytest.fixture(params=["embedded", "kafka"])
def either(request: pytest.FixtureRequest, attached: Attached) -> Attached:
    """The attached connector on each of the logs."""
    if request.param == "kafka":
        on_kafka(attached, request.getfixturevalue("kafka"))
    return attached


def on_kafka(attached: Attached, kafka: KafkaBroker) -> None:
    """Have it log to a topic of its own."""
    attached.name = f"oversize-{os.getpid()}-{next(_names)}"
    attached.log = {"kafka": {"brokers": kafka.bootstrap, "replication_factor": 1, "min_insync_replicas": 1}}
    attached.settings = attached.settings_with()
    attached.set_up()


def row_7(attached: Attached) -> list[Change]:
    """What the stream told of one dossier."""
    return [change for change in attached.streamed(DOSSIER) if change.key == ("7",)]


def stopped(running: Running) -> RecordTooLarge:
    """The error for which capture gave up."""
    until(lambda: running.failure is not None, "capture gives up")
    running.end()
    assert isinstance(running.failure, RecordTooLarge), running.failure
    return running.failure


def test_a_row_of_2_mb_stops_capture(either: Attached) -> None:
    """By default: what was before it is in the log, nothing of it or after it; all follows when the bound is raised."""
    bounded(either)
    with either.capturing():
        pass
    running = either.start()
    running.until_streaming()
    either.owner.execute(BEFORE)
    with either.owner.transaction():
        either.owner.execute("""UPDATE "mot cua".thanh_toan SET so_tien = 0""")
        either.owner.execute(TOO_MUCH, (LARGE,))
    either.owner.execute(AFTER)
    end = either.ask("SELECT pg_current_wal_lsn()::text")[0][0]
    error = stopped(running)
    assert running.faults[-1].fatal
    assert error.subject == f"{DOSSIER} (key: id)"
    for said in ("larger than log.largest_record (1,048,576)", "noi_dung 2,000,00", "transaction ", "commits at "):
        assert said in error.cause
    for way in ("slot keeps the place", "log.largest_record: 2MB", f'log.truncate: ["{NOTE}"]', "source.wal_budget"):
        assert way in error.mend
    assert BIG[:20] not in f"{error}{error.mend}"
    assert ("kafka" in either.log) == ("max.message.bytes" in error.mend)
    find = error.mend.split("The rows: ")[1].removesuffix(";")
    assert either.owner.execute(find.encode()).fetchall() == [(7,)]
    assert [c.table for p in either.records() for c in p if c.transaction] == [DOSSIER] * 3
    assert either.slot(f"confirmed_flush_lsn < '{end}'")
    held = json.loads(remembered(either.settings.index)["held"])
    assert held["cause"] == error.cause

    with_more = either.start()  # started again unchanged it stops again, at the same place
    assert stopped(with_more).cause == error.cause
    bounded(either, largest_record="3MB")
    with either.capturing():
        pass
    assert [change.after["noi_dung"] for change in row_7(either) if change.after] == [LARGE, LARGE]
    assert len(either.streamed(DOSSIER)) == 30
    either.assert_exact()


def test_a_row_of_2_mb_is_cut(either: Attached) -> None:
    """With `truncate`: the record fits and says what was cut, later ones are in order; what PostgreSQL leaves out later
    is as the log has it, marked, also after the index was lost."""
    bounded(either, **CUT)
    with either.capturing() as running:
        either.owner.execute(BEFORE)
        either.owner.execute(TOO_MUCH, ("ồ" + LARGE,))
        either.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'tiếp' WHERE id = 7""")
        either.settle(running)
    assert sum(one.truncated for one in running.seen if isinstance(one, TransactionsLogged)) == 2
    assert json.loads(remembered(either.settings.index)[TRUNCATED]) == {NOTE: 2}
    if "kafka" not in either.log:  # on one of the logs, to spare the time
        for file in either.settings.source.data.glob("*.index.sqlite*"):
            file.unlink()
    with either.capturing():
        either.owner.execute(AFTER)
        either.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET id = 700 WHERE id = 7""")
        either.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET noi_dung = 'ngắn' WHERE id = 700""")
    told = [c for c in either.streamed(DOSSIER) if c.key in (("7",), ("700",))]
    told.sort(key=lambda change: change.position)
    texts = [change.after["noi_dung"] for change in told if change.after]
    first = texts[0]
    assert isinstance(first, str)
    assert len(first.encode()) == BOUND / 2
    assert ("ồ" + LARGE).startswith(first)
    assert texts == [first, first, first, first, "ngắn"]
    assert [(change.op, change.truncated) for change in told] == [
        (Op.UPDATE, ("noi_dung",)),
        (Op.UPDATE, ("noi_dung",)),
        (Op.UPDATE, ("noi_dung",)),
        (Op.DELETE, ()),
        (Op.CREATE, ("noi_dung",)),
        (Op.UPDATE, ()),
    ]
    assert [c.after["trang_thai"] for c in told if c.after] == ["lớn", "tiếp", "sau", "sau", "sau"]
    assert not [c for c in either.streamed(DOSSIER) if c.truncated and c.key not in (("7",), ("700",))]
    either.owner.execute("""DELETE FROM "mot cua"."Hồ sơ" WHERE id = 700""")
    with either.capturing():
        pass
    either.assert_exact()


def set_topic(kafka: KafkaBroker, topic: str, size: int) -> None:
    """Have a topic's batches take so many bytes."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    setting = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[setting])
    admin.incremental_alter_configs([resource])[resource].result(20)


def test_a_broker_that_takes_less_than_it_did(attached: Attached, kafka: KafkaBroker) -> None:
    """Its topic's bound is lowered: capture stops and names the setting; when it is raised again nothing is missing."""
    on_kafka(attached, kafka)
    topic = f"{attached.name}.changes"
    with attached.capturing():
        pass
    running = attached.start()
    running.until_streaming()
    set_topic(kafka, topic, 100_000)
    until(lambda: refuses(attached, running), "the broker refuses")
    running.end()
    assert isinstance(running.failure, LogError)
    assert "max.message.bytes" in running.failure.cause
    assert f"kafka-configs.sh --alter --topic {topic} --add-config max.message.bytes=16777216" in running.failure.mend
    set_topic(kafka, topic, 16 * BOUND)
    attached.owner.execute(AFTER)
    until(lambda: passes(attached), "the broker takes it again")
    told = row_7(attached)
    assert [change.after["noi_dung"] for change in told if change.after] == [LARGE] * len(told)
    assert len({change.position for change in told}) == len(told)
    attached.assert_exact()


def refuses(attached: Attached, running: Running) -> bool:
    """Whether capture has given up for one more large row; the broker hears of its settings some time later."""
    attached.owner.execute(TOO_MUCH, (LARGE,))
    end = attached.ask("SELECT pg_current_wal_lsn()::text")[0][0]
    until(
        lambda: running.failure is not None or bool(attached.slot(f"confirmed_flush_lsn >= '{end}'")), "it is answered"
    )
    return running.failure is not None


def passes(attached: Attached) -> bool:
    """Whether capture goes on, started again."""
    try:
        with attached.capturing():
            return True
    except LogError:
        return False


def status(attached: Attached) -> dict[str, Any]:
    """What `emc-cdc status --json` says of the source, and whether it shows the same."""
    written = attached.written() | {"mapping": {"extends": "preset:one-stop-generic", "SiteId": 327}}
    written["log"] = {key: value for key, value in written["log"].items() if key in ("partitions", "embedded")}
    config = attached.directory / "emc-cdc.yml"
    config.write_text(json.dumps(written), encoding="utf-8")
    command = [sys.executable, "-m", "connector.cli", "status", "--config", str(config)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    told = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False).stdout
    source: dict[str, Any] = json.loads(told)["source"]
    assert ("đã bị cắt bớt trong" in shown) == bool(source["truncated"])
    assert ("tạm giữ từ" in shown) == (source["held"] is not None)
    return source


def test_status_tells_what_was_cut_and_what_holds(attached: Attached) -> None:
    """How many records were cut of which column, and while capture is down why it is."""
    bounded(attached, **CUT)
    with attached.capturing():
        attached.owner.execute(TOO_MUCH, (LARGE,))
    found = status(attached)
    assert (found["truncated"], found["held"]) == ({NOTE: 1}, None)
    bounded(attached)
    running = attached.start()
    running.until_streaming()
    attached.owner.execute(TOO_MUCH, ("x" + LARGE,))
    error = stopped(running)
    held = status(attached)["held"]
    assert (held["subject"], held["cause"], held["mend"]) == (error.subject, error.cause, error.mend)


def test_the_image_before_is_cut_alike(attached: Attached) -> None:
    """With REPLICA IDENTITY FULL both images are cut to fit one record, and an old one alone is cut, too."""
    bounded(attached, **CUT)
    attached.owner.execute("""ALTER TABLE "mot cua"."Hồ sơ" REPLICA IDENTITY FULL""")
    with attached.capturing():
        attached.owner.execute(TOO_MUCH, (LARGE,))
        attached.owner.execute(TOO_MUCH, ("x" + LARGE,))
        attached.owner.execute(TOO_MUCH, ("y",))
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'z' WHERE id = 7""")
    first, both, old, small = row_7(attached)
    assert first.after is not None
    assert both.before is not None
    assert both.after is not None
    assert old.before is not None
    assert old.after is not None
    assert LARGE.startswith(str(first.after["noi_dung"]))
    assert LARGE.startswith(str(both.before["noi_dung"]))
    assert str(both.after["noi_dung"])[0] == "x"
    assert len(str(both.after["noi_dung"])) == len(str(both.before["noi_dung"])) == BOUND / 4
    assert (len(str(old.before["noi_dung"])), old.after["noi_dung"]) == (BOUND / 2, "y")
    assert [change.truncated for change in (first, both, old, small)] == [("noi_dung",)] * 3 + [()]


def test_the_first_read_cuts_alike(attached: Attached) -> None:
    """A row that was there before is cut by the read; the stream then leaves it out, and tells what the log has."""
    bounded(attached, **CUT)
    attached.owner.execute(TOO_MUCH, (LARGE,))
    with attached.capturing():
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'tiếp' WHERE id = 7""")
    told = [c for p in attached.records() for c in p if c.table == DOSSIER and c.key == ("7",)]
    assert [(change.op, change.truncated) for change in told] == [(Op.READ, ("noi_dung",)), (Op.UPDATE, ("noi_dung",))]
    assert [c.after["noi_dung"] for c in told if c.after] == [told[0].after["noi_dung"]] * 2  # type: ignore[index]
    assert json.loads(remembered(attached.settings.index)[TRUNCATED]) == {NOTE: 2}


def test_the_first_read_stops_alike(attached: Attached) -> None:
    """A row that is too large stops the read of its table, and says so; with a policy all is read anew."""
    bounded(attached)
    attached.owner.execute(TOO_MUCH, (LARGE,))
    error = stopped(attached.start())
    assert "the row was read from its table" in error.cause
    assert "the table is read again" in error.mend
    bounded(attached, **CUT)
    with attached.capturing():
        pass
    attached.owner.execute(TOO_MUCH, ("",))
    with attached.capturing():
        pass
    attached.assert_exact()


def test_a_streamed_transaction_is_cut_alike(attached: Attached) -> None:
    """A transaction that came in blocks while it was open is measured when it has committed."""
    bounded(attached, **CUT)
    dsn = f"{attached.database.dsn('emc_cdc')} options='-c logical_decoding_work_mem=64kB'"
    attached.settings = attached.settings_with(dsn=dsn)
    with attached.capturing(), attached.owner.transaction():
        attached.owner.execute(TOO_MUCH, (LARGE,))
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'tiếp' WHERE id = 7""")
        attached.owner.execute(AFTER)
    slots = "SELECT stream_txns FROM pg_stat_replication_slots WHERE slot_name = %s"
    assert attached.ask(slots, attached.settings.slot)[0][0] > 0
    told = row_7(attached)
    assert [change.truncated for change in told] == [("noi_dung",)] * 3
    assert len({str(change.after["noi_dung"]) for change in told if change.after}) == 1


def test_a_replay_cuts_alike(attached: Attached) -> None:
    """Killed before anything was confirmed, the same records come again as they were: nothing is doubled or differs."""
    bounded(attached, **CUT)
    with attached.capturing():
        pass
    with attached.process(crash_after=2) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "streaming\n"
        with attached.owner.transaction():
            attached.owner.execute(TOO_MUCH, (LARGE,))
            attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'tiếp' WHERE id = 7""")
            attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'hết' WHERE id = 7""")
        process.wait()
    assert 0 < len(row_7(attached)) <= 3
    with attached.capturing():
        pass
    told = row_7(attached)
    assert [change.truncated for change in told] == [("noi_dung",)] * 3
    assert len({str(change.after["noi_dung"]) for change in told if change.after}) == 1


def test_json_and_bytes_are_cut_as_documented(attached: Attached) -> None:
    """jsonb becomes the JSON text null, bytea ends between two bytes; the index has both for what is left out later."""
    attached.owner.execute('ALTER TABLE "mot cua".don_vi ADD tep bytea, ADD chi_tiet jsonb')
    unit = attached.selection.tables[2]
    columns = ("ten", "tep", "chi_tiet")
    selection = type(attached.selection)(
        (*attached.selection.tables[:2], type(unit)(unit.schema, unit.name, unit.role, columns))
    )
    attached.selection = selection
    attached.set_up()
    bounded(attached, on_oversized="truncate", truncate=[f"{UNIT}.tep", f"{UNIT}.chi_tiet"])
    with attached.capturing():
        attached.owner.execute(
            'UPDATE "mot cua".don_vi SET tep = %s, chi_tiet = %s', (LARGE.encode(), json.dumps({"a": LARGE}))
        )
        attached.owner.execute("""UPDATE "mot cua".don_vi SET ten = 'đổi'""")
    for file in attached.settings.source.data.glob("*.index.sqlite*"):
        file.unlink()
    with attached.capturing():
        attached.owner.execute("""UPDATE "mot cua".don_vi SET ten = 'đổi nữa'""")
    for partition in attached.records():
        told = [change for change in partition if change.table == UNIT and change.op is Op.UPDATE]
        assert [change.truncated for change in told] == [("tep", "chi_tiet")] * 3
        for change in told:
            assert change.after is not None
            assert change.after["chi_tiet"] == "null"
            assert LARGE.encode().startswith(change.after["tep"])  # type: ignore[arg-type]
            assert len(change.after["tep"]) >= BOUND / 4  # type: ignore[arg-type]


def test_a_message_that_is_too_large_stops_capture(attached: Attached) -> None:
    """A message of ours has no columns to be cut: it is told with its size."""
    bounded(attached, **CUT)
    with attached.capturing():
        pass
    running = attached.start()
    running.until_streaming()
    attached.owner.execute("SELECT pg_logical_emit_message(true, 'emc-cdc.thu', repeat('x', 2000000))")
    error = stopped(running)
    assert error.subject == "a logical message emc-cdc.thu"
    assert "log.largest_record: 2MB" in error.mend


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (f"{DOSSIER}.id", "which row it is, or whose"),
        ("mot cua.thanh_toan.ho_so_id", "which row it is, or whose"),
        ("mot cua.thanh_toan.so_tien", "only these types can be cut: bytea, text"),
        ("mot cua.thanh_toan.ghi_chu", "no such column is captured"),
        ("thanh_toan", "no such column is captured"),
    ],
)
def test_what_cannot_be_cut_is_refused_at_the_start(attached: Attached, named: str, said: str) -> None:
    """Keys, links, other types, and columns that are not there: known once the catalog is asked."""
    bounded(attached, on_oversized="truncate", truncate=[named])
    error = attached.refused()
    assert error.subject == f"log.truncate: {named}"
    assert said in error.cause


@pytest.mark.parametrize("streamed", [True, False])
def test_the_index_holds_what_the_log_has(attached: Attached, streamed: bool) -> None:
    """Of a value that was cut, by the stream or a read, the rest is nowhere: not in the log, not in the index."""
    bounded(attached, **CUT)
    if not streamed:
        attached.owner.execute(TOO_MUCH, (LARGE,))
    with attached.capturing():
        if streamed:
            attached.owner.execute(TOO_MUCH, (LARGE,))
    index = KeyedIndex(attached.settings.index)
    texts = index.texts_of(row_key(DOSSIER, ("7",)))
    index.close()
    told = [change for p in attached.records() for change in p if change.table == DOSSIER and change.truncated]
    assert [texts["noi_dung"].decode()] == [change.after["noi_dung"] for change in told if change.after]
    assert len(texts["noi_dung"]) + RECORD_OVERHEAD < BOUND
