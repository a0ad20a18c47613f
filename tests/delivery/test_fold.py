"""The fold: one judgement per dossier and source transaction, quiet attach, and what must not change anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from delivery_story import (
    DOSSIER,
    MAPPING,
    PAYMENT,
    SERVICE,
    Story,
    code,
    create,
    delete,
    dossier,
    payment,
    plan,
    service,
    truncate,
    update,
)
from fold_run import FoldRun

from connector.change.record import EPOCH, Op
from connector.delivery import fold as fold_module
from connector.delivery import judged as judged_module
from connector.delivery.dispatch import Answer
from connector.delivery.outcome import Delivered
from connector.errors import DeliveryError

IN_WORK, RETURNED = "dang_xu_ly", "da_tra"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[FoldRun]:
    run = FoldRun(tmp_path)
    yield run
    run.close()


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_life_is_told_in_order(run: FoldRun, story: Story) -> None:
    """Received, in process, returned; the cause of each event is on record."""
    run.poll(story.transaction(create(SERVICE, service(1))))
    run.poll(story.transaction(create(DOSSIER, dossier(1))))
    run.poll(story.transaction(update(DOSSIER, dossier(1, IN_WORK))))
    last = story.transaction(update(DOSSIER, dossier(1, RETURNED)), create(PAYMENT, payment(5, of=1)))
    run.poll(last)
    assert run.statuses == {code(1): [1, 2, 3]}
    due = run.due[-1]
    assert (due.position, due.transaction) == (str(last[-1].position), last[-1].transaction)
    assert (due.commit_time_us, due.mapping) == (last[-1].commit_time_us, plan().version)
    assert due.event.FormsPayments == 1


def test_a_transaction_is_judged_once_after_its_last_change(run: FoldRun, story: Story) -> None:
    """What was true only in the middle of it is never told."""
    run.poll(story.transaction(create(SERVICE, service(1))))
    run.poll(
        story.transaction(
            create(DOSSIER, dossier(1, RETURNED)),
            update(DOSSIER, dossier(1, IN_WORK)),
            create(PAYMENT, payment(5, of=1)),
            update(DOSSIER, dossier(1, "moi")),
        )
    )
    assert run.statuses == {code(1): [1]}


def test_a_transaction_that_a_poll_cuts_is_judged_whole(run: FoldRun, story: Story) -> None:
    """Nothing of it is judged or durable before its end; what came before it in the poll is."""
    run.poll(story.transaction(create(SERVICE, service(1))))
    whole = story.transaction(create(DOSSIER, dossier(1)))
    cut = story.transaction(
        update(DOSSIER, dossier(1, IN_WORK)), create(DOSSIER, dossier(2)), update(DOSSIER, dossier(1, RETURNED))
    )
    run.poll([*whole, *cut[:2]])
    assert run.statuses == {code(1): [1]}
    assert run.partition.fold.inside
    assert not run.partition.blocked
    assert run.restart() == 2
    run.poll(cut[:2], offset=2)
    run.poll(cut[2:])
    assert run.statuses == {code(1): [1, 3], code(2): [1]}


def test_a_huge_transaction_is_not_held_in_memory(run: FoldRun, story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bounds it is written to the open transaction of the file, and still judged once and whole."""
    monkeypatch.setattr(fold_module, "_MOST_UNSAVED", 20)
    monkeypatch.setattr(judged_module, "_MOST_TOUCHED", 15)
    run.poll(story.transaction(create(SERVICE, service(1))))
    run.poll(story.transaction(*(create(DOSSIER, dossier(n)) for n in range(1, 11))))
    huge = story.transaction(
        *(create(DOSSIER, dossier(n)) for n in range(11, 101)),
        *(update(DOSSIER, dossier(n, IN_WORK)) for n in range(1, 101)),
    )
    run.poll(huge[:150])
    assert run.partition.blocked
    assert run.partition.fold._rows.unsaved <= 20
    assert len(run.partition.fold._touched._memory) < 15
    assert run.restart() == 11
    assert run.statuses == {code(n): [1] for n in range(1, 11)}
    run.poll(huge[:150], offset=11)
    run.poll(huge[150:])
    assert not run.partition.blocked
    assert run.statuses == {code(n): [1, 2] for n in range(1, 101)}


