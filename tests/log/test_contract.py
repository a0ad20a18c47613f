"""The contract of connector.log.contract, held by both backends on real parts."""

from __future__ import annotations

import os
import signal
import threading
from itertools import pairwise
from time import monotonic

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from logs_under_test import PARTITIONS, Log, by_partition, entries, poll_until_error, read_up

from connector.errors import LogError, LogUnavailable, retryable
from connector.log.contract import Entry, Record


def test_a_new_log_is_empty(log: Log) -> None:
    """A new log has no tails, its partitions end at 0 and nothing is read."""
    writer = log.writer()
    assert writer.open() == {}
    reader = log.reader()
    assert reader.partitions == PARTITIONS
    assert reader.ends() == dict.fromkeys(range(PARTITIONS), 0)
    reader.assign(dict.fromkeys(range(PARTITIONS), 0))
    assert reader.poll(0, 10) == []


def test_records_come_back_in_order(log: Log) -> None:
    """Records come back as written, in order within their partition, with rising offsets."""
    writer = log.writer()
    writer.open()
    writer.append(entries("0:a", "2:b", "0:c"))
    writer.append([])
    writer.append(entries("2:d", "0:e"))
    records = log.contents()
    expected = entries("0:a", "0:c", "0:e", "2:b", "2:d")
    assert by_partition(records) == {
        0: [(entry.key, entry.value) for entry in expected[:3]],
        2: [(entry.key, entry.value) for entry in expected[3:]],
    }
    for partition in (0, 2):
        offsets = [record.offset for record in records if record.partition == partition]
        assert all(low < high for low, high in pairwise(offsets))


def test_a_log_has_an_identity_of_its_own(log: Log) -> None:
    """Every reader hears the same, whoever writes; no other log has it."""
    for _ in range(2):
        writer = log.writer()
        writer.open()
        writer.close()
    (identity,) = {log.reader().identity, log.reader().identity}
    assert len(identity) >= 16


def test_tails_are_the_last_records(log: Log) -> None:
    """A new writer hears the last value of every partition that has one, and of no other."""
    writer = log.writer()
    writer.open()
    writer.append(entries("0:a", "1:b", "0:c"))
    writer.append(entries("1:d"))
    assert log.contents()
    assert log.reader().tails() == {0: b"value c", 1: b"value d"}
    writer.close()
    assert log.writer().open() == {0: b"value c", 1: b"value d"}


def test_beginnings_may_be_assigned(log: Log) -> None:
    """A partition that holds something begins with its first record, an empty one where it ends."""
    writer = log.writer()
    writer.open()
    writer.append(entries("0:a", "0:b", "2:c"))
    log.settle()
    reader = log.reader()
    beginnings, ends = reader.beginnings(), reader.ends()
    assert set(beginnings) == set(range(PARTITIONS))
    assert beginnings[1] == ends[1]
    assert beginnings[0] < ends[0]
    assert by_partition(log.contents(dict(beginnings))) == by_partition(log.contents())


def test_a_young_log_is_complete(log: Log) -> None:
    """Before anything was compacted away, a partition is whole from its first record on."""
    writer = log.writer()
    writer.open()
    writer.append(entries("0:a", "0:b", "2:c"))
    log.settle()
    reader = log.reader()
    complete, beginnings = reader.complete_from(), reader.beginnings()
    assert set(complete) == set(range(PARTITIONS))
    assert (complete[0], complete[2]) == (beginnings[0], beginnings[2])


def test_a_reader_gets_what_it_is_assigned(log: Log) -> None:
    """A reader starts at the offsets it is given and hears of no other partition."""
    writer = log.writer()
    writer.open()
    for word in "abcde":
        writer.append(entries(f"0:{word}", f"1:{word}"))
    third = [record for record in log.contents() if record.partition == 1][2]
    assert by_partition(log.contents({1: third.offset})) == {
        1: [(b"key " + word, b"value " + word) for word in (b"c", b"d", b"e")]
    }
    reader = log.reader()
    reader.assign({0: 0})
    assert len(read_up(reader)) == 5
    reader.assign({1: third.offset + 1})
    assert [record.value for record in read_up(reader)] == [b"value d", b"value e"]


def test_a_poll_keeps_its_limit_and_loses_nothing(log: Log) -> None:
    """Polls with a small limit hand out everything once, and no partition waits for another one's end."""
    writer = log.writer()
    writer.open()
    writer.append(entries(*(f"{number % 2}:{number}" for number in range(40))))
    reader = log.reader()
    reader.assign(dict.fromkeys(range(PARTITIONS), 0))
    seen: list[Record] = []
    while len(seen) < 40:
        batch = reader.poll(5, 3)
        assert 1 <= len(batch) <= 3
        seen += batch
    assert sorted(int(record.key[4:]) for record in seen) == list(range(40))


