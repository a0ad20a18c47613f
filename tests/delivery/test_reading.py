"""Reads between a snapshot's markers, among streamed transactions: who is judged when, and against what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from delivery_story import (
    DOSSIER,
    PAYMENT,
    SERVICE,
    Story,
    code,
    create,
    delete,
    dossier,
    payment,
    service,
    truncate,
    update,
)
from fold_run import FoldRun

from connector.change.record import Change
from connector.delivery import fold as fold_module

IN_WORK, RETURNED = "dang_xu_ly", "da_tra"
LOST = "the slot was lost"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[FoldRun]:
    run = FoldRun(tmp_path)
    yield run
    run.close()


@pytest.fixture
def story() -> Story:
    return Story()


def recovered(run: FoldRun) -> list[tuple[str, int]]:
    """Dossier and status of the events that a snapshot has found."""
    return [(due.dossier, due.event.Status) for due in run.due if due.recovered]


def gap(story: Story) -> list[Change]:
    """The stream breaks, and the tables are read again."""
    story.gap()
    return [story.begin(gap=LOST)]


def test_a_first_read_judges_no_old_dossier_before_its_end(run: FoldRun, story: Story) -> None:
    """Nor for what the stream does to one meanwhile: a child of it may not be read yet. Then it is quiet as ever."""
    run.poll([story.begin(), *story.reads((SERVICE, service(1)), (DOSSIER, dossier(1)))])
    run.poll(story.transaction(update(DOSSIER, dossier(1, IN_WORK)), update(DOSSIER, dossier(2, IN_WORK))))
    run.poll([*story.reads((DOSSIER, dossier(2, IN_WORK)), (PAYMENT, payment(5, of=1))), story.end()])
    assert run.due == []
    run.poll(story.transaction(update(DOSSIER, dossier(1, RETURNED)), update(DOSSIER, dossier(2, RETURNED))))
    assert run.statuses == {code(1): [3], code(2): [3]}
    assert recovered(run) == []


def test_a_dossier_born_during_a_first_read_is_told_at_once(run: FoldRun, story: Story) -> None:
    """EMC hears of it from its first commit on, also when the read comes to it later."""
    run.poll([story.begin(), *story.reads((SERVICE, service(1)))])
    run.poll(story.transaction(create(PAYMENT, payment(5, of=1)), create(DOSSIER, dossier(1))))
    assert run.statuses == {code(1): [1]}
    offset = run.restart()
    run.poll(story.transaction(update(DOSSIER, dossier(1, IN_WORK))), offset=offset)
    run.poll([*story.reads((DOSSIER, dossier(1, IN_WORK)), (PAYMENT, payment(5, of=1))), story.end()])
    assert run.statuses == {code(1): [1, 2]}
    assert recovered(run) == []


@pytest.mark.parametrize("known", [False, True], ids=["not read yet", "read before"])
def test_an_old_dossier_that_is_inserted_again_is_not_born(run: FoldRun, story: Story, known: bool) -> None:
    """Some applications save by deleting and inserting; that is an update, also of a row that we have not seen."""
    run.poll([story.begin(), *story.reads((SERVICE, service(1)))])
    run.poll(story.reads((DOSSIER, dossier(1))) if known else [])
    run.poll(story.transaction(delete(DOSSIER, dossier(1)), create(DOSSIER, dossier(1, IN_WORK))))
    run.poll([story.end()])
    assert run.due == []


def test_a_dossier_that_was_deleted_and_comes_later_is_born(run: FoldRun, story: Story) -> None:
    """Another one under the same key, after a DELETE or a TRUNCATE of its own."""
    run.poll([story.begin(), *story.reads((SERVICE, service(1)), (DOSSIER, dossier(1)))])
    run.poll(story.transaction(delete(DOSSIER, dossier(1))))
    run.poll(story.transaction(create(DOSSIER, dossier(1))))
    run.poll(story.transaction(delete(DOSSIER, dossier(2)), truncate(DOSSIER)))
    run.poll(story.transaction(create(DOSSIER, dossier(2))))
    assert run.statuses == {code(1): [1], code(2): [1]}


def test_a_held_dossier_is_told_when_a_read_brings_its_reference(run: FoldRun, story: Story) -> None:
    """It was born before the catalogue was read."""
    run.poll([story.begin(), *story.transaction(create(DOSSIER, dossier(1)))])
    run.poll(story.reads((SERVICE, service(1)), (DOSSIER, dossier(1))))
    assert run.statuses == {}
    run.poll([story.end()])
    assert recovered(run) == [("1", 1)]
    assert run.table("SELECT * FROM held") == []


def test_after_a_gap_what_changed_is_judged_once_at_the_end(run: FoldRun, story: Story) -> None:
    """Changed, new, with another child, touched by the stream meanwhile: flagged; untouched or deleted: nothing."""
    run.poll(
        story.transaction(
            create(SERVICE, service(1)),
            *(create(DOSSIER, dossier(n)) for n in range(1, 7)),
            create(PAYMENT, payment(4, of=4)),
        )
    )
    run.poll(story.transaction(update(DOSSIER, dossier(4, RETURNED))))
    run.due.clear()
    run.poll(gap(story))
    run.poll(story.reads((SERVICE, service(1)), (DOSSIER, dossier(1)), (DOSSIER, dossier(2, IN_WORK))))
    run.poll(story.transaction(update(DOSSIER, dossier(2, RETURNED)), update(DOSSIER, dossier(3, IN_WORK))))
    run.poll(story.transaction(update(DOSSIER, dossier(3, RETURNED))))
    run.poll(story.reads((DOSSIER, dossier(4, RETURNED)), (DOSSIER, dossier(6)), (DOSSIER, dossier(7, IN_WORK))))
    assert run.due == []
    assert run.table("SELECT dossier FROM waiting") == [("2",), ("3",), ("7",)]
    end = story.end()
    run.poll([end])
    assert recovered(run) == [("2", 3), ("3", 3), ("4", 3), ("7", 1), ("7", 2)]
    assert all(due.recovered for due in run.due)
    assert {(due.position, due.transaction, due.commit_time_us) for due in run.due} == {
        (str(end.position), None, end.commit_time_us)
    }
    assert run.table("SELECT sum(recovered) FROM events") == [(5,)]
    assert run.table("SELECT dossier FROM waiting") == []
    assert "5" not in {dossier for (dossier,) in run.table("SELECT dossier FROM told")}


def test_after_a_gap_a_quiet_dossier_owes_what_it_has_reached_since(run: FoldRun, story: Story) -> None:
    """Its baseline is how it stood before: of what changed it first, a read, a transaction or the sweep."""
    run.poll(
        story.snapshot(
            (SERVICE, service(1)),
            *((DOSSIER, dossier(n, IN_WORK)) for n in (1, 2, 3)),
            (DOSSIER, dossier(4, RETURNED)),
            (PAYMENT, payment(4, of=4)),
        )
    )
    run.poll([*gap(story), *story.reads((SERVICE, service(1)), (DOSSIER, dossier(1, RETURNED)))])
    run.poll(story.transaction(update(DOSSIER, dossier(2, RETURNED))))
    run.poll([*story.reads(*((DOSSIER, dossier(n, state)) for n, state in ((3, IN_WORK), (4, RETURNED)))), story.end()])
    assert recovered(run) == [("1", 3), ("2", 3), ("4", 3)]
    assert [due.event.FormsPayments for due in run.due] == [0, 0, 0]


def test_a_dossier_born_after_a_gap_is_told_at_once(run: FoldRun, story: Story) -> None:
    """Nothing of it can have been missed."""
    run.poll(story.snapshot((SERVICE, service(1))))
    run.poll([*gap(story), *story.transaction(create(DOSSIER, dossier(1)))])
    assert run.statuses == {code(1): [1]}
    run.poll([*story.reads((SERVICE, service(1)), (DOSSIER, dossier(1))), story.end()])
    assert recovered(run) == []


def test_nothing_that_waits_is_forgotten_by_a_death(run: FoldRun, story: Story) -> None:
    """The state is saved many times between the markers; what was told once is not told again."""
    run.poll(story.transaction(create(SERVICE, service(1)), create(DOSSIER, dossier(1)), create(DOSSIER, dossier(2))))
    changes = [*gap(story), *story.reads((SERVICE, service(1)), (DOSSIER, dossier(1, IN_WORK)), (DOSSIER, dossier(2)))]
    for change in [*changes, story.end()]:
        run.poll([change], offset=run.restart())
    assert recovered(run) == [("1", 2)]
    assert run.restart() == 8


def test_a_gap_in_a_first_read_stays_quiet(run: FoldRun, story: Story) -> None:
    """EMC was told nothing of its dossiers; but what was born in it and told is followed."""
    run.poll([story.begin(), *story.reads((SERVICE, service(1)), (DOSSIER, dossier(1)))])
    run.poll(story.transaction(create(DOSSIER, dossier(2))))
    run.poll([*gap(story), *story.reads((SERVICE, service(1)), (DOSSIER, dossier(1, IN_WORK)))])
    run.poll(story.transaction(update(DOSSIER, dossier(2, RETURNED))))
    assert run.statuses == {code(2): [1]}
    run.poll(story.reads((DOSSIER, dossier(2, RETURNED)), (DOSSIER, dossier(3, IN_WORK)), (PAYMENT, payment(5, of=2))))
    run.poll([story.end()])
    assert run.statuses == {code(2): [1, 3]}
    assert recovered(run) == [("2", 3)]
    assert run.due[-1].event.FormsPayments == 1
    run.poll(story.transaction(update(DOSSIER, dossier(1, RETURNED))))
    assert run.statuses[code(1)] == [3]


def test_a_gap_is_quiet_where_nothing_was_ever_folded(run: FoldRun, story: Story) -> None:
    """Deliver that starts with a log of which only this is left has told EMC nothing."""
    run.poll([*gap(story), *story.reads((SERVICE, service(1)), (DOSSIER, dossier(1))), story.end()])
    assert run.due == []


def test_a_gap_that_is_read_anew_stays_a_gap(run: FoldRun, story: Story) -> None:
    """Capture was killed; what the first attempt has found waits for the end of the second."""
    run.poll(story.transaction(create(SERVICE, service(1)), create(DOSSIER, dossier(1))))
    run.poll([*gap(story), *story.reads((SERVICE, service(1)), (DOSSIER, dossier(1, IN_WORK)))])
    run.poll([story.begin(), *story.reads((SERVICE, service(1)), (DOSSIER, dossier(1, IN_WORK))), story.end()])
    assert recovered(run) == [("1", 2)]


def test_a_begin_begins_anew(run: FoldRun, story: Story) -> None:
    """At the same position, too: what was read before it only is gone at the end; what was changed since is not."""
    run.poll([story.begin(), *story.reads((SERVICE, service(1)), *((DOSSIER, dossier(n)) for n in (1, 2, 3)))])
    run.poll([story.begin(), *story.reads((SERVICE, service(1)), (DOSSIER, dossier(1)))])
    run.poll(story.transaction(update(DOSSIER, dossier(3))))
    run.poll([story.end()])
    assert [key for (key,) in run.table("SELECT key FROM rows WHERE tbl = 'm.ho_so'")] == ["1", "3"]


def test_a_table_that_is_read_again_mends_the_state(run: FoldRun, story: Story) -> None:
    """The stream is judged as ever meanwhile; what was wrong is judged at the end; other tables are not swept."""
    run.poll(
        story.transaction(
            create(SERVICE, service(1)),
            *(create(DOSSIER, dossier(n)) for n in (1, 2, 3)),
            create(PAYMENT, payment(5, of=1)),
        )
    )
    run.poll([story.begin(reread=True, tables=[DOSSIER]), *story.reads((DOSSIER, dossier(1, RETURNED)))])
    run.poll(story.transaction(update(DOSSIER, dossier(2, IN_WORK))))
    assert run.statuses == {code(1): [1], code(2): [1, 2], code(3): [1]}
    run.poll([*story.reads((DOSSIER, dossier(2, IN_WORK)), (DOSSIER, dossier(4))), story.end()])
    assert recovered(run) == [("1", 3), ("4", 1)]
    assert [(table, key) for table, key, *_ in run.contents()["rows"]] == [
        (DOSSIER, "1"),
        (DOSSIER, "2"),
        (DOSSIER, "4"),
        (PAYMENT, "5"),
        (SERVICE, "1"),
    ]


def test_a_gap_that_cuts_a_table_s_reading_short_is_a_gap(run: FoldRun, story: Story) -> None:
    """All tables are read and swept, and nothing is judged before the end; what was found before waits with it."""
    run.poll(story.transaction(create(SERVICE, service(1)), *(create(DOSSIER, dossier(n)) for n in (1, 2))))
    run.poll([story.begin(reread=True, tables=[PAYMENT]), *story.reads((PAYMENT, payment(5, of=1)))])
    run.poll([*gap(story), *story.transaction(update(DOSSIER, dossier(2, RETURNED)))])
    assert run.statuses == {code(1): [1], code(2): [1]}
    run.poll([*story.reads((SERVICE, service(1)), (DOSSIER, dossier(2, RETURNED)), (PAYMENT, payment(6, 2)))])
    run.poll([story.end()])
    assert [(due.dossier, due.event.FormsPayments) for due in run.due if due.recovered] == [("2", 1)]
    assert [(table, key) for table, key, *_ in run.contents()["rows"]] == [
        (DOSSIER, "2"),
        (PAYMENT, "6"),
        (SERVICE, "1"),
    ]


def test_a_row_that_was_missing_is_not_taken_as_told(run: FoldRun, story: Story) -> None:
    """A read brings it, a transaction touches it before the end: EMC hears of all that it has reached."""
    run.poll(story.snapshot((SERVICE, service(1))))
    run.poll([story.begin(reread=True, tables=[DOSSIER]), *story.reads((DOSSIER, dossier(1)))])
    run.poll(story.transaction(update(DOSSIER, dossier(1, IN_WORK))))
    run.poll([story.end()])
    assert run.statuses == {code(1): [1, 2]}


def test_columns_that_no_mapping_uses_change_nothing(run: FoldRun, story: Story) -> None:
    """An older mapping may have brought them into the state."""
    run.poll(story.transaction(create(SERVICE, service(1)), create(DOSSIER, dossier(1) | {"ghi_chu": "cũ"})))
    run.poll([*gap(story), *story.reads((SERVICE, service(1)), (DOSSIER, dossier(1)))])
    assert run.table("SELECT * FROM waiting") == []


def test_a_marker_ends_a_transaction_that_lost_its_end(run: FoldRun, story: Story) -> None:
    """Compaction may have taken the end mark; the transaction is judged before the snapshot counts."""
    run.poll(story.transaction(create(SERVICE, service(1))))
    cut = story.transaction(create(DOSSIER, dossier(1)))
    run.poll([replace(cut[0], last=False), story.begin(gap=LOST)])
    assert run.statuses == {code(1): [1]}
    cut = story.transaction(create(DOSSIER, dossier(2)))
    run.poll([replace(cut[0], last=False), story.end()])
    assert run.statuses[code(2)] == [1]
    assert recovered(run) == []


def test_what_waits_is_not_held_in_memory(run: FoldRun, story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads, what they found and the sweep go to the file past the bound, and the end still judges all."""
    monkeypatch.setattr(fold_module, "_MOST_UNSAVED", 20)
    run.poll(story.transaction(create(SERVICE, service(1)), *(create(DOSSIER, dossier(n)) for n in range(1, 101))))
    run.poll(story.transaction(*(create(PAYMENT, payment(n, of=n)) for n in range(1, 51))))
    run.poll(story.transaction(*(update(DOSSIER, dossier(n, RETURNED)) for n in range(1, 51))))
    reads = story.reads((SERVICE, service(1)), *((DOSSIER, dossier(n, RETURNED)) for n in range(1, 101)))
    run.poll([*gap(story), *(replace(read, position=story.position) for read in reads)], save=False)
    fold = run.partition.fold
    assert fold._rows.unsaved + fold._judged.unsaved + fold._waiting.unsaved <= 20
    run.poll([story.end()])
    assert recovered(run) == [(number, 3) for number in sorted(map(str, range(1, 101)))]
