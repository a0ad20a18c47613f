"""The board: what it shows of what was observed, for how long, and how much of it."""

from __future__ import annotations

import json
import pickle
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from observed import CODE, COMMIT_US, ONE_OF_EACH, answered, fault, folded

from connector.console.board import Board
from connector.console.window import Latencies, Rate
from connector.observe import (
    DossierParked,
    EventDue,
    OutboxDepth,
    SnapshotProgress,
    SourceConnected,
    SourceDisconnected,
    TransactionsLogged,
    WalBudget,
)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, now: float = 1_795_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> Board:
    return Board(clock)


def test_one_of_each(board: Board) -> None:
    """Every kind of observation shows where it belongs."""
    for observation in ONE_OF_EACH:
        board.observe(observation)
    shown = json.loads(json.dumps(board.snapshot()))
    assert shown["source"] == {
        "state": "disconnected", "reason": "the server is shutting down", "slot": "emc_cdc_mot_cua",
        "server_version": 180003, "received": 0x16_B374F000, "durable": 0x16_B374E000,
        "confirmed": 0x16_B374E000, "server_end": 0x16_B374F100, "retained": 9_000_000_000, "unconfirmed": 4096,
    }  # fmt: skip
    assert shown["snapshot"] == {
        "motcua.ho_so": {
            "rows": 410, "estimate": 400, "finished": True,
            "rows_per_second": 250, "seconds_left": None, "snapshot_age_seconds": 1.5,
        }
    }  # fmt: skip
    assert (shown["log"]["transactions"], shown["log"]["changes"], shown["log"]["records"]) == (3, 9, 11)
    assert (shown["log"]["bytes"], shown["log"]["last_commit_us"]) == (4000, COMMIT_US)
    (partition,) = shown["partitions"]
    assert {name: partition[name] for name in ("offset", "log_end", "lag", "waiting", "parked")} == {
        "offset": 40, "log_end": 44, "lag": 4, "waiting": 5, "parked": 2,
    }  # fmt: skip
    assert (shown["lag"], shown["waiting"], shown["parked_dossiers"], shown["due"]) == (4, 5, 2, 2)
    assert shown["recovered"] == 1
    assert [shown["pushes"][name] for name in ("delivered", "retry", "rejected", "ambiguous")] == [1, 1, 1, 1]
    assert shown["latency_ms"] == {"p50": 12.0, "p99": 12.0}
    assert [event["outcome"] for event in shown["events"]] == ["rejected", "retry", "delivered"]
    assert [event["recovered"] for event in shown["events"]] == [False, True, False]
    assert [one["code"] for one in shown["parked"]] == [CODE]
    assert shown["faults"][0]["mend"] == "check host and port"


def test_nothing_observed_yet(board: Board) -> None:
    """A part that has just started is healthy and shows empty figures, not guesses."""
    shown = board.snapshot()
    assert (shown["healthy"], shown["source"]["state"], shown["partitions"]) == (True, "off", [])
    assert shown["latency_ms"] == {"p50": None, "p99": None}


def test_rules_of_health(board: Board, clock: Clock) -> None:
    """Disconnected, stalled, stopped: each is said while it is so; only `stopped` stays."""
    board.observe(SourceConnected(150000, "s", 1))
    assert board.troubles() == []
    board.observe(SourceDisconnected("Connection refused"))
    assert [one.text for one in board.troubles()] == ["disconnected: Connection refused"]
    board.observe(SourceConnected(150000, "s", 1))
    board.observe(folded(40, 44))
    clock.now += 60.0
    board.observe(folded(40, 44))
    assert board.troubles() == []
    clock.now += 1.0
    assert [one.text for one in board.troubles()] == ["stalled: partition 1: nothing folded for 61 s"]
    board.observe(folded(42, 44))
    assert board.troubles() == []
    clock.now += 61.0
    board.observe(folded(44, 44))
    assert board.troubles() == []
    board.observe(WalBudget(True, "s", "the slot holds back 9 GB", "…"))
    assert [one.text for one in board.troubles()] == ["over_budget: the slot holds back 9 GB"]
    board.observe(WalBudget(False, "s", "", ""))
    assert board.troubles() == []
    board.observe(fault("no slot", fatal=True))
    board.observe(SourceConnected(150000, "s", 1))
    assert [one.text for one in board.troubles()] == ["stopped: capture: no slot"]


def test_emc_away_is_healthy(board: Board) -> None:
    """Pushes that fail and dossiers that are parked are no reason to start the process again."""
    board.observe(answered("retry"))
    board.observe(DossierParked(1, CODE, "400"))
    board.observe(OutboxDepth(1, 5000, 1))
    board.observe(fault("breaker open"))
    assert board.snapshot()["healthy"]


