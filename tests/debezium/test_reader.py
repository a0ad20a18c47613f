"""The reader on a real broker: attaching, whole transactions, going on, and where it must stop."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from debezium.avro_form import SCHEMAS, wire
from debezium.envelopes import POSTGRESQL
from debezium.kafka_topics import Reading, Written, block
from plugins.kafka import KafkaBroker
from plugins.registry import registry_server

from connector.change.record import SNAPSHOT_BEGIN, SNAPSHOT_END
from connector.debezium import merge
from connector.errors import LogError, LogUnavailable

HISTORY = (SNAPSHOT_BEGIN, "r ho_so 1", "r ho_so 2", SNAPSHOT_END)


@pytest.fixture
def written(kafka: KafkaBroker) -> Written:
    """Two dossiers that Debezium has read."""
    written = Written(kafka)
    written.make(written.dossiers)
    written.read_by_snapshot(1, "first")
    written.read_by_snapshot(2, "last")
    return written


def test_half_a_transaction_waits(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """However late its other table comes: it waits for it, says so after a while, and goes on over a restart."""
    written.make(written.transactions)
    reading = Reading(written.reader())
    reading.until(*HISTORY)
    written.dossier(100, 3, "c", block(100, 1))
    written.end(100, ho_so=1, thanh_toan=1, khac=7)
    written.dossier(200, 1, "u", block(200, 1))
    written.end(200, ho_so=1)
    monkeypatch.setattr(merge, "PATIENCE", 0.5)
    with pytest.raises(LogUnavailable, match=r"0 of its 1 events of motcua\.thanh_toan"):
        reading.until_refused()
    assert not reading.told
    reading.reader.close()

    again = Reading(written.reader(reading.place))
    written.make(written.payments)
    written.payment(100, 9, 3, block(100, 2))
    again.until("c ho_so 3", "c thanh_toan 9 .", "u ho_so 1 .")
    again.reader.close()


def test_without_transaction_metadata(written: Written) -> None:
    """What comes together is one transaction, in the order of the commits; a later run goes on behind it."""
    written.make(written.payments)
    reading = Reading(written.reader())
    reading.until(*HISTORY)
    written.payment(300, 8, 1)
    written.dossier(200, 3, "c")
    written.payment(200, 9, 3)
    # In its own topic this one comes before 300, so whoever delivers it now, delivers it again.
    reading.until("c ho_so 3 .", "c thanh_toan 8 .")
    reading.reader.close()
    again = Reading(written.reader(reading.place))
    written.dossier(200, 3, "c")
    written.dossier(400, 1, "d")
    again.until("d ho_so 1 .")
    again.reader.close()


def test_debezium_comes_after_us(kafka: KafkaBroker) -> None:
    """Topics that are not there yet are waited for, and what its first snapshot reads is history."""
    written = Written(kafka)
    reading = Reading(written.reader())
    reading.until(SNAPSHOT_BEGIN)
    written.make(written.dossiers)
    written.read_by_snapshot(1, "first")
    reading.until("r ho_so 1")
    written.read_by_snapshot(2, "last")
    reading.until("r ho_so 2", SNAPSHOT_END)
    reading.reader.close()


def test_a_later_snapshot(written: Written) -> None:
    """It stands between markers; the stream behind it counts from anew, as after a restore."""
    reading = Reading(written.reader())
    reading.until(*HISTORY)
    written.dossier(900, 1)
    reading.until("u ho_so 1 .")
    written.read_by_snapshot(1, "first")
    written.read_by_snapshot(2, "last")
    written.dossier(100, 2)
    reading.until(SNAPSHOT_BEGIN, "r ho_so 1", "r ho_so 2", SNAPSHOT_END, "u ho_so 2 .")
    reading.reader.close()
    again = Reading(written.reader(reading.place))
    written.dossier(150, 1)
    again.until("u ho_so 1 .")
    again.reader.close()


def test_reads_of_an_incremental_snapshot(written: Written) -> None:
    """They are told where they stand, without markers."""
    reading = Reading(written.reader())
    reading.until(*HISTORY)
    written.read_by_snapshot(5, "incremental")
    reading.until("r ho_so 5")
    reading.reader.close()


def test_a_topic_that_lost_its_beginning(written: Written) -> None:
    """Rows that nobody changed since are not known: it is refused, unless compaction keeps every row."""
    written.forget(written.dossiers, 1)
    with pytest.raises(LogError, match="its first records are gone") as caught:
        written.reader().poll(1.0, 10)
    assert "cleanup.policy=compact" in caught.value.mend


def test_a_topic_that_lost_what_is_next(written: Written) -> None:
    """Changes are lost: it stops and says so."""
    reading = Reading(written.reader())
    reading.until(*HISTORY)
    reading.reader.close()
    written.dossier(100, 1)
    written.dossier(200, 1)
    written.forget(written.dossiers, 3)
    with pytest.raises(LogError, match=r"offset 2 is to be read next, but it holds 3 to 4: changes are lost"):
        written.reader(reading.place).poll(1.0, 10)


def test_a_topic_that_was_made_anew(written: Written) -> None:
    """It is another one, however many records it has."""
    reading = Reading(written.reader())
    reading.until(*HISTORY)
    reading.reader.close()
    written.delete(written.dossiers)
    written.make(written.dossiers)
    for commit in range(100, 105):
        written.dossier(commit, 1)
    with pytest.raises(LogError, match="deleted and made anew"):
        written.reader(reading.place).poll(1.0, 10)


def test_a_transaction_topic_of_several_partitions(written: Written) -> None:
    """The order of transactions would not be known."""
    written.make(written.transactions, partitions=3)
    with pytest.raises(LogError, match="3 partitions"):
        written.reader().poll(1.0, 10)


def test_events_with_transactions_that_are_told_nowhere(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """The topic's name is asked for, and nothing is judged meanwhile."""
    monkeypatch.setattr("connector.debezium.reader.PATIENCE", 0.5)
    reading = Reading(written.reader(transactions="another.topic"))
    reading.until(*HISTORY)
    written.dossier(100, 1, "u", block(100, 1))
    with pytest.raises(LogUnavailable, match=r"another\.topic: events have transaction metadata"):
        reading.until_refused()
    assert not reading.told
    reading.reader.close()


