"""What only the embedded log has: a file that can be locked, full, damaged, foreign or replaced."""

from __future__ import annotations

import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from logs_under_test import PARTITIONS, Log, by_partition, embedded_settings, entries

from connector.errors import LogError, LogUnavailable, retryable
from connector.log import embedded
from connector.log.contract import Entry, Record
from connector.log.embedded import EmbeddedReader, EmbeddedWriter


def path_of(log: Log) -> Path:
    assert log.settings.log.embedded is not None
    return log.settings.log.embedded.path


def test_a_second_writer_waits_its_turn(embedded_log: Log) -> None:
    """While a capture runs, a second one is told its pid and may try again; the first one is not disturbed."""
    with embedded_log.child() as child:
        assert child.hear() == "open 0"
        with pytest.raises(LogUnavailable, match=rf"another capture is running \(pid {child.process.pid}\)") as caught:
            embedded_log.writer().open()
        assert retryable(caught.value)
        child.tell("append 3")
        assert child.hear() == "done 3"
    assert len(embedded_log.writer().open()) == 3


def test_a_writer_that_failed_to_open_can_be_opened_later(embedded_log: Log) -> None:
    """A refused `open` holds nothing: the same writer opens once the first one has closed."""
    first, second = embedded_log.writer(), embedded_log.writer()
    first.open()
    with pytest.raises(LogUnavailable):
        second.open()
    first.close()
    assert second.open() == {}


def test_offsets_are_dense(embedded_log: Log) -> None:
    """Offsets count from 0 in every partition, across restarts."""
    for _ in range(3):
        writer = embedded_log.writer()
        writer.open()
        writer.append(entries("0:a", "1:b", "0:c"))
        writer.close()
    offsets = {(record.partition, record.offset) for record in embedded_log.contents()}
    assert offsets == {(0, n) for n in range(6)} | {(1, n) for n in range(3)}