def test_reading_the_snapshot_is_a_state_of_its_own(board: Board) -> None:
    """From the first row read until streaming begins the source shows `snapshot`, also after a failed attempt."""
    board.observe(SourceDisconnected("busy"))
    board.observe(SnapshotProgress("motcua.ho_so", 10, -1, finished=False))
    assert board.snapshot()["source"]["state"] == "snapshot"
    board.observe(SnapshotProgress("motcua.ho_so", 100, 600, finished=False, rate=50.0, age=3.0))
    assert board.snapshot()["snapshot"]["motcua.ho_so"]["seconds_left"] == 10
    assert board.troubles() == []
    board.observe(SourceConnected(150000, "s", 1))
    assert board.snapshot()["source"]["state"] == "connected"


def test_a_dossier_that_is_delivered_is_parked_no_more(board: Board) -> None:
    """After a replay the row goes."""
    board.observe(DossierParked(1, CODE, "400"))
    board.observe(answered())
    assert board.snapshot()["parked"] == []


def test_the_same_fault_is_one_entry(board: Board, clock: Clock) -> None:
    """A fault that comes again and again counts up, also between others; what came last stands first."""
    for _ in range(5):
        clock.now += 2.0
        board.observe(fault())
        board.observe(fault("timeout"))
    board.observe(fault())
    newest, older = board.snapshot()["faults"]
    assert (newest["cause"], newest["count"], newest["at"] - newest["first_at"]) == ("Connection refused", 6, 8.0)
    assert (older["cause"], older["count"]) == ("timeout", 5)


def test_memory_is_bounded(board: Board, clock: Clock) -> None:
    """However much comes, and however seldom anybody looks, what is kept stays small."""
    for number in range(5000):
        clock.now += 0.5
        board.observe(TransactionsLogged(1, 1, 1, 10, number, number))
        board.observe(answered(code=f"code-{number}"))
        board.observe(DossierParked(1, f"parked-{number}", "400"))
        board.observe(fault(str(number)))
    shown = board.snapshot()
    assert (len(shown["events"]), len(shown["parked"]), len(shown["faults"])) == (100, 200, 20)
    assert shown["parked"][0]["code"] == "parked-4999"
    assert 1.9 <= shown["log"]["changes_per_second"] <= 2.0
    assert len(json.dumps(shown)) < 100_000


def test_lag_in_seconds_counts_only_when_behind(board: Board, clock: Clock) -> None:
    """An idle table is not late, however old its last commit."""
    clock.now = COMMIT_US / 1e6 + 90.0
    board.observe(folded(44, 44))
    assert board.snapshot()["lag_seconds"] == 0.0
    board.observe(folded(44, 45))
    assert board.snapshot()["lag_seconds"] == 90.0


def test_old_latencies_are_forgotten(board: Board, clock: Clock) -> None:
    """An outage of an hour ago is not in the percentiles of now."""
    board.observe(answered(since_commit=3600.0))
    clock.now += 301.0
    board.observe(answered(since_commit=0.02))
    assert board.snapshot()["latency_ms"] == {"p50": 20.0, "p99": 20.0}


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=300))
def test_percentiles_are_the_nearest_rank(milliseconds: list[int]) -> None:
    """p50 and p99 are values that were seen, with at least so many at or below them, and no smaller one has that."""
    latencies = Latencies()
    for one in milliseconds:
        latencies.add(one / 1000, 0.0)
    found = latencies.percentiles_ms(0.0)
    for name, percent in (("p50", 50), ("p99", 99)):
        rank = found[name]
        assert rank in milliseconds
        assert sum(one <= rank for one in milliseconds) * 100 >= percent * len(milliseconds)
        assert sum(one < rank for one in milliseconds) * 100 < percent * len(milliseconds)


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 50)), max_size=100))
def test_a_rate_is_what_came_in_ten_seconds(events: list[tuple[float, int]]) -> None:
    """Whole seconds: the running one and the nine before it."""
    rate = Rate()
    now = 0.0
    for step, count in events:
        now += step
        rate.add(count, now)
    times = [sum(step for step, _ in events[: number + 1]) for number in range(len(events))]
    recent = sum(count for at, (_, count) in zip(times, events, strict=True) if int(now) - int(at) < 10)
    assert rate.per_second(now) == round(recent / 10, 1)


def test_a_rate_that_nobody_reads_stays_small() -> None:
    """A day of changes leaves no more behind than ten seconds of them."""
    rate = Rate()
    for second in range(86_400):
        rate.add(1, float(second))
    assert len(pickle.dumps(rate)) < 1000


def test_many_threads(board: Board) -> None:
    """No observation is lost between threads."""

    def run() -> None:
        for _ in range(2000):
            board.observe(EventDue(0, CODE, 1, 0))
            board.observe(answered())

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        board.snapshot()
        thread.join()
    shown = board.snapshot()
    assert (shown["due"], shown["pushes"]["delivered"]) == (8000, 8000)