def test_positions_reach_the_ends(log: Log) -> None:
    """Once everything is read, positions and ends agree, so a lag of 0 can be told."""
    writer = log.writer()
    writer.open()
    writer.append(entries("0:a", "1:b"))
    reader = log.reader()
    reader.assign(dict.fromkeys(range(PARTITIONS), 0))
    assert reader.positions() == dict.fromkeys(range(PARTITIONS), 0)
    log.settle()
    read_up(reader)
    assert reader.positions() == reader.ends()
    writer.append(entries("0:c"))
    log.settle()
    assert reader.ends()[0] > reader.positions()[0]
    other = log.reader()
    other.assign(reader.positions())
    assert [record.value for record in read_up(other)] == [b"value c"]


def test_a_position_in_the_middle_is_a_place_to_go_on(log: Log) -> None:
    """A reader that begins at another one's positions gets what that one has not handed out yet, no more, no less."""
    writer = log.writer()
    writer.open()
    writer.append(entries("0:a", "0:b", "0:c"))
    reader = log.reader()
    reader.assign({0: 0})
    assert [record.value for record in reader.poll(20, 1)] == [b"value a"]
    assert [record.value for record in log.contents(dict(reader.positions()))] == [b"value b", b"value c"]


def test_an_offset_outside_of_the_log_is_refused(log: Log) -> None:
    """A reader that wants an offset the log does not hold is told so; it never jumps."""
    writer = log.writer()
    writer.open()
    writer.append(entries("0:a"))
    reader = log.reader()
    reader.assign({0: 1000})
    error = poll_until_error(reader)
    assert not retryable(error)
    assert "delivery.state" in error.mend


def test_a_partition_that_is_not_there_is_refused(log: Log) -> None:
    """A reader cannot be given a partition that the log does not have."""
    log.writer().open()
    with pytest.raises(LogError, match="no partition 7"):
        log.reader().assign({7: 0})


def test_schemas_keep_their_ids(log: Log) -> None:
    """The same text has the same id, also after a restart, and readers resolve it, also when it came later."""
    writer = log.writer()
    writer.open()
    first = writer.register('"long"')
    writer.append(entries("0:a"))
    reader = log.reader()
    reader.assign({0: 0})
    assert reader.poll(20, 1)
    assert reader.schema(first) == '"long"'
    second = writer.register('{"type": "string", "doc": "Hồ sơ một cửa"}')
    assert second != first
    assert writer.register('"long"') == first
    writer.append(entries("0:b"))
    assert reader.poll(20, 1)
    assert reader.schema(second) == '{"type": "string", "doc": "Hồ sơ một cửa"}'
    writer.close()
    writer = log.writer()
    writer.open()
    assert writer.register('"long"') == first
    assert writer.register('"int"') not in (first, second)


def test_an_unknown_schema_is_refused(log: Log) -> None:
    """An id that nobody registered is an error with a way out."""
    log.writer().open()
    with pytest.raises(LogError, match="no schema 4711"):
        log.reader().schema(4711)


def test_large_records_pass(log: Log) -> None:
    """A record of some megabytes, as a row with a scanned text has, passes whole."""
    writer = log.writer()
    writer.open()
    value = os.urandom(5_000_000)
    writer.append([Entry(1, b"big", value), *entries("1:after")])
    assert [record.value for record in log.contents()] == [value, b"value after"]


def test_a_concurrent_reader_sees_everything_in_order(log: Log) -> None:
    """A reader in another thread, reading while records are appended, misses and repeats nothing."""
    writer = log.writer()
    writer.open()
    reader = log.reader()
    reader.assign(dict.fromkeys(range(PARTITIONS), 0))
    total = 600
    seen: list[Record] = []

    def read() -> None:
        deadline = monotonic() + 30
        while len(seen) < total and monotonic() < deadline:
            seen.extend(reader.poll(0.5, 50))

    thread = threading.Thread(target=read)
    thread.start()
    for start in range(0, total, 6):
        writer.append(entries(*(f"{n % PARTITIONS}:{n}" for n in range(start, start + 6))))
    thread.join()
    for partition, pairs in by_partition(seen).items():
        assert [int(key[4:]) for key, _ in pairs] == list(range(partition, total, PARTITIONS))
    assert len(seen) == total


def test_a_reader_follows_a_writer_in_another_process(log: Log) -> None:
    """What another process appends arrives without a new assignment."""
    with log.child() as child:
        assert child.hear() == "open 0"
        reader = log.reader()
        reader.assign(dict.fromkeys(range(PARTITIONS), 0))
        seen: list[Record] = []
        for done in (5, 10, 15):
            child.tell("append 5")
            assert child.hear() == f"done {done}"
            deadline = monotonic() + 20
            while len(seen) < done and monotonic() < deadline:
                seen += reader.poll(1, 100)
        assert sorted(int(record.key[6:]) for record in seen) == list(range(15))


