"""`emc-cdc tail` as an operator runs it: a process of its own, on a real log of either kind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

import pytest
from delivery.delivery_story import DOSSIER, PAYMENT, SERVICE, create, delete, dossier, payment, service, truncate
from delivery.delivery_story import update as updated
from logged import PARTITIONS, Logged

LINE = re.compile(r"(\S+ \S+) (\d+)/(\d+) ([cudrtm]) (.*) ([0-9A-F]+/[0-9A-F]+)")


@contextmanager
def following(logged: Logged, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A tail that goes on; it is killed when the test has not ended it."""
    # Python's own setting must not do what the command has to.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        logged.command("tail", "--follow", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def test_the_short_form_tells_keys_and_no_values(logged: Logged) -> None:
    """One line a record with time, place, op, table, key and LSN; markers in words; a value only with --values."""
    logged.story.snapshot((SERVICE, service(1)))
    logged.story.transaction(create(DOSSIER, dossier(7)))
    records = logged.records(3 * PARTITIONS + 1)
    lines = logged.lines("--from-beginning")
    assert len(lines) == len(records)
    found = [match for match in map(LINE.fullmatch, lines) if match]
    assert len(found) == len(lines)
    assert {(int(one[2]), int(one[3])) for one in found} == {(one.partition, one.offset) for one in records}
    assert [one[5] for one in found].count("-- snapshot begins --") == PARTITIONS
    assert [one[5] for one in found].count("-- snapshot ends --") == PARTITIONS
    [row] = [one for one in found if one[4] == "c"]
    assert row[5] == f"{DOSSIER} 7"
    story = logged.story.story
    assert row[6] == f"0/{story.lsn:X}"
    assert datetime.fromisoformat(row[1]).timestamp() == pytest.approx(story.time_us / 1e6, abs=0.001)
    assert "QG-7" not in "".join(lines)
    [row_line] = [line for line in logged.lines("--from-beginning", "--values") if f"{DOSSIER} 7" in line]
    assert json.loads(row_line[row_line.index("{") :])["tai_khoan"] == "QG-7"


def test_a_cut_value_is_told(embedded: Logged) -> None:
    """A record of which values were cut to fit names their columns."""
    [change] = embedded.story.story.transaction(create(DOSSIER, dossier(7)))
    embedded.story.append([replace(change, truncated=("trang_thai", "tai_khoan"))])
    assert embedded.lines()[0].endswith(" (cut: trang_thai, tai_khoan)")
    document = json.loads(embedded.lines("--json")[0])
    assert document["value"]["source"]["truncated"] == ["trang_thai", "tai_khoan"]


def test_json_is_one_debezium_document_a_line(logged: Logged) -> None:
    """--json: partition, offset, key and the envelope, in lines that a program reads one by one."""
    logged.story.transaction(create(DOSSIER, dossier(7, "mới\u2028\x1b[2J")), create(SERVICE, service(1)))
    records = logged.records(1 + PARTITIONS)
    documents = [json.loads(line) for line in logged.lines("--json")]
    assert sorted((one["partition"], one["offset"]) for one in documents) == sorted(r[:2] for r in records)
    [one] = [one for one in documents if one["key"] == [DOSSIER, "7"]]
    assert one["value"]["op"] == "c"
    assert one["value"]["after"]["trang_thai"] == "mới\u2028\x1b[2J"
    assert one["value"]["source"]["commit_lsn"] == logged.story.story.lsn


def test_the_last_records_are_those_of_the_whole_log(logged: Logged) -> None:
    """-n takes the last by position over all partitions; 20 unless told; 0 none."""
    for number in range(1, 61):
        logged.story.transaction(create(DOSSIER, dossier(number)))
    logged.records(60)
    keys = [int(line.split()[-2]) for line in logged.lines()]
    assert keys == list(range(41, 61))
    assert [int(line.split()[-2]) for line in logged.lines("-n", "3")] == [58, 59, 60]
    assert logged.lines("-n", "0") == []


def test_a_filter_looks_further_back(logged: Logged) -> None:
    """-n counts what passes the filter, however far back that is."""
    logged.story.transaction(create(PAYMENT, payment(1, 5)))
    for number in range(1, 200):
        logged.story.transaction(create(DOSSIER, dossier(number)))
    logged.records(200)
    assert [line.split()[4:6] for line in logged.lines("--table", PAYMENT)] == [[PAYMENT, "1"]]
    mixed = logged.lines("--table", PAYMENT, "--table", DOSSIER, "-n", "500")
    assert len(mixed) == 200


