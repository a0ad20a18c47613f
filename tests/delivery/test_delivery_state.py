"""The state's files: exact rows, one owner, nothing silently begun anew."""

from __future__ import annotations

import math
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from fold_run import made_by_format_1
from hypothesis import example, given
from hypothesis import strategies as st

from connector.delivery.directory import StateDirectory, partition_files
from connector.delivery.keys import key_order, key_text
from connector.delivery.outbox import Outbox
from connector.delivery.reading import Kind, Snapshot, load_snapshot
from connector.delivery.rowcodec import dump_row, load_row
from connector.delivery.state import PartitionState, StateDamaged, damage_mark
from connector.errors import DeliveryError

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text(st.characters(exclude_categories=("Cs",)))
    | st.binary()
    | st.sampled_from(['["decimal","1"]', '":["', '{"$decimal":"1"}', "decimal", "\x00"])
)
names = st.text(st.characters(exclude_categories=("Cs",)))
values = scalars | st.lists(scalars | st.dictionaries(names, scalars), max_size=3) | st.dictionaries(names, scalars)


def same(one: object, other: object) -> bool:
    """Equal in type and value; NaN is itself, and Decimals keep their zeros and signs."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float) and isinstance(other, float):
        return math.isnan(one) == math.isnan(other) and (math.isnan(one) or (one, str(one)) == (other, str(other)))
    if isinstance(one, Decimal):
        return str(one) == str(other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(map(same, one.values(), other.values()))
    return one == other


@given(st.dictionaries(names, values))
def test_rows_survive_exactly(row: dict[str, object]) -> None:
    """Whatever a record can hold comes back as it was, under any column name."""
    found = load_row(dump_row(row))
    assert list(found) == list(row)
    assert all(same(found[name], row[name]) for name in row)


def test_a_row_cannot_hold_a_set() -> None:
    """Nor anything else that a record does not have."""
    with pytest.raises(TypeError):
        dump_row({"a": {1}})


keys = st.lists(st.text(max_size=5) | st.sampled_from(["[", '["a","b"]', '["a"]', "7", "007", "-3", "٣"]), min_size=1)


@given(keys, keys)
@example(["7"], ["007"])
@example(["[x"], ["x"])
def test_different_keys_have_different_texts_and_places(one: list[str], other: list[str]) -> None:
    """Key texts of a table are one to one, and sorting them never wavers."""
    if len(one) == len(other) and one != other:
        assert key_text(one) != key_text(other)
        assert key_order(key_text(one)) != key_order(key_text(other))


def test_keys_sort_as_their_columns() -> None:
    """Numbers by value, before texts."""
    texts = [key_text([part]) for part in ("10", "9", "-2", "a", "007", "[")]
    assert sorted(texts, key=key_order) == ["-2", "007", "9", "10", '["["]', "a"]
    pairs = [key_text(pair) for pair in (("2", "b"), ("10", "a"), ("2", "a"))]
    assert sorted(pairs, key=key_order) == ['["2","a"]', '["2","b"]', '["10","a"]']


def test_what_was_not_committed_is_undone(tmp_path: Path) -> None:
    """As after a kill: the file is as at the last commit."""
    state = PartitionState(tmp_path / "s.sqlite", "demo", 0)
    state.save_meta({"offset": "7"})
    state.commit()
    state.save_meta({"offset": "9"})
    state.close()
    again = PartitionState(tmp_path / "s.sqlite", "demo", 0)
    assert again.meta["offset"] == "7"
    again.close()


def test_the_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """They hold personal data."""
    directory = StateDirectory(tmp_path / "state", "demo")
    state = PartitionState(directory.file(0), "demo", 0)
    state.save_meta({"offset": "1"})
    state.commit()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").glob("*.sqlite*")}
    assert set(modes.values()) == {0o600}, modes
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    state.close()
    directory.close()


@pytest.mark.parametrize(
    ("name", "partition"), [("other", 0), ("demo", 1)], ids=["another connector's", "another partition's"]
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, name: str, partition: int) -> None:
    """Its offsets and rows would be wrong here."""
    PartitionState(tmp_path / "s.sqlite", name, partition).close()
    with pytest.raises(DeliveryError) as caught:
        PartitionState(tmp_path / "s.sqlite", "demo", 0)
    assert "delivery.state" in caught.value.mend


_RECOVERED = "ALTER TABLE events ADD COLUMN recovered INTEGER NOT NULL DEFAULT 0;"
_ORDINAL = "ALTER TABLE events ADD COLUMN ordinal INTEGER NOT NULL DEFAULT 0;"
_FORMAT_2 = "UPDATE meta SET value = '2' WHERE name = 'format';"


@pytest.mark.parametrize(
    "steps",
    ["", _RECOVERED, _RECOVERED + _FORMAT_2, _RECOVERED + _FORMAT_2 + _ORDINAL],
    ids=["1", "1, died in the middle", "2", "2, died in the middle"],
)
def test_a_file_of_an_older_format_is_brought_to_this_one(tmp_path: Path, steps: str) -> None:
    """With its events, none of them recovered, and a first read that was under way; also after a death meanwhile."""
    path = tmp_path / "s.sqlite"
    made_by_format_1(path)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(steps)
    for _ in range(2):
        state = PartitionState(path, "demo", 0)
        assert state.meta["format"] == "4"
        numbered = state.db.execute("SELECT id, code, recovered, position, ordinal FROM events").fetchall()
        assert numbered == [
            (1, "H-1", 0, "1/0/1000/1.0", 1), (2, "H-2", 0, "1/0/1000/1.0", 2), (3, "H-1", 0, "1/0/1100/1.0", 1),
        ]  # fmt: skip
        assert Outbox(state)._owed == ("1/0/1100/1.0", 1)
        assert load_snapshot(state.meta["reading"]) == Snapshot(Kind.FIRST, None)
        columns = state.db.execute("SELECT name FROM pragma_table_info('events')").fetchall()
        state.close()
    PartitionState(tmp_path / "new.sqlite", "demo", 0).close()
    with closing(sqlite3.connect(tmp_path / "new.sqlite")) as db:
        assert db.execute("SELECT name FROM pragma_table_info('events')").fetchall() == columns


def test_a_file_of_a_later_format_is_refused(tmp_path: Path) -> None:
    """An older program would misread it."""
    state = PartitionState(tmp_path / "s.sqlite", "demo", 0)
    state.save_meta({"format": "5"})
    state.commit()
    state.close()
    with pytest.raises(DeliveryError) as caught:
        PartitionState(tmp_path / "s.sqlite", "demo", 0)
    assert "format 5" in caught.value.cause
    assert "later version" in caught.value.mend


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """It is never begun anew by itself, and left as it is."""
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StateDamaged) as caught:
        PartitionState(path, "demo", 0)
    assert "start again" in caught.value.mend
    assert path.read_bytes().startswith(b"not a database")


def test_a_file_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A directory in its place, for one."""
    (tmp_path / "s.sqlite").mkdir()
    with pytest.raises(DeliveryError) as caught:
        PartitionState(tmp_path / "s.sqlite", "demo", 0)
    assert "writable" in caught.value.mend