def test_a_writer_of_the_same_process_wakes_the_reader(embedded_log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that waits is woken by an append in its own process, without looking for other processes' commits."""
    monkeypatch.setattr(embedded, "_SHORTEST_WAIT", 600.0)
    monkeypatch.setattr(embedded, "_LONGEST_WAIT", 600.0)
    writer = embedded_log.writer()
    writer.open()
    reader = embedded_log.reader()
    reader.assign({0: 0})
    woken: list[Record] = []
    thread = threading.Thread(target=lambda: woken.extend(reader.poll(60, 10)), daemon=True)
    thread.start()
    writer.append(entries("0:a"))
    thread.join(20)
    assert [record.value for record in woken] == [b"value a"]


def test_a_long_partition_does_not_hold_up_the_others(embedded_log: Log) -> None:
    """A partition with a backlog takes turns with the others instead of going first until it is through."""
    writer = embedded_log.writer()
    writer.open()
    writer.append(entries(*(f"0:{number}" for number in range(100)), "1:a", "2:b"))
    reader = embedded_log.reader()
    reader.assign(dict.fromkeys(range(PARTITIONS), 0))
    seen = [record for _ in range(4) for record in reader.poll(5, 10)]
    assert {record.partition for record in seen} == {0, 1, 2}


def test_the_file_is_for_its_owner_only(embedded_log: Log) -> None:
    """The log holds personal data: others on the machine may not read it."""
    writer = embedded_log.writer()
    writer.open()
    writer.append(entries("0:a"))
    for file in path_of(embedded_log).parent.glob("changes.sqlite*"):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file.name


@pytest.mark.parametrize("damage", ["header", "page", "text"])
def test_a_damaged_file_is_told(embedded_log: Log, damage: str) -> None:
    """A file that is damaged or no database at all is an error with a way out, for reader or writer."""
    path = path_of(embedded_log)
    writer = embedded_log.writer()
    writer.open()
    writer.append([Entry(n % PARTITIONS, b"k", bytes(3000)) for n in range(200)])
    writer.close()
    content = bytearray(path.read_bytes())
    match damage:
        case "header":
            content[:100] = bytes(100)
        case "page":
            content[8192:] = b"\xa5" * (len(content) - 8192)
        case "text":
            content = bytearray(b"this is not a database\n" * 1000)
    path.write_bytes(content)
    for attempt in (lambda: embedded_log.writer().open(), embedded_log.contents):
        with pytest.raises(LogError, match="damaged") as caught:
            attempt()
        assert not retryable(caught.value)
        assert "copy" in caught.value.mend


def test_somebody_elses_database_is_left_alone(embedded_log: Log) -> None:
    """An SQLite file of another program is refused and stays byte for byte as it was."""
    path = path_of(embedded_log)
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE hoso (id INTEGER PRIMARY KEY)")
    other.commit()
    other.close()
    before = path.read_bytes()
    for attempt in (lambda: embedded_log.writer().open(), embedded_log.reader):
        with pytest.raises(LogError, match="not a change log"):
            attempt()
    assert path.read_bytes() == before


def test_a_newer_format_is_refused(embedded_log: Log) -> None:
    """A file of a later version of the program is refused before anything is written to it."""
    embedded_log.writer().open()
    embedded_log.opened.pop().close()
    other = sqlite3.connect(path_of(embedded_log))
    other.execute("UPDATE meta SET value = 3 WHERE name = 'format'")
    other.commit()
    other.close()
    with pytest.raises(LogError, match="format 3"):
        embedded_log.writer().open()


def test_a_full_disk_is_told_and_mended(embedded_log: Log) -> None:
    """When the disk is full, append says so and may be tried again; with space again nothing acknowledged is lost."""
    writer = EmbeddedWriter(path_of(embedded_log), PARTITIONS)
    embedded_log.opened.append(writer)
    writer.open()
    writer.append(entries("0:a"))
    # The page limit makes SQLite answer as it does on a full disk; it belongs to this connection only.
    assert writer._connection is not None
    writer._connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(LogUnavailable, match="disk is full") as caught:
        writer.append([Entry(0, b"k", bytes(1_000_000))])
    assert retryable(caught.value)
    assert "free space" in caught.value.mend
    again = embedded_log.writer()
    assert again.open() == {0: b"value a"}
    again.append(entries("0:b"))
    assert by_partition(embedded_log.contents()) == {0: [(b"key a", b"value a"), (b"key b", b"value b")]}


def test_a_disk_that_refuses_is_told(embedded_log: Log) -> None:
    """A write that the system refuses (here a file size limit) ends the writer; what was acknowledged is there."""
    with embedded_log.child() as child:
        assert child.hear() == "open 0"
        child.tell("append 3")
        assert child.hear() == "done 3"
        child.tell("limit 100000")
        child.tell("flood")
        done = 3
        while (heard := child.hear()).startswith("done "):
            done = int(heard.removeprefix("done "))
    assert heard.startswith("error LogError")
    assert "the disk refused (SQLITE_IOERR" in heard
    assert len(embedded_log.writer().open()) == PARTITIONS
    assert len(embedded_log.contents()) == done


def test_a_directory_that_cannot_be_is_told(tmp_path: Path) -> None:
    """A path that leads through a file is an error that names the setting."""
    (tmp_path / "file").write_text("")
    log = Log(embedded_settings(tmp_path / "file" / "changes.sqlite"))
    with pytest.raises(LogError) as caught:
        log.writer().open()
    assert "log.embedded.path" in caught.value.mend


def test_a_file_that_was_replaced_is_noticed(embedded_log: Log) -> None:
    """A log that is moved away under writer and reader stops both: they never go on in a file nobody sees."""
    path = path_of(embedded_log)
    writer = embedded_log.writer()
    writer.open()
    writer.append(entries("0:a"))
    reader = EmbeddedReader(path)
    embedded_log.opened.append(reader)
    reader.assign({0: 1})
    assert reader.poll(0, 10) == []
    path.rename(path.with_suffix(".away"))
    with pytest.raises(LogError, match="moved"):
        reader.poll(0, 10)
    with pytest.raises(LogError, match="moved"):
        writer.append(entries("0:b"))


def test_a_reader_changes_nothing(embedded_log: Log) -> None:
    """A reader that stays behind when the writer ended reads on and leaves a file that opens as before."""
    writer = embedded_log.writer()
    writer.open()
    writer.append(entries("0:a", "0:b"))
    reader = embedded_log.reader()
    reader.assign({0: 0})
    writer.close()
    assert [record.value for record in reader.poll(5, 10)] == [b"value a", b"value b"]
    reader.close()
    assert embedded_log.writer().open() == {0: b"value b"}
