"""What a timeline's history and a server's first commits tell of whether its WAL is the one of the log."""

from __future__ import annotations

import pytest

from connector.change.position import Position
from connector.change.record import EPOCH, SNAPSHOT_END, Change, Op
from connector.errors import SourceGap
from connector.source.proof import proof_of
from connector.source.timeline import branched_before, switch_point

HISTORY = "1\t0/3000110\tno recovery target specified\n\n2\t0/5000000\tbefore 2026-01-01\n"


@pytest.mark.parametrize(("timeline", "at"), [(1, 0x3000110), (2, 0x5000000), (3, None), (10, None)])
def test_where_a_timeline_was_left(timeline: int, at: int | None) -> None:
    """Each ancestor has its line; what is no ancestor has none."""
    assert switch_point(HISTORY, timeline) == at


def test_a_branch_before_what_was_seen_is_told() -> None:
    """A branch at what was seen, or later, has all of it."""
    assert branched_before(100, 100, 1, 2) == ""
    assert "branched off at 0/63" in branched_before(99, 100, 1, 2)
    assert "does not come" in branched_before(None, 0, 2, 1)


def change(position: Position, transaction: str | None = "7:100", marker: str | None = None) -> Change:
    """The last record of a partition."""
    return Change(Op.MESSAGE, "", (), None, None, position, 0, transaction, False, 5000, marker)


def test_the_last_commit_has_to_come_again() -> None:
    """Earlier ones may come before it; it is known by LSN and time; anything later first is another history."""
    proof = proof_of({0: change(Position(1, 90, 1)), 1: change(Position(1, 100, 3))}, 50)
    assert proof is not None
    assert proof.begun(90, 1) == proof.passed(100) == proof
    assert proof.begun(100, 5000) is None
    for refuted in (lambda: proof.begun(100, 5001), lambda: proof.begun(101, 5000), lambda: proof.passed(101)):
        with pytest.raises(SourceGap, match="restored to an earlier moment"):
            refuted()


def test_what_is_not_sent_again_is_no_proof() -> None:
    """Not below the slot's place, not a snapshot; an epoch's marker stands for the commit that it carries on."""
    assert proof_of({}, 0) is None
    assert proof_of({0: change(Position(1, 100, 3))}, 101) is None
    assert proof_of({0: change(Position(1, 100, 0), None, SNAPSHOT_END)}, 0) is None
    carried = proof_of({0: change(Position(2, 100, 3), None, EPOCH)}, 100)
    assert carried is not None
    assert carried.begun(100, 5000) is None