def test_a_full_disk_is_told_and_undone(tmp_path: Path) -> None:
    """The error says what to do; the file stays as it was."""
    state = PartitionState(tmp_path / "s.sqlite", "demo", 0)
    pages = state.db.execute("PRAGMA page_count").fetchone()[0]
    state.db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DeliveryError) as caught, state.reported():
        state.save_meta({"offset": "x" * 100_000})
    assert "free disk space" in caught.value.mend
    state.close()
    again = PartitionState(tmp_path / "s.sqlite", "demo", 0)
    assert "offset" not in again.meta
    again.close()


def test_one_process_per_directory(tmp_path: Path) -> None:
    """A second deliver process, here a real one, is told of the first by its id."""
    first = StateDirectory(tmp_path, "demo")
    code = (
        "import sys; from pathlib import Path; from connector.delivery.directory import StateDirectory;"
        "from connector.errors import DeliveryError\n"
        "try: StateDirectory(Path(sys.argv[1]), 'demo')\n"
        "except DeliveryError as error: print(error.cause)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert told.stdout.strip() == f"another deliver process uses it (pid {os.getpid()})"
    first.close()
    StateDirectory(tmp_path, "demo").close()


def test_two_connectors_share_a_directory(tmp_path: Path) -> None:
    """Names keep them apart, also where one name begins with the other."""
    for name in ("demo", "demo-2"):
        directory = StateDirectory(tmp_path, name)
        for number in range(2):
            PartitionState(directory.file(number), name, number).close()
        directory.close()
    assert [number for number, _ in partition_files(tmp_path, "demo")] == [0, 1]
    assert partition_files(tmp_path, "other") == []


@pytest.mark.parametrize("partitions", [1, 3], ids=["fewer", "more"])
def test_a_log_of_other_partitions_is_noticed(tmp_path: Path, partitions: int) -> None:
    """Of fewer, a file with what EMC is owed would be passed over; of more, dossiers would be told anew."""
    directory = StateDirectory(tmp_path, "demo")
    assert directory.known(2) == frozenset()
    directory.note(2, [0, 1])
    with pytest.raises(DeliveryError, match=f"2 partitions, this log has {partitions}"):
        directory.known(partitions)
    assert directory.known(2) == {0, 1}
    directory.close()


def test_a_damaged_note_is_told(tmp_path: Path) -> None:
    """Without it nobody knows which files there must be."""
    (tmp_path / "demo.attached.json").write_text("{", encoding="utf-8")
    directory = StateDirectory(tmp_path, "demo")
    with pytest.raises(DeliveryError) as caught:
        directory.known(2)
    assert "delete it" in caught.value.mend
    directory.close()


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file in its way."""
    (tmp_path / "state").write_text("", encoding="utf-8")
    with pytest.raises(DeliveryError) as caught:
        StateDirectory(tmp_path / "state", "demo")
    assert "delivery.state" in caught.value.mend


def test_damage_inside_of_a_file_is_told_when_met(tmp_path: Path) -> None:
    """A page that was overwritten ends the step with the mend, and is remembered, for opening may not show it again."""
    state = PartitionState(tmp_path / "s.sqlite", "demo", 0)
    state.write().executemany(
        "INSERT INTO rows VALUES ('m.ho_so', ?, ?, ?, 0)", [(str(n), str(n), b"x" * 500) for n in range(200)]
    )
    state.commit()
    state.close()
    path = tmp_path / "s.sqlite"
    with sqlite3.connect(path) as db:
        size, count = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count"))
    db.close()
    with path.open("r+b") as file:
        file.seek(size * (count // 2))
        file.write(b"\xff" * size * (count // 2 - 1))
    again = PartitionState(path, "demo", 0)
    with pytest.raises(StateDamaged) as caught, again.reported():
        again.db.execute("SELECT sum(length(data)) FROM rows").fetchone()
    assert "start again" in caught.value.mend
    assert damage_mark(path).exists()
    again.close()