def test_the_last_record_that_was_read_is_known_again(run: FoldRun, story: Story) -> None:
    """Also one that changed nothing: by its position the intake tells this log from another."""
    first = story.transaction(create(SERVICE, service(1)))
    second = story.transaction(create(DOSSIER, dossier(1)))
    assert run.partition.fold.seen is None
    run.poll([*first, *second, *first])
    assert run.restart() == 3
    assert run.partition.fold.seen == first[-1].position
    assert run.partition.fold.position == second[-1].position


def test_a_lost_end_mark_ends_with_the_next_transaction(run: FoldRun, story: Story) -> None:
    """Compaction may have taken the record with the mark; a later one always follows then."""
    run.poll(story.transaction(create(SERVICE, service(1))))
    unfinished = story.transaction(create(DOSSIER, dossier(1)), create(PAYMENT, payment(5, of=1)))[:1]
    run.poll(unfinished)
    assert run.statuses == {}
    run.poll(story.transaction(create(PAYMENT, payment(5, of=1))))
    assert run.statuses == {code(1): [1]}


def test_nothing_goes_out_before_it_can_be_saved(run: FoldRun, story: Story) -> None:
    """A lost end mark may owe an event when the next transaction is already open: it waits for that one's end."""
    run.poll(story.transaction(create(SERVICE, service(1))))
    run.poll(story.transaction(create(DOSSIER, dossier(1)), create(PAYMENT, payment(5, of=1)))[:1])
    cut = story.transaction(create(DOSSIER, dossier(2)), create(DOSSIER, dossier(3)))
    run.poll(cut[:1])
    assert [due.dossier for due in run.due] == ["1"]
    assert run.partition.blocked
    assert run.partition.next_at(1000.0) is None
    run.poll(cut[1:])
    assert not run.partition.blocked
    assert run.statuses == {code(number): [1] for number in (1, 2, 3)}


@pytest.mark.parametrize("spilled", [False, True], ids=["in memory", "in the file"])
def test_answers_outlive_a_transaction_that_is_given_up(
    run: FoldRun, story: Story, monkeypatch: pytest.MonkeyPatch, spilled: bool
) -> None:
    """A stop in the middle of one gives it up; what EMC said meanwhile is recorded, in whichever order it came."""
    run.poll(story.transaction(create(SERVICE, service(1)), *(create(DOSSIER, dossier(n)) for n in (1, 2))))
    one, two = run.partition.begin(9, 1000.0, 1000.0)
    run.partition.save()
    if spilled:
        monkeypatch.setattr(fold_module, "_MOST_UNSAVED", 0)
    run.partition.outbox.delivered(one, 1001.0)
    cut = story.transaction(*(create(DOSSIER, dossier(n)) for n in (3, 4, 5)))
    run.poll(cut[:2])
    assert run.partition.blocked is spilled
    if spilled:
        run.partition.deferred.append(Answer(two, Delivered(), 0.1, 1002.0))
        assert [answer.attempt for answer in run.partition.abandon()] == [two]
    else:
        assert run.partition.abandon() == []
    run.partition.outbox.delivered(two, 1002.0)
    run.partition.save()
    assert run.restart() == 3
    assert run.table("SELECT state FROM events ORDER BY id") == [("delivered",)] * 2
    assert run.partition.outbox.interrupted == 0


