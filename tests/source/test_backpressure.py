"""A log that is slow or away: memory stays within its bound, the slot where it is, the database is answered in time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import pytest
from attached_source import DOSSIER, PARTITIONS, Attached, Running, assert_told_once
from gated_log import behind_a_gate
from plugins.kafka import KafkaBroker
from plugins.proxy import Proxy

from connector.source import session as sessions
from connector.source.stream import BATCH

MEMORY = 1024 * 1024
"""The least that may be set."""
SLACK = 2 * BATCH
"""One batch more is taken when there is room for a byte, and its rows have their places in memory."""
ROUND = """
INSERT INTO "mot cua"."Hồ sơ"
SELECT g, repeat('m', 1100), 'moi', NULL, NULL, 0 FROM generate_series(%s::int, %s::int) g"""
ROWS = 900
"""Of one round: as many changes as the bound has room for, and some."""
_names = count(1)
_ids = count(1000, ROWS)


class Outage:
    """One way in which a log takes nothing."""

    def __init__(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self.begin = begin
        self.end = end


def on_kafka(attached: Attached, kafka: KafkaBroker) -> None:
    """Have it log to topics of its own."""
    attached.name = f"away-{os.getpid()}-{next(_names)}"
    attached.log = {"kafka": {"brokers": f"127.0.0.1:{kafka.advertised}", "replication_factor": 1}}
    attached.log["kafka"]["min_insync_replicas"] = 1
    attached.settings = attached.settings_with()
    attached.set_up()


@pytest.fixture(params=["embedded", "kafka"])
def outages(request: pytest.FixtureRequest, attached: Attached) -> Iterator[list[Outage]]:
    """The embedded log's file locked by somebody; a broker that stands still; with --full a broker that is gone."""
    if request.param == "embedded":
        holders: list[sqlite3.Connection] = []

        def lock() -> None:
            path = attached.directory / "log.sqlite"
            holders.append(sqlite3.connect(path, isolation_level=None, timeout=60, check_same_thread=False))
            holders[-1].execute("BEGIN IMMEDIATE")

        yield [Outage(lock, lambda: holders[-1].close())]
        return
    kafka: KafkaBroker = request.getfixturevalue("kafka")
    on_kafka(attached, kafka)
    killed = [Outage(kafka.kill, kafka.start)] if request.config.getoption("--full") else []
    yield [Outage(kafka.pause, kafka.resume), *killed]
    kafka.start()


def commit(attached: Attached, rounds: int = 1) -> None:
    """The application goes on: rounds of changes, each a transaction."""
    for first in (next(_ids) for _ in range(rounds)):
        attached.owner.execute(ROUND.encode(), (first, first + ROWS - 1))


def held(running: Running) -> int:
    """Bytes that waited in memory at most."""
    return max(feedback.waiting for feedback in running.feedbacks)


@contextmanager
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The size of every batch that is handed over."""
    sizes: list[int] = []
    hand_over = sessions.Session.hand_over

    def noted(self: sessions.Session, assembler: sessions.Assembler, open_too: bool = False) -> None:
        sizes.append(assembler.size)
        hand_over(self, assembler, open_too)

    monkeypatch.setattr(sessions.Session, "hand_over", noted)
    yield sizes


def test_memory_stays_within_its_bound(
    attached: Attached, outages: list[Outage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the log is away: up to the bound, and not more for ten times as many changes. Then nothing is missing."""
    attached.log |= {"memory": MEMORY}
    settings = attached.settings_with(stall_timeout=600)
    with measured(monkeypatch) as sizes, attached.capturing(settings=settings) as running:
        for outage in outages:
            commit(attached)
            attached.settle(running)
            outage.begin()
            try:
                commit(attached)
                committed = attached.ask("SELECT pg_current_wal_lsn()::text")[0][0]
                running.until(lambda: running.feedbacks[-1].waiting >= MEMORY, "the bound is reached")
                commit(attached, 10)
                told = len(running.feedbacks)
                running.until(lambda told=told: len(running.feedbacks) > told + 5, "the server is answered")  # type: ignore[misc]
                assert attached.slot(f"confirmed_flush_lsn < '{committed}'")
            finally:
                outage.end()
            attached.settle(running)
    assert MEMORY <= held(running) <= MEMORY + SLACK
    assert max(sizes) <= BATCH + 64 * 1024
    assert len(attached.streamed(DOSSIER)) == len(outages) * 12 * ROWS
    assert_told_once(attached.records())
    attached.assert_exact()