def test_a_dossier_is_shown_with_its_children_only(logged: Logged) -> None:
    """--dossier: its rows, its children's also when they are deleted, truncations; references only when asked for."""
    other = next(n for n in range(8, 99) if logged.story.partition_of(n) == logged.story.partition_of(7))
    logged.story.transaction(create(SERVICE, service(1)), create(DOSSIER, dossier(7)), create(DOSSIER, dossier(other)))
    logged.story.transaction(create(PAYMENT, payment(1, 7)), create(PAYMENT, payment(2, other)))
    # Where the replica identity is the key, a delete does not say whose it was.
    logged.story.transaction(
        updated(DOSSIER, dossier(7, "da_tra")), delete(PAYMENT, payment(1, None)), delete(PAYMENT, payment(2, None))
    )
    logged.story.transaction(truncate(PAYMENT))
    logged.records(5 + 4 * PARTITIONS)
    shown = [line.split()[3:-1] for line in logged.lines("--dossier", "7")]
    expected = [["c", DOSSIER, "7"], ["c", PAYMENT, "1"], ["u", DOSSIER, "7"], ["d", PAYMENT, "1"], ["t", PAYMENT]]
    assert shown == expected
    assert [line.split()[3:-1] for line in logged.lines("--dossier", "7", "--references")] == [
        ["c", SERVICE, "1"],
        *expected,
    ]
    assert {line.split()[2].split("/")[0] for line in logged.lines("--dossier", "7", "--references")} == {
        str(logged.story.partition_of(7))
    }


def test_a_partition_alone(logged: Logged) -> None:
    """--partition shows that one; one that is not there is refused."""
    for number in range(1, 11):
        logged.story.transaction(create(DOSSIER, dossier(number)))
    logged.records(10)
    of_one = [int(line.split()[-2]) for line in logged.lines("--partition", "1")]
    assert of_one == [n for n in range(1, 11) if logged.story.partition_of(n) == 1]
    assert "partitions 0 to 1" in logged.run("tail", "--partition", "2", code=2).stderr


def test_it_follows_until_it_is_interrupted(logged: Logged) -> None:
    """Each record is in the pipe as it comes; Ctrl-C ends it with 0 and not a word."""
    logged.story.transaction(create(DOSSIER, dossier(1)))
    logged.records(1)
    with following(logged) as process:
        assert f"{DOSSIER} 1" in heard(process)
        for number in (2, 3):
            logged.story.transaction(create(DOSSIER, dossier(number)))
            assert f"{DOSSIER} {number}" in heard(process)
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=60)
        assert (process.returncode, rest, said) == (0, "", "")


@pytest.mark.parametrize("busy", [True, False])
def test_it_ends_with_the_reader_of_its_output(embedded: Logged, busy: bool) -> None:
    """`tail --follow | head -1`: it ends by itself, on a busy log and on an idle one, with nothing on stderr."""
    embedded.story.transaction(create(DOSSIER, dossier(1)))
    with following(embedded) as process:
        assert heard(process)
        assert process.stdout is not None
        process.stdout.close()
        if busy:
            embedded.story.transaction(create(DOSSIER, dossier(2)))
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_pipe_that_breaks_in_the_middle(embedded: Logged) -> None:
    """The output's reader leaves while much is still to be written: 0, and nothing on stderr."""
    for first in range(0, 6000, 1000):
        embedded.story.transaction(*(create(DOSSIER, dossier(number)) for number in range(first, first + 1000)))
    read, write = os.pipe()
    command = embedded.command("tail", "--from-beginning", "--json")
    process = subprocess.Popen(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert os.read(read, 1)
    os.close(read)
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (0, "")


def test_no_text_of_a_row_reaches_the_terminal_raw(embedded: Logged) -> None:
    """Control characters of a value are written as JSON escapes them."""
    embedded.story.transaction(create(DOSSIER, dossier(1, "\x1b[2J\x9b1m\u202e")))
    [line] = embedded.lines("--values")
    assert line.isprintable()
    assert json.loads(line[line.index("{") :])["trang_thai"] == "\x1b[2J\x9b1m\u202e"


def test_what_is_refused(embedded: Logged) -> None:
    """An unknown table with the nearest name; options that exclude each other; a log that is not there."""
    assert "did you mean 'm.ho_so'?" in " ".join(embedded.run("tail", "--table", "m.hoso", code=2).stderr.split())
    assert "one excludes the other" in embedded.run("tail", "--from-beginning", "-n", "3", code=2).stderr
    assert "which is found" in embedded.run("tail", "--dossier", "1", "--partition", "0", code=2).stderr
    errors = json.loads(embedded.run("tail", "--table", "x", "--json", code=2).stdout)["errors"]
    assert errors[0]["operation"] == "show the log"
    embedded.story.close()
    (embedded.directory / "log.sqlite").unlink()
    assert "there is no log here yet" in embedded.run("tail", code=2).stderr


def test_help_says_what_is_personal(embedded: Logged) -> None:
    """--help has examples, and says which options show personal data."""
    told = " ".join(embedded.run("tail", "--help").stdout.split())
    assert told.count("Example:") == 3
    assert "Rows are personal data: keys are shown and no values, unless --values or --json asks for them." in told