def test_deferred_answers_come_back_with_the_end(run: FoldRun, story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are handed out once, when the transaction that blocked them is whole."""
    run.poll(story.transaction(create(SERVICE, service(1)), create(DOSSIER, dossier(1))))
    [attempt] = run.partition.begin(9, 1000.0, 1000.0)
    run.partition.save()
    monkeypatch.setattr(fold_module, "_MOST_UNSAVED", 0)
    cut = story.transaction(*(create(DOSSIER, dossier(n)) for n in (3, 4, 5)))
    assert run.partition.apply(list(enumerate(cut[:2], 2))) == []
    answer = Answer(attempt, Delivered(), 0.1, 1002.0)
    run.partition.deferred.append(answer)
    assert run.partition.apply(list(enumerate(cut[2:], 4))) == [answer]
    assert run.partition.deferred == []


def test_attaching_is_quiet(run: FoldRun, story: Story) -> None:
    """Dossiers of the snapshot owe nothing for what they have reached, and everything from then on."""
    run.poll(
        story.snapshot(
            (SERVICE, service(1)), (DOSSIER, dossier(1, IN_WORK)), (DOSSIER, dossier(2)), (PAYMENT, payment(5, of=2))
        )
    )
    assert run.due == []
    run.poll(story.transaction(update(DOSSIER, dossier(1, RETURNED))))
    run.poll(story.transaction(create(PAYMENT, payment(6, of=2))))
    assert run.statuses == {code(1): [3]}


def test_a_correction_of_an_attached_dossier_is_told(run: FoldRun, story: Story) -> None:
    """Its baseline is how it stood before the transaction, so what changes is seen."""
    run.poll(story.snapshot((SERVICE, service(1)), (SERVICE, service(2)), (DOSSIER, dossier(1))))
    run.poll(story.transaction(update(DOSSIER, dossier(1, service=2))))
    assert [(due.event.Status, due.event.CodeTTHC) for due in run.due] == [(1, "2.000002")]


def test_a_changed_reference_row_owes_nothing_by_itself(run: FoldRun, story: Story) -> None:
    """It is used from then on."""
    run.poll(story.transaction(create(SERVICE, service(1)), create(DOSSIER, dossier(1))))
    run.poll(story.transaction(update(SERVICE, service(1, "Cấp lại"))))
    assert run.statuses == {code(1): [1]}
    run.poll(story.transaction(update(DOSSIER, dossier(1, IN_WORK))))
    assert [due.event.NameTTHC for due in run.due] == ["Cấp đổi", "Cấp lại"]


def test_a_held_dossier_is_told_when_its_reference_comes(run: FoldRun, story: Story) -> None:
    """The reason is on record until then, and the event's cause is the transaction that brought the row."""
    run.poll(story.transaction(create(DOSSIER, dossier(1, service=9))))
    assert run.statuses == {}
    [(held, number, reason, since_us)] = run.table("SELECT * FROM held")
    assert (held, number, since_us) == ("1", code(1), story.time_us)
    assert "m.thu_tuc" in reason
    run.restart()
    arrival = story.transaction(create(SERVICE, service(9)))
    run.poll(arrival, offset=1)
    assert run.statuses == {code(1): [1]}
    assert run.due[-1].position == str(arrival[-1].position)
    assert run.table("SELECT * FROM held") == []


def test_a_held_dossier_stays_held_by_what_does_not_help(run: FoldRun, story: Story) -> None:
    """It is judged again when touched, and says since when it waits."""
    run.poll(story.transaction(create(DOSSIER, dossier(1, service=9))))
    since = story.time_us
    run.poll(story.transaction(update(DOSSIER, dossier(1, IN_WORK, service=9))))
    run.poll(story.transaction(create(SERVICE, service(8))))
    assert run.table("SELECT since_us FROM held") == [(since,)]
    run.poll(story.transaction(create(SERVICE, service(9))))
    assert run.statuses == {code(1): [1, 2]}


def test_deleting_a_dossier_owes_nothing_and_forgets_it(run: FoldRun, story: Story) -> None:
    """Another one under the same key begins a life of its own."""
    run.poll(story.transaction(create(SERVICE, service(1)), create(DOSSIER, dossier(1))))
    run.poll(story.transaction(delete(DOSSIER, dossier(1))))
    assert run.table("SELECT * FROM told") == []
    run.poll(story.transaction(create(DOSSIER, dossier(1))))
    assert run.statuses == {code(1): [1, 1]}


def test_deleting_and_inserting_again_in_one_transaction_is_an_update(run: FoldRun, story: Story) -> None:
    """Some applications save that way."""
    run.poll(story.transaction(create(SERVICE, service(1)), create(DOSSIER, dossier(1))))
    run.poll(story.transaction(delete(DOSSIER, dossier(1)), create(DOSSIER, dossier(1, IN_WORK))))
    assert run.statuses == {code(1): [1, 2]}


def test_the_delete_of_a_child_finds_its_dossier(run: FoldRun, story: Story) -> None:
    """The delete record has the key only, as with the default replica identity."""
    run.poll(
        story.transaction(
            create(SERVICE, service(1)), create(DOSSIER, dossier(1, RETURNED)), create(PAYMENT, payment(5, of=1))
        )
    )
    run.poll(story.transaction(delete(PAYMENT, {"id": 5})))
    assert [due.event.FormsPayments for due in run.due if due.event.Status == 3] == [1, 0]


def test_a_child_that_moves_touches_both_dossiers(run: FoldRun, story: Story) -> None:
    """Capture writes a delete and a create; the two dossiers are judged once each."""
    run.poll(
        story.transaction(
            create(SERVICE, service(1)),
            create(DOSSIER, dossier(1, RETURNED)),
            create(DOSSIER, dossier(2, RETURNED)),
            create(PAYMENT, payment(5, of=1)),
        )
    )
    run.poll(story.transaction(delete(PAYMENT, {"id": 5}), create(PAYMENT, payment(5, of=2))))
    last = {due.dossier: due.event.FormsPayments for due in run.due}
    assert last == {"1": 0, "2": 1}


def test_a_child_may_move_in_one_record(run: FoldRun, story: Story) -> None:
    """Capture does not write that, but a read of a second snapshot may find it so."""
    run.poll(
        story.transaction(
            create(SERVICE, service(1)),
            create(DOSSIER, dossier(1, RETURNED)),
            create(DOSSIER, dossier(2, RETURNED)),
            create(PAYMENT, payment(5, of=1)),
        )
    )
    run.poll(story.transaction(update(PAYMENT, payment(5, of=2))))
    assert {due.dossier: due.event.FormsPayments for due in run.due} == {"1": 0, "2": 1}


def test_children_are_seen_in_the_order_of_their_keys(run: FoldRun, story: Story) -> None:
    """9 before 10, however they came."""
    run.poll(story.transaction(create(DOSSIER, dossier(1)), *(create(PAYMENT, payment(n, of=1)) for n in (10, 9, 100))))
    view = run.partition.fold._view("1")
    assert view is not None
    assert [row["id"] for row in view.children(PAYMENT)] == [9, 10, 100]


def test_a_child_without_a_dossier_waits_for_it(run: FoldRun, story: Story) -> None:
    """Children may be committed first; a link of NULL belongs to nobody."""
    run.poll(
        story.transaction(
            create(SERVICE, service(1)), create(PAYMENT, payment(5, of=1)), create(PAYMENT, payment(6, None))
        )
    )
    run.poll(story.transaction(create(DOSSIER, dossier(1, RETURNED))))
    assert [due.event.FormsPayments for due in run.due if due.event.Status == 3] == [1]
    run.poll(story.transaction(update(PAYMENT, payment(6, of=1, how="quay"))))
    assert run.due[-1].event.FormsPayments == 2


def test_truncated_children_correct_their_dossiers(run: FoldRun, story: Story) -> None:
    """The dossiers of every row that is gone are judged."""
    run.poll(
        story.transaction(
            create(SERVICE, service(1)), create(DOSSIER, dossier(1, RETURNED)), create(PAYMENT, payment(5, of=1))
        )
    )
    run.poll(story.transaction(truncate(PAYMENT)))
    assert [due.event.FormsPayments for due in run.due if due.event.Status == 3] == [1, 0]


def test_truncated_dossiers_are_forgotten(run: FoldRun, story: Story) -> None:
    """Keys may begin anew after RESTART IDENTITY; held ones do not come back either."""
    run.poll(
        story.transaction(
            create(SERVICE, service(1)), create(DOSSIER, dossier(1)), create(DOSSIER, dossier(2, service=9))
        )
    )
    run.poll(story.transaction(truncate(DOSSIER)))
    run.poll(story.transaction(create(SERVICE, service(9))))
    run.poll(story.transaction(create(DOSSIER, dossier(1))))
    assert run.statuses == {code(1): [1, 1]}
    assert run.table("SELECT * FROM held") == []


def test_truncated_references_hold_what_needs_them(run: FoldRun, story: Story) -> None:
    """They are not to be found any more."""
    run.poll(story.transaction(create(SERVICE, service(1)), truncate(SERVICE), create(DOSSIER, dossier(1))))
    assert run.statuses == {}
    run.poll(story.transaction(create(SERVICE, service(1))))
    assert run.statuses == {code(1): [1]}


def test_a_second_snapshot_sweeps_what_is_gone(run: FoldRun, story: Story) -> None:
    """Rows neither read nor changed since its begin are gone; what EMC knows of is told how it changed."""
    run.poll(
        story.transaction(
            create(SERVICE, service(1)),
            create(SERVICE, service(2)),
            create(DOSSIER, dossier(1)),
            create(DOSSIER, dossier(2)),
        )
    )
    again = story.snapshot((SERVICE, service(1)), (DOSSIER, dossier(1, IN_WORK)))
    begin, *reads, end = again
    run.poll([begin, *reads])
    run.poll([end])
    assert run.statuses == {code(1): [1, 2], code(2): [1]}
    assert [key for _, key, *_ in run.contents()["rows"]] == ["1", "1"]
    assert [key for key, _ in run.contents()["told"]] == ["1"]
    assert run.contents()["lookups"] == [(SERVICE, "id", "1", "1")]
    run.poll(story.transaction(update(DOSSIER, dossier(1, IN_WORK, service=2))))
    assert run.table("SELECT count(*) FROM held") == [(1,)]


def test_a_snapshot_that_was_given_up_sweeps_nothing(run: FoldRun, story: Story) -> None:
    """Its reads are harmless; the next one, of a later epoch, counts alone."""
    run.poll(story.snapshot((SERVICE, service(1)), (DOSSIER, dossier(1)), (DOSSIER, dossier(2)))[:-1])
    assert len(run.contents()["rows"]) == 3
    story.epoch += 1
    run.poll(story.snapshot((SERVICE, service(1)), (DOSSIER, dossier(2))))
    assert [(table, key) for table, key, *_ in run.contents()["rows"]] == [(DOSSIER, "2"), (SERVICE, "1")]


def test_doubled_markers_and_reads_change_nothing(run: FoldRun, story: Story) -> None:
    """Alone or all together, in the middle of a transaction too."""
    snapshot = story.snapshot((SERVICE, service(1)), (DOSSIER, dossier(1)))
    run.poll(snapshot)
    whole = story.transaction(update(DOSSIER, dossier(1, IN_WORK)), create(DOSSIER, dossier(2)))
    run.poll([whole[0], *snapshot, snapshot[0], snapshot[-1], whole[0], whole[1], *snapshot, *whole])
    assert run.statuses == {code(1): [2], code(2): [1]}
    assert len(run.contents()["rows"]) == 3


def test_a_read_inside_of_a_transaction_does_not_end_it(run: FoldRun, story: Story) -> None:
    """Reads carry the position of the change before them, and belong to no transaction."""
    run.poll(story.transaction(create(SERVICE, service(1))))
    first, second = story.transaction(create(DOSSIER, dossier(1)), update(DOSSIER, dossier(1, IN_WORK, received=False)))
    _, read, _ = story.snapshot((DOSSIER, dossier(2)))
    run.poll([first, replace(read, position=first.position), second])
    assert run.statuses == {}


def test_an_older_record_inside_of_a_transaction_does_not_end_it(run: FoldRun, story: Story) -> None:
    """A doubled record has another transaction's id, and is not a sign of its end."""
    first = story.transaction(create(SERVICE, service(1)), create(DOSSIER, dossier(1)))
    run.poll(first)
    second = story.transaction(update(DOSSIER, dossier(1, IN_WORK)), update(DOSSIER, dossier(1, RETURNED)))
    run.poll([second[0], first[1], second[1]])
    assert run.statuses == {code(1): [1, 3]}


def test_a_new_epoch_comes_after_everything(run: FoldRun, story: Story) -> None:
    """After a restore LSNs go backwards; nothing is skipped for that."""
    run.poll(story.transaction(create(SERVICE, service(1)), create(DOSSIER, dossier(1))))
    story.epoch, story.lsn = 2, 0x10
    run.poll(story.transaction(update(DOSSIER, dossier(1, IN_WORK))))
    assert run.statuses == {code(1): [1, 2]}


def test_tables_of_an_older_mapping_are_passed_over(run: FoldRun, story: Story) -> None:
    """The log may hold them still."""
    run.poll(
        story.transaction(
            create(SERVICE, service(1)),
            create("m.khac", {"id": 1}),
            create(DOSSIER, dossier(1)),
            delete("m.khac", {"id": 1}),
            truncate("m.khac"),
        )
    )
    assert run.statuses == {code(1): [1]}


def test_another_mapping_goes_on_with_the_state(run: FoldRun, story: Story) -> None:
    """Told is told: the next judgement corrects, and events name the mapping they were made by."""
    run.poll(story.transaction(create(SERVICE, service(1)), create(DOSSIER, dossier(1))))
    other = plan(MAPPING.replace("Level: 4", "Level: 3"))
    offset = run.restart(other)
    assert run.table("SELECT value FROM meta WHERE name = 'mapping'") == [(other.version,)]
    assert run.statuses == {code(1): [1]}
    run.poll(story.transaction(create(PAYMENT, payment(5, of=1))), offset=offset)
    assert run.due[-1].event.Level == 3
    assert [version for (version,) in run.table("SELECT mapping FROM events ORDER BY id")] == [
        plan().version,
        other.version,
    ]


def test_another_mapping_s_lookups_are_built(run: FoldRun, story: Story) -> None:
    """Reference rows that are there already are found by the column that is asked for now."""
    run.poll(story.transaction(create(SERVICE, service(1)), create(DOSSIER, dossier(1))))
    by_code = MAPPING.replace("match: {id: thu_tuc_id}", "match: {ma: tai_khoan}")
    offset = run.restart(plan(by_code))
    row = dossier(1, IN_WORK) | {"tai_khoan": "2.000001"}
    run.poll(story.transaction(update(DOSSIER, row)), offset=offset)
    assert run.statuses == {code(1): [1, 2]}


def test_a_reference_row_is_found_by_what_it_says_now(tmp_path: Path, story: Story) -> None:
    """Not by a code that it had before."""
    run = FoldRun(tmp_path, mapping=plan(MAPPING.replace("match: {id: thu_tuc_id}", "match: {ma: tai_khoan}")))
    row = dossier(1) | {"tai_khoan": "2.000001"}
    run.poll(story.transaction(create(SERVICE, service(1))))
    run.poll(story.transaction(update(SERVICE, service(1) | {"ma": "2.000777"})))
    run.poll(story.transaction(create(DOSSIER, row)))
    assert run.statuses == {}
    run.poll(story.transaction(delete(SERVICE, {"id": 1}), update(DOSSIER, row | {"tai_khoan": "2.000777"})))
    assert run.statuses == {}
    assert run.contents()["lookups"] == []
    run.close()


def test_a_reference_row_is_found_by_several_columns(tmp_path: Path, story: Story) -> None:
    """All of them must be equal, before and after a restart; a dossier that leaves one of them empty names nothing."""
    run = FoldRun(tmp_path, mapping=plan(MAPPING.replace("match: {id: thu_tuc_id}", "match: {id: thu_tuc_id, ma: ma}")))
    run.poll(story.transaction(create(SERVICE, service(1) | {"ma": f" {code(1)} "}), create(SERVICE, service(2))))
    run.poll(story.transaction(create(DOSSIER, dossier(1)), create(DOSSIER, dossier(2) | {"thu_tuc_id": 2})))
    run.poll(story.transaction(create(DOSSIER, dossier(3) | {"thu_tuc_id": None})))
    assert run.statuses == {code(1): [1]}
    held = run.table("SELECT code, reason FROM held ORDER BY code")
    assert [(number, "no row" in reason) for number, reason in held] == [(code(2), True), (code(3), False)]
    run.restart()
    run.poll(story.transaction(update(SERVICE, service(2) | {"ma": code(2)})))
    assert run.statuses == {code(1): [1], code(2): [1]}
    run.close()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("location: {constant: 000.00.02.H10}", "location: don_vi"),
        ("belongs_to: ho_so_id", "belongs_to: ho_so_cha"),
    ],
    ids=["another column", "another link"],
)
def test_a_mapping_that_needs_what_was_never_folded_is_refused(run: FoldRun, old: str, new: str) -> None:
    """Rows of the state do not have it, so its events would be wrong."""
    with pytest.raises(DeliveryError) as caught:
        run.restart(plan(MAPPING.replace(old, new)))
    assert "attach anew" in caught.value.mend