def test_one_huge_transaction_stays_within_the_bound(attached: Attached) -> None:
    """That the server sends after its commit, as 13 and earlier do: it is not read further than memory has room."""
    attached.log |= {"memory": MEMORY}
    dsn = f"{attached.database.dsn('emc_cdc')} options='-c logical_decoding_work_mem=1GB'"
    with behind_a_gate(attached, attached.settings_with(stall_timeout=600, dsn=dsn)) as (gate, running):
        gate.open.clear()
        with attached.owner.transaction():
            commit(attached, 10)
        running.until(lambda: running.feedbacks[-1].waiting >= MEMORY, "the bound is reached")
        told = len(running.feedbacks)
        running.until(lambda: len(running.feedbacks) > told + 5, "the server is answered meanwhile")
        received = {feedback.received for feedback in running.feedbacks[-4:]}
        gate.open.set()
        attached.settle(running)
    assert len(received) == 1
    assert held(running) <= MEMORY + SLACK
    assert len(attached.streamed(DOSSIER)) == 10 * ROWS


def test_large_rows_make_no_large_batches(attached: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is looked at with every large row, not with every sixty-fourth; one of every partition stays."""
    with measured(monkeypatch) as sizes, attached.capturing(), attached.owner.transaction():
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET noi_dung = repeat('x', 400000) WHERE id <= 30""")
    assert BATCH < max(sizes) <= BATCH + (PARTITIONS + 1) * 401_000
    assert len(attached.streamed(DOSSIER)) == 30


def test_the_server_is_answered_for_longer_than_it_waits(attached: Attached) -> None:
    """A log that is only slow costs no connection: the walsender, which waits 8 s for a word, gets it in time."""
    attached.log |= {"memory": MEMORY}
    with behind_a_gate(attached, attached.settings_with(stall_timeout=600)) as (gate, running):
        (began,) = attached.ask("SELECT clock_timestamp()")[0]
        gate.open.clear()
        commit(attached, 5)
        running.until(lambda: running.feedbacks[-1].waiting >= MEMORY, "nothing more is read")
        # A busy neighbour keeps the server talking, so that it wants answers.
        talk = """INSERT INTO "mot cua".nhat_ky (dong) SELECT 'x' FROM generate_series(1, 100)"""
        passed = "SELECT clock_timestamp() > %s + interval '9 s'"

        def waited() -> bool:
            attached.owner.execute(talk.encode())
            return bool(attached.ask(passed, began)[0][0])

        running.until(waited, "more time than it waits has passed")
        assert attached.slot("active")
        gate.open.set()
        attached.settle(running)
    assert running.sessions == 1
    assert not running.faults


def test_a_slow_broker_loses_nothing(attached: Attached, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every answer of the broker comes late: capture keeps its connection and its bound, and all arrives once."""
    broker = KafkaBroker(tmp_path_factory.mktemp("slow"))
    with Proxy(broker.port) as proxy:
        broker.advertised = proxy.port
        with broker:
            on_kafka(attached, broker)
            attached.log |= {"memory": MEMORY}
            with attached.capturing(settings=attached.settings_with()) as running:
                proxy.delay = 0.05
                commit(attached, 5)
                attached.settle(running)
                proxy.delay = 0.0
            assert running.sessions == 1
            assert held(running) <= MEMORY + SLACK
            assert len(attached.streamed(DOSSIER)) == 5 * ROWS
            assert_told_once(attached.records())


def test_a_log_that_does_not_come_back_ends_the_session(attached: Attached) -> None:
    """What waited in memory is let go with the session; the next one begins with nothing, and nothing is missing."""
    with behind_a_gate(attached, attached.settings_with(stall_timeout=1.0)) as (gate, running):
        gate.open.clear()
        commit(attached)
        running.until(lambda: running.disconnects > 0, "the session ends")
        gate.open.set()
        running.until_streaming(2)
        attached.settle(running)
        assert running.feedbacks[-1].waiting == 0
    assert len(attached.streamed(DOSSIER)) == ROWS