def test_what_was_appended_survives_kill_9(log: Log) -> None:
    """After kill -9 in the middle of appends every acknowledged record is there, and no gap anywhere."""
    with log.child() as child:
        assert child.hear() == "open 0"
        child.tell("flood")
        acknowledged = 0
        while acknowledged < 350:
            acknowledged = int(child.hear().removeprefix("done "))
        child.process.send_signal(signal.SIGKILL)
        child.process.wait()
        rest = child.process.stdout.read().split() if child.process.stdout else []
        acknowledged = max([acknowledged, *(int(word) for word in rest if word.isdigit())])
    writer = log.writer()
    tails = writer.open()
    found = by_partition(log.contents())
    assert sum(map(len, found.values())) >= acknowledged
    for partition in range(PARTITIONS):
        numbers = [int(key[6:]) for key, _ in found[partition]]
        assert numbers == list(range(partition, PARTITIONS * len(numbers), PARTITIONS))
        assert tails[partition] == b"value of %d" % numbers[-1]
    writer.append(entries("0:after"))
    assert by_partition(log.contents())[0][-1] == (b"key after", b"value after")


def test_an_older_writer_is_fenced(log: Log) -> None:
    """Once a later writer has opened, the older one's append and register fail for good and add nothing."""
    older = log.writer()
    older.open()
    older.append(entries("0:old"))
    log.let_a_second_writer_in()
    newer = log.writer()
    assert newer.open() == {0: b"value old"}
    for _ in range(2):
        with pytest.raises(LogError, match="fenced") as caught:
            older.append(entries("0:zombie", "1:zombie"))
        assert not retryable(caught.value)
    with pytest.raises(LogError, match="fenced"):
        older.register('"int"')
    newer.append(entries("0:new"))
    assert by_partition(log.contents()) == {0: [(b"key old", b"value old"), (b"key new", b"value new")]}


def test_a_stopped_writer_is_fenced_when_it_goes_on(log: Log) -> None:
    """A writer process that stood still (SIGSTOP) while another took over adds nothing when it goes on."""
    with log.child() as child:
        assert child.hear() == "open 0"
        child.tell("append 4")
        assert child.hear() == "done 4"
        child.process.send_signal(signal.SIGSTOP)
        log.let_a_second_writer_in()
        newer = log.writer()
        newer.open()
        newer.append(entries("0:new"))
        child.tell("append 4")
        child.process.send_signal(signal.SIGCONT)
        heard = child.hear()
    assert heard.startswith("error LogError")
    assert "fenced" in heard
    assert sorted(record.key for record in log.contents()) == sorted(
        [*(b"child-%d" % number for number in range(4)), b"key new"]
    )


def test_another_number_of_partitions_is_refused(log: Log) -> None:
    """The number of partitions belongs to the log; the error names the way out."""
    log.writer().open()
    log.opened.pop().close()
    with pytest.raises(LogError, match=f"{PARTITIONS} partitions, the settings say {PARTITIONS + 1}") as caught:
        log.writer(PARTITIONS + 1).open()
    assert f"set log.partitions to {PARTITIONS}" in caught.value.mend
    assert log.writer().open() == {}


def test_a_reader_that_comes_too_early_may_try_again(log: Log) -> None:
    """Before capture has made the log, a reader is told that it may try again; afterwards it may read."""
    with pytest.raises(LogUnavailable) as caught:
        log.reader()
    assert retryable(caught.value)
    log.writer().open()
    assert log.reader().partitions == PARTITIONS


def test_durability_is_told_in_words(log: Log) -> None:
    """Writer and reader say the same of what durable means; one replica is not sound, SQLite's full sync is."""
    writer = log.writer()
    writer.open()
    assert writer.durability == log.reader().durability
    assert writer.durability.sound is not log.is_kafka
    assert writer.durability.words


batches = st.lists(st.tuples(st.integers(0, PARTITIONS - 1), st.binary(max_size=40), st.binary(min_size=1)))
steps = st.lists(st.one_of(batches, st.just("reopen"), st.sampled_from(["schema a", "schema b"])), max_size=6)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, shares=st.tuples(*[st.integers(0, 100)] * PARTITIONS))
def test_a_log_is_a_list_for_each_partition(log: Log, steps: list[object], shares: tuple[int, ...]) -> None:
    """Whatever is appended, reopened and registered: read from any offset, a partition is its list's rest."""
    writer = log.writer()
    writer.open()
    before = log.contents()
    model = {p: [(r.key, r.value) for r in before if r.partition == p] for p in range(PARTITIONS)}
    ids: dict[str, int] = {}
    for step in steps:
        match step:
            case "reopen":
                writer.close()
                writer = log.writer()
                assert writer.open() == {p: pairs[-1][1] for p, pairs in model.items() if pairs}
            case str(schema):
                number = writer.register(schema)
                assert ids.setdefault(schema, number) == number
            case list(batch):
                writer.append([Entry(*row) for row in batch])
                for partition, key, value in batch:
                    model[partition].append((key, value))
    writer.close()
    records = log.contents()
    assert by_partition(records) == {p: pairs for p, pairs in model.items() if pairs}
    log.settle()
    ends = log.reader().ends()
    starts = {p: ends[p] * shares[p] // 100 for p in range(PARTITIONS)}
    expected = [record for record in records if record.offset >= starts[record.partition]]
    assert sorted(log.contents(starts)) == sorted(expected)
    while log.opened:
        log.opened.pop().close()