def test_text_keys_that_look_like_lists(run: FoldRun, story: Story) -> None:
    """Keys are anybody's text."""
    row = dossier(1) | {"id": '["x"]'}
    run.poll(story.transaction(create(SERVICE, service(1)), create(DOSSIER, row)))
    child = payment(5, None) | {"ho_so_id": '["x"]', "id": "[bracket"}
    other = payment(6, None) | {"ho_so_id": '["x"]', "id": "[", "how": "quay"}
    run.poll(
        story.transaction(
            create(PAYMENT, child), create(PAYMENT, other), update(DOSSIER, row | {"trang_thai": RETURNED})
        )
    )
    assert run.statuses == {code(1): [1, 3]}
    assert run.due[-1].event.FormsPayments == 1


@pytest.mark.parametrize("cut", [1, 2])
def test_an_epoch_may_begin_inside_a_transaction(run: FoldRun, story: Story, cut: int) -> None:
    """A capture that took over goes on in the middle: judged once, when it is whole; what was applied stays applied."""
    run.poll(story.transaction(create(SERVICE, service(1))))
    run.poll(story.transaction(create(DOSSIER, dossier(1))))
    whole = story.transaction(
        update(DOSSIER, dossier(1, IN_WORK)), create(PAYMENT, payment(5, of=1)), update(DOSSIER, dossier(1, RETURNED))
    )
    place = whole[cut - 1].position._replace(epoch=2)
    marker = replace(whole[0], op=Op.MESSAGE, table="", key=(), after=None, position=place, transaction=None)
    later = [replace(change, position=change.position._replace(epoch=2)) for change in whole[cut - 1 :]]
    run.poll([*whole[:cut], replace(marker, marker=EPOCH, last=False)])
    assert run.statuses == {code(1): [1]}
    run.poll(later)  # the first of them is the last of before, told twice
    assert run.statuses == {code(1): [1, 3]}
    assert run.due[-1].event.FormsPayments == 1
    assert run.due[-1].position == str(later[-1].position)
