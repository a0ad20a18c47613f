"""Two captures on one slot: one works, the other waits and takes over, and each comes back to what the other wrote."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest
from attached_source import BIG, DOSSIER, PAYMENT, Attached, assert_told_once, until
from plugins.kafka import KafkaBroker
from plugins.proxy import Proxy
from test_crashes import TRANSACTION, await_line, killed

from connector.change.record import EPOCH, SNAPSHOT_BEGIN, Op
from connector.settings import Settings

SLACK = 20.0
"""Seconds beside those that are promised, for a machine that is busy with other things."""
_names = count(1)


def second_of(attached: Attached) -> Settings:
    """The settings of the second capture: the same, with a data directory of its own."""
    return attached.settings_with(data=str(attached.directory / "second"))


@contextmanager
def second_process(attached: Attached, first: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """The second capture in a process of its own, started when the first streams."""
    await_line(first, "streaming")
    with attached.process(data=str(attached.directory / "second")) as second:
        yield second


def epochs(attached: Attached) -> list[list[int]]:
    """The epochs of each partition in their order."""
    return [list(dict.fromkeys(change.position.epoch for change in partition)) for partition in attached.records()]


def reads(attached: Attached) -> int:
    """How often the tables were read."""
    return sum(change.marker == SNAPSHOT_BEGIN for change in attached.records()[0])


class Reader:
    """Reads what a process says on a thread, so that the test may look at it when it likes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        self._process = process
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.strip())

    def await_line(self, words: str, times: int = 1) -> None:
        """Wait until so many lines have the words."""
        until(lambda: sum(words in line for line in self.lines) >= times, f"the process says {words!r}")


def test_the_second_takes_over_within_ten_seconds(attached: Attached) -> None:
    """While it waits there is one walsender and no more; the first is killed, and ten seconds later it streams."""
    sessions = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
    with attached.capturing():
        pass
    with attached.process() as first, second_process(attached, first) as second:
        await_line(second, "another capture")
        with attached.connect("postgres") as admin:
            before = admin.execute(sessions).fetchone()[0]  # type: ignore[index]
            attempts = 0
            while attempts < 8:  # each attempt of the second is a session
                attempts = admin.execute(sessions).fetchone()[0] - before  # type: ignore[index]
                assert admin.execute("SELECT count(*) FROM pg_stat_replication").fetchone() == (1,)
        attached.owner.execute("""UPDATE "mot cua".thanh_toan SET ho_so_id = 2 WHERE id = 1""")
        first.kill()
        killed_at = time.monotonic()
        await_line(second, "streaming")
        assert time.monotonic() - killed_at < 10 + SLACK
        attached.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id = 1""")
        attached.settle()
    attached.assert_exact()
    assert_told_once(attached.records())
    assert epochs(attached) == [[1, 2]] * 3


def test_the_first_host_is_lost(attached: Attached) -> None:
    """Nothing comes from the first any more, and the server is not told: after thirty seconds the second streams."""
    with attached.capturing():
        pass
    with Proxy(attached.database.server.port) as proxy:
        dsn = proxy.dsn(attached.database.dsn("emc_cdc"))
        with attached.process(dsn=dsn) as first, second_process(attached, first) as second:
            await_line(second, "another capture")
            attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET noi_dung = %s WHERE id = 7""", (BIG,))
            assert proxy.black_hole()
            first.kill()
            lost_at = time.monotonic()
            attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x' WHERE id = 7""")
            await_line(second, "streaming")
            assert time.monotonic() - lost_at < 30 + SLACK
            attached.settle()
    attached.assert_exact()
    assert_told_once(attached.records())


@pytest.fixture(params=["embedded", "kafka"])
def on_either_log(request: pytest.FixtureRequest, attached: Attached) -> Iterator[Attached]:
    """The attached connector on each of the logs."""
    if request.param == "kafka":
        kafka: KafkaBroker = request.getfixturevalue("kafka")
        attached.name = f"takeover-{os.getpid()}-{next(_names)}"
        attached.log = {"kafka": {"brokers": kafka.bootstrap, "replication_factor": 1, "min_insync_replicas": 1}}
        attached.settings = attached.settings_with()
        attached.set_up()
    return attached


