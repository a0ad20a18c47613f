"""The fold over records of a real log, and over columns that no mapping asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from delivery_story import LoggedStory, settings_in
from fold_run import FoldRun
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fold_properties import Wish, folded, histories, snapshots, told_of

from connector.change.decoding import ChangeDecoder
from connector.change.record import Change, Row
from connector.log.embedded import EmbeddedReader


class OneLog(LoggedStory):
    """A log of one partition, which therefore holds everything in one order."""

    def _targets(self, change: Change) -> Iterable[int]:
        return (0,)


def logged(
    changes: Sequence[Change], directory: Path, limits: Sequence[int], form: str
) -> list[list[tuple[int, Change]]]:
    """Write the changes to an embedded log and read them again, in polls of these sizes."""
    configuration = settings_in(directory, "http://127.0.0.1/", partitions=1, form=form)
    assert configuration.log.embedded is not None
    log = OneLog(configuration)
    batch: list[Change] = []
    for change in changes:
        batch.append(change)
        if change.last:
            log.append(batch)
            batch = []
    log.append(batch)
    log.close()
    reader = EmbeddedReader(configuration.log.embedded.path)
    reader.assign({0: 0})
    decoder = ChangeDecoder(reader.schema)
    polls: list[list[tuple[int, Change]]] = []
    read = 0
    while read < len(changes):
        records = reader.poll(10.0, limits[len(polls) % len(limits)])
        assert records
        polls.append([(offset, decoder.decode(key, value)) for _, offset, key, value, _ in records])
        read += len(records)
    reader.close()
    return polls


@settings(deadline=None, max_examples=25)
@given(snapshots, histories, st.lists(st.integers(1, 7), min_size=1, max_size=4), st.sampled_from(["avro", "json"]))
def test_a_log_holds_all_that_the_fold_needs(
    before: list[Wish], history: list[list[Wish]], limits: list[int], form: str
) -> None:
    """Encoded in either format, written, read in small polls and decoded: the same rows, events and held dossiers."""
    changes, _ = told_of(before, history)
    with TemporaryDirectory() as directory:
        run = FoldRun(Path(directory))
        for poll in logged(changes, Path(directory), limits, form):
            run.poll((change for _, change in poll), offset=poll[0][0])
        found = run.contents()
        run.close()
    expected = folded(changes)
    for kept in ("events", "held", "told", "lookups", "meta"):
        assert found[kept] == expected[kept]


@settings(deadline=None, max_examples=40)
@given(snapshots, histories, st.lists(st.none() | st.text(max_size=5) | st.integers() | st.binary(), min_size=1))
def test_unused_columns_never_matter(before: list[Wish], history: list[list[Wish]], values: list[object]) -> None:
    """A log that an older, wider mapping filled: its other columns owe nothing, hold nothing and change nothing."""
    changes, _ = told_of(before, history)
    found = folded([_wider(change, values[at % len(values)]) for at, change in enumerate(changes)])
    expected = folded(changes)
    for kept in ("events", "held", "told", "lookups"):
        assert found[kept] == expected[kept]


def _wider(change: Change, value: object) -> Change:
    def more(row: Row | None) -> Row | None:
        return None if row is None else {**row, "ghi_chu": value}  # type: ignore[dict-item]

    return replace(change, before=more(change.before), after=more(change.after))