def test_a_column_that_debezium_leaves_out(written: Written) -> None:
    """In the stream it is refused; what is older than the column may lack it."""
    reading = Reading(written.reader())
    reading.until(*HISTORY)
    value = {"op": "u", "source": {"connector": "postgresql", "sequence": '["1","2"]', "lsn": 2, "txId": 1, "ts_ms": 1}}
    written.write(written.dossiers, {"id": 1}, {**value, "after": {"id": 1}})
    with pytest.raises(LogError, match=r"column ma of motcua\.ho_so is not in an event"):
        reading.until_refused()
    reading.reader.close()
    old = Reading(written.reader())
    old.until(SNAPSHOT_BEGIN, "r ho_so 1", "r ho_so 2", "r ho_so 1", SNAPSHOT_END)
    old.reader.close()


def test_a_state_of_another_log(written: Written) -> None:
    """It cannot be gone on with."""
    reader = written.reader()
    with pytest.raises(LogError, match="not made from these topics"):
        reader.assign({0: 17})
    reader.close()


def test_avro_with_a_registry_that_is_away(kafka: KafkaBroker) -> None:
    """What was fetched from Kafka while the registry gave no schema is read when it does."""
    written = Written(kafka)
    written.make(written.dossiers)
    with registry_server() as registry:
        registry.schemas.update({number: json.dumps(schema) for number, schema in SCHEMAS.items()})
        for number, word in ((1, "first"), (2, "last")):
            row = {"id": number, "ma": "x", "le_phi": Decimal("1.50"), "ngay": 0, "xong": True}
            source = {**POSTGRESQL, "snapshot": word}
            value = wire(2, {"before": None, "after": row, "source": source, "op": "r"})
            written.write_bytes(written.dossiers, wire(1, {"id": number}), value)
        registry.always = 503
        reading = Reading(written.reader(format="avro", registry=registry.url))
        with pytest.raises(LogUnavailable):
            reading.until_refused()
        registry.always = None
        reading.reader.assign({0: reading.reader.positions()[0]})
        reading.until(*HISTORY)
        assert [change.after["le_phi"] for change in reading.changes if change.after] == [Decimal("1.50")] * 2
        reading.reader.close()
