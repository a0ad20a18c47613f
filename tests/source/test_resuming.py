"""Where a session begins and what it need not trust: LSNs that rows share, clocks, publications (cases.md, Resume)."""

from __future__ import annotations

import itertools
import time

import pytest
from attached_source import DOSSIER, Attached
from test_crashes import await_line, killed

from connector.change.record import Op

ROWS = 3000


def test_rows_of_copy_that_share_an_lsn(attached: Attached) -> None:
    """Killed between rows of COPY, which share an LSN: after the restart none is lost and none doubled."""
    with attached.capturing():
        pass
    with attached.process(crash_after=1) as process:
        await_line(process, "streaming")
        with attached.owner.cursor().copy("""COPY "mot cua"."Hồ sơ" (id, "Mã", noi_dung) FROM STDIN""") as copy:
            for key in range(1001, 1001 + ROWS):
                copy.write_row((key, f"M{key}", "x" * 700))
        killed(process)
    before = attached.streamed(DOSSIER)
    assert 0 < len(before) < ROWS
    with attached.capturing():
        pass
    changes = attached.streamed(DOSSIER)
    assert sorted(int(change.key[0]) for change in changes) == list(range(1001, 1001 + ROWS))
    assert len({change.lsn for change in changes}) < ROWS, "no two rows share an LSN"
    attached.assert_exact()


def test_a_message_is_the_last_event(attached: Attached) -> None:
    """An emitted message, transactional or not, is the last thing before a restart: streaming goes on behind it."""
    for transactional in (True, False):
        with attached.capturing():
            attached.owner.execute("SELECT pg_logical_emit_message(%s, 'emc-cdc.test', 'x')", (transactional,))
        with attached.capturing():
            attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = trang_thai || 'x' WHERE id = 1""")
    attached.assert_exact()
    assert [change.op for change in attached.streamed(DOSSIER)] == [Op.UPDATE] * 2
    told = [change.position for change in attached.records()[0] if change.op is Op.MESSAGE and change.transaction]
    assert len(told) == len(set(told)) == 1


@pytest.mark.parametrize("jumps", [(-86_400,), (86_400 * 400,), (-3600, 7200, 0)], ids=["back", "ahead", "both"])
def test_a_clock_that_jumps(attached: Attached, monkeypatch: pytest.MonkeyPatch, jumps: tuple[int, ...]) -> None:
    """The host's clock goes back and ahead at every look at it: nothing of ours depends on it."""
    real, steps = time.time_ns, itertools.cycle(jumps)
    monkeypatch.setattr(time, "time_ns", lambda: real() + next(steps) * 1_000_000_000)
    for number in range(3):
        with attached.capturing():
            attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = %s""", (str(number),))
    monkeypatch.undo()
    with attached.capturing():
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'now'""")
    attached.assert_exact()
    assert len(attached.streamed(DOSSIER)) == 120
