"""What the fold does for an input that is more than one sequence: values that it leaves out, and the place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from delivery_story import DOSSIER, PAYMENT, SERVICE, Story, code, create, dossier, payment, service, update
from fold_run import FoldRun

from connector.change.record import PLACE, Change, Op, Row


@pytest.fixture
def run(tmp_path: Path) -> Iterator[FoldRun]:
    run = FoldRun(tmp_path)
    yield run
    run.close()


def without(changes: list[Change], *columns: str) -> list[Change]:
    """The same, with these columns left out as unchanged."""

    def short(row: Row | None) -> Row | None:
        return None if row is None else {name: value for name, value in row.items() if name not in columns}

    return [replace(change, after=short(change.after), unchanged=columns) for change in changes]


@pytest.mark.parametrize("restart", [False, True])
def test_an_unchanged_value_stays(run: FoldRun, restart: bool) -> None:
    """Of a dossier, of a child's link to it, of a reference row: in memory or in the file."""
    story = Story()
    run.poll(story.transaction(create(SERVICE, service(1))))
    run.poll(story.transaction(create(DOSSIER, dossier(1)), create(PAYMENT, payment(5, of=1, how="quay"))))
    if restart:
        run.restart()
    changed = story.transaction(
        update(SERVICE, service(1)),
        update(DOSSIER, dossier(1, "da_tra")),
        update(PAYMENT, payment(5, of=1, how="quay")),
    )
    run.poll(
        [
            *without(changed[:1], "ten"),
            *without(changed[1:2], "ma", "thu_tuc_id"),
            *without(changed[2:], "ho_so_id", "hinh_thuc"),
        ]
    )
    assert run.statuses == {code(1): [1, 3]}
    event = run.due[-1].event
    assert (event.NameTTHC, event.FormsPayments) == (service(1)["ten"], 2)


def test_an_unchanged_value_that_nobody_knows_is_null(run: FoldRun) -> None:
    """Its row was never told: the dossier is held for what it lacks."""
    story = Story()
    run.poll(story.transaction(create(SERVICE, service(1))))
    run.poll(without(story.transaction(update(DOSSIER, dossier(1))), "ma"))
    assert run.statuses == {}


def test_the_place_moves_with_what_was_folded(run: FoldRun) -> None:
    """It is as durable as the rows: a death before the commit leaves the one before."""
    story = Story()

    def placed(content: bytes) -> Change:
        at = story.position
        return Change(Op.MESSAGE, "", (), None, None, at, 0, None, False, 0, PLACE, content)

    run.poll([*story.transaction(create(DOSSIER, dossier(1))), placed(b"one")])
    assert run.partition.fold.place == b"one"
    run.poll([*story.transaction(create(DOSSIER, dossier(2))), placed(b"two")], save=False)
    run.restart()
    assert run.partition.fold.place == b"one"
    assert run.partition.fold.offset == 2