def test_the_first_stands_still_and_comes_back(on_either_log: Attached) -> None:
    """Stopped by SIGSTOP in the middle of its work, resumed when another has the slot: nothing is doubled or missing.

    On the embedded log, of one machine, the one that stands still holds the file's lock, so the other has to wait for
    its end; on Kafka it goes on at once and the first is fenced.
    """
    attached = on_either_log
    with attached.capturing():
        pass
    with attached.process() as first, second_process(attached, first) as second:
        one, two = Reader(first), Reader(second)
        two.await_line("another capture")
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET noi_dung = %s WHERE id < 9""", (BIG,))
        attached.owner.execute("""UPDATE "mot cua".thanh_toan SET ho_so_id = ho_so_id % 30 + 1""")
        first.send_signal(signal.SIGSTOP)
        try:
            attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x'""")
            two.await_line("streaming" if "kafka" in attached.log else "another capture is running")
            attached.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id < 5""")
            if "kafka" in attached.log:
                attached.settle()
        finally:
            first.send_signal(signal.SIGCONT)
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'y'""")
        until(lambda: first.poll() is not None or one.lines, "the first knows")
        attached.settle()
        assert second.poll() is None
    attached.assert_exact()
    assert_told_once(attached.records())
    assert reads(attached) == 1


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
def test_the_first_returns_after_the_second_was_at_work(attached: Attached, busy: bool) -> None:
    """Its index knows nothing of what the second wrote, nor of what that confirmed; it is made again by itself."""
    second = second_of(attached)
    with attached.capturing():
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET noi_dung = %s WHERE id = 7""", (BIG,))
    with attached.capturing(settings=second):
        if busy:
            attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET noi_dung = %s WHERE id IN (7, 8)""", (BIG[::-1],))
            attached.owner.execute("""UPDATE "mot cua".thanh_toan SET ho_so_id = ho_so_id % 30 + 1""")
            attached.owner.execute("""INSERT INTO "mot cua".thanh_toan VALUES (100, 9, 7, '')""")
        else:
            attached.owner.execute("""INSERT INTO "mot cua".nhat_ky (dong) VALUES ('x')""")
    for settings in (attached.settings, attached.settings, second):
        with attached.capturing(settings=settings) as running:
            attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = trang_thai || 'x' WHERE id IN (7, 8)""")
            attached.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id > 99""")
            attached.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id BETWEEN 1 AND 20""")
        assert not running.faults
    attached.assert_exact()
    assert_told_once(attached.records())
    assert reads(attached) == 1
    assert epochs(attached) == [[1, 2, 3, 4]] * 3
    gone = Counter(int(change.key[0]) for change in attached.streamed(PAYMENT) if change.op is Op.DELETE)
    # Each is told in the one partition that it belongs to; one that moved is a delete in its old dossier's, too.
    assert {gone[key] for key in range(1, 21)} == {2 if busy else 1}


def test_a_transaction_cut_in_half_is_ended_by_the_second(attached: Attached) -> None:
    """Its beginning stands under the first one's epoch, the rest under the second's; no row is missing or doubled."""
    with attached.capturing():
        pass
    with attached.process(crash_after=1) as process:
        await_line(process, "streaming")
        attached.owner.execute(TRANSACTION)
        killed(process)
    assert 0 < len(attached.streamed(DOSSIER)) < 1000
    with attached.capturing(settings=second_of(attached)):
        pass
    changes = attached.streamed(DOSSIER)
    assert len(changes) == 1000
    assert {change.position.epoch for change in changes} == {1, 2}
    attached.assert_exact()
    assert_told_once(attached.records())


def test_killed_between_the_marker_and_the_index(attached: Attached) -> None:
    """The second dies when its epoch's marker is durable and nothing else: whoever comes next goes on all the same."""
    with attached.capturing():
        attached.owner.execute("""UPDATE "mot cua".thanh_toan SET ho_so_id = ho_so_id % 30 + 1""")
    with attached.process(crash_after=1, data=str(attached.directory / "second")) as process:
        killed(process)
    assert all(partition[-1].marker == EPOCH for partition in attached.records())
    for settings in (attached.settings, second_of(attached)):
        with attached.capturing(settings=settings):
            attached.owner.execute("""UPDATE "mot cua".thanh_toan SET ho_so_id = ho_so_id % 30 + 1""")
    attached.assert_exact()
    assert_told_once(attached.records())
    assert reads(attached) == 1
